//! Services that run at set times, on the real clock.

use std::fs;

use serde_json::Value;

use crate::support::lab::{containers, service as seen};
use crate::support::{Lab, file, with};

fn jobs(lab: &Lab) -> Vec<Value> {
    let output = lab.cli(&["jobs", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// What became of the times of the first job.
fn history(lab: &Lab) -> Vec<Value> {
    jobs(lab).first().and_then(|job| job["history"].as_array().cloned()).unwrap_or_default()
}

fn count(history: &[Value], outcome: &str) -> usize {
    history.iter().filter(|run| run["outcome"] == outcome).count()
}

#[test]
fn a_job_runs_at_its_times_each_time_in_a_new_container() {
    let lab = Lab::new();
    let once = "[sh, -c, 'test -e /tmp/here && exit 9; touch /tmp/here; echo one run']";
    lab.put("a.yaml", &file(&[with("a", once, &["x-longshore: {schedule: '@every 2s'}"])]));
    let runs = lab.until("three runs", || Some(history(&lab)).filter(|all| count(all, "succeeded") >= 3));
    let mut due: Vec<&str> = runs.iter().filter_map(|run| run["due"].as_str()).collect();
    due.dedup();
    assert_eq!(due.len(), runs.len(), "a time is there twice: {runs:?}");
    assert!(runs.iter().all(|run| run["outcome"] == "succeeded" && run["exit_code"] == 0), "{runs:?}");
    let before = lab.cli(&["logs", "--previous", "a/a"]);
    assert!(String::from_utf8_lossy(&before.stdout).contains("one run"), "{before:?}");
    let events = String::from_utf8(lab.cli(&["jobs", "a/a"]).stdout).unwrap();
    assert!(events.contains("`@every 2s`") && events.contains("scheduled"), "{events}");
    lab.finish();
}

#[test]
fn a_job_waits_for_its_time_is_settled_and_is_run_by_hand() {
    let mut lab = Lab::new();
    let keys = ["x-longshore: {schedule: {cron: '0 3 1 1 *', timezone: Europe/Berlin, history: 5}}"];
    lab.put("a.yaml", &file(&[with("a", "[sh, -c, 'echo ran; exit 3']", &keys)]));
    let waiting = lab.wait_for("it to be settled", |s| {
        let reason = seen(s, "a", "a")?["waiting"][0]["reason"].as_str()?.to_owned();
        (s["settled"] == true && reason.contains("next time")).then_some(reason)
    });
    assert!(waiting.contains("-01-01 03:00 +01:00 (`0 3 1 1 *`)"), "{waiting}");
    assert_eq!(containers(&lab.status()).count(), 0);
    assert_eq!(seen(&lab.status(), "a", "a").unwrap()["phase"], "applied");
    let asked = lab.cli(&["jobs", "run", "a"]);
    assert!(asked.status.success(), "{asked:?}");
    assert_eq!(lab.exited("a-a-1"), 3);
    let runs = lab.until("its end", || Some(history(&lab)).filter(|all| all.len() == 1));
    assert!(runs[0]["why"] == "by hand" && runs[0]["outcome"] == "failed" && runs[0]["exit_code"] == 3, "{runs:?}");
    // It is remembered, and not run again, when the daemon was killed.
    lab.kill();
    lab.start();
    lab.wait_for("it to be settled again", |s| (s["settled"] == true).then_some(()));
    assert_eq!(history(&lab), runs);
    assert_eq!(lab.exited("a-a-1"), 3);
    assert_eq!(seen(&lab.status(), "a", "a").unwrap()["phase"], "failing");
    let why = String::from_utf8(lab.cli(&["why", "a/a"]).stdout).unwrap();
    assert!(why.contains("run by hand at") && why.contains("exit code 3"), "{why}");
    assert!(!lab.cli(&["jobs", "run", "b"]).status.success());
    lab.finish();
}

#[test]
fn kills_of_the_daemon_run_no_time_twice_and_never_two_runs_at_once() {
    let mut lab = Lab::new();
    let folder = lab.data().parent().unwrap().join("out");
    fs::create_dir_all(&folder).unwrap();
    let volume = format!("volumes: ['{}:/out']", folder.display());
    // Whoever finds another one at work says so.
    let work =
        "[sh, -c, 'mkdir /out/lock || echo twice >> /out/log; echo run >> /out/log; sleep 1.2; rmdir /out/lock']";
    lab.put("a.yaml", &file(&[with("a", work, &["x-longshore: {schedule: '@every 1s'}", &volume])]));
    for round in 0..6 {
        let runs = lab.until("a run", || {
            let text = fs::read_to_string(folder.join("log")).unwrap_or_default();
            (text.lines().count() > round).then_some(text)
        });
        assert!(!runs.contains("twice"), "{runs}");
        lab.kill();
        lab.start();
    }
    let all = lab.until("more of it", || Some(history(&lab)).filter(|all| count(all, "succeeded") >= 3));
    assert!(all.iter().any(|run| run["outcome"] == "left"), "nothing was left out: {all:?}");
    let ran: Vec<&Value> = all.iter().filter(|run| run["outcome"] != "left").collect();
    let mut due: Vec<&str> = ran.iter().filter_map(|run| run["due"].as_str()).collect();
    due.sort_unstable();
    due.dedup();
    assert_eq!(due.len(), ran.len(), "{all:?}");
    assert!(!fs::read_to_string(folder.join("log")).unwrap().contains("twice"));
    lab.finish();
}

#[test]
fn a_run_that_takes_too_long_is_ended_and_an_edit_leaves_a_run_alone() {
    let lab = Lab::new();
    let keys = |label: &str| {
        let schedule = "x-longshore: {schedule: {cron: '@every 1s', timeout: 3s}}".to_owned();
        file(&[with("a", "[work, graceful, '0']", &[&schedule, &format!("hostname: {label}")])])
    };
    lab.put("a.yaml", &keys("one"));
    let before = lab.running("a-a-1");
    lab.put("a.yaml", &keys("two"));
    let ended = lab.until("the limit", || {
        history(&lab).into_iter().find(|run| run["reason"].as_str().is_some_and(|r| r.contains("its timeout of 3 s")))
    });
    assert_eq!(ended["outcome"], "failed");
    let next = lab.replaced("a-a-1", &before);
    assert_ne!(next.id, before.id);
    lab.finish();
}

#[test]
fn who_comes_after_a_job_waits_for_its_last_run() {
    let lab = Lab::new();
    let job = with("job", "[sh, -c, 'exit 0']", &["x-longshore: {schedule: '@yearly'}"]);
    let after =
        with("after", "[work, graceful, '0']", &["depends_on: {job: {condition: service_completed_successfully}}"]);
    let beside = with("beside", "[work, graceful, '0']", &["depends_on: [job]"]);
    lab.put("a.yaml", &file(&[job, after, beside]));
    lab.running("a-beside-1");
    lab.wait_for("the other one to wait", |s| {
        seen(s, "a", "after")?["waiting"][0]["reason"].as_str()?.contains("it has not run yet").then_some(())
    });
    assert!(lab.cli(&["jobs", "run", "job"]).status.success());
    lab.running("a-after-1");
    lab.finish();
}

#[test]
fn a_schedule_that_is_none_is_told_with_its_place() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", "[work, exit, '0']", &["x-longshore: {schedule: '61 * * * *'}"])]));
    let problem = lab.problem("minute \"61\": expected a number from 0 to 59");
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("five fields")), "{problem}");
    assert_eq!(crate::support::lab::place(&problem), "a.yaml:6:29");
    lab.finish();
}
