//! Published ports of real containers, each test in a network namespace of its own: as root, with a root made of Debian's static
//! busybox.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use longshore::container::{Containers, ImageDefaults, Runtime, Settings, StartNetwork};
use longshore::logs::{LogLine, Select};
use longshore::model::{
    Attached, Attachment, Cidr, ContainerId, ContainerName, ContainerSpec, Digest, Exposure, ImageReference, Link, Mac,
    NetworkId, NetworkMode, NetworkName, Process, ProjectName, Protocol, Published, PullPolicy, RestartPolicy, Service,
    ServiceName, Slot, SpecHash, StopPolicy, UserNamespace,
};
use longshore::network::ports::{Holder, holder, unheld};

const LIMIT: Duration = Duration::from_secs(20);
const SIZE: u32 = 65_536;
const BRIDGE: &str = "ls-0123456789";

/// Runs it on a thread that has a network namespace of its own, which is the host's for what it starts.
fn apart(work: impl AsyncFnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work());
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// A data directory of its own; whatever a test leaves running is ended with it.
struct Place {
    dir: tempfile::TempDir,
    containers: Option<Containers>,
}

impl Place {
    fn new(runtime: Runtime) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let layer = dir.path().join("layer");
        for folder in ["bin", "etc", "tmp", "proc", "dev", "sys"] {
            fs::create_dir_all(layer.join(folder)).expect("a layer");
        }
        fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox-static is installed");
        for name in ["sh", "sleep", "ls", "httpd", "grep", "echo"] {
            std::os::unix::fs::symlink("busybox", layer.join("bin").join(name)).expect("a link");
        }
        fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").expect("passwd");
        fs::create_dir_all(dir.path().join("data")).expect("data");
        let first = 3_000_000_000 + std::process::id() % 2000 * 500_000;
        for file in ["subuid", "subgid"] {
            fs::write(dir.path().join(file), format!("longshore:{first}:{}\n", SIZE * 7)).expect("written");
        }
        let mut settings = Settings::new(dir.path().join("data"), dir.path().join("run")).expect("settings");
        settings.exe = PathBuf::from(env!("CARGO_BIN_EXE_longshore"));
        settings.runtime = runtime;
        settings.ids.subuid = dir.path().join("subuid");
        settings.ids.subgid = dir.path().join("subgid");
        settings.ids.register = dir.path().join("register");
        sh(&format!(
            "ip link set lo up; ip link add {BRIDGE} type bridge; ip addr add 10.9.0.1/24 dev {BRIDGE}
             ip link set {BRIDGE} up"
        ));
        let (containers, warnings) = Containers::open(settings).expect("opens");
        assert!(warnings.is_empty(), "{warnings:?}");
        Self { dir, containers: Some(containers) }
    }

    fn all(&self) -> &Containers {
        self.containers.as_ref().expect("open")
    }

    async fn start(&self, spec: &ContainerSpec, published: &[Published]) -> Result<(), String> {
        let image = ImageDefaults { environment: vec!["PATH=/bin".into()], ..ImageDefaults::default() };
        self.all().create(spec, vec![self.dir.path().join("layer")], &image).await.expect("created");
        let attached = Attached { links: vec![attachment()], published: published.into(), shared: None };
        self.all()
            .start_with(&spec.id, StartNetwork { attached, ..StartNetwork::default() })
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// Waits until it has written so many lines.
    async fn lines(&self, spec: &ContainerSpec, count: usize) -> Vec<String> {
        let until = Instant::now() + LIMIT;
        loop {
            let lines = longshore::logs::read(&self.all().log_dir(&spec.id), &Select::default());
            let lines: Vec<LogLine> = lines.map(|line| line.expect("a line")).collect().await;
            if lines.len() >= count {
                return lines.iter().map(|line| String::from_utf8_lossy(&line.written()).trim().to_owned()).collect();
            }
            assert!(Instant::now() < until, "it wrote {} lines", lines.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(containers) = self.containers.take() else { return };
        let clean = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                for id in containers.observe().keys() {
                    containers.remove(id).await.expect("removed");
                }
            });
        });
        let clean = clean.join();
        if !std::thread::panicking() {
            clean.expect("cleaned");
        }
    }
}

