//! The client and the daemon's own command line: what they say and how they end.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::{Lab, file, service, with};

const IDLE: &str = "[work, graceful, '0']";

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn without_a_daemon_every_question_ends_with_1_and_says_what_to_do() {
    let mut lab = Lab::stopped(&json!({}));
    let questions: [&[&str]; 8] = [
        &["status"],
        &["ps"],
        &["logs", "x"],
        &["logs", "-f", "x"],
        &["inspect", "x"],
        &["events"],
        &["plan"],
        &["confirm"],
    ];
    for args in questions {
        let (code, text) = said(&lab.cli(args));
        assert_eq!(code, Some(1), "{args:?}: {text}");
        assert!(text.contains("no daemon answers at") && text.contains("LONGSHORE_SOCKET"), "{args:?}: {text}");
    }
    lab.start();
    lab.kill();
    let (code, text) = said(&lab.cli(&["status"]));
    assert!(code == Some(1) && text.contains("nobody listens at"), "{text}");
    lab.finish();
}

#[test]
fn with_a_daemon_questions_are_answered_for_people_and_for_programs() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    let running = lab.running("a-a-1");
    for args in [&["status"][..], &["ps"], &["status", "--wait"], &["plan"], &["version"]] {
        assert_eq!(said(&lab.cli(args)).0, Some(0), "{args:?}");
    }
    assert!(said(&lab.cli(&["ps"])).1.contains("a-a-1"));
    for args in [&["status", "--json"][..], &["ps", "--json"], &["plan", "--json"], &["inspect", "a-a-1"]] {
        let (code, text) = said(&lab.cli(args));
        assert!(code == Some(0) && serde_json::from_str::<Value>(&text).is_ok(), "{args:?}: {text}");
    }
    let inspected: Value = serde_json::from_str(&said(&lab.cli(&["inspect", &running.id[..12]])).1).unwrap();
    assert_eq!(inspected["state"]["pid"], running.pid);
    for args in [&["inspect", "nothing"][..], &["logs", "nothing"], &["confirm"]] {
        let (code, text) = said(&lab.cli(args));
        assert!(code == Some(1) && text.starts_with("longshore: "), "{args:?}: {text}");
    }
    lab.put("b.yaml", "services: {b: {imagee: x}}");
    lab.problem("imagee");
    assert_eq!(said(&lab.cli(&["status", "--wait"])).0, Some(1));
    lab.finish();
}

