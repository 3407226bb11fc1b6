//! What is asked of services by hand: kept over the end of daemons and of the machine, over when the file says something else.

use serde_json::{Value, json};

use super::support::lab::{Running, container, containers, service as service_of};
use super::support::{Lab, file, host, service, with};

const IDLE: &str = "[work, graceful, '0']";
/// It has to be killed.
const STUBBORN: &str = "[work, stubborn]";

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

#[track_caller]
fn well(lab: &Lab, args: &[&str]) -> String {
    let output = lab.cli(args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    said(&output)
}

#[track_caller]
fn refused(lab: &Lab, args: &[&str]) -> String {
    let output = lab.cli(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", said(&output));
    said(&output)
}

fn running_names(status: &Value) -> Vec<String> {
    let runs = containers(status).filter(|c| c["state"]["status"] == "running");
    let mut names: Vec<String> = runs.map(|c| c["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn restarts(lab: &Lab, name: &str) -> Value {
    container(&lab.status(), name).unwrap()["restarts"].clone()
}

#[test]
fn what_is_stopped_stays_so_over_daemons_until_it_is_started() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &file(&[with("web", STUBBORN, &["restart: always"]), service("other", IDLE)]));
    let (web, other) = (lab.running("a-web-1"), lab.running("a-other-1"));
    assert_eq!(well(&lab, &["stop", "-t", "1", "a/web"]), "a/web: stopped\n");
    assert!(!host::alive(web.pid));
    assert_eq!(lab.exited("a-web-1"), 137, "it had a second to end by itself, and did not");
    let by_hand = |lab: &Lab| service_of(&lab.status(), "a", "web").unwrap()["by_hand"].clone();
    assert_eq!(by_hand(&lab)["stopped"], true);
    assert!(well(&lab, &["status"]).contains("it is stopped by hand"));
    for round in 0..2 {
        if round == 0 {
            lab.kill();
        } else {
            assert!(lab.stop().0.success());
        }
        lab.start();
        lab.still("a-other-1", &other);
        assert_eq!(lab.exited("a-web-1"), 137);
        assert_eq!(by_hand(&lab)["stopped"], true);
    }
    let again = well(&lab, &["start", "a/web"]);
    assert_eq!(again, "a/web: 1 of 1 run\n");
    let second = lab.running("a-web-1");
    assert_eq!((&second.id, second.pid == web.pid), (&web.id, false), "the same container, another run");
    assert_eq!(restarts(&lab, "a-web-1"), 0, "nothing crashed");
    assert_eq!(by_hand(&lab), Value::Null);
    lab.still("a-other-1", &other);
    lab.finish();
}

#[test]
fn a_change_of_the_file_and_a_release_end_what_was_asked() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("web", IDLE)]));
    lab.running("a-web-1");
    well(&lab, &["stop", "a"]);
    lab.put("a.yaml", &file(&[with("web", IDLE, &["labels: {x: y}"])]));
    well(&lab, &["status"]);
    let label = || {
        lab.cli(&["status", "--wait"]);
        lab.status()
    };
    assert_eq!(running_names(&label()), Vec::<String>::new(), "a label makes no other container");
    lab.put("a.yaml", &file(&[with("web", IDLE, &["environment: {A: b}"])]));
    let web = lab.running("a-web-1");
    well(&lab, &["stop", "a-web-1"]);
    assert!(!host::alive(web.pid));
    assert_eq!(well(&lab, &["release"]), "a/web: 1 of 1 run\n");
    lab.running("a-web-1");
    assert_eq!(well(&lab, &["release"]), "nothing was asked by hand\n");
    lab.finish();
}

#[test]
fn a_job_that_ended_runs_again_once() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("job", "[work, id]", &["restart: 'no'"])]));
    assert_eq!(lab.exited("a-job-1"), 0);
    let ends = |lab: &Lab| lab.output("a-job-1").matches("uid").count();
    assert_eq!(ends(&lab), 1);
    well(&lab, &["start", "a/job"]);
    lab.until("its second run", || (ends(&lab) == 2).then_some(()));
    assert_eq!(lab.exited("a-job-1"), 0);
    assert_eq!(ends(&lab), 2);
    lab.finish();
}

