//! Health checks of real containers, and what follows from them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::base::new_dir;
use crate::support::lab::{container, service as service_status};
use crate::support::registry::{root, shared};
use crate::support::{Lab, file, host, with, with_both_runtimes};

const IDLE: &str = "[work, graceful, '0']";
/// Well as long as the file is there.
const SCRIPT: &str = "[sh, -c, 'touch /tmp/well; trap \"exit 0\" TERM; while :; do sleep 0.05; done']";
const TEST: &str = "healthcheck: {test: 'echo looked; test -e /tmp/well', interval: 100ms, retries: 2}";

with_both_runtimes! {
    who_is_well_is_healthy_and_who_is_not_is_restarted,
    a_probe_needs_no_program_in_the_image,
}

/// Waits until the health of a container is this.
#[track_caller]
fn health(lab: &Lab, name: &str, word: &str) -> Value {
    lab.wait_for(&format!("{name} to be {word}"), |s| {
        let c = container(s, name)?;
        (c["health"]["status"] == word).then(|| c.clone())
    })
}

/// What is known of one container.
fn inspect(lab: &Lab, name: &str) -> Value {
    serde_json::from_slice(&lab.cli(&["inspect", name]).stdout).unwrap()
}

fn exec(lab: &Lab, name: &str, command: &[&str]) {
    let done = lab.cli(&[&["exec", name][..], command].concat());
    assert!(done.status.success(), "{done:?}");
}

/// Waits for an event of this kind about a container; its message.
#[track_caller]
fn event(lab: &Lab, kind: &str, name: &str) -> String {
    let told = lab.dir.join("events");
    let out = std::fs::File::create(&told).unwrap();
    let mut events = lab.client(&["events", "--json", "--since", "0"]).stdout(out).spawn().unwrap();
    let message = lab.until(&format!("{kind} of {name}"), || {
        let said = std::fs::read_to_string(&told).ok()?;
        let each = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = each.into_iter().find(|e| e["kind"] == kind && e["what"] == name)?;
        found["message"].as_str().map(str::to_owned)
    });
    events.kill().and_then(|()| events.wait()).unwrap();
    message
}

fn who_is_well_is_healthy_and_who_is_not_is_restarted(config: &Value) {
    let lab = Lab::with(config);
    lab.put("a.yaml", &file(&[with("a", SCRIPT, &["restart: unless-stopped", TEST])]));
    let waited = lab.cli(&["status", "--wait"]);
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stdout));
    health(&lab, "a-a-1", "healthy");
    let before = lab.running("a-a-1");
    let seen = inspect(&lab, "a-a-1");
    let checks = seen["health"]["checks"].as_array().unwrap();
    assert!((1..=5).contains(&checks.len()) && checks[0]["exit_code"] == 0, "{seen:#}");
    assert_eq!(checks[0]["output"], "looked");
    let ps = String::from_utf8(lab.cli(&["ps"]).stdout).unwrap();
    assert!(ps.contains("(healthy)"), "{ps}");
    exec(&lab, "a-a-1", &["rm", "/tmp/well"]);
    let after = lab.replaced("a-a-1", &before);
    assert_eq!(after.id, before.id, "it is the same container");
    let c = health(&lab, "a-a-1", "healthy");
    assert_eq!(c["restarts"], 1);
    assert!(c["reason"].as_str().is_some_and(|r| r.contains("unhealthy: looked")), "{c:#}");
    lab.finish();
}

#[test]
fn health_is_told_by_events_and_by_the_status() {
    let lab = Lab::new();
    let told =
        "healthcheck: {test: 'test -e /tmp/well || { echo the lake is empty; exit 3; }', interval: 100ms, retries: 2}";
    lab.put("a.yaml", &file(&[with("a", SCRIPT, &[told])]));
    let before = lab.running("a-a-1");
    health(&lab, "a-a-1", "healthy");
    exec(&lab, "a-a-1", &["rm", "/tmp/well"]);
    let c = health(&lab, "a-a-1", "unhealthy");
    assert!(c["reason"].as_str().is_some_and(|r| r.contains("unhealthy: the lake is empty; it runs on")), "{c:#}");
    let status = lab.status();
    assert_eq!(service_status(&status, "a", "a").unwrap()["phase"], "failing");
    assert!(!lab.cli(&["status", "--wait"]).status.success());
    let seen = inspect(&lab, "a-a-1");
    assert!(seen["health"]["failing"].as_u64() >= Some(2), "{seen:#}");
    assert_eq!(seen["health"]["checks"].as_array().unwrap().last().unwrap()["exit_code"], 3);
    event(&lab, "container.healthy", "a-a-1");
    assert_eq!(event(&lab, "container.unhealthy", "a-a-1"), "the lake is empty");
    // No restart policy: it is told, and gets over it by itself.
    exec(&lab, "a-a-1", &["touch", "/tmp/well"]);
    health(&lab, "a-a-1", "healthy");
    lab.still("a-a-1", &before);
    lab.finish();
}

