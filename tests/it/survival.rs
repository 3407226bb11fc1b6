//! The daemon and its data directory: stopped, doubled, and without its database.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::lab::{container, containers};
use crate::support::{Lab, file, host, service, with};

const IDLE: &str = "[work, graceful, '0']";

#[test]
fn sigterm_ends_the_daemon_with_0_and_containers_run_on() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    let before = lab.running("a-a-1");
    let (status, took) = lab.stop();
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
    assert!(host::alive(before.pid) && host::alive(before.shim));
    assert!(!lab.socket().exists());
    lab.start();
    lab.still("a-a-1", &before);
    lab.finish();
}

#[test]
fn containers_are_stopped_with_the_daemon_where_the_configuration_says_so() {
    let mut lab = Lab::with(&json!({"stop-containers-on-shutdown": true}));
    lab.put("a.yaml", &file(&[with("a", IDLE, &["restart: always"])]));
    let before = lab.running("a-a-1");
    let (status, took) = lab.stop();
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
    assert!(!host::alive(before.pid) && !host::alive(before.shim));
    lab.start();
    assert_eq!(lab.replaced("a-a-1", &before).id, before.id);
    assert!(lab.output("a-a-1").contains("bye"), "it was asked before it was killed");
    lab.finish();
}

#[test]
fn a_container_that_ends_while_no_daemon_runs_is_seen_with_its_code() {
    let mut lab = Lab::new();
    lab.put(
        "a.yaml",
        &file(&[service("a", "[sh, -c, \"trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done\"]")]),
    );
    let before = lab.running("a-a-1");
    lab.says("a-a-1", "up");
    lab.kill();
    host::signal(before.pid, Signal::SIGTERM);
    lab.start();
    assert_eq!(lab.exited("a-a-1"), 5);
    lab.finish();
}

#[test]
fn a_file_that_is_removed_while_no_daemon_runs_is_removed_at_the_next_start() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    lab.put("b.yaml", &file(&[service("b", IDLE)]));
    let (a, b) = (lab.running("a-a-1"), lab.running("b-b-1"));
    lab.kill();
    lab.remove("a.yaml");
    lab.start();
    lab.gone("a-a-1");
    assert!(!host::alive(a.pid));
    lab.still("b-b-1", &b);
    lab.finish();
}

/// A second daemon on the same data directory ends at once and names the first one.
fn refused(lab: &Lab, data: &Path) {
    let mut second = lab.daemon_command(data);
    second.arg("--socket").arg(lab.dir.join("other.sock"));
    let second = second.output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("in use") && said.contains(&format!("pid {}", lab.daemon_pid())), "{said}");
}

#[test]
fn a_second_daemon_on_the_same_data_ends_at_once_by_whatever_path_it_comes() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    let before = lab.running("a-a-1");
    refused(&lab, &lab.data());
    let link = lab.dir.join("link");
    symlink(lab.data(), &link).unwrap();
    refused(&lab, &link);
    let bound = lab.dir.join("bound");
    fs::create_dir(&bound).unwrap();
    mount(Some(&lab.data()), &bound, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    refused(&lab, &bound);
    umount2(&bound, MntFlags::MNT_DETACH).unwrap();
    lab.still("a-a-1", &before);
    lab.finish();
}

/// Every file of the database, damaged.
fn damage(db: &Path, how: &dyn Fn(&Path)) {
    for entry in fs::read_dir(db).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { damage(&path, how) } else { how(&path) }
    }
}

fn a_lost_database(how: impl Fn(&Path)) {
    let mut lab = Lab::new();
    lab.put(
        "a.yaml",
        &file(&[with("a", "[work, tick, '50']", &["restart: always"]), service("done", "[work, exit, '0']")]),
    );
    let before = lab.running("a-a-1");
    assert_eq!(lab.exited("a-done-1"), 0);
    lab.stop();
    let db = lab.data().join("db");
    assert!(db.is_dir());
    how(&db);
    lab.start();
    let note = lab.wait_for("a note in the status", |s| s["store"]["note"].as_str().map(str::to_owned));
    assert!(note.contains("rebuilt"), "{note}");
    lab.still("a-a-1", &before);
    assert_eq!(lab.exited("a-done-1"), 0, "what had ended was not started again");
    assert_eq!(containers(&lab.status()).count(), 2);
    assert!(lab.output("a-a-1").lines().filter(|l| *l == "tick 0").count() == 1);
    // It is a database like any other from now on.
    lab.kill();
    lab.start();
    assert_eq!(lab.status()["store"]["note"], json!(null));
    lab.still("a-a-1", &before);
    lab.finish();
}