#[test]
fn a_restart_is_carried_on_by_the_next_daemon() {
    let mut lab = Lab::new();
    // It does not end by itself, so there is time to kill the daemon in the middle.
    lab.put("a.yaml", &file(&[with("web", STUBBORN, &["stop_grace_period: 2s", "restart: 'no'"])]));
    let web = lab.running("a-web-1");
    assert_eq!(well(&lab, &["restart", "-t", "0", "a/web"]), "a/web: 1 of 1 run\n");
    let second = lab.replaced("a-web-1", &web);
    assert_eq!(second.id, web.id);
    let mut client = lab.client(&["restart", "a/web"]).spawn().unwrap();
    lab.wait_for("the stop to be under way", |s| {
        s["under_way"].as_array()?.iter().any(|step| step["verb"] == "stop").then_some(())
    });
    lab.kill();
    let _ = client.wait().unwrap();
    // The grace is over, or the container was stopped: the next daemon cannot know in which half it was.
    lab.start();
    let third = lab.replaced("a-web-1", &second);
    assert_eq!((&third.id, restarts(&lab, "a-web-1")), (&web.id, json!(0)));
    // It is done: another daemon does not do it once more.
    lab.kill();
    lab.start();
    lab.still("a-web-1", &third);
    // The other half: it ended while no daemon was there.
    let mut client = lab.client(&["restart", "-t", "20", "a/web"]).spawn().unwrap();
    lab.wait_for("the stop to be under way", |s| {
        s["under_way"].as_array()?.iter().any(|step| step["verb"] == "stop").then_some(())
    });
    lab.kill();
    let _ = client.wait().unwrap();
    host::signal(third.pid, nix::sys::signal::Signal::SIGKILL);
    lab.until("its end", || (!host::alive(third.shim)).then_some(()));
    lab.start();
    let fourth = lab.replaced("a-web-1", &third);
    assert_eq!((fourth.id, restarts(&lab, "a-web-1")), (web.id, json!(0)));
    lab.finish();
}

#[test]
fn replicas_come_and_go_one_by_one_and_the_others_are_left_alone() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &file(&[with("web", IDLE, &["stop_grace_period: 0s"])]));
    let first = lab.running("a-web-1");
    assert_eq!(well(&lab, &["scale", "a/web=3"]), "a/web: 3 of 3 run (by hand; its file says 1)\n");
    let names = |upto: u32| (1..=upto).map(|n| format!("a-web-{n}")).collect::<Vec<_>>();
    assert_eq!(running_names(&lab.status()), names(3));
    let all: Vec<Running> = names(3).iter().map(|name| lab.running(name)).collect();
    assert_eq!(all[0], first);
    lab.kill();
    lab.start();
    names(3).iter().zip(&all).for_each(|(name, before)| lab.still(name, before));
    well(&lab, &["scale", "a/web=2"]);
    assert_eq!(running_names(&lab.status()), names(2));
    lab.still("a-web-2", &all[1]);
    let refusal = refused(&lab, &["stop", "a-web-2"]);
    assert!(refusal.contains("a/web has 2 containers, and this is one of them"), "{refusal}");
    // One container of several can be restarted.
    well(&lab, &["restart", "-t", "0", "a-web-2"]);
    lab.replaced("a-web-2", &all[1]);
    lab.still("a-web-1", &first);
    // Another number in the file is over it.
    lab.put("a.yaml", &file(&[with("web", IDLE, &["stop_grace_period: 0s", "scale: 4"])]));
    lab.running("a-web-4");
    assert_eq!(running_names(&lab.status()), names(4));
    well(&lab, &["scale", "a/web=0"]);
    assert_eq!(running_names(&lab.status()), names(0));
    well(&lab, &["release", "a"]);
    assert_eq!(running_names(&lab.status()), names(4));
    lab.finish();
}

