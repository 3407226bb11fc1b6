//! `post_start` and `pre_stop`, in real containers.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::lab::container;
use crate::support::{Lab, file, with};

const STUBBORN: &str =
    "[sh, -c, 'trap \"echo term >> /out/log; exit 0\" TERM; echo main >> /out/log; while :; do sleep 0.1; done']";

/// A service with a folder of the host at /out, which these lines go on.
fn put(lab: &Lab, more: &[&str]) -> PathBuf {
    let out = lab.dir.join("out");
    fs::create_dir_all(&out).unwrap();
    let log = File::options().create(true).append(true).open(out.join("log")).unwrap();
    // The container's user writes too.
    log.set_permissions(PermissionsExt::from_mode(0o666)).unwrap();
    let volume = format!("volumes: ['{}:/out']", out.display());
    let lines: Vec<&str> = [volume.as_str()].into_iter().chain(more.iter().copied()).collect();
    lab.put("a.yaml", &file(&[with("a", STUBBORN, &lines)]));
    out.join("log")
}

fn says(lab: &Lab, log: &PathBuf, text: &str) -> String {
    lab.until(&format!("the log to say {text:?}"), || fs::read_to_string(log).ok().filter(|log| log.contains(text)))
}

#[test]
fn commands_after_the_start_and_before_the_stop_in_their_order() {
    let lab = Lab::new();
    let log = put(
        &lab,
        &[
            "user: app",
            "environment: {COLOUR: blue}",
            "post_start:",
            "  - command: [sh, -c, 'echo one $$COLOUR $$SIZE $$(pwd) $$(id -u) >> /out/log']",
            "    user: root",
            "    working_dir: /etc",
            "    environment: {SIZE: m}",
            "  - {command: sh -c 'echo two >> /out/log', user: root}",
            "pre_stop:",
            "  - {command: [sh, -c, 'echo three >> /out/log'], user: root}",
            "  - {command: [sh, -c, 'echo four >> /out/log'], user: root}",
        ],
    );
    let before = lab.running("a-a-1");
    let said = says(&lab, &log, "two");
    let hooks: Vec<&str> = said.lines().filter(|line| *line != "main").collect();
    assert_eq!(hooks, ["one blue m /etc 0", "two"]);
    lab.no_problems();
    // Another hook makes no other container, and is the one that is executed.
    put(
        &lab,
        &[
            "user: app",
            "environment: {COLOUR: blue}",
            "pre_stop: [{command: [sh, -c, 'echo five >> /out/log'], user: root}]",
        ],
    );
    lab.wait_for("the edit to be in force", |s| {
        let settings = &container(s, "a-a-1")?["settings"];
        (settings["post_start"].is_null() && settings["pre_stop"].as_str()?.starts_with("1 command (")).then_some(())
    });
    lab.still("a-a-1", &before);
    lab.remove("a.yaml");
    lab.gone("a-a-1");
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(said.lines().skip(3).collect::<Vec<_>>(), ["five", "term"], "{said}");
    lab.finish();
}

#[test]
fn one_that_fails_is_told_and_the_container_goes_on() {
    let lab = Lab::new();
    let log = put(
        &lab,
        &[
            "stop_grace_period: 2s",
            "post_start:",
            "  - command: [sh, -c, 'echo no such thing >&2; exit 7']",
            "  - command: [/no/such/program]",
            "  - command: [sh, -c, 'echo last >> /out/log']",
            "pre_stop: [{command: [sleep, '60']}]",
        ],
    );
    says(&lab, &log, "last");
    let before = lab.running("a-a-1");
    let why = lab.until("why to tell", || {
        let why = String::from_utf8(lab.cli(&["why", "a/a"]).stdout).unwrap();
        why.contains("/no/such/program").then_some(why)
    });
    assert!(why.contains("post_start hook 2 (/no/such/program)"), "{why}");
    let events = lab.log();
    assert!(
        events.contains("post_start hook 1 (sh): exit code 7: no such thing") && events.contains("hook.failed"),
        "{events}"
    );
    lab.still("a-a-1", &before);
    // A hook that takes too long is ended with the grace, and the container too.
    let begun = std::time::Instant::now();
    lab.remove("a.yaml");
    lab.gone("a-a-1");
    assert!(begun.elapsed() < std::time::Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(lab.log().contains("pre_stop hook 1 (sleep): it was ended: its time was over"), "{}", lab.log());
    lab.finish();
}

#[test]
fn no_hook_is_repeated_for_a_start_when_the_daemon_is_killed() {
    let mut lab = Lab::new();
    let log =
        put(&lab, &["post_start: [{command: [sh, -c, 'echo begun >> /out/log; sleep 30; echo done >> /out/log']}]"]);
    says(&lab, &log, "begun");
    let before = lab.running("a-a-1");
    lab.kill();
    lab.start();
    lab.still("a-a-1", &before);
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(said.matches("begun").count(), 1, "{said}");
    assert!(!said.contains("done"), "{said}");
    lab.finish();
}
