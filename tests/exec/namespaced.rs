//! A process tree in a user namespace of its own, made by hand, and the helper sent into it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use longshore::container::ImageDefaults;
use longshore::container::exec::link::{ExecAsk, ExecOrder, ExecReport};
use longshore::container::exec::socket;
use longshore::container::link::Order;
use longshore::container::process::start_ticks;
use longshore::container::record::ContainerRecord;
use longshore::model::ProcessId;

use crate::place::{ask, sample};

/// What its root is on the host.
const OUTER: u32 = 654_321;

struct Tree {
    child: Child,
    pid: i32,
    cgroup: PathBuf,
    dir: tempfile::TempDir,
}

fn hierarchies() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let cgroups = text.lines().filter(|l| l.contains(" - cgroup"));
    cgroups.filter_map(|l| l.split(' ').nth(4).map(PathBuf::from)).collect()
}

impl Tree {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroup = PathBuf::from(format!("/longshore-namespaced-{}-{number}", std::process::id()));
        let script = "echo $$; while :; do sleep 0.1; done";
        let outer = OUTER.to_string();
        let mut child = Command::new("setpriv")
            .args(["--reuid", &outer, "--regid", &outer, "--clear-groups", "--"])
            .args(["unshare", "--map-root-user", "--mount", "--pid", "--ipc", "--uts", "--net", "--cgroup", "--fork"])
            .args(["--kill-child", "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv and unshare");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        assert_eq!(line, "1\n", "it is the first one of its namespace");
        let unshare = child.id();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).expect("children");
        let pid: i32 = children.trim().parse().expect("one");
        let tree = Self { child, pid, cgroup, dir: tempfile::tempdir().expect("a folder") };
        for folder in tree.cgroups() {
            fs::create_dir(&folder).expect("a cgroup");
            // Of v1 it would take no process before it has these.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let above = fs::read_to_string(folder.parent().expect("a folder").join(file)).unwrap_or_default();
                let _ = fs::write(folder.join(file), above.trim());
            }
            fs::write(folder.join("cgroup.procs"), pid.to_string()).expect("joined");
        }
        tree
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let below = self.cgroup.strip_prefix("/").expect("absolute").to_owned();
        hierarchies().into_iter().map(|mount| mount.join(&below)).collect()
    }

    fn order(&self, ask: ExecAsk, cgroup: &Path) -> ExecOrder {
        let (folder, run) = (self.dir.path().join("c"), self.dir.path().join("run"));
        fs::create_dir_all(&folder).expect("a folder");
        fs::create_dir_all(run.join("bundle")).expect("a folder");
        let record = ContainerRecord::new(&sample(), Vec::new(), ImageDefaults::default());
        fs::write(folder.join("container.json"), serde_json::to_vec(&record).expect("JSON")).expect("a record");
        let config = r#"{"process":{"env":["PATH=/usr/bin:/bin"],"cwd":"/"}}"#;
        fs::write(run.join("bundle/config.json"), config).expect("a configuration");
        let container: Order = serde_json::from_value(serde_json::json!({
            "folder": folder, "device_guard": true, "run": run, "cgroup": cgroup, "oom_counter": "/none", "runtime": null,
            "init": "/none", "log_bytes": 1, "log_files": 1, "boot_id": "",
        }))
        .expect("an order");
        let init = ProcessId { pid: self.pid, start_ticks: start_ticks(self.pid).expect("alive") };
        ExecOrder { container, init: init.into(), ask }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGKILL);
        let ended = self.child.wait();
        let end = std::time::Instant::now() + crate::place::LIMIT;
        for folder in self.cgroups() {
            while folder.exists() && fs::remove_dir(&folder).is_err() && std::time::Instant::now() < end {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        assert!(std::thread::panicking() || ended.is_ok());
    }
}

/// Sends a helper in: what its first report was, what the command wrote, and what became of it.
fn send(order: &ExecOrder) -> (ExecReport, String, Option<ExecReport>) {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    let mut helper = Command::new(env!("CARGO_BIN_EXE_longshore"))
        .args(["runtime", "exec"])
        .env("SECRET_OF_OURS", "1")
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .expect("the helper");
    let json = serde_json::to_vec(order).expect("JSON");
    ours.write_all(&u32::try_from(json.len()).expect("short").to_be_bytes()).expect("sent");
    ours.write_all(&json).expect("sent");
    let (mut line, mut descriptors) = (Vec::new(), Vec::new());
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        let (count, more) = socket::receive(&ours, &mut byte).expect("received");
        assert_eq!(count, 1, "a whole line");
        line.push(byte[0]);
        descriptors.extend(more);
    }
    let first = serde_json::from_slice(&line).expect("a report");
    let mut out = String::new();
    for fd in descriptors {
        fs::File::from(fd).read_to_string(&mut out).expect("text");
    }
    let mut rest = String::new();
    ours.read_to_string(&mut rest).expect("text");
    assert!(helper.wait().expect("our child").success());
    (first, out, serde_json::from_str(&rest).ok())
}

#[test]
fn the_user_namespace_is_entered_and_nobody_in_it_is_root_of_the_host() {
    let tree = Tree::new();
    let file = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", tree.pid)).expect("alive");
    let script = "cat /proc/self/uid_map; grep -E '^(Uid|Gid|Groups|Cap|Secc|NoNew)' /proc/self/status; env; \
                  for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; ls /proc/self/fd";
    let order = tree.order(ask(&["sh", "-c", script]), &tree.cgroup);
    let (started, out, end) = send(&order);
    assert!(matches!(started, ExecReport::Started { .. }), "{started:?}");
    assert!(matches!(end, Some(ExecReport::Ended(end)) if end.code == Some(0)), "{end:?} {out}");
    assert!(out.starts_with(&file("uid_map")) && out.contains(&format!("0     {OUTER}          1")), "{out}");
    for n in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let link = fs::read_link(format!("/proc/{}/ns/{n}", tree.pid)).expect("alive").display().to_string();
        assert!(out.lines().any(|l| l == link), "{link} in {out}");
    }
    for line in
        ["Uid:\t0\t0\t0\t0", "Seccomp:\t2", "CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "Groups:\t "]
    {
        assert!(out.lines().any(|l| l == line), "{line:?} in {out}");
    }
    assert!(!out.contains("SECRET") && out.ends_with("0\n1\n2\n3\n"), "{out}");
}

#[test]
fn what_is_not_the_containers_is_not_entered() {
    let tree = Tree::new();
    let refused = |order: &ExecOrder| match send(order).0 {
        ExecReport::Failed(failure) => failure.to_string(),
        other => panic!("{other:?}"),
    };
    let elsewhere = refused(&tree.order(ask(&["true"]), Path::new("/longshore/other")));
    assert!(elsewhere.contains("is not in the container's cgroup"), "{elsewhere}");
    let mut another = tree.order(ask(&["true"]), &tree.cgroup);
    another.init = ProcessId { pid: tree.pid, start_ticks: 1 }.into();
    assert_eq!(refused(&another), "the container has ended");
    // Its namespace knows one user only; nobody else can be become.
    let mut stranger = tree.order(ask(&["true"]), &tree.cgroup);
    stranger.ask.user = Some("33".into());
    assert!(refused(&stranger).contains("the user cannot be become"));
}
