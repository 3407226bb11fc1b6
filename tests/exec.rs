//! Commands executed in containers on the real host: as root, with a root made of Debian's static busybox.

use std::fs;
use std::path::Path;
use std::time::Duration;

use longshore::container::privileges::Defaults;
use longshore::container::{ExecError, ExecStreams};
use longshore::model::{Capability, CapabilitySet, Limit, LimitRange, Seccomp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[path = "exec/namespaced.rs"]
mod namespaced;
#[path = "exec/place.rs"]
mod place;

use place::{LIMIT, Place, ask, finish, sh, until};

/// Lines of a status file that say what a process may do.
fn confinement(status: &str) -> Vec<String> {
    let names = ["Cap", "NoNewPrivs:", "Seccomp:", "Uid:", "Gid:"];
    status.lines().filter(|l| names.iter().any(|n| l.starts_with(n))).map(str::to_owned).collect()
}

#[tokio::test]
async fn streams_and_codes_are_those_of_the_command() {
    let place = Place::new();
    let idle = place.idle(|_| {}).await;
    let (out, err, end) = place.run(&idle, sh("echo out; echo err >&2; exit 3")).await;
    assert_eq!((out.as_str(), err.as_str(), end.code, end.signal), ("out\n", "err\n", Some(3), None));
    let (_, _, end) = place.run(&idle, sh("kill -USR1 $$")).await;
    assert_eq!((end.code, end.signal, end.container_ended), (None, Some(10), false));
    let (_, _, end) = place.run(&idle, sh("kill -KILL $$")).await;
    assert_eq!((end.code, end.signal, end.container_ended), (None, Some(9), false));
    assert_eq!(place.says(&idle, "cat; readlink /proc/self/fd/0").await, "/dev/null\n");
    // Both are the container's from here on: nobody of the host's is left in them.
    assert_eq!(place.says(&idle, "ls /proc/self/fd").await, "0\n1\n2\n3\n");
    let other = place.exec(&idle, ask(&["cat"])).await.expect("one that is not waited for");
    drop(other);
}

#[tokio::test]
async fn what_cannot_be_executed_is_said_in_words() {
    let place = Place::new();
    let idle = place.idle(|_| {}).await;
    let refused = async |ask| match place.exec(&idle, ask).await {
        Err(ExecError::NotFound(words)) => format!("127 {words}"),
        Err(ExecError::NotStarted(words)) => format!("126 {words}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it runs"),
    };
    let missing = refused(ask(&["nothing-here"])).await;
    assert!(missing.starts_with("127 ") && missing.contains("nothing-here") && missing.contains("/bin"), "{missing}");
    assert!(refused(ask(&["/bin/none"])).await.starts_with("127 "));
    assert!(refused(ask(&["/bin/broken"])).await.contains("127 command \"/bin/broken\": its interpreter"));
    assert!(refused(ask(&["/bin/plain"])).await.contains("126 command \"/bin/plain\": permission denied"));
    assert!(refused(ask(&["/tmp"])).await.contains("126 command \"/tmp\" is a directory"));
    let mut stranger = sh("id");
    stranger.user = Some("nobody-here".into());
    assert!(refused(stranger).await.contains("no user \"nobody-here\""));
    let mut lost = sh("pwd");
    lost.working_dir = Some("/no/where".into());
    assert!(refused(lost).await.contains("working directory \"/no/where\""));
    // Nobody is left of any of it.
    assert_eq!(place.says(&idle, "ps -o args | grep -c [l]ongshore; true").await, "0\n");
    place.all().stop(&idle.id, None, 5_000).await.expect("stopped");
    assert!(matches!(place.exec(&idle, sh("true")).await, Err(ExecError::NotRunning)));
}

#[tokio::test]
async fn it_is_confined_as_the_container_is() {
    let place = Place::new();
    let idle = place.idle(|_| {}).await;
    let init = place.init(&idle).pid;
    let status = place.says(&idle, "cat /proc/self/status").await;
    let seen = confinement(&status);
    assert_eq!(seen, confinement(&fs::read_to_string(format!("/proc/{init}/status")).expect("alive")));
    assert!(
        seen.contains(&"Seccomp:\t2".to_owned()) && seen.contains(&"CapEff:\t00000000800405fb".to_owned()),
        "{seen:?}"
    );
    // The same namespaces as process 1, and the same cgroups.
    let script = "for n in cgroup ipc mnt net pid time user uts; do \
                  [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo $n; done";
    assert_eq!(place.says(&idle, script).await, "");
    let cgroups = place.exec(&idle, ask(&["cat", "/proc/self/cgroup", "/proc/1/cgroup"])).await.expect("runs");
    let (text, _, _) = finish(cgroups).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..lines.len() / 2], lines[lines.len() / 2..]);
    // From outside, too.
    let sleeper = place.exec(&idle, ask(&["sleep", "77"])).await.expect("runs");
    let pid = pid_of(&place, &idle, "sleep\x0077").await;
    let of = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("alive");
    assert_eq!(of(pid), of(init));
    let limits = |pid: i32| fs::read_to_string(format!("/proc/{pid}/limits")).expect("alive");
    assert_eq!(limits(pid), limits(init));
    let score = |pid: i32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("alive");
    assert_eq!(score(pid), score(init));
    let links: Vec<_> =
        fs::read_dir(format!("/proc/{pid}/fd")).expect("alive").flatten().map(|e| e.file_name()).collect();
    assert_eq!(links, ["0", "1", "2"]);
    drop(sleeper);
    until("the end of what nobody waits for", || !Path::new(&format!("/proc/{pid}")).exists()).await;
    let refused = "unshare -U true 2>&1; mount -t tmpfs x /tmp 2>&1; true";
    let refused = place.says(&idle, refused).await;
    assert!(refused.contains("Operation not permitted") && refused.contains("mount: permission denied"), "{refused}");
}

