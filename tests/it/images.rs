//! Images that are missing, elsewhere, pinned, or not to be pulled.

use serde_json::{Value, json};

use crate::support::lab::container;
use crate::support::registry::{Registry, free_port, image, root, shared};
use crate::support::{Lab, file, service, with};

const IDLE: &str = "[work, graceful, '0']";

fn of(name: &str, image: &str, more: &str) -> String {
    format!("  {name}:\n    image: {image}\n    network_mode: none\n{more}")
}

/// The state of an image whose reference ends so, where it failed.
fn failed(status: &Value, image: &str) -> Option<Value> {
    let image =
        status["images"].as_array()?.iter().find(|i| i["image"].as_str().is_some_and(|i| i.ends_with(image)))?;
    (image["state"]["status"] == "failed").then(|| image["state"].clone())
}

#[test]
fn an_image_that_does_not_exist_is_told_and_the_other_services_run() {
    let lab = Lab::new();
    let missing = format!("{}/it/nothing:1", shared().host);
    lab.put("a.yaml", &file(&[of("a", &missing, ""), service("b", IDLE)]));
    let state = lab.wait_for("the failure", |s| failed(s, "it/nothing:1"));
    assert!(state["attempts"].as_u64() >= Some(1) && state["next_attempt"].is_string(), "{state}");
    assert!(state["error"].as_str().is_some_and(|e| e.contains("not") || e.contains("404")), "{state}");
    lab.wait_for("its sibling", |s| (container(s, "a-b-1")?["state"]["status"] == "running").then_some(()));
    lab.finish();
}

#[test]
fn a_registry_that_is_down_is_asked_again_until_it_is_up() {
    let lab = Lab::new();
    let port = free_port();
    let later = format!("127.0.0.1:{port}/it/box:latest");
    lab.put("a.yaml", &file(&[of("a", &later, ""), service("b", IDLE)]));
    lab.put("c.yaml", &file(&[service("c", IDLE)]));
    let state = lab.wait_for("two attempts", |s| failed(s, &later).filter(|f| f["attempts"].as_u64() >= Some(2)));
    assert!(state["next_attempt"].is_string(), "{state}");
    for name in ["a-b-1", "c-c-1"] {
        lab.wait_for(name, |s| (container(s, name)?["state"]["status"] == "running").then_some(()));
    }
    let said = String::from_utf8(lab.cli(&["status"]).stdout).unwrap();
    assert!(said.contains("failed") && said.contains("in "), "{said}");
    let registry = Registry::start(port);
    registry.push_box();
    lab.running("a-a-1");
    lab.finish();
}

#[test]
fn a_pinned_digest_is_what_runs_and_a_wrong_one_is_refused() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    lab.running("a-a-1");
    let digest = container(&lab.status(), "a-a-1").unwrap()["image_digest"].as_str().unwrap().to_owned();
    let repository = image().trim_end_matches(":latest");
    let wrong = format!("sha256:{}", "a".repeat(64));
    lab.put(
        "a.yaml",
        &file(&[of("right", &format!("{repository}@{digest}"), ""), of("wrong", &format!("{repository}@{wrong}"), "")]),
    );
    let state = lab.wait_for("the failure", |s| failed(s, &wrong));
    assert!(state["error"].is_string(), "{state}");
    lab.wait_for("the right one", |s| {
        let c = container(s, "a-right-1")?;
        (c["state"]["status"] == "running" && c["image_digest"] == digest.as_str()).then_some(())
    });
    lab.finish();
}

#[test]
fn mirrors_are_asked_in_turn_and_what_they_lack_comes_from_the_next() {
    let host = image().split('/').next().unwrap();
    let (down, empty) = (format!("http://127.0.0.1:{}", free_port()), format!("http://{host}/nothing/here"));
    let lab = Lab::with(&json!({ "registries": {
        "elsewhere.invalid": { "mirrors": [down, empty, format!("http://{host}")] },
        host: { "mirrors": [down, empty] },
    }}));
    // The first has no registry of its own behind the mirrors; the second has only that.
    lab.put("a.yaml", &file(&[of("mirrored", "elsewhere.invalid/it/box:latest", ""), service("own", IDLE)]));
    lab.running("a-mirrored-1");
    lab.running("a-own-1");
    lab.finish();
}

