//! `longshore cp`, `diff` and `export`, from outside.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::host::own_ids;
use crate::support::lab::{container, ended};
use crate::support::{Disk, Lab, file, host, service, with, with_both_runtimes};

const IDLE: &str = "[work, graceful, '0']";

with_both_runtimes! {
    files_go_in_and_out_by_the_rules_of_docker_cp,
    links_never_lead_out_of_a_container,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn refused(output: &Output, words: &str) {
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(words), "{:?} {said}", output.status);
    assert!(said.lines().count() <= 2, "{said}");
}

fn inside(lab: &Lab, script: &str) -> String {
    let output = lab.cli(&["exec", "a-a-1", "sh", "-c", script]);
    text(&[output.stdout, output.stderr].concat())
}

/// A folder of the lab's own with a file, a folder and a link in it.
fn tree(lab: &Lab) -> PathBuf {
    let dir = lab.dir.join("tree");
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::write(dir.join("one"), "1\n").unwrap();
    fs::write(dir.join("sub/two"), "2\n").unwrap();
    chown(dir.join("one"), Some(1234), Some(4321)).unwrap();
    fs::set_permissions(dir.join("one"), fs::Permissions::from_mode(0o4750)).unwrap();
    symlink("sub/two", dir.join("link")).unwrap();
    dir
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn files_go_in_and_out_by_the_rules_of_docker_cp(config: &Value) {
    let lab = Lab::with(config);
    lab.put(
        "a.yaml",
        &file(&[with("a", IDLE, &["volumes: ['kept:/kept']"])]).replace("services:", "volumes: {kept: {}}\nservices:"),
    );
    lab.running("a-a-1");
    let tree = tree(&lab);
    let cp = |from: &str, to: &str| lab.cli(&["cp", from, to]);
    // A folder into one that is there, one that is not, and what is in it.
    done(&cp(shown(&tree), "a-a-1:/tmp"));
    assert_eq!(inside(&lab, "cat /tmp/tree/one /tmp/tree/link; ls /tmp"), "1\n2\ntree\n");
    assert_eq!(inside(&lab, "stat -c '%u:%g %a' /tmp/tree/one"), "0:0 750\n", "root's, and no set-user-id");
    done(&cp(shown(&tree), "a-a-1:/tmp/new"));
    assert_eq!(inside(&lab, "ls /tmp/new"), "link\none\nsub\n");
    done(&cp(&format!("{}/.", shown(&tree)), "a-a-1:/kept"));
    assert_eq!(inside(&lab, "ls /kept; readlink /kept/link"), "link\none\nsub\nsub/two\n");
    assert_eq!(
        fs::read_dir(lab.data().join("volumes"))
            .unwrap()
            .flatten()
            .filter(|e| e.path().join("_data/one").is_file())
            .count(),
        1
    );
    // A file: into a folder, under a new name, in place of another one.
    let one = tree.join("one");
    done(&cp(shown(&one), "a-a-1:/home"));
    done(&cp(shown(&one), "a-a-1:/home/other"));
    fs::write(&one, "11\n").unwrap();
    done(&cp(shown(&one), "a-a-1:home/other"));
    assert_eq!(inside(&lab, "cat /home/one /home/other; ls -A /home"), "1\n11\napp\none\nother\n");
    // A link to a file means that file.
    inside(&lab, "ln -s /home/other /tmp/alias; echo old > /home/other");
    done(&cp(shown(&one), "a-a-1:/tmp/alias"));
    assert_eq!(inside(&lab, "cat /home/other; readlink /tmp/alias"), "11\n/home/other\n");
    // Its own /etc/hosts is a mount, which cannot be replaced but written.
    done(&cp(shown(&one), "a-a-1:/etc/hosts"));
    assert_eq!(inside(&lab, "cat /etc/hosts"), "11\n");
    done(&lab.cli(&["cp", "-a", shown(&tree), "a-a-1:/tmp/owned"]));
    assert_eq!(inside(&lab, "stat -c '%u:%g' /tmp/owned/one"), "1234:4321\n");
    refused(&cp(shown(&one), "a-a-1:/none/x"), "a-a-1: /none in the container does not exist; make that folder first");
    refused(&cp(shown(&one), "a-a-1:/none/"), "/none/ in the container does not exist");
    refused(&cp(shown(&one), "a-a-1:/etc/passwd/"), "/etc/passwd/ in the container is no folder");
    refused(&cp(shown(&tree), "a-a-1:/etc/passwd"), "is no folder, and a folder does not take its place");
    for place in ["/proc", "/proc/x", "/dev/pts/x"] {
        refused(&cp(shown(&tree), &format!("a-a-1:{place}")), "a file system of the kernel's");
    }
    refused(&cp(shown(&one), "a-a-1:/dev/null"), "/dev/null in the container is a device");
    refused(&cp(shown(&lab.dir.join("none")), "a-a-1:/tmp"), "cannot read ");
    refused(&cp("nobody:/x", "/tmp"), "no container or service is called");
    refused(&cp("a-a-1:/none", shown(&lab.dir)), "a-a-1: /none does not exist in the container");
    refused(&cp("a-a-1:/a", "a-a-1:/b"), "use `longshore cp A:PATH - | longshore cp - B:PATH`");
    refused(&cp("/a", "/b"), "write NAME:PATH");
    // And out again.
    let out = lab.dir.join("out");
    fs::create_dir(&out).unwrap();
    inside(
        &lab,
        "mkdir /data; cd /data; echo x > f; chown 5:6 f; chmod 4711 f; ln f g; ln -s f l; mkfifo p; mkdir d; echo y > d/y",
    );
    done(&cp("a-a-1:/data", shown(&out)));
    let data = out.join("data");
    let meta = fs::metadata(data.join("f")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.nlink()), (0o711, 0, 2));
    assert_eq!(fs::read_link(data.join("l")).unwrap(), Path::new("f"));
    assert!(fs::symlink_metadata(data.join("p")).unwrap().file_type().is_fifo());
    assert_eq!(fs::read_to_string(data.join("d/y")).unwrap(), "y\n");
    done(&lab.cli(&["cp", "-a", "a/a:/data/f", shown(&out.join("kept"))]));
    let meta = fs::metadata(out.join("kept")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o4711, 5, 6));
    done(&cp("a-a-1:/data/l", shown(&out)));
    assert!(out.join("l").is_symlink());
    done(&lab.cli(&["cp", "-L", "a-a-1:/data/l", shown(&out.join("followed"))]));
    assert_eq!(fs::read_to_string(out.join("followed")).unwrap(), "x\n");
    done(&cp("a-a-1:/data/.", shown(&out.join("fresh"))));
    assert!(out.join("fresh/d/y").is_file());
    refused(&cp("a-a-1:/data", shown(&out.join("no/where"))), "does not exist; make that folder first");
    refused(&cp("a-a-1:/data", shown(&out.join("kept"))), "a folder does not take its place");
    let device = nix::sys::stat::makedev(1, 3);
    let null = out.join("null");
    let kind = nix::sys::stat::SFlag::S_IFCHR;
    nix::sys::stat::mknod(&null, kind, nix::sys::stat::Mode::from_bits_truncate(0o666), device).unwrap();
    refused(&cp("a-a-1:/data/f", shown(&null)), "null is a device, and nothing takes its place");
    let note = cp("a-a-1:/dev/null", shown(&out.join("other")));
    assert!(note.status.success() && text(&note.stderr).contains("1 of the copied were devices"), "{note:?}");
    // What the kernel makes when it is read is read.
    done(&cp("a-a-1:/proc/1/status", shown(&out)));
    assert!(fs::read_to_string(out.join("status")).unwrap().contains("Uid:"));
    done(&cp("a-a-1:/sys/class/net/lo/mtu", shown(&out)));
    assert_eq!(fs::read_to_string(out.join("mtu")).unwrap(), "65536\n");
    refused(&cp("a-a-1:/proc", shown(&out)), "/proc in the container is a folder of the kernel's");
    // Of the whole, they are left out.
    done(&cp("a-a-1:/", shown(&out.join("whole"))));
    assert!(out.join("whole/kept/one").is_file() && out.join("whole/etc/hosts").is_file());
    for empty in ["proc", "sys", "dev"] {
        assert_eq!(fs::read_dir(out.join("whole").join(empty)).unwrap().count(), 0, "{empty}");
    }
    lab.finish();
}

