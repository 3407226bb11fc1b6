//! State files that are edited, broken, doubled, moved, or none at all.

use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;

use crate::support::lab::{all_problems, container, containers, place, service as find};
use crate::support::{Lab, file, service, with};

const IDLE: &str = "[work, graceful, '0']";

#[test]
fn an_edit_of_comments_order_and_policy_touches_nothing() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", IDLE, &["hostname: one", "restart: 'no'"])]));
    let before = lab.running("a-a-1");
    let text = with("a", IDLE, &["# only a comment", "restart: always", "hostname: one", "stop_grace_period: 3s"]);
    lab.put("a.yaml", &format!("# another comment\n{}", file(&[text])));
    lab.put("b.yaml", &file(&[service("b", IDLE)]));
    lab.running("b-b-1");
    lab.still("a-a-1", &before);
    lab.finish();
}

#[test]
fn an_edit_of_an_annotation_replaces_as_compose_does() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", IDLE, &["annotations: {tier: front}"])]));
    let before = lab.running("a-a-1");
    lab.put("a.yaml", &file(&[with("a", IDLE, &["annotations: {tier: back}"])]));
    let after = lab.replaced("a-a-1", &before);
    assert_ne!(after.id, before.id);
    lab.finish();
}

#[test]
fn a_broken_edit_keeps_what_runs_and_says_where_until_it_is_mended() {
    let lab = Lab::new();
    let good = file(&[service("a", IDLE)]);
    lab.put("a.yaml", &good);
    let before = lab.running("a-a-1");
    lab.put("a.yaml", "services:\n  a:\n    image: [unclosed\n");
    let problem = lab.problem("last good version stays in force");
    assert_eq!(problem["severity"], "error");
    assert!(problem["line"].as_u64().is_some_and(|line| line >= 3) && problem["column"].is_u64(), "{problem}");
    assert!(place(&problem).starts_with("a.yaml:"), "{problem}");
    lab.still("a-a-1", &before);
    assert_eq!(lab.status()["projects"][0]["last_good"], true);
    lab.put("a.yaml", &good);
    lab.no_problems();
    lab.still("a-a-1", &before);
    let edited = file(&[with("a", IDLE, &["hostname: mended"])]);
    lab.put("a.yaml", &edited);
    lab.replaced("a-a-1", &before);
    lab.finish();
}

#[test]
fn a_misspelt_key_names_its_place_and_the_nearest_known_key() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", IDLE, &["restrat: always"])]));
    let problem = lab.problem("restrat");
    assert_eq!(place(&problem), "a.yaml:6:5", "{problem}");
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("restart")), "{problem}");
    assert_eq!(containers(&lab.status()).count(), 0);
    lab.finish();
}

#[test]
fn a_service_with_a_key_that_is_not_supported_yet_is_held_with_its_place_and_its_sibling_runs() {
    let lab = Lab::new();
    let held = with("db", IDLE, &["use_api_socket: true"]);
    lab.put("a.yaml", &file(&[service("web", IDLE), held]));
    lab.running("a-web-1");
    let problem = lab.problem("services.db.use_api_socket");
    assert_eq!((problem["severity"].as_str(), place(&problem)), (Some("held"), "a.yaml:10:5".to_owned()));
    let status = lab.status();
    assert_eq!(find(&status, "a", "db").unwrap()["phase"], "held");
    assert_eq!(containers(&status).count(), 1);
    lab.finish();
}

#[test]
fn two_files_of_one_project_are_told_and_the_first_stays_in_force() {
    let lab = Lab::new();
    let one = format!("name: shop\n{}", file(&[service("a", IDLE)]));
    lab.put("one.yaml", &one);
    let before = lab.running("shop-a-1");
    lab.put("two.yaml", &format!("name: shop\n{}", file(&[service("b", IDLE)])));
    lab.wait_for("both to be told", |s| {
        let told = all_problems(s).iter().filter(|p| p["message"].to_string().contains("also defined by")).count();
        (told == 2).then_some(())
    });
    lab.still("shop-a-1", &before);
    assert!(container(&lab.status(), "shop-b-1").is_none());
    lab.remove("two.yaml");
    lab.no_problems();
    lab.still("shop-a-1", &before);
    lab.finish();
}

