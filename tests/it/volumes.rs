//! Volumes and bind mounts as the process in the container sees them, and what becomes of their data.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::support::lab::{container, service as service_status};
use crate::support::registry::image;
use crate::support::{Lab, file, host, service, with, with_both_runtimes};

const IDLE: &str = "[work, graceful, '0']";

with_both_runtimes! {
    every_form_of_volumes_is_seen_from_inside,
    an_empty_volume_takes_what_the_image_has_there,
}

/// The volumes that the files here may name.
const DEFINED: &str = "volumes:\n  v: {}\n  named: {name: apart}\n  ram: {driver: local, driver_opts: {type: tmpfs, device: tmpfs, o: 'size=1m,mode=700'}}\n";

/// Runs a script in a container with these mounts, and gives what it said.
#[track_caller]
fn seen(lab: &Lab, volumes: &[&str], script: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("s{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut more = vec!["volumes:".to_owned()];
    more.extend(volumes.iter().map(|line| format!("  {line}")));
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let command = format!("[sh, -c, \"{script}\"]");
    lab.put("seen.yaml", &format!("{}{DEFINED}", file(&[with(&name, &command, &more)])));
    let container = format!("seen-{name}-1");
    assert_eq!(lab.exited(&container), 0, "{volumes:?}: {}", lab.output(&container));
    lab.output(&container).trim_end().to_owned()
}

/// How a mount is written to: `rw` or `ro`, by its options in mountinfo and by trying.
const TRIED: &str = "if touch /m/.try 2>/dev/null; then rm /m/.try; echo rw; else echo ro; fi";

fn every_form_of_volumes_is_seen_from_inside(config: &Value) {
    let lab = Lab::with(config);
    let (state, outside) = (lab.state(), tempfile::tempdir().unwrap());
    let out = outside.path().to_str().unwrap().to_owned();
    for dir in [state.join("files"), outside.path().join("sub")] {
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("hello"), "hello\n").unwrap();
    }
    fs::write(outside.path().join("one"), "one\n").unwrap();
    let absolute = |rest: &str| format!("- '{out}{rest}'");
    let long = |text: &str| format!("- {{{text}}}");
    let (cat, image) = ("cat /m/hello; ", image());
    let table: &[(String, String, &str)] = &[
        // Short.
        ("- /m".into(), TRIED.into(), "rw"),
        ("- 'v:/m'".into(), TRIED.into(), "rw"),
        ("- 'v:/m:ro'".into(), TRIED.into(), "ro"),
        ("- 'v:/m:rw,nocopy'".into(), TRIED.into(), "rw"),
        ("- 'named:/m'".into(), TRIED.into(), "rw"),
        ("- 'ram:/m'".into(), "df -k /m | tail -1 | tr -s ' ' | cut -d' ' -f2; stat -c %a /m".into(), "1024\n700"),
        ("- './files:/m'".into(), format!("{cat}{TRIED}"), "hello\nrw"),
        ("- './files:/m:ro'".into(), format!("{cat}{TRIED}"), "hello\nro"),
        ("- './made/here:/m'".into(), format!("{TRIED}; stat -c '%a %u' /m"), "rw\n755 0"),
        (absolute("/sub:/m"), format!("{cat}{TRIED}"), "hello\nrw"),
        (absolute("/sub:/m:ro,z"), format!("{cat}{TRIED}"), "hello\nro"),
        (absolute("/sub:/m:rw,rslave,cached"), format!("{cat}{TRIED}"), "hello\nrw"),
        (absolute("/one:/m/deep/file"), "cat /m/deep/file".into(), "one"),
        // Long.
        (long("type: volume, target: /m"), TRIED.into(), "rw"),
        (long("type: volume, source: v, target: /m, read_only: true"), TRIED.into(), "ro"),
        (long("type: volume, source: v, target: /m, volume: {nocopy: true}"), TRIED.into(), "rw"),
        (long("type: bind, source: ./files, target: /m"), format!("{cat}{TRIED}"), "hello\nrw"),
        (long("type: bind, source: ./files, target: /m, read_only: true"), format!("{cat}{TRIED}"), "hello\nro"),
        (long("type: bind, source: ./new, target: /m, bind: {create_host_path: true}"), TRIED.into(), "rw"),
        (
            long(&format!("type: bind, source: {out}, target: /m, bind: {{propagation: rslave, recursive: disabled}}")),
            "cat /m/sub/hello".into(),
            "hello",
        ),
        (
            long("type: tmpfs, target: /m, tmpfs: {size: 2m, mode: 0700}"),
            "df -k /m | tail -1 | tr -s ' ' | cut -d' ' -f2; stat -c %a /m".into(),
            "2048\n700",
        ),
        (long("type: bind, source: ./files, target: /m, consistency: cached"), TRIED.into(), "rw"),
        (
            long(&format!("type: image, source: '{image}', target: /m")),
            format!("ls /m/bin/work; {TRIED}"),
            "/m/bin/work\nro",
        ),
        (
            long(&format!("type: image, source: '{image}', target: /m, image: {{subpath: bin}}")),
            format!("ls /m/work; {TRIED}"),
            "/m/work\nro",
        ),
    ];
    for (volumes, script, expected) in table {
        let said = seen(&lab, &[volumes], script);
        println!("{volumes}: {said:?}");
        assert_eq!(said, *expected, "{volumes}");
    }
    // What was written to a part of a volume is there alone.
    seen(&lab, &["- 'v:/m'"], "mkdir -p /m/a/b && echo part > /m/a/b/x");
    let part = long("type: volume, source: v, target: /m, volume: {subpath: a/b}");
    assert_eq!(seen(&lab, &[&part], "ls /m; cat /m/x"), "x\npart");
    // One in another, whatever their order.
    let nested = ["- 'v:/m/in'", "- './files:/m'"];
    assert_eq!(seen(&lab, &nested, "cat /m/hello; ls /m/in"), "hello\na");
    lab.finish();
}

