//! Archives that lie, unpacked as a client unpacks what comes from a container.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat};
use rustix::io::Errno;
use tar::{EntryType, Header};

use super::{Placing, Reach, Unpack, Unpacked};

/// A member: its name, what it is, where it leads, what it holds.
type Member<'a> = (&'a str, EntryType, &'a str, &'a [u8]);

const FILE: EntryType = EntryType::Regular;
const FOLDER: EntryType = EntryType::Directory;
const LINK: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

fn archive(members: &[Member<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, link, data) in members {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(nix::unistd::getuid().as_raw().into());
        header.set_gid(nix::unistd::getgid().as_raw().into());
        header.set_size(data.len() as u64);
        header.set_mtime(1);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpack(members: &[Member<'_>], to: &Path, placing: Placing) -> Result<Unpacked, String> {
    let reach = Reach::open().unwrap();
    let open = |path: &[u8], flags: OFlags| -> Result<OwnedFd, Errno> {
        openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
    };
    let unpack = Unpack {
        reach: &reach,
        open: &open,
        resolve: ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        dest: to.as_os_str().as_encoded_bytes(),
        placing,
        owners: false,
        owner: None,
        devices: false,
        side: "",
        check: &|_| Ok(()),
        go_on: &|| Ok(()),
    };
    unpack.run(archive(members).as_slice()).map_err(|error| error.to_string())
}

#[test]
fn nothing_leaves_the_place_that_it_is_copied_to() {
    let dir = tempfile::tempdir().unwrap();
    let safe = dir.path().join("safe");
    fs::create_dir(&safe).unwrap();
    fs::write(safe.join("key"), "kept").unwrap();
    let away = safe.to_str().unwrap();
    let lies: &[(&[Member<'_>], &str)] = &[
        (&[("r/", FOLDER, "", b""), ("r/l", LINK, away, b""), ("r/l/key", FILE, "", b"bad")], "leads out"),
        (&[("r/", FOLDER, "", b""), ("r/l", LINK, "../../safe", b""), ("r/l/new", FILE, "", b"bad")], "leads out"),
        (&[("r/", FOLDER, "", b""), ("r/l", LINK, away, b""), ("r/l/d/", FOLDER, "", b"")], "leads out"),
        (&[("r/", FOLDER, "", b""), ("r/../../safe/key", FILE, "", b"bad")], "leads out"),
        (&[("../safe/key", FILE, "", b"bad")], "leads out"),
        (&[("r/", FOLDER, "", b""), ("r/h", HARD, "r/../../safe/key", b"")], "its link leads out"),
        (&[("r/", FOLDER, "", b""), ("r/l", LINK, away, b""), ("r/h", HARD, "r/l/key", b"")], "leads out"),
        (&[("r/", FOLDER, "", b""), ("other", FILE, "", b"bad")], "is not below the root of the archive"),
    ];
    for (number, (members, words)) in lies.iter().enumerate() {
        let to = dir.path().join(format!("to{number}"));
        fs::create_dir(&to).unwrap();
        let error = unpack(members, &to, Placing::Copy).unwrap_err();
        assert!(error.contains(words), "{number}: {error}");
        assert_eq!(fs::read_dir(&safe).unwrap().count(), 1, "{number}");
        assert_eq!(fs::read_to_string(safe.join("key")).unwrap(), "kept", "{number}");
    }
    // An absolute name is one below the place; a link is replaced, not followed; one that stays inside is followed.
    let to = dir.path().join("to");
    fs::create_dir_all(to.join("real")).unwrap();
    symlink(safe.join("key"), to.join("key")).unwrap();
    symlink("real", to.join("inner")).unwrap();
    let members: &[Member<'_>] = &[
        ("/etc/x", FILE, "", b"x"),
        ("key", FILE, "", b"new"),
        ("inner/", FOLDER, "", b""),
        ("inner/f", FILE, "", b"f"),
    ];
    let done = unpack(members, &to, Placing::Extract).unwrap();
    assert_eq!((done.files, done.bytes), (4, 5));
    assert_eq!(fs::read_to_string(to.join("etc/x")).unwrap(), "x");
    assert!(!to.join("key").is_symlink() && to.join("inner").is_symlink());
    assert_eq!(fs::read_to_string(to.join("real/f")).unwrap(), "f");
    assert_eq!(fs::read_to_string(safe.join("key")).unwrap(), "kept");
}

#[test]
fn devices_are_left_out_and_nothing_half_made_stays() {
    let dir = tempfile::tempdir().unwrap();
    let members: &[Member<'_>] = &[("n", EntryType::Char, "", b""), ("b", EntryType::Block, "", b"")];
    assert_eq!(unpack(members, dir.path(), Placing::Extract).unwrap().left_out, 2);
    fs::create_dir(dir.path().join("d")).unwrap();
    for bad in [("d", FILE, "", &b"x"[..]), ("x", HARD, "none", b"")] {
        unpack(&[bad], dir.path(), Placing::Extract).unwrap_err();
    }
    fs::write(dir.path().join("f"), "old").unwrap();
    let error = unpack(&[("f/", FOLDER, "", b"")], dir.path(), Placing::Extract).unwrap_err();
    assert!(error.contains("a folder does not take its place"), "{error}");
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}
