//! Layers, ordinary and hostile, through a whole pull: what ends up in the directories that overlayfs stacks.
//! Needs root, as the daemon does.

#[expect(dead_code, reason = "each test program uses its own part")]
mod image_support;

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use image_support::{Member, Script, device, dir, file, gzip, hard, image, link, member, tar, told};
use longshore::image::{Images, Limits, Progress, PullError, Settings};
use longshore::model::ImageReference;

/// Pulls an image of these layers; the store's directory lives as long as the first value.
fn pull(layers: &[Vec<Member>]) -> (tempfile::TempDir, Result<Vec<PathBuf>, String>) {
    let packed: Vec<_> = layers.iter().map(|l| (tar(l), gzip(&tar(l)))).collect();
    pull_packed(&packed, Limits::default())
}

fn pull_packed(layers: &[(Vec<u8>, Vec<u8>)], limits: Limits) -> (tempfile::TempDir, Result<Vec<PathBuf>, String>) {
    let registry = Script::of(image(layers));
    let temp = tempfile::tempdir().unwrap();
    let images = Images::open(&temp.path().join("images"), Settings { limits, ..Settings::default() }).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let name = ImageReference::parse(&registry.name()).unwrap();
    let pulled = runtime.block_on(images.pull(&name, None, &Progress::default()));
    drop(runtime);
    let left = std::fs::read_dir(temp.path().join("images/ingest")).unwrap().count();
    assert_eq!(left, 0, "nothing is left in ingest/ after {pulled:?}");
    let layers = pulled.map_err(|e| told(&e)).map(|p| images.layers(&p.digest).unwrap());
    (temp, layers)
}

/// One layer that must be accepted.
fn one(members: &[Member]) -> (tempfile::TempDir, PathBuf) {
    let (temp, layers) = pull(&[members.to_vec()]);
    let layer = layers.expect("accepted").remove(0);
    (temp, layer)
}

fn refused(members: &[Member]) -> String {
    pull(&[members.to_vec()]).1.expect_err("must be refused")
}

fn opaque(path: PathBuf) -> bool {
    let mut value = [0; 8];
    rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value).is_ok_and(|n| &value[..n] == b"y")
}