#[test]
fn a_database_that_was_deleted_costs_no_container() {
    a_lost_database(|db| fs::remove_dir_all(db).unwrap());
}
#[test]
fn a_database_that_was_emptied_costs_no_container() {
    a_lost_database(|db| {
        fs::remove_dir_all(db).unwrap();
        fs::create_dir(db).unwrap();
    });
}
#[test]
fn a_database_that_was_truncated_costs_no_container() {
    a_lost_database(|db| damage(db, &cut));
}
#[test]
fn a_database_of_garbage_costs_no_container() {
    a_lost_database(|db| damage(db, &|path| fs::write(path, [0x5a; 4096]).unwrap()));
}

fn cut(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length / 3).unwrap();
}

#[test]
fn a_lost_database_and_a_lost_folder_together_remove_nothing() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    lab.put("b.yaml", &file(&[service("b", IDLE)]));
    let (a, b) = (lab.running("a-a-1"), lab.running("b-b-1"));
    lab.stop();
    fs::remove_dir_all(lab.data().join("db")).unwrap();
    fs::rename(lab.state(), lab.dir.join("away")).unwrap();
    fs::create_dir(lab.state()).unwrap();
    lab.start();
    lab.wait_for("the doubt", |s| s["folder"]["held"]["reason"].as_str().map(str::to_owned));
    lab.still("a-a-1", &a);
    lab.still("b-b-1", &b);
    fs::remove_dir(lab.state()).unwrap();
    fs::rename(lab.dir.join("away"), lab.state()).unwrap();
    lab.wait_for("the folder to be followed", |s| s["folder"]["held"].is_null().then_some(()));
    lab.still("a-a-1", &a);
    lab.still("b-b-1", &b);
    lab.finish();
}

#[test]
fn a_daemon_that_is_killed_while_it_works_is_carried_on_by_the_next_one() {
    let mut lab = Lab::new();
    let names: Vec<String> = (0..6).map(|n| format!("s{n}")).collect();
    let text = |colour: &str| {
        let more = format!("environment: {{COLOUR: {colour}}}");
        file(&names.iter().map(|name| with(name, IDLE, &[&more])).collect::<Vec<_>>())
    };
    for round in 0..6 {
        lab.put("a.yaml", &text(&round.to_string()));
        // At another step each time: when so many of the containers are there.
        lab.wait_for("some of it", |s| {
            (containers(s).filter(|c| c["state"]["status"] == "running").count() >= round).then_some(())
        });
        lab.kill();
        lab.start();
    }
    let pids: Vec<i32> = names.iter().map(|name| lab.running(&format!("a-{name}-1")).pid).collect();
    assert_eq!(pids.iter().filter(|pid| host::alive(**pid)).count(), 6);
    let all: Vec<i32> = host::cgroups(&lab.instance)
        .iter()
        .flat_map(|cgroup| fs::read_dir(cgroup).unwrap().flatten().map(|e| e.file_name()))
        .flat_map(|id| host::pids_in(&lab.instance, id.to_str().unwrap()))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    assert_eq!(all.len(), 6, "nobody runs twice: {all:?} for {pids:?}");
    for name in &names {
        let pid = lab.running(&format!("a-{name}-1")).pid;
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert!(String::from_utf8_lossy(&environment).contains("COLOUR=5"));
    }
    lab.finish();
}

#[test]
fn sigusr1_writes_the_state_to_the_log() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    lab.running("a-a-1");
    host::signal(lab.daemon_pid(), Signal::SIGUSR1);
    lab.wait_for("the dump", |_| {
        lab.log().lines().any(|l| l.contains("state of the reconciler") && l.contains("a-a-1")).then_some(())
    });
    lab.finish();
}

#[test]
fn sighup_reloads_debug_and_says_what_needs_a_restart() {
    let lab = Lab::new();
    let config = lab.dir.join("config.json");
    fs::write(&config, json!({"debug": true, "concurrency": {"pulls": 9}}).to_string()).unwrap();
    host::signal(lab.daemon_pid(), Signal::SIGHUP);
    lab.wait_for("the reload", |_| lab.log().contains("these need a restart").then_some(()));
    assert!(
        lab.log().lines().any(|l| l.contains("these need a restart") && l.contains("concurrency")),
        "{}",
        lab.log()
    );
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    lab.running("a-a-1");
    assert!(lab.log().contains("DEBUG"), "{}", lab.log());
    fs::write(&config, "{\"debgu\": true}").unwrap();
    host::signal(lab.daemon_pid(), Signal::SIGHUP);
    lab.wait_for("the refusal", |_| lab.log().contains("did you mean debug?").then_some(()));
    assert!(container(&lab.status(), "a-a-1").is_some());
    lab.finish();
}
