//! When containers are started again, how they are stopped, how many there are.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::lab::{container, containers, ended};
use crate::support::registry::{Registry, free_port, root, shared};
use crate::support::{Lab, file, host, service, with, with_both_runtimes};

const IDLE: &str = "[work, graceful, '0']";

with_both_runtimes! {
    restart_no_leaves_what_ended_whatever_its_code,
    a_command_that_is_not_in_the_image_is_named,
    the_stop_signal_of_the_file_is_sent,
    who_ignores_the_signal_is_killed_after_the_grace,
    work_that_must_run_once_never_runs_twice_while_its_shim_and_its_daemon_are_killed,
    who_crashes_is_told_with_its_signal_and_what_it_left_dies_with_it,
}

fn restart_no_leaves_what_ended_whatever_its_code(config: &Value) {
    let lab = Lab::with(config);
    lab.put(
        "a.yaml",
        &file(&[service("good", "[work, exit, '0']"), with("bad", "[work, exit, '3']", &["restart: 'no'"])]),
    );
    assert_eq!((lab.exited("a-good-1"), lab.exited("a-bad-1")), (0, 3));
    let status = lab.status();
    for name in ["a-good-1", "a-bad-1"] {
        let c = container(&status, name).unwrap();
        assert!(c["restarts"] == 0 && c["next_attempt"].is_null(), "{c}");
    }
    assert_eq!(crate::support::lab::service(&status, "a", "good").unwrap()["phase"], "applied");
    assert_eq!(crate::support::lab::service(&status, "a", "bad").unwrap()["phase"], "failing");
    lab.finish();
}

#[test]
fn restart_always_starts_again_and_shows_the_back_off() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", "[sh, -c, 'echo run; exit 0']", &["restart: always"])]));
    let waiting = lab.wait_for("the fourth back-off", |s| {
        let c = container(s, "a-a-1")?;
        (c["restarts"].as_u64()? >= 3 && c["next_attempt"].is_string()).then(|| c.clone())
    });
    assert!(waiting["reason"].as_str().is_some_and(|r| r.contains("started again after a pause")), "{waiting}");
    let ps = String::from_utf8(lab.cli(&["ps", "-a"]).stdout).unwrap();
    assert!(ps.contains("a-a-1"), "{ps}");
    assert!(lab.output("a-a-1").lines().count() >= 4);
    lab.finish();
}

#[test]
fn restart_on_failure_gives_up_after_its_attempts_and_accepts_success() {
    let lab = Lab::new();
    lab.put(
        "a.yaml",
        &file(&[
            with("bad", "[sh, -c, 'echo run; exit 4']", &["restart: on-failure:2"]),
            with("good", "[sh, -c, 'echo run; exit 0']", &["restart: on-failure:2"]),
        ]),
    );
    lab.wait_for("it to be given up", |s| {
        let c = container(s, "a-bad-1")?;
        c["reason"].as_str()?.contains("all its attempts are used up").then_some(())
    });
    assert_eq!(lab.exited("a-bad-1"), 4);
    assert_eq!(lab.output("a-bad-1"), "run\n".repeat(3));
    assert_eq!(lab.output("a-good-1"), "run\n");
    assert_eq!(container(&lab.status(), "a-bad-1").unwrap()["restarts"], 2);
    lab.finish();
}

#[test]
fn a_changed_policy_acts_without_another_container() {
    let lab = Lab::new();
    lab.put(
        "a.yaml",
        &file(&[service(
            "a",
            "[sh, -c, 'echo run; [ -e /tmp/3 ] && exec work graceful 0; [ -e /tmp/2 ] && touch /tmp/3; [ -e /tmp/1 ] && touch /tmp/2; touch /tmp/1; exit 1']",
        )]),
    );
    assert_eq!(lab.exited("a-a-1"), 1);
    let id = container(&lab.status(), "a-a-1").unwrap()["id"].clone();
    lab.put(
        "a.yaml",
        &file(&[with(
            "a",
            "[sh, -c, 'echo run; [ -e /tmp/3 ] && exec work graceful 0; [ -e /tmp/2 ] && touch /tmp/3; [ -e /tmp/1 ] && touch /tmp/2; touch /tmp/1; exit 1']",
            &["restart: unless-stopped"],
        )]),
    );
    let running = lab.running("a-a-1");
    assert_eq!(id, running.id.as_str());
    lab.finish();
}

