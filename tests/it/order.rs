//! What comes after what: first start, boot, a dependency that is killed or replaced, and stops.
//!
//! Every service notes on the host when it is up and when it is about to be down; the latter takes its time.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::lab::{container, service as shown};
use crate::support::{Lab, file, host, with};

/// A service that notes its coming and its going.
fn noting(lab: &Lab, name: &str, more: &[&str]) -> String {
    let notes = lab.dir.join("notes");
    fs::create_dir_all(&notes).unwrap();
    let volume = format!("volumes: ['{}:/notes']", notes.display());
    let command = format!(
        "[sh, -c, \"echo up {name} >> /notes/all; trap 'sleep 0.4; echo down {name} >> /notes/all; exit 0' TERM; while :; do sleep 0.05; done\"]"
    );
    with(name, &command, &[&[volume.as_str(), "restart: always"], more].concat())
}

/// A service that ends by itself.
fn job(lab: &Lab, name: &str, code: u8, more: &[&str]) -> String {
    let volume = format!("volumes: ['{}:/notes']", lab.dir.join("notes").display());
    let command = format!("[sh, -c, \"sleep 0.4; echo done {name} >> /notes/all; exit {code}\"]");
    with(name, &command, &[&[volume.as_str(), "restart: 'no'"], more].concat())
}

