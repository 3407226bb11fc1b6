//! What containers write: all of it, as it was, within bounds.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::json;

use crate::support::lab::{container, ended};
use crate::support::{Lab, file, host, service, with};

#[test]
fn a_flood_stays_within_its_bounds_and_no_line_is_torn() {
    let lab = Lab::with(&json!({"container-logs": {"max-size": 131_072, "max-files": 2}}));
    lab.put("a.yaml", &file(&[service("a", "[work, flood, '16']"), service("b", "[work, tick, '20']")]));
    lab.wait_for("its end", |s| (container(s, "a-a-1")?["state"]["code"] == 0).then_some(()));
    let id = container(&lab.status(), "a-a-1").unwrap()["id"].as_str().unwrap().to_owned();
    let kept = host::bytes_below(&lab.data().join("containers").join(id).join("logs"));
    assert!(kept > 65_536 && kept <= 2 * 131_072, "{kept} bytes");
    let output = lab.output("a-a-1");
    assert!(output.ends_with("flood done\n") && output.lines().count() > 100);
    for line in output.lines().filter(|l| *l != "flood done") {
        assert!(line.len() == 99 && line.bytes().all(|b| b == line.as_bytes()[0]), "{line}");
    }
    lab.says("a-b-1", "tick 10");
    lab.finish();
}

#[test]
fn binary_output_comes_back_byte_for_byte() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", "[work, binary, '64']")]));
    assert_eq!(lab.exited("a-a-1"), 0);
    let mut x = 1_u32;
    let expected: Vec<u8> = (0..64 * 1024)
        .map(|i| {
            x = x.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            if i % 97 == 0 { 0x1b } else { (x >> 16).to_le_bytes()[0] }
        })
        .collect();
    let logs = lab.cli(&["logs", "a-a-1"]);
    assert!(logs.status.success() && logs.stderr.is_empty());
    assert!(logs.stdout == expected, "{} bytes of {}", logs.stdout.len(), expected.len());
    lab.finish();
}

#[test]
fn a_line_of_megabytes_comes_back_whole() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", "[work, line, '3']")]));
    assert_eq!(lab.exited("a-a-1"), 0);
    let stdout = lab.cli(&["logs", "a-a-1"]).stdout;
    assert!(stdout.len() == 3 << 20 && stdout.iter().all(|b| *b == b'x'), "{} bytes", stdout.len());
    lab.finish();
}

#[test]
fn both_streams_are_told_apart() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", "[sh, -c, 'echo out; echo err >&2']")]));
    assert_eq!(lab.exited("a-a-1"), 0);
    let logs = lab.cli(&["logs", "a-a-1"]);
    assert_eq!((logs.stdout.as_slice(), logs.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    lab.finish();
}

#[test]
fn a_log_is_followed_over_restarts_and_ends_when_the_container_is_removed() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", "[work, tick, '20']", &["restart: always"])]));
    let first = lab.running("a-a-1");
    let mut follow = lab.client(&["logs", "-f", "--tail", "1", "a-a-1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("tick "));
    host::signal(first.pid, nix::sys::signal::Signal::SIGKILL);
    assert!(lines.any(|line| line.unwrap() == "tick 0"), "the next run");
    lab.remove("a.yaml");
    lab.gone("a-a-1");
    assert!(ended(follow).status.success());
    assert!(lines.all(|line| line.unwrap().starts_with("tick ")), "and the rest is read");
    lab.finish();
}

#[test]
fn logs_are_chosen_by_tail_time_and_several_names() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", "[sh, -c, 'seq 5']"), service("b", "[echo, hello]")]));
    assert_eq!((lab.exited("a-a-1"), lab.exited("a-b-1")), (0, 0));
    let said = |args: &[&str]| String::from_utf8(lab.cli(args).stdout).unwrap();
    assert_eq!(said(&["logs", "--tail", "2", "a/a"]), "4\n5\n");
    assert_eq!(said(&["logs", "--since", "2100-01-01T00:00:00Z", "a-a-1"]), "");
    assert_eq!(said(&["logs", "--since", "1h", "b"]), "hello\n");
    assert!(said(&["logs", "-t", "a-b-1"]).contains("Z hello"));
    let both = said(&["logs", "a-a-1", "a-b-1"]);
    assert!(both.contains("a-a-1 | 1\n") && both.contains("a-b-1 | hello\n"), "{both}");
    lab.finish();
}

#[test]
fn a_service_named_like_the_beginning_of_an_id_is_itself() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", "[echo, wrong]")]));
    assert_eq!(lab.exited("a-a-1"), 0);
    let shown: serde_json::Value = serde_json::from_slice(&lab.cli(&["inspect", "a-a-1"]).stdout).unwrap();
    let name = &shown["id"].as_str().unwrap()[..2];
    lab.put("b.yaml", &file(&[service(name, "[echo, right]")]));
    assert_eq!(lab.exited(&format!("b-{name}-1")), 0);
    let said = |name: &str| String::from_utf8(lab.cli(&["logs", name]).stdout).unwrap();
    assert_eq!((said(name), said(&shown["id"].as_str().unwrap()[..6])), ("right\n".into(), "wrong\n".into()));
    lab.finish();
}
