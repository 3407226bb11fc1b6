//! Containers with users of their own, on the real host: as root, with a root made of Debian's static busybox.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use longshore::container::{Containers, ExecAsk, ExecStreams, ImageDefaults, Runtime, Settings, StartError};
use longshore::logs::{LogLine, Select};
use longshore::model::{
    Ability, ContainerId, ContainerName, ContainerSpec, ContainerState, Device, DeviceAccess, Digest, ExitStatus,
    ImageReference, Ipc, Namespace, NetworkMode, Process, ProjectName, PullPolicy, RestartPolicy, Service, ServiceName,
    Slot, SpecHash, StopPolicy, UserNamespace,
};
use tokio::io::AsyncReadExt as _;

const LIMIT: Duration = Duration::from_secs(20);
const SIZE: u32 = 65_536;

/// A data directory with a range of ids of its own; whatever a test leaves running is ended with it.
struct Place {
    dir: tempfile::TempDir,
    settings: Settings,
    containers: Option<Containers>,
    first: u32,
}

impl Place {
    /// With ids for so many containers.
    fn new(containers: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Tests that run beside us must not hold the same ids.
        let first =
            1_000_000 * (1 + std::process::id() % 2000) + 1_000_000_000 * (NEXT.fetch_add(1, Ordering::Relaxed) % 2);
        let first = first + SIZE * 3 * NEXT.load(Ordering::Relaxed);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let layer = dir.path().join("layer");
        for folder in ["bin", "etc", "tmp", "proc", "dev", "sys", "home/web", "gone"] {
            fs::create_dir_all(layer.join(folder)).expect("a layer");
        }
        fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox-static is installed");
        for name in ["sh", "sleep", "cat", "echo", "id", "stat", "ls", "touch", "chown", "rm", "mkdir", "tr", "grep"] {
            std::os::unix::fs::symlink("busybox", layer.join("bin").join(name)).expect("a link");
        }
        fs::write(
            layer.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/home/web:/bin/sh\nfar:x:70000:1::/:/bin/sh\n",
        )
        .expect("passwd");
        fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:44:\nlogs:x:55:web\n").expect("group");
        std::os::unix::fs::chown(layer.join("home/web"), Some(33), Some(44)).expect("chown");
        for (file, start) in [("subuid", first), ("subgid", first + SIZE)] {
            let line = format!("longshore:{start}:{}\n", SIZE * containers);
            fs::write(dir.path().join(file), line).expect("written");
        }
        fs::create_dir_all(dir.path().join("data")).expect("data");
        let mut settings = Settings::new(dir.path().join("data"), dir.path().join("run")).expect("settings");
        settings.exe = PathBuf::from(env!("CARGO_BIN_EXE_longshore"));
        settings.ids.subuid = dir.path().join("subuid");
        settings.ids.subgid = dir.path().join("subgid");
        settings.ids.register = dir.path().join("register");
        let mut place = Self { dir, settings, containers: None, first };
        place.reopen();
        place
    }

