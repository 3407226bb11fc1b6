//! `longshore run`, from outside.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::lab::{LIMIT, containers, service as seen};
use crate::support::{Lab, file, host, http, service, with};

const IDLE: &str = "[work, graceful, '0']";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The one-offs that are there.
fn tasks(status: &Value) -> Vec<Value> {
    containers(status).filter(|c| c["number"] == 0).cloned().collect()
}

fn no_tasks(lab: &Lab) {
    lab.wait_for("the one-offs to be gone", |s| (s["settled"] == true && tasks(s).is_empty()).then_some(()));
}

#[test]
fn a_command_runs_once_and_leaves_nothing_behind() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", IDLE, &["environment: {COLOUR: blue, SIZE: s}", "scale: 2"])]));
    let before = lab.running("a-a-1");
    let run = |args: &[&str]| said(&lab.cli(&[&["run"], args].concat()));
    let all = run(&["a", "sh", "-c", "echo out; echo err >&2; exit 42"]);
    assert_eq!(all, (Some(42), "out\n".into(), "err\n".into()));
    let (code, out, _) =
        run(&["-e", "SIZE=m", "-w", "/etc", "-u", "app", "a/a", "sh", "-c", "echo $COLOUR $SIZE; pwd; id"]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("blue m\n/etc\nuid=") && out.contains("(app)"), "{out}");
    let (code, out, _) = run(&["--entrypoint", "echo", "a", "by", "itself"]);
    assert_eq!((code, out.as_str()), (Some(0), "by itself\n"));
    // More than a pipe holds, to the last line.
    let (code, out, _) = run(&["a", "sh", "-c", "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done"]);
    assert_eq!((code, out.lines().count(), out.lines().last()), (Some(0), 5000, Some("line 4999")));
    no_tasks(&lab);
    lab.still("a-a-1", &before);
    assert_eq!(seen(&lab.status(), "a", "a").unwrap()["phase"], "applied");
    let (code, _, err) = run(&["b", "true"]);
    assert!(code == Some(1) && err.contains("no container or service is called \"b\""), "{err}");
    let (code, _, err) = run(&["a", "/no/such/program"]);
    assert!(code == Some(1) && err.contains("was not run") && err.contains("/no/such/program"), "{err}");
    no_tasks(&lab);
    lab.finish();
}

#[test]
fn a_kept_one_stays_until_it_is_removed_and_a_detached_one_goes_by_itself() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    lab.running("a-a-1");
    assert_eq!(
        said(&lab.cli(&["run", "--keep", "a", "sh", "-c", "echo kept; exit 3"])),
        (Some(3), "kept\n".into(), String::new())
    );
    let kept = tasks(&lab.status());
    let name = kept[0]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("a-a-run-") && name.len() == "a-a-run-".len() + 4, "{name}");
    assert!(text(&lab.cli(&["ps", "-a"]).stdout).contains(&name));
    assert_eq!(lab.output(&name), "kept\n");
    // It is neither started again nor removed by another daemon.
    lab.kill();
    lab.start();
    lab.wait_for("it to be settled", |s| (s["settled"] == true).then_some(()));
    let now = tasks(&lab.status());
    assert!(now.len() == 1 && now[0]["state"] == kept[0]["state"], "{now:?}");
    assert!(lab.cli(&["run", "--remove", &name]).status.success());
    no_tasks(&lab);
    assert!(!lab.cli(&["run", "--remove", &name]).status.success());
    assert!(!lab.cli(&["run", "--remove", "a-a-1"]).status.success());
    let detached = lab.cli(&["run", "-d", "a", "sh", "-c", "sleep 1"]);
    let name = text(&detached.stdout).trim().to_owned();
    assert!(detached.status.success() && name.starts_with("a-a-run-"), "{detached:?}");
    no_tasks(&lab);
    let (_, state) = http::get(&lab.socket(), &format!("/api/v1/run/{name}")).unwrap();
    assert_eq!((&state["state"], &state["exit_code"]), (&json!("ended"), &json!(0)));
    lab.finish();
}

#[test]
fn one_that_runs_goes_on_when_the_daemon_is_killed_and_is_removed_once_it_ended() {
    let mut lab = Lab::new();
    let out = lab.dir.join("out");
    std::fs::create_dir(&out).unwrap();
    lab.put("a.yaml", &file(&[with("a", IDLE, &[&format!("volumes: ['{}:/out']", out.display()), "restart: always"])]));
    lab.running("a-a-1");
    let work = "echo begun >> /out/log; until [ -e /out/go ]; do sleep 0.1; done; echo ended >> /out/log";
    let mut client = lab.client(&["run", "a", "sh", "-c", work]).stderr(Stdio::piped()).spawn().unwrap();
    lab.until("its begin", || std::fs::read_to_string(out.join("log")).ok().filter(|log| log.contains("begun")));
    let before = lab.wait_for("it to run", |s| Some(tasks(s)).filter(|all| all[0]["state"]["pid"].is_number()));
    lab.kill();
    let mut told = String::new();
    client.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(1));
    assert!(told.contains("gone away") || told.contains("closed the connection"), "{told}");
    lab.start();
    lab.wait_for("it to be settled", |s| (s["settled"] == true).then_some(()));
    let after = tasks(&lab.status());
    assert_eq!((after.len(), &after[0]["state"]["pid"]), (1, &before[0]["state"]["pid"]));
    // It ends while no daemon is there.
    lab.kill();
    std::fs::write(out.join("go"), "").unwrap();
    let pid = i32::try_from(before[0]["state"]["pid"].as_i64().unwrap()).unwrap();
    let end = Instant::now() + LIMIT;
    while host::alive(pid) {
        assert!(Instant::now() < end, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    lab.start();
    no_tasks(&lab);
    assert_eq!(std::fs::read_to_string(out.join("log")).unwrap(), "begun\nended\n");
    lab.finish();
}

#[test]
fn an_interrupt_stops_it_and_a_file_that_goes_takes_it_along() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", IDLE, &["scale: 0"])]));
    lab.wait_for("it to be settled", |s| (s["settled"] == true && seen(s, "a", "a").is_some()).then_some(()));
    let begin = || {
        let mut client =
            lab.client(&["run", "a", "sh", "-c", "trap 'exit 7' TERM; echo here; while :; do sleep 0.1; done"]);
        let mut client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(client.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        client
    };
    let client = begin();
    host::signal(i32::try_from(client.id()).unwrap(), Signal::SIGINT);
    let output = client.wait_with_output().unwrap();
    assert!(output.status.code() == Some(7) && text(&output.stderr).contains("is being stopped"), "{output:?}");
    no_tasks(&lab);
    let client = begin();
    lab.remove("a.yaml");
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    no_tasks(&lab);
    lab.finish();
}