fn an_empty_volume_takes_what_the_image_has_there(config: &Value) {
    let lab = Lab::with(config);
    let script = "ls /etc/passwd; stat -c '%a %u %g' /etc /tmp";
    let image = seen(&lab, &["- 'v:/elsewhere'"], script);
    let filled = seen(&lab, &["- 'named:/etc'"], script);
    assert_eq!(filled, image);
    // The second one finds what was left, not the image's.
    seen(&lab, &["- 'named:/etc'"], "echo mine > /etc/passwd.mine; rm /etc/passwd");
    assert_eq!(seen(&lab, &["- 'named:/etc'"], "ls /etc | grep passwd"), "passwd.mine");
    let bare = "- {type: volume, source: v, target: /etc, volume: {nocopy: true}}";
    assert_eq!(seen(&lab, &[bare], "ls /etc | grep passwd || echo none"), "none");
    lab.finish();
}

#[test]
fn data_stays_whatever_becomes_of_its_containers() {
    let mut lab = Lab::new();
    let app = |more: &[&str]| {
        let more = [&["volumes: ['v:/data', '/anonymous']"], more].concat();
        let command = "[sh, -c, 'echo run >> /data/log; echo run >> /anonymous/log; exec work graceful 0']";
        format!("{}volumes: {{v: }}\n", file(&[with("a", command, &more)]))
    };
    lab.put("shop.yaml", &app(&[]));
    let first = lab.running("shop-a-1");
    let runs = |lab: &Lab| {
        let count = |path: &str| {
            let out = lab.cli(&["exec", "shop-a-1", "sh", "-c", &format!("wc -l < {path}")]);
            String::from_utf8_lossy(&out.stdout).trim().to_owned()
        };
        (count("/data/log"), count("/anonymous/log"))
    };
    assert_eq!(runs(&lab), ("1".into(), "1".into()));
    // Another container of the same service.
    lab.put("shop.yaml", &app(&["hostname: other"]));
    let second = lab.replaced("shop-a-1", &first);
    assert_eq!(runs(&lab), ("2".into(), "2".into()));
    // Its file is gone, and back.
    lab.remove("shop.yaml");
    lab.gone("shop-a-1");
    assert!(lab.data().join("volumes/shop_v").is_dir());
    lab.put("shop.yaml", &app(&[]));
    let third = lab.running("shop-a-1");
    assert_eq!(runs(&lab), ("3".into(), "3".into()));
    assert_ne!(third.id, second.id);
    // The daemon is killed and its database lost.
    lab.kill();
    for entry in fs::read_dir(lab.data()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("db") {
            let path = entry.path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
    lab.start();
    lab.still("shop-a-1", &third);
    assert_eq!(runs(&lab), ("3".into(), "3".into()));
    lab.remove("shop.yaml");
    lab.gone("shop-a-1");
    assert!(lab.data().join("volumes/shop_v/_data/log").is_file());
    // Until somebody removes it by its name.
    let volume = |args: &[&str]| {
        let out = lab.cli(&[&["volume"], args].concat());
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let unused = volume(&["ls", "--unused", "-q"]);
    let anonymous = unused.lines().find(|name| *name != "shop_v").unwrap().to_owned();
    assert_eq!((unused.lines().count(), anonymous.len()), (2, 64), "{unused}");
    let pruned = volume(&["prune", "--yes"]);
    assert!(pruned.starts_with(&format!("removed {anonymous}, ")) && pruned.contains("NAME`): shop_v\n"), "{pruned}");
    assert!(lab.data().join("volumes/shop_v/_data/log").is_file());
    assert_eq!(volume(&["rm", "shop_v"]), "removed shop_v\n");
    assert!(!lab.data().join("volumes/shop_v").exists());
    lab.finish();
}

#[test]
fn a_volume_is_filled_under_who_already_has_it() {
    let lab = Lab::new();
    let bare = "volumes: [{type: volume, source: v, target: /m, volume: {nocopy: true}}]";
    let one = |with_content: bool| {
        let content = with("b", IDLE, &["volumes: ['v:/etc']"]);
        let services = [Some(with("a", IDLE, &[bare])), with_content.then_some(content)];
        format!("{}volumes: {{v: }}\n", file(&services.into_iter().flatten().collect::<Vec<_>>()))
    };
    lab.put("shop.yaml", &one(false));
    let first = lab.running("shop-a-1");
    lab.put("shop.yaml", &one(true));
    lab.running("shop-b-1");
    lab.still("shop-a-1", &first);
    let seen = |name: &str, script: &str| {
        let out = lab.cli(&["exec", name, "sh", "-c", script]);
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    assert_eq!(seen("shop-a-1", "echo x > /m/written && ls -d /m/passwd"), "/m/passwd");
    assert_eq!(seen("shop-b-1", "cat /etc/written"), "x");
    lab.finish();
}

#[test]
fn a_bind_mount_stays_on_what_it_was_when_its_link_is_swapped() {
    let lab = Lab::new();
    let outside = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        fs::create_dir(outside.path().join(name)).unwrap();
        fs::write(outside.path().join(name).join("who"), name).unwrap();
    }
    let link = outside.path().join("link");
    symlink("one", &link).unwrap();
    let mount = format!("volumes: ['{}:/m']", link.display());
    lab.put("a.yaml", &file(&[with("a", IDLE, &[&mount])]));
    lab.running("a-a-1");
    fs::remove_file(&link).unwrap();
    symlink("two", &link).unwrap();
    let out = lab.cli(&["exec", "a-a-1", "cat", "/m/who"]);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "one");
    lab.finish();
}

/// What is mounted on it in the host's mount namespace; unmounted at the end, also of a test that fails.
struct Mounted<'a>(&'a Path);

impl Mounted<'_> {
    fn new(at: &Path) -> Mounted<'_> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "longshore-test"]).arg(at).status().unwrap();
        assert!(mount.success());
        Mounted(at)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_service_waits_for_its_mount_and_nothing_is_written_below() {
    let mut lab = Lab::new();
    let outside = tempfile::tempdir().unwrap();
    let disk = outside.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = format!("volumes: ['{}/data:/m']", disk.display());
    let require = format!("x-longshore: {{require_mount: {}}}", disk.display());
    let command = "[sh, -c, 'touch /m/x; exec work graceful 0']";
    lab.put("a.yaml", &file(&[with("a", command, &[&mount, &require]), service("b", IDLE)]));
    lab.running("a-b-1");
    let waits = |lab: &Lab| {
        lab.wait_for("the wait", |status| {
            let text = service_status(status, "a", "a")?["waiting"].to_string();
            (text.contains("mount") && text.contains(disk.to_str().unwrap())).then_some(text)
        })
    };
    println!("{}", waits(&lab));
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0, "something was written below");
    let mounted = Mounted::new(&disk);
    lab.running("a-a-1");
    lab.until("what it writes", || disk.join("data/x").is_file().then_some(()));
    // As after a boot at which it was not mounted: without being asked for, by what was known.
    lab.put("a.yaml", &file(&[with("a", command, &[&mount, "restart: always"]), service("b", IDLE)]));
    let before = lab.running("a-a-1");
    let record = lab.data().join("containers").join(&before.id).join("container.json");
    lab.wait_for("the record without it", |_| {
        (!fs::read_to_string(&record).ok()?.contains("required_mounts")).then_some(())
    });
    lab.kill();
    for pid in lab.pids_of(&before) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    drop(mounted);
    lab.start();
    let told = waits(&lab);
    assert!(told.contains("it was when containers were started on it last"), "{told}");
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0, "something was written below");
    let _mounted = Mounted::new(&disk);
    lab.wait_for("it to run", |s| (container(s, "a-a-1")?["state"]["status"] == "running").then_some(()));
    lab.finish();
}

