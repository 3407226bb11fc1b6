//! Files of other images as the process in the container sees them, and what becomes of these images.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::base::new_dir;
use crate::support::host::{own_ids, signal};
use crate::support::lab::service as service_status;
use crate::support::registry::{image, shared};
use crate::support::{Lab, file, with, with_both_runtimes};

with_both_runtimes! {
    every_form_of_mounts_of_images_is_seen_from_inside,
}

/// Makes the files of a layer; a text that begins with `->` is a link.
fn layer(files: &[(&str, &str)]) -> PathBuf {
    let dir = new_dir();
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("->") {
            Some(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
            None => fs::write(&path, text).unwrap(),
        }
    }
    dir
}

/// An image of two layers: the upper one hides a file of the lower one.
fn assets() -> String {
    let lower = layer(&[
        ("data/hello", "hello\n"),
        ("data/gone", "gone\n"),
        ("data/sub/deep", "deep\n"),
        ("link", "->/data/sub"),
        ("out", "->../../../../etc"),
    ]);
    let upper = layer(&[("data/over", "over\n"), ("data/.wh.gone", "")]);
    shared().push_layers("it-mounts/assets", "1", "{}", &[&lower, &upper])
}

/// An image of one layer with one file.
fn who(tag: &str, text: &str) -> String {
    shared().push("it-mounts/who", tag, &layer(&[("who", &format!("{text}\n"))]), "{}")
}

fn mount(image: &str, more: &str) -> String {
    format!("volumes: [{{type: image, source: '{image}', target: /m{more}}}]")
}

