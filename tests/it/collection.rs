//! Which images go when their disk is full or somebody tidies up, and which ones stay.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::base::new_dir;
use crate::support::lab::container;
use crate::support::registry::{Registry, free_port, root, shared};
use crate::support::{Disk, Lab, file, http};

/// What each image takes beside the test root.
const MIB: usize = 6;
const CONFIG: &str = r#"{"Cmd":["work","graceful","0"],"Env":["PATH=/bin"],"WorkingDir":"/tmp"}"#;

/// The test root with content that no other image has.
fn root_of(name: &str) -> PathBuf {
    let dir = new_dir();
    let copied = Command::new("cp").arg("-a").arg(root()).arg(dir.join("root")).status();
    assert!(copied.is_ok_and(|status| status.success()), "copied");
    let content: Vec<u8> = name.bytes().cycle().take(MIB << 20).collect();
    fs::write(dir.join("root/content"), content).unwrap();
    dir.join("root")
}

/// `it-collect/NAME:1` with content of its own.
fn pushed(registry: &Registry, name: &str, content: &str) -> String {
    registry.push(&format!("it-collect/{name}"), "1", &root_of(content), CONFIG)
}

fn of(name: &str, image: &str, more: &str) -> String {
    format!("  {name}:\n    image: {image}\n    network_mode: none\n    stop_grace_period: 5s\n{more}")
}

/// Names of all images that are here; of those without one, the digest.
fn here(lab: &Lab) -> Vec<String> {
    let (code, images) = http::get(&lab.socket(), "/api/v1/images").unwrap();
    assert_eq!(code, 200, "{images}");
    let name = |image: &Value| image["names"][0].as_str().or(image["digest"].as_str()).unwrap().to_owned();
    images.as_array().or(images["images"].as_array()).unwrap().iter().map(name).collect()
}

#[track_caller]
fn gone(lab: &Lab, image: &str) {
    lab.wait_for(&format!("{image} to be removed"), |_| (!here(lab).contains(&image.to_owned())).then_some(()));
}

#[track_caller]
fn cli(lab: &Lab, args: &[&str]) -> String {
    let done = lab.cli(args);
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{args:?}: {said}");
    said
}