#[tokio::test]
async fn no_new_privileges_and_a_user_are_kept() {
    let place = Place::new();
    let idle = place.idle(|s| s.isolation.groups = vec!["media".into(), "77".into()]).await;
    let mut web = sh("cat /proc/self/status; id; env; touch /proc/self/fd/1 2>/dev/null; echo x > /dev/stdout");
    web.user = Some("web".into());
    let (out, _, end) = place.run(&idle, web.clone()).await;
    assert_eq!(end.code, Some(0), "{out}");
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t00000000800405fb",
        "CapAmb:\t0000000000000000",
        "Seccomp:\t2",
        "NoNewPrivs:\t0",
        "HOME=/var/www",
        "x",
    ] {
        assert!(out.lines().any(|l| l == line), "{line} in {out}");
    }
    assert!(
        out.contains("uid=33(web) gid=44(web)") && out.contains("55(logs)") && out.contains("66(media),77"),
        "{out}"
    );
    let who = async |user: &str| {
        let mut ask = ask(&["id"]);
        ask.user = Some(user.to_owned());
        place.run(&idle, ask).await.0
    };
    assert!(who("4711").await.contains("uid=4711 gid=0(root)"));
    assert!(who("web:logs").await.contains("uid=33(web) gid=55(logs)"));
    assert!(who("0").await.contains("uid=0(root) gid=0(root)"));
}

#[tokio::test]
async fn privileged_is_all_that_we_have_and_no_seccomp() {
    let place = Place::new();
    let idle = place.idle(|_| {}).await;
    let own = fs::read_to_string("/proc/self/status").expect("ours");
    let permitted = own.lines().find_map(|l| l.strip_prefix("CapPrm:\t")).expect("a line");
    let mut wide = sh("grep -E '^(Cap|Secc)' /proc/self/status");
    wide.privileged = true;
    let (out, _, _) = place.run(&idle, wide).await;
    for line in [format!("CapEff:\t{permitted}"), format!("CapBnd:\t{permitted}"), "Seccomp:\t0".into()] {
        assert!(out.lines().any(|l| l == line), "{line} in {out}");
    }
}

#[tokio::test]
async fn it_sees_the_containers_variables_and_none_of_ours() {
    let place = Place::new();
    let idle = place.idle(|s| s.hostname = Some("box".into())).await;
    let mut changed = ask(&["env"]);
    changed.environment = vec!["NEW=a=b".into(), "GREETING".into()];
    let (out, _, _) = place.run(&idle, changed).await;
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["HOME=/root", "HOSTNAME=box", "NEW=a=b", "PATH=/bin"]);
    let mut there = ask(&["pwd"]);
    there.working_dir = Some("/var/www".into());
    assert_eq!(place.run(&idle, there).await.0, "/var/www\n");
    let mut outside = ask(&["pwd"]);
    outside.working_dir = Some("/proc/self/fd/7".into());
    assert!(matches!(place.exec(&idle, outside).await, Err(ExecError::NotStarted(_))));
}

