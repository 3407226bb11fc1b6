//! A data directory of its own; whatever a test leaves running is ended with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use longshore::container::{Containers, ImageDefaults, Runtime, Settings};
use longshore::logs::{LogLine, Select};
use longshore::model::{
    ContainerId, ContainerName, ContainerSpec, ContainerState, Digest, ExitStatus, ImageReference, NetworkMode,
    Process, ProcessId, ProjectName, PullPolicy, RestartPolicy, Service, ServiceName, Slot, SpecHash, StopPolicy,
};

const LIMIT: Duration = Duration::from_secs(60);

/// `work`, built once for all tests of this program. LONGSHORE_WORK names one that is built already, for machines without gcc.
fn work() -> &'static Path {
    static WORK: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = WORK.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        if let Some(built) = std::env::var_os("LONGSHORE_WORK") {
            return (dir, built.into());
        }
        let path = dir.path().join("work");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/work.c");
        let built = Command::new("gcc").args(["-static", "-O1", "-w", "-o"]).arg(&path).arg(source).status();
        assert!(built.expect("gcc is installed").success());
        (dir, path)
    });
    path
}

pub(crate) struct Place {
    dir: tempfile::TempDir,
    settings: Settings,
    containers: Option<Containers>,
}

impl Place {
    /// With another runtime than the built-in one where it is named.
    pub(crate) fn new(runtime: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let layer = dir.path().join("layer");
        for folder in ["bin", "etc", "tmp", "proc", "dev", "sys"] {
            fs::create_dir_all(layer.join(folder)).expect("a layer");
        }
        fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox-static is installed");
        fs::copy(work(), layer.join("bin/work")).expect("built");
        for name in ["sh", "sleep", "kill", "dd", "cat"] {
            std::os::unix::fs::symlink("busybox", layer.join("bin").join(name)).expect("a link");
        }
        fs::create_dir_all(dir.path().join("data")).expect("data");
        let mut settings = Settings::new(dir.path().join("data"), dir.path().join("run")).expect("settings");
        settings.exe = PathBuf::from(env!("CARGO_BIN_EXE_longshore"));
        if !runtime.is_empty() {
            settings.runtime = Runtime::External(runtime.into());
        }
        let (containers, _) = Containers::open(settings.clone()).expect("opens");
        Self { dir, settings, containers: Some(containers) }
    }

    pub(crate) fn all(&self) -> &Containers {
        self.containers.as_ref().expect("open")
    }

    pub(crate) async fn create(&self, spec: &ContainerSpec) {
        let image = ImageDefaults { environment: vec!["PATH=/bin".into()], ..ImageDefaults::default() };
        self.all().create(spec, vec![self.dir.path().join("layer")], &image).await.expect("created");
    }

    pub(crate) async fn run(&self, spec: &ContainerSpec) {
        self.create(spec).await;
        self.all().start(&spec.id).await.expect("started");
    }

    pub(crate) fn state(&self, spec: &ContainerSpec) -> ContainerState {
        self.all().observe()[&spec.id].state.clone()
    }

    pub(crate) async fn exit(&self, spec: &ContainerSpec) -> ExitStatus {
        let mut status = None;
        until("it ends", || {
            if let ContainerState::Exited { status: how, .. } = self.state(spec) {
                status = Some(how);
            }
            status.is_some()
        })
        .await;
        status.expect("it ended")
    }

