//! The client against a served daemon, as a process of its own: what it prints, where, and how it ends.
//!
//! The process is this test program again, asked for the one test that becomes the client.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex};

use longshore::api::{Limits, Stream};
use longshore::cli::{Change, CheckReport, DaemonArgs, PlanReport, Rooms, main};
use longshore::model::{Location, Problem, Timestamp};
use longshore::reconcile::view::{Event, View};
use tokio::process::Command;

use crate::served::{Logs, Served, event, id, line, serve, serve_with, view, within};

const ARGUMENTS: &str = "LONGSHORE_TEST_ARGUMENTS";

/// Does nothing in a run of the tests.
#[test]
fn becomes_the_client() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let argv = std::iter::once("longshore").chain(arguments.split('\n')).map(OsString::from);
    let code = main(argv, Rooms { daemon, check, plan });
    // An exit code cannot be looked into; its three values can be told apart.
    let known = [ExitCode::SUCCESS, ExitCode::from(1), ExitCode::from(2)];
    let number = known.iter().position(|k| format!("{k:?}") == format!("{code:?}")).unwrap_or(99);
    std::process::exit(i32::try_from(number).unwrap());
}

fn daemon(_: DaemonArgs) -> ExitCode {
    ExitCode::SUCCESS
}

fn check(path: &Path) -> CheckReport {
    let problem = Problem::error(Location::at(path, 1, 2), "bad");
    let problems = if path.ends_with("bad.yaml") { vec![problem] } else { Vec::new() };
    CheckReport { problems, ..CheckReport::default() }
}

fn plan(_: &Path, _: &Path) -> PlanReport {
    let change = Change { verb: "pull".into(), what: "image x".into(), reason: "not here".into() };
    PlanReport { changes: vec![change], ..PlanReport::default() }
}

pub(crate) fn client(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "client::becomes_the_client", "--nocapture", "--quiet"]);
    command.env(ARGUMENTS, arguments.join("\n")).env_remove("LONGSHORE_SOCKET").stdin(Stdio::null());
    command
}

pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) async fn run(arguments: &[&str]) -> Ended {
    let output = within(client(arguments).output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // What the test program says before it becomes the client.
    let stdout = text.trim_start().strip_prefix("running 1 test\n").unwrap_or(&text).to_owned();
    Ended { code: output.status.code(), stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
}

pub(crate) async fn ask(served: &Served, arguments: &[&str]) -> Ended {
    let socket = served.socket.to_str().unwrap();
    run(&[&["--socket", socket], arguments].concat()).await
}

/// As a daemon that looks at its folder would.
fn answer_looks(served: &mut Served) {
    let mut commands = std::mem::replace(&mut served.commands, tokio::sync::mpsc::channel(1).1);
    tokio::spawn(async move {
        while let Some(longshore::api::Command::Look { reply }) = commands.recv().await {
            reply.send(()).unwrap();
        }
    });
}

#[tokio::test]
async fn no_daemon_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let ended = run(&["status", "--socket", socket.to_str().unwrap()]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.starts_with("longshore: no daemon answers at "), "{}", ended.stderr);
    assert!(ended.stderr.contains("is `longshore daemon` running?") && ended.stderr.contains("--socket"));
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let ended = run(&["ps", "--socket", socket.to_str().unwrap()]).await;
    assert!(ended.stderr.contains("nobody listens at "), "{}", ended.stderr);
    assert_eq!(run(&["frobnicate"]).await.code, Some(1));
}

#[tokio::test]
async fn every_command_answers() {
    let mut served = serve();
    answer_looks(&mut served);
    (1..=3).for_each(|n| served.events.publish(event(n)));
    let status = ask(&served, &["status", "--wait"]).await;
    assert_eq!(status.code, Some(0), "{}", status.stderr);
    assert!(status.stdout.contains("settled: nothing left to do"), "{}", status.stdout);
    let json = ask(&served, &["status", "--json"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json.stdout).unwrap()["revision"], 5);
    assert_eq!(ask(&served, &["ps"]).await.stdout.lines().count(), 14);
    let inspect = ask(&served, &["inspect", "shop-db-1"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&inspect.stdout).unwrap()["state"]["pid"], 10);
    let missing = ask(&served, &["inspect", "no/body"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("no container or service is called \"no/body\""), "{}", missing.stderr);
    let version = ask(&served, &["version"]).await;
    assert!(version.stdout.contains("pid 4711"), "{}", version.stdout);
}

#[tokio::test]
async fn plan_and_check_tell_changes_from_errors() {
    let mut served = serve();
    answer_looks(&mut served);
    assert_eq!(ask(&served, &["plan"]).await.code, Some(0));
    served.view.send_replace(Arc::new(View { settled: false, ..view(6) }));
    assert_eq!(ask(&served, &["plan"]).await.code, Some(2));
    let late = ask(&served, &["status", "--wait", "--timeout", "1"]).await;
    assert_eq!(late.code, Some(1));
    assert!(late.stderr.contains("not everything is done after 1 s"), "{}", late.stderr);
    assert_eq!(run(&["check", "good.yaml"]).await.code, Some(0));
    let bad = run(&["check", "bad.yaml"]).await;
    assert_eq!(bad.code, Some(1));
    assert!(bad.stdout.contains("error: bad.yaml:1:2: bad"), "{}", bad.stdout);
    let offline = run(&["plan", "--state-dir", "a", "--data-dir", "b"]).await;
    assert_eq!(offline.code, Some(2), "{}", offline.stderr);
}

#[tokio::test]
async fn output_and_errors_of_containers_stay_apart() {
    let mut logs = Logs { live: Mutex::default(), ..Logs::default() };
    logs.kept.insert(id(1, "db"), vec![line(1, Stream::Stdout, b"one"), line(3, Stream::Stderr, b"two")]);
    logs.kept.insert(id(1, "web"), vec![line(2, Stream::Stdout, b"three")]);
    let served = serve_with(Limits::default(), logs);
    let alone = ask(&served, &["logs", "shop/db"]).await;
    assert_eq!((alone.stdout.as_str(), alone.stderr.as_str()), ("one\n", "two\n"));
    let both = ask(&served, &["logs", "-f", "shop-web-1", "db"]).await;
    assert!(
        both.stdout.contains("shop-db-1  | one\n") && both.stdout.contains("shop-web-1 | three\n"),
        "{}",
        both.stdout
    );
    assert_eq!((both.code, both.stderr.as_str()), (Some(0), "shop-db-1  | two\n"));
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let mut logs = Logs::default();
    let many = (0..50_000).map(|n| line(n, Stream::Stdout, b"a line that fills the pipe before long")).collect();
    logs.kept.insert(id(1, "db"), many);
    let served = serve_with(Limits::default(), logs);
    let mut command = client(&["--socket", served.socket.to_str().unwrap(), "logs", "db"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = child.stdout.take().unwrap();
    crate::served::read_until(&mut reader, "before long").await;
    drop(reader);
    let output = within(child.wait_with_output()).await.unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[tokio::test]
async fn events_are_printed_until_the_daemon_ends() {
    let mut served = serve();
    (1..=3).for_each(|n| served.events.publish(Event { at: Timestamp(n), ..event(n) }));
    let socket = served.socket.to_str().unwrap().to_owned();
    let mut child = client(&["--socket", &socket, "events", "--since", "0", "--json"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    crate::served::read_until(child.stdout.as_mut().unwrap(), "\"sequence\":3").await;
    served.stop.take().unwrap().send(()).unwrap();
    let output = within(child.wait_with_output()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the daemon"), "{said}");
}
