//! Configs and secrets as the process in the container sees them, and what becomes of it when they change.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::support::host::own_ids;
use crate::support::{Lab, file, with, with_both_runtimes};

with_both_runtimes! {
    every_form_of_configs_and_secrets_is_seen_from_inside,
    a_changed_content_is_answered_as_its_file_says,
    a_swap_that_is_not_recorded_is_not_forgotten,
}

const DEFINED: &str = "\
configs: {f: {file: ./app.conf}, e: {environment: WORD}, c: {content: \"said $WORD\"}, n: {name: other, file: ./app.conf}}
secrets: {s: {file: ./key}, v: {environment: WORD}, x: {external: true}, y: {external: true, name: kept}, a: {file: ./sealed.age}}
";

/// Runs a script in a container with these keys, and gives what it said.
#[track_caller]
fn seen(lab: &Lab, keys: &[&str], script: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("s{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let command = format!("[sh, -c, \"{script}\"]");
    lab.put("seen/compose.yaml", &format!("{}{DEFINED}", file(&[with(&name, &command, keys)])));
    let container = format!("seen-{name}-1");
    assert_eq!(lab.exited(&container), 0, "{keys:?}: {}", lab.output(&container));
    lab.output(&container).trim_end().to_owned()
}

fn prepared(config: &Value) -> Lab {
    own_ids();
    let lab = Lab::with(config);
    lab.put("seen/.env", "WORD=hello\n");
    lab.put("seen/app.conf", "from a file\n");
    lab.put("seen/key", "hunter2");
    fs::set_permissions(lab.state().join("seen/key"), fs::Permissions::from_mode(0o600)).unwrap();
    for (name, secret) in [("x", "kept by name"), ("kept", "kept by another")] {
        let set = lab.fed(&["secret", "set", name], secret);
        assert!(set.status.success(), "{set:?}");
    }
    let sealed = lab.fed(&["secret", "encrypt"], "sealed to this host");
    assert!(sealed.status.success(), "{sealed:?}");
    lab.put("seen/sealed.age", &String::from_utf8(sealed.stdout).unwrap());
    lab
}

fn every_form_of_configs_and_secrets_is_seen_from_inside(config: &Value) {
    let lab = prepared(config);
    let user = "user: '33:44'";
    let table: &[(&[&str], &str, &str)] = &[
        // Short.
        (&["configs: [f]"], "/f", "444 0 0 from a file"),
        (&["configs: [e]"], "/e", "444 0 0 hello"),
        (&["configs: [c]"], "/c", "444 0 0 said hello"),
        (&["configs: [n]"], "/n", "444 0 0 from a file"),
        (&["secrets: [s]"], "/run/secrets/s", "400 0 0 hunter2"),
        (&["secrets: [v]"], "/run/secrets/v", "400 0 0 hello"),
        (&["secrets: [x]"], "/run/secrets/x", "400 0 0 kept by name"),
        (&["secrets: [y]"], "/run/secrets/y", "400 0 0 kept by another"),
        (&["secrets: [a]"], "/run/secrets/a", "400 0 0 sealed to this host"),
        (&["secrets: [s]", user], "/run/secrets/s", "400 33 44 hunter2"),
        // Long.
        (&["configs: [{source: f}]"], "/f", "444 0 0 from a file"),
        (&["configs: [{source: f, target: /etc/deep/app.conf}]"], "/etc/deep/app.conf", "444 0 0 from a file"),
        (&["configs: [{source: f, target: app.conf}]"], "/app.conf", "444 0 0 from a file"),
        (
            &["configs: [{source: f, uid: '103', gid: '104', mode: 0440}]", "user: '103'"],
            "/f",
            "440 103 104 from a file",
        ),
        (&["configs: [{source: f, mode: '0755'}]"], "/f", "755 0 0 from a file"),
        (&["secrets: [{source: s, target: other}]"], "/run/secrets/other", "400 0 0 hunter2"),
        (&["secrets: [{source: s, target: /elsewhere}]"], "/elsewhere", "400 0 0 hunter2"),
        (&["secrets: [{source: s, uid: '33', gid: '0', mode: 0o440}]"], "/run/secrets/s", "440 33 0 hunter2"),
        (&["secrets: [s]", "read_only: true"], "/run/secrets/s", "400 0 0 hunter2"),
        (&["secrets: [s]", "tmpfs: [/run]"], "/run/secrets/s", "400 0 0 hunter2"),
        (&["secrets: [s]", "userns_mode: auto"], "/run/secrets/s", "400 0 0 hunter2"),
        (&["secrets: [s]", "userns_mode: auto", user], "/run/secrets/s", "400 33 44 hunter2"),
    ];
    for (keys, path, expected) in table {
        // Nobody writes there, also not who owns it.
        let script = format!(
            "echo $$(stat -c '%a %u %g' {path}) $$(cat {path}); (echo x >> {path}) 2>/dev/null && echo written; grep ' {path} ' /proc/mounts"
        );
        let said = seen(&lab, keys, &script);
        let (first, mount) = said.split_once('\n').unwrap_or_default();
        println!("{keys:?}: {first:?}, {mount}");
        assert_eq!(first, *expected, "{keys:?}");
        let (kind, options) = (mount.split(' ').nth(2).unwrap(), mount.split(' ').nth(3).unwrap());
        assert_eq!(kind, "tmpfs", "{keys:?}");
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(options.split(',').any(|known| known == option), "{keys:?}: {mount}");
        }
    }
    // An image's file gives way, and comes back with the next container.
    assert_eq!(seen(&lab, &["configs: [{source: f, target: /etc/passwd}]"], "cat /etc/passwd"), "from a file");
    for secret in ["hunter2", "kept by name", "kept by another", "sealed to this host"] {
        assert_eq!(holders(&lab.data(), secret.as_bytes()), Vec::<String>::new(), "{secret}");
        assert_eq!(holders(&lab.dir.join("run"), secret.as_bytes()), Vec::<String>::new(), "{secret}");
        assert!(!lab.log().contains(secret) && !lab.status().to_string().contains(secret));
    }
    lab.finish();
}