#[test]
fn what_cannot_be_is_refused_with_what_was_meant() {
    let lab = Lab::new();
    lab.put("shop.yaml", &file(&[service("web", IDLE), with("db", IDLE, &["container_name: the-db"])]));
    lab.put("blog.yaml", &file(&[service("web", IDLE)]));
    lab.running("shop-web-1");
    for (args, text) in [
        (&["stop", "shop/wbe"][..], "no service, project or container is called \"shop/wbe\"; did you mean shop/web?"),
        (&["stop", "shpo"], "did you mean shop?"),
        (&["restart", "nothing-like-it"], "no service, project or container is called \"nothing-like-it\"\n"),
        (&["stop", "web"], "\"web\" could be blog/web, shop/web"),
        (&["scale", "shop/db=2"], "shop/db has a container_name"),
        (&["scale", "shop/db"], "write SERVICE=N"),
    ] {
        let refusal = refused(&lab, args);
        assert!(refusal.contains(text), "{args:?}: {refusal}");
    }
    // All of it or nothing.
    refused(&lab, &["stop", "shop/web", "shop/none"]);
    assert_eq!(lab.status()["settled"], true);
    lab.running("shop-web-1");
    well(&lab, &["stop", "--no-wait", "the-db"]);
    lab.exited("the-db");
    let refusal = refused(&lab, &["restart", "shop/db"]);
    assert!(refusal.contains("shop/db is stopped by hand"), "{refusal}");
    lab.finish();
}

/// How often the workload said something by now.
fn ticks(lab: &Lab, name: &str) -> usize {
    lab.output(name).matches("tick").count()
}

#[test]
fn what_is_paused_stands_still_over_daemons_and_goes_on() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &file(&[with("web", "[work, tick, '20']", &["restart: always"])]));
    let web = lab.running("a-web-1");
    lab.says("a-web-1", "tick 5");
    assert_eq!(well(&lab, &["pause", "a/web"]), "a/web: paused\n");
    assert_eq!(container(&lab.status(), "a-web-1").unwrap()["paused"], true);
    assert!(well(&lab, &["ps"]).contains(" paused "));
    assert!(well(&lab, &["status"]).contains("it is paused by hand"));
    // What was on its way is written by now.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let still = ticks(&lab, "a-web-1");
    lab.kill();
    lab.start();
    lab.still("a-web-1", &web);
    assert_eq!(container(&lab.status(), "a-web-1").unwrap()["paused"], true);
    assert_eq!(ticks(&lab, "a-web-1"), still, "it moved");
    let refusal = lab.cli(&["exec", "a-web-1", "work", "id"]);
    assert_eq!(refusal.status.code(), Some(126), "{}", said(&refusal));
    assert!(said(&refusal).contains("is paused"), "{}", said(&refusal));
    assert_eq!(well(&lab, &["unpause", "a/web"]), "a/web: 1 of 1 run\n");
    lab.until("it to go on", || (ticks(&lab, "a-web-1") > still).then_some(()));
    lab.still("a-web-1", &web);
    // It is stopped as its file says although it is paused: by SIGTERM.
    well(&lab, &["pause", "a/web"]);
    well(&lab, &["stop", "a/web"]);
    assert_eq!(lab.exited("a-web-1"), 0);
    assert_eq!(well(&lab, &["start", "a/web"]), "a/web: 1 of 1 run\n");
    // Killed although it is paused; what runs then is paused again.
    let second = lab.running("a-web-1");
    well(&lab, &["pause", "a/web"]);
    well(&lab, &["kill", "a/web"]);
    lab.replaced("a-web-1", &second);
    lab.wait_for("its next run to be paused", |s| (container(s, "a-web-1")?["paused"] == true).then_some(()));
    lab.finish();
}

#[test]
fn a_signal_is_sent_and_the_policy_answers_an_end() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("web", IDLE, &["restart: always"]), with("job", IDLE, &["restart: 'no'"])]));
    let web = lab.running("a-web-1");
    lab.says("a-web-1", "ready");
    assert_eq!(well(&lab, &["kill", "a/web"]), "a/web: sent\n");
    lab.replaced("a-web-1", &web);
    assert_eq!(restarts(&lab, "a-web-1"), 1, "as after a crash");
    lab.says("a-job-1", "ready");
    well(&lab, &["kill", "-s", "INT", "a-job-1"]);
    assert_eq!(lab.exited("a-job-1"), 0);
    assert!(refused(&lab, &["kill", "a/job"]).contains("nothing of a/job runs"));
    assert!(refused(&lab, &["kill", "-s", "NONE", "a/web"]).contains("\"NONE\" is not a signal"));
    lab.finish();
}