fn notes(lab: &Lab) -> Vec<String> {
    let text = fs::read_to_string(lab.dir.join("notes/all")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn noted(lab: &Lab, what: &str, expected: &[&str]) {
    let mut seen = Vec::new();
    lab.wait_for(what, |_| {
        seen = notes(lab);
        (seen.len() >= expected.len()).then_some(())
    });
    println!("{what}\n  expected {expected:?}\n  seen     {seen:?}");
    assert_eq!(seen, expected, "{what}");
    fs::remove_file(lab.dir.join("notes/all")).unwrap();
}

const AFTER_DB: &str = "depends_on: [db]";
const AFTER_JOB: &str = "depends_on: {setup: {condition: service_completed_successfully}}";

#[test]
fn services_start_after_what_they_depend_on_also_after_a_boot_and_stop_before_it() {
    let mut lab = Lab::new();
    // In the order of their names, `app` would be first.
    let text = file(&[
        noting(&lab, "app", &["depends_on: [mid]"]),
        noting(&lab, "db", &[AFTER_JOB]),
        noting(&lab, "mid", &[AFTER_DB]),
        job(&lab, "setup", 0, &[]),
    ]);
    lab.put("a.yaml", &text);
    let app = lab.running("a-app-1");
    noted(&lab, "first start", &["done setup", "up db", "up mid", "up app"]);
    let all = [lab.running("a-db-1"), lab.running("a-mid-1"), app];
    lab.kill();
    for one in &all {
        host::signal(one.shim, Signal::SIGKILL);
        host::signal(one.pid, Signal::SIGKILL);
    }
    lab.start();
    let app = lab.replaced("a-app-1", &all[2]);
    noted(&lab, "boot: the job ran already", &["up db", "up mid", "up app"]);
    let db = lab.running("a-db-1");
    host::signal(db.pid, Signal::SIGKILL);
    lab.replaced("a-db-1", &db);
    noted(&lab, "the dependency is killed: nobody else is touched", &["up db"]);
    lab.still("a-app-1", &app);
    lab.remove("a.yaml");
    lab.gone("a-db-1");
    noted(&lab, "removed", &["down app", "down mid", "down db"]);
    lab.finish();
}

#[test]
fn who_waits_says_for_what_and_what_runs_is_not_stopped_for_it() {
    let lab = Lab::new();
    let after_bad = |required: bool| {
        format!("depends_on: {{bad: {{condition: service_completed_successfully, required: {required}}}}}")
    };
    let services = |bad: u8| {
        let (strict, lenient) = (after_bad(true), after_bad(false));
        file(&[
            noting(&lab, "strict", &[&strict]),
            noting(&lab, "lenient", &[&lenient]),
            noting(&lab, "last", &["depends_on: [strict]"]),
            job(&lab, "bad", bad, &[]),
        ])
    };
    lab.put("a.yaml", &services(3));
    let lenient = lab.running("a-lenient-1");
    noted(&lab, "a job that fails", &["done bad", "up lenient"]);
    for (name, expected) in [
        ("strict", "a/bad has to be completed first, and it ended with exit code 3 and stays so"),
        (
            "last",
            "a/strict has to be started first, and it is not started yet; that one waits: a/bad has to be completed first, and it ended with exit code 3 and stays so",
        ),
    ] {
        let seen = lab.wait_for("the wait", |s| {
            let waiting = shown(s, "a", name)?["waiting"].as_array()?.first()?.clone();
            (s["settled"] == true).then(|| waiting["reason"].as_str().map(str::to_owned)).flatten()
        });
        println!("{name}\n  expected {expected}\n  seen     {seen}");
        assert_eq!(seen, expected);
        let state = container(&lab.status(), &format!("a-{name}-1")).unwrap()["state"]["status"].clone();
        assert_eq!(state, "created");
    }
    lab.put("a.yaml", &services(0));
    lab.running("a-last-1");
    noted(&lab, "the job is mended", &["done bad", "up strict", "up last"]);
    let strict = lab.running("a-strict-1");
    lab.put("a.yaml", &services(4));
    lab.wait_for("the job to fail again", |s| (shown(s, "a", "bad")?["phase"] == "failing").then_some(()));
    lab.still("a-strict-1", &strict);
    lab.still("a-lenient-1", &lenient);
    lab.finish();
}

/// What a service waits for, once nothing else is under way.
fn waits(lab: &Lab, name: &str, for_what: &str) {
    let reason = |s: &serde_json::Value| {
        shown(s, "a", name)?["waiting"].as_array()?.first()?["reason"].as_str().map(str::to_owned)
    };
    lab.wait_for(&format!("{name} to wait: {for_what}"), |s| (reason(s)? == for_what).then_some(()));
    let state = container(&lab.status(), &format!("a-{name}-1")).unwrap()["state"]["status"].clone();
    assert_eq!(state, "created");
}

const HEALTHY: &str = "depends_on: {db: {condition: service_healthy}}";
/// Well as long as the file is on the host.
const CHECK: &str = "healthcheck: {test: 'test -e /notes/well', interval: 50ms, retries: 2}";

#[test]
fn who_wants_health_waits_for_the_check_and_says_when_there_is_none() {
    let lab = Lab::new();
    let lenient = "depends_on: {db: {condition: service_healthy, required: false}}";
    let services = |check: &str| {
        file(&[noting(&lab, "app", &[HEALTHY]), noting(&lab, "lenient", &[lenient]), noting(&lab, "db", &[check])])
    };
    lab.put("a.yaml", &services("labels: {checked: by-nothing}"));
    waits(
        &lab,
        "app",
        "a/db has to be healthy first, and nothing checks its health; give it a `healthcheck`, or wait for `service_started`",
    );
    assert_eq!(shown(&lab.status(), "a", "app").unwrap()["phase"], "held");
    let (db, lenient) = (lab.running("a-db-1"), lab.running("a-lenient-1"));
    noted(&lab, "nothing checks it", &["up db", "up lenient"]);
    // It is given one while it runs; the first look has not come yet.
    lab.put("a.yaml", &services("healthcheck: {test: 'test -e /notes/well', interval: 1h}"));
    waits(&lab, "app", "a/db has to be healthy first, and its health check has not passed yet");
    assert_eq!(shown(&lab.status(), "a", "app").unwrap()["phase"], "applying");
    fs::write(lab.dir.join("notes/well"), "").unwrap();
    lab.put("a.yaml", &services(CHECK));
    lab.running("a-app-1");
    noted(&lab, "its check passed", &["up app"]);
    lab.still("a-db-1", &db);
    lab.still("a-lenient-1", &lenient);
    lab.finish();
}

#[test]
fn a_dependency_that_is_unhealthy_is_restarted_and_only_who_asks_for_that_follows_it() {
    let lab = Lab::new();
    let services = |more: &[String], db: &str| {
        let follows = "depends_on: {db: {condition: service_healthy, restart: true}}";
        let three =
            [noting(&lab, "db", &[CHECK, db]), noting(&lab, "follows", &[follows]), noting(&lab, "stays", &[HEALTHY])];
        file(&[&three[..], more].concat())
    };
    let restarts = "x-longshore: {on_unhealthy: restart}";
    let well = lab.dir.join("notes/well");
    let text = services(&[], restarts);
    fs::write(&well, "").unwrap();
    lab.put("a.yaml", &text);
    let (follows, stays) = (lab.running("a-follows-1"), lab.running("a-stays-1"));
    lab.wait_for("all to be well", |s| (s["settled"] == true).then_some(()));
    let db = lab.running("a-db-1");
    fs::remove_file(lab.dir.join("notes/all")).unwrap();
    fs::remove_file(&well).unwrap();
    let again = lab.runs("a-db-1", Some(&db));
    assert_eq!(again.id, db.id, "it is the same container");
    // Who is not started yet waits; who runs goes on, also who is to follow, until it is well again.
    lab.put("a.yaml", &services(&[noting(&lab, "late", &[HEALTHY])], restarts));
    waits(&lab, "late", "a/db has to be healthy first, and it is unhealthy");
    assert_eq!((lab.runs("a-stays-1", None), lab.runs("a-follows-1", None)), (stays.clone(), follows.clone()));
    fs::write(&well, "").unwrap();
    let late = lab.runs("a-late-1", None);
    let followed = lab.runs("a-follows-1", Some(&follows));
    assert_eq!(followed.id, follows.id);
    lab.wait_for("all to be well again", |s| (s["settled"] == true).then_some(()));
    lab.still("a-stays-1", &stays);
    lab.still("a-late-1", &late);
    let said = notes(&lab);
    let times = |what: &str| said.iter().filter(|note| *note == what).count();
    assert_eq!([times("down stays"), times("down follows"), times("up late")], [0, 1, 1], "{said:?}");
    assert!(times("down db") >= 1 && said[0] == "down db", "{said:?}");
    fs::remove_file(lab.dir.join("notes/all")).unwrap();
    lab.finish();
}

#[test]
fn who_asks_to_be_restarted_follows_what_is_replaced_and_nobody_else_does() {
    let lab = Lab::new();
    let services = |version: u32| {
        let db = format!("environment: {{VERSION: '{version}'}}");
        file(&[
            noting(&lab, "db", &[&db]),
            noting(&lab, "follows", &["depends_on: {db: {restart: true}}"]),
            noting(&lab, "stays", &[AFTER_DB]),
        ])
    };
    lab.put("a.yaml", &services(1));
    let (db, follows, stays) = (lab.running("a-db-1"), lab.running("a-follows-1"), lab.running("a-stays-1"));
    lab.wait_for("all to be up", |_| (notes(&lab).len() == 3).then_some(()));
    assert_eq!(notes(&lab)[0], "up db");
    fs::remove_file(lab.dir.join("notes/all")).unwrap();
    lab.put("a.yaml", &services(2));
    lab.replaced("a-db-1", &db);
    let again = lab.replaced("a-follows-1", &follows);
    assert_eq!(again.id, follows.id);
    lab.still("a-stays-1", &stays);
    noted(&lab, "replaced", &["down db", "up db", "down follows", "up follows"]);
    assert_eq!(container(&lab.status(), "a-follows-1").unwrap()["restarts"], 0);
    let db = lab.running("a-db-1");
    host::signal(db.pid, Signal::SIGKILL);
    lab.replaced("a-db-1", &db);
    lab.still("a-follows-1", &again);
    noted(&lab, "killed", &["up db"]);
    lab.finish();
}

#[test]
fn the_order_holds_over_projects_and_when_the_daemon_stops_all() {
    let mut lab = Lab::with(&json!({"stop-containers-on-shutdown": true}));
    let app = noting(&lab, "app", &["x-longshore: {depends_on: [z/db]}"]);
    lab.put("a.yaml", &file(std::slice::from_ref(&app)));
    let why = lab.wait_for("the wait", |s| {
        let reason = shown(s, "a", "app")?["waiting"].as_array()?.first()?["reason"].as_str().map(str::to_owned);
        reason.filter(|_| s["settled"] == true)
    });
    println!("seen {why}");
    assert_eq!(why, "z/db has to be started first, and no state file defines it");
    lab.put("z.yaml", &file(&[noting(&lab, "db", &[])]));
    lab.running("a-app-1");
    noted(&lab, "over projects", &["up db", "up app"]);
    let (status, _) = lab.stop();
    assert!(status.success());
    noted(&lab, "stop all", &["down app", "down db"]);
    lab.start();
    lab.running("a-app-1");
    noted(&lab, "started again", &["up db", "up app"]);
    lab.put("z.yaml", &file(&[noting(&lab, "db", &["x-longshore: {depends_on: [a/app]}"])]));
    let problem = lab.problem("services come after each other in a circle");
    println!("seen {problem}");
    assert!(
        problem["message"]
            .as_str()
            .is_some_and(|m| m.contains("a/app -> z/db -> a/app") || m.contains("z/db -> a/app -> z/db"))
    );
    assert_eq!(notes(&lab), Vec::<String>::new(), "what runs goes on");
    lab.put("z.yaml", &file(&[noting(&lab, "db", &[])]));
    lab.wait_for("the circle to be open", |s| (!s.to_string().contains("in a circle")).then_some(()));
    lab.finish();
}
