//! A tar archive becomes what an empty or new volume holds: whole, or not at all. Archives lie: no link is followed, nothing leads out.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, makedev};
use rustix::io::Errno;

use super::attributes::{At, Attributes};
use super::error::{VolumeError, disk};
use super::front::{Volumes, empty};
use super::walk::{self, Inside};
use crate::model::VolumeName;
use crate::untar::{Archive, Entry, Kind, TarError};

impl Volumes {
    /// Reads an archive, plain or compressed by gzip or zstd, into a new or empty volume; with `Onto::Anything` also in the place of
    /// what another one holds. `free` is asked where no start can come in between.
    pub fn import(
        &self,
        name: &VolumeName,
        mut from: impl Read + Send,
        onto: Onto,
        free: &dyn Fn() -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        let inner = &self.0;
        let failed = disk("unpacking an archive", &inner.folder(name));
        let free = || {
            free()?;
            let empty = || empty(&inner.data(name)).map_err(disk("looking into a volume", &inner.data(name)));
            match (onto, inner.made(name)) {
                (Onto::Nothing, Ok(_)) if !empty()? => Err(VolumeError::NotEmpty { name: name.clone() }),
                _ => Ok(()),
            }
        };
        inner.replace(name, (".import", "nothing is imported into it"), &free, &mut |to| {
            let mut all = plain(&mut from)?;
            unpack(to, &mut all, &failed)?;
            // What was compressed is checked at its end.
            io::copy(&mut all, &mut io::sink()).map(drop).map_err(unread)
        })
    }
}

/// What an import may take the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onto {
    /// Of nothing.
    Nothing,
    /// Of whatever the volume holds.
    Anything,
}

/// The archive as it was before somebody compressed it.
fn plain<'a>(mut from: &'a mut (dyn Read + Send)) -> Result<Box<dyn Read + 'a>, VolumeError> {
    let mut begin = Vec::new();
    (&mut from).take(4).read_to_end(&mut begin).map_err(unread)?;
    if begin.is_empty() {
        return Err(VolumeError::NoArchive);
    }
    let (gzip, zstd) = (begin.starts_with(&[0x1f, 0x8b]), begin == [0x28, 0xb5, 0x2f, 0xfd]);
    let all = BufReader::with_capacity(256 << 10, io::Cursor::new(begin).chain(from));
    Ok(match (gzip, zstd) {
        (true, _) => Box::new(MultiGzDecoder::new(all)),
        (_, true) => Box::new(zstd::Decoder::with_buffer(all).map_err(unread)?),
        (false, false) => Box::new(all),
    })
}

fn unread(source: io::Error) -> VolumeError {
    VolumeError::Archive(TarError::Read(source))
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
        let done = one(&mut to, &entry, &path, &attributes, &mut archive);
        done.map_err(|error| match error.downcast::<TarError>() {
            Ok(error) => VolumeError::Archive(error),
            Err(error) => match error.kind() {
                io::ErrorKind::AlreadyExists => refused("it is there twice"),
                io::ErrorKind::InvalidInput => refused("its folder or its link is no folder or file of the archive"),
                _ => failed(error),
            },
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
    if to.folder(parent)?.is_none() {
        folders_above(root.as_fd(), parent)?;
    }
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
            made(rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)))?;
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

/// Archives may name a file without its folders.
fn folders_above(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<()> {
    let mut above = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        let dir = walk::within(root, &above)?.ok_or(Errno::INVAL)?;
        made(rustix::fs::mkdirat(dir, part, Mode::from_raw_mode(0o755)))?;
        above = walk::joined(&above, part);
    }
    Ok(())
}

/// A folder may be there before its own member comes.
fn made(done: rustix::io::Result<()>) -> io::Result<()> {
    match done {
        Err(Errno::EXIST) => Ok(()),
        done => Ok(done?),
    }
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