#[test]
fn who_never_gets_well_is_restarted_ever_later() {
    let lab = Lab::new();
    let check = "healthcheck: {test: 'exit 1', interval: 50ms, retries: 1}";
    lab.put("a.yaml", &file(&[with("a", IDLE, &["restart: always", "stop_grace_period: 1s", check])]));
    let c = lab.wait_for("the pause", |s| {
        let c = container(s, "a-a-1")?;
        (c["next_attempt"].is_string() && c["reason"].as_str()?.contains("after a pause")).then(|| c.clone())
    });
    assert_eq!((c["restarts"].as_u64(), c["health"]["status"].as_str()), (Some(3), Some("unhealthy")), "{c:#}");
    let status = lab.status();
    assert_eq!(
        (&status["settled"], service_status(&status, "a", "a").unwrap()["phase"].as_str()),
        (&false.into(), Some("failing"))
    );
    lab.finish();
}

/// What happened to a service, oldest first.
fn causes(lab: &Lab, service: &str) -> Vec<Value> {
    let why: Value = serde_json::from_slice(&lab.cli(&["why", "--json", service]).stdout).unwrap();
    why["causes"].as_array().unwrap().clone()
}

#[test]
fn why_tells_who_was_unhealthy_what_its_check_said_and_what_was_done() {
    let lab = Lab::new();
    let check =
        "healthcheck: {test: 'test -e /tmp/well || { echo the lake is empty; exit 3; }', interval: 100ms, retries: 2}";
    let never = "healthcheck: {test: 'echo never; exit 1', interval: 50ms, retries: 1}";
    lab.put(
        "a.yaml",
        &file(&[
            with("a", SCRIPT, &["restart: always", check]),
            with("loops", IDLE, &["restart: always", "stop_grace_period: 1s", never]),
        ]),
    );
    let before = lab.runs("a-a-1", None);
    health(&lab, "a-a-1", "healthy");
    assert!(causes(&lab, "a/a").iter().all(|c| c["kind"] != "healthy"), "that one starts well is nothing to tell");
    exec(&lab, "a-a-1", &["rm", "/tmp/well"]);
    lab.runs("a-a-1", Some(&before));
    let seen = lab.until("it to be well again", || {
        let seen = causes(&lab, "a/a");
        seen.iter().any(|c| c["kind"] == "healthy").then_some(seen)
    });
    let place = |of: &dyn Fn(&Value) -> bool| seen.iter().position(of).unwrap_or_else(|| panic!("{seen:#?}"));
    let because = |c: &Value| c["reason"].as_str().is_some_and(|r| r.contains("unhealthy: the lake is empty"));
    let order = [
        place(&|c| c["kind"] == "unhealthy" && c["message"] == "unhealthy: the lake is empty"),
        place(&|c| c["kind"] == "done" && c["message"] == "stopped" && because(c)),
        place(&|c| c["kind"] == "healthy"),
    ];
    assert!(order.is_sorted(), "{seen:#?}");
    let again = |c: &Value| because(c) && (c["kind"] == "ended" || c["message"] == "started");
    assert!(seen.iter().any(again), "{seen:#?}");
    let text = String::from_utf8(lab.cli(&["why", "a/a"]).stdout).unwrap();
    assert!(text.contains("a-a-1: unhealthy: the lake is empty") && text.trim_end().ends_with("is applied"), "{text}");
    // One that is restarted for it again and again is one cause, and says when it is restarted next.
    lab.until("the pause", || {
        let text = String::from_utf8(lab.cli(&["why", "a/loops"]).stdout).unwrap();
        let paused = text.contains("unhealthy: never; restarted again after a pause (3 restarts for it so far)");
        (paused && text.contains("(next look ")).then_some(())
    });
    let all = causes(&lab, "a/loops");
    let told: Vec<&Value> = all.iter().filter(|c| c["kind"] == "unhealthy").collect();
    assert_eq!((told.len(), told[0]["times"].as_u64()), (1, Some(4)), "{all:#?}");
    lab.finish();
}