#[test]
fn a_tar_goes_through_pipes_both_ways() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE), service("b", IDLE)]));
    lab.running("a-a-1");
    lab.running("a-b-1");
    inside(&lab, "mkdir -p /data/d; head -c 3000000 /dev/urandom > /data/big; echo y > /data/d/y");
    let tar = lab.cli(&["cp", "a-a-1:/data", "-"]).stdout;
    let mut archive = tar::Archive::new(tar.as_slice());
    let names: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    assert_eq!(names, ["data/", "data/big", "data/d/", "data/d/y"]);
    let mut copy =
        lab.client(&["cp", "-", "a-b-1:/home"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    copy.stdin.take().unwrap().write_all(&tar).unwrap();
    assert!(ended(copy).status.success());
    let sum = |name: &str, path: &str| done(&lab.cli(&["exec", name, "sha256sum", path]))[..64].to_owned();
    assert_eq!(sum("a-a-1", "/data/big"), sum("a-b-1", "/home/data/big"));
    // So is one that is compressed, and one that is none at all.
    for (bytes, words) in
        [(&[0x1f, 0x8b, 8, 0][..], "compressed by gzip"), (&[b'x'; 600], "the tar archive is refused")]
    {
        let mut copy =
            lab.client(&["cp", "-", "a-b-1:/tmp"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        copy.stdin.take().unwrap().write_all(bytes).unwrap();
        refused(&ended(copy), words);
    }
    // One that is cut is an error.
    let mut copy = lab.client(&["cp", "-", "a-b-1:/tmp"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    copy.stdin.take().unwrap().write_all(&tar[..1_000_000]).unwrap();
    refused(&ended(copy), "the tar archive is refused: it ends inside");
    let leftover = done(&lab.cli(&["exec", "a-b-1", "find", "/tmp"]));
    assert!(!leftover.contains("longshore-cp") && !leftover.contains("big"), "{leftover}");
    // A client that is killed in the middle leaves nothing behind, on neither side.
    let mut copy = lab.client(&["cp", "-", "a-b-1:/tmp"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = copy.stdin.take().unwrap();
    input.write_all(&tar[..1_000_000]).unwrap();
    let drafts = || done(&lab.cli(&["exec", "a-b-1", "ls", "-A", "/tmp/data"])).contains("longshore-cp");
    lab.wait_for("the copy to begin", |_| drafts().then_some(()));
    copy.kill().unwrap();
    copy.wait().unwrap();
    lab.wait_for("the copy to be cleared away", |_| (!drafts()).then_some(()));
    drop(input);
    inside(&lab, "truncate -s 900G /endless");
    let out = lab.dir.join("out");
    fs::create_dir(&out).unwrap();
    let copy = lab.client(&["cp", "a-a-1:/endless", shown(&out)]).stderr(Stdio::piped()).spawn().unwrap();
    lab.wait_for("the copy to begin", |_| (fs::read_dir(&out).unwrap().count() == 1).then_some(()));
    host::signal(i32::try_from(copy.id()).unwrap(), Signal::SIGINT);
    refused(&ended(copy), "given up");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    // A client that leaves, and a reader that does.
    let mut flood = lab.client(&["cp", "a-a-1:/data/big", "-"]).stdout(Stdio::piped()).spawn().unwrap();
    flood.stdout.take().unwrap().read_exact(&mut [0; 1000]).unwrap();
    assert!(ended(flood).status.success());
    lab.wait_for("no helper to be left", |_| {
        host::pids_naming("runtime\0copy").iter().all(|pid| !child_of(*pid, lab.daemon_pid())).then_some(())
    });
    lab.finish();
}

fn child_of(pid: i32, parent: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains(&format!("PPid:\t{parent}\n"))
}

fn links_never_lead_out_of_a_container(config: &Value) {
    let lab = Lab::with(config);
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    lab.running("a-a-1");
    let secret = lab.dir.join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "the host's\n").unwrap();
    let up = "../".repeat(20);
    let host = shown(&secret);
    inside(
        &lab,
        &format!(
            "ln -s {host} /abs; ln -s {up}{host} /up; mkdir -p {host}; echo 'the container own' > {host}/key; ln -s /abs /tmp/chain"
        ),
    );
    let out = lab.dir.join("out");
    for path in ["/abs/key", "/up/key", "/tmp/chain/key", "/abs/../secret/key"] {
        done(&lab.cli(&["cp", &format!("a-a-1:{path}"), shown(&out)]));
        assert_eq!(fs::read_to_string(&out).unwrap(), "the container own\n", "{path}");
    }
    let mine = lab.dir.join("mine");
    fs::write(&mine, "mine\n").unwrap();
    for path in ["/abs", "/up", "/tmp/chain/"] {
        done(&lab.cli(&["cp", shown(&mine), &format!("a-a-1:{path}")]));
        assert_eq!(inside(&lab, &format!("cat {host}/mine; rm {host}/mine")), "mine\n", "{path}");
    }
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1, "nothing of it came to the host");
    // Swapped all the time: a folder, and a link to the host's folder of the same name.
    inside(&lab, &format!("rm -rf {host}; mkdir /real; echo in > /real/key; cp -r /real /swap"));
    let script =
        format!("while :; do rm -rf /swap; ln -s {host} /swap; rm /swap; mkdir /swap; echo in > /swap/key; done");
    let mut swapping = lab.client(&["exec", "a-a-1", "sh", "-c", &script]).spawn().unwrap();
    for _ in 0..60 {
        let _ = fs::remove_file(&out);
        let output = lab.cli(&["cp", "a-a-1:/swap/key", shown(&out)]);
        if output.status.success() {
            assert_eq!(fs::read_to_string(&out).unwrap().replace("in\n", ""), "");
        }
        lab.cli(&["cp", shown(&mine), "a-a-1:/swap/new"]);
    }
    swapping.kill().unwrap();
    swapping.wait().unwrap();
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1, "nothing of it came to the host");
    lab.finish();
}

#[test]
fn an_archive_from_a_container_does_not_leave_the_place_it_is_copied_to() {
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    lab.running("a-a-1");
    let (safe, out) = (lab.dir.join("safe"), lab.dir.join("out"));
    fs::create_dir(&safe).unwrap();
    fs::create_dir(&out).unwrap();
    // A link that is there already, and leads out.
    fs::create_dir(out.join("d")).unwrap();
    symlink(&safe, out.join("d/gone")).unwrap();
    symlink(safe.join("file"), out.join("d/to")).unwrap();
    inside(&lab, "mkdir -p /d/gone; echo x > /d/gone/x; echo y > /d/to; ln -s /etc /d/etc");
    refused(
        &lab.cli(&["cp", "a-a-1:/d/gone", shown(&out.join("d"))]),
        "a link on the way leads out of the destination",
    );
    done(&lab.cli(&["cp", "a-a-1:/d/to", shown(&out.join("d/"))]));
    assert_eq!(fs::read_dir(&safe).unwrap().count(), 0);
    assert_eq!(fs::read_link(out.join("d/gone")).unwrap(), safe);
    assert_eq!(fs::read_to_string(out.join("d/to")).unwrap(), "y\n", "the link itself was replaced");
    // An archive that lies, into a container.
    for (name, link) in [("../up", None), ("a/../../up", None), ("hard", Some("../../etc/passwd"))] {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(link) = link {
            header.set_entry_type(tar::EntryType::Link);
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_cksum();
        builder.append(&header, std::io::empty()).unwrap();
        let tar = builder.into_inner().unwrap();
        let mut copy =
            lab.client(&["cp", "-", "a-a-1:/tmp"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        copy.stdin.take().unwrap().write_all(&tar).unwrap();
        refused(&ended(copy), "leads out of the destination");
    }
    lab.finish();
}

#[test]
fn a_container_that_does_not_run_is_copied_from_and_to() {
    let lab = Lab::new();
    let body = file(&[with(
        "a",
        "[sh, -c, 'echo made > /made; ln -s /etc /tmp/etc']",
        &["restart: 'no'", "volumes: ['kept:/kept']"],
    )]);
    lab.put("a.yaml", &body.replace("services:", "volumes: {kept: {}}\nservices:"));
    assert_eq!(lab.exited("a-a-1"), 0);
    let tree = tree(&lab);
    let out = lab.dir.join("out");
    done(&lab.cli(&["cp", "a-a-1:/made", shown(&out)]));
    assert_eq!(fs::read_to_string(&out).unwrap(), "made\n");
    done(&lab.cli(&["cp", "a-a-1:/tmp/etc/passwd", shown(&out)]));
    assert!(fs::read_to_string(&out).unwrap().contains("/home/app"), "the image's own");
    done(&lab.cli(&["cp", shown(&tree), "a-a-1:/home"]));
    done(&lab.cli(&["cp", "a-a-1:/home/tree/sub/two", shown(&out)]));
    assert_eq!(fs::read_to_string(&out).unwrap(), "2\n");
    for place in ["/kept", "/kept/x", "/etc/hosts", "/dev"] {
        let place = format!("a-a-1:{place}");
        refused(&lab.cli(&["cp", shown(&tree.join("one")), &place]), "which is there only while the container runs");
    }
    refused(&lab.cli(&["cp", "a-a-1:/kept", shown(&out)]), "which is there only while the container runs");
    let listed = done(&lab.cli(&["diff", "a-a-1"]));
    assert!(listed.contains("A /made\n") && listed.contains("A /home/tree/sub/two\n"), "{listed}");
    assert!(lab.cli(&["export", "-o", shown(&lab.dir.join("e.tar")), "a-a-1"]).status.success());
    // Nobody starts or removes it while it is copied to.
    let mut copy = lab.client(&["cp", "-", "a-a-1:/tmp"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let helper = || host::pids_naming("runtime\0copy").into_iter().any(|pid| child_of(pid, lab.daemon_pid()));
    lab.wait_for("the copy to begin", |_| helper().then_some(()));
    let (mut tar, mut header) = (tar::Builder::new(Vec::new()), tar::Header::new_gnu());
    header.set_size(4);
    header.set_mode(0o600);
    tar.append_data(&mut header, "late", &b"late"[..]).unwrap();
    lab.remove("a.yaml");
    lab.wait_for("the removal to be under way", |s| {
        (s["under_way"].to_string().contains("a-a-1") || s.to_string().contains("remov")).then_some(())
    });
    assert!(container(&lab.status(), "a-a-1").is_some(), "it is still there");
    copy.stdin.take().unwrap().write_all(&tar.into_inner().unwrap()).unwrap();
    assert!(ended(copy).status.success());
    lab.gone("a-a-1");
    lab.finish();
}

#[test]
fn what_a_container_changed_is_told_as_docker_does() {
    let lab = Lab::new();
    lab.put(
        "a.yaml",
        &file(&[with("a", IDLE, &["tmpfs: ['/made/for/tmp']", "init: true", "devices: ['/dev/null:/some/null']"])]),
    );
    lab.running("a-a-1");
    assert_eq!(done(&lab.cli(&["diff", "a-a-1"])), "", "what is mounted was not made by it");
    inside(
        &lab,
        "echo x >> /etc/passwd; rm /etc/group; mkdir -p /new/deep; echo y > /new/deep/file; touch /tmp/t; chmod 700 /home/app",
    );
    let expected = "C /etc\nD /etc/group\nC /etc/passwd\nC /home\nC /home/app\nA /new\nA /new/deep\nA /new/deep/file\nC /tmp\nA /tmp/t\n";
    assert_eq!(done(&lab.cli(&["diff", "a-a-1"])), expected);
    // A folder that was made anew hides all that was in it.
    inside(&lab, "rm -r /home; mkdir /home; touch /home/fresh");
    let listed = done(&lab.cli(&["diff", "a/a"]));
    assert!(listed.contains("C /home\nD /home/app\nA /home/fresh\n"), "{listed}");
    let json: Value = serde_json::from_slice(&lab.cli(&["diff", "--json", "a-a-1"]).stdout).unwrap();
    assert_eq!(json[0], serde_json::json!({"path": "/etc", "kind": "changed"}));
    refused(&lab.cli(&["diff", "nobody"]), "no container or service is called");
    lab.finish();
}

#[test]
fn an_export_has_the_root_and_nothing_of_what_is_mounted() {
    let lab = Lab::new();
    let body = file(&[with("a", IDLE, &["volumes: ['kept:/kept']"])]);
    lab.put("a.yaml", &body.replace("services:", "volumes: {kept: {}}\nservices:"));
    lab.running("a-a-1");
    inside(&lab, "echo x > /kept/in-volume; echo y > /home/own; ln /home/own /home/same; rm /etc/group");
    let target = lab.dir.join("root.tar");
    done(&lab.cli(&["export", "-o", shown(&target), "a-a-1"]));
    let piped = lab.cli(&["export", "a-a-1"]).stdout;
    assert!(piped == fs::read(&target).unwrap(), "the same both ways");
    let mut archive = tar::Archive::new(piped.as_slice());
    let names: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    for there in ["bin/busybox", "home/own", "home/same", "kept/", "proc/", "etc/passwd"] {
        assert!(names.iter().any(|name| name == there || name == &format!("./{there}")), "{there} in {names:?}");
    }
    for not in ["in-volume", "etc/group", "proc/self", "dev/null"] {
        assert!(!names.iter().any(|name| name.ends_with(not)), "{not}");
    }
    lab.finish();
}

#[test]
fn owners_are_those_that_a_container_with_users_of_its_own_sees() {
    own_ids();
    let lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", IDLE, &["userns_mode: auto"])]));
    let a = lab.running("a-a-1");
    assert_ne!(inside(&lab, "cat /proc/self/uid_map").split_whitespace().nth(1), Some("0"));
    let tree = tree(&lab);
    done(&lab.cli(&["cp", shown(&tree), "a-a-1:/home/plain"]));
    done(&lab.cli(&["cp", "-a", shown(&tree), "a-a-1:/home/owned"]));
    let owners = inside(&lab, "stat -c '%u:%g %a' /home/plain/one /home/owned/one /home/owned/link");
    assert_eq!(owners, "0:0 750\n1234:4321 4750\n0:0 777\n");
    let upper = lab.data().join("containers").join(&a.id).join("upper/home/owned/one");
    assert_eq!(fs::metadata(upper).unwrap().uid(), 1234, "on disk as inside");
    inside(&lab, "echo x > /mine; chown 7:8 /mine");
    let out = lab.dir.join("out");
    done(&lab.cli(&["cp", "-a", "a-a-1:/mine", shown(&out)]));
    let meta = fs::metadata(&out).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (7, 8));
    // One that it does not have cannot own anything in it.
    chown(tree.join("one"), Some(2_000_000), Some(1)).unwrap();
    refused(
        &lab.cli(&["cp", "-a", shown(&tree.join("one")), "a-a-1:/home"]),
        "/home/one in the container cannot be written",
    );
    done(&lab.cli(&["commit", "a-a-1", "local/owned:1"]));
    let saved = lab.cli(&["image", "save", "local/owned:1"]).stdout;
    assert!(!saved.is_empty());
    let listed = lab.cli(&["export", "a-a-1"]).stdout;
    let mut archive = tar::Archive::new(listed.as_slice());
    let owner =
        |entry: tar::Entry<'_, &[u8]>| (entry.path().unwrap().display().to_string(), entry.header().uid().unwrap());
    let owners: Vec<_> = archive.entries().unwrap().map(|e| owner(e.unwrap())).collect();
    for expected in [("mine", 7), ("home/owned/one", 1234), ("bin/busybox", 0)] {
        assert!(owners.iter().any(|(path, uid)| (path.as_str(), *uid) == expected), "{expected:?}");
    }
    // The helper is in the container's users; what it makes is its root's, which is nobody on the host.
    lab.put("a.yaml", &file(&[with("a", "[work, exit, '0']", &["userns_mode: auto", "restart: 'no'"])]));
    lab.exited("a-a-1");
    done(&lab.cli(&["cp", "-a", shown(&tree.join("sub")), "a-a-1:/home/late"]));
    done(&lab.cli(&["cp", "a-a-1:/home/late/two", shown(&out)]));
    lab.finish();
}

#[test]
fn where_nothing_can_be_written_words_say_so() {
    let lab = Lab::new();
    let more = ["read_only: true", "tmpfs: ['/small:size=1m', '/tmp']", "volumes: ['kept:/kept:ro']"];
    lab.put("a.yaml", &file(&[with("a", IDLE, &more)]).replace("services:", "volumes: {kept: {}}\nservices:"));
    lab.running("a-a-1");
    let big = lab.dir.join("big");
    fs::write(&big, vec![7; 3 << 20]).unwrap();
    let cp = |to: &str| lab.cli(&["cp", shown(&big), to]);
    refused(&cp("a-a-1:/home"), "a-a-1: /home/big in the container is on a read-only file system");
    refused(&cp("a-a-1:/kept/x"), "/kept/x in the container is on a read-only file system");
    refused(&cp("a-a-1:/small"), "/small/big in the container cannot be written: no space is left there");
    assert_eq!(inside(&lab, "ls -A /small"), "", "no half of it is left");
    done(&cp("a-a-1:/tmp"));
    // The same on this side.
    let disk = Disk::mount(&lab.dir.join("small"), 2);
    let to = lab.dir.join("small");
    refused(&lab.cli(&["cp", "a-a-1:/tmp/big", shown(&to)]), "big cannot be written: no space is left there");
    assert!(!to.join("big").exists());
    disk.unmount();
    lab.finish();
}

#[test]
fn a_container_that_ends_in_the_middle_is_told() {
    let lab = Lab::new();
    let up = || lab.put("a.yaml", &file(&[with("a", IDLE, &["stop_grace_period: 100ms"])]));
    up();
    let a = lab.running("a-a-1");
    let end = || lab.put("a.yaml", &file(&[with("a", IDLE, &["scale: 0"])]));
    let mut header = tar::Header::new_gnu();
    header.set_path("big").unwrap();
    header.set_size(1 << 20);
    header.set_mode(0o644);
    header.set_cksum();
    let mut copy = lab.client(&["cp", "-", "a-a-1:/tmp"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = copy.stdin.take().unwrap();
    input.write_all(header.as_bytes()).and_then(|()| input.write_all(&[7; 600_000])).unwrap();
    let there = || inside(&lab, "ls -A /tmp").contains("longshore-cp");
    lab.wait_for("the copy to begin", |_| there().then_some(()));
    // Who copies is among the container's mounts and in its root, but not among its processes.
    let helper = host::pids_naming("runtime\0copy").into_iter().find(|pid| child_of(*pid, lab.daemon_pid())).unwrap();
    let space = |pid: i32, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    assert_eq!(space(helper, "mnt"), space(a.pid, "mnt"));
    assert_ne!(space(helper, "pid"), space(a.pid, "pid"));
    assert!(Path::new(&format!("/proc/{helper}/root/bin/work")).exists());
    let open = fs::read_dir(format!("/proc/{helper}/fd")).unwrap().flatten().map(|e| fs::read_link(e.path()).unwrap());
    let open: Vec<String> = open.map(|path| path.display().to_string()).collect();
    assert!(!open.iter().any(|path| path.contains("longshore-it") && !path.ends_with("/log")), "{open:?}");
    end();
    refused(&ended(copy), "a-a-1: the container ended while files were copied");
    drop(input);
    lab.gone("a-a-1");
    // On the way out: a file without an end, that nobody takes.
    up();
    lab.running("a-a-1");
    inside(&lab, "truncate -s 900G /endless");
    let mut copy = lab.client(&["cp", "a-a-1:/endless", "-"]);
    let mut copy = copy.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    copy.stdout.as_mut().unwrap().read_exact(&mut [0; 1 << 20]).unwrap();
    end();
    lab.gone("a-a-1");
    let mut out = copy.stdout.take().unwrap();
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    refused(&ended(copy), "the container ended while files were copied");
    lab.finish();
}

#[test]
fn a_commit_is_an_image_that_runs() {
    let lab = Lab::new();
    let more = ["environment: {COLOUR: blue}", "volumes: ['kept:/kept']", "working_dir: /home"];
    lab.put("a.yaml", &file(&[with("a", IDLE, &more)]).replace("services:", "volumes: {kept: {}}\nservices:"));
    let a = lab.running("a-a-1");
    inside(
        &lab,
        "echo own > /home/own; chown 5:6 /home/own; ln /home/own /same; rm /etc/group; rm -r /tmp; mkdir /tmp; echo v > /kept/v",
    );
    inside(
        &lab,
        "rm -r /sys 2>/dev/null; mkdir -p /deep/er; touch /deep/er/f; mkfifo /pipe; chmod 1755 /deep; ln -s /etc/passwd /l",
    );
    let commit =
        ["commit", "-m", "by hand", "-a", "Ann", "-c", "LABEL k=v", "-c", "EXPOSE 80", "a-a-1", "local/made:1"];
    let said = done(&lab.cli(&commit));
    assert!(said.starts_with("docker.io/local/made:1  sha256:"), "{said}");
    assert!(done(&lab.cli(&["image", "ls"])).contains("local/made"), "it is listed");
    let history = done(&lab.cli(&["image", "history", "local/made:1"]));
    assert!(history.contains("work graceful 0"), "{history}");
    let inspected = done(&lab.cli(&["image", "inspect", "local/made:1"]));
    for word in ["COLOUR=blue", "/home", "80/tcp"] {
        assert!(inspected.contains(word), "{word}: {inspected}");
    }
    // It went on meanwhile, and the same files are the same layer.
    assert_eq!(lab.running("a-a-1"), a);
    assert_eq!(inside(&lab, "echo still here"), "still here\n");
    let again = done(&lab.cli(&["commit", "--no-pause", "-q", "a-a-1"]));
    let layers = |name: &str| -> Value {
        let text = done(&lab.cli(&["image", "inspect", name]));
        let all: Value = serde_json::from_str(&text).unwrap();
        all[0]["layers"].clone()
    };
    assert_eq!(layers("local/made:1"), layers(again.trim()));
    let script = "stat -c '%u:%g %h' /home/own; ls -A /tmp; test -e /kept || echo none; ls /etc; cat /same; echo $$COLOUR; pwd; stat -c %a /deep; readlink /l; test -p /pipe && echo pipe";
    let service = format!(
        "  b:\n    image: local/made:1\n    pull_policy: never\n    network_mode: none\n    command: [sh, -c, \"{script}\"]\n"
    );
    lab.put("b.yaml", &format!("services:\n{service}"));
    assert_eq!(lab.exited("b-b-1"), 0, "{}", lab.output("b-b-1"));
    let output = lab.output("b-b-1");
    let expected = "5:6 2\nnone\nhostname\nhosts\npasswd\nresolv.conf\nown\nblue\n/home\n1755\n/etc/passwd\npipe\n";
    assert_eq!(output, expected);
    assert_eq!(done(&lab.cli(&["diff", "b-b-1"])), "", "nothing of it is its own");
    // On top of it: a folder made anew hides what it had, and the whole can leave the machine.
    let name = crate::support::registry::image().replace("it/box:latest", "it/made:1");
    let from = |image: &str, script: &str| {
        let rest = "    pull_policy: missing\n    network_mode: none\n";
        format!("services:\n  b:\n    image: {image}\n{rest}    command: [sh, -c, \"{script}\"]\n")
    };
    lab.put("b.yaml", &from("local/made:1", "rm -r /deep; mkdir /deep; touch /deep/g; rm /home/own; mv /l /moved"));
    let output = |lab: &Lab| {
        lab.wait_for("b to end", |s| {
            let b = container(s, "b-b-1")?;
            (s["settled"] == true && b["state"]["status"] == "exited" && b["image"] != "docker.io/local/made:1")
                .then_some(())
        });
        lab.output("b-b-1")
    };
    lab.wait_for("b to be another one", |s| {
        let b = container(s, "b-b-1")?;
        let diff = lab.cli(&["diff", "b-b-1"]).stdout;
        (s["settled"] == true && b["state"]["status"] == "exited" && text(&diff).contains("A /deep/g")).then_some(())
    });
    done(&lab.cli(&["commit", "b-b-1", &name]));
    done(&lab.cli(&["image", "push", "-q", &name]));
    lab.put("b.yaml", &from(&name, "find /deep /moved /home | sort; cat /same"));
    assert_eq!(output(&lab), "/deep\n/deep/g\n/home\n/home/app\n/moved\nown\n");
    let archive = lab.dir.join("made.tar");
    done(&lab.cli(&["image", "save", "--format", "oci-archive", "-o", shown(&archive), &name]));
    let skopeo = Command::new("skopeo")
        .args(["copy", "-q", "--insecure-policy", &format!("oci-archive:{}", shown(&archive))])
        .arg(format!("dir:{}", shown(&lab.dir.join("skopeo"))))
        .output();
    done(&skopeo.unwrap());
    // What cannot be.
    refused(&lab.cli(&["commit", "-c", "RUN x", "a-a-1", "local/made:2"]), "cannot read the change \"RUN x\"");
    refused(&lab.cli(&["commit", "a-a-1", "UPPER"]), "write [REGISTRY/]REPOSITORY[:TAG]");
    refused(&lab.cli(&["commit", "nobody"]), "no container or service is called");
    inside(&lab, "touch /home/.wh.x");
    refused(&lab.cli(&["commit", "a-a-1", "local/made:2"]), "/home/.wh.x cannot be in an image");
    assert_eq!(inside(&lab, "echo still here"), "still here\n");
    lab.remove("b.yaml");
    lab.gone("b-b-1");
    // One that does not run, too.
    lab.put("a.yaml", &file(&[with("a", "[sh, -c, 'echo x > /x']", &["restart: 'no'"])]));
    lab.exited("a-a-1");
    done(&lab.cli(&["commit", "a-a-1", "local/made:3"]));
    lab.finish();
}

#[test]
fn a_daemon_that_is_killed_does_not_leave_a_container_held_still() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &file(&[service("a", IDLE)]));
    let a = lab.running("a-a-1");
    lab.kill();
    // As it would be in the middle of a commit.
    fs::write(lab.data().join("containers").join(&a.id).join("paused"), "").unwrap();
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", a.pid)).unwrap();
    let place =
        |name: &str| cgroup.lines().find_map(|l| l.splitn(3, ':').nth(2).filter(|_| l.split(':').nth(1) == Some(name)));
    let (file, held, free) = match place("freezer") {
        Some(path) => (format!("/sys/fs/cgroup/freezer{path}/freezer.state"), "FROZEN", "THAWED"),
        None => (format!("/sys/fs/cgroup{}/cgroup.freeze", place("").unwrap()), "1", "0"),
    };
    fs::write(&file, held).unwrap();
    lab.start();
    lab.wait_for("it to go on", |_| (fs::read_to_string(&file).unwrap().trim() == free).then_some(()));
    lab.still("a-a-1", &a);
    assert_eq!(inside(&lab, "echo on"), "on\n");
    lab.finish();
}
