//! The state folder as a whole: gone, another one, emptied, unreadable. Nothing is removed by accident.

use std::fs;

use serde_json::Value;

use crate::support::lab::containers;
use crate::support::{Lab, file, service};

const IDLE: &str = "[work, graceful, '0']";

fn held(status: &Value) -> Option<String> {
    status["folder"]["held"]["reason"].as_str().map(str::to_owned)
}

#[test]
fn a_folder_that_vanishes_keeps_everything_and_is_followed_when_it_is_back() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    let before = lab.running("a-a-1");
    let away = lab.dir.join("away");
    fs::rename(lab.state(), &away).unwrap();
    let reason = lab.wait_for("the folder to be missed", held);
    assert!(reason.contains("everything is kept as it is"), "{reason}");
    assert_eq!(containers(&lab.status()).count(), 1);
    assert!(crate::support::host::alive(before.pid));
    // What can be confirmed is only what was seen.
    assert!(!lab.cli(&["confirm"]).status.success());
    fs::rename(&away, lab.state()).unwrap();
    lab.wait_for("the folder to be followed", |s| (s["settled"] == true && held(s).is_none()).then_some(()));
    lab.put("b.yaml", &file(&[service("b", IDLE)]));
    lab.running("b-b-1");
    lab.still("a-a-1", &before);
    lab.finish();
}

#[test]
fn a_folder_that_is_replaced_by_an_empty_one_removes_nothing_until_it_is_confirmed() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    let before = lab.running("a-a-1");
    fs::rename(lab.state(), lab.dir.join("away")).unwrap();
    fs::create_dir(lab.state()).unwrap();
    lab.wait_for("the doubt", |s| held(s).filter(|r| r.contains("suddenly empty")));
    lab.still("a-a-1", &before);
    assert!(lab.cli(&["confirm"]).status.success());
    lab.gone("a-a-1");
    lab.finish();
}

#[test]
fn a_folder_that_is_replaced_by_another_one_with_the_same_files_changes_nothing_and_is_watched() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    let before = lab.running("a-a-1");
    let next = lab.dir.join("next");
    fs::create_dir(&next).unwrap();
    fs::copy(lab.state().join("a.yaml"), next.join("a.yaml")).unwrap();
    fs::rename(lab.state(), lab.dir.join("away")).unwrap();
    fs::rename(&next, lab.state()).unwrap();
    lab.put("b.yaml", &file(&[service("b", IDLE)]));
    lab.running("b-b-1");
    lab.still("a-a-1", &before);
    lab.finish();
}

#[test]
fn the_last_file_that_is_seen_removed_removes_its_containers() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    lab.running("a-a-1");
    lab.remove("a.yaml");
    lab.gone("a-a-1");
    lab.finish();
}

#[test]
fn many_files_that_go_at_once_blow_a_fuse_that_confirm_mends() {
    let lab = Lab::new();
    for name in ["a", "b", "c", "d"] {
        lab.put(&format!("{name}.yaml"), &file(&[service("s", IDLE)]));
    }
    let kept: Vec<_> = ["a", "b", "c", "d"].map(|name| lab.running(&format!("{name}-s-1"))).into();
    // Moved away in one go, as a slip of the hand does it.
    let state = lab.state();
    for name in ["a", "b", "c"] {
        fs::remove_file(state.join(format!("{name}.yaml"))).unwrap();
    }
    lab.wait_for("the fuse", |s| held(s).filter(|r| r.contains("3 of 4 projects would be removed")));
    for (name, before) in ["a", "b", "c", "d"].iter().zip(&kept) {
        lab.still(&format!("{name}-s-1"), before);
    }
    let said = lab.cli(&["status"]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("longshore confirm"));
    assert!(lab.cli(&["confirm"]).status.success());
    lab.gone("a-s-1");
    lab.still("d-s-1", &kept[3]);
    lab.finish();
}

#[test]
fn a_folder_that_cannot_be_read_at_the_start_removes_nothing() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    let before = lab.running("a-a-1");
    lab.stop();
    fs::rename(lab.state(), lab.dir.join("away")).unwrap();
    // Not a folder either: it cannot be read by anybody, not even by root.
    fs::write(lab.state(), "").unwrap();
    // Not ready without a look at the folder; what runs is left alone and the API says why.
    lab.start_unready();
    let reason = lab.wait_for("the folder to be missed", |s| held(s).or_else(|| unready(s)));
    assert!(reason.contains("state"), "{reason}");
    assert!(crate::support::host::alive(before.pid));
    fs::remove_file(lab.state()).unwrap();
    fs::rename(lab.dir.join("away"), lab.state()).unwrap();
    lab.still("a-a-1", &before);
    lab.finish();
}

fn unready(status: &Value) -> Option<String> {
    (status["ready"] == false).then(|| status["folder"].to_string()).filter(|f| f.contains("cannot be read"))
}

#[test]
fn another_state_folder_for_the_same_data_removes_nothing_until_it_is_confirmed() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    let before = lab.running("a-a-1");
    lab.stop();
    let (first, second) = (lab.state(), lab.dir.join("second"));
    fs::create_dir(&second).unwrap();
    fs::write(second.join("b.yaml"), file(&[service("b", IDLE)])).unwrap();
    lab.state_name = "second".into();
    lab.start();
    lab.running("b-b-1");
    lab.wait_for("the doubt", |s| {
        held(s).filter(|r| r.contains(&format!("another state folder than {}", first.display())))
    });
    lab.still("a-a-1", &before);
    assert!(lab.cli(&["confirm"]).status.success());
    lab.gone("a-a-1");
    lab.finish();
}
