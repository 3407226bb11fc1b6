//! Every example runs: each is put into a state folder with an image from a registry of our own, comes to the end that its
//! comments promise, and leaves nothing behind. As root, with Debian's static busybox, docker-registry, iproute2 and nftables.
//! Each test has a network of its own, so that the host's is not touched.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const LONGSHORE: &str = env!("CARGO_BIN_EXE_longshore");
/// In the test's own network, as are all ports here.
const REGISTRY: &str = "127.0.0.1:5000";

/// What becomes of a service: its phase, how many containers run, and of the first one the restarts and the exit code.
#[derive(Debug, PartialEq, Eq)]
struct End {
    phase: &'static str,
    running: u64,
    restarts: u64,
    code: Option<u64>,
}

const fn runs(running: u64) -> End {
    End { phase: "applied", running, restarts: 0, code: None }
}

fn expected() -> BTreeMap<&'static str, Vec<(&'static str, End)>> {
    BTreeMap::from([
        ("anchors", vec![("back", runs(1)), ("front", runs(1))]),
        (
            "crash",
            vec![
                ("broken", End { phase: "failing", running: 0, restarts: 3, code: Some(3) }),
                ("flaky", End { phase: "applied", running: 1, restarts: 2, code: None }),
            ],
        ),
        ("guestbook", vec![("redis", runs(1)), ("web", runs(1))]),
        ("job", vec![("report", End { phase: "applied", running: 0, restarts: 0, code: Some(0) })]),
        ("limits", vec![("shared", runs(2)), ("small", runs(1))]),
        ("quickstart", vec![("web", runs(1))]),
        ("workers", vec![("worker", runs(3))]),
    ])
}

#[test]
fn every_example_comes_to_its_end_and_leaves_nothing() {
    let redis = &*REDIS_ROOT;
    own_network();
    let mut place = Place::new();
    place.registry();
    let (image, redis) =
        (place.busybox(), place.push("redis", redis, r#"{"Env":["PATH=/usr/bin"],"WorkingDir":"/tmp"}"#));
    place.start();
    let expected = expected();
    assert_eq!(
        examples(),
        expected.keys().map(ToString::to_string).collect::<Vec<_>>(),
        "each example has an end here"
    );
    let address =
        |name: &str| format!("127.0.0.1:{}", 18000 + expected.keys().position(|n| *n == name).expect("an example"));
    for name in expected.keys() {
        place.put(name, &format!("IMAGE={image}\nREDIS_IMAGE={redis}\nADDRESS={}\n", address(name)));
    }
    place.wait("every example settles as expected", |place| {
        let status = place.status();
        let all =
            expected.iter().all(|(name, ends)| ends.iter().all(|(service, end)| ended(&status, name, service, end)));
        all && status["settled"] == true && status["problems"].as_array().is_some_and(Vec::is_empty)
    });
    assert!(request(&address("quickstart"), "GET / HTTP/1.0\r\n\r\n").contains("Hello from Longshore"));
    the_guestbook_counts_and_keeps(&place, &address("guestbook"));
    assert!(place.says(&["logs", "job/report"]).contains("report for 2026-01-01"));
    assert!(place.says(&["logs", "crash/broken"]).contains("cannot find my database"));
    assert!(place.says(&["logs", "crash/flaky"]).contains("start number 3"));
    assert_eq!(place.says(&["logs", "workers/worker"]).matches("takes from high every 5 s").count(), 3);
    assert!(place.says(&["logs", "limits/small"]).contains("small runs as 65534"));
    assert_eq!(place.says(&["logs", "limits/shared"]).matches("shared runs").count(), 2);
    assert!(place.says(&["logs", "anchors/front"]).contains("front logs at info"));
    assert!(place.says(&["logs", "anchors/back"]).contains("back logs at debug"));

    let made = place.containers();
    assert_eq!(made.len(), 14);
    place.empty();
    // The folder is empty now, and that is meant: whether or not it has to be said depends on how the files went.
    place.wait("everything is removed", |place| {
        place.longshore(&["confirm"]);
        place.containers().is_empty() && place.status()["settled"] == true
    });
    place.stop();
    assert_eq!(left_behind(place.dir.path(), &made), Vec::<String>::new());
    assert_eq!(network_left(), "");
}

/// A look counts, a text is kept, and the database is reached by the web server only.
fn the_guestbook_counts_and_keeps(place: &Place, address: &str) {
    let looks = |page: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix("Looked at: ")).expect("a count");
        line.parse::<u64>().expect("a number")
    };
    let first = looks(&request(address, "GET / HTTP/1.0\r\n\r\n"));
    let form = "text=I+was+here%2C+%22too%22";
    let post = format!(
        "POST / HTTP/1.0\r\nContent-Length: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
        form.len()
    );
    let written = request(address, &post);
    assert_eq!(looks(&written), first + 1, "{written}");
    assert!(written.contains("\nI was here, too"), "{written}");
    let kept = place.says(&["exec", "guestbook-redis-1", "redis-cli", "lrange", "book", "0", "-1"]);
    assert_eq!(kept.trim(), "I was here, too");
    // From another project it has neither a name nor a way.
    let clients = place.says(&["exec", "guestbook-redis-1", "redis-cli", "-h", "redis", "client", "list"]);
    let database = clients.split_once(" laddr=").and_then(|(_, rest)| rest.split(':').next()).expect("its address");
    let reach = |from: &str, host: &str| {
        place
            .longshore(&["exec", from, "sh", "-c", &format!("echo ping | nc -w 2 {host} 6379 | grep PONG")])
            .status
            .success()
    };
    assert!(reach("guestbook-web-1", "redis") && reach("guestbook-web-1", database), "{clients}");
    assert!(!reach("quickstart-web-1", "redis") && !reach("quickstart-web-1", database), "{clients}");
}

