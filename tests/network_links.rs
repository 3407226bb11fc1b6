//! Containers on networks, each test in a network namespace of its own: as root, with a root made of Debian's static busybox.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use longshore::container::{Containers, ImageDefaults, Runtime, Settings, StartNetwork};
use longshore::logs::{LogLine, Select};
use longshore::model::{
    Attached, Attachment, Cidr, ContainerId, ContainerName, ContainerSpec, ContainerState, Digest, ImageReference,
    Link, Mac, NetworkId, NetworkMode, NetworkName, Process, ProcessId, ProjectName, PullPolicy, RestartPolicy,
    Service, ServiceName, Slot, SpecHash, StopPolicy, UserNamespace,
};
use longshore::network::bridge::{self, BridgeSpec, Fault};
use longshore::network::netlink::{Request, Socket};
use longshore::network::{link, namespace};

const LIMIT: Duration = Duration::from_secs(20);
const SIZE: u32 = 65_536;

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
    settings: Settings,
    containers: Option<Containers>,
    host: Socket,
}

impl Place {
    fn new(runtime: Runtime) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let layer = dir.path().join("layer");
        for folder in ["bin", "etc", "tmp", "proc", "dev", "sys"] {
            fs::create_dir_all(layer.join(folder)).expect("a layer");
        }
        fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox-static is installed");
        for name in ["sh", "sleep", "cat", "echo", "ls", "ip", "wget", "httpd", "hostname", "grep"] {
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
        let mut place = Self { dir, settings, containers: None, host: Socket::open().expect("netlink") };
        bridge::ensure(&place.host, &bridge()).expect("a bridge");
        place.reopen();
        place
    }

    /// What a daemon that was killed and started again does.
    fn reopen(&mut self) {
        self.containers = None;
        let (containers, warnings) = Containers::open(self.settings.clone()).expect("opens");
        assert!(warnings.is_empty(), "{warnings:?}");
        self.containers = Some(containers);
    }

    fn all(&self) -> &Containers {
        self.containers.as_ref().expect("open")
    }

    async fn run(&self, spec: &ContainerSpec, network: StartNetwork) {
        let image = ImageDefaults { environment: vec!["PATH=/bin".into()], ..ImageDefaults::default() };
        self.all().create(spec, vec![self.dir.path().join("layer")], &image).await.expect("created");
        self.all().start_with(&spec.id, network).await.expect("started");
    }