/// Runs a script in a container with these keys, and gives what it said.
#[track_caller]
fn seen(lab: &Lab, keys: &[&str], script: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("s{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let command = format!("[sh, -c, \"{script}\"]");
    lab.put("seen.yaml", &file(&[with(&name, &command, keys)]));
    let container = format!("seen-{name}-1");
    assert_eq!(lab.exited(&container), 0, "{keys:?}: {}", lab.output(&container));
    lab.output(&container).trim_end().to_owned()
}

fn every_form_of_mounts_of_images_is_seen_from_inside(config: &Value) {
    own_ids();
    let lab = Lab::with(config);
    let (assets, one) = (assets(), who("1", "one"));
    let all = "cat /m/data/hello; echo $$(ls /m/data)";
    let whole = "hello\nhello over sub";
    let users = "userns_mode: auto";
    let table: &[(&[&str], &str, &str)] = &[
        (&[&mount(&assets, "")], all, whole),
        (&[&mount(&assets, ", read_only: true")], all, whole),
        (&[&mount(&assets, ", read_only: false")], all, whole),
        (&[&mount(&assets, ", image: {}")], all, whole),
        (&[&mount(&assets, ", image: {subpath: .}")], all, whole),
        (&[&mount(&assets, ", image: {subpath: data}")], "cat /m/hello; echo $$(ls /m)", whole),
        (&[&mount(&assets, ", image: {subpath: data/sub/}")], "cat /m/deep", "deep"),
        (&[&mount(&assets, ", image: {subpath: data/hello}")], "cat /m", "hello"),
        // Links lead to what they name in the image.
        (&[&mount(&assets, ", image: {subpath: link}")], "cat /m/deep", "deep"),
        // Of one layer, and the one that it is made from.
        (&[&mount(&one, "")], "cat /m/who", "one"),
        (&[&mount(image(), "")], "ls /m/bin/work", "/m/bin/work"),
        (&[&mount(&assets, ""), "read_only: true"], all, whole),
        (&[&mount(&assets, ""), "user: '33:44'"], "stat -c '%u %g' /m/data/hello", "0 0"),
        (&[&mount(&assets, ""), users], "cat /m/data/hello; stat -c '%u %g' /m/data/hello /m", "hello\n0 0\n0 0"),
        (&[&mount(&assets, ", image: {subpath: data/sub}"), users], "cat /m/deep", "deep"),
        (&[&mount(&one, ""), users], "cat /m/who; stat -c '%u %g' /m/who", "one\n0 0"),
        (
            &[&mount(&one, ", x-longshore: {idmap: {uid: 0, gid: 0}}"), "user: '33:44'"],
            "stat -c '%u %g' /m/who",
            "33 44",
        ),
        (
            &[&mount(&one, ", x-longshore: {idmap: {uid: 0, gid: 0}}"), "user: '33:44'", users],
            "stat -c '%u %g' /m/who",
            "33 44",
        ),
    ];
    for (keys, script, expected) in table {
        // Nobody writes there; neither can it be made writable by who has no right to.
        let tried = "(echo x > /m/.new; echo x >> /m) 2>/dev/null && echo written; mount -o remount,rw /m 2>/dev/null && echo remounted; grep ' /m ' /proc/mounts";
        let said = seen(&lab, keys, &format!("{script}; {tried}"));
        let (said, mount) = said.rsplit_once('\n').unwrap_or_default();
        println!("{keys:?}: {said:?}, {mount}");
        assert_eq!(said, *expected, "{keys:?}");
        let fields: Vec<&str> = mount.split(' ').collect();
        assert_eq!(fields[2], "overlay", "{keys:?}: {mount}");
        for option in ["ro", "nosuid", "nodev"] {
            assert!(fields[3].split(',').any(|known| known == option), "{keys:?}: {mount}");
        }
    }
    // Two of them, one in another, and one that another service has.
    let both = format!(
        "volumes: [{{type: image, source: '{assets}', target: /m}}, {{type: image, source: '{one}', target: /m/data/sub}}]"
    );
    assert_eq!(seen(&lab, &[&both], "cat /m/data/hello /m/data/sub/who"), "hello\none");
    let taken = [with("a", "[cat, /m/who]", &["volumes_from: [b]"]), with("b", "['true']", &[&mount(&one, "")])];
    lab.put("seen.yaml", &file(&taken));
    assert_eq!((lab.exited("seen-a-1"), lab.output("seen-a-1").trim_end()), (0, "one"));
    lab.finish();
}

/// What the service waits for, once it says so.
#[track_caller]
fn waits(lab: &Lab, words: &[&str]) -> String {
    lab.wait_for(&format!("{words:?}"), |status| {
        let text = service_status(status, "a", "a")?.to_string();
        words.iter().all(|word| text.contains(word)).then_some(text)
    })
}

#[test]
fn what_cannot_be_mounted_is_told_and_the_service_not_started() {
    let lab = Lab::new();
    let assets = assets();
    let idle = "[work, graceful, '0']";
    // It leads to the image's own `etc`, which it has not.
    for (subpath, reason) in [("nothing/here", "No such file"), ("out", "No such file"), ("data/hello/x", "Not a dir")]
    {
        let more = format!(", image: {{subpath: {subpath}}}");
        lab.put("a.yaml", &file(&[with("a", idle, &[&mount(&assets, &more)])]));
        let words = format!("volumes: the image {assets} at /m: its subpath {subpath} (the image must have it)");
        println!("{}", waits(&lab, &[&words, reason]));
    }
    let absent = format!("{}/it-mounts/absent:1", shared().host);
    lab.put("a.yaml", &file(&[with("a", idle, &[&mount(&absent, "")])]));
    println!("{}", waits(&lab, &["it-mounts/absent", "attempt"]));
    lab.put("a.yaml", &file(&[with("a", idle, &["pull_policy: never", &mount(&absent, "")])]));
    println!("{}", waits(&lab, &[&format!("image {absent} is not here and pull_policy is never")]));
    lab.put("a.yaml", &file(&[with("a", idle, &[&mount(&assets, ", read_only: false")])]));
    lab.running("a-a-1");
    let problem = lab.problem("an image is mounted read-only");
    assert_eq!((problem["severity"].as_str(), problem["line"].as_u64()), (Some("warning"), Some(6)), "{problem}");
    lab.finish();
}

/// Waits until its starts have found this, one after the other.
#[track_caller]
fn finds(lab: &Lab, expected: &[&str]) {
    lab.until(&format!("{expected:?}"), || {
        let output = lab.output("a-a-1");
        output.lines().filter(|line| *line != "ready").eq(expected.iter().copied()).then_some(())
    });
}

#[test]
fn what_is_mounted_stays_as_it_was_and_is_not_removed() {
    let lab = Lab::new();
    let cli = |args: &[&str]| {
        let done = lab.cli(args);
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        println!("{args:?}: {said}");
        (done.status.success(), said)
    };
    let name = who("moves", "old");
    let script = "[sh, -c, 'cat /m/who; exec work graceful 0']";
    let service = |more: &[&str]| file(&[with("a", script, &[&[mount(&name, "").as_str()], more].concat())]);
    lab.put("a.yaml", &service(&["restart: always"]));
    let first = lab.running("a-a-1");
    let (done, said) = cli(&["image", "rm", "--force", &name]);
    assert!(!done && said.contains("is in use by container a-a-1 of service a/a"), "{said}");
    assert!(!cli(&["image", "prune", "-a", "--dry-run"]).1.contains(&name));
    let old = lab.wait_for("its digest", |status| {
        let all = status["images"].as_array()?;
        Some(all.iter().find(|each| each["image"] == name.as_str())?["state"]["digest"].as_str()?.to_owned())
    });
    // Its name moves: what runs keeps what it has, also when it is started again, and nobody removes that.
    who("moves", "new");
    assert!(cli(&["image", "pull", &name]).0);
    signal(first.pid, Signal::SIGKILL);
    lab.replaced("a-a-1", &first);
    finds(&lab, &["old", "old"]);
    assert!(!cli(&["image", "prune", "-a"]).1.contains("it-mounts/who"));
    let second = lab.running("a-a-1");
    signal(second.pid, Signal::SIGKILL);
    let third = lab.replaced("a-a-1", &second);
    finds(&lab, &["old", "old", "old"]);
    // Another container has what the name stands for now, and the old one may go.
    lab.put("a.yaml", &service(&["hostname: other"]));
    lab.replaced("a-a-1", &third);
    finds(&lab, &["new"]);
    assert!(cli(&["image", "prune", "-a"]).1.contains(&format!("removed {old}, ")));
    // Who is not started names it too.
    lab.put("a.yaml", &service(&["scale: 0"]));
    lab.gone("a-a-1");
    assert!(!cli(&["image", "prune", "-a"]).1.contains(&name));
    lab.remove("a.yaml");
    lab.wait_for("the file to be gone", |s| {
        (s["settled"] == true && s["projects"] == serde_json::json!([])).then_some(())
    });
    assert!(cli(&["image", "prune", "-a"]).1.contains(&name));
    lab.finish();
}

#[test]
fn a_record_of_what_is_mounted_outlives_the_daemon() {
    let mut lab = Lab::new();
    let one = who("record", "one");
    let script = "[sh, -c, 'cat /m/who; exec work graceful 0']";
    lab.put("a.yaml", &file(&[with("a", script, &[&mount(&one, ""), "restart: always"])]));
    let first = lab.running("a-a-1");
    let record = fs::read_to_string(lab.data().join("containers").join(&first.id).join("container.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert!(record["spec"]["mounted"][&one].as_str().unwrap().starts_with("sha256:"), "{record}");
    lab.kill();
    lab.start();
    lab.still("a-a-1", &first);
    let rm = lab.cli(&["image", "rm", "--force", &one]);
    assert!(!rm.status.success(), "{rm:?}");
    signal(first.pid, Signal::SIGKILL);
    lab.replaced("a-a-1", &first);
    assert!(lab.data().join("containers").join(&first.id).is_dir());
    finds(&lab, &["one", "one"]);
    // Its files are taken away behind our back: the message says how they come back.
    let layers = fs::read_dir(lab.data().join("images/layers")).unwrap().flatten().map(|entry| entry.path());
    for layer in layers.filter(|layer| layer.join("diff/who").exists()) {
        fs::remove_dir_all(layer).unwrap();
    }
    signal(lab.running("a-a-1").pid, Signal::SIGKILL);
    let told =
        waits(&lab, &[&format!("volumes: the image {one} at /m is not here as the container was made with it; pull ")]);
    let needed = told.split("made with it; pull ").nth(1).unwrap();
    let needed: String = needed.chars().take_while(|c| !matches!(c, ' ' | '"')).collect();
    println!("{needed} of {told}");
    let pulled = lab.cli(&["image", "pull", needed.trim_end_matches(':')]);
    assert!(pulled.status.success(), "{pulled:?}");
    finds(&lab, &["one", "one", "one"]);
    lab.finish();
}
