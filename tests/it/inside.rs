//! What a service's keys mean to the process in the container.

use crate::support::lab::container;
use serde_json::Value;

use crate::support::{Lab, file, service, with, with_both_runtimes};

with_both_runtimes! {
    the_process_is_who_and_where_the_file_says,
    a_user_that_is_not_in_the_image_is_named,
    the_process_has_the_root_and_the_terminal_that_the_file_says,
    an_init_is_process_1_where_the_file_asks_for_one,
    without_a_network_there_is_loopback_and_nothing_else,
}

#[test]
fn environment_comes_from_the_file_its_env_files_and_dot_env() {
    let lab = Lab::new();
    lab.put("app/.env", "COLOUR=blue\nSIZE=9\n");
    lab.put("app/vars.env", "FROM_FILE=1\nBOTH=file\n");
    let command = "[sh, -c, 'env; exec work graceful 0']";
    let more = [
        "env_file: vars.env",
        "environment:",
        "  BOTH: key",
        "  COLOUR: ${COLOUR}",
        "  NONE: ${MISSING:-default}",
        "  DOLLAR: $$x",
    ];
    lab.put("app/compose.yaml", &file(&[with("a", command, &more), service("b", "[work, graceful, '0']")]));
    let (a, b) = (lab.running("app-a-1"), lab.running("app-b-1"));
    let said = lab.says("app-a-1", "FROM_FILE");
    for line in ["FROM_FILE=1", "BOTH=key", "COLOUR=blue", "NONE=default", "DOLLAR=$x", "PATH=/bin"] {
        assert!(said.lines().any(|l| l == line), "{line} in {said}");
    }
    assert!(!said.contains("SIZE"), "`.env` is for the file, not for the container: {said}");
    lab.put("app/vars.env", "FROM_FILE=2\n");
    let a2 = lab.replaced("app-a-1", &a);
    lab.says("app-a-1", "FROM_FILE=2");
    lab.put("app/.env", "COLOUR=red\n");
    lab.replaced("app-a-1", &a2);
    lab.says("app-a-1", "COLOUR=red");
    lab.still("app-b-1", &b);
    lab.finish();
}

fn the_process_is_who_and_where_the_file_says(config: &Value) {
    let lab = Lab::with(config);
    assert_eq!(lab.seen_inside("[pwd]", &[]), "/tmp", "the image's own");
    assert_eq!(lab.seen_inside("[pwd]", &["working_dir: /etc"]), "/etc");
    assert_eq!(lab.seen_inside("[pwd]", &["working_dir: /made/for/it"]), "/made/for/it");
    assert_eq!(lab.seen_inside("[work, id]", &[]), "uid 0 gid 0");
    assert_eq!(lab.seen_inside("[work, id]", &["user: app"]), "uid 1000 gid 1000");
    let groups = lab.seen_inside("[id]", &["user: app"]);
    assert!(groups.contains("2000(media)"), "its groups too: {groups}");
    assert_eq!(lab.seen_inside("[work, id]", &["user: '1234'"]), "uid 1234 gid 0");
    assert_eq!(lab.seen_inside("[work, id]", &["user: app:media"]), "uid 1000 gid 2000");
    assert_eq!(lab.seen_inside("[hostname]", &["hostname: my-host"]), "my-host");
    assert!(!lab.seen_inside("[hostname]", &[]).is_empty());
    lab.finish();
}

fn a_user_that_is_not_in_the_image_is_named(config: &Value) {
    let lab = Lab::with(config);
    lab.put("a.yaml", &file(&[with("a", "[id]", &["user: nobody-here"])]));
    let error = lab.wait_for("the failure", |s| container(s, "a-a-1")?["state"]["error"].as_str().map(str::to_owned));
    assert!(error.contains("nobody-here"), "{error}");
    lab.finish();
}

fn the_process_has_the_root_and_the_terminal_that_the_file_says(config: &Value) {
    let lab = Lab::with(config);
    let write = "[sh, -c, 'if touch /x 2>/dev/null; then echo yes; else echo no; fi']";
    assert_eq!(lab.seen_inside(write, &[]), "yes");
    assert_eq!(lab.seen_inside(write, &["read_only: true"]), "no");
    let terminal = "[sh, -c, 'if test -t 1; then echo yes; else echo no; fi']";
    assert_eq!(lab.seen_inside(terminal, &[]), "no");
    assert_eq!(lab.seen_inside(terminal, &["tty: true"]), "yes");
    let stdin = "[sh, -c, 'readlink /proc/self/fd/0']";
    assert_eq!(lab.seen_inside(stdin, &[]), "/dev/null");
    assert_ne!(lab.seen_inside(stdin, &["stdin_open: true"]), "/dev/null");
    lab.finish();
}

fn an_init_is_process_1_where_the_file_asks_for_one(config: &Value) {
    let lab = Lab::with(config);
    assert_eq!(lab.seen_inside("[sh, -c, 'echo $$$$']", &[]), "1");
    assert_ne!(lab.seen_inside("[sh, -c, 'echo $$$$']", &["init: true"]), "1");
    // It passes the signal on, so a plain program ends at once instead of after its grace.
    lab.put("a.yaml", &file(&[with("a", "[work, sleep]", &["init: true", "stop_grace_period: 10m"])]));
    let a = lab.running("a-a-1");
    assert_eq!(lab.pids_of(&a).len(), 2);
    lab.finish();
}

fn without_a_network_there_is_loopback_and_nothing_else(config: &Value) {
    let lab = Lab::with(config);
    let said = lab.seen_inside("[sh, -c, 'ls /sys/class/net; cat /proc/net/dev | wc -l']", &[]);
    assert_eq!(said, "lo\n3");
    lab.finish();
}
