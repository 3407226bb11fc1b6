//! Containers on the real host: as root, with a root made of Debian's static busybox.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use longshore::container::{CgroupDriver, Containers, ImageDefaults, OpenError, Runtime, Settings, StartError};
use longshore::logs::{LogLine, LogStream, Select};
use longshore::model::{
    ContainerId, ContainerName, ContainerSpec, ContainerState, Digest, EnvVar, ExitStatus, ImageReference, NetworkMode,
    Process, ProcessId, ProjectName, PullPolicy, RestartPolicy, Service, ServiceName, Slot, SpecHash, StopPolicy,
};

const LIMIT: Duration = Duration::from_secs(20);

/// Unmounted whatever happens.
struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// A data directory of its own; whatever a test leaves running is ended with it.
struct Place {
    dir: tempfile::TempDir,
    settings: Settings,
    containers: Option<Containers>,
}

impl Place {
    fn new() -> Self {
        Self::with(Runtime::Embedded)
    }

    fn with(runtime: Runtime) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let layer = dir.path().join("layer");
        for folder in ["bin", "etc", "tmp", "proc", "dev", "sys"] {
            fs::create_dir_all(layer.join(folder)).expect("a layer");
        }
        fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox-static is installed");
        for name in
            ["sh", "sleep", "cat", "echo", "id", "seq", "head", "yes", "kill", "ps", "tr", "dd", "stty", "touch"]
        {
            std::os::unix::fs::symlink("busybox", layer.join("bin").join(name)).expect("a link");
        }
        fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/var/www:/bin/sh\n")
            .expect("passwd");
        fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:44:\nlogs:x:55:web\n").expect("group");
        fs::create_dir_all(dir.path().join("data")).expect("data");
        let mut settings = Settings::new(dir.path().join("data"), dir.path().join("run")).expect("settings");
        settings.exe = PathBuf::from(env!("CARGO_BIN_EXE_longshore"));
        settings.runtime = runtime;
        let mut place = Self { dir, settings, containers: None };
        place.reopen();
        place
    }

    /// What a daemon that was killed and started again does.
    fn reopen(&mut self) -> Vec<String> {
        self.containers = None;
        let (containers, warnings) = Containers::open(self.settings.clone()).expect("opens");
        self.containers = Some(containers);
        warnings.into_iter().map(|w| w.0).collect()
    }

    fn all(&self) -> &Containers {
        self.containers.as_ref().expect("open")
    }

    async fn create(&self, spec: &ContainerSpec) {
        let image = ImageDefaults { environment: vec!["PATH=/bin".into()], ..ImageDefaults::default() };
        self.all().create(spec, vec![self.dir.path().join("layer")], &image).await.expect("created");
    }

    async fn run(&self, spec: &ContainerSpec) {
        self.create(spec).await;
        self.all().start(&spec.id).await.expect("started");
    }

    fn state(&self, spec: &ContainerSpec) -> ContainerState {
        self.all().observe()[&spec.id].state.clone()
    }

    async fn exit(&self, spec: &ContainerSpec) -> ExitStatus {
        let mut changed = self.all().changed();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if let ContainerState::Exited { status, .. } = self.state(spec) {
                    return status;
                }
                changed.changed().await.expect("open");
            }
        };
        tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("still {:?}", self.state(spec)))
    }

    fn running(&self, spec: &ContainerSpec) -> (ProcessId, ProcessId) {
        match self.state(spec) {
            ContainerState::Running { init, shim, .. } => (init, shim),
            other => panic!("{other:?}"),
        }
    }

    async fn lines(&self, spec: &ContainerSpec, select: Select) -> Vec<LogLine> {
        let lines = longshore::logs::read(&self.all().log_dir(&spec.id), &select);
        lines.map(|line| line.expect("a line")).collect().await
    }

    async fn output(&self, spec: &ContainerSpec, stream: LogStream) -> Vec<u8> {
        let lines = self.lines(spec, Select::default()).await;
        lines.iter().filter(|l| l.stream == stream).flat_map(LogLine::written).collect()
    }

    /// Runs to the end and gives what it wrote.
    async fn text(&self, spec: &ContainerSpec) -> String {
        self.run(spec).await;
        self.exit(spec).await;
        let (out, err) = (self.output(spec, LogStream::Stdout).await, self.output(spec, LogStream::Stderr).await);
        String::from_utf8_lossy(&[out, err].concat()).into_owned()
    }

    /// Folders of cgroups, run folders and data folders that belong to containers of this place.
    fn left(&self) -> Vec<PathBuf> {
        let parent = Path::new("longshore").join(&self.settings.instance);
        let unit = format!("longshore.slice/longshore-containers-{}.service", self.settings.instance);
        let mut places: Vec<PathBuf> =
            fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|e| e.path()).collect();
        places.push("/sys/fs/cgroup".into());
        let mut left: Vec<PathBuf> = places.into_iter().map(|p| p.join(&parent)).filter(|p| p.exists()).collect();
        left.extend([Path::new("/sys/fs/cgroup").join(unit)].into_iter().filter(|p| p.exists()));
        for folder in ["data/containers", "data/trash", "run/c"] {
            left.extend(fs::read_dir(self.dir.path().join(folder)).expect("a folder").flatten().map(|e| e.path()));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let ours = self.dir.path().to_string_lossy().into_owned();
        left.extend(mounts.lines().filter(|l| l.contains(&ours) && !l.contains("small-disk")).map(PathBuf::from));
        left
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
            assert_eq!(self.left(), Vec::<PathBuf>::new());
        }
    }
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

