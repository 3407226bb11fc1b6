//! `longshore volume …` against a daemon with real containers.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use nix::pty::openpty;
use serde_json::Value;

use crate::support::lab::ended;
use crate::support::registry::root;
use crate::support::{Lab, file, with};

const IDLE: &str = "[work, graceful, '0']";

/// Exit code, output, and what went to standard error.
#[track_caller]
fn run(lab: &Lab, args: &[&str]) -> (Option<i32>, String, String) {
    let out = lab.cli(&[&["volume"], args].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

#[track_caller]
fn said(lab: &Lab, args: &[&str]) -> String {
    let (code, out, err) = run(lab, args);
    assert_eq!(code, Some(0), "{args:?}: {out}{err}");
    out
}

/// What is refused, with each of these words in the reason.
#[track_caller]
fn refused(lab: &Lab, args: &[&str], words: &[&str]) {
    let (code, out, err) = run(lab, args);
    println!("{args:?}\n  {}", err.trim_end());
    assert!(code == Some(1) && out.is_empty(), "{args:?}: {code:?} {out}");
    for word in words {
        assert!(err.contains(word), "{args:?}: {word:?} is not in {err}");
    }
}

#[track_caller]
fn inspected(lab: &Lab, name: &str) -> Value {
    serde_json::from_str::<Value>(&said(lab, &["inspect", name])).unwrap()[0].clone()
}

fn names(lab: &Lab) -> Vec<String> {
    said(lab, &["ls", "-q"]).lines().map(str::to_owned).collect()
}

/// With this on standard input.
fn fed(lab: &Lab, args: &[&str], bytes: &[u8]) -> (Option<i32>, String) {
    let mut command = lab.client(&[&["volume"], args].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The daemon may have enough of it before it was all sent.
    let _ = stdin.write_all(bytes);
    drop(stdin);
    let out = ended(child);
    let text = [out.stdout, out.stderr].concat();
    (out.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// One service with a volume, as `shop-a-1`.
fn shop(scale: u32) -> String {
    let scale = format!("scale: {scale}");
    format!("{}volumes: {{v: }}\n", file(&[with("a", IDLE, &["volumes: ['v:/data', '/anonymous']", &scale])]))
}

#[test]
fn volumes_are_made_listed_shown_and_removed() {
    let lab = Lab::new();
    assert_eq!(said(&lab, &["create", "--label", "team=a", "--label", "keep", "made"]), "made\n");
    assert_eq!(said(&lab, &["create", "made"]), "made\n", "once more is no error");
    said(&lab, &["create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "ram"]);
    lab.put("shop.yaml", &shop(1));
    lab.running("shop-a-1");
    fs::write(lab.data().join("volumes/shop_v/_data/big"), vec![1; 3 << 20]).unwrap();
    let table = said(&lab, &["ls"]);
    println!("{table}");
    let line = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("made ").ends_with("unused") && line("ram ").contains("local (device=tmpfs o=size=1m type=tmpfs)"));
    assert!(line("shop_v").contains("3.0 MiB") && line("shop_v").ends_with("shop-a-1"));
    assert_eq!(said(&lab, &["ls", "--unused", "-q"]), "made\nram\n");

    let one = inspected(&lab, "shop_v");
    let file = "shop.yaml";
    assert_eq!((&one["used_by"][0], &one["defined_by"][0]), (&"shop-a-1".into(), &file.into()));
    assert_eq!((&one["unused"], &one["files"]), (&false.into(), &1.into()));
    assert_eq!(one["path"], lab.data().join("volumes/shop_v/_data").display().to_string());
    let made = inspected(&lab, "made");
    assert_eq!((&made["labels"]["team"], &made["labels"]["keep"]), (&"a".into(), &"".into()));
    assert!(made["created"].as_str().unwrap().ends_with('Z') && made["unused"] == true);

    refused(&lab, &["rm", "shop_v"], &["needed by the container shop-a-1 and the state file", file, "take it out"]);
    refused(&lab, &["rm", "none"], &["there is no volume none", "`longshore volume ls`"]);
    refused(&lab, &["create", "../up"], &["volume name", "../up"]);
    refused(&lab, &["create", &"0f".repeat(32)], &["cannot be given to a volume"]);
    refused(&lab, &["create", "-o", "type=nfs", "made"], &["volume made"]);
    refused(&lab, &["create", "-o", "type=tmpfs", "-o", "device=tmpfs", "made"], &["exists with", "another name"]);
    // Stopped, but not taken out.
    lab.put("shop.yaml", &shop(0));
    lab.gone("shop-a-1");
    refused(&lab, &["rm", "shop_v"], &["needed by the state file", file]);
    assert!(said(&lab, &["ls"]).lines().any(|l| l.starts_with("shop_v") && l.contains("no container; named by")));
    lab.remove("shop.yaml");
    lab.wait_for("the project to be gone", |s| (s["projects"] == Value::Array(vec![])).then_some(()));
    assert!(lab.data().join("volumes/shop_v/_data/big").is_file());
    let (code, out, err) = run(&lab, &["rm", "shop_v", "none", "ram"]);
    assert_eq!((code, out.as_str()), (Some(1), "removed shop_v\nremoved ram\n"), "{err}");
    assert!(!lab.data().join("volumes/shop_v").exists());
    lab.finish();
}

#[test]
fn a_prune_takes_only_what_nothing_needs_and_asks_first() {
    let mut lab = Lab::new();
    said(&lab, &["create", "mine"]);
    lab.put("shop.yaml", &shop(1));
    lab.put(
        "other.yaml",
        &format!("{}volumes: {{w: , spare: }}\n", file(&[with("b", IDLE, &["volumes: ['w:/m', '/x']"])])),
    );
    lab.running("shop-a-1");
    lab.running("other-b-1");
    let all = names(&lab);
    let anonymous: Vec<&String> = all.iter().filter(|name| name.len() == 64).collect();
    assert_eq!((all.len(), anonymous.len()), (5, 2), "{all:?}");
    said(&lab, &["create", "other_spare"]);
    refused(&lab, &["prune"], &["--yes", "--dry-run"]);
    assert!(said(&lab, &["prune", "--dry-run"]).starts_with("nothing to remove\nunused too"));
    // A service that is scaled to none wants its data back.
    lab.put("shop.yaml", &shop(0));
    lab.gone("shop-a-1");
    assert_eq!(said(&lab, &["prune", "--all", "--dry-run"]).lines().next(), Some("would remove mine, 0 B"));
    // A file that cannot be read may name anything.
    lab.put("broken.yaml", "services: {a: {image: [}}\n");
    lab.wait_for("the problem", |s| s["problems"].to_string().contains("broken.yaml").then_some(()));
    refused(&lab, &["prune", "--all", "--yes"], &["not known for certain", "broken.yaml", "nothing was removed"]);
    lab.remove("broken.yaml");
    lab.remove("shop.yaml");
    lab.wait_for("the project to be gone", |s| s["projects"].as_array().is_some_and(|p| p.len() == 1).then_some(()));
    lab.no_problems();
    // Those without a name.
    let out = said(&lab, &["prune", "--yes"]);
    println!("{out}");
    assert_eq!(out.lines().filter(|line| line.starts_with("removed ")).count(), 1, "{out}");
    assert!(out.contains("unused too") && out.contains("mine, shop_v"), "{out}");
    assert_eq!(names(&lab).len(), 5);
    let json: Value = serde_json::from_str(&said(&lab, &["prune", "--all", "--yes", "--json"])).unwrap();
    let gone: Vec<_> = json["removed"].as_array().unwrap().iter().map(|volume| volume["name"].clone()).collect();
    assert_eq!(gone, ["mine", "shop_v"]);
    // Also after a restart: what the file names but no service uses, what its container uses.
    lab.kill();
    lab.start();
    assert_eq!(said(&lab, &["prune", "--all", "--yes"]), "nothing to remove\n");
    let left = names(&lab);
    assert!(left.len() == 3 && left.contains(&"other_spare".to_owned()), "{left:?}");
    lab.finish();
}

#[test]
fn an_archive_goes_out_and_comes_back() {
    let lab = Lab::new();
    let fill = "[sh, -c, 'mkdir -p /data/d && echo hello > /data/d/f && chown 1234:567 /data/d/f && chmod 640 /data/d/f && ln -s f /data/d/l; exec work graceful 0']";
    lab.put("shop.yaml", &format!("{}volumes: {{v: }}\n", file(&[with("a", fill, &["volumes: ['v:/data']"])])));
    lab.running("shop-a-1");
    let source = lab.data().join("volumes/shop_v/_data/d/f");
    lab.wait_for("the file", |_| source.exists().then_some(()));
    let tar = lab.dir.join("v.tar");
    let path = tar.to_str().unwrap();
    said(&lab, &["export", "-o", path, "shop_v"]);
    let piped = lab.cli(&["volume", "export", "shop_v"]);
    assert_eq!(piped.stdout, fs::read(&tar).unwrap(), "{}", String::from_utf8_lossy(&piped.stderr));
    let listed = Command::new("tar").args(["--numeric-owner", "-tvf", path]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    println!("{listed}");
    assert!(listed.contains("-rw-r----- 1234/567") && listed.contains("d/l -> f"), "{listed}");

    assert_eq!(said(&lab, &["import", "copy", path]), "copy\n");
    let (code, text) = fed(&lab, &["import", "piped"], &piped.stdout);
    assert_eq!((code, text.as_str()), (Some(0), "piped\n"));
    let content = |volume: &str| {
        let file = lab.data().join("volumes").join(volume).join("_data/d/f");
        fs::read_to_string(file).unwrap_or_default()
    };
    assert_eq!((content("copy"), content("piped")), ("hello\n".into(), "hello\n".into()));
    refused(&lab, &["import", "copy", path], &["not empty", "--replace"]);
    refused(&lab, &["import", "--replace", "shop_v", path], &["needed by the container shop-a-1", "scale: 0"]);
    fs::write(lab.data().join("volumes/copy/_data/later"), "").unwrap();
    said(&lab, &["import", "--replace", "copy", path]);
    assert!(!lab.data().join("volumes/copy/_data/later").exists());
    // What is no archive makes no volume.
    for bytes in [&b""[..], b"not a tar", &piped.stdout[..2000]] {
        let (code, text) = fed(&lab, &["import", "none"], bytes);
        println!("{}", text.trim_end());
        assert!(code == Some(1) && text.contains("nothing was changed"), "{text}");
    }
    refused(&lab, &["import", "none", "/nowhere.tar"], &["cannot read /nowhere.tar"]);
    refused(&lab, &["export", "none"], &["there is no volume none"]);
    assert_eq!(names(&lab), ["copy", "piped", "shop_v"]);
    // What came by an archive is seen as it came, though the image has something there.
    let etc = "[sh, -c, 'ls /etc; exec work graceful 0']";
    let copy = "volumes: {c: {name: copy}}\n";
    lab.put("etc.yaml", &format!("{}{copy}", file(&[with("e", etc, &["volumes: ['c:/etc']"])])));
    lab.running("etc-e-1");
    assert!(lab.says("etc-e-1", "d\n").starts_with("d\n"), "{}", lab.output("etc-e-1"));
    assert!(!lab.data().join("volumes/copy/_data/passwd").exists());
    // A volume with options is mounted for its archive, and no longer.
    said(&lab, &["create", "-o", "type=tmpfs", "-o", "device=tmpfs", "ram"]);
    said(&lab, &["export", "-o", path, "ram"]);
    lab.wait_for("it to be unmounted", |_| (inspected(&lab, "ram")["mounted"] == false).then_some(()));
    lab.finish();
}

#[test]
fn a_snapshot_is_made_listed_and_put_back() {
    let lab = Lab::new();
    let run_a = |command: &str, scale: u32| {
        let scale = format!("scale: {scale}");
        format!("{}volumes: {{v: }}\n", file(&[with("a", command, &["volumes: ['v:/data']", &scale])]))
    };
    let logs = "[sh, -c, 'echo run >> /data/log; exec work graceful 0']";
    lab.put("shop.yaml", &run_a(logs, 1));
    lab.running("shop-a-1");
    let log = lab.data().join("volumes/shop_v/_data/log");
    lab.wait_for("the log", |_| log.exists().then_some(()));
    // While it runs.
    let made = said(&lab, &["snapshot", "shop_v", "before"]);
    assert!(made.starts_with("shop_v before, "), "{made}");
    let by_time = said(&lab, &["snapshot", "-q", "shop_v"]);
    assert!(by_time.starts_with("20") && by_time.trim_end().ends_with('Z'), "{by_time}");
    let list = said(&lab, &["snapshots", "shop_v"]);
    println!("{list}");
    assert_eq!((list.lines().count(), &list), (3, &said(&lab, &["snapshots"])));
    refused(&lab, &["snapshot", "shop_v", "before"], &["a snapshot before of the volume shop_v exists"]);
    refused(&lab, &["snapshot", "shop_v", "a/b"], &["a/b", "cannot be the name of a snapshot"]);
    refused(&lab, &["snapshot", "none"], &["there is no volume none"]);
    refused(&lab, &["snapshots", "none"], &["there is no volume none"]);
    refused(&lab, &["restore", "shop_v", "none"], &["there is no snapshot none", "`longshore volume snapshots`"]);
    refused(&lab, &["restore", "shop_v", "before"], &["needed by the container shop-a-1", "scale: 0"]);

    fs::write(&log, "spoilt").unwrap();
    lab.put("shop.yaml", &run_a(logs, 0));
    lab.gone("shop-a-1");
    assert_eq!(said(&lab, &["restore", "shop_v", "before"]), "shop_v holds what before holds\n");
    assert_eq!(fs::read_to_string(&log).unwrap(), "run\n");
    lab.put("shop.yaml", &run_a(logs, 1));
    lab.running("shop-a-1");
    lab.wait_for("the second run", |_| (fs::read_to_string(&log).unwrap() == "run\nrun\n").then_some(()));

    let used = String::from_utf8(lab.cli(&["system", "df", "-v"]).stdout).unwrap();
    println!("{used}");
    assert!(used.contains("Snapshots of volumes  2 ") && used.contains("shop_v before"), "{used}");
    let volume = used.lines().find(|line| line.starts_with("shop_v ") && line.ends_with("shop-a-1"));
    assert!(volume.is_some() && used.lines().any(|line| line.starts_with("shop-a-1 ") && line.ends_with("shop/a")));

    // A volume that is gone comes back from its copy.
    lab.remove("shop.yaml");
    lab.gone("shop-a-1");
    assert_eq!(
        said(&lab, &["rm", "shop_v"]),
        "removed shop_v; 2 snapshots of it are kept (`longshore volume snapshots shop_v`)\n"
    );
    said(&lab, &["restore", "shop_v", "before"]);
    assert_eq!(fs::read_to_string(&log).unwrap(), "run\n");
    assert_eq!(said(&lab, &["rm-snapshot", "shop_v", "before"]), "removed shop_v before\n");
    said(&lab, &["rm-snapshot", "shop_v", by_time.trim_end()]);
    refused(&lab, &["rm-snapshot", "shop_v", "before"], &["there is no snapshot before"]);
    assert!(!lab.data().join("snapshots/shop_v").exists());
    lab.finish();
}

#[test]
fn a_terminal_is_asked_and_gets_no_archive() {
    let lab = Lab::new();
    said(&lab, &["create", "old"]);
    let pty = openpty(None, None).unwrap();
    let mut master = fs::File::from(pty.master.try_clone().unwrap());
    let slave = || Stdio::from(pty.slave.try_clone().unwrap());
    for (answer, code, left) in [("no\n", 1, 1), ("\n", 1, 1), ("yes\n", 0, 0)] {
        master.write_all(answer.as_bytes()).unwrap();
        let mut command = lab.client(&["volume", "prune", "--all"]);
        let out = ended(command.stdin(slave()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let text = String::from_utf8_lossy(&out.stdout);
        println!("{text}");
        assert!(text.starts_with("would remove old, 0 B\n") && text.contains("Type yes: "), "{text}");
        assert_eq!((out.status.code(), names(&lab).len()), (Some(code), left), "{answer:?}: {text}");
    }
    said(&lab, &["create", "old"]);
    for (args, words) in
        [(["export", "old"], "nothing for a terminal"), (["import", "old"], "no archive comes from a terminal")]
    {
        let mut command = lab.client(&[&["volume"], &args[..]].concat());
        let out = ended(command.stdin(slave()).stdout(slave()).stderr(Stdio::piped()).spawn().unwrap());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        println!("{said}");
        assert!(out.status.code() == Some(1) && said.contains(words), "{said}");
    }
    lab.finish();
}

#[test]
fn a_prune_knows_what_images_want_as_volumes() {
    let lab = Lab::new();
    let tar = Command::new("tar").args(["-C"]).arg(root()).args(["-cf", "-", "."]).output().unwrap();
    let mut command = lab.client(&["image", "import", "-c", "VOLUME /wanted", "-c", "ENV PATH=/bin", "-", "local/v:1"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&tar.stdout).unwrap();
    assert!(ended(child).status.success());
    let run = |scale: u32| {
        let head =
            "  a:\n    image: local/v:1\n    network_mode: none\n    pull_policy: never\n    command: [sleep, '1000']";
        file(&[format!("{head}\n    stop_signal: SIGKILL\n    scale: {scale}\n")])
    };
    lab.put("db.yaml", &run(1));
    lab.running("db-a-1");
    lab.put("db.yaml", &run(0));
    lab.gone("db-a-1");
    assert_eq!(names(&lab).len(), 1);
    assert_eq!(said(&lab, &["prune", "--all", "--yes"]), "nothing to remove\n");
    // Nobody knows any more what the image wants.
    assert!(lab.cli(&["image", "rm", "local/v:1"]).status.success());
    refused(&lab, &["prune", "--yes"], &["not known for certain", "local/v:1 is not here"]);
    assert_eq!(names(&lab).len(), 1);
    lab.remove("db.yaml");
    lab.wait_for("the project to be gone", |s| (s["projects"] == Value::Array(vec![])).then_some(()));
    assert!(said(&lab, &["prune", "--yes"]).contains("are free again"));
    assert_eq!(names(&lab), Vec::<String>::new());
    lab.finish();
}

#[test]
fn an_import_that_is_cut_off_leaves_nothing() {
    let mut lab = Lab::new();
    let begun = |lab: &Lab| {
        let mut header = tar::Header::new_gnu();
        header.set_size(64 << 20);
        header.set_mode(0o644);
        header.set_path("big").unwrap();
        header.set_cksum();
        let mut command = lab.client(&["volume", "import", "cut"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(header.as_bytes()).unwrap();
        stdin.write_all(&vec![1; 4 << 20]).unwrap();
        lab.wait_for("the import to have begun", |_| drafts(lab).contains(&true).then_some(()));
        (child, stdin)
    };
    // By the client, and by the one who feeds it.
    let (mut child, _stdin) = begun(&lab);
    child.kill().and_then(|()| child.wait()).unwrap();
    lab.wait_for("the draft to be gone", |_| drafts(&lab).is_empty().then_some(()));
    let (child, stdin) = begun(&lab);
    drop(stdin);
    let out = ended(child);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    println!("{text}");
    assert!(out.status.code() == Some(1) && text.contains("nothing was changed"), "{text}");
    assert!(drafts(&lab).is_empty() && names(&lab).is_empty());
    // By the daemon's end.
    let (child, _stdin) = begun(&lab);
    lab.kill();
    assert_eq!(ended(child).status.code(), Some(1));
    assert!(!drafts(&lab).is_empty(), "it was killed too late");
    lab.start();
    assert!(drafts(&lab).is_empty() && names(&lab).is_empty());
    lab.finish();
}

/// What is in the folder of volumes, and whether it is a draft.
fn drafts(lab: &Lab) -> Vec<bool> {
    let entries = fs::read_dir(lab.data().join("volumes")).unwrap().flatten().map(|entry| entry.file_name());
    entries.filter(|name| name != ".trash").map(|name| name.to_string_lossy().starts_with(".new-")).collect()
}

#[test]
fn a_file_that_was_just_written_counts() {
    let lab = Lab::new();
    for number in 0..5 {
        let name = format!("v{number}");
        said(&lab, &["create", &name]);
        lab.put("a.yaml", &format!("{}volumes: {{x: {{name: {name}}}}}\n", file(&[with("a", IDLE, &["scale: 0"])])));
        refused(&lab, &["rm", &name], &["needed by the state file a.yaml"]);
    }
    lab.finish();
}