fn sh(script: &str) {
    let done = Command::new("sh").args(["-ec", script]).output().expect("a shell");
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn attachment() -> Attachment {
    Attachment {
        network: NetworkId::from_hex(&"a".repeat(64)).expect("an id"),
        name: NetworkName::parse("shop_default").expect("a name"),
        link: Link::Bridge { bridge: BRIDGE.into(), port: "lv00000000001".into() },
        interface: "eth0".into(),
        mac: Some(Mac([2, 0, 0, 0, 1, 1])),
        addresses: vec![Cidr::parse("10.9.0.2/24").expect("an address")],
        gateways: vec![ip("10.9.0.1")],
        mtu: 1500,
        internal: false,
    }
}

fn spec(name: &str, script: &str, change: impl FnOnce(&mut Service)) -> ContainerSpec {
    let mut service = Service {
        name: ServiceName::parse(name).expect("a name"),
        image: None,
        platform: None,
        pull: PullPolicy::Missing,
        replicas: 1,
        container_name: None,
        process: Process { command: Some(vec!["/bin/sh".into(), "-c".into(), script.into()]), ..Process::default() },
        hostname: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        restart: RestartPolicy::No,
        stop: StopPolicy { signal: None, grace_ms: 100 },
        network: NetworkMode::Networks(Box::default()),
        read_only: false,
        names: Default::default(),
        isolation: Default::default(),
        resources: Default::default(),
        loosenings: Vec::new(),
        wishes: Vec::new(),
        holds: Vec::new(),
        hash: SpecHash::of(script.as_bytes()),
    };
    change(&mut service);
    let slot = Slot { project: ProjectName::parse("shop").expect("a name"), service: service.name.clone(), number: 1 };
    let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).expect("a digest");
    ContainerSpec {
        id: ContainerId::derive(&slot, &SpecHash::of(format!("{service:?}").as_bytes()), &digest),
        name: ContainerName::parse(&format!("shop-{name}-1")).expect("a name"),
        image: ImageReference::parse("busybox").expect("a reference"),
        image_digest: digest,
        slot,
        service,
    }
}

fn published(address: Option<&str>, port: u16, protocol: Protocol, exposure: Exposure) -> Published {
    Published { address: address.map(ip), port, target: 80, protocol, exposure }
}

fn taken(port: u16) -> [bool; 2] {
    [TcpListener::bind(("0.0.0.0", port)).is_err(), UdpSocket::bind(("0.0.0.0", port)).is_err()]
}

/// No process of the container has a socket.
const COUNTS: &str = "ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c socket:; exec sleep 1000";
const SERVES: &str = "echo served > /tmp/index.html; exec httpd -f -p 80 -h /tmp";

async fn kept(runtime: Runtime, user: UserNamespace) {
    let place = Place::new(runtime);
    let counts = spec("counts", COUNTS, |service| service.isolation.user = user);
    let ports = [
        published(None, 8000, Protocol::Tcp, Exposure::All),
        published(None, 8000, Protocol::Udp, Exposure::All),
        published(None, 8001, Protocol::Tcp, Exposure::HostFirewall),
    ];
    place.start(&counts, &ports).await.expect("started");
    assert_eq!(place.lines(&counts, 1).await, ["0"]);
    assert_eq!((taken(8000), taken(8001)), ([true, true], [true, false]));
    place.all().stop(&counts.id, None, 100).await.expect("stopped");
    assert_eq!(taken(8000), [false, false]);
    // And again at once, although the process that carried a port may still be ending.
    place.start(&counts, &ports).await.expect("started again");
    assert_eq!(taken(8000), [true, true]);
}

#[test]
fn ports_are_kept_and_no_process_of_the_container_has_them() {
    apart(|| kept(Runtime::Embedded, UserNamespace::Host));
}

#[test]
fn ports_are_kept_for_a_container_with_users_of_its_own() {
    apart(|| kept(Runtime::Embedded, UserNamespace::Auto { size: SIZE }));
}

#[test]
fn ports_are_kept_with_runc() {
    apart(|| kept(Runtime::External("runc".into()), UserNamespace::Host));
}