#[test]
fn a_disk_that_is_full_while_a_volume_is_filled_leaves_no_half_volume() {
    use nix::mount::{MsFlags, mount};
    host::own_ids();
    let mut lab = Lab::stopped(&json!({}));
    let data = lab.data();
    mount(Some("tmpfs"), &data, Some("tmpfs"), MsFlags::empty(), Some("size=64m,mode=700")).unwrap();
    lab.start();
    lab.put("shop.yaml", &file(&[service("first", IDLE)]));
    lab.running("shop-first-1");
    // As much as leaves room for records, and none for what the image has at /bin.
    let free = |lab: &Lab| {
        let stat = nix::sys::statvfs::statvfs(&lab.data()).unwrap();
        stat.blocks_available() * stat.fragment_size()
    };
    let filler = data.join("filler");
    fs::write(&filler, vec![1; usize::try_from(free(&lab)).unwrap() - (400 << 10)]).unwrap();
    let second = with("second", "[sh, -c, 'ls /bin | wc -l; exec work graceful 0']", &["volumes: ['v:/bin']"]);
    lab.put("shop.yaml", &format!("{}volumes: {{v: }}\n", file(&[service("first", IDLE), second])));
    let waits = lab.wait_for("the disk to be full", |s| {
        let waits = s["waiting"].to_string();
        waits.contains("no space left").then_some(waits)
    });
    println!("{waits}");
    let inside = || -> Vec<String> {
        let folders = fs::read_dir(data.join("volumes/shop_v/_data")).into_iter().flatten();
        folders.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(inside(), Vec::<String>::new(), "nothing of it is in the volume");
    fs::remove_file(&filler).unwrap();
    lab.running("shop-second-1");
    let bin = lab.cli(&["exec", "shop-first-1", "sh", "-c", "ls /bin | wc -l"]);
    lab.says("shop-second-1", String::from_utf8_lossy(&bin.stdout).trim());
    assert!(!inside().is_empty());
    lab.finish_with(|| nix::mount::umount2(&data, nix::mount::MntFlags::MNT_DETACH).unwrap());
}