#[test]
fn pull_policy_never_waits_until_somebody_else_brings_the_image() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", IDLE, &["pull_policy: never"])]));
    lab.wait_for("it to wait", |s| {
        (s["settled"] == true && s["waiting"].to_string().contains("pull_policy is never")).then_some(())
    });
    lab.put("b.yaml", &file(&[service("b", IDLE)]));
    lab.running("a-a-1");
    lab.finish();
}

/// Makes the records of all images an hour older.
fn asked_long_ago(lab: &Lab) {
    for entry in std::fs::read_dir(lab.data().join("images/refs")).unwrap().flatten() {
        let mut record: Value = serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap();
        for key in ["pulled_at_ms", "checked_at_ms"] {
            record[key] = json!(record[key].as_u64().unwrap().saturating_sub(3_600_000));
        }
        std::fs::write(entry.path(), record.to_string()).unwrap();
    }
}

#[test]
fn pull_policy_always_brings_what_the_tag_means_now_and_missing_does_not() {
    let mut lab = Lab::new();
    let push = |version: &str| {
        let config =
            format!(r#"{{"Cmd":["sh","-c","echo $V; exec work graceful 0"],"Env":["PATH=/bin","V={version}"]}}"#);
        shared().push("it/moving", "latest", root(), &config);
        shared().push("it/still", "latest", root(), &config);
    };
    let host = &shared().host;
    let text = |hostname: &str| {
        let name = format!("    hostname: {hostname}\n");
        let (moving, still) = (format!("{host}/it/moving:latest"), format!("{host}/it/still:latest"));
        file(&[of("always", &moving, &format!("{name}    pull_policy: always\n")), of("missing", &still, &name)])
    };
    push("one");
    lab.put("a.yaml", &text("first"));
    let (always, missing) = (lab.running("a-always-1"), lab.running("a-missing-1"));
    push("two");
    // The daemon asks once after its start, unless somebody asked within the last minute.
    lab.stop();
    asked_long_ago(&lab);
    lab.start();
    let always = lab.replaced("a-always-1", &always);
    lab.says("a-always-1", "two");
    lab.still("a-missing-1", &missing);
    lab.put("a.yaml", &text("second"));
    lab.replaced("a-always-1", &always);
    lab.replaced("a-missing-1", &missing);
    lab.says("a-always-1", "two");
    lab.says("a-missing-1", "one");
    lab.finish();
}

#[test]
fn entrypoint_and_command_follow_the_rules_of_compose() {
    let lab = Lab::new();
    let config = r#"{"Entrypoint":["echo","image"],"Cmd":["cmd"],"Env":["PATH=/bin"]}"#;
    let image = shared().push("it/entry", "latest", root(), config);
    lab.put(
        "a.yaml",
        &file(&[
            of("neither", &image, ""),
            of("command", &image, "    command: two words\n"),
            of("entry", &image, "    entrypoint: echo mine\n"),
            of("both", &image, "    entrypoint: [echo, mine]\n    command: [c]\n"),
            of("bare", &image, "    entrypoint: []\n    command: [echo, bare]\n"),
            of("nothing", &image, "    command: []\n"),
        ]),
    );
    for (name, said) in [
        ("neither", "image cmd"),
        ("command", "image two words"),
        ("entry", "mine"),
        ("both", "mine c"),
        ("bare", "bare"),
        ("nothing", "image"),
    ] {
        let name = format!("a-{name}-1");
        assert_eq!(lab.exited(&name), 0);
        assert_eq!(lab.output(&name), format!("{said}\n"), "{name}");
    }
    lab.finish();
}
