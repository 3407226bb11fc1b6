//! Every example runs: each is put into a state folder with an image from a registry of our own, comes to the end that its
//! comments promise, and leaves nothing behind. As root, with Debian's static busybox and docker-registry.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const LONGSHORE: &str = env!("CARGO_BIN_EXE_longshore");

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
        ("job", vec![("report", End { phase: "applied", running: 0, restarts: 0, code: Some(0) })]),
        ("limits", vec![("shared", runs(2)), ("small", runs(1))]),
        ("quickstart", vec![("web", runs(1))]),
        ("workers", vec![("worker", runs(3))]),
    ])
}

#[test]
fn every_example_comes_to_its_end_and_leaves_nothing() {
    let mut place = Place::new();
    let (image, address) = (place.image(), format!("127.0.0.1:{}", free_port()));
    place.start();
    let expected = expected();
    assert_eq!(
        examples(),
        expected.keys().map(ToString::to_string).collect::<Vec<_>>(),
        "each example has an end here"
    );
    for name in expected.keys() {
        place.put(name, &format!("IMAGE={image}\nADDRESS={address}\n"));
    }
    place.wait("every example settles as expected", |place| {
        let status = place.status();
        let all =
            expected.iter().all(|(name, ends)| ends.iter().all(|(service, end)| ended(&status, name, service, end)));
        all && status["settled"] == true && status["problems"].as_array().is_some_and(Vec::is_empty)
    });
    assert!(page(&address).contains("Hello from Longshore"));
    assert!(place.says(&["logs", "job/report"]).contains("report for 2026-01-01"));
    assert!(place.says(&["logs", "crash/broken"]).contains("cannot find my database"));
    assert!(place.says(&["logs", "crash/flaky"]).contains("start number 3"));
    assert_eq!(place.says(&["logs", "workers/worker"]).matches("takes from high every 5 s").count(), 3);
    assert!(place.says(&["logs", "limits/small"]).contains("small runs as 65534"));
    assert_eq!(place.says(&["logs", "limits/shared"]).matches("shared runs").count(), 2);
    assert!(place.says(&["logs", "anchors/front"]).contains("front logs at info"));
    assert!(place.says(&["logs", "anchors/back"]).contains("back logs at debug"));

    let made = place.containers();
    assert_eq!(made.len(), 12);
    place.empty();
    // The folder is empty now, and that is meant: whether or not it has to be said depends on how the files went.
    place.wait("everything is removed", |place| {
        place.longshore(&["confirm"]);
        place.containers().is_empty() && place.status()["settled"] == true
    });
    place.stop();
    assert_eq!(left_behind(place.dir.path(), &made), Vec::<String>::new());
}

#[test]
fn the_demo_runs() {
    let demo = Command::new(root().join("examples/demo.sh")).env("LONGSHORE", LONGSHORE).output().expect("the demo");
    let (said, wrong) = (String::from_utf8_lossy(&demo.stdout), String::from_utf8_lossy(&demo.stderr));
    assert!(demo.status.success(), "{said}\n{wrong}");
    assert!(said.contains("left behind: 0 mounts"), "{said}");
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

    /// Pushes busybox to a registry that is started for it, and names the image.
    fn image(&mut self) -> String {
        let port = free_port();
        let registry =
            tool("registry.sh").arg(port.to_string()).arg(self.path("registry")).stderr(Stdio::null()).spawn();
        self.registry = Some(registry.expect("docker-registry is installed"));
        self.wait("the registry", |_| TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(tool("busybox-root.sh").arg(self.path("root")).status().expect("a shell").success());
        let pushed = tool("push-image.sh")
            .args([&format!("127.0.0.1:{port}"), "examples/busybox", "latest"])
            .arg(self.path("root"))
            .arg(r#"{"Cmd":["/bin/sh"],"Env":["PATH=/bin"]}"#)
            .output()
            .expect("curl is installed");
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

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("it is bound").port()
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

fn page(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the web server listens");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    text
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