#[tokio::test]
async fn ten_mebibytes_go_through_both_ways() {
    let place = Place::new();
    let idle = place.idle(|_| {}).await;
    let mut cat = ask(&["cat"]);
    cat.streams = ExecStreams::Pipes { stdin: true };
    let mut exec = place.exec(&idle, cat).await.expect("runs");
    let sent: Vec<u8> = (0..10_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (mut stdin, mut stdout) = (exec.stdin.take().expect("open"), exec.stdout.take().expect("open"));
    let copy = sent.clone();
    let writing = tokio::spawn(async move { stdin.write_all(&copy).await });
    let mut seen = Vec::new();
    tokio::time::timeout(LIMIT, stdout.read_to_end(&mut seen)).await.expect("in time").expect("read");
    writing.await.expect("sent").expect("taken");
    assert!(seen == sent, "{} bytes", seen.len());
    assert_eq!(exec.ending.ended().await.expect("an end").code, Some(0));
}

#[tokio::test]
async fn a_terminal_has_a_size_a_session_and_its_own_user() {
    let place = Place::new();
    let idle = place.idle(|_| {}).await;
    let mut shell = sh(
        "trap 'stty size; exit 4' WINCH; stty size; readlink /proc/self/fd/2; ls -l /dev/pts/0; env; while :; do sleep 0.05; done",
    );
    shell.streams = ExecStreams::Terminal { rows: 33, columns: 44 };
    shell.user = Some("web".into());
    let mut exec = place.exec(&idle, shell).await.expect("runs");
    assert!(exec.stderr.is_none());
    let mut stdout = exec.stdout.take().expect("a terminal");
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("TERM=xterm") || !seen.contains("HOME=") || !seen.contains("PATH=") {
        let count = tokio::time::timeout(LIMIT, stdout.read(&mut buffer)).await.expect("in time").expect("read");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(seen.starts_with("33 44\r\n/dev/pts/0\r\n") && seen.contains("web"), "{seen}");
    exec.control.resize(50, 60).expect("resized");
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(LIMIT, stdout.read_to_end(&mut rest)).await.expect("in time");
    assert!(String::from_utf8_lossy(&rest).contains("50 60\r\n"));
    assert_eq!(exec.ending.ended().await.expect("an end").code, Some(4));
    // Ctrl+C is the terminal's.
    let mut shell = sh("trap 'echo caught; exit 5' INT; echo up; while :; do sleep 0.05; done");
    shell.streams = ExecStreams::Terminal { rows: 1, columns: 80 };
    let mut exec = place.exec(&idle, shell).await.expect("runs");
    let mut stdout = exec.stdout.take().expect("a terminal");
    let count = stdout.read(&mut buffer).await.expect("read");
    assert_eq!(&buffer[..count], b"up\r\n");
    exec.stdin.take().expect("a terminal").write_all(b"\x03").await.expect("sent");
    assert_eq!(tokio::time::timeout(LIMIT, exec.ending.ended()).await.expect("in time").expect("an end").code, Some(5));
}

#[tokio::test]
async fn it_ends_with_who_asked_for_it_and_with_its_container() {
    let place = Place::new();
    let idle = place.idle(|_| {}).await;
    for streams in [ExecStreams::Pipes { stdin: true }, ExecStreams::Terminal { rows: 9, columns: 9 }] {
        let mut sleep = ask(&["sleep", "78"]);
        sleep.streams = streams;
        let exec = place.exec(&idle, sleep).await.expect("runs");
        let pid = pid_of(&place, &idle, "sleep\x0078").await;
        drop(exec);
        until("it is hung up", || !Path::new(&format!("/proc/{pid}")).exists()).await;
    }
    // A signal reaches its whole group.
    let exec = place.exec(&idle, sh("sleep 79; true")).await.expect("runs");
    pid_of(&place, &idle, "sleep\x0079").await;
    exec.control.signal(15).expect("sent");
    assert_eq!(finish(exec).await.2.signal, Some(15));
    // One on its own does not mind, and ends with the container.
    let mut alone = ask(&["sleep", "80"]);
    alone.streams = ExecStreams::None;
    drop(place.exec(&idle, alone).await.expect("runs"));
    let alone = pid_of(&place, &idle, "sleep\x0080").await;
    let helper = parent(alone);
    let exec = place.exec(&idle, ask(&["sleep", "81"])).await.expect("runs");
    pid_of(&place, &idle, "sleep\x0081").await;
    place.all().stop(&idle.id, None, 100).await.expect("stopped");
    let (_, _, end) = finish(exec).await;
    assert!(end.container_ended && end.signal == Some(9), "{end:?}");
    until("nobody is left", || !Path::new(&format!("/proc/{alone}")).exists()).await;
    until("its helper is gone", || gone(helper)).await;
}

#[tokio::test]
async fn a_helper_that_is_killed_takes_its_command_along() {
    let place = Place::new();
    let idle = place.idle(|_| {}).await;
    let mut web = ask(&["sleep", "82"]);
    web.user = Some("web".into());
    let exec = place.exec(&idle, web).await.expect("runs");
    let pid = pid_of(&place, &idle, "sleep\x0082").await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(parent(pid)), nix::sys::signal::Signal::SIGKILL).expect("alive");
    assert!(tokio::time::timeout(LIMIT, exec.ending.ended()).await.expect("in time").is_err());
    until("the command is gone", || !Path::new(&format!("/proc/{pid}")).exists()).await;
}

#[tokio::test]
async fn a_hundred_at_once() {
    let place = Place::new();
    let idle = place.idle(|_| {}).await;
    let all = (0..100).map(|n| {
        let (containers, id) = (place.all().clone(), idle.id.clone());
        tokio::spawn(async move {
            let exec = containers.exec(&id, sh(&format!("echo {n}; exit {n}"))).await.expect("runs");
            let (out, _, end) = finish(exec).await;
            (out, end.code)
        })
    });
    let all: Vec<_> = all.collect();
    for (n, one) in all.into_iter().enumerate() {
        assert_eq!(one.await.expect("done"), (format!("{n}\n"), u8::try_from(n).ok()));
    }
    tokio::time::sleep(Duration::ZERO).await;
    assert_eq!(place.says(&idle, "ps -o args | grep -c [l]ongshore; true").await, "0\n");
}

/// The pid on the host of the process of a container with this command line.
async fn pid_of(place: &Place, spec: &longshore::model::ContainerSpec, command: &str) -> i32 {
    let init = place.init(spec).pid;
    let cgroup = fs::read_to_string(format!("/proc/{init}/cgroup")).expect("alive");
    let mut found = None;
    until(&format!("{command:?} runs"), || {
        found = fs::read_dir("/proc").expect("proc").flatten().find_map(|e| {
            let pid: i32 = e.file_name().to_str()?.parse().ok()?;
            let line = fs::read_to_string(e.path().join("cmdline")).ok()?;
            (line.trim_end_matches('\0') == command
                && fs::read_to_string(e.path().join("cgroup")).is_ok_and(|c| c == cgroup))
            .then_some(pid)
        });
        found.is_some()
    })
    .await;
    found.expect("found")
}

fn parent(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("alive");
    status.lines().find_map(|l| l.strip_prefix("PPid:\t")?.parse().ok()).expect("a parent")
}

/// A zombie has ended.
fn gone(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| s.contains(") Z "))
}