#[test]
fn events_tell_what_happens_with_the_past_where_it_is_asked_for() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    lab.running("a-a-1");
    let mut events = lab.client(&["events", "--json", "--since", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let mut until = |kind: &str| {
        let of_kind = |line: &String| serde_json::from_str::<Value>(line).unwrap()["kind"] == kind;
        assert!(lines.by_ref().map(Result::unwrap).any(|line| of_kind(&line)), "{kind}");
    };
    for kind in ["file.applied", "image.pulled", "container.created", "container.started"] {
        until(kind);
    }
    lab.remove("a.yaml");
    until("container.removed");
    events.kill().unwrap();
    events.wait().unwrap();
    lab.finish();
}

#[test]
fn check_and_plan_work_without_a_daemon() {
    let mut lab = Lab::stopped(&json!({}));
    let path = |name: &str| lab.state().join(name).display().to_string();
    lab.put("good.yaml", &file(&[service("a", IDLE)]));
    let (good, bad, dir) = (path("good.yaml"), path("bad.yaml"), path(""));
    assert_eq!(said(&lab.cli(&["check", &good])).0, Some(0));
    assert_eq!(said(&lab.cli(&["check", &dir])).0, Some(0));
    let data = lab.data().display().to_string();
    let plan = ["plan", "--state-dir", &dir, "--data-dir", &data];
    let (code, text) = said(&lab.cli(&plan));
    assert!(code == Some(2) && text.contains("pull"), "{code:?} {text}");
    lab.put("bad.yaml", &file(&[with("a", IDLE, &["restrat: always"])]));
    for checked in [&bad, &dir] {
        let (code, text) = said(&lab.cli(&["check", checked]));
        assert!(code == Some(1) && text.contains("bad.yaml:6:5"), "{code:?} {text}");
    }
    assert_eq!(said(&lab.cli(&["check", &path("missing.yaml")])).0, Some(1));
    lab.remove("bad.yaml");
    lab.start();
    lab.running("good-a-1");
    lab.stop();
    let (code, text) = said(&lab.cli(&plan));
    assert_eq!(code, Some(0), "{text}");
    lab.finish();
}

#[test]
fn a_configuration_is_validated_and_refused_with_its_place() {
    let lab = Lab::stopped(&json!({}));
    let validate = |config: &str, more: &[&str]| {
        fs::write(lab.dir.join("config.json"), config).unwrap();
        said(&lab.daemon_command(&lab.data()).arg("--validate").args(more).output().unwrap())
    };
    assert_eq!(validate("{}", &[]), (Some(0), "configuration OK\n".to_owned()));
    for (config, text) in [
        ("{\n  \"debgu\": true}", "config.json:2:3: the key debgu is not known (did you mean debug?)"),
        ("{,}", "it is not JSON"),
        ("{\"tcp\": \"0.0.0.0:1\"}", "not a loopback address"),
        ("{\"runtime\": \"/no/runc\"}", "/no/runc"),
        ("{\"data-dir\": \"/x\"}", "data-dir is set in the file and by the flag --data-dir"),
    ] {
        let (code, said) = validate(config, &[]);
        assert!(code == Some(1) && said.contains(text), "{config}: {code:?} {said}");
    }
    let (code, said) = validate("{\"debug\": false}", &["--debug"]);
    assert!(code == Some(1) && said.contains("--debug"), "{said}");
    // The daemon itself refuses in the same words.
    fs::write(lab.dir.join("config.json"), "{\"debgu\": 1}").unwrap();
    let refused = lab.daemon_command(&lab.data()).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    fs::write(lab.dir.join("config.json"), "{}").unwrap();
    lab.finish();
}

#[test]
fn a_wrong_command_line_ends_with_1_and_help_with_0() {
    let lab = Lab::stopped(&json!({}));
    for args in [&["daemon", "--stat-dir", "/x"][..], &["sttaus"], &["logs"], &["status", "--timeout", "5s"]] {
        let (code, text) = said(&lab.cli(args));
        assert!(code == Some(1) && text.contains("error:"), "{args:?}: {code:?} {text}");
    }
    assert_eq!(said(&lab.cli(&["--help"])).0, Some(0));
    assert_eq!(said(&lab.cli(&["--version"])).0, Some(0));
    lab.finish();
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", "[work, flood, '2']")]));
    assert_eq!(lab.exited("a-a-1"), 0);
    let mut logs = lab.client(&["logs", "a-a-1"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(logs.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first.len(), 100);
    assert_eq!(said(&logs.wait_with_output().unwrap()), (Some(0), String::new()));
    lab.finish();
}

#[test]
fn who_is_not_root_is_told_so() {
    let lab = Lab::new();
    let open = tempfile::tempdir().unwrap();
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = open.path().join("longshore");
    fs::copy(env!("CARGO_BIN_EXE_longshore"), &program).unwrap();
    let nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program).args(args);
        said(&command.env("LONGSHORE_SOCKET", lab.socket()).output().unwrap())
    };
    let (code, text) = nobody(&["daemon", "--state-dir", "/tmp/x", "--data-dir", "/tmp/y", "--run-dir", "/tmp/z"]);
    assert!(code == Some(1) && text.contains("must run as root (it runs as uid 65534)"), "{code:?} {text}");
    let (code, text) = nobody(&["status"]);
    assert!(code == Some(1) && text.contains("may not connect"), "{code:?} {text}");
    lab.finish();
}