#[test]
fn two_services_of_one_container_name_are_told_and_one_runs() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", IDLE, &["container_name: same"])]));
    let before = lab.running("same");
    lab.put("b.yaml", &file(&[with("b", IDLE, &["container_name: same"])]));
    let problem = lab.problem("the container name same is already taken by a/a");
    assert_eq!(problem["file"], "b.yaml");
    lab.still("same", &before);
    lab.remove("a.yaml");
    let after = lab.replaced("same", &before);
    assert_ne!(after.id, before.id);
    lab.finish();
}

#[test]
fn a_file_that_is_renamed_keeps_its_containers() {
    let lab = Lab::new();
    lab.put("one.yaml", &format!("name: shop\n{}", file(&[service("a", IDLE)])));
    let before = lab.running("shop-a-1");
    std::fs::rename(lab.state().join("one.yaml"), lab.state().join("two.yaml")).unwrap();
    lab.wait_for("the new name", |s| (s["projects"][0]["file"] == "two.yaml").then_some(()));
    lab.still("shop-a-1", &before);
    lab.finish();
}

#[test]
fn a_swapped_data_link_is_one_edit() {
    let lab = Lab::new();
    let state = lab.state();
    let version = |name: &str, hostname: &str| {
        let dir = state.join(name);
        std::fs::create_dir(&dir).unwrap();
        let more = [&*format!("hostname: {hostname}")];
        std::fs::write(dir.join("a.yaml"), file(&[with("a", IDLE, &more), service("b", IDLE)])).unwrap();
    };
    version("..1", "one");
    symlink("..1", state.join("..data")).unwrap();
    symlink("..data/a.yaml", state.join("a.yaml")).unwrap();
    let (a, b) = (lab.running("a-a-1"), lab.running("a-b-1"));
    version("..2", "two");
    symlink("..2", state.join("..data_tmp")).unwrap();
    std::fs::rename(state.join("..data_tmp"), state.join("..data")).unwrap();
    std::fs::remove_dir_all(state.join("..1")).unwrap();
    lab.replaced("a-a-1", &a);
    lab.still("a-b-1", &b);
    lab.finish();
}

#[test]
fn what_is_no_regular_file_is_told_and_nothing_of_shadow_is_shown() {
    let lab = Lab::new();
    nix::unistd::mkfifo(&lab.state().join("fifo.yaml"), Mode::S_IRWXU).unwrap();
    symlink("/etc/shadow", lab.state().join("shadow.yaml")).unwrap();
    std::fs::create_dir(lab.state().join("folder.yaml")).unwrap();
    symlink("loop.yaml", lab.state().join("loop.yaml")).unwrap();
    lab.put("good.yaml", &file(&[service("a", IDLE)]));
    lab.running("good-a-1");
    let status = lab.wait_for("all to be told", |s| {
        let told = |name: &str| all_problems(s).iter().any(|p| p["file"] == name);
        ["fifo.yaml", "shadow.yaml", "loop.yaml"].iter().all(|name| told(name)).then(|| s.clone())
    });
    let secret = std::fs::read_to_string("/etc/shadow").unwrap();
    let secret = secret.lines().next().unwrap();
    for shown in [status.to_string(), lab.log(), String::from_utf8(lab.cli(&["status"]).stdout).unwrap()] {
        assert!(!shown.contains(secret) && !shown.contains("root:"), "{shown}");
    }
    lab.finish();
}

#[test]
fn half_written_files_are_not_read_until_they_are_whole() {
    use std::io::Write as _;
    let lab = Lab::new();
    let text = file(&[service("a", IDLE), service("b", IDLE)]);
    lab.put("a.yaml", &text);
    let (a, b) = (lab.running("a-a-1"), lab.running("a-b-1"));
    // Truncated and written again in two halves: the first half alone is a whole file without b.
    let whole = file(&[service("a", IDLE), with("b", IDLE, &["hostname: later"])]);
    let half = whole.find("  b:").unwrap();
    let mut open = std::fs::File::create(lab.state().join("a.yaml")).unwrap();
    open.write_all(&whole.as_bytes()[..half]).unwrap();
    open.flush().unwrap();
    open.write_all(&whole.as_bytes()[half..]).unwrap();
    drop(open);
    lab.replaced("a-b-1", &b);
    lab.still("a-a-1", &a);
    lab.finish();
}
