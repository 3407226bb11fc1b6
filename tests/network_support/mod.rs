//! Real containers in a network namespace of the test's own, with a root made of Debian's static busybox.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use longshore::container::{Containers, ImageDefaults, Runtime, Settings};
use longshore::logs::{LogLine, Select};
use longshore::model::{
    Attachment, Cidr, ContainerId, ContainerName, ContainerSpec, Digest, ImageReference, Link, Mac, NetworkId,
    NetworkMode, NetworkName, Process, ProjectName, PullPolicy, RestartPolicy, Service, ServiceName, Slot, SpecHash,
    StopPolicy,
};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);
pub(crate) const SIZE: u32 = 65_536;
pub(crate) const BRIDGE: &str = "ls-0123456789";
/// Answers with `served`.
pub(crate) const SERVES: &str = "echo served > /tmp/index.html; exec httpd -f -p 80 -h /tmp";

/// Runs it on a thread that has a network namespace of its own, which is the host's for what it starts.
pub(crate) fn apart(work: impl AsyncFnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work());
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// A data directory of its own; whatever a test leaves running is ended with it.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    settings: Settings,
    containers: Option<Containers>,
}

impl Place {
    pub(crate) fn new(runtime: Runtime) -> Self {
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
        let mut place = Self { dir, settings, containers: None };
        place.reopen();
        place
    }

    /// What a daemon that was killed and started again does.
    pub(crate) fn reopen(&mut self) {
        self.containers = None;
        let (containers, warnings) = Containers::open(self.settings.clone()).expect("opens");
        assert!(warnings.is_empty(), "{warnings:?}");
        self.containers = Some(containers);
    }

    pub(crate) fn all(&self) -> &Containers {
        self.containers.as_ref().expect("open")
    }

    pub(crate) async fn create(&self, spec: &ContainerSpec) {
        let image = ImageDefaults { environment: vec!["PATH=/bin".into()], ..ImageDefaults::default() };
        self.all().create(spec, vec![self.dir.path().join("layer")], &image).await.expect("created");
    }

    /// What it wrote so far.
    pub(crate) async fn written(&self, spec: &ContainerSpec) -> String {
        let lines = longshore::logs::read(&self.all().log_dir(&spec.id), &Select::default());
        let lines: Vec<LogLine> = lines.map(|line| line.expect("a line")).collect().await;
        String::from_utf8_lossy(&lines.iter().flat_map(LogLine::written).collect::<Vec<_>>()).into_owned()
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

pub(crate) fn cidr(text: &str) -> Cidr {
    Cidr::parse(text).expect("an address")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A link to the bridge, with one address.
pub(crate) fn attachment(number: u8) -> Attachment {
    Attachment {
        network: NetworkId::from_hex(&"a".repeat(64)).expect("an id"),
        name: NetworkName::parse("shop_default").expect("a name"),
        link: Link::Bridge { bridge: BRIDGE.into(), port: format!("lv{number:011x}") },
        interface: "eth0".into(),
        mac: Some(Mac([2, 0, 0, 0, 1, number])),
        addresses: vec![cidr(&format!("10.9.0.{number}/24"))],
        gateways: vec![ip("10.9.0.1")],
        mtu: 1500,
        internal: false,
    }
}

pub(crate) fn spec(name: &str, script: &str, change: impl FnOnce(&mut Service)) -> ContainerSpec {
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
        hold_port: false,
        mounts: Vec::new(),
        pace: Default::default(),
        health: Default::default(),
        required_mounts: Vec::new(),
        depends: Vec::new(),
        schedule: None,
        hooks: longshore::model::Hooks::default(),
        files: Vec::new(),
        names: Default::default(),
        isolation: Default::default(),
        resources: Default::default(),
        pinned: None,
        taking: Default::default(),
        loosenings: Vec::new(),
        wishes: Vec::new(),
        suspended: false,
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
        mounted: Default::default(),
        purpose: Default::default(),
        slot,
        service,
    }
}