#[test]
fn a_start_says_who_has_the_port() {
    apart(async || {
        let place = Place::new(Runtime::Embedded);
        let serves = spec("serves", SERVES, |_| {});
        let other = TcpListener::bind("127.0.0.1:8000").expect("free");
        let ports = [published(None, 8000, Protocol::Tcp, Exposure::All)];
        let error = place.start(&serves, &ports).await.expect_err("taken");
        let words = format!("(process {}); end it, or choose another port", std::process::id());
        assert!(error.contains("port 8000/tcp is taken by ") && error.contains(&words), "{error}");
        drop(other);
        place.start(&serves, &ports).await.expect("started");
    });
}

fn fetch(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse().expect("an address"), Duration::from_millis(500))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.lines().last().unwrap_or_default().to_owned())
}

async fn ended(pid: i32) {
    let until = Instant::now() + LIMIT;
    while fs::exists(format!("/proc/{pid}")).expect("proc") {
        assert!(Instant::now() < until, "it stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn where_the_hosts_rules_decide_a_process_carries_the_port() {
    apart(async || {
        let place = Place::new(Runtime::Embedded);
        let serves = spec("serves", &format!("echo ready; {SERVES}"), |_| {});
        let ports = [
            published(None, 8000, Protocol::Tcp, Exposure::HostFirewall),
            published(Some("::1"), 8001, Protocol::Tcp, Exposure::All),
        ];
        place.start(&serves, &ports).await.expect("started");
        place.lines(&serves, 1).await;
        let until = Instant::now() + LIMIT;
        while fetch("127.0.0.1:8000").is_err() {
            assert!(Instant::now() < until, "nobody answers");
        }
        for address in ["127.0.0.1:8000", "10.9.0.1:8000", "[::1]:8000", "[::1]:8001"] {
            assert_eq!(fetch(address).expect("answered"), "served", "{address}");
        }
        sh("nft 'add table inet mine; add chain inet mine i { type filter hook input priority 0; }
            add rule inet mine i tcp dport 8000 drop'");
        assert_eq!(fetch("127.0.0.1:8000").expect_err("the host's rules").kind(), ErrorKind::TimedOut);
        sh("nft delete table inet mine");
        let Some(Holder::Program { name, pid }) = holder(&(None, 8000, Protocol::Tcp)) else { panic!("nobody has it") };
        assert_eq!(name, "longshore-ports");
        let memory = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory");
        let pss = memory.lines().find_map(|line| line.strip_prefix("Pss:")).expect("Pss").trim();
        println!("the process that carries ports: Pss {pss}");
        let private = memory.lines().filter(|line| line.starts_with("Private_")).collect::<Vec<_>>();
        println!("{private:?}");
        for fd in fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors") {
            let to = fs::read_link(fd.expect("one").path()).expect("a link").to_string_lossy().into_owned();
            let own = ["/dev/null", "socket:", "anon_inode:"].iter().any(|start| to.starts_with(start));
            assert!(own, "it has {to}");
        }
        // Should it die alone, that is seen.
        assert!(unheld(&ports).is_empty());
        sh(&format!("kill -9 {pid}; while [ -e /proc/{pid}/fd/0 ]; do :; done"));
        assert_eq!(unheld(&ports), ports);
        place.all().stop(&serves.id, None, 100).await.expect("stopped");

        // It ends with the container, and where that did not start.
        place.start(&serves, &ports).await.expect("started again");
        let Some(Holder::Program { pid, .. }) = holder(&(None, 8000, Protocol::Tcp)) else { panic!("nobody has it") };
        place.all().stop(&serves.id, None, 100).await.expect("stopped");
        ended(pid).await;
        assert_eq!((taken(8000), taken(8001)), ([false, false], [false, false]));
        let broken = spec("broken", "", |service| service.process.command = Some(vec!["/nowhere".into()]));
        let started = Instant::now();
        place.start(&broken, &ports).await.expect_err("no such command");
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        let until = Instant::now() + LIMIT;
        while taken(8000) != [false, false] {
            assert!(Instant::now() < until, "it stays");
        }
    });
}