fn shell(script: &str) -> ContainerSpec {
    spec(service(&["/bin/sh", "-c", script]))
}

fn changed(script: &str, change: impl FnOnce(&mut Service)) -> ContainerSpec {
    let mut service = service(&["/bin/sh", "-c", script]);
    change(&mut service);
    spec(service)
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Its share of memory.
fn pss_kib(process: ProcessId) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid)).expect("alive");
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn kill(process: ProcessId) {
    longshore::container::process::Process::open(process).expect("looked at").expect("alive").signal(9);
}

async fn basics(place: &Place) {
    let three = shell("echo out; echo err >&2; exit 3");
    assert_eq!(place.text(&three).await, "out\nerr\n");
    assert_eq!(place.exit(&three).await, ExitStatus::Code(3));
    // Again: the same container, its log goes on.
    place.all().start(&three.id).await.expect("started again");
    assert_eq!(place.exit(&three).await, ExitStatus::Code(3));
    let numbers: Vec<u64> = place.lines(&three, Select::default()).await.iter().map(|l| l.number).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);

    let polite = shell("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done");
    place.run(&polite).await;
    let log = place.all().log_dir(&polite.id).join("log");
    until("it says so", || fs::read_to_string(&log).is_ok_and(|t| t.contains("up"))).await;
    place.all().start(&polite.id).await.expect("starting what runs is nothing");
    place.all().stop(&polite.id, None, 10_000).await.expect("stopped");
    assert_eq!(place.exit(&polite).await, ExitStatus::Code(7));
    place.all().stop(&polite.id, None, 10_000).await.expect("stopping what is stopped is nothing");

    let stubborn = shell("trap '' TERM; while :; do sleep 1; done");
    place.run(&stubborn).await;
    let before = Instant::now();
    place.all().stop(&stubborn.id, None, 200).await.expect("stopped");
    assert!(before.elapsed() >= Duration::from_millis(200) && before.elapsed() < Duration::from_secs(5));
    assert_eq!(place.exit(&stubborn).await, ExitStatus::Signal(9));

    let missing = spec(service(&["nothing-here"]));
    place.create(&missing).await;
    let error = place.all().start(&missing.id).await.expect_err("there is no such command");
    assert!(
        matches!(&error, StartError::Failed(t) if t.contains("nothing-here") && t.contains("not found")),
        "{error}"
    );
    assert!(matches!(place.state(&missing), ContainerState::StartFailed { .. }));

    let confined = "grep -E '^(Cap|Seccomp:)' /proc/self/status | /bin/busybox tr '\\t' ' '; busybox env";
    let confined = confined.replace("grep", "busybox grep");
    let seen = place.text(&shell(&confined)).await;
    for line in [
        "CapInh: 0000000000000000",
        "CapPrm: 00000000800405fb",
        "CapEff: 00000000800405fb",
        "CapBnd: 00000000800405fb",
        "CapAmb: 0000000000000000",
        "Seccomp: 2",
        "GREETING=hi there",
        "HOME=/root",
        "PATH=/bin",
    ] {
        assert!(seen.contains(line), "{line} in {seen}");
    }
    let seen = place.text(&changed(&format!("{confined}; id"), |s| s.process.user = Some("web".into()))).await;
    for line in ["CapPrm: 0000000000000000", "CapEff: 0000000000000000", "CapBnd: 00000000800405fb", "Seccomp: 2"] {
        assert!(seen.contains(line), "{line} in {seen}");
    }
    assert!(
        seen.contains("uid=33(web) gid=44(web) groups=44(web),55(logs)")
            || seen.contains("uid=33(web) gid=44(web) groups=55(logs)"),
        "{seen}"
    );
    assert!(seen.contains("HOME=/var/www"), "{seen}");
    let refused =
        "busybox unshare -U true; busybox mount -t tmpfs x /tmp; busybox ls /sys/class/net; busybox ls /proc/self/fd";
    let seen = place.text(&shell(refused)).await;
    assert!(
        seen.contains("unshare(0x10000000): Operation not permitted") && seen.contains("mount: permission denied"),
        "{seen}"
    );
    assert!(seen.starts_with("lo\n0\n1\n2\n3\n"), "{seen}");
}

