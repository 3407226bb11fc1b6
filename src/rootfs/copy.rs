//! A copy of a folder with all that is in it: owners, modes, times, extended attributes, links and hard links.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lgetxattr, llistxattr, lsetxattr, mknodat,
    utimensat,
};

use super::IdRange;

/// Files with more than one name: device and number, and where the first of them is.
type Linked = BTreeMap<(u64, u64), PathBuf>;

/// Copies a folder to a path where nothing is. Nobody changes it meanwhile. `seen`: it is seen with these owners, and copied with those
/// that it has on disk.
pub fn copy_tree(from: &OwnedFd, to: &Path, seen: Option<IdRange>) -> io::Result<()> {
    // With the dot it is a folder, not the link to one.
    let from = PathBuf::from(format!("/proc/self/fd/{}/.", from.as_raw_fd()));
    folder(&from, &fs::symlink_metadata(&from)?, to, &mut Copy { linked: Linked::new(), seen })
}

/// A copy under way.
struct Copy {
    linked: Linked,
    seen: Option<IdRange>,
}

impl Copy {
    /// Owner and group on disk.
    fn owner(&self, meta: &Metadata) -> (u32, u32) {
        let Some(range) = self.seen else { return (meta.uid(), meta.gid()) };
        let on_disk = |id: u32, first: u32| id.checked_sub(first).filter(|id| *id < range.size).unwrap_or(id);
        (on_disk(meta.uid(), range.uid), on_disk(meta.gid(), range.gid))
    }
}

fn folder(from: &Path, meta: &Metadata, to: &Path, copy: &mut Copy) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        one(&entry.path(), &to.join(entry.file_name()), copy)?;
    }
    dress(from, meta, to, copy)
}

fn one(from: &Path, to: &Path, copy: &mut Copy) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    let kind = meta.file_type();
    if kind.is_dir() {
        return folder(from, &meta, to, copy);
    }
    if meta.nlink() > 1 {
        if let Some(first) = copy.linked.get(&(meta.dev(), meta.ino())) {
            return fs::hard_link(first, to);
        }
        copy.linked.insert((meta.dev(), meta.ino()), to.to_owned());
    }
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if kind.is_file() {
        fs::copy(from, to)?;
    } else if !kind.is_socket() {
        mknodat(CWD, to, FileType::from_raw_mode(meta.mode()), Mode::from_raw_mode(0o600), meta.rdev())?;
    } else {
        // Nobody listens on it.
        return Ok(());
    }
    dress(from, &meta, to, copy)
}

/// The owner first: a change of it takes set-user-id away.
fn dress(from: &Path, meta: &Metadata, to: &Path, copy: &Copy) -> io::Result<()> {
    let (uid, gid) = copy.owner(meta);
    lchown(to, Some(uid), Some(gid))?;
    if !meta.file_type().is_symlink() {
        fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    }
    attributes(from, to)?;
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    Ok(utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn attributes(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0; 64 * 1024];
    let length = match llistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // The label belongs to the place.
        if name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0; 64 * 1024];
        let length = lgetxattr(from, OsStr::from_bytes(name), &mut value[..])?;
        lsetxattr(to, OsStr::from_bytes(name), &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}