#[test]
fn the_demo_runs() {
    let redis = &*REDIS_ROOT;
    own_network();
    let forwarding = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("IPv4");
    let forwarded = forwarding();
    let mut demo = Command::new(root().join("examples/demo.sh"));
    let demo = demo.env("LONGSHORE", LONGSHORE).env("REDIS_ROOT", redis).output().expect("the demo");
    let (said, wrong) = (String::from_utf8_lossy(&demo.stdout), String::from_utf8_lossy(&demo.stderr));
    assert!(demo.status.success(), "{said}\n{wrong}");
    assert!(said.contains("\nI was here\n"), "{said}");
    assert!(said.contains("left behind: 0 mounts, 0 cgroups, 0 interfaces, 0 nft tables"), "{said}");
    assert_eq!(network_left(), "");
    assert_eq!(forwarding(), forwarded);
}

/// A root folder with Debian's redis-server, from its mirror; kept for the next run. It is made before a test leaves the host's network.
static REDIS_ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("redis-root");
    if !kept.exists() {
        let made = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
        let mut command = tool("debian-root.sh");
        command.arg(made.path().join("root")).args(["redis-server", "redis-tools", "--"]);
        let done = command.args(["/usr/bin/redis-server", "/usr/bin/redis-cli"]).output().expect("a shell");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        fs::rename(made.path().join("root"), &kept).expect("the same file system");
    }
    kept
});

/// This thread, and what it starts, leave the host's network for one with nothing but loopback.
fn own_network() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.expect("iproute2 is installed").success());
}

/// What is in this thread's network but for loopback: interfaces, rules, routes.
fn network_left() -> String {
    let look = "ip -br link | grep -v '^lo '; nft list ruleset; ip route show table all | grep -v ' dev lo '; true";
    let seen = Command::new("sh").args(["-c", look]).output().expect("a shell");
    assert!(seen.stderr.is_empty(), "{}", String::from_utf8_lossy(&seen.stderr));
    String::from_utf8_lossy(&seen.stdout).into_owned()
}