#[tokio::test]
async fn a_container_runs_ends_and_is_confined() {
    basics(&Place::new()).await;
}

#[tokio::test]
async fn the_same_with_runc() {
    basics(&Place::with(Runtime::External("/usr/sbin/runc".into()))).await;
}

#[tokio::test]
async fn output_comes_back_exactly() {
    let place = Place::new();
    let line = shell("head -c 1048576 /dev/zero | tr '\\0' x; printf 'a\\377\\000b\\n\\nend' >&2");
    place.run(&line).await;
    place.exit(&line).await;
    assert_eq!(place.output(&line, LogStream::Stderr).await, b"a\xff\0b\n\nend");
    assert_eq!(place.output(&line, LogStream::Stdout).await, vec![b'x'; 1_048_576]);
    let pieces = place.lines(&line, Select::default()).await;
    let pieces: Vec<_> = pieces.iter().filter(|l| l.stream == LogStream::Stdout).collect();
    assert_eq!(pieces.len(), 64);
    assert!(pieces[..63].iter().all(|p| p.partial) && pieces[63].unterminated);

    let random = shell("dd if=/dev/urandom of=/tmp/r bs=65536 count=8 2>/dev/null; cat /tmp/r");
    place.run(&random).await;
    place.exit(&random).await;
    let upper = place.all().log_dir(&random.id).with_file_name("upper").join("tmp/r");
    assert_eq!(place.output(&random, LogStream::Stdout).await, fs::read(upper).expect("what it wrote"));
}

#[tokio::test]
async fn a_log_is_bounded_ordered_and_can_be_followed() {
    let mut place = Place::new();
    (place.settings.log_bytes, place.settings.log_files) = (100_000, 3);
    place.reopen();
    let flood = shell("seq 1 20000; sleep 0.2; echo last");
    place.create(&flood).await;
    let follow = Select { follow: true, ..Select::default() };
    let followed = longshore::logs::read(&place.all().log_dir(&flood.id), &follow);
    place.all().start(&flood.id).await.expect("started");
    let mut followed =
        followed.map(|l| l.expect("a line")).skip_while(|l| std::future::ready(l.bytes != b"last")).boxed();
    tokio::time::timeout(LIMIT, followed.next()).await.expect("the follower sees the last line");
    place.exit(&flood).await;
    let sizes = fs::read_dir(place.all().log_dir(&flood.id)).expect("logs").flatten();
    let sizes: Vec<u64> = sizes.map(|e| e.metadata().expect("a file").len()).collect();
    assert!(sizes.len() == 3 && sizes.iter().all(|s| *s <= 100_000), "{sizes:?}");
    let lines = place.lines(&flood, Select::default()).await;
    assert!(lines.windows(2).all(|w| w[0].number + 1 == w[1].number));
    assert_eq!(lines.last().map(|l| l.number), Some(20_000));
    let tail = place.lines(&flood, Select { tail: Some(3), ..Select::default() }).await;
    assert_eq!(
        tail.iter().map(|l| l.bytes.clone()).collect::<Vec<_>>(),
        [b"19999".to_vec(), b"20000".to_vec(), b"last".to_vec()]
    );
}

