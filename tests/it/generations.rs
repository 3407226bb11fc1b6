//! Generations of real services: going back by hand and by itself, trying again, and newer images that are taken by themselves.

use serde_json::Value;

use crate::support::lab::service as seen;
use crate::support::registry::{Registry, free_port, root, shared};
use crate::support::{Lab, file, with};

const TEST: &str = "healthcheck: {test: 'test -e /tmp/well', interval: 100ms, retries: 3}";
const BACK: &str = "deploy: {update_config: {failure_action: rollback, monitor: 2s}}";

/// A service that is well, and says who it is.
fn well(who: &str, more: &[&str]) -> String {
    let script = format!("[sh, -c, 'echo I am {who}; touch /tmp/well; exec work graceful 0']");
    file(&[with("web", &script, &[&["restart: unless-stopped", TEST, BACK], more].concat())])
}

/// One that ends at once.
fn bad(who: &str) -> String {
    let script = format!("[sh, -c, 'echo I am {who}; exit 7']");
    file(&[with("web", &script, &["restart: unless-stopped", TEST, BACK])])
}

fn web(status: &Value) -> Option<&Value> {
    seen(status, "a", "web")
}

fn generation(lab: &Lab, number: u64, outcome: &str) -> Value {
    let mut last = Value::Null;
    lab.until(&format!("generation {number} to be {outcome}"), || {
        last = history(lab);
        let one = last["generations"].as_array()?.iter().find(|g| g["number"] == number)?;
        (one["outcome"] == outcome).then(|| one.clone())
    })
}

fn history(lab: &Lab) -> Value {
    let said = lab.cli(&["history", "--json", "a/web"]);
    serde_json::from_slice::<Value>(&said.stdout).map_or(Value::Null, |all| all[0].clone())
}

fn said(lab: &Lab, args: &[&str]) -> String {
    let out = lab.cli(args);
    String::from_utf8([out.stdout, out.stderr].concat()).unwrap()
}

/// Waits until the service runs this generation instead of what its file asks for.
#[track_caller]
fn gone_back(lab: &Lab, number: u64) -> Value {
    lab.wait_for(&format!("generation {number} to run instead"), |s| {
        let web = web(s)?;
        let there = web["set_aside"]["generation"] == number && web["running"] == 1 && s["settled"] == true;
        (there && web["containers"].as_array()?.len() == 1).then(|| web.clone())
    })
}

#[test]
fn a_version_that_fails_goes_back_by_itself_and_is_not_tried_again_before_the_file_changes() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &well("one", &[]));
    generation(&lab, 1, "good");
    lab.put("a.yaml", &bad("broken"));
    let web = gone_back(&lab, 1);
    let text = web["set_aside"]["message"].as_str().unwrap().to_owned();
    assert!(text.contains("rolled back to generation 1") && text.contains("longshore resume a/web"), "{text}");
    assert_eq!(web["phase"], "held");
    lab.says("a-web-1", "I am one");
    let status = said(&lab, &["status"]);
    assert!(status.contains("rolled back to generation 1"), "{status}");
    let ps = said(&lab, &["ps"]);
    assert!(ps.contains("a/web: rolled back to generation 1"), "{ps}");
    let why = said(&lab, &["why", "web"]);
    assert!(why.contains("rolled back to generation 1") && why.contains("generation 2 failed"), "{why}");
    let before = lab.running("a-web-1");
    // Neither a second look nor another daemon tries it again.
    assert!(lab.cli(&["status"]).status.success());
    lab.kill();
    lab.start();
    lab.still("a-web-1", &before);
    assert_eq!(gone_back(&lab, 1)["generation"], 1);
    generation(&lab, 2, "failed");
    // By hand it is tried, and fails again.
    assert!(said(&lab, &["resume", "web"]).contains("tried again"));
    lab.wait_for("it to be tried", |s| {
        let events = s["projects"].to_string();
        events.contains("a-web-1").then_some(())
    });
    gone_back(&lab, 1);
    // Another version is tried by itself.
    lab.put("a.yaml", &well("three", &[]));
    generation(&lab, 3, "good");
    lab.says("a-web-1", "I am three");
    assert!(lab.status()["projects"][0]["services"][0]["set_aside"].is_null());
    lab.finish();
}