    /// What it wrote, once it has ended.
    async fn text(&self, spec: &ContainerSpec) -> String {
        let mut changed = self.all().changed();
        let wait = async {
            while !matches!(self.all().observe()[&spec.id].state, ContainerState::Exited { .. }) {
                changed.changed().await.expect("open");
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("it ends");
        let lines = longshore::logs::read(&self.all().log_dir(&spec.id), &Select::default());
        let lines: Vec<LogLine> = lines.map(|line| line.expect("a line")).collect().await;
        String::from_utf8_lossy(&lines.iter().flat_map(LogLine::written).collect::<Vec<_>>()).into_owned()
    }

    fn init(&self, spec: &ContainerSpec) -> ProcessId {
        match self.all().observe()[&spec.id].state {
            ContainerState::Running { init, .. } => init,
            ref other => panic!("{other:?}"),
        }
    }

    /// Waits until the host's end of its link is gone.
    async fn unplugged(&self, attachment: &Attachment) {
        let Link::Bridge { bridge, port } = &attachment.link else { panic!("a bridge") };
        let until = Instant::now() + LIMIT;
        while bridge::port_fault(port, bridge, &bridge::look(&self.host).expect("seen")) != Some(Fault::Gone) {
            assert!(Instant::now() < until, "the host's end of the link stays");
            tokio::time::sleep(Duration::from_millis(5)).await;
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

fn cidr(text: &str) -> Cidr {
    Cidr::parse(text).expect("an address")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn bridge() -> BridgeSpec {
    BridgeSpec {
        name: "ls-0123456789".into(),
        alias: "longshore i id".into(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1400,
        addresses: vec![cidr("10.9.0.1/24"), cidr("fd00::1/64")],
        ipv6: true,
    }
}

fn attachment(number: u8) -> Attachment {
    Attachment {
        network: NetworkId::from_hex(&"a".repeat(64)).expect("an id"),
        name: NetworkName::parse("shop_default").expect("a name"),
        link: Link::Bridge { bridge: bridge().name, port: format!("lv{number:011x}") },
        interface: "eth0".into(),
        mac: Some(Mac([2, 0, 0, 0, 1, number])),
        addresses: vec![cidr(&format!("10.9.0.{number}/24")), cidr(&format!("fd00::{number}/64"))],
        gateways: vec![ip("10.9.0.1"), ip("fd00::1")],
        mtu: 1400,
        internal: false,
    }
}

fn joined(number: u8) -> StartNetwork {
    let attached = Attached { links: vec![attachment(number)], ..Attached::default() };
    StartNetwork { attached, resolver: true, host_gateway: Some(ip("10.9.0.1")) }
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

const SERVES: &str = "echo served > /tmp/index.html; exec httpd -f -p 80 -h /tmp";
const LOOKS: &str = "wget -qO- http://10.9.0.2/; wget -qO- 'http://[fd00::2]/';
    ip -o addr show eth0 | grep -o 'inet.*global'; ip route; ip -6 route | grep default
    cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu; ls /sys/class/net; hostname
    cat /etc/hosts; grep -v search /etc/resolv.conf";

async fn two_containers(runtime: Runtime, user: UserNamespace) {
    // runc cannot set a domain's name in a user namespace.
    let domain = user == UserNamespace::Host || runtime == Runtime::Embedded;
    let (domain, full) = if domain { (Some("lan".to_owned()), "own.lan own") } else { (None, "own") };
    let mut place = Place::new(runtime);
    let own = |service: &mut Service| {
        service.isolation.user = user;
        service.hostname = Some("own".into());
        service.names.domain.clone_from(&domain);
        service.names.hosts = vec![("gate".into(), "host-gateway".into())];
    };
    let (serves, looks) = (spec("serves", SERVES, own), spec("looks", LOOKS, own));
    place.run(&serves, joined(2)).await;
    place.run(&looks, joined(3)).await;
    let text = place.text(&looks).await;
    let expected = format!(
        "served\nserved\n\
        inet 10.9.0.3/24 brd 10.9.0.255 scope global\ninet6 fd00::3/64 scope global\n\
        default via 10.9.0.1 dev eth0 onlink \n10.9.0.0/24 dev eth0 scope link  src 10.9.0.3 \n\
        default via fd00::1 dev eth0  metric 1024 onlink \n\
        02:00:00:00:01:03\n1400\neth0\nlo\nown\n\
        127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
        10.9.0.3\t{full}\nfd00::3\t{full}\n10.9.0.1\tgate\n\
        nameserver 127.0.0.11\noptions "
    );
    assert!(text.starts_with(&expected) && text.contains("ndots:"), "{text}\ninstead of\n{expected}");
    place.unplugged(&attachment(3)).await;

    // Whoever shares its network sees it, has its names, and does not own it.
    let script = "ip -o addr show eth0 | grep -o 'inet .*global'; wget -qO- http://127.0.0.1/; hostname
        ls /sys/class/net; grep -c 'own$' /etc/hosts; ip link set eth0 down 2>/dev/null || echo refused";
    let shares = spec("shares", script, |service| {
        service.isolation.user = user;
        service.network = NetworkMode::Container(serves.name.clone());
    });
    let shared = Some((serves.id.clone(), place.init(&serves)));
    let attached = Attached { shared, ..Attached::default() };
    place.run(&shares, StartNetwork { attached: attached.clone(), ..StartNetwork::default() }).await;
    let text = place.text(&shares).await;
    let expected = "inet 10.9.0.2/24 brd 10.9.0.255 scope global\nserved\nown\neth0\nlo\n2\nrefused\n";
    assert_eq!(text, expected);

    // A daemon that comes back knows what they have; a start after the other has ended says so.
    place.reopen();
    assert_eq!(place.all().attached(&serves.id), Some(joined(2).attached));
    assert_eq!(place.all().attached(&shares.id), Some(attached.clone()));
    place.all().stop(&serves.id, None, 100).await.expect("stopped");
    let again = place.all().start_with(&shares.id, StartNetwork { attached, ..StartNetwork::default() }).await;
    assert!(again.is_err_and(|error| error.to_string().contains("whose network it shares")));
    // At once, although the kernel may still be clearing away the last link.
    place.all().start_with(&serves.id, joined(2)).await.expect("started again");
    let again = spec("again", "wget -qO- http://10.9.0.2/", own);
    place.run(&again, joined(4)).await;
    assert_eq!(place.text(&again).await, "served\n");
}

#[test]
fn two_containers_reach_each_other() {
    apart(|| two_containers(Runtime::Embedded, UserNamespace::Host));
}

#[test]
fn two_containers_with_users_of_their_own_reach_each_other() {
    apart(|| two_containers(Runtime::Embedded, UserNamespace::Auto { size: SIZE }));
}

#[test]
fn two_containers_reach_each_other_with_runc() {
    apart(|| two_containers(Runtime::External("runc".into()), UserNamespace::Host));
}

#[test]
fn two_containers_with_users_of_their_own_reach_each_other_with_runc() {
    apart(|| two_containers(Runtime::External("runc".into()), UserNamespace::Auto { size: SIZE }));
}

#[test]
fn what_a_container_that_runs_has_lost_is_given_back() {
    apart(async || {
        let place = Place::new(Runtime::Embedded);
        let serves = spec("serves", SERVES, |_| {});
        place.run(&serves, joined(2)).await;
        place.host.one(Request::remove("the bridge", &bridge().name)).expect("removed");
        bridge::ensure(&place.host, &bridge()).expect("a bridge");
        let inside = namespace::of_process(place.init(&serves)).expect("entered").expect("it runs");
        let wrong = link::reconnect(&inside, &[attachment(2)]).expect("put right");
        assert_eq!(wrong, [(attachment(2), link::LinkFault::Port(Fault::Loose))]);
        let looks = spec("looks", "wget -qO- http://10.9.0.2/", |_| {});
        place.run(&looks, joined(3)).await;
        assert_eq!(place.text(&looks).await, "served\n");
    });
}

#[test]
fn a_network_that_is_not_up_is_said() {
    apart(async || {
        let place = Place::new(Runtime::Embedded);
        place.host.one(Request::remove("the bridge", &bridge().name)).expect("removed");
        let serves = spec("serves", SERVES, |_| {});
        let image = ImageDefaults { environment: vec!["PATH=/bin".into()], ..ImageDefaults::default() };
        place.all().create(&serves, vec![place.dir.path().join("layer")], &image).await.expect("created");
        let error = place.all().start_with(&serves.id, joined(2)).await.expect_err("no bridge").to_string();
        assert!(error.contains("network shop_default: its interface ls-0123456789 is not there"), "{error}");
        assert_eq!(place.all().attached(&serves.id), Some(joined(2).attached), "its addresses stay its own");
    });
}