/// A state folder, a data directory, a registry and a daemon of our own. Whatever happens, nothing outlives it.
struct Place {
    dir: tempfile::TempDir,
    registry: Option<Child>,
    daemon: Option<Child>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(dir.path().join("state")).expect("a state folder");
        Self { dir, registry: None, daemon: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn registry(&mut self) {
        let port = REGISTRY.rsplit(':').next().expect("a port");
        let registry = tool("registry.sh").arg(port).arg(self.path("registry")).stderr(Stdio::null()).spawn();
        self.registry = Some(registry.expect("docker-registry is installed"));
        self.wait("the registry", |_| TcpStream::connect(REGISTRY).is_ok());
    }

    fn busybox(&self) -> String {
        let folder = self.path("root");
        assert!(tool("busybox-root.sh").arg(&folder).status().expect("a shell").success());
        self.push("busybox", &folder, r#"{"Cmd":["/bin/sh"],"Env":["PATH=/bin"]}"#)
    }

    /// Pushes the folder as an image to the registry, and names the image.
    fn push(&self, name: &str, folder: &Path, config: &str) -> String {
        let mut push = tool("push-image.sh");
        push.args([REGISTRY, &format!("examples/{name}"), "latest"]).arg(folder).arg(config);
        let pushed = push.output().expect("curl is installed");
        assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
        String::from_utf8_lossy(&pushed.stdout).trim().to_owned()
    }

    fn start(&mut self) {
        let log = fs::File::create(self.path("daemon.log")).expect("a log");
        let daemon = Command::new(LONGSHORE)
            .arg("daemon")
            .args(["--state-dir".as_ref(), self.path("state").as_os_str()])
            .args(["--data-dir".as_ref(), self.path("data").as_os_str()])
            .args(["--run-dir".as_ref(), self.path("run").as_os_str()])
            .env_remove("LONGSHORE_SOCKET")
            .stderr(log)
            .spawn();
        self.daemon = Some(daemon.expect("the daemon starts"));
        self.wait("the daemon", |place| place.status()["ready"] == true);
    }

    /// Writes the example beside the state folder and moves it in whole.
    fn put(&self, name: &str, dotenv: &str) {
        let (from, made) = (root().join("examples").join(name), self.path(name));
        fs::create_dir(&made).expect("a folder");
        for entry in fs::read_dir(from).expect("the example").flatten() {
            fs::copy(entry.path(), made.join(entry.file_name())).expect("a copy");
        }
        fs::write(made.join(".env"), dotenv).expect("a file");
        fs::rename(made, self.path("state").join(name)).expect("the same file system");
    }

    fn empty(&self) {
        for entry in fs::read_dir(self.path("state")).into_iter().flatten().flatten() {
            fs::remove_dir_all(entry.path()).expect("it can be removed");
        }
    }

    fn longshore(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(LONGSHORE);
        command.args(arguments).env("LONGSHORE_SOCKET", self.path("run/longshore.sock"));
        command.output().expect("the program runs")
    }

    /// What a command prints; `logs` prints a container's standard error to its own.
    fn says(&self, arguments: &[&str]) -> String {
        let Output { stdout, stderr, .. } = self.longshore(arguments);
        format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
    }

    /// Null where no daemon answers.
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_slice(&self.longshore(arguments).stdout).unwrap_or_default()
    }

    fn status(&self) -> Value {
        self.json(&["status", "--json"])
    }

    /// Every container by its id, with the pid of its shim, where it has one.
    fn containers(&self) -> BTreeMap<String, Option<u64>> {
        let all = self.json(&["ps", "--all", "--json"]);
        let of = |c: &Value| Some((c["id"].as_str()?.to_owned(), c["state"]["shim"].as_u64()));
        all.as_array().into_iter().flatten().filter_map(of).collect()
    }

    fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !done(self) {
            if Instant::now() > end {
                let log = fs::read_to_string(self.path("daemon.log")).unwrap_or_default();
                panic!("waited in vain: {what}\n{}\n{log}", self.says(&["status"]));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).expect("a pid"));
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is our child");
            assert!(daemon.wait().expect("it is our child").success());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // After a failure the daemon is still there: it is the one who can take its containers away.
        if self.daemon.is_some() {
            self.empty();
            let end = Instant::now() + Duration::from_secs(20);
            while !self.containers().is_empty() && Instant::now() < end {
                self.longshore(&["confirm"]);
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        for child in [self.daemon.as_mut(), self.registry.as_mut()].into_iter().flatten() {
            // Both may have ended by themselves; there is nobody left to tell.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn tool(name: &str) -> Command {
    Command::new(root().join("tests/tools").join(name))
}

/// The folders in `examples` that hold a state file, by name.
fn examples() -> Vec<String> {
    let entries = fs::read_dir(root().join("examples")).expect("the examples").flatten();
    let with_file = entries.filter(|entry| entry.path().join("compose.yaml").exists());
    let mut names: Vec<String> = with_file.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn ended(status: &Value, project: &str, service: &str, end: &End) -> bool {
    let named = |list: &Value, name: &str| list.as_array().into_iter().flatten().find(|i| i["name"] == *name).cloned();
    let project = named(&status["projects"], project).unwrap_or_default();
    let Some(service) = named(&project["services"], service) else { return false };
    let first = &service["containers"][0];
    let found = (service["phase"].as_str(), service["running"].as_u64(), first["restarts"].as_u64());
    found == (Some(end.phase), Some(end.running), Some(end.restarts)) && first["state"]["code"].as_u64() == end.code
}

fn request(address: &str, text: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the web server listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.write_all(text.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// Cgroups, processes and mounts of what is no more.
fn left_behind(place: &Path, made: &BTreeMap<String, Option<u64>>) -> Vec<String> {
    let mut left = Vec::new();
    cgroups(Path::new("/sys/fs/cgroup"), 5, &|name| made.contains_key(name), &mut left);
    let place = place.display().to_string();
    for process in fs::read_dir("/proc").expect("proc").flatten() {
        let read = |name: &str| fs::read_to_string(process.path().join(name)).unwrap_or_default();
        let inside = made.keys().any(|id| read("cgroup").contains(id.as_str()));
        let shim = made.values().flatten().any(|shim| process.file_name() == *shim.to_string());
        // A number may have gone to another process since; a shim's name is known.
        if inside || (shim && read("comm").contains("longshore")) || read("mountinfo").contains(&place) {
            left.push(format!("process {}: {}", process.file_name().display(), read("cmdline")));
        }
    }
    left
}

fn cgroups(folder: &Path, depth: u32, ours: &dyn Fn(&str) -> bool, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if ours(&entry.file_name().to_string_lossy()) {
                found.push(format!("cgroup {}", entry.path().display()));
            } else if depth > 0 {
                cgroups(&entry.path(), depth - 1, ours, found);
            }
        }
    }
}
