//! A daemon of its own, with its own folders, and everything that it made ended with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::base::{new_dir, tool};
use super::{host, http};

/// Nothing is waited for longer than this.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Lab {
    pub(crate) dir: PathBuf,
    pub(crate) instance: String,
    /// The state folder's name.
    pub(crate) state_name: String,
    daemon: Option<Child>,
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) id: String,
    pub(crate) pid: i32,
    pub(crate) shim: i32,
}

impl Lab {
    /// A running daemon with the default configuration.
    pub(crate) fn new() -> Self {
        Self::with(&json!({}))
    }

    /// A running daemon with this configuration.
    pub(crate) fn with(config: &Value) -> Self {
        let mut lab = Self::stopped(config);
        lab.start();
        lab
    }

    /// The folders only.
    pub(crate) fn stopped(config: &Value) -> Self {
        let dir = new_dir();
        for name in ["state", "data", "run"] {
            fs::create_dir(dir.join(name)).expect("a folder");
        }
        let instance = longshore::container::instance_of(&dir.join("data")).expect("a data directory");
        fs::write(dir.join("instance"), &instance).expect("a note for the sweep");
        fs::write(dir.join("config.json"), config.to_string()).expect("a configuration");
        Self { dir, instance, state_name: "state".into(), daemon: None }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join(&self.state_name)
    }
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("run/longshore.sock")
    }

    /// The command line of a daemon for this lab, with another way to its data directory where one is given.
    pub(crate) fn daemon_command(&self, data: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        command.args(["daemon", "--config"]).arg(self.dir.join("config.json"));
        command.arg("--state-dir").arg(self.state()).arg("--data-dir").arg(data);
        command.arg("--run-dir").arg(self.dir.join("run")).env_remove("LONGSHORE_SOCKET").stdin(Stdio::null());
        command
    }

    /// Starts the daemon and waits for its first look to be acted upon.
    pub(crate) fn start(&mut self) {
        self.start_unready();
        self.wait_for("the daemon to be ready", |s| s["ready"].as_bool()?.then_some(()));
    }

    /// Starts the daemon.
    pub(crate) fn start_unready(&mut self) {
        assert!(self.daemon.is_none(), "one daemon at a time");
        let log = File::options().create(true).append(true).open(self.dir.join("log")).expect("a log");
        let daemon = self.daemon_command(&self.data()).stdout(log.try_clone().expect("a log")).stderr(log).spawn();
        self.daemon = Some(daemon.expect("the daemon's program"));
    }

    pub(crate) fn daemon_pid(&self) -> i32 {
        i32::try_from(self.daemon.as_ref().expect("a daemon").id()).expect("a pid")
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon");
        daemon.kill().and_then(|()| daemon.wait()).expect("our child");
    }

    /// SIGTERM; how it ended and how long that took.
    pub(crate) fn stop(&mut self) -> (ExitStatus, Duration) {
        let mut daemon = self.daemon.take().expect("a daemon");
        let begun = Instant::now();
        host::signal(i32::try_from(daemon.id()).expect("a pid"), Signal::SIGTERM);
        loop {
            if let Some(status) = daemon.try_wait().expect("our child") {
                return (status, begun.elapsed());
            }
            if begun.elapsed() > LIMIT {
                self.daemon = Some(daemon);
                panic!("the daemon does not stop");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Makes a file of the state folder whole at once, as an editor does.
    pub(crate) fn put(&self, path: &str, text: &str) {
        let target = self.state().join(path);
        fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
        let new = self.dir.join("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, target)).expect("a state file");
    }

    pub(crate) fn remove(&self, path: &str) {
        fs::remove_file(self.state().join(path)).expect("a state file");
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Runs the client.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        self.client(args).output().expect("the program")
    }

    pub(crate) fn client(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        command.args(args).env("LONGSHORE_SOCKET", self.socket()).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// Runs the client with this on its standard input.
    pub(crate) fn fed(&self, args: &[&str], input: &str) -> Output {
        use std::io::Write as _;
        let mut command = self.client(args);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut client = command.spawn().expect("the program");
        client.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads to the end");
        client.wait_with_output().expect("our child")
    }

    /// Waits until `seen` finds what it looks for, anywhere.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
        self.wait_for(what, |_| seen())
    }

    pub(crate) fn status(&self) -> Value {
        http::get(&self.socket(), "/api/v1/status").map_or(Value::Null, |(_, status)| status)
    }

    /// Waits until `seen` finds in the status what it looks for.
    #[track_caller]
    pub(crate) fn wait_for<T>(&self, what: &str, mut seen: impl FnMut(&Value) -> Option<T>) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            let status = self.status();
            if let Some(found) = seen(&status) {
                return found;
            }
            assert!(Instant::now() < end, "waited {} s in vain for {what}", LIMIT.as_secs());
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// Waits until this container runs and nothing else is left to do.
    #[track_caller]
    pub(crate) fn running(&self, name: &str) -> Running {
        self.wait_for(&format!("{name} to run"), |s| {
            (s["settled"] == true).then(|| container(s, name).and_then(running)).flatten()
        })
    }

    /// Waits until this container runs as another one than `before`.
    #[track_caller]
    pub(crate) fn replaced(&self, name: &str, before: &Running) -> Running {
        self.wait_for(&format!("{name} to be another one"), |s| {
            let now = container(s, name).and_then(running)?;
            (s["settled"] == true && now.pid != before.pid).then_some(now)
        })
    }

    /// Waits until this container runs, as another one than `before` where that is given; whatever else is left to do.
    #[track_caller]
    pub(crate) fn runs(&self, name: &str, before: Option<&Running>) -> Running {
        self.wait_for(&format!("{name} to run by now"), |s| {
            let now = container(s, name).and_then(running)?;
            before.is_none_or(|before| before.pid != now.pid).then_some(now)
        })
    }

    /// Waits until this container has ended for good; its exit code.
    #[track_caller]
    pub(crate) fn exited(&self, name: &str) -> i64 {
        self.wait_for(&format!("{name} to end"), |s| {
            let state = &container(s, name)?["state"];
            (s["settled"] == true && state["status"] == "exited").then(|| state["code"].as_i64()).flatten()
        })
    }

    /// What is in force again after something else changed: settled, and the very same container.
    #[track_caller]
    pub(crate) fn still(&self, name: &str, before: &Running) {
        assert_eq!(self.running(name), *before, "{name} was touched");
        assert!(host::alive(before.pid));
    }

    #[track_caller]
    pub(crate) fn gone(&self, name: &str) {
        self.wait_for(&format!("{name} to be gone"), |s| {
            (s["settled"] == true && container(s, name).is_none()).then_some(())
        });
    }

    /// Waits for a problem whose message or hint says this; the whole problem.
    #[track_caller]
    pub(crate) fn problem(&self, text: &str) -> Value {
        // As JSON has it.
        let text = text.replace('"', "\\\"");
        self.wait_for(&format!("a problem that says {text}"), |s| {
            all_problems(s).into_iter().find(|p| p.to_string().contains(&text))
        })
    }

    #[track_caller]
    pub(crate) fn no_problems(&self) {
        self.wait_for("no problems", |s| all_problems(s).is_empty().then_some(()));
    }

    /// What a container wrote to both streams.
    pub(crate) fn output(&self, name: &str) -> String {
        let logs = self.cli(&["logs", name]);
        String::from_utf8_lossy(&[logs.stdout, logs.stderr].concat()).into_owned()
    }

    /// Waits until the container's output holds this.
    #[track_caller]
    pub(crate) fn says(&self, name: &str, text: &str) -> String {
        let mut output = String::new();
        self.wait_for(&format!("{name} to say {text:?}"), |_| {
            output = self.output(name);
            output.contains(text).then_some(())
        });
        output
    }

    /// Puts a file with this one service, waits for its end, and gives what it said.
    #[track_caller]
    pub(crate) fn seen_inside(&self, command: &str, more: &[&str]) -> String {
        // Another name each time, so that the end of the last one is not taken for the end of this one.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let service = format!("n{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.put("inside.yaml", &super::file(&[super::with(&service, command, more)]));
        let name = format!("inside-{service}-1");
        assert_eq!(self.exited(&name), 0, "{}", self.output(&name));
        self.output(&name).trim_end().to_owned()
    }

    pub(crate) fn pids_of(&self, container: &Running) -> Vec<i32> {
        host::pids_in(&self.instance, &container.id)
    }

    /// Removes every state file, waits until nothing of them is left, stops the daemon and looks for leftovers.
    #[track_caller]
    pub(crate) fn finish(self) {
        self.finish_with(|| {});
    }

    /// The same, with a look of one's own before the folders are gone.
    #[track_caller]
    pub(crate) fn finish_with(mut self, look: impl FnOnce()) {
        if self.daemon.is_none() {
            self.start();
        }
        for entry in fs::read_dir(self.state()).expect("the state folder").flatten() {
            let path = entry.path();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
        }
        let mut confirmed = false;
        self.wait_for("everything to be removed", |s| {
            if s["folder"]["held"]["confirmable"] == true && !confirmed {
                confirmed = self.cli(&["confirm"]).status.success();
            }
            (s["settled"] == true && s["projects"] == json!([])).then_some(())
        });
        let (status, took) = self.stop();
        assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
        assert_eq!(self.leftovers(), Vec::<String>::new());
        look();
    }

    /// All that a daemon without containers must not leave on the machine.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let data = self.data().display().to_string();
        let processes = host::pids_naming(&data).into_iter().filter(|pid| host::alive(*pid)).map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("process {pid}: {}", String::from_utf8_lossy(&line).replace('\0', " "))
        });
        let cgroups = host::cgroups(&self.instance).into_iter().map(|path| format!("cgroup {}", path.display()));
        let mounts = host::mounts(&self.dir).into_iter().map(|line| format!("mount {line}"));
        let folders = ["data/containers", "data/trash", "run/c"].into_iter().flat_map(|folder| {
            let entries = fs::read_dir(self.dir.join(folder)).into_iter().flatten().flatten();
            entries.map(|entry| format!("folder {}", entry.path().display()))
        });
        let drafts = ["data", "data/images"].into_iter().flat_map(|folder| {
            let entries = fs::read_dir(self.dir.join(folder)).into_iter().flatten().flatten();
            entries.map(|e| e.path().display().to_string()).filter(|p| p.contains("tmp") && p.ends_with("tmp"))
        });
        let drafts: Vec<String> = drafts
            .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
            .map(|e| format!("draft {}", e.path().display()))
            .collect();
        processes.chain(cgroups).chain(mounts).chain(folders).chain(drafts).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.lines().count().saturating_sub(40);
            let tail: Vec<&str> = log.lines().skip(from).collect();
            eprintln!("-- status\n{:#}\n-- log\n{}", self.status(), tail.join("\n"));
        }
        if let Some(mut daemon) = self.daemon.take()
            && daemon.kill().and_then(|()| daemon.wait()).is_err()
        {
            eprintln!("the daemon of {} did not end", self.dir.display());
        }
        let swept = Command::new(tool("sweep.sh")).arg(&self.dir).status();
        assert!(std::thread::panicking() || swept.is_ok_and(|s| s.success()), "swept");
    }
}

