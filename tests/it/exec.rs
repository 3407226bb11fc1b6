//! `longshore exec`, from outside.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Command, Output, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use nix::unistd::setsid;
use serde_json::Value;

use crate::support::lab::{container, ended};
use crate::support::{Lab, file, host, service, with, with_both_runtimes};

const IDLE: &str = "[work, graceful, '0']";

with_both_runtimes! {
    a_command_runs_where_its_container_does_and_as_it_does,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn a_command_runs_where_its_container_does_and_as_it_does(config: &Value) {
    let lab = Lab::with(config);
    lab.put("a.yaml", &file(&[with("a", IDLE, &["user: app", "environment: {COLOUR: blue}"])]));
    let a = lab.running("a-a-1");
    let status = lab.cli(&["exec", "a-a-1", "cat", "/proc/self/status"]);
    let inside = text(&status.stdout);
    let init = std::fs::read_to_string(format!("/proc/{}/status", a.pid)).unwrap();
    let lines = |text: &str| -> Vec<String> {
        let names = ["Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp:"];
        text.lines().filter(|l| names.iter().any(|n| l.starts_with(n))).map(|l| l.trim_end().to_owned()).collect()
    };
    assert_eq!(lines(&inside), lines(&init), "{}", text(&status.stderr));
    let env = text(&lab.cli(&["exec", "-e", "NEW=1", "a-a-1", "env"]).stdout);
    let mut env: Vec<&str> = env.lines().filter(|l| !l.starts_with("HOSTNAME=")).collect();
    env.sort_unstable();
    assert_eq!(env, ["COLOUR=blue", "HOME=/home/app", "NEW=1", "PATH=/bin"]);
    assert_eq!(lab.cli(&["exec", "-w", "/etc", "a-a-1", "pwd"]).stdout, b"/etc\n");
    let root = lab.cli(&["exec", "-u", "0:media", "a/a", "id"]);
    assert!(text(&root.stdout).contains("uid=0(root) gid=2000(media)"), "{}", text(&root.stdout));
    lab.finish();
}

#[test]
fn codes_streams_and_errors_are_those_that_a_shell_expects() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", IDLE, &["scale: 2"]), service("done", "[work, exit, '3']")]));
    lab.running("a-a-2");
    lab.exited("a-done-1");
    let exec = |args: &[&str]| said(&lab.cli(&[&["exec"], args].concat()));
    let out = exec(&["a-a-1", "sh", "-c", "echo out; echo err >&2; exit 42"]);
    assert_eq!(out, (Some(42), "out\n".into(), "err\n".into()));
    assert_eq!(exec(&["a-a-1", "sh", "-c", "kill -TERM $$"]).0, Some(143));
    let (code, _, err) = exec(&["a-a-1", "no-such-command"]);
    assert!(code == Some(127) && err.contains("\"no-such-command\" not found"), "{err}");
    let (code, _, err) = exec(&["a-a-1", "/etc/passwd"]);
    assert!(code == Some(126) && err.contains("permission denied"), "{err}");
    let (code, _, err) = exec(&["-u", "nobody-here", "a-a-1", "id"]);
    assert!(code == Some(126) && err.contains("nobody-here"), "{err}");
    let (code, _, err) = exec(&["a-done-1", "id"]);
    assert!(code == Some(1) && err.contains("does not run: exit code 3"), "{err}");
    let (code, _, err) = exec(&["nobody", "id"]);
    assert!(code == Some(1) && err.contains("\"nobody\""), "{err}");
    let (code, _, err) = exec(&["--index", "9", "a/a", "id"]);
    assert!(code == Some(1) && err.contains("number 9"), "{err}");
    let (code, _, err) = exec(&["-it", "a-a-1", "sh"]);
    assert!(code == Some(1) && err.contains("-t needs a terminal"), "{err}");
    let name = |args: &[&str]| exec(args).1;
    assert_eq!(name(&["--index", "2", "a/a", "hostname"]), name(&["a-a-2", "hostname"]));
    assert_eq!(name(&["a/a", "hostname"]), name(&["a-a-1", "hostname"]));
    std::fs::write(lab.dir.join("vars"), "# no\nA=1 2\nB=\"x\"\n").unwrap();
    let vars = lab.dir.join("vars").display().to_string();
    assert_eq!(name(&["--env-file", &vars, "-e", "B=2", "a-a-1", "sh", "-c", "echo $A $B"]), "1 2 2\n");
    // Its own command goes on when ours is over.
    assert_eq!(exec(&["-d", "a-a-1", "sh", "-c", "sleep 0.2; echo done > /tmp/done"]).0, Some(0));
    lab.wait_for("what runs alone", |_| (name(&["a-a-1", "cat", "/tmp/done"]) == "done\n").then_some(()));
    lab.finish();
}