#[track_caller]
fn refused(lab: &Lab, args: &[&str]) -> String {
    let done = lab.cli(args);
    assert!(!done.status.success(), "{args:?}");
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// A daemon whose images lie on a small disk.
fn small(mib: u64, collect: &Value) -> (Lab, Disk) {
    let mut lab = Lab::stopped(&json!({"images": {"collect": collect}}));
    let disk = Disk::mount(&lab.data().join("images"), mib);
    lab.start();
    (lab, disk)
}

/// The disk goes first: what the lab looks at in the end are its own folders.
fn finish(mut lab: Lab, disk: Disk) {
    for entry in fs::read_dir(lab.state()).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    lab.wait_for("everything to be removed", |s| (s["settled"] == true && s["projects"] == json!([])).then_some(()));
    assert!(lab.stop().0.success());
    disk.unmount();
    lab.finish();
}

#[test]
fn on_a_full_disk_what_nobody_needs_goes_once_it_is_old_and_nothing_else() {
    let min_age = Duration::from_secs(8);
    let (lab, disk) = small(160, &json!({"start": 60, "stop": 50, "min-age": "8s"}));
    let [old, used, kept, young] = ["old", "used", "kept", "young"].map(|name| pushed(shared(), name, name));
    let tag = pushed(shared(), "tag", "first");
    let services = || [of("used", &used, ""), of("tag", &tag, "    pull_policy: every_1s\n")];
    lab.put("a.yaml", &file(&services()));
    lab.put("b.yaml", &file(&[of("old", &old, "")]));
    // Pulled first and never used: of all, it would go first.
    cli(&lab, &["image", "pull", &kept]);
    cli(&lab, &["image", "pin", &kept]);
    let [was_used, was_tag, _] = ["a-used-1", "a-tag-1", "b-old-1"].map(|name| lab.running(name));
    let before = container(&lab.status(), "a-tag-1").unwrap()["image_digest"].as_str().unwrap().to_owned();
    pushed(shared(), "tag", "second");
    let is_tag = lab.replaced("a-tag-1", &was_tag);
    let old_used = Instant::now();
    lab.remove("b.yaml");
    lab.gone("b-old-1");
    let young_pulled = Instant::now();
    cli(&lab, &["image", "pull", &young]);
    disk.fill(90);
    gone(&lab, &old);
    assert!(old_used.elapsed() >= min_age, "{:?}", old_used.elapsed());
    gone(&lab, &young);
    assert!(young_pulled.elapsed() >= min_age, "{:?}", young_pulled.elapsed());
    // It is still full, and that is said.
    let problem = lab.problem("no image can be removed: 4 are in use or kept, 0 are too young");
    assert_eq!(problem["severity"], "warning", "{problem}");
    assert!(cli(&lab, &["status"]).contains("no image can be removed"));
    assert!(disk.used() >= 60);
    let mut left = here(&lab);
    left.sort();
    let mut expected = vec![used, kept, tag, before];
    expected.sort();
    assert_eq!(left, expected);
    lab.still("a-used-1", &was_used);
    lab.still("a-tag-1", &is_tag);
    let log = lab.log();
    let told = |image: &str| log.lines().position(|line| line.contains("image.removed") && line.contains(image));
    assert!(told(&old).unwrap() < told(&young).unwrap(), "{log}");
    let line = log.lines().nth(told(&old).unwrap()).unwrap();
    assert!(line.contains("% full (removal starts at 60 %); not used for"), "{line}");
    assert_eq!(log.matches("image.removed").count(), 2);
    finish(lab, disk);
}

#[test]
fn the_image_that_was_not_used_for_longest_goes_and_no_more_than_is_needed() {
    let (lab, disk) = small(160, &json!({"start": 80, "stop": 79, "min-age": "1s"}));
    let [first, second, third] = ["first", "second", "third"].map(|name| pushed(shared(), name, name));
    cli(&lab, &["image", "pull", &first]);
    std::thread::sleep(Duration::from_millis(20));
    cli(&lab, &["image", "pull", &second]);
    // The first one is used after the second one came.
    lab.put("a.yaml", &file(&[of("a", &first, "")]));
    lab.running("a-a-1");
    lab.remove("a.yaml");
    lab.gone("a-a-1");
    std::thread::sleep(Duration::from_millis(1_100));
    disk.fill(78);
    // With the third one it is more than 80 %; it is too young itself.
    cli(&lab, &["image", "pull", &third]);
    gone(&lab, &second);
    // Its name goes first, its files a moment later.
    lab.wait_for("room on the disk", |_| (disk.used() < 80).then_some(()));
    // Another look, at another time: nothing more goes.
    std::thread::sleep(Duration::from_millis(1_100));
    lab.put("b.yaml", &file(&[of("b", &third, "")]));
    lab.running("b-b-1");
    let mut left = here(&lab);
    left.sort();
    assert_eq!(left, [first, third]);
    finish(lab, disk);
}

#[test]
fn by_hand_nothing_is_removed_that_somebody_needs() {
    let lab = Lab::new();
    let [used, wanted, kept, spare] = ["hand-used", "hand-wanted", "hand-kept", "hand-spare"]
        .map(|name| shared().push(&format!("it-collect/{name}"), "1", root(), &CONFIG.replace("PATH=/bin", name)));
    lab.put("a.yaml", &file(&[of("a", &used, ""), of("none", &wanted, "    scale: 0\n")]));
    let running = lab.running("a-a-1");
    for image in [&wanted, &kept, &spare] {
        cli(&lab, &["image", "pull", image]);
    }
    cli(&lab, &["image", "pin", &kept]);
    cli(&lab, &["image", "tag", &used, "other:name"]);
    // One of two names may go; the image with both never.
    let told = refused(&lab, &["image", "rm", "--force", &used]);
    assert!(told.contains("is in use by container a-a-1 of service a/a"), "{told}");
    assert!(here(&lab).contains(&used), "{:?}", here(&lab));
    cli(&lab, &["image", "rm", "other:name"]);
    let told = refused(&lab, &["image", "rm", &used]);
    assert!(told.contains("is in use by container a-a-1 of service a/a"), "{told}");
    let dry = cli(&lab, &["image", "prune", "-a", "--dry-run"]);
    assert!(dry.contains(&spare) && !dry.contains(&used) && !dry.contains(&wanted) && !dry.contains(&kept), "{dry}");
    cli(&lab, &["image", "prune", "-a"]);
    let mut left = here(&lab);
    left.sort();
    let mut expected = vec![used.clone(), wanted, kept];
    expected.sort();
    assert_eq!(left, expected);
    lab.still("a-a-1", &running);
    lab.remove("a.yaml");
    lab.gone("a-a-1");
    assert!(cli(&lab, &["image", "prune", "-a"]).contains(&used));
    lab.finish();
}

#[test]
fn names_without_a_registry_are_of_the_one_that_the_configuration_says() {
    let registry = Registry::start(free_port());
    registry.push_box();
    let lab = Lab::with(&json!({"default-registry": registry.host}));
    lab.put("a.yaml", &file(&[of("a", "it/box", "")]));
    lab.running("a-a-1");
    let full = format!("{}/it/box:latest", registry.host);
    assert_eq!(container(&lab.status(), "a-a-1").unwrap()["image"], full.as_str());
    cli(&lab, &["image", "pull", "it/box"]);
    let told = refused(&lab, &["image", "rm", "it/box"]);
    assert!(told.contains(&full), "{told}");
    lab.finish();
}