#[tokio::test]
async fn containers_outlive_the_daemon_and_are_taken_over() {
    let mut place = Place::new();
    let (runs, ends, fails) = (shell("echo up; sleep 600"), shell("sleep 2; exit 5"), spec(service(&["nope"])));
    place.create(&fails).await;
    assert!(place.all().start(&fails.id).await.is_err());
    place.run(&runs).await;
    place.run(&ends).await;
    let (before, (_, shim)) = (place.running(&runs), place.running(&ends));
    place.containers = None;
    until("it ends while nobody looks", || {
        longshore::container::process::Process::open(shim).is_ok_and(|p| p.is_none())
    })
    .await;
    place.reopen();
    assert_eq!(place.running(&runs), before);
    assert_eq!(place.exit(&ends).await, ExitStatus::Code(5));
    assert!(matches!(place.state(&fails), ContainerState::StartFailed { .. }));
    place.all().stop(&runs.id, None, 0).await.expect("stopped");
    assert!(matches!(place.state(&runs), ContainerState::Exited { .. }));
    // Another boot: the numbers of that one mean nothing.
    place.all().start(&runs.id).await.expect("started");
    let (_, shim) = place.running(&runs);
    place.settings.boot_id.0 = "another".into();
    kill(shim);
    place.reopen();
    assert_eq!(place.exit(&runs).await, ExitStatus::MachineStopped);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_costs_neither_the_container_nor_its_data() {
    let mut place = Place::new();
    let (runs, ended, torn) = (shell("sleep 600"), shell("echo kept > /kept"), shell("exit 0"));
    place.run(&runs).await;
    place.text(&ended).await;
    place.create(&torn).await;
    let (init, shim) = place.running(&runs);
    let data = place.dir.path().join("data");
    let folder = |spec: &ContainerSpec| data.join("containers").join(spec.id.as_str());
    let record = fs::read(folder(&runs).join("container.json")).expect("a record");
    for spec in [&runs, &ended, &torn] {
        fs::write(folder(spec).join("container.json"), &record[..record.len() / 2]).expect("torn");
    }
    fs::create_dir(data.join("containers/lost+found")).expect("a folder of somebody else");
    fs::create_dir(data.join("containers").join(format!(".{}", torn.id))).expect("a draft");
    let warnings = place.reopen();
    for part in ["but its container runs and was left alone", "was moved to", "was cut off", "was never finished"] {
        assert_eq!(warnings.iter().filter(|w| w.contains(part)).count(), 1, "{part}: {warnings:#?}");
    }
    assert!(place.all().observe().is_empty());
    assert!(longshore::container::process::Process::open(init).is_ok_and(|p| p.is_some()), "it still runs");
    assert!(folder(&runs).exists() && !folder(&ended).exists() && !folder(&torn).exists());
    let aside = data.join("broken").join(ended.id.as_str());
    assert_eq!(fs::read_to_string(aside.join("upper/kept")).expect("kept"), "kept\n");
    fs::write(folder(&runs).join("container.json"), br#"{"version":2}"#).expect("newer");
    assert!(matches!(Containers::open(place.settings.clone()), Err(OpenError::Newer { version: 2, .. })));
    fs::write(folder(&runs).join("container.json"), &record).expect("whole again");
    fs::remove_dir(data.join("containers/lost+found")).expect("removed");
    assert_eq!(place.reopen(), Vec::<String>::new());
    assert_eq!(place.running(&runs), (init, shim));
}

#[tokio::test]
async fn a_start_that_cannot_be_read_is_not_taken_for_one_that_never_was() {
    let mut place = Place::new();
    let runs = shell("sleep 600");
    place.run(&runs).await;
    let (init, shim) = place.running(&runs);
    let start = place.dir.path().join("data/containers").join(runs.id.as_str()).join("start");
    fs::rename(&start, start.with_extension("away")).expect("moved");
    fs::create_dir(&start).expect("what is read with an error");
    assert!(matches!(Containers::open(place.settings.clone()), Err(OpenError::Folder { .. })));
    assert!(longshore::container::process::Process::open(init).is_ok_and(|p| p.is_some()), "it still runs");
    fs::remove_dir(&start).expect("removed");
    fs::rename(start.with_extension("away"), &start).expect("moved back");
    place.reopen();
    assert_eq!(place.running(&runs), (init, shim));
}

#[tokio::test]
async fn a_second_shim_of_a_container_does_not_start_it() {
    for place in [Place::new(), Place::with(Runtime::External("/usr/sbin/runc".into()))] {
        let container = changed("sleep 600", |s| s.process.stdin_open = true);
        place.create(&container).await;
        let folder = place.dir.path().join("data/containers").join(container.id.as_str());
        let other = fs::File::open(&folder).expect("the folder");
        let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        rustix::fs::flock(&other, lock).expect("locked");
        let error = place.all().start(&container.id).await.expect_err("claimed");
        assert!(error.to_string().contains("another shim of this container is alive"), "{error}");
        drop(other);
        place.all().start(&container.id).await.expect("started");
        let other = fs::File::open(&folder).expect("the folder");
        rustix::fs::flock(&other, lock).expect_err("the follower keeps the lock");
        let (init, _) = place.running(&container);
        // runc says that it started the command a moment before it does.
        until("nothing of ours is open inside", || {
            let open = fs::read_dir(format!("/proc/{}/fd", init.pid)).expect("alive");
            let mut open: Vec<_> = open.flatten().map(|e| e.file_name()).collect();
            open.sort();
            open == ["0", "1", "2"]
        })
        .await;
    }
}

#[tokio::test]
async fn a_shim_that_is_killed_takes_its_container_with_it() {
    let place = Place::new();
    let container = shell("sleep 600 & sleep 600 & wait");
    place.run(&container).await;
    let (init, shim) = place.running(&container);
    kill(shim);
    assert_eq!(place.exit(&container).await, ExitStatus::ShimLost);
    until("its init is gone", || longshore::container::process::Process::open(init).is_ok_and(|p| p.is_none())).await;
    place.all().start(&container.id).await.expect("started again");
    place.running(&container);
}

#[tokio::test]
async fn with_runc_a_killed_shim_leaves_an_orphan_that_can_be_ended() {
    let place = Place::with(Runtime::External("/usr/sbin/runc".into()));
    let container = shell("sleep 600");
    place.run(&container).await;
    let (init, shim) = place.running(&container);
    kill(shim);
    until("it is seen", || matches!(place.state(&container), ContainerState::Orphaned { .. })).await;
    place.all().stop(&container.id, None, 10_000).await.expect("stopped");
    assert_eq!(place.exit(&container).await, ExitStatus::ShimLost);
    until("its init is gone", || longshore::container::process::Process::open(init).is_ok_and(|p| p.is_none())).await;
}

#[tokio::test]
async fn a_terminal_an_init_a_read_only_root_and_open_input_work() {
    for place in [Place::new(), Place::with(Runtime::External("/usr/sbin/runc".into()))] {
        let tty = changed("test -t 1 && echo terminal", |s| s.process.tty = true);
        assert_eq!(place.text(&tty).await, "terminal\r\n");
        let init =
            changed("busybox cat /proc/1/cmdline | tr '\\0' ' '; (sleep 0 &); exit 9", |s| s.process.init = true);
        let seen = place.text(&init).await;
        assert!(seen.starts_with("/.longshore-init init"), "{seen}");
        assert_eq!(place.exit(&init).await, ExitStatus::Code(9));
        // In the background it would be stopped when it sets the terminal up.
        let tty = changed("stty -echo && echo foreground", |s| (s.process.init, s.process.tty) = (true, true));
        assert_eq!(place.text(&tty).await, "foreground\r\n");
        let forwarded = changed("trap 'exit 8' TERM; echo up; while :; do sleep 0.05; done", |s| s.process.init = true);
        place.run(&forwarded).await;
        let log = place.all().log_dir(&forwarded.id).join("log");
        until("it is up", || fs::read_to_string(&log).is_ok_and(|t| t.contains("up"))).await;
        place.all().stop(&forwarded.id, None, 10_000).await.expect("stopped");
        assert_eq!(place.exit(&forwarded).await, ExitStatus::Code(8));
        let read_only = changed("touch /x || echo no", |s| s.read_only = true);
        assert!(place.text(&read_only).await.contains("no"));
        let open = changed("cat; echo ended", |s| s.process.stdin_open = true);
        place.run(&open).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        place.running(&open);
    }
}

#[tokio::test]
async fn what_protects_the_daemon_from_the_oom_killer_does_not_protect_a_container() {
    let place = Place::new();
    let container = shell("sleep 600");
    place.run(&container).await;
    let (init, shim) = place.running(&container);
    let score = |pid: &str| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a score");
    assert_eq!(score(&shim.pid.to_string()), score("self"), "the shim keeps the daemon's");
    assert!(["0", score("self").trim()].contains(&score(&init.pid.to_string()).trim()));
}

#[tokio::test]
async fn a_command_begins_with_no_signal_ignored_or_blocked() {
    for place in [Place::new(), Place::with(Runtime::External("/usr/sbin/runc".into()))] {
        for init in [false, true] {
            let mut status = service(&["/bin/cat", "/proc/self/status"]);
            status.process.init = init;
            let text = place.text(&spec(status)).await;
            for line in ["SigIgn:\t0000000000000000\n", "SigBlk:\t0000000000000000\n"] {
                assert!(text.contains(line), "init {init}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn users_directories_and_commands_that_are_not_there_are_said() {
    let place = Place::new();
    let error = |change: fn(&mut Service)| {
        let spec = changed("true", change);
        let place = &place;
        async move {
            place.create(&spec).await;
            place.all().start(&spec.id).await.expect_err("cannot start").to_string()
        }
    };
    assert_eq!(error(|s| s.process.user = Some("ghost".into())).await, "no user \"ghost\" in /etc/passwd of the image");
    let folder = error(|s| s.process.command = Some(vec!["/etc".into()])).await;
    assert_eq!(folder, "command \"/etc\" is a directory");
    let denied = error(|s| s.process.command = Some(vec!["/etc/passwd".into()])).await;
    assert!(denied.contains("permission denied"), "{denied}");
    let none = error(|s| s.process.command = None).await;
    assert!(none.contains("no command"), "{none}");
    let made = changed("pwd", |s| s.process.working_dir = Some("/srv/new/place".into()));
    assert_eq!(place.text(&made).await, "/srv/new/place\n");
}

#[tokio::test]
async fn a_follower_is_small_and_sleeps() {
    let place = Place::new();
    let specs: Vec<ContainerSpec> = (0..5).map(|n| shell(&format!("echo {n}; sleep 600"))).collect();
    let mut times = Vec::new();
    for spec in &specs {
        place.create(spec).await;
        let before = Instant::now();
        place.all().start(&spec.id).await.expect("started");
        times.push(before.elapsed());
    }
    let shims: Vec<ProcessId> = specs.iter().map(|s| place.running(s).1).collect();
    let switches = |shim: &ProcessId| {
        let status = fs::read_to_string(format!("/proc/{}/status", shim.pid)).expect("alive");
        let lines = status.lines().filter(|l| l.contains("ctxt_switches")).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before: Vec<_> = shims.iter().map(switches).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(shims.iter().map(switches).collect::<Vec<_>>(), before, "nothing wakes a follower");
    times.sort();
    let pss: Vec<u64> = shims.iter().map(|s| pss_kib(*s)).collect();
    println!("start: median {:?} of {times:?}; PSS in KiB: {pss:?}", times[2]);
    assert!(pss.iter().all(|p| *p <= 64), "{pss:?}");
}

/// The shim, and whatever it started, is killed at a random moment of a start: the next start works, nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_shim_killed_at_any_moment_of_a_start_does_no_harm() {
    let place = Place::new();
    let container = shell("echo up; sleep 600");
    place.create(&container).await;
    for step in 0..40_u64 {
        let all = place.all().clone();
        let id = container.id.clone();
        let start = tokio::spawn(async move { all.start(&id).await });
        tokio::time::sleep(Duration::from_millis(step * 4)).await;
        let order = format!("\"folder\":\"{}", place.dir.path().join("data").display());
        for entry in fs::read_dir("/proc").expect("proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            if line.starts_with("longshore\0shim") && line.contains(&order) {
                // Only one process of them, the shim itself: its parent is this test.
                let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                let parent = stat.rsplit_once(") ").and_then(|(_, f)| f.split(' ').nth(1)?.parse::<u32>().ok());
                if parent == Some(std::process::id())
                    && let Ok(start_ticks) = longshore::container::process::start_ticks(pid)
                    && let Ok(Some(shim)) = longshore::container::process::Process::open(ProcessId { pid, start_ticks })
                {
                    shim.signal(9);
                }
            }
        }
        let _ = start.await.expect("no panic");
        let state = place.state(&container);
        place.all().stop(&container.id, None, 0).await.expect("stopped");
        assert!(!place.state(&container).alive(), "step {step}: {state:?}");
    }
    place.all().start(&container.id).await.expect("started after all");
    place.running(&container);
}

/// A parent that fits the machine, and where it is.
fn parent() -> (String, &'static str) {
    let one = fs::read_to_string("/proc/self/mountinfo").expect("mounts").contains(" - cgroup ");
    if !one && Path::new("/run/systemd/system").is_dir() {
        (format!("longshoretest{}.slice", std::process::id()), "/longshoretest")
    } else {
        (format!("/longshore-test-{}/inner", std::process::id()), "/longshore-test-")
    }
}

fn everywhere(cgroup: &str) -> Vec<PathBuf> {
    let folders = fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|e| e.path());
    folders.chain([PathBuf::from("/sys/fs/cgroup")]).map(|p| p.join(cgroup.trim_start_matches('/'))).collect()
}

/// A path's parent is its owner's to remove: ours. What the daemon made in it goes with the last container.
fn remove_parent(cgroup: &str, begins: &str) {
    for cgroup in everywhere(cgroup) {
        let own = cgroup.parent().expect("a parent");
        let inner = own.parent().expect("a parent");
        if begins == "/longshore-test-" && inner.exists() {
            assert!(!own.exists(), "{}", own.display());
            fs::remove_dir(inner).and_then(|()| fs::remove_dir(inner.parent().expect("a parent"))).expect("empty");
        }
    }
}

#[tokio::test]
async fn who_was_started_by_another_cgroup_driver_is_taken_over() {
    let mut place = Place::new();
    place.settings.cgroup_driver = CgroupDriver::Cgroupfs;
    place.reopen();
    let runs = shell("trap '' TERM; while :; do sleep 1; done");
    place.run(&runs).await;
    let init = place.running(&runs).0;
    let cgroup = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("alive");
    assert!(cgroup(init.pid).contains(&format!("/longshore/{}/", place.settings.instance)), "{}", cgroup(init.pid));
    place.settings.cgroup_driver = CgroupDriver::Auto;
    assert!(place.reopen().is_empty());
    assert_eq!(place.running(&runs).0, init);
    place.all().stop(&runs.id, None, 0).await.expect("ended where it is");
    place.all().start(&runs.id).await.expect("started again");
    if parent().1 == "/longshoretest" {
        let now = cgroup(place.running(&runs).0.pid);
        assert!(now.contains("/longshore.slice/"), "{now}");
    } else {
        place.settings.cgroup_driver = CgroupDriver::Systemd;
        let error = Containers::open(place.settings.clone()).err().expect("there is no such driver here");
        let why = std::error::Error::source(&error).expect("a cause").to_string();
        assert!(
            why.starts_with("cgroup-driver is systemd, but ") && why.ends_with("set it to cgroupfs or auto"),
            "{why}"
        );
    }
}

#[tokio::test]
async fn a_cgroup_parent_is_found_again_and_its_container_ended() {
    let mut place = Place::new();
    let (parent, begins) = parent();
    let below = changed("trap '' TERM; sleep 1000 & echo up; while :; do sleep 1; done", |s| {
        s.isolation.cgroup_parent = Some(parent.clone());
    });
    place.run(&below).await;
    let cgroups = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("alive");
        text.lines().filter_map(|l| l.splitn(3, ':').nth(2).map(str::to_owned)).collect::<Vec<_>>()
    };
    let init = place.running(&below).0;
    let ours = cgroups(init.pid).into_iter().find(|p| p.ends_with(below.id.as_str())).expect("a cgroup of its own");
    assert!(ours.starts_with(begins), "{ours}");
    let log = place.all().log_dir(&below.id).join("log");
    until("it is up", || fs::read_to_string(&log).is_ok_and(|t| t.contains("up"))).await;
    // Another daemon finds it there, and ends all of it.
    assert!(place.reopen().is_empty());
    assert_eq!(place.running(&below).0, init);
    place.all().stop(&below.id, None, 50).await.expect("stopped");
    assert_eq!(place.exit(&below).await, ExitStatus::Signal(9));
    place.all().start(&below.id).await.expect("started again");
    place.all().remove(&below.id).await.expect("removed");
    for cgroup in everywhere(&ours) {
        assert!(!cgroup.exists(), "{}", cgroup.display());
    }
    // A record that cannot be read says nothing of a parent: who lives below it is left alone all the same.
    let torn = changed("exec sleep 600", |s| s.isolation.cgroup_parent = Some(parent.clone()));
    place.run(&torn).await;
    let (record, shim) = (place.all().log_dir(&torn.id).with_file_name("container.json"), place.running(&torn).1);
    let whole = fs::read(&record).expect("a record");
    fs::write(&record, b"{").expect("torn");
    let warnings = place.reopen().concat();
    assert!(warnings.contains("its container runs and was left alone"), "{warnings}");
    fs::write(&record, whole).expect("whole again");
    assert!(place.reopen().is_empty());
    assert_eq!(place.running(&torn).1, shim);
    place.all().remove(&torn.id).await.expect("removed");
    remove_parent(&ours, begins);
    let wrong = changed("true", |s| s.isolation.cgroup_parent = Some("../up".into()));
    place.create(&wrong).await;
    let error = place.all().start(&wrong.id).await.expect_err("it leads out");
    assert!(matches!(&error, StartError::Cgroup(_)), "{error}");
}

#[tokio::test]
async fn a_full_disk_loses_output_but_not_the_exit_status_and_says_so() {
    let mut place = Place::new();
    let data = place.dir.path().join("data");
    nix::mount::mount(Some("small-disk"), &data, Some("tmpfs"), nix::mount::MsFlags::empty(), Some("size=1m"))
        .expect("mounted");
    let _disk = SmallDisk(data.clone());
    place.reopen();
    let ballast = data.join("ballast");
    fs::write(&ballast, vec![0; 500_000]).expect("there is room");
    let flood = shell(
        "trap stop=1 TERM; seq 1 40000; : >/dev/shm/done; while [ -z \"$stop\" ]; do sleep 0.05; done; echo after; exit 4",
    );
    place.run(&flood).await;
    // A shell that is asked to end does not wait for its child.
    let done = PathBuf::from(format!("/proc/{}/root/dev/shm/done", place.running(&flood).0.pid));
    until("everything is written", || done.exists()).await;
    fs::remove_file(&ballast).expect("removed");
    place.all().stop(&flood.id, None, 10_000).await.expect("stopped");
    assert_eq!(place.exit(&flood).await, ExitStatus::Code(4));
    let lines = place.lines(&flood, Select::default()).await;
    let lost: u64 = lines.iter().map(|l| if let LogStream::Lost(n) = l.stream { n } else { 0 }).sum();
    let kept = lines.iter().filter(|l| l.stream == LogStream::Stdout).count() as u64;
    assert!(lost > 0);
    assert_eq!(lost + kept, 40_001, "lost {lost}, kept {kept}");
    assert_eq!(lines.last().map(|l| l.bytes.clone()), Some(b"after".to_vec()));
    place.all().remove(&flood.id).await.expect("removed");
    place.containers = None;
}

async fn names_devices_and_memory(place: &Place) {
    let names =
        |change: &dyn Fn(&mut Service)| changed("cat /etc/hosts /etc/resolv.conf; busybox hostname -f", |s| change(s));
    let named = names(&|s| {
        s.hostname = Some("web".into());
        s.names.domain = Some("shop.lan".into());
        s.names.hosts = vec![("db".into(), "10.0.0.7".into())];
        s.names.servers = vec!["10.0.0.1".into()];
        s.names.search = vec!["a.lan".into(), "b.lan".into()];
        s.names.options = vec!["ndots:3".into()];
    });
    let seen = place.text(&named).await;
    for line in ["10.0.0.7\tdb\n", "nameserver 10.0.0.1\n", "search a.lan b.lan\n", "options ndots:3\n", "web.shop.lan"]
    {
        assert!(seen.contains(line), "{line} in {seen}");
    }
    let domain = changed("cat /proc/sys/kernel/domainname", |s| s.names.domain = Some("shop.lan".into()));
    assert_eq!(place.text(&domain).await, "shop.lan\n");
    let gateway = names(&|s| s.names.hosts = vec![("host".into(), "host-gateway".into())]);
    place.create(&gateway).await;
    let error = place.all().start(&gateway.id).await.expect_err("no network").to_string();
    assert!(error.contains("extra_hosts: host: host-gateway"), "{error}");

    let shm =
        changed("busybox df -k /dev/shm /run/x | busybox awk 'NR>1{print $2, $6}'; busybox ls -ldn /run/x", |s| {
            s.isolation.shm_bytes = Some(8 << 20);
            let options = ["size=1m", "mode=750", "uid=33", "gid=44"].map(str::to_owned).to_vec();
            s.isolation.tmpfs = vec![longshore::model::Tmpfs { target: "/run/x".into(), options }];
        });
    let seen = place.text(&shm).await;
    assert!(seen.starts_with("8192 /dev/shm\n1024 /run/x\ndrwxr-x---"), "{seen}");
    assert!(seen.contains(" 33 ") && seen.contains(" 44 "), "{seen}");

    let device = |service: &mut Service, which| {
        let driver = "example.com/thing".into();
        service.isolation.requests = vec![longshore::model::DeviceRequest { driver, which, capabilities: Vec::new() }];
    };
    let script = "echo $THING; busybox ls -l /dev/thing; cat /thing.txt; id -G; head -c 4 /dev/thing | busybox wc -c";
    let cdi = changed(script, |s| device(s, longshore::model::Which::All));
    let seen = place.text(&cdi).await;
    assert!(seen.starts_with("yes\ncrw"), "{seen}");
    for words in ["1,   5", "from the host\n", " 77", "\n4\n"] {
        assert!(seen.contains(words), "{words:?} in {seen}");
    }
    let gone = changed("true", |s| device(s, longshore::model::Which::Ids(vec!["two".into()])));
    place.create(&gone).await;
    let error = place.all().start(&gone.id).await.expect_err("no such device").to_string();
    let folder = place.dir.path().join("cdi").display().to_string();
    assert!(error.contains("example.com/thing=two") && error.contains(&folder), "{error}");

    // Processes of a container in the host's pid namespace do not end with its first one; they end all the same.
    let host = changed("busybox setsid sleep 1000 & echo $$; sleep 0.1", |s| {
        s.isolation.pid = longshore::model::Namespace::Host;
    });
    let seen = place.text(&host).await;
    assert!(seen.trim().parse::<u32>().is_ok_and(|pid| pid > 1), "{seen}");
    place.all().remove(&host.id).await.expect("removed");
}

fn cdi(mut place: Place) -> Place {
    let folder = place.dir.path().join("cdi");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("text"), "from the host\n").expect("written");
    let file = format!(
        r#"{{ "cdiVersion": "0.6.0", "kind": "example.com/thing", "devices": [ {{ "name": "one", "containerEdits": {{
            "env": ["THING=yes"], "deviceNodes": [ {{ "path": "/dev/thing", "hostPath": "/dev/zero" }} ],
            "mounts": [ {{ "hostPath": "{}/text", "containerPath": "/thing.txt", "options": ["ro", "bind"] }} ],
            "additionalGids": [77] }} }} ] }}"#,
        folder.display()
    );
    fs::write(folder.join("thing.json"), file).expect("written");
    place.settings.cdi_dirs = vec![folder];
    place.reopen();
    place
}

#[tokio::test]
async fn names_devices_and_memory_are_as_the_file_says() {
    names_devices_and_memory(&cdi(Place::new())).await;
}

#[tokio::test]
async fn names_devices_and_memory_with_runc() {
    names_devices_and_memory(&cdi(Place::with(Runtime::External("/usr/sbin/runc".into())))).await;
}
