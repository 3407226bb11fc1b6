//! Images by hand: from a registry and back, through archives, out of use, damaged, and left in the middle.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::lab::{container, ended};
use crate::support::registry::{image, root, shared};
use crate::support::relay::Relay;
use crate::support::{Lab, file, service};

/// What `longshore image …` says on both outputs, and its exit code.
fn run(lab: &Lab, args: &[&str]) -> (Option<i32>, String, String) {
    let output = lab.cli(&[&["image"], args].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What it says where it succeeds.
#[track_caller]
fn said(lab: &Lab, args: &[&str]) -> String {
    let (code, out, err) = run(lab, args);
    assert_eq!(code, Some(0), "{args:?}: {out}{err}");
    out
}

#[track_caller]
fn inspected(lab: &Lab, name: &str) -> Value {
    serde_json::from_str::<Value>(&said(lab, &["inspect", name])).unwrap()[0].take()
}

fn config_digest(inspected: &Value) -> String {
    inspected["manifest"]["config"]["digest"].as_str().unwrap().to_owned()
}

/// A state file with one service of this image, whose command is the image's own.
fn runs(image: &str) -> String {
    file(&[format!("  s:\n    image: {image}\n    network_mode: none\n    pull_policy: never\n")])
}

#[test]
fn an_image_goes_from_a_registry_to_another_name_and_comes_back_the_same() {
    let lab = Lab::new();
    let (code, out, err) = run(&lab, &["pull", image()]);
    assert_eq!(code, Some(0), "{err}");
    let lines: Vec<Vec<&str>> = err.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(!lines.is_empty() && lines.iter().all(|words| words[0].len() == 12 && words.len() == 4), "{err}");
    assert!(lines.iter().any(|words| words[1] == "done") && !err.contains('\x1b'), "{err}");
    let digest = out.split_whitespace().nth(1).unwrap().to_owned();
    assert!(out.starts_with(&format!("{}  sha256:", image())) && out.contains("(pulled, "), "{out}");

    assert!(said(&lab, &["pull", image()]).ends_with("(up to date)\n"));
    let (code, out, err) = run(&lab, &["pull", "-q", image()]);
    assert_eq!((code, out, err), (Some(0), format!("{digest}\n"), String::new()));

    let table = said(&lab, &["ls"]);
    assert!(table.lines().nth(1).unwrap().starts_with(image().trim_end_matches(":latest")), "{table}");
    let listed: Value = serde_json::from_str(&said(&lab, &["ls", "--json"])).unwrap();
    assert_eq!((&listed[0]["names"][0], &listed[0]["digest"]), (&image().into(), &digest.as_str().into()));
    let details = inspected(&lab, &digest[7..19]);
    assert_eq!(details["layers"].as_array().unwrap().len(), 1);
    assert!(said(&lab, &["history", image()]).starts_with("LAYER"));
    let used = String::from_utf8(lab.cli(&["system", "df", "-v"]).stdout).unwrap();
    assert!(used.contains("Images ") && used.contains(image().trim_end_matches(":latest")), "{used}");

    let name = format!("{}/it/pushed:2", shared().host);
    said(&lab, &["tag", image(), &name]);
    let pushed = said(&lab, &["push", &name]);
    assert!(pushed.starts_with(&format!("{name}  {digest}  (")), "{pushed}");
    assert_eq!(said(&lab, &["ls", "-q"]), format!("{digest}\n"), "one image with two names");
    said(&lab, &["rm", image()]);
    let gone = said(&lab, &["rm", &name]);
    assert!(gone.contains(&format!("untagged {name}\n")) && gone.contains("removed 1 layer, "), "{gone}");
    assert_eq!(said(&lab, &["pull", "-q", &name]), format!("{digest}\n"));

    for args in [["inspect", "nothing:1"], ["history", "nothing:1"], ["rm", "nothing:1"], ["verify", "nothing:1"]] {
        let (code, _, err) = run(&lab, &args);
        assert!(
            code == Some(1) && err.contains("nothing:1") && err.contains("`longshore image ls`"),
            "{args:?}: {err}"
        );
    }
    let (code, _, err) = run(&lab, &["pull", "no such name"]);
    assert!(code == Some(1) && err.contains("[REGISTRY/]REPOSITORY[:TAG]"), "{err}");
    lab.finish();
}

#[test]
fn an_image_goes_through_pipes_and_runs() {
    let lab = Lab::new();
    said(&lab, &["pull", "-q", image()]);
    let before = inspected(&lab, image());
    for format in ["docker-archive", "oci-archive"] {
        let saved = lab.cli(&["image", "save", "--format", format, image()]);
        assert!(saved.status.success() && saved.stdout.len() > 1 << 20, "{}", String::from_utf8_lossy(&saved.stderr));
        said(&lab, &["rm", image()]);
        let out = loaded(&lab, &["load"], &saved.stdout);
        assert!(out.starts_with(&format!("{}  sha256:", image())), "{format}: {out}");
        let after = inspected(&lab, image());
        assert_eq!(config_digest(&after), config_digest(&before), "{format}");
        assert_eq!(after["config"]["rootfs"], before["config"]["rootfs"], "{format}");
    }
    lab.put("a.yaml", &runs(image()));
    lab.running("a-s-1");

    let tar = Command::new("tar").args(["--numeric-owner", "-C"]).arg(root()).args(["-cf", "-", "."]).output().unwrap();
    let change = r#"CMD ["echo", "imported"]"#;
    let out = loaded(&lab, &["import", "-c", change, "-c", "ENV PATH=/bin", "-", "local/mine:1"], &tar.stdout);
    assert!(out.starts_with("docker.io/local/mine:1  sha256:"), "{out}");
    lab.put("b.yaml", &runs("local/mine:1"));
    lab.wait_for("the imported image to have run", |_| (lab.output("b-s-1") == "imported\n").then_some(()));
    lab.finish();
}

/// What a command says whose archive comes through its standard input.
#[track_caller]
fn loaded(lab: &Lab, args: &[&str], archive: &[u8]) -> String {
    let mut command = lab.client(&[&["image"], args].concat());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client");
    child.stdin.take().unwrap().write_all(archive).expect("it reads to the end");
    let output = ended(child);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_used_stays_and_the_rest_goes() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("s", "[work, graceful, '0']")]));
    let before = lab.running("a-s-1");
    let (code, _, err) = run(&lab, &["rm", image()]);
    assert!(code == Some(1) && err.contains("container a-s-1 of service a/s"), "{err}");
    let other = shared().push("it/other", "1", root(), r#"{"Cmd":["true"],"Env":["PATH=/bin"]}"#);
    said(&lab, &["pull", "-q", &other]);
    let named = said(&lab, &["prune"]);
    assert_eq!(named, "nothing to remove\n", "it has a name");
    let dry = said(&lab, &["prune", "--all", "--dry-run"]);
    assert!(dry.contains(&format!("would remove {other}, ")) && !dry.contains(image()), "{dry}");
    assert_eq!(said(&lab, &["ls", "-q"]).lines().count(), 2);
    said(&lab, &["pin", &other]);
    assert_eq!(said(&lab, &["prune", "--all"]), "nothing to remove\n", "it is pinned");
    said(&lab, &["unpin", &other]);
    assert!(said(&lab, &["prune", "--all"]).contains(&format!("removed {other}, ")));
    assert_eq!(said(&lab, &["ls", "-q"]).lines().count(), 1);
    lab.still("a-s-1", &before);
    lab.remove("a.yaml");
    lab.gone("a-s-1");
    let gone = said(&lab, &["prune", "--all"]);
    assert!(gone.contains(&format!("removed {}, ", image())) && gone.contains("are free again"), "{gone}");
    assert_eq!(said(&lab, &["ls", "-q"]), "");
    assert_eq!(std::fs::read_dir(lab.data().join("images/layers")).unwrap().count(), 0);
    lab.finish();
}