    pub(crate) fn running(&self, spec: &ContainerSpec) -> (ProcessId, ProcessId) {
        match self.state(spec) {
            ContainerState::Running { init, shim, .. } => (init, shim),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until it has said this.
    pub(crate) async fn says(&self, spec: &ContainerSpec, text: &str) {
        let end = Instant::now() + LIMIT;
        loop {
            let lines = longshore::logs::read(&self.all().log_dir(&spec.id), &Select::default());
            let said: Vec<u8> = lines
                .map(|line| line.expect("a line"))
                .flat_map(|l: LogLine| futures_util::stream::iter(l.written()))
                .collect()
                .await;
            let said = String::from_utf8_lossy(&said).into_owned();
            if said.contains(text) {
                return;
            }
            assert!(Instant::now() < end, "{text:?} is not in {said:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where its cgroup is, by either driver.
    fn own(&self, spec: &ContainerSpec) -> [PathBuf; 2] {
        let instance = &self.settings.instance;
        let unit = format!("longshore.slice/longshore-containers-{instance}.service");
        [Path::new("longshore").join(instance), PathBuf::from(unit)].map(|place| place.join(spec.id.as_str()))
    }

    /// The cgroups of the container, of every hierarchy.
    fn cgroups(&self, spec: &ContainerSpec) -> Vec<PathBuf> {
        let own = self.own(spec);
        let each = mounts().into_iter().flat_map(|mount| own.clone().map(|own| mount.join(own)));
        each.filter(|path| path.exists()).collect()
    }

    /// Whether this machine has a file of cgroup v1.
    pub(crate) fn v1(&self, file: &str) -> bool {
        let controller = file.split('.').next().unwrap_or_default();
        Path::new("/sys/fs/cgroup").join(controller).exists()
    }

    /// What a file of its cgroup says.
    pub(crate) fn read(&self, spec: &ContainerSpec, file: &str) -> String {
        let controller = file.split('.').next().unwrap_or_default();
        let own = self.own(spec);
        let places = ["/sys/fs/cgroup".to_owned(), format!("/sys/fs/cgroup/{controller}")];
        let each = places.iter().flat_map(|place| own.clone().map(|own| Path::new(place).join(own).join(file)));
        let found = each.into_iter().find_map(|path| fs::read_to_string(path).ok());
        found.unwrap_or_else(|| panic!("{file} is not there")).trim().to_owned()
    }

    /// How many processes are in its cgroups.
    pub(crate) fn pids(&self, spec: &ContainerSpec) -> usize {
        let texts = self.cgroups(spec).into_iter().filter_map(|c| fs::read_to_string(c.join("cgroup.procs")).ok());
        texts.map(|text| text.lines().count()).max().unwrap_or(0)
    }
}

fn mounts() -> Vec<PathBuf> {
    let below = fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|e| e.path());
    below.chain(["/sys/fs/cgroup".into()]).collect()
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
            let own = Path::new("longshore").join(&self.settings.instance);
            let left: Vec<PathBuf> = mounts().into_iter().map(|m| m.join(&own)).filter(|p| p.exists()).collect();
            assert_eq!(left, Vec::<PathBuf>::new());
        }
    }
}

pub(crate) fn service(command: &[&str]) -> Service {
    Service {
        name: ServiceName::parse("web").expect("a name"),
        image: None,
        platform: None,
        pull: PullPolicy::Missing,
        replicas: 1,
        container_name: None,
        process: Process { command: Some(command.iter().map(|t| (*t).to_owned()).collect()), ..Process::default() },
        hostname: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        restart: RestartPolicy::No,
        stop: StopPolicy { signal: None, grace_ms: 10_000 },
        network: NetworkMode::None,
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
        hash: SpecHash::of(command.concat().as_bytes()),
    }
}

pub(crate) fn spec(service: Service) -> ContainerSpec {
    let slot = Slot { project: ProjectName::parse("shop").expect("a name"), service: service.name.clone(), number: 1 };
    let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).expect("a digest");
    ContainerSpec {
        id: ContainerId::derive(&slot, &SpecHash::of(format!("{service:?}").as_bytes()), &digest),
        name: ContainerName::parse("shop-web-1").expect("a name"),
        image: ImageReference::parse("busybox").expect("a reference"),
        image_digest: digest,
        mounted: Default::default(),
        purpose: Default::default(),
        slot,
        service,
    }
}

pub(crate) fn with(command: &[&str], change: impl FnOnce(&mut Service)) -> ContainerSpec {
    let mut service = service(command);
    change(&mut service);
    spec(service)
}

pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) struct BlockDevice {
    pub(crate) path: String,
    pub(crate) numbers: String,
}

/// A whole disk of this machine; it is named, not touched.
pub(crate) fn block_device() -> Option<BlockDevice> {
    let disks = fs::read_dir("/sys/block").ok()?.flatten();
    disks.map(|e| e.file_name().to_string_lossy().into_owned()).find_map(|name| {
        let numbers = fs::read_to_string(format!("/sys/block/{name}/dev")).ok()?.trim().to_owned();
        let path = format!("/dev/{name}");
        (Path::new(&path).exists() && !name.starts_with("loop")).then_some(BlockDevice { path, numbers })
    })
}