#[test]
fn input_goes_in_to_its_end_and_large_output_comes_out() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    lab.running("a-a-1");
    let sent: Vec<u8> = (0..10_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut cat = lab.client(&["exec", "-i", "a-a-1", "cat"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, copy) = (cat.stdin.take().unwrap(), sent.clone());
    let writing = std::thread::spawn(move || stdin.write_all(&copy));
    let mut seen = Vec::new();
    cat.stdout.take().unwrap().read_to_end(&mut seen).unwrap();
    writing.join().unwrap().unwrap();
    assert!(seen == sent && ended(cat).status.success(), "{} bytes", seen.len());
    // Without -i there is nothing to read.
    assert_eq!(said(&lab.cli(&["exec", "a-a-1", "cat"])), (Some(0), String::new(), String::new()));
    // A reader that leaves ends it, and a flood that nobody reads takes no memory.
    let mut flood = lab.client(&["exec", "a-a-1", "cat", "/dev/zero"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = flood.stdout.take().unwrap();
    stdout.read_exact(&mut vec![0; 1 << 20]).unwrap();
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", lab.daemon_pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = memory();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(memory() < before + 4096, "{before} KiB, then {} KiB", memory());
    drop(stdout);
    assert!(ended(flood).status.success());
    nobody_is_left(&lab);
    lab.finish();
}

fn nobody_is_left(lab: &Lab) {
    let a = lab.running("a-a-1");
    lab.wait_for("nobody to be left", |_| (lab.pids_of(&a) == [a.pid]).then_some(()));
    let helpers = || -> Vec<i32> {
        let parent = |pid: &i32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains(&format!("PPid:\t{}\n", lab.daemon_pid()))
        };
        host::pids_naming("runtime\0exec").into_iter().filter(parent).collect()
    };
    lab.wait_for("no helper to be left", |_| helpers().is_empty().then_some(()));
}

#[test]
fn it_ends_with_its_container_its_client_and_its_daemon() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", IDLE, &["stop_grace_period: 100ms"])]));
    let a = lab.running("a-a-1");
    let sleeps = |pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\0");
    let inside = |lab: &Lab, count: usize| {
        lab.wait_for("who is inside", |_| {
            (lab.pids_of(&a).iter().filter(|p| sleeps(p)).count() == count).then_some(())
        });
    };
    // Its word has come all the way: everybody knows that it runs.
    let sleep = |lab: &Lab| {
        let mut client = lab.client(&["exec", "a-a-1", "sh", "-c", "echo up; exec sleep 1000"]);
        let mut client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        client.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
        client
    };
    // Ctrl+C is passed on.
    let client = sleep(&lab);
    inside(&lab, 1);
    host::signal(i32::try_from(client.id()).unwrap(), Signal::SIGINT);
    assert_eq!(ended(client).status.code(), Some(130));
    let mut client = sleep(&lab);
    inside(&lab, 1);
    client.kill().unwrap();
    client.wait().unwrap();
    inside(&lab, 0);
    let client = sleep(&lab);
    inside(&lab, 1);
    let command = lab.pids_of(&a).into_iter().find(sleeps).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{command}/status")).unwrap();
    let helper: i32 = status.lines().find_map(|l| l.strip_prefix("PPid:\t")).unwrap().parse().unwrap();
    lab.kill();
    let output = ended(client);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the command was hung up"), "{}", text(&output.stderr));
    lab.start();
    lab.wait_for("nobody to be left", |_| (!host::alive(helper) && !host::alive(command)).then_some(()));
    lab.still("a-a-1", &a);
    let client = sleep(&lab);
    inside(&lab, 1);
    lab.put("a.yaml", &file(&[with("a", IDLE, &["scale: 0"])]));
    let output = ended(client);
    assert_eq!(output.status.code(), Some(137));
    assert!(text(&output.stderr).contains("the container a-a-1 ended"), "{}", text(&output.stderr));
    lab.finish();
}

#[test]
fn a_terminal_is_a_terminal_all_the_way() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    lab.running("a-a-1");
    let size = Winsize { ws_row: 31, ws_col: 97, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).unwrap();
    let mut command = lab.client(&[
        "exec",
        "-it",
        "a-a-1",
        "sh",
        "-c",
        "stty size; until stty size | grep '41 57'; do sleep 0.05; done; read x; echo \"<$x>\"; tty; exit 6",
    ]);
    let slave = || Stdio::from(pty.slave.try_clone().unwrap());
    command.stdin(slave()).stdout(slave()).stderr(slave());
    leads_a_session(&mut command);
    let client = command.spawn().unwrap();
    let mut master = std::fs::File::from(pty.master.try_clone().unwrap());
    let mut seen = String::new();
    let mut read_until = |master: &mut std::fs::File, word: &str| {
        let mut buffer = [0; 1024];
        while !seen.contains(word) {
            let mut polled = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut polled, PollTimeout::from(30_000_u16)), Ok(1), "{word:?} in {seen:?}");
            let count = master.read(&mut buffer).unwrap();
            seen.push_str(&text(&buffer[..count]));
        }
        seen.clone()
    };
    read_until(&mut master, "31 97\r\n");
    let raw = nix::sys::termios::tcgetattr(pty.slave.as_fd()).unwrap();
    assert!(!raw.local_flags.contains(nix::sys::termios::LocalFlags::ECHO), "it is raw meanwhile");
    longshore::container::exec::terminal::resize(&pty.master, 41, 57).unwrap();
    host::signal(i32::try_from(client.id()).unwrap(), Signal::SIGWINCH);
    read_until(&mut master, "41 57\r\n");
    master.write_all(b"hello\r").unwrap();
    let all = read_until(&mut master, "/dev/pts/0\r\n");
    assert!(all.contains("hello\r\n<hello>\r\n"), "{all:?}");
    assert_eq!(ended(client).status.code(), Some(6));
    let after = nix::sys::termios::tcgetattr(pty.slave.as_fd()).unwrap();
    assert!(after.local_flags.contains(nix::sys::termios::LocalFlags::ECHO), "and as it was before");
    assert!(container(&lab.status(), "a-a-1").is_some());
    lab.finish();
}

#[expect(unsafe_code, reason = "a step between fork and exec")]
fn leads_a_session(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: one system call.
    unsafe {
        command.pre_exec(|| Ok(setsid().map(drop)?));
    }
}