fn whiteout(path: PathBuf) -> bool {
    path.symlink_metadata().is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

#[test]
fn ordinary_members_are_made_as_they_were() {
    let long = "d/".to_owned() + &"n".repeat(200);
    let (_temp, layer) = one(&[
        dir("./").mode(0o711),
        dir("d/").mode(0o1777).pax("mtime", "1600000000.5"),
        file("d/setuid", "x").mode(0o4755).owner(12, 34),
        file(&long, "long").pax("mtime", "-1.25"),
        link("d/link", "/etc/shadow").owner(5, 6),
        hard("d/hard", "./d/setuid"),
        device(b'3', "d/null", 1, 3).mode(0o666),
        member(b'6', "d/fifo"),
        file("implied/parent/f", "deep"),
        file("d/attr", "").pax("SCHILY.xattr.user.mine", "kept"),
    ]);
    let meta = |p: &str| layer.join(p).symlink_metadata().unwrap();
    assert_eq!(layer.metadata().unwrap().permissions().mode() & 0o7777, 0o711);
    assert_eq!(meta("d").mode() & 0o7777, 0o1777);
    assert_eq!((meta("d").mtime(), meta("d").mtime_nsec()), (1_600_000_000, 500_000_000));
    assert_eq!((meta("d/setuid").mode() & 0o7777, meta("d/setuid").uid(), meta("d/setuid").gid()), (0o4755, 12, 34));
    assert_eq!((meta(&long).mtime(), meta(&long).mtime_nsec()), (-2, 750_000_000));
    assert_eq!(std::fs::read_link(layer.join("d/link")).unwrap(), PathBuf::from("/etc/shadow"));
    assert_eq!((meta("d/link").uid(), meta("d/link").gid()), (5, 6));
    assert_eq!(meta("d/hard").ino(), meta("d/setuid").ino());
    assert_eq!((meta("d/null").rdev(), meta("d/null").mode() & 0o7777), (0x103, 0o666));
    assert!(meta("d/fifo").file_type().is_fifo());
    assert_eq!(meta("implied").mode() & 0o7777, 0o755);
    let mut value = [0; 8];
    let got = rustix::fs::getxattr(layer.join("d/attr"), "user.mine", &mut value).unwrap();
    assert_eq!(&value[..got], b"kept");
}

#[test]
fn nothing_leaves_the_root() {
    let outside = tempfile::tempdir().unwrap();
    let canary = outside.path().join("victim");
    std::fs::write(&canary, "untouched").unwrap();
    let to = outside.path().to_str().unwrap();
    let ups = "../".repeat(14) + to.trim_start_matches('/');
    let attacks: Vec<Vec<Member>> = vec![
        vec![file(&format!("{ups}/victim"), "evil")],
        vec![file(&format!("{to}/victim"), "evil")],
        vec![link("a", to), file("a/victim", "evil")],
        vec![link("a", &ups), file("a/new/victim", "evil")],
        vec![link("a", "/"), file(&format!("a{to}/victim"), "evil")],
        vec![link("a", to), hard("h", "a/victim"), file("h", "evil")],
        vec![hard("h", &format!("{to}/victim"))],
        vec![hard("h", &ups)],
        vec![link("a", to), file("a/.wh.victim", "")],
        vec![file(&format!("{ups}/.wh.victim"), "")],
        vec![link("a", to), file("a/.wh..wh..opq", "")],
        vec![link("v", canary.to_str().unwrap()).mode(0o777), hard("h", "v").mode(0o777).owner(7, 7)],
        vec![link("v", canary.to_str().unwrap()).owner(7, 7).pax("SCHILY.xattr.user.x", "y")],
        vec![link("v", canary.to_str().unwrap()), file("v", "evil")],
        vec![dir("d"), file("d/f", ""), link("d", to), file("d/victim", "evil")],
    ];
    for (at, attack) in attacks.iter().enumerate() {
        let _ = pull(std::slice::from_ref(attack));
        assert_eq!(std::fs::read_to_string(&canary).unwrap(), "untouched", "attack {at}");
        let meta = canary.metadata().unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777, meta.nlink()), (0, 0o644, 1), "attack {at}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "attack {at}");
        assert!(!opaque(outside.path().to_owned()), "attack {at}");
    }
}

#[test]
fn links_lead_inside_the_root() {
    let (_temp, layer) = one(&[link("run", "/var/run"), file("run/x", "1"), link("up", "../../.."), file("up/y", "2")]);
    assert_eq!(std::fs::read_to_string(layer.join("var/run/x")).unwrap(), "1");
    assert_eq!(std::fs::read_to_string(layer.join("y")).unwrap(), "2");
}

#[test]
fn whiteouts_speak_of_lower_layers_only() {
    let (_temp, layer) = one(&[
        file("a/.wh.gone", ""),
        file("a/.wh.before", ""),
        file("a/before", "stays"),
        file("a/after", "stays"),
        file("a/.wh.after", ""),
        file(".wh.dir", ""),
        file("dir/new", "new"),
        dir("made/"),
        file(".wh.made", ""),
        file("o/sibling", "stays"),
        file("o/.wh..wh..opq", ""),
        file(".wh..wh.aufs", ""),
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/1.2", ""),
    ]);
    assert!(whiteout(layer.join("a/gone")));
    for stays in ["a/before", "a/after", "o/sibling"] {
        assert_eq!(std::fs::read_to_string(layer.join(stays)).unwrap(), "stays", "{stays}");
    }
    assert!(opaque(layer.join("dir")) && opaque(layer.join("made")) && opaque(layer.join("o")));
    assert!(!opaque(layer.join("a")));
    let names: Vec<_> = std::fs::read_dir(&layer).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|n| !n.to_string_lossy().starts_with(".wh.")), "{names:?}");
}