fn a_command_that_is_not_in_the_image_is_named(config: &Value) {
    let lab = Lab::with(config);
    lab.put("a.yaml", &file(&[service("a", "[no-such-command, x]"), service("b", IDLE)]));
    let c = lab.wait_for("the failure", |s| {
        let c = container(s, "a-a-1")?;
        (c["state"]["status"] == "start_failed" && c["next_attempt"].is_string()).then(|| c.clone())
    });
    let error = c["state"]["error"].as_str().unwrap();
    assert!(error.contains("no-such-command"), "{error}");
    lab.wait_for("its sibling", |s| (container(s, "a-b-1")?["state"]["status"] == "running").then_some(()));
    let said = String::from_utf8(lab.cli(&["status"]).stdout).unwrap();
    assert!(said.contains("no-such-command"), "{said}");
    lab.put("a.yaml", &file(&[service("a", IDLE), service("b", IDLE)]));
    lab.running("a-a-1");
    lab.finish();
}

fn the_stop_signal_of_the_file_is_sent(config: &Value) {
    let lab = Lab::with(config);
    let command = "[sh, -c, \"trap 'echo usr1; exit 0' USR1; echo up; while :; do sleep 0.05; done\"]";
    lab.put("a.yaml", &file(&[with("a", command, &["stop_signal: SIGUSR1", "stop_grace_period: 20s"])]));
    lab.running("a-a-1");
    lab.says("a-a-1", "up");
    let follow = lab.client(&["logs", "-f", "a-a-1"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    lab.remove("a.yaml");
    lab.gone("a-a-1");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    // Whoever follows reads the last words, then the end.
    let said = String::from_utf8(ended(follow).stdout).unwrap();
    assert!(said.contains("usr1"), "{said}");
    lab.finish();
}

fn who_ignores_the_signal_is_killed_after_the_grace(config: &Value) {
    let lab = Lab::with(config);
    lab.put("a.yaml", &file(&[with("a", "[work, stubborn]", &["stop_grace_period: 700ms"])]));
    let before = lab.running("a-a-1");
    lab.says("a-a-1", "stubborn");
    let begun = Instant::now();
    lab.remove("a.yaml");
    lab.gone("a-a-1");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(10), "{took:?}");
    assert!(!host::alive(before.pid));
    lab.finish();
}

#[test]
fn a_service_is_scaled_up_and_down_and_the_first_ones_stay() {
    let lab = Lab::new();
    let scaled = |n: u32| file(&[with("a", IDLE, &[&format!("scale: {n}")])]);
    lab.put("a.yaml", &scaled(1));
    let first = lab.running("a-a-1");
    lab.put("a.yaml", &scaled(3));
    let second = lab.running("a-a-2");
    lab.running("a-a-3");
    lab.still("a-a-1", &first);
    lab.put("a.yaml", &file(&[with("a", IDLE, &["deploy: {replicas: 2}"])]));
    lab.gone("a-a-3");
    lab.still("a-a-1", &first);
    lab.still("a-a-2", &second);
    lab.put("a.yaml", &scaled(0));
    lab.gone("a-a-1");
    assert_eq!(containers(&lab.status()).count(), 0);
    lab.finish();
}

#[test]
fn the_shim_of_a_container_is_killed_and_it_comes_back_once() {
    let lab = Lab::new();
    // Only one process can have the port: two at once would say so.
    let port = free_port();
    let image = crate::support::registry::image();
    let text = format!(
        "services:\n  a:\n    image: {image}\n    network_mode: host\n    restart: always\n    init: true\n    command: [work, listen, '{port}']\n"
    );
    lab.put("a.yaml", &text);
    let mut before = lab.running("a-a-1");
    for _ in 0..3 {
        lab.says("a-a-1", "listening");
        host::signal(before.shim, Signal::SIGKILL);
        before = lab.replaced("a-a-1", &before);
        // `init`, and the program: of one run, not of two.
        let pids = lab.pids_of(&before);
        assert!(pids.len() <= 2 && pids.contains(&before.pid), "{pids:?}");
    }
    lab.says("a-a-1", "listening");
    assert!(!lab.output("a-a-1").contains("bind errno"), "{}", lab.output("a-a-1"));
    lab.finish();
}

fn work_that_must_run_once_never_runs_twice_while_its_shim_and_its_daemon_are_killed(config: &Value) {
    let mut lab = Lab::with(config);
    lab.put(
        "a.yaml",
        &file(&[with("a", "[work, serial, /tmp/serial]", &["restart: always", "stop_grace_period: 0s"])]),
    );
    let mut before = lab.running("a-a-1");
    for round in 0..4 {
        if round % 2 == 0 {
            lab.kill();
        }
        host::signal(before.shim, Signal::SIGKILL);
        if round % 2 == 0 {
            lab.start();
        }
        before = lab.replaced("a-a-1", &before);
        assert_eq!(lab.pids_of(&before), [before.pid], "one process, of the present run");
    }
    let root = format!("/proc/{}/root/tmp/serial", before.pid);
    let text = lab.wait_for("its notes", |_| std::fs::read_to_string(&root).ok().filter(|t| t.lines().count() > 5));
    assert!(!text.contains("CONFLICT"), "{text}");
    let times: Vec<u64> = text.lines().map(|l| l.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    // One writer makes a note each 50 ms; two would make them closer together.
    assert!(times.windows(2).all(|pair| pair[1] >= pair[0] + 50), "{times:?}");
    lab.finish();
}

fn who_crashes_is_told_with_its_signal_and_what_it_left_dies_with_it(config: &Value) {
    let lab = Lab::with(config);
    lab.put(
        "a.yaml",
        &file(&[
            service("crash", "[work, crash]"),
            service("orphan", "[work, orphan]"),
            service("zombies", "[work, zombies, '500']"),
        ]),
    );
    assert_eq!(lab.exited("a-crash-1"), 139);
    assert_eq!(lab.exited("a-orphan-1"), 0);
    let how = container(&lab.status(), "a-crash-1").unwrap()["state"]["how"].clone();
    assert!(how.as_str().is_some_and(|how| how.contains("SIGSEGV")), "{how}");
    assert!(!lab.output("a-orphan-1").is_empty());
    lab.finish();
}

// ---- pull_policy ----------------------------------------------------------------------------------------------------------

/// The test image again, with another digest for each version, under the same name.
fn moving(registry: &Registry, repository: &str, version: u32) -> String {
    let config =
        format!(r#"{{"Cmd":["work","graceful","0"],"Env":["PATH=/bin","VERSION={version}"],"WorkingDir":"/tmp"}}"#);
    registry.push(repository, "1", root(), &config)
}

fn pulling(name: &str, image: &str, policy: &str) -> String {
    format!("  {name}:\n    image: {image}\n    network_mode: none\n    pull_policy: {policy}\n")
}

fn digest(status: &Value, name: &str) -> String {
    container(status, name).unwrap()["image_digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_tag_that_moves_replaces_who_follows_it_and_nobody_else() {
    let lab = Lab::new();
    let image = moving(shared(), "it/moving", 1);
    let services = [("new", "every_2s"), ("stays", "missing"), ("never", "never")];
    let texts: Vec<String> = services.iter().map(|(name, policy)| pulling(name, &image, policy)).collect();
    lab.put("a.yaml", &file(&texts));
    let before: Vec<_> = services.iter().map(|(name, _)| lab.running(&format!("a-{name}-1"))).collect();
    let old = digest(&lab.status(), "a-new-1");
    moving(shared(), "it/moving", 2);
    lab.replaced("a-new-1", &before[0]);
    let status = lab.wait_for("it to be settled", |s| (s["settled"] == true).then(|| s.clone()));
    assert_ne!(digest(&status, "a-new-1"), old);
    for (at, name) in [(1, "a-stays-1"), (2, "a-never-1")] {
        lab.still(name, &before[at]);
        assert_eq!(digest(&status, name), old);
    }
    let log = lab.log();
    let short = |digest: &str| digest.trim_start_matches("sha256:")[..12].to_owned();
    let moved = format!("moved from {} to {}", short(&old), short(&digest(&status, "a-new-1")));
    assert!(log.contains(&moved) && log.contains("image.moved"), "{moved}: {log}");
    // Asked again and again, and nothing moved: nothing is done.
    let now = lab.running("a-new-1");
    std::thread::sleep(Duration::from_secs(5));
    lab.still("a-new-1", &now);
    assert_eq!(lab.log().matches("image.moved").count(), 1);
    lab.finish();
}

#[test]
fn a_registry_that_goes_away_changes_nothing_and_is_followed_again_when_it_is_back() {
    let lab = Lab::new();
    let port = free_port();
    let registry = Registry::start(port);
    let image = moving(&registry, "it/box", 1);
    lab.put("a.yaml", &file(&[pulling("a", &image, "every_1s")]));
    let before = lab.running("a-a-1");
    drop(registry);
    let phase = lab.wait_for("the failed question to be shown", |s| {
        let shown = s["waiting"].to_string().contains("is used: its registry could not be asked");
        shown.then(|| crate::support::lab::service(s, "a", "a").unwrap()["phase"].clone())
    });
    assert!(phase == "applied" || phase == "applying", "{phase}");
    lab.still("a-a-1", &before);
    let registry = Registry::start(port);
    moving(&registry, "it/box", 2);
    lab.replaced("a-a-1", &before);
    lab.finish();
}