/// How a client ended that is to end by itself.
#[track_caller]
pub(crate) fn ended(mut child: Child) -> Output {
    let end = Instant::now() + LIMIT;
    while child.try_wait().expect("our child").is_none() {
        if Instant::now() > end {
            child.kill().expect("our child");
            panic!("it did not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("our child")
}

/// A container of the status by its name.
pub(crate) fn container<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    containers(status).find(|c| c["name"] == name)
}

pub(crate) fn containers(status: &Value) -> impl Iterator<Item = &Value> {
    let projects = status["projects"].as_array().into_iter().flatten();
    let services = projects.flat_map(|p| p["services"].as_array().into_iter().flatten());
    services.flat_map(|s| s["containers"].as_array().into_iter().flatten())
}

pub(crate) fn service<'a>(status: &'a Value, project: &str, name: &str) -> Option<&'a Value> {
    let project = status["projects"].as_array()?.iter().find(|p| p["name"] == project)?;
    project["services"].as_array()?.iter().find(|s| s["name"] == name)
}

fn running(container: &Value) -> Option<Running> {
    let state = &container["state"];
    let number = |key: &str| state[key].as_i64().and_then(|n| i32::try_from(n).ok());
    (state["status"] == "running").then_some(())?;
    Some(Running { id: container["id"].as_str()?.to_owned(), pid: number("pid")?, shim: number("shim")? })
}

/// The problems of the files and the holds of the services.
pub(crate) fn all_problems(status: &Value) -> Vec<Value> {
    let mut all = status["problems"].as_array().cloned().unwrap_or_default();
    let projects = status["projects"].as_array().into_iter().flatten();
    for service in projects.flat_map(|p| p["services"].as_array().into_iter().flatten()) {
        all.extend(service["holds"].as_array().cloned().unwrap_or_default());
    }
    all
}

/// `file:line:column` of a problem.
pub(crate) fn place(problem: &Value) -> String {
    format!("{}:{}:{}", problem["file"].as_str().unwrap_or("?"), problem["line"], problem["column"])
}