#[test]
fn an_opaque_root_hides_the_layers_below() {
    let (_temp, layers) = pull(&[vec![file("low", "")], vec![file(".wh..wh..opq", ""), file("high", "")]]);
    let layers = layers.unwrap();
    assert_eq!(layers.len(), 1);
    assert!(layers[0].join("high").exists());
}

#[test]
fn one_thing_takes_the_place_of_another() {
    let (_temp, layer) = one(&[
        dir("x"),
        file("x/child", ""),
        file("x", "now a file"),
        file("y", "was a file"),
        dir("y"),
        file("y/child", "in"),
        file("z", "1"),
        file("z", "2"),
        link("l", "y"),
        dir("l"),
    ]);
    assert_eq!(std::fs::read_to_string(layer.join("x")).unwrap(), "now a file");
    assert_eq!(std::fs::read_to_string(layer.join("y/child")).unwrap(), "in");
    assert_eq!(std::fs::read_to_string(layer.join("z")).unwrap(), "2");
    assert!(layer.join("l").symlink_metadata().unwrap().is_dir() && opaque(layer.join("y")));
}

#[test]
fn what_steers_overlayfs_is_never_taken_from_an_image() {
    let (_temp, layer) = one(&[dir("d")
        .pax("SCHILY.xattr.trusted.overlay.opaque", "y")
        .pax("SCHILY.xattr.user.overlay.opaque", "y")
        .pax("SCHILY.xattr.trusted.overlay.redirect", "/etc")]);
    let mut list = [0u8; 512];
    let got = rustix::fs::listxattr(layer.join("d"), &mut list).unwrap();
    assert!(!String::from_utf8_lossy(&list[..got]).contains("overlay"));
    assert!(refused(&[device(b'3', "sneaky", 0, 0)]).contains("0:0"));
}

#[test]
fn malformed_layers_are_refused() {
    let table: Vec<(Vec<Member>, &str)> = vec![
        (vec![file(".wh..", "")], "whiteout"),
        (vec![file("etc/.wh...", "")], "whiteout"),
        (vec![file(".wh.", "")], "whiteout"),
        (vec![hard("h", "missing")], "not in its layer"),
        (vec![hard("h", "h")], "not in its layer"),
        (vec![dir("d"), hard("h", "d")], "directory"),
        (vec![file("", "")], "no name"),
        (vec![file("/", "").mode(0o600), link("./", "x")], "root"),
        (vec![member(b'Z', "odd")], "unknown type"),
        (vec![member(b'S', "sparse")], "sparse"),
        (vec![file("f", "").pax("GNU.sparse.major", "1")], "sparse"),
        (vec![file("f", "").pax("uid", "-1")], "owner"),
        (vec![file("f", "").pax("uid", "4294967295")], "owner"),
        (vec![file("f", "").pax("path", "a\0b")], "NUL"),
        (vec![file("f", "").pax("size", "-5")], "negative"),
        (vec![file(&"a/".repeat(5000), "")], "longer"),
    ];
    for (members, word) in table {
        let text = refused(&members);
        assert!(text.contains(word), "{text:?} should speak of {word:?}");
    }
    let good = tar(&[file("f", "content")]);
    for cut in [300, 515, 1030] {
        let bad = good[..cut].to_vec();
        assert!(pull_packed(&[(bad.clone(), gzip(&bad))], Limits::default()).1.is_err(), "cut at {cut}");
    }
    let mut flipped = good.clone();
    flipped[0] ^= 1;
    let text = pull_packed(&[(flipped.clone(), gzip(&flipped))], Limits::default()).1.unwrap_err();
    assert!(text.contains("checksum"), "{text}");
    let mut lied = good.clone();
    lied[512] ^= 1;
    let text = pull_packed(&[(lied, gzip(&good))], Limits::default()).1.unwrap_err();
    assert!(text.contains("promises"), "{text}");
}