#[test]
fn what_its_file_suspends_is_stopped_and_goes_on_when_it_does_no_longer() {
    let mut lab = Lab::new();
    let text = |suspend: bool| {
        let more = format!("x-longshore: {{suspend: {suspend}}}");
        file(&[with("web", IDLE, &[&more, "restart: 'no'"]), service("other", IDLE)])
    };
    lab.put("a.yaml", &text(false));
    let (web, other) = (lab.running("a-web-1"), lab.running("a-other-1"));
    lab.put("a.yaml", &text(true));
    assert_eq!(lab.exited("a-web-1"), 0);
    assert!(refused(&lab, &["start", "a/web"]).contains("says suspend: true"));
    lab.kill();
    lab.start();
    assert_eq!(lab.exited("a-web-1"), 0);
    lab.put("a.yaml", &text(false));
    assert_eq!(lab.running("a-web-1").id, web.id, "whatever its policy says");
    assert_eq!(restarts(&lab, "a-web-1"), 0);
    lab.still("a-other-1", &other);
    lab.finish();
}

#[test]
fn a_start_by_hand_counts_anew_what_was_given_up() {
    let lab = Lab::new();
    let pace = "x-longshore: {restart: {delay: 50ms}}";
    lab.put("a.yaml", &file(&[with("job", "[work, nothing]", &["restart: 'on-failure:1'", pace])]));
    let runs = || lab.output("a-job-1").matches("what is nothing").count();
    lab.wait_for("it to be given up", |s| (container(s, "a-job-1")?["restarts"] == 1).then_some(()));
    lab.until("its second run to end", || (runs() == 2 && lab.exited("a-job-1") == 2).then_some(()));
    well(&lab, &["start", "--no-wait", "a/job"]);
    lab.until("two more runs", || (runs() == 4).then_some(()));
    assert_eq!((lab.exited("a-job-1"), restarts(&lab, "a-job-1")), (2, json!(1)));
    let why = well(&lab, &["why", "a/job"]);
    assert!(why.contains("a/job: started by hand"), "{why}");
    lab.finish();
}

#[test]
fn dependents_run_on_and_one_that_is_not_started_yet_waits_and_says_so() {
    let mut lab = Lab::new();
    let after = "depends_on: [db]";
    lab.put("a.yaml", &file(&[with("app", IDLE, &[after]), service("db", IDLE)]));
    let app = lab.running("a-app-1");
    well(&lab, &["stop", "a/db"]);
    lab.still("a-app-1", &app);
    lab.put("a.yaml", &file(&[with("app", IDLE, &[after]), service("db", IDLE), with("late", IDLE, &[after])]));
    let reason = |lab: &Lab| {
        let waiting = service_of(&lab.status(), "a", "late")?["waiting"].clone();
        Some(waiting.as_array()?.first()?["reason"].as_str()?.to_owned())
    };
    let said = lab.until("it to wait", || reason(&lab).filter(|said| said.contains("by hand")));
    assert_eq!(said, "a/db has to be started first, and it is stopped by hand");
    lab.kill();
    lab.start();
    lab.still("a-app-1", &app);
    let why = well(&lab, &["why", "a/db"]);
    assert!(why.contains("a/db: stopped by hand") && why.contains("stopped (it is stopped by hand)"), "{why}");
    well(&lab, &["start", "a/db"]);
    lab.running("a-late-1");
    lab.still("a-app-1", &app);
    well(&lab, &["pause", "a/db"]);
    let why = well(&lab, &["why", "a/db"]);
    assert!(why.contains("a/db: paused by hand") && why.contains("paused (it is paused by hand)"), "{why}");
    well(&lab, &["release"]);
    lab.finish();
}
