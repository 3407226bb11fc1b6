//! What changes on a container that runs, and what is told of services that are less confined than others.

use std::fs;

use serde_json::Value;

use crate::support::lab::{container, service as of_project};
use crate::support::{Lab, file, service, with};

const IDLE: &str = "[work, graceful, '0']";

/// What is recorded of a container.
fn record(lab: &Lab, id: &str) -> Value {
    let text = fs::read(lab.data().join("containers").join(id).join("container.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap()["spec"]["service"].clone()
}

#[test]
fn limits_labels_and_policies_change_on_a_container_that_runs() {
    let lab = Lab::new();
    let one = ["mem_limit: 64m", "labels: {tier: front}", "restart: always"];
    lab.put("a.yaml", &file(&[with("a", IDLE, &one), service("b", IDLE)]));
    let (before, sibling) = (lab.running("a-a-1"), lab.running("a-b-1"));
    let other =
        ["mem_limit: 128m", "pids_limit: 50", "labels: {tier: back}", "restart: on-failure:2", "stop_grace_period: 3s"];
    let edited = file(&[with("a", IDLE, &other), service("b", IDLE)]);
    let draft = lab.dir.join("a.yaml");
    fs::write(&draft, &edited).unwrap();
    let checked = lab.cli(&["check", draft.to_str().unwrap()]);
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(said.contains("mem_limit changed from 64 MiB to 128 MiB"), "{said}");
    assert_eq!(checked.status.code(), Some(2), "{said}");
    lab.put("a.yaml", &edited);
    let reason = "update: label tier changed, mem_limit changed from 64 MiB to 128 MiB, pids_limit changed from none to 50, \
                  restart changed from always to on-failure:2, stop_grace_period changed from 10000 ms to 3000 ms";
    lab.wait_for("the update", |s| {
        (s["settled"] == true && container(s, "a-a-1")?["reason"].as_str()? == reason).then_some(())
    });
    lab.still("a-a-1", &before);
    lab.still("a-b-1", &sibling);
    let recorded = record(&lab, &before.id);
    assert_eq!(recorded["resources"]["memory"], 128 << 20);
    assert_eq!((&recorded["labels"]["tier"], &recorded["stop_grace_ms"]), (&"back".into(), &3_000.into()));
    assert!(lab.log().contains("container.updated"), "{}", lab.log());
    // Nothing is left to be given, also after the daemon was killed.
    let mut lab = lab;
    lab.kill();
    lab.start();
    lab.still("a-a-1", &before);
    assert_eq!(lab.log().matches("container.updated").count(), 1);
    lab.finish();
}

#[test]
fn what_is_wide_is_shown_with_its_line() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", IDLE, &["cap_add:", "  - CHOWN", "  - SYS_TIME"]), service("b", IDLE)]));
    lab.running("a-a-1");
    let status = lab.status();
    let found = &of_project(&status, "a", "a").unwrap()["loosenings"];
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(
        (&found[0]["key"], &found[0]["what"]),
        (&"services.a.cap_add".into(), &"it has the capability CAP_SYS_TIME".into())
    );
    let place = found[0]["location"].as_str().unwrap();
    assert!(place.ends_with("a.yaml:8:9"), "{place}");
    assert_eq!(of_project(&status, "a", "b").unwrap()["loosenings"], Value::Array(Vec::new()));
    let said = String::from_utf8(lab.cli(&["status"]).stdout).unwrap();
    assert!(said.contains("a.yaml:8:9: a/a: it has the capability CAP_SYS_TIME"), "{said}");
    let checked = lab.cli(&["check", lab.state().to_str().unwrap()]);
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(said.contains("a.yaml:8:9: a/a: it has the capability CAP_SYS_TIME"), "{said}");
    assert_eq!(checked.status.code(), Some(0), "{said}");
    lab.finish();
}