#[test]
fn compressed_forms_are_read_to_their_end() {
    let plain = tar(&[file("f", "content")]);
    let (head, tail) = plain.split_at(600);
    let skippable = [&0x184D_2A50u32.to_le_bytes()[..], &4u32.to_le_bytes(), b"skip"].concat();
    let zstd = |data: &[u8]| zstd::encode_all(data, 3).unwrap();
    let forms = [
        plain.clone(),
        [gzip(head), gzip(tail)].concat(),
        zstd(&plain),
        [skippable.clone(), zstd(head), skippable.clone(), skippable.clone(), zstd(tail), skippable].concat(),
    ];
    for (at, form) in forms.into_iter().enumerate() {
        let (_temp, layers) = pull_packed(&[(plain.clone(), form)], Limits::default());
        assert_eq!(std::fs::read_to_string(layers.expect("form is read")[0].join("f")).unwrap(), "content", "{at}");
    }
    for broken in [gzip(&plain)[..60].to_vec(), zstd(&plain)[..60].to_vec()] {
        assert!(pull_packed(&[(plain.clone(), broken)], Limits::default()).1.is_err());
    }
    let junk = [&plain[..], b"junk after the end"].concat();
    assert!(pull_packed(&[(junk.clone(), gzip(&junk))], Limits::default()).1.is_ok());
}

#[test]
fn limits_hold() {
    let many: Vec<_> = (0..50).map(|n| file(&format!("f{n}"), "")).collect();
    let packed = [(tar(&many), gzip(&tar(&many)))];
    let text = pull_packed(&packed, Limits { entries: 20, ..Limits::default() }).1.unwrap_err();
    assert!(text.contains("more than 20 entries"), "{text}");
    let long = tar(&[file(&"n".repeat(90), "")]);
    let limits = Limits { path_bytes: 80, ..Limits::default() };
    let text = pull_packed(&[(long.clone(), gzip(&long))], limits).1.unwrap_err();
    assert!(text.contains("more than 80 bytes"), "{text}");
    let text = pull_packed(&packed, Limits { layer_bytes: 9000, ..Limits::default() }).1.unwrap_err();
    assert!(text.contains("more than 9000 bytes"), "{text}");
    let bomb = tar(&[file("zeros", &"\0".repeat(8 << 20))]);
    let limits = Limits { ratio: 50, ratio_free_bytes: 1 << 20, ..Limits::default() };
    let text = pull_packed(&[(bomb.clone(), gzip(&bomb))], limits).1.unwrap_err();
    assert!(text.contains("50 times"), "{text}");
}

#[test]
fn deep_trees_are_quick_and_can_be_removed() {
    let begun = std::time::Instant::now();
    let mut members: Vec<_> = (1..2000).map(|depth| dir(&"d/".repeat(depth))).collect();
    // Through a link the tree grows deeper than any path; the refusal at the end has to remove it all.
    members.push(link("s", &"d/".repeat(1999)));
    members.push(file(&("s/".to_owned() + &"e/".repeat(2000) + "f"), "x"));
    members.push(file(".wh..", ""));
    assert!(refused(&members).contains("whiteout"));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// A small file system of its own, gone with the value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(options: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", options, "small"]).arg(temp.path()).status();
        assert!(mounted.unwrap().success());
        Self(temp)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_named_and_what_was_begun_is_removed() {
    let big = tar(&[file("big", &"x".repeat(8 << 20))]);
    let registry = Script::of(image(&[(big.clone(), gzip(&big))]));
    let disk = SmallDisk::mount("size=4m,mode=755");
    let images = Images::open(&disk.0.path().join("images"), Settings::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let name = ImageReference::parse(&registry.name()).unwrap();
    let pull = || runtime.block_on(images.pull(&name, None, &Progress::default()));
    let error = pull().unwrap_err();
    assert!(matches!(error, PullError::NoSpace { .. }) && !error.permanent(), "{}", told(&error));
    assert_eq!(std::fs::read_dir(disk.0.path().join("images/ingest")).unwrap().count(), 0);
    let grown = std::process::Command::new("mount").args(["-o", "remount,size=64m"]).arg(disk.0.path()).status();
    assert!(grown.unwrap().success());
    pull().map_err(|e| told(&e)).unwrap();
}