    fn reopen(&mut self) {
        self.containers = None;
        let (containers, warnings) = Containers::open(self.settings.clone()).expect("opens");
        assert!(warnings.is_empty(), "{warnings:?}");
        self.containers = Some(containers);
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

    async fn exit(&self, spec: &ContainerSpec) -> ExitStatus {
        let mut changed = self.all().changed();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if let ContainerState::Exited { status, .. } = self.all().observe()[&spec.id].state {
                    return status;
                }
                changed.changed().await.expect("open");
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("it ends")
    }

    /// Runs to the end and gives what it wrote.
    async fn text(&self, spec: &ContainerSpec) -> String {
        self.run(spec).await;
        self.exit(spec).await;
        let lines = longshore::logs::read(&self.all().log_dir(&spec.id), &Select::default());
        let lines: Vec<LogLine> = lines.map(|line| line.expect("a line")).collect().await;
        String::from_utf8_lossy(&lines.iter().flat_map(LogLine::written).collect::<Vec<_>>()).replace('\r', "")
    }

    fn folder(&self, spec: &ContainerSpec) -> PathBuf {
        self.dir.path().join("data/containers").join(spec.id.as_str())
    }

    fn pid(&self, spec: &ContainerSpec) -> i32 {
        match &self.all().observe()[&spec.id].state {
            ContainerState::Running { init, .. } => init.pid,
            other => panic!("{other:?}"),
        }
    }

    /// The first user and group of a container that runs, as the host sees them.
    fn range(&self, spec: &ContainerSpec) -> (u32, u32) {
        let first = |file: &str| {
            let text = fs::read_to_string(format!("/proc/{}/{file}", self.pid(spec))).expect("it runs");
            let numbers: Vec<u32> = text.split_whitespace().map(|n| n.parse().expect("a number")).collect();
            assert_eq!((numbers.len(), numbers[0], numbers[2]), (3, 0, SIZE), "{text}");
            numbers[1]
        };
        (first("uid_map"), first("gid_map"))
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
            assert!(!self.settings.ids.register.exists(), "no id is held by anybody");
            let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
            assert!(!mounts.contains(&*self.dir.path().to_string_lossy()), "{mounts}");
        }
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
        hash: SpecHash::of(script.as_bytes()),
    };
    service.isolation.user = UserNamespace::Auto { size: SIZE };
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

fn plain(name: &str, script: &str) -> ContainerSpec {
    spec(name, script, |_| {})
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (meta.uid(), meta.gid())
}

const LOOKS: &str = "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; id -u; id -g
    stat -c '%n %u:%g' / /bin/busybox /home/web /etc/hosts /etc/resolv.conf /proc/self/status
    touch /made && chown 33:44 /made && stat -c '%n %u:%g' /made
    echo more >> /etc/group && rm -r /gone && mkdir /gone && echo changed
    echo 127.0.0.2 other >> /etc/hosts && grep -c localhost /etc/hosts
    echo again > /dev/stdout
    busybox ip link show lo | grep -o LOOPBACK,UP; cat /proc/sys/net/ipv4/ip_unprivileged_port_start
    grep -E '^(Seccomp|CapEff):' /proc/self/status | tr '\\t' ' '
    ls /sys/class/net";

async fn looks(mut place: Place, runtime: Runtime) {
    place.settings.runtime = runtime;
    place.reopen();
    let looks = plain("looks", LOOKS);
    let seen = place.text(&looks).await;
    let (uid, gid) = (place.first, place.first + SIZE);
    let expected = format!(
        " 0 {uid} {SIZE}\n 0 {gid} {SIZE}\n0\n0\n/ 0:0\n/bin/busybox 0:0\n/home/web 33:44\n/etc/hosts 0:0\n/etc/resolv.conf 0:0\n\
         /proc/self/status 0:0\n/made 33:44\nchanged\n2\nagain\nLOOPBACK,UP\n0\n"
    );
    assert!(seen.starts_with(&expected), "{seen}\ninstead of\n{expected}");
    assert!(seen.contains("Seccomp: 2\n") && seen.ends_with("lo\n"), "{seen}");
    // On disk everything has the owner that it has inside.
    let upper = place.folder(&looks).join("upper");
    assert_eq!(owner(&upper.join("made")), (33, 44));
    assert_eq!(owner(&upper.join("etc/group")), (0, 0));
    assert_eq!(owner(&upper.join("gone")), (0, 0));
    assert_eq!(owner(&place.folder(&looks).join("etc/hosts")), (0, 0));
    assert_eq!(owner(&place.dir.path().join("layer/home/web")), (33, 44));
}

#[tokio::test]
async fn files_have_their_owners_inside_and_on_disk() {
    looks(Place::new(1), Runtime::Embedded).await;
}

#[tokio::test]
async fn the_same_with_runc() {
    looks(Place::new(1), Runtime::External("/usr/sbin/runc".into())).await;
}

#[tokio::test]
async fn its_root_is_nobody_on_the_host() {
    let place = Place::new(1);
    let refused = "busybox mknod /disk b 7 0 && echo made; echo 1 > /proc/sys/vm/drop_caches && echo dropped
        busybox mount -t tmpfs x /tmp && echo mounted; echo up; exec sleep 1000";
    let looks = plain("looks", refused);
    place.run(&looks).await;
    let (uid, gid) = place.range(&looks);
    assert_eq!((uid, gid), (place.first, place.first + SIZE));
    let status = fs::read_to_string(format!("/proc/{}/status", place.pid(&looks))).expect("it runs");
    let ids = |word: &str| status.lines().find_map(|l| l.strip_prefix(word)).expect("a line").trim().to_owned();
    assert_eq!(ids("Uid:"), [uid.to_string().as_str(); 4].join("\t"));
    assert_eq!(ids("Gid:"), [gid.to_string().as_str(); 4].join("\t"));
    // The follower opens it a moment after the start.
    let log = || fs::read_to_string(place.all().log_dir(&looks.id).join("log")).unwrap_or_default();
    let up = async {
        while !log().contains("up") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, up).await.unwrap_or_else(|_| panic!("{}", log()));
    let log = log();
    assert!(log.contains("mknod") && log.contains("not permitted"), "{log}");
    assert!(!log.contains("made\"") && !log.contains("dropped") && !log.contains("mounted"), "{log}");
}

#[tokio::test]
async fn a_user_a_terminal_an_init_and_a_read_only_root_work() {
    let place = Place::new(1);
    let web = |s: &mut Service| {
        s.process.user = Some("web".into());
        (s.process.init, s.read_only) = (true, true);
    };
    let script = "id -u; id -g; id -G; cat /proc/1/comm; touch /x; touch /home/web/x; echo fine > /dev/stderr";
    let seen = place.text(&spec("web", script, web)).await;
    assert!(seen.starts_with("33\n44\n44 55\n.longshore-") || seen.starts_with("33\n44\n55\n.longshore-"), "{seen}");
    assert_eq!(seen.matches("Read-only file system").count(), 2, "{seen}");
    assert!(seen.contains("fine"), "{seen}");
    place.all().remove(&spec("web", script, web).id).await.expect("removed");

    let writes =
        spec("writes", "touch /home/web/x && ls -n /home/web; touch /etc/x", |s| s.process.user = Some("web".into()));
    let seen = place.text(&writes).await;
    assert!(seen.contains(" 33 ") && seen.contains("Permission denied"), "{seen}");
    assert_eq!(owner(&place.folder(&writes).join("upper/home/web/x")), (33, 44));
    place.all().remove(&writes.id).await.expect("removed");

    let terminal = spec("terminal", "busybox tty; busybox stty size; echo x > /dev/tty", |s| s.process.tty = true);
    let seen = place.text(&terminal).await;
    assert!(seen.starts_with("/dev/") && seen.ends_with("x\n"), "{seen}");
}

#[tokio::test]
async fn a_range_is_kept_over_restarts_and_freed_with_the_container() {
    let mut place = Place::new(2);
    let (one, two, three) = (plain("one", "exec sleep 1000"), plain("two", "exec sleep 1000"), plain("three", "id"));
    place.run(&one).await;
    place.run(&two).await;
    let (first, second) = (place.range(&one), place.range(&two));
    assert!(first.0.abs_diff(second.0) >= SIZE && first.1.abs_diff(second.1) >= SIZE, "{first:?} {second:?}");

    place.create(&three).await;
    let error = place.all().start(&three.id).await.expect_err("nothing is left");
    let StartError::Ids(error) = error else { panic!("{error}") };
    let error = error.to_string();
    assert!(error.contains("are used up: 65536 in a row are not free, 2 containers hold some"), "{error}");
    assert!(
        matches!(&place.all().observe()[&three.id].state, ContainerState::StartFailed { error: e, .. } if e.contains("used up"))
    );

    place.reopen();
    assert_eq!(place.range(&two), second, "taken over");
    place.all().stop(&one.id, None, 0).await.expect("stopped");
    place.all().start(&three.id).await.expect_err("one has it still, though it does not run");
    place.all().stop(&two.id, None, 0).await.expect("stopped");
    place.all().start(&two.id).await.expect("started again");
    place.all().start(&one.id).await.expect("started again");
    assert_eq!((place.range(&one), place.range(&two)), (first, second));

    place.all().remove(&one.id).await.expect("removed");
    place.all().start(&three.id).await.expect("there is room now");
    assert_eq!(place.exit(&three).await, ExitStatus::Code(0));
}

#[tokio::test]
async fn a_range_that_somebody_else_uses_meanwhile_is_not_taken_up_again() {
    let place = Place::new(2);
    let one = plain("one", "exec sleep 1000");
    place.run(&one).await;
    let (uid, gid) = place.range(&one);
    place.all().stop(&one.id, None, 0).await.expect("stopped");
    // Another engine, which knows nothing of our register.
    let mut other = std::process::Command::new("unshare").args(["--user", "sleep", "1000"]).spawn().expect("unshare");
    let proc = PathBuf::from(format!("/proc/{}", other.id()));
    let namespace = |proc: &Path| fs::read_link(proc.join("ns/user")).expect("a namespace");
    let until = std::time::Instant::now() + LIMIT;
    while namespace(&proc) == namespace(Path::new("/proc/self")) {
        assert!(std::time::Instant::now() < until, "it makes its namespace");
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::write(proc.join("gid_map"), format!("0 {} 10", gid + 5)).expect("mapped");
    fs::write(proc.join("uid_map"), format!("0 {} 10", uid + 5)).expect("mapped");
    let started = place.all().start(&one.id).await;
    other.kill().expect("killed");
    other.wait().expect("ended");
    started.expect("there is another range");
    let (other_uid, other_gid) = place.range(&one);
    assert!(other_uid.abs_diff(uid) >= SIZE || other_uid >= uid + 15, "{other_uid} {uid}");
    assert!(other_gid.abs_diff(gid) >= SIZE || other_gid >= gid + 15, "{other_gid} {gid}");
}

async fn devices(mut place: Place, runtime: Runtime) {
    place.settings.runtime = runtime;
    place.reopen();
    let device = |source: &str, target: &str| Device {
        source: source.into(),
        target: target.into(),
        access: DeviceAccess { read: true, write: true, make: false },
    };
    let script = "stat -c '%n %t:%T' /dev/mine /dev/full /dev/null /dev/null2 /srv/zero
        busybox head -c 3 /dev/mine | busybox od -An -tx1; busybox head -c 3 /srv/zero | busybox od -An -tx1; echo x > /dev/full";
    let asks = spec("asks", script, |s| {
        let pairs = [("/dev/zero", "/dev/mine"), ("/dev/null", "/dev/null"), ("/dev/zero", "/srv/zero")];
        s.isolation.devices = pairs.iter().map(|(source, target)| device(source, target)).collect();
        s.isolation.devices.push(device("/dev/null", "/dev/null2"));
    });
    let seen = place.text(&asks).await;
    let expected = "/dev/mine 1:5\n/dev/full 1:7\n/dev/null 1:3\n/dev/null2 1:3\n/srv/zero 1:5\n 00 00 00\n 00 00 00\n";
    assert!(seen.starts_with(expected) && seen.contains("No space left"), "{seen}");
    place.all().remove(&asks.id).await.expect("removed");
    let other = spec("other", "true", |s| s.isolation.devices = vec![device("/dev/zero", "/dev/null")]);
    place.create(&other).await;
    let error = place.all().start(&other.id).await.expect_err("it would be the host's").to_string();
    assert!(error.contains("give /dev/zero another name"), "{error}");
}

#[tokio::test]
async fn a_device_under_another_name_is_the_one_that_was_asked_for() {
    devices(Place::new(1), Runtime::Embedded).await;
}

#[tokio::test]
async fn a_device_under_another_name_is_the_same_with_runc() {
    devices(Place::new(1), Runtime::External("/usr/sbin/runc".into())).await;
}

#[tokio::test]
async fn a_domain_name_is_set() {
    let place = Place::new(1);
    let named = spec("named", "cat /proc/sys/kernel/domainname", |s| s.names.domain = Some("shop.example".into()));
    assert_eq!(place.text(&named).await, "shop.example\n");
}

#[tokio::test]
async fn who_is_outside_of_the_range_is_told() {
    let place = Place::new(1);
    let far = spec("far", "id", |s| s.process.user = Some("far".into()));
    place.create(&far).await;
    let error = place.all().start(&far.id).await.expect_err("70000 is beyond 65536").to_string();
    assert!(error.contains("user 70000 is not among the 65536 ids") && error.contains("auto:size=70001"), "{error}");
}

#[tokio::test]
async fn the_hosts_network_can_be_shared() {
    shares_network(Place::new(1), Runtime::Embedded).await;
}

#[tokio::test]
async fn the_hosts_network_can_be_shared_with_runc() {
    shares_network(Place::new(1), Runtime::External("/usr/sbin/runc".into())).await;
}

async fn shares_network(mut place: Place, runtime: Runtime) {
    place.settings.runtime = runtime;
    place.reopen();
    let script = "ls /sys/class/net; touch /sys/x; cat /etc/hosts > /dev/null && echo read; cat /proc/self/mountinfo";
    let seen = place.text(&spec("host", script, |s| s.network = NetworkMode::Host)).await;
    let links = fs::read_dir("/sys/class/net").expect("links").flatten().map(|e| e.file_name());
    for link in links {
        let link = link.to_string_lossy().into_owned();
        assert!(seen.lines().any(|line| line == link), "{link} in {seen}");
    }
    assert!(seen.contains("touch: /sys/x: Read-only file system") && seen.contains("read\n"), "{seen}");
    // What is mounted in it is read-only too.
    let host = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let parts = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for mount in host.lines().map(parts).filter(|mount| Path::new(&mount[4]).starts_with("/sys")) {
        let same = |line: &Vec<String>| line.len() > 5 && (&line[2], &line[4]) == (&mount[2], &mount[4]);
        let read_only = |line: &Vec<String>| line[5].split(',').any(|option| option == "ro");
        assert!(seen.lines().map(parts).filter(same).any(|line| read_only(&line)), "{mount:?} in {seen}");
    }
}

#[tokio::test]
async fn what_is_lacking_is_said() {
    let mut place = Place::new(1);
    let why = |place: &Place| place.all().lacks().get(&Ability::UserNamespace).cloned();
    assert_eq!(why(&place), None);
    let data = place.settings.data_dir.clone();
    fs::remove_file(&place.settings.ids.subgid).expect("removed");
    place.reopen();
    let why = why(&place).expect("nobody has ids");
    assert!(why.contains("subgid gives longshore and containers no ids"), "{why}");
    // Done as told: without another start of the daemon.
    fs::write(&place.settings.ids.subgid, "longshore:1:1").expect("written");
    assert_eq!(place.all().lacks().get(&Ability::UserNamespace), None);
    // A file system that cannot: this one is too small a thing to have owners of its own.
    place.containers = None;
    let none = None::<&str>;
    nix::mount::mount(Some("proc"), &data, Some("proc"), nix::mount::MsFlags::empty(), none).expect("mounted");
    let mut command = std::process::Command::new(&place.settings.exe);
    let probed = command.args(["shim", longshore::container::userns::PROBE]).arg(&data).output();
    nix::mount::umount2(&data, nix::mount::MntFlags::MNT_DETACH).expect("unmounted");
    let probed = probed.expect("started");
    let said = String::from_utf8_lossy(&probed.stdout).into_owned();
    assert!(!probed.status.success() && said.contains("cannot show its files with other owners"), "{said}");
}

#[tokio::test]
async fn what_is_executed_in_it_is_nobody_on_the_host_either() {
    let place = Place::new(1);
    let idle = plain("idle", "exec sleep 1000");
    place.run(&idle).await;
    let script =
        "cat /proc/self/uid_map; id -u; id -g; touch /made; stat -c %u:%g /made; grep Seccomp: /proc/self/status
        busybox mount -t tmpfs x /tmp; cat /etc/shadow-of-nobody";
    let ask = ExecAsk {
        command: vec!["sh".into(), "-c".into(), script.into()],
        environment: Vec::new(),
        working_dir: None,
        user: None,
        privileged: false,
        streams: ExecStreams::Pipes { stdin: false },
    };
    let exec = place.all().exec(&idle.id, ask).await.expect("executed");
    let (mut out, mut err) = (exec.stdout.expect("a pipe"), exec.stderr.expect("a pipe"));
    let (mut said, mut wrong) = (String::new(), String::new());
    out.read_to_string(&mut said).await.expect("read");
    err.read_to_string(&mut wrong).await.expect("read");
    let said: Vec<&str> = said.split_whitespace().collect();
    let uid = place.range(&idle).0.to_string();
    assert_eq!(said, ["0", &uid, "65536", "0", "0", "0:0", "Seccomp:", "2"]);
    assert!(wrong.contains("mount: permission denied"), "{wrong}");
    assert_eq!(owner(&place.folder(&idle).join("upper/made")), (0, 0));
}

#[tokio::test]
async fn the_hosts_processes_and_queues_can_be_shared() {
    let place = Place::new(1);
    let shares = spec(
        "shares",
        "ls /dev/mqueue > /dev/null && echo queues; ls -d /proc/1/task; echo $$; busybox kill -0 1",
        |s| {
            (s.isolation.pid, s.isolation.ipc, s.isolation.uts) = (Namespace::Host, Ipc::Host, Namespace::Host);
        },
    );
    let seen = place.text(&shares).await;
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines.contains(&"queues"), Path::new("/dev/mqueue").is_dir(), "{seen}");
    assert!(lines.contains(&"/proc/1/task") && !lines.contains(&"1"), "{seen}");
    assert!(seen.contains("not permitted"), "it is nobody to the host's processes: {seen}");
}