#[test]
fn who_is_to_be_stopped_when_it_is_unhealthy_stays_so_until_its_file_says_otherwise() {
    let lab = Lab::new();
    let stop = ["restart: always", TEST, "x-longshore: {on_unhealthy: stop}"];
    lab.put("a.yaml", &file(&[with("a", SCRIPT, &stop)]));
    let before = lab.running("a-a-1");
    exec(&lab, "a-a-1", &["rm", "/tmp/well"]);
    assert_eq!(lab.exited("a-a-1"), 0);
    let c = container(&lab.status(), "a-a-1").cloned().unwrap();
    assert!(c["reason"].as_str().is_some_and(|r| r.contains("stopped because it was unhealthy: looked")), "{c:#}");
    assert_eq!(service_status(&lab.status(), "a", "a").unwrap()["phase"], "failing");
    lab.put("a.yaml", &file(&[with("a", SCRIPT, &["restart: always", TEST])]));
    let after = lab.running("a-a-1");
    assert_eq!(after.id, before.id, "what follows from health makes no other container");
    lab.finish();
}

#[test]
fn a_start_period_forgives_and_a_timeout_ends_what_hangs() {
    let lab = Lab::new();
    let slow = "healthcheck: {test: 'exit 1', interval: 100ms, start_period: 1h, start_interval: 50ms, retries: 1}";
    let hangs =
        "healthcheck: {test: [CMD, sh, -c, 'echo before; sleep 4711'], interval: 50ms, timeout: 300ms, retries: 1}";
    let missing = "healthcheck: {test: [CMD, no-such-program], interval: 50ms, retries: 1}";
    let off = "healthcheck: {test: [NONE]}";
    lab.put(
        "a.yaml",
        &file(&[
            with("slow", IDLE, &[slow]),
            with("hangs", IDLE, &[hangs]),
            with("missing", IDLE, &[missing]),
            with("off", IDLE, &[off]),
        ]),
    );
    health(&lab, "a-hangs-1", "unhealthy");
    let seen = inspect(&lab, "a-hangs-1");
    let last = seen["health"]["checks"].as_array().unwrap().last().unwrap();
    assert_eq!(last["exit_code"], -1);
    assert!(last["output"].as_str().unwrap().contains("longer than 300 ms and was ended: before"), "{last:#}");
    health(&lab, "a-missing-1", "unhealthy");
    let seen = inspect(&lab, "a-missing-1");
    assert_eq!(seen["health"]["checks"][0]["exit_code"], 127, "{seen:#}");
    let slow = inspect(&lab, "a-slow-1");
    assert_eq!((&slow["health"]["status"], &slow["health"]["failing"]), (&"starting".into(), &0.into()), "{slow:#}");
    let checks = || inspect(&lab, "a-slow-1")["health"]["checks"].as_array().map(Vec::len);
    lab.until("five failed checks", || (checks() == Some(5)).then_some(()));
    health(&lab, "a-slow-1", "starting");
    assert_eq!(service_status(&lab.status(), "a", "slow").unwrap()["phase"], "applying");
    assert_eq!(inspect(&lab, "a-off-1")["health"], Value::Null);
    // Nothing that hung is left running.
    lab.put("a.yaml", &file(&[with("hangs", IDLE, &[off])]));
    let hangs = lab.running("a-hangs-1");
    lab.until("the check to be gone", || {
        let naming = lab.pids_of(&hangs).into_iter().filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("4711"))
        });
        (naming.count() == 0).then_some(())
    });
    lab.finish();
}

