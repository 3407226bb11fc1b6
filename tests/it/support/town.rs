//! A machine of its own as far as networks go: the test's thread leaves the host's network, and so do all that it starts. Beside it
//! lies an outside world with one wire in between.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use super::lab::{self, LIMIT, Lab};
use super::registry::Registry;

/// This machine, as the outside world sees it.
pub(crate) const HOST: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
/// The outside world, as this machine sees it.
pub(crate) const OUTSIDE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

pub(crate) struct Town {
    pub(crate) lab: Lab,
    pub(crate) image: String,
    _registry: Registry,
    outside: Holder,
}

/// A process that keeps a network namespace.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        if self.0.kill().and_then(|()| self.0.wait()).is_err() {
            eprintln!("the outside world did not end");
        }
    }
}

impl Town {
    pub(crate) fn new() -> Self {
        Self::with(&json!({}))
    }

    /// With this configuration of the daemon.
    pub(crate) fn with(config: &Value) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let outside = Holder(
            Command::new("unshare").args(["-n", "sleep", "infinity"]).stdin(Stdio::null()).spawn().expect("unshare"),
        );
        let pid = outside.0.id().to_string();
        let end = Instant::now() + LIMIT;
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        while namespace(&pid) == namespace("thread-self") || namespace(&pid) == namespace("self") {
            assert!(Instant::now() < end, "the outside world does not come");
            std::thread::sleep(Duration::from_millis(2));
        }
        let here = "ip link set lo up
            ip link add wire0 type veth peer name wire1 netns PID
            ip addr add 192.0.2.2/24 dev wire0; ip -6 addr add 2001:db8::2/64 dev wire0 nodad; ip link set wire0 up";
        sh(&here.replace("PID", &pid));
        let there = "ip link set lo up; ip addr add 192.0.2.1/24 dev wire1; ip -6 addr add 2001:db8::1/64 dev wire1 nodad; ip link set wire1 up";
        sh(&format!("nsenter -t {pid} -n sh -ec '{there}'"));
        sh("ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8::1");
        let registry = Registry::start(5000);
        let image = registry.push_box();
        Self { lab: Lab::with(config), image, _registry: registry, outside }
    }

    /// A service of the test image; `command` is YAML. Further lines belong to the service.
    pub(crate) fn service(&self, name: &str, command: &str, more: &[&str]) -> String {
        let mut text = format!("  {name}:\n    image: {}\n    command: {command}\n", self.image);
        for line in more {
            text.push_str(&format!("    {line}\n"));
        }
        text
    }

    /// A service that answers on port 7000 with its name.
    pub(crate) fn server(&self, name: &str, more: &[&str]) -> String {
        self.service(name, &format!("[reach, serve, '7000', {name}]"), more)
    }

    /// Runs a shell script in a container; what it printed.
    #[track_caller]
    pub(crate) fn inside(&self, container: &str, script: &str) -> String {
        text(&self.lab.cli(&["exec", container, "sh", "-c", script]))
    }

    /// Runs a shell script on the host; what it printed. The test programs are in its path.
    pub(crate) fn here(&self, script: &str) -> String {
        text(&self.command(Command::new("sh").args(["-c", script])))
    }

    /// Runs a shell script in the outside world; what it printed.
    pub(crate) fn outside(&self, script: &str) -> String {
        let pid = self.outside.0.id().to_string();
        text(&self.command(Command::new("nsenter").args(["-t", &pid, "-n", "sh", "-c", script])))
    }

    fn command(&self, command: &mut Command) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", programs().display())).stdin(Stdio::null()).output().expect("a shell")
    }

    /// A container's first address in each family, from inside: IPv4, IPv6.
    #[track_caller]
    pub(crate) fn addresses(&self, container: &str) -> (String, String) {
        let seen = self.inside(container, "ip -o addr show scope global");
        let one = |family: &str| {
            let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let line = seen.lines().map(words).find(|line| line[2] == family);
            line.map(|line| line[3].split('/').next().unwrap_or_default().to_owned()).unwrap_or_default()
        };
        (one("inet"), one("inet6"))
    }

    /// Everything is removed, the daemon stopped, and nothing left.
    #[track_caller]
    pub(crate) fn finish(self) {
        let Self { lab, image: _, _registry, outside } = self;
        let data = lab.data();
        let socket = lab.socket();
        lab.finish_with(|| {
            // The kernel clears a network namespace away a moment after its last process has ended.
            let until = Instant::now() + LIMIT;
            let look = || text(&Command::new("sh").args(["-c", LEFT]).output().expect("a shell"));
            let mut left = look();
            while !left.is_empty() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
                left = look();
            }
            assert_eq!(left, "", "left on the host");
            let records = std::fs::read_dir(data.join("networks")).expect("a folder").count();
            assert_eq!(records, 0, "records of networks are left");
            assert!(!socket.exists());
        });
        drop(outside);
    }
}

/// What of networks is on the host beside the town's own: interfaces, rules, routes.
const LEFT: &str = "ip -br link | grep -v -e '^lo ' -e '^wire0@'; nft list ruleset; \
    ip -4 route show table all | grep -v -e wire0 -e ' lo '; true";

/// The folder of the test programs.
fn programs() -> PathBuf {
    super::registry::root().parent().expect("a folder").to_owned()
}

#[track_caller]
fn sh(script: &str) {
    let done = Command::new("sh").args(["-ec", script]).output().expect("a shell");
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
}

fn text(output: &Output) -> String {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&all).trim_end().to_owned()
}

/// The addresses of a service's containers in the status, sorted.
pub(crate) fn running(status: &Value, project: &str) -> usize {
    let name = |c: &&Value| c["name"].as_str().is_some_and(|name| name.starts_with(&format!("{project}-")));
    lab::containers(status).filter(name).filter(|c| c["state"]["status"] == "running").count()
}