#[test]
fn a_byte_that_changed_on_the_disk_is_found_and_made_right() {
    let lab = Lab::new();
    said(&lab, &["pull", "-q", image()]);
    let layer = std::fs::read_dir(lab.data().join("images/layers")).unwrap().next().unwrap().unwrap().path();
    assert!(said(&lab, &["verify"]).ends_with("1 image checked, all whole\n"));
    change_a_byte(&layer.join("diff/etc/passwd"));
    let (code, out, err) = run(&lab, &["verify", image()]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("  damaged: etc/passwd: ") && out.contains(&layer_name(&layer)[..12]), "{out}");
    assert!(out.contains(&format!("`longshore image verify --repair {}`", image())), "{out}");
    assert!(err.contains(&format!("checking {}", image())), "{err}");
    let out = said(&lab, &["verify", "--repair"]);
    assert!(out.contains("  repaired\n") && out.contains("1 part repaired"), "{out}");
    assert!(said(&lab, &["verify", image()]).ends_with("1 image checked, all whole\n"));
    assert_eq!(lab.seen_inside("[head, -n1, /etc/passwd]", &[]), "root:x:0:0:root:/root:/bin/sh");
    lab.finish();
}

fn layer_name(layer: &Path) -> String {
    layer.file_name().unwrap().to_string_lossy().into_owned()
}

/// Neither its size nor its time tell of it.
fn change_a_byte(path: &Path) {
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    let open = std::fs::File::options().write(true).open(path).unwrap();
    open.write_all_at(b"R", 0).unwrap();
    open.set_modified(modified).unwrap();
}

#[test]
fn a_pull_whose_client_goes_away_ends_unless_a_file_wants_the_image() {
    let lab = Lab::new();
    let relay = Relay::start(&shared().host);
    let name = image().replace(&shared().host, &relay.address);
    let pull = |lab: &Lab| {
        let pull = lab.client(&["image", "pull", "-q", &name]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let pull = pull.unwrap();
        lab.wait_for("bytes to arrive", |s| (pulling(s, &name)? > 0).then_some(()));
        pull
    };
    let leave = |mut client: std::process::Child| client.kill().and_then(|()| client.wait()).unwrap();

    leave(pull(&lab));
    lab.wait_for("the pull to be given up", |s| pulling(s, &name).is_none().then_some(()));
    lab.wait_for("its connections to be closed", |_| (relay.open() == 0).then_some(()));
    assert_eq!(said(&lab, &["ls", "-q"]), "");

    let client = pull(&lab);
    lab.put("a.yaml", &file(&[format!("  s:\n    image: {name}\n    network_mode: none\n")]));
    lab.wait_for("the service to wait for it", |s| s["waiting"].to_string().contains("being pulled").then_some(()));
    leave(client);
    relay.let_through();
    lab.running("a-s-1");
    assert!(container(&lab.status(), "a-s-1").is_some());
    lab.finish();
}

/// How many bytes came of an image that is being pulled.
fn pulling(status: &Value, name: &str) -> Option<u64> {
    let image = status["images"].as_array()?.iter().find(|image| image["image"] == name)?;
    (image["state"]["status"] == "pulling").then(|| image["state"]["done"].as_u64())?
}