#[tokio::test]
async fn what_the_file_widens_and_narrows_holds_for_it_too() {
    let place = Place::new();
    let one = |name| CapabilitySet::NONE.with(Capability::parse(name).expect("a name"));
    let profile =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
    let idle = place
        .idle(|s| {
            s.isolation.no_new_privileges = Some(true);
            s.isolation.cap_add = one("NET_ADMIN");
            s.isolation.cap_drop = one("CHOWN");
            s.isolation.seccomp = Seccomp::Profile(profile.into());
            s.isolation.limits.insert(Limit::Nofile, LimitRange { soft: 77, hard: 88 });
        })
        .await;
    let init = place.init(&idle).pid;
    let seen = confinement(&place.says(&idle, "cat /proc/self/status").await);
    assert_eq!(seen, confinement(&fs::read_to_string(format!("/proc/{init}/status")).expect("alive")));
    for line in ["NoNewPrivs:\t1", "CapEff:\t00000000800415fa", "Seccomp:\t2"] {
        assert!(seen.iter().any(|l| l == line), "{line} in {seen:?}");
    }
    let said = place.says(&idle, "ulimit -Sn; ulimit -Hn; busybox mkdir /tmp/x 2>&1; true").await;
    assert!(said.starts_with("77\n88\n") && said.contains("not permitted"), "{said}");
}

#[tokio::test]
async fn it_has_what_its_container_was_started_with_whatever_is_configured_by_now() {
    let mut place = Place::new();
    place.reopen(|settings| settings.defaults.no_new_privileges = true);
    let idle = place.idle(|_| {}).await;
    place.reopen(|settings| {
        settings.defaults = Defaults { capabilities: CapabilitySet::DOCKER, no_new_privileges: false };
    });
    let seen = confinement(&place.says(&idle, "cat /proc/self/status").await);
    for line in ["NoNewPrivs:\t1", "CapBnd:\t00000000800405fb"] {
        assert!(seen.iter().any(|l| l == line), "{line} in {seen:?}");
    }
}