/// The files below a folder that hold this, but for what the containers said themselves.
fn holders(dir: &Path, what: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() && !path.ends_with("logs") {
            found.extend(holders(&path, what));
        } else if kind.is_file() && fs::read(&path).unwrap_or_default().windows(what.len()).any(|part| part == what) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn a_changed_content_is_answered_as_its_file_says(config: &Value) {
    own_ids();
    let lab = Lab::with(config);
    // It tells what it holds, and each time it is told to look again.
    let words =
        "trap 'echo told $$(cat /run/secrets/s)' HUP; echo began $$(cat /run/secrets/s); while :; do sleep 0.05; done";
    let command = format!("[sh, -c, \"{words}\"]");
    for (number, (reaction, more)) in [
        ("recreate", ""),
        ("restart", ""),
        ("update", ""),
        ("{signal: HUP}", ""),
        ("update", "userns_mode: auto"),
        ("{signal: HUP}", "userns_mode: auto"),
    ]
    .into_iter()
    .enumerate()
    {
        let project = format!("p{number}");
        let reaction_key = format!("x-longshore: {{on_change: {reaction}}}");
        let mut keys = vec!["secrets: [s]", &reaction_key, "stop_signal: KILL", "restart: always"];
        keys.extend(Some(more).filter(|more| !more.is_empty()));
        let text = format!("{}secrets: {{s: {{file: ./key}}}}\n", file(&[with("a", &command, &keys)]));
        lab.put(&format!("{project}/key"), "one");
        lab.put(&format!("{project}/compose.yaml"), &text);
        let name = format!("{project}-a-1");
        let mut before = lab.running(&name);
        let mut id = before.id.clone();
        for (old, new) in [("one", "two"), ("two", "three"), ("three", "four")] {
            let inside = || {
                let out = lab.cli(&["exec", &name, "cat", "/run/secrets/s"]);
                String::from_utf8_lossy(&out.stdout).trim().to_owned()
            };
            assert_eq!(inside(), old);
            lab.put(&format!("{project}/key"), new);
            if reaction == "recreate" || reaction == "restart" {
                let now = lab.replaced(&name, &before);
                assert_eq!(now.id == before.id, reaction == "restart", "{reaction}");
                before = now;
            } else {
                lab.until("the new content", || (inside() == new).then_some(()));
                lab.still(&name, &before);
            }
            assert_eq!(inside(), new, "{reaction}");
            let heard = lab.output(&name).matches(&format!("told {new}")).count();
            if reaction.contains("HUP") {
                lab.until("the signal", || lab.output(&name).contains(&format!("told {new}")).then_some(()));
            } else {
                assert_eq!(heard, 0);
            }
            let mounts = lab.cli(&["exec", &name, "grep", "-c", " /run/secrets/s ", "/proc/mounts"]);
            assert_eq!(String::from_utf8_lossy(&mounts.stdout).trim(), "1", "one mount, not one on another");
            id = before.id.clone();
        }
        // What it is given last is what it begins with when it has to begin again.
        crate::support::host::signal(before.pid, nix::sys::signal::Signal::SIGKILL);
        let again = lab.replaced(&name, &before);
        assert_eq!(again.id, id);
        lab.until("its first words", || lab.output(&name).contains("began four").then_some(()));
        lab.remove(&format!("{project}/compose.yaml"));
        lab.gone(&name);
    }
    lab.finish();
}

const FOREVER: &str = "[sh, -c, 'echo $$(cat /run/secrets/*); while :; do sleep 1; done']";

#[test]
fn what_is_wrong_with_a_secret_is_told_and_what_ran_goes_on() {
    let lab = Lab::new();
    let text = |definition: &str| {
        let service = with("a", FOREVER, &["secrets: [s]", "stop_signal: KILL"]);
        format!("{}secrets: {{s: {definition}}}\n", file(&[service]))
    };
    lab.put("shop/key", "hunter2");
    lab.put("shop/compose.yaml", &text("{file: ./key}"));
    let before = lab.running("shop-a-1");
    let warned = lab.problem("anybody on this machine may read the secret \"s\" in \"./key\"");
    assert_eq!(warned["severity"], "warning");
    fs::create_dir(lab.state().join("shop/folder")).unwrap();
    lab.put("shop/large", &"x".repeat((1 << 20) + 1));
    // Encrypted to another host.
    let other = Lab::new();
    let sealed = other.fed(&["secret", "encrypt"], "hunter3");
    lab.put("shop/sealed.age", &String::from_utf8(sealed.stdout).unwrap());
    other.finish();
    lab.put("shop/plain.age", "hunter3");
    let recipient = lab.cli(&["secret", "recipient"]);
    let recipient = String::from_utf8(recipient.stdout).unwrap().trim().to_owned();
    for (definition, said) in [
        ("{file: ./gone}", "the secret \"s\" is not read from \"./gone\": it does not exist".to_owned()),
        ("{file: ./folder}", "the secret \"s\" is not read from \"./folder\": it is not a regular file".to_owned()),
        (
            "{file: /etc/passwd}",
            "the secret \"s\" is not read from \"/etc/passwd\": it lies outside the state file's folder".to_owned(),
        ),
        ("{file: ./large}", "the secret \"s\" is not read from \"./large\": it is too large".to_owned()),
        ("{file: ./sealed.age}", format!("is encrypted to another key, not to this host's; encrypt it to {recipient}")),
        ("{file: ./plain.age}", "is not in the age format".to_owned()),
        ("{environment: NOWHERE}", "the secret \"s\" is the variable \"NOWHERE\", which is not set".to_owned()),
    ] {
        lab.put("shop/compose.yaml", &text(definition));
        let problem = lab.problem(&said);
        println!("{definition}: {} {}", crate::support::lab::place(&problem), problem["message"]);
        assert_eq!(problem["severity"], "error", "{definition}");
        assert!(problem["line"].as_u64().unwrap() > 1, "{problem}");
        lab.still("shop-a-1", &before);
    }
    lab.put("shop/compose.yaml", &text("{file: ./key}"));
    lab.still("shop-a-1", &before);
    let status = lab.status().to_string();
    assert!(!status.contains("hunter") && !lab.log().contains("hunter"));
    lab.finish();
}

#[test]
fn a_secret_that_is_set_later_is_waited_for_and_a_killed_daemon_forgets_none() {
    let mut lab = Lab::new();
    let keys = &["secrets: [s]", "stop_signal: KILL", "restart: always", "x-longshore: {on_change: update}"];
    let text = format!("{}secrets: {{s: {{external: true, name: db}}}}\n", file(&[with("a", FOREVER, keys)]));
    lab.put("shop.yaml", &text);
    let held = lab.problem("the secret \"db\" is not there yet");
    assert_eq!(held["severity"], "held");
    assert!(held["hint"].as_str().unwrap().contains("longshore secret set db"), "{held}");
    assert!(lab.fed(&["secret", "set", "db"], "hunter2").status.success());
    let before = lab.running("shop-a-1");
    lab.says("shop-a-1", "hunter2");
    let listed = lab.cli(&["secret", "ls"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("db") && !listed.contains("hunter2"), "{listed}");
    // It is gone, and kept by who has it.
    assert!(listed.contains("shop/a"), "{listed}");
    let refused = lab.cli(&["secret", "rm", "db"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("is used by shop/a"), "{words}");
    assert!(lab.cli(&["secret", "rm", "--force", "db"]).status.success());
    lab.problem("the secret \"db\" is not there yet");
    lab.still("shop-a-1", &before);
    assert!(lab.fed(&["secret", "set", "db"], "hunter2").status.success());
    lab.no_problems();
    lab.still("shop-a-1", &before);
    // The daemon is killed, and the file broken meanwhile: what it was is known, and with it what its secret holds.
    lab.kill();
    lab.put("shop.yaml", "services: [");
    lab.start();
    lab.still("shop-a-1", &before);
    crate::support::host::signal(before.pid, nix::sys::signal::Signal::SIGKILL);
    let again = lab.replaced("shop-a-1", &before);
    assert_eq!(again.id, before.id);
    lab.until("its second words", || (lab.output("shop-a-1").matches("hunter2").count() == 2).then_some(()));
    // Nobody can read it without the host's key.
    lab.kill();
    fs::remove_file(lab.data().join("secrets/host.key")).unwrap();
    lab.put("shop.yaml", &text);
    lab.start_unready();
    lab.problem("is encrypted to another key");
    lab.still("shop-a-1", &again);
    assert!(lab.log().contains("the host's key") && lab.log().contains("is gone"));
    for (args, input, said) in [
        (&["secret", "set", "../x"][..], "x", "is no name for a secret"),
        (&["secret", "set", "x"], "", "the secret is empty"),
        (&["secret", "rm", "nobody"], "", "there is no secret \"nobody\" here"),
        (&["secret", "encrypt", "-r", "age1nobody"], "x", "is no age recipient"),
    ] {
        let out = lab.fed(args, input);
        let words = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(1) && words.contains(said), "{args:?}: {words}");
    }
    lab.finish();
}

/// A swap was done, its record not written, and the file said again what it had said before: the container kept the other content.
fn a_swap_that_is_not_recorded_is_not_forgotten(config: &Value) {
    own_ids();
    let mut lab = Lab::with(config);
    let keys = ["configs: [c]", "x-longshore: {on_change: update}", "stop_signal: KILL"];
    lab.put("p/c", "one");
    let service = with("a", "[sleep, '1000']", &keys);
    lab.put("p/compose.yaml", &format!("{}configs: {{c: {{file: ./c}}}}\n", file(&[service])));
    let before = lab.running("p-a-1");
    let record = lab.data().join("containers").join(&before.id);
    let inside =
        |lab: &Lab| String::from_utf8_lossy(&lab.cli(&["exec", "p-a-1", "cat", "/c"]).stdout).trim().to_owned();
    // Nothing can be recorded while a folder lies where the draft should.
    let blocked = record.join(".container.json.new");
    fs::create_dir(&blocked).unwrap();
    lab.put("p/c", "two");
    lab.until("it cannot be recorded", || lab.status().to_string().contains("was not written").then_some(()));
    lab.put("p/c", "one");
    fs::remove_dir(&blocked).unwrap();
    lab.still("p-a-1", &before);
    lab.until("the content that the file has", || (inside(&lab) == "one").then_some(()));
    // As a daemon leaves it that is killed between the swap and its record: what the container sees is in doubt.
    lab.kill();
    let text = fs::read_to_string(record.join("container.json")).unwrap();
    let at = text.find("\"fingerprint\":\"").unwrap() + 15;
    let doubted = format!("{}{}{}", &text[..at], "0".repeat(32), &text[at + 32..]);
    fs::write(record.join("container.json"), doubted).unwrap();
    lab.start();
    lab.still("p-a-1", &before);
    lab.until("no doubt", || (fs::read_to_string(record.join("container.json")).unwrap() == text).then_some(()));
    assert_eq!(inside(&lab), "one");
    lab.still("p-a-1", &before);
    lab.finish();
}
