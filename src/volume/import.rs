//! A tar archive becomes what an empty or new volume holds: whole, or not at all. Archives lie: no link is followed, nothing leads out.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, makedev};
use rustix::io::Errno;

use super::attributes::{At, Attributes};
use super::copy::settle;
use super::error::{VolumeError, disk};
use super::front::Volumes;
use super::shelf::remove_tree;
use super::snapshot::plain_volume;
use super::walk::{self, Inside};
use crate::model::VolumeName;
use crate::untar::{Archive, Entry, Kind};

impl Volumes {
    /// Reads an archive, not compressed, into an empty or new volume.
    pub fn import(&self, name: &VolumeName, from: impl Read + Send) -> Result<(), VolumeError> {
        let inner = &self.0;
        if matches!(inner.made(name), Err(VolumeError::Absent { .. })) {
            inner.make(&plain_volume(name))?;
        }
        inner.plain(name, "nothing is imported into it")?;
        let gate = inner.gate(name);
        let busy = || VolumeError::Busy { name: name.clone() };
        let _turn = gate.turn.try_lock().map_err(|_| busy())?;
        let _alone = gate.content.try_write().map_err(|_| busy())?;
        let staging = inner.folder(name).join(format!(".import-{}", inner.next()));
        let failed = disk("unpacking an archive", &inner.folder(name));
        let done = unpack(&staging, from, &failed).and_then(|()| {
            settle(&staging).map_err(&failed)?;
            // The kernel renames onto an empty folder only.
            fs::rename(&staging, inner.data(name)).map_err(|error| match error.kind() {
                io::ErrorKind::DirectoryNotEmpty => VolumeError::NotEmpty { name: name.clone() },
                _ => failed(error),
            })?;
            File::open(inner.folder(name)).and_then(|folder| folder.sync_all()).map_err(&failed)
        });
        let _ = remove_tree(&staging);
        done?;
        inner.note_used(name)
    }
}

fn unpack(staging: &Path, from: impl Read, failed: &dyn Fn(io::Error) -> VolumeError) -> Result<(), VolumeError> {
    fs::create_dir(staging).map_err(failed)?;
    let mut to = Inside::open(staging).map_err(failed)?;
    let mut archive = Archive::new(BufReader::with_capacity(256 << 10, from));
    let mut folders: Vec<(Vec<u8>, Timestamps)> = Vec::new();
    while let Some(entry) = archive.next()? {
        let refused =
            |why| VolumeError::Member { member: String::from_utf8_lossy(&entry.path).escape_debug().collect(), why };
        let path = clean(&entry.path).ok_or_else(|| refused("it leads out of the volume"))?;
        let attributes = attributes(&entry);
        if entry.kind == Kind::Directory {
            folders.push((path.clone(), attributes.times.clone()));
        }
        if path.is_empty() {
            At::Open(to.root()).set(&attributes).map_err(failed)?;
            continue;
        }
        one(&mut to, &entry, &path, &attributes, &mut archive).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => refused("it is there twice"),
            io::ErrorKind::InvalidInput => refused("its folder or its link is no folder or file of the archive"),
            _ => failed(error),
        })?;
    }
    for (path, times) in folders.iter().rev() {
        if let Some(folder) = to.folder(path).map_err(failed)? {
            rustix::fs::futimens(folder, times).map_err(|error| failed(error.into()))?;
        }
    }
    Ok(())
}

fn one<R: BufRead>(
    to: &mut Inside,
    entry: &Entry,
    path: &[u8],
    attributes: &Attributes,
    archive: &mut Archive<R>,
) -> io::Result<()> {
    let (parent, name) = walk::split(path);
    let root = to.root().try_clone_to_owned()?;
    let dir = to.folder(parent)?.ok_or(Errno::INVAL)?;
    let special = |kind, device| rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), device);
    match &entry.kind {
        Kind::File { .. } => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))?);
            loop {
                let piece = archive.data().map_err(io::Error::other)?;
                if piece.is_empty() {
                    return At::Open(file.as_fd()).set(attributes);
                }
                file.write_all(piece)?;
                let got = piece.len();
                archive.used(got);
            }
        }
        Kind::Directory => {
            rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700))?;
            return At::Open(walk::within(dir, name)?.ok_or(Errno::INVAL)?.as_fd()).set(attributes);
        }
        Kind::Symlink(target) => {
            rustix::fs::symlinkat(target.as_slice(), dir, name)?;
            return At::Link(dir, name).set(attributes);
        }
        Kind::Hardlink(target) => {
            let target = clean(target).ok_or(Errno::INVAL)?;
            let (above, first) = walk::split(&target);
            let source = walk::within(root.as_fd(), above)?.ok_or(Errno::INVAL)?;
            return Ok(rustix::fs::linkat(source, first, dir, name, AtFlags::empty())?);
        }
        Kind::Character(major, minor) => special(FileType::CharacterDevice, makedev(*major, *minor))?,
        Kind::Block(major, minor) => special(FileType::BlockDevice, makedev(*major, *minor))?,
        Kind::Fifo => special(FileType::Fifo, 0)?,
    }
    At::Named(dir, name).set(attributes)
}

fn attributes(entry: &Entry) -> Attributes {
    let (tv_sec, nanos) = entry.mtime;
    let at = Timespec { tv_sec, tv_nsec: i64::from(nanos) };
    let own = |name: &[u8]| {
        name.starts_with(b"user.") || name == b"security.capability" || name.starts_with(b"system.posix_acl_")
    };
    Attributes {
        uid: entry.uid,
        gid: entry.gid,
        mode: entry.mode,
        times: Timestamps { last_access: at, last_modification: at },
        xattrs: entry.xattrs.iter().filter(|(name, _)| own(name)).cloned().collect(),
    }
}

/// The path without empty parts and dots; one with `..` is none.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    (!parts.contains(&&b".."[..])).then(|| parts.join(&b'/'))
}
