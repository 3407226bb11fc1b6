//! Services with profiles: chosen by the file and by who starts the daemon, and what becomes of those that are not chosen any more.

use std::fs;

use serde_json::Value;

use super::support::lab::{container, service as service_of};
use super::support::{Lab, file, service, with};

const IDLE: &str = "[work, graceful, '0']";

fn reason(status: &Value, service: &str) -> Option<String> {
    let waiting = &service_of(status, "a", service)?["waiting"];
    Some(waiting.as_array()?.first()?["reason"].as_str()?.to_owned())
}

fn text(chosen: &str) -> String {
    let more = format!("x-longshore: {{profiles: [{chosen}]}}\n");
    file(&[service("web", IDLE), with("tool", IDLE, &["profiles: [debug, more]"])]) + &more
}

#[test]
fn a_file_chooses_the_profiles_of_its_project() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &text(""));
    let web = lab.running("a-web-1");
    let said = lab.until("it to be said", || reason(&lab.status(), "tool"));
    assert_eq!(said, "not chosen: it asks for the profile `debug` or `more`");
    let status = lab.cli(&["status", "--wait"]);
    assert!(status.status.success(), "what is not chosen holds nothing up");
    assert!(String::from_utf8_lossy(&status.stdout).contains("not chosen: it asks for the profile"));
    assert!(container(&lab.status(), "a-tool-1").is_none());
    let refused = lab.cli(&["start", "a/tool"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("a/tool is not chosen"), "{words}");
    lab.put("a.yaml", &text("more"));
    let tool = lab.running("a-tool-1");
    lab.still("a-web-1", &web);
    // Another daemon reads it as this one does.
    lab.kill();
    lab.start();
    lab.still("a-tool-1", &tool);
    lab.put("a.yaml", &text(""));
    lab.gone("a-tool-1");
    lab.still("a-web-1", &web);
    let why = lab.cli(&["why", "a/tool"]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("none of its profiles is chosen"), "{why}");
    lab.finish();
}

#[test]
fn the_configuration_chooses_for_all_projects() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &text(""));
    lab.put("b.yaml", &file(&[with("tool", IDLE, &["profiles: [debug]"])]));
    lab.running("a-web-1");
    assert!(container(&lab.status(), "b-tool-1").is_none());
    assert!(lab.stop().0.success());
    fs::write(lab.dir.join("config.json"), r#"{"profiles": ["debug"]}"#).unwrap();
    lab.start();
    lab.running("a-tool-1");
    lab.running("b-tool-1");
    assert!(lab.stop().0.success());
    fs::write(lab.dir.join("config.json"), "{}").unwrap();
    lab.start();
    lab.gone("a-tool-1");
    lab.gone("b-tool-1");
    lab.finish();
}

#[test]
fn what_comes_after_a_service_that_is_not_chosen_waits_for_it() {
    let lab = Lab::new();
    let text = |required: bool, chosen: &str| {
        let after = format!("depends_on: {{db: {{condition: service_started, required: {required}}}}}");
        let more = format!("x-longshore: {{profiles: [{chosen}]}}\n");
        file(&[with("app", IDLE, &[&after]), with("db", IDLE, &["profiles: [data]"])]) + &more
    };
    lab.put("a.yaml", &text(true, ""));
    let said = lab.until("it to wait", || reason(&lab.status(), "app").filter(|said| said.contains("a/db")));
    assert_eq!(said, "a/db has to be started first, and none of its profiles is chosen");
    lab.put("a.yaml", &text(true, "data"));
    let app = lab.running("a-app-1");
    lab.running("a-db-1");
    lab.put("a.yaml", &text(false, ""));
    lab.gone("a-db-1");
    lab.still("a-app-1", &app);
    lab.remove("a.yaml");
    lab.gone("a-app-1");
    lab.put("a.yaml", &text(false, ""));
    lab.running("a-app-1");
    lab.finish();
}
