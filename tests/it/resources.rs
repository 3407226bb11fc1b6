//! Limits in state files, from the file to the kernel and back to the status; what containers use, and their processes.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::lab::container;
use crate::support::{Lab, file, host, service, with, with_both_runtimes};

const IDLE: &str = "[work, graceful, '0']";

with_both_runtimes! {
    limits_of_a_file_reach_the_kernel_and_change_while_the_container_runs,
    want_of_memory_is_told_with_its_limit,
}

/// A file of the container's cgroup, by its name on v1 or on v2.
fn cgroup(lab: &Lab, id: &str, one: &str, two: &str) -> String {
    let folders: Vec<PathBuf> = host::cgroups(&lab.instance).into_iter().map(|path| path.join(id)).collect();
    let found = |file: &str| folders.iter().find_map(|folder| std::fs::read_to_string(folder.join(file)).ok());
    found(one).or_else(|| found(two)).unwrap_or_else(|| panic!("neither {one} nor {two}")).trim().to_owned()
}

fn limits_of_a_file_reach_the_kernel_and_change_while_the_container_runs(config: &Value) {
    let lab = Lab::with(config);
    let limited = |memory: &str, pids: &str, cpus: &str| {
        let more = [&format!("mem_limit: {memory}"), &format!("pids_limit: {pids}"), &format!("cpus: {cpus}")];
        file(&[with("a", IDLE, &more.map(String::as_str)), service("by", IDLE)])
    };
    lab.put("a.yaml", &limited("64m", "32", "0.5"));
    let (before, bystander) = (lab.running("a-a-1"), lab.running("a-by-1"));
    let read = |one, two| cgroup(&lab, &before.id, one, two);
    assert_eq!(read("memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(read("pids.max", "pids.max"), "32");
    assert!(["50000", "50000 100000"].contains(&read("cpu.cfs_quota_us", "cpu.max").as_str()));

    lab.put("a.yaml", &limited("128m", "48", "0.25"));
    lab.wait_for("the new limit of memory", |_| {
        (read("memory.limit_in_bytes", "memory.max") == "134217728").then_some(())
    });
    lab.still("a-a-1", &before);
    assert_eq!(read("pids.max", "pids.max"), "48");
    assert!(["25000", "25000 100000"].contains(&read("cpu.cfs_quota_us", "cpu.max").as_str()));
    lab.still("a-by-1", &bystander);

    // Taken out of the file, they are taken from the container.
    lab.put("a.yaml", &file(&[service("a", IDLE), service("by", IDLE)]));
    lab.wait_for("no limit", |_| (read("pids.max", "pids.max") == "4096").then_some(()));
    lab.still("a-a-1", &before);
    assert!(["-1", "max 100000"].contains(&read("cpu.cfs_quota_us", "cpu.max").as_str()));
    lab.finish();
}

fn want_of_memory_is_told_with_its_limit(config: &Value) {
    let lab = Lab::with(config);
    let limits = ["mem_limit: 16m", "memswap_limit: 16m", "restart: 'no'"];
    lab.put(
        "a.yaml",
        &file(&[with("a", "[work, mem, '64']", &limits), with("b", "[sh, -c, 'work mem 64; exit 3']", &limits)]),
    );
    assert_eq!((lab.exited("a-a-1"), lab.exited("a-b-1")), (137, 3));
    let status = lab.status();
    let how = |name: &str| container(&status, name).unwrap()["state"]["how"].as_str().unwrap_or_default().to_owned();
    let killed = "out of memory: killed by the kernel (137, limit 16 MiB)";
    assert_eq!(how("a-a-1"), killed);
    assert_eq!(how("a-b-1"), "exit code 3, after the kernel had killed a process of it: out of memory (limit 16 MiB)");
    let ps = String::from_utf8(lab.cli(&["ps", "-a"]).stdout).unwrap();
    assert!(ps.contains(killed), "{ps}");
    assert!(lab.log().contains(killed), "the event says so");
    lab.finish();
}

#[test]
fn a_limit_below_what_is_used_is_refused_told_and_tried_again() {
    let lab = Lab::new();
    let limited = |memory: &str| file(&[with("a", "[work, mem, '48']", &[&format!("mem_limit: {memory}")])]);
    lab.put("a.yaml", &limited("96m"));
    let before = lab.running("a-a-1");
    lab.says("a-a-1", "48 MiB touched");
    lab.put("a.yaml", &limited("16m"));
    let waits = lab.wait_for("the refusal", |s| {
        s.to_string().contains("mem_limit 16 MiB was refused: the container uses 4").then(|| s["waiting"].clone())
    });
    assert!(waits.to_string().contains("it keeps the limit"), "{waits}");
    let limit = || cgroup(&lab, &before.id, "memory.limit_in_bytes", "memory.max");
    assert_eq!(limit(), "100663296");
    assert!(host::alive(before.pid));
    lab.put("a.yaml", &limited("80m"));
    lab.wait_for("a limit that fits", |_| (limit() == "83886080").then_some(()));
    lab.still("a-a-1", &before);
    lab.finish();
}

#[test]
fn what_containers_use_is_told_by_commands_and_metrics() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", "[work, mem, '32']", &["mem_limit: 64m"]), service("spin", "[work, spin]")]));
    lab.running("a-a-1");
    let spin = lab.running("a-spin-1");
    lab.says("a-a-1", "32 MiB touched");
    let run = |args: &[&str]| {
        let done = lab.cli(args);
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let table = run(&["stats", "--no-stream"]);
    assert_eq!(table.lines().count(), 3, "{table}");
    let line = table.lines().find(|l| l.starts_with("a-a-1")).expect("listed");
    assert!(line.contains("/ 64.0 MiB") && line.contains("0 B / 0 B") && line.contains('%'), "{table}");
    // No terminal: once. For programs too, where it is said.
    assert_eq!(run(&["stats", "a/a"]).lines().count(), 2);
    let look: Value = serde_json::from_str(&run(&["stats", "--json", "--no-stream", "a/spin"])).unwrap();
    let share = look["containers"][0]["cpu"]["percent"].as_f64().expect("the second look");
    assert!((1.0..110.0).contains(&share), "{look}");
    let top = run(&["top", "a/spin"]);
    let process = top.lines().nth(1).expect("one process");
    let fields: Vec<&str> = process.split_whitespace().collect();
    assert_eq!(fields[..3], ["a-spin-1", &spin.pid.to_string(), "1"], "{top}");
    assert!(process.ends_with("work spin"), "{top}");
    assert_eq!(run(&["top"]).lines().count(), 3);
    let unknown = lab.cli(&["stats", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1));
    let (_, metrics) = crate::support::http::text(&lab.socket(), "/metrics").expect("metrics");
    let labels = r#"{project="a",service="a",container="a-a-1"}"#;
    for name in ["cpu_seconds_total", "memory_bytes", "memory_limit_bytes", "processes", "oom_kills_total"] {
        assert!(metrics.contains(&format!("longshore_container_{name}{labels} ")), "{name} in {metrics}");
    }
    lab.finish();
}

#[test]
fn who_ignores_the_signal_and_forks_without_end_is_ended_in_time() {
    let lab = Lab::new();
    let grace = "stop_grace_period: 500ms";
    lab.put(
        "a.yaml",
        &file(&[
            with("bomb", "[work, forkbomb]", &[grace, "pids_limit: 200"]),
            with("zombies", "[work, zombies, '1000']", &[grace]),
            with("orphans", "[sh, -c, 'work orphan; exec work stubborn']", &[grace]),
        ]),
    );
    lab.says("a-bomb-1", "forked 199 errno 11");
    lab.says("a-zombies-1", "1000 zombies");
    lab.says("a-orphans-1", "orphan tick");
    let shown = String::from_utf8(lab.cli(&["top", "--json", "a/zombies"]).stdout).unwrap();
    assert_eq!(shown.matches("\"state\": \"Z\"").count(), 1000);
    lab.remove("a.yaml");
    let begun = std::time::Instant::now();
    lab.wait_for("all to be gone", |s| (s["settled"] == true && s["projects"] == serde_json::json!([])).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    lab.finish();
}