#[test]
fn an_image_brings_its_own_check_and_a_file_changes_its_times() {
    let config = r#"{"Cmd":["work","graceful","0"],"Env":["PATH=/bin"],"Healthcheck":{"Test":["CMD-SHELL","echo from the image"],"Interval":3600000000000}}"#;
    let image = shared().push("it-health/own", "1", root(), config);
    let lab = Lab::new();
    let text = |keys: &str| format!("services:\n  a: {{image: '{image}', network_mode: none{keys}}}\n");
    lab.put("a.yaml", &text(""));
    health(&lab, "a-a-1", "starting");
    let id = container(&lab.status(), "a-a-1").unwrap()["id"].clone();
    lab.put("a.yaml", &text(", healthcheck: {interval: 50ms}"));
    let c = health(&lab, "a-a-1", "healthy");
    assert_eq!((&c["id"], &c["settings"]["healthcheck.interval"]), (&id, &"50 ms".into()));
    assert_eq!(inspect(&lab, "a-a-1")["health"]["checks"][0]["output"], "from the image");
    lab.put("a.yaml", &text(", healthcheck: {disable: true}"));
    lab.wait_for("no check", |s| container(s, "a-a-1").filter(|c| c["health"].is_null()).map(drop));
    assert_eq!(container(&lab.status(), "a-a-1").unwrap()["id"], id);
    lab.finish();
}

/// An image with one program and nothing else.
fn bare() -> String {
    let dir: PathBuf = new_dir();
    let source = dir.join("serve.c");
    std::fs::write(&source, SERVE).unwrap();
    std::fs::create_dir(dir.join("root")).unwrap();
    let mut compiler = std::process::Command::new("gcc");
    compiler.args(["-static", "-O1", "-w", "-o"]).arg(dir.join("root/serve")).arg(source);
    assert!(compiler.status().unwrap().success());
    shared().push("it-health/bare", "1", &dir.join("root"), r#"{"Cmd":["/serve"]}"#)
}

/// Answers 200 the first three times and 503 from then on.
const SERVE: &str = r#"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    int on = 1, s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(8080), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(s, (void *)&to, sizeof to) || listen(s, 16)) return 1;
    for (int n = 0;; n++) {
        char asked[4096], *answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        int c = accept(s, 0, 0);
        if (n >= 3) answer = "HTTP/1.1 503 Service Unavailable\r\n\r\nno more\n";
        read(c, asked, sizeof asked);
        write(c, answer, strlen(answer));
        close(c);
    }
}
"#;

fn a_probe_needs_no_program_in_the_image(config: &Value) {
    let lab = Lab::with(config);
    let image = bare();
    let one = |name: &str, probe: &str| {
        format!(
            "  {name}:\n    image: {image}\n    network_mode: none\n    healthcheck: {{interval: 100ms, retries: 1, timeout: 5s}}\n    x-longshore: {{probe: {probe}, on_unhealthy: none}}\n"
        )
    };
    lab.put(
        "a.yaml",
        &file(&[
            one("http", "{http: {port: 8080, path: /up}}"),
            one("tcp", "{tcp: {port: 8080}}"),
            one("closed", "{tcp: {port: 8081}}"),
            one("grpc", "{grpc: {port: 8080}}"),
        ]),
    );
    health(&lab, "a-tcp-1", "healthy");
    let c = health(&lab, "a-http-1", "unhealthy");
    assert!(
        c["reason"].as_str().is_some_and(|r| r.contains("GET /up on port 8080: 503 Service Unavailable: no more")),
        "{c:#}"
    );
    let c = health(&lab, "a-closed-1", "unhealthy");
    assert!(c["reason"].as_str().is_some_and(|r| r.contains("port 8081 cannot be connected to")), "{c:#}");
    health(&lab, "a-grpc-1", "unhealthy");
    event(&lab, "container.healthy", "a-http-1");
    lab.finish();
}

#[test]
fn a_daemon_that_is_killed_checks_again_and_touches_nobody() {
    let mut lab = Lab::new();
    let hour = "healthcheck: {test: 'echo again', interval: 1h, start_period: 1h, start_interval: 50ms}";
    lab.put("a.yaml", &file(&[with("a", IDLE, &["restart: always", hour])]));
    health(&lab, "a-a-1", "healthy");
    let before = lab.running("a-a-1");
    lab.kill();
    assert!(host::alive(before.pid));
    let begun = Instant::now();
    lab.start();
    health(&lab, "a-a-1", "healthy");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    lab.still("a-a-1", &before);
    assert_eq!(container(&lab.status(), "a-a-1").unwrap()["restarts"], 0);
    lab.finish();
}
