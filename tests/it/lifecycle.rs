//! The main job: a file appears, changes, goes. With both runtimes.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Lab, file, host, service, with, with_both_runtimes};

with_both_runtimes! {
    a_file_comes_changes_and_goes,
    containers_run_on_when_the_daemon_is_killed_and_are_adopted,
    a_container_whose_init_is_killed_is_restarted,
}

fn a_file_comes_changes_and_goes(config: &Value) {
    let lab = Lab::with(config);
    let (web, db) = (service("web", "[work, graceful, '0']"), service("db", "[work, graceful, '0']"));
    lab.put("shop.yaml", &file(&[web, db.clone()]));
    let (web1, db1) = (lab.running("shop-web-1"), lab.running("shop-db-1"));
    assert!(lab.pids_of(&web1).contains(&web1.pid));
    let edited = with("web", "[work, graceful, '0']", &["environment: {COLOUR: blue}"]);
    lab.put("shop.yaml", &file(&[edited.clone(), db]));
    let web2 = lab.replaced("shop-web-1", &web1);
    assert!(!host::alive(web1.pid));
    lab.still("shop-db-1", &db1);
    // A service leaves, the other one stays.
    lab.put("shop.yaml", &file(&[edited]));
    lab.gone("shop-db-1");
    lab.still("shop-web-1", &web2);
    lab.remove("shop.yaml");
    lab.gone("shop-web-1");
    assert!(!host::alive(web2.pid) && !host::alive(web2.shim));
    lab.finish();
}

/// `tick N` for N from 0 upwards: no line is lost or written twice.
fn ticks(output: &str) -> usize {
    for (at, line) in output.lines().enumerate() {
        assert_eq!(line, format!("tick {at}"), "in {output}");
    }
    output.lines().count()
}

fn containers_run_on_when_the_daemon_is_killed_and_are_adopted(config: &Value) {
    let mut lab = Lab::with(config);
    lab.put("clock.yaml", &file(&[service("a", "[work, tick, '20']"), service("b", "[work, tick, '20']")]));
    let (a, b) = (lab.running("clock-a-1"), lab.running("clock-b-1"));
    let before = ticks(&lab.says("clock-a-1", "tick 5\n"));
    lab.kill();
    assert!(host::alive(a.pid) && host::alive(b.pid) && host::alive(a.shim));
    lab.start();
    lab.still("clock-a-1", &a);
    lab.still("clock-b-1", &b);
    assert!(ticks(&lab.says("clock-a-1", &format!("tick {}\n", before + 20))) > before);
    lab.finish();
}

fn a_container_whose_init_is_killed_is_restarted(config: &Value) {
    let lab = Lab::with(config);
    lab.put("a.yaml", &file(&[with("a", "[work, graceful, '0']", &["restart: always"])]));
    let first = lab.running("a-a-1");
    host::signal(first.pid, Signal::SIGKILL);
    let second = lab.replaced("a-a-1", &first);
    assert_eq!(second.id, first.id, "the same container again");
    lab.wait_for("the restart to be counted", |s| {
        (crate::support::lab::container(s, "a-a-1")?["restarts"] == 1).then_some(())
    });
    lab.finish();
}