#[test]
fn by_hand_one_goes_back_and_the_daemon_keeps_to_it() {
    let mut lab = Lab::new();
    for (at, who) in ["one", "two", "three"].iter().enumerate() {
        lab.put("a.yaml", &well(who, &["environment: {TOKEN: hunter2}"][..at.min(1)]));
        generation(&lab, at as u64 + 1, "good");
    }
    let table = said(&lab, &["history", "web"]);
    assert!(
        table.contains("3 (in force)") && table.contains("a.yaml:2") && table.contains("the file was edited"),
        "{table}"
    );
    let diff = said(&lab, &["history", "web", "--diff", "1", "2"]);
    assert!(diff.contains("command") && diff.contains("environment") && !diff.contains("hunter2"), "{diff}");
    let back = said(&lab, &["rollback", "web"]);
    assert!(back.contains("back to generation 2"), "{back}");
    gone_back(&lab, 2);
    lab.says("a-web-1", "I am two");
    // Again: one further. It is on disk when the command ends.
    let back = said(&lab, &["rollback", "a/web", "1"]);
    lab.kill();
    assert!(back.contains("back to generation 1"), "{back}");
    lab.start();
    gone_back(&lab, 1);
    lab.says("a-web-1", "I am one");
    let refused = lab.cli(&["rollback", "web", "9"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has no generation 9"), "{refused:?}");
    assert!(said(&lab, &["resume", "a"]).contains("tried again"));
    lab.wait_for("the file's version", |s| (web(s)?["set_aside"].is_null() && s["settled"] == true).then_some(()));
    lab.says("a-web-1", "I am three");
    lab.finish();
}

#[test]
fn a_daemon_that_is_killed_at_any_moment_of_going_back_ends_at_the_same() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &well("one", &[]));
    generation(&lab, 1, "good");
    for pause in [0, 10, 30, 60, 100, 200, 400] {
        lab.put("a.yaml", &bad(&format!("broken {pause}")));
        let changed = std::time::Instant::now();
        lab.wait_for("the file to be in force", |s| {
            (web(s)?["running"] == 0 || changed.elapsed().as_millis() > 2_000).then_some(())
        });
        std::thread::sleep(std::time::Duration::from_millis(pause));
        lab.kill();
        lab.start();
        gone_back(&lab, 1);
        lab.says("a-web-1", "I am one");
    }
    lab.finish();
}

#[test]
fn the_image_of_a_moved_tag_is_gone_back_to_by_its_manifest() {
    let lab = Lab::new();
    let push = |who: &str, then: &str| {
        let config = format!(r#"{{"Cmd":["sh","-c","echo I am {who}; {then}"],"Env":["PATH=/bin"]}}"#);
        shared().push("it/back", "latest", root(), &config)
    };
    let image = push("one", "touch /tmp/well; exec work graceful 0");
    let text = format!(
        "services:\n  web:\n    image: {image}\n    network_mode: none\n    restart: unless-stopped\n    {TEST}\n    {BACK}\n    x-longshore: {{update: {{policy: digest, interval: 1s}}}}\n"
    );
    lab.put("a.yaml", &text);
    let first = generation(&lab, 1, "good");
    push("broken", "exit 3");
    let web = gone_back(&lab, 1);
    assert_eq!(web["containers"][0]["image_digest"], first["image_digest"]);
    generation(&lab, 2, "failed");
    // The next one is taken.
    push("three", "touch /tmp/well; exec work graceful 0");
    generation(&lab, 3, "good");
    lab.says("a-web-1", "I am three");
    lab.finish();
}

#[test]
fn the_highest_version_of_the_range_is_taken_and_kept_without_a_registry() {
    let mut lab = Lab::new();
    let registry = Registry::start(free_port());
    let push = |tag: &str| {
        let config = format!(
            r#"{{"Cmd":["sh","-c","echo I am {tag}; touch /tmp/well; exec work graceful 0"],"Env":["PATH=/bin"]}}"#
        );
        registry.push("it/versions", tag, root(), &config)
    };
    let image = push("1.2.0");
    push("2.0.0");
    let text = |window: &str| {
        format!(
            "services:\n  web:\n    image: {image}\n    network_mode: none\n    restart: unless-stopped\n    {TEST}\n    {BACK}\n    x-longshore: {{update: {{policy: '~1.2', interval: 1s{window}}}}}\n"
        )
    };
    // A window that is not open now: some hour that is far from this one.
    let hour = (i32::from(jiff::ZonedDateTime::now().hour()) + 12) % 24;
    let closed = format!(", window: '{hour:02}:00-{:02}:00'", if hour == 23 { 24 } else { hour + 1 });
    lab.put("a.yaml", &text(&closed));
    lab.says("a-web-1", "I am 1.2.0");
    push("1.2.10");
    push("1.2.9");
    lab.wait_for("what waits to be told", |s| {
        let note = web(s)?["update"].as_str()?;
        (note.contains("1.2.10 is there; it waits for the window")).then_some(())
    });
    lab.says("a-web-1", "I am 1.2.0");
    lab.put("a.yaml", &text(""));
    lab.says("a-web-1", "I am 1.2.10");
    lab.wait_for("it to be good", |s| {
        (web(s)?["image"].as_str()?.ends_with(":1.2.10") && s["settled"] == true).then_some(())
    });
    let before = lab.running("a-web-1");
    drop(registry);
    lab.wait_for("the registry to be missed", |s| {
        web(s)?["update"].as_str()?.contains("could not be asked").then_some(())
    });
    lab.kill();
    lab.start();
    lab.still("a-web-1", &before);
    lab.finish();
}
