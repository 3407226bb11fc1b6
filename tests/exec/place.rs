//! Containers of their own, ended with the test whatever happens.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use longshore::container::exec::link::ExecEnd;
use longshore::container::{Containers, Exec, ExecAsk, ExecError, ExecStreams, ImageDefaults, Settings};
use longshore::model::{
    ContainerId, ContainerName, ContainerSpec, ContainerState, Digest, EnvVar, ImageReference, NetworkMode, Process,
    ProcessId, ProjectName, PullPolicy, RestartPolicy, Service, ServiceName, Slot, SpecHash, StopPolicy,
};
use tokio::io::AsyncReadExt as _;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A data directory of its own.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    settings: Settings,
    containers: Containers,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let layer = dir.path().join("layer");
        for folder in ["bin", "etc", "tmp", "proc", "dev", "sys", "root", "var/www"] {
            fs::create_dir_all(layer.join(folder)).expect("a layer");
        }
        fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox-static is installed");
        for name in
            "sh sleep cat echo id head ls env pwd stty kill readlink grep wc mount unshare setsid ps true yes tr"
                .split(' ')
        {
            std::os::unix::fs::symlink("busybox", layer.join("bin").join(name)).expect("a link");
        }
        fs::write(layer.join("bin/plain"), "no program\n").expect("a file");
        fs::write(layer.join("bin/broken"), "#!/no/such/loader\n").expect("a file");
        fs::set_permissions(layer.join("bin/broken"), fs::Permissions::from_mode(0o755)).expect("a mode");
        fs::set_permissions(layer.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("a mode");
        fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/var/www:/bin/sh\n")
            .expect("passwd");
        fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:44:\nlogs:x:55:web\nmedia:x:66:\n").expect("group");
        fs::create_dir_all(dir.path().join("data")).expect("data");
        let mut settings = Settings::new(dir.path().join("data"), dir.path().join("run")).expect("settings");
        settings.exe = PathBuf::from(env!("CARGO_BIN_EXE_longshore"));
        let (containers, _) = Containers::open(settings.clone()).expect("opens");
        Self { dir, settings, containers }
    }

    /// As a daemon that was started again with other settings.
    pub(crate) fn reopen(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.containers = Containers::open(self.settings.clone()).expect("opens").0;
    }

    pub(crate) fn all(&self) -> &Containers {
        &self.containers
    }

    /// A container that sleeps.
    pub(crate) async fn idle(&self, change: impl FnOnce(&mut Service)) -> ContainerSpec {
        let mut service = service(&["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]);
        change(&mut service);
        let spec = spec(service);
        let image = ImageDefaults { environment: vec!["PATH=/bin".into()], ..ImageDefaults::default() };
        self.all().create(&spec, vec![self.dir.path().join("layer")], &image).await.expect("created");
        self.all().start(&spec.id).await.expect("started");
        spec
    }

    pub(crate) fn init(&self, spec: &ContainerSpec) -> ProcessId {
        match self.all().observe()[&spec.id].state {
            ContainerState::Running { init, .. } => init,
            ref other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn exec(&self, spec: &ContainerSpec, ask: ExecAsk) -> Result<Exec, ExecError> {
        self.all().exec(&spec.id, ask).await
    }

    /// Executes it to its end: what it wrote to both streams, and how it ended.
    pub(crate) async fn run(&self, spec: &ContainerSpec, ask: ExecAsk) -> (String, String, ExecEnd) {
        finish(self.exec(spec, ask).await.unwrap_or_else(|e| panic!("{e}"))).await
    }

    /// What a script says.
    pub(crate) async fn says(&self, spec: &ContainerSpec, script: &str) -> String {
        let (out, err, end) = self.run(spec, sh(script)).await;
        assert_eq!((err.as_str(), end.code), ("", Some(0)), "{out}");
        out
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let containers = self.containers.clone();
        let clean = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                for id in containers.observe().keys() {
                    containers.remove(id).await.expect("removed");
                }
            });
        });
        let clean = clean.join();
        assert!(std::thread::panicking() || clean.is_ok(), "removed");
    }
}

pub(crate) async fn finish(exec: Exec) -> (String, String, ExecEnd) {
    let Exec { stdin, stdout, stderr, control, ending } = exec;
    drop(stdin);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let both = async {
        if let Some(mut stdout) = stdout {
            // A terminal's end is an error.
            let _ = stdout.read_to_end(&mut out).await;
        }
        if let Some(mut stderr) = stderr {
            stderr.read_to_end(&mut err).await.expect("read");
        }
        ending.ended().await.expect("an end")
    };
    let end = tokio::time::timeout(LIMIT, both).await.expect("it ends");
    drop(control);
    (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned(), end)
}

pub(crate) fn ask(command: &[&str]) -> ExecAsk {
    ExecAsk {
        command: command.iter().map(|t| (*t).to_owned()).collect(),
        environment: Vec::new(),
        working_dir: None,
        user: None,
        privileged: false,
        streams: ExecStreams::Pipes { stdin: false },
    }
}

pub(crate) fn sh(script: &str) -> ExecAsk {
    ask(&["sh", "-c", script])
}

pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A container that was not made.
pub(crate) fn sample() -> ContainerSpec {
    let mut service = service(&["true"]);
    service.process.environment.clear();
    spec(service)
}

fn service(command: &[&str]) -> Service {
    Service {
        name: ServiceName::parse("web").expect("a name"),
        image: None,
        platform: None,
        pull: PullPolicy::Missing,
        replicas: 1,
        container_name: None,
        process: Process {
            command: Some(command.iter().map(|t| (*t).to_owned()).collect()),
            environment: vec![EnvVar { name: "GREETING".into(), value: Some("hi there".into()) }],
            ..Process::default()
        },
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

fn spec(service: Service) -> ContainerSpec {
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
