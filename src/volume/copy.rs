//! A folder copied: owners, modes, times, extended attributes, hard links, holes, FIFOs and devices. Sockets are left out, because
//! nobody listens at a copy. Blocks are shared where the file system can.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Timestamps};
use rustix::io::Errno;

use super::attributes::{At, times};
use super::walk::{self, Found, Inside};

/// Bytes between two words about the progress.
const PIECE: u64 = 8 << 20;

/// Copies what is in `from`, and its own attributes, into the empty folder `to`. `progress` hears of bytes done and bytes in all.
/// Not yet on the disk when it returns: see [`settle`].
pub(super) fn copy(from: &Path, to: &Path, progress: &dyn Fn(u64, u64)) -> io::Result<u64> {
    let source = walk::open(from)?;
    let (all, _) = walk::measure(source.as_fd())?;
    progress(0, all);
    let mut copy = Copy {
        to: Inside::open(to)?,
        links: HashMap::new(),
        folders: Vec::new(),
        done: 0,
        all,
        progress,
        clones: true,
        ranges: true,
    };
    walk::walk(source.as_fd(), &mut |found| copy.one(found))?;
    for (path, times) in copy.folders.iter().rev() {
        let folder = copy.to.folder(path)?.ok_or(Errno::NOENT)?;
        rustix::fs::futimens(folder, times)?;
    }
    let attributes = At::Open(source.as_fd()).read(&rustix::fs::fstat(&source)?)?;
    At::Open(copy.to.root()).set(&attributes)?;
    progress(all, all);
    Ok(all)
}

/// On the disk when it returns, with all else on its file system.
pub(super) fn settle(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(walk::open(folder)?)?)
}

struct Copy<'a> {
    to: Inside,
    /// Where files with further names are.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Filling a folder changes its times: they are set at the end.
    folders: Vec<(Vec<u8>, Timestamps)>,
    done: u64,
    all: u64,
    progress: &'a dyn Fn(u64, u64),
    /// Whether the file system shares blocks.
    clones: bool,
    /// Whether the kernel copies for us.
    ranges: bool,
}

impl Copy<'_> {
    fn one(&mut self, found: &Found<'_>) -> io::Result<()> {
        let (parent, name) = walk::split(found.path);
        if let Some(first) = found.identity().and_then(|identity| self.links.get(&identity)).cloned() {
            let root = self.to.root().try_clone_to_owned()?;
            let folder = self.to.folder(parent)?.ok_or(Errno::NOENT)?;
            return Ok(rustix::fs::linkat(root, first.as_slice(), folder, name, AtFlags::empty())?);
        }
        let made = match found.kind() {
            FileType::RegularFile => self.file(found, parent, name)?,
            FileType::Directory => self.folder(found, parent, name)?,
            FileType::Symlink => self.link(found, parent, name)?,
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => self.special(found, parent, name)?,
            FileType::Socket | FileType::Unknown => false,
        };
        if let (true, Some(identity)) = (made, found.identity()) {
            self.links.insert(identity, found.path.to_vec());
        }
        Ok(())
    }

    fn file(&mut self, found: &Found<'_>, parent: &[u8], name: &[u8]) -> io::Result<bool> {
        let Some(from) = found.open()? else { return Ok(false) };
        let stat = rustix::fs::fstat(&from)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = self.to.folder(parent)?.ok_or(Errno::NOENT)?;
        let to = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600))?;
        let before = self.done;
        self.content(&from, &to, u64::try_from(stat.st_size).unwrap_or(0))?;
        At::Open(to.as_fd()).set(&At::Open(from.as_fd()).read(&stat)?)?;
        self.done = before;
        self.step(found.bytes());
        Ok(true)
    }

    fn folder(&mut self, found: &Found<'_>, parent: &[u8], name: &[u8]) -> io::Result<bool> {
        let Some(from) = found.open()? else { return Ok(false) };
        let stat = rustix::fs::fstat(&from)?;
        let folder = self.to.folder(parent)?.ok_or(Errno::NOENT)?;
        rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o700))?;
        let to = rustix::fs::openat(folder, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        At::Open(to.as_fd()).set(&At::Open(from.as_fd()).read(&stat)?)?;
        self.folders.push((found.path.to_vec(), times(&stat)));
        Ok(true)
    }

    fn link(&mut self, found: &Found<'_>, parent: &[u8], name: &[u8]) -> io::Result<bool> {
        let target = match rustix::fs::readlinkat(found.dir, found.name, Vec::new()) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::INVAL) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let folder = self.to.folder(parent)?.ok_or(Errno::NOENT)?;
        rustix::fs::symlinkat(target, folder, name)?;
        let attributes = At::Link(found.dir, found.name.as_bytes()).read(&found.stat)?;
        At::Link(folder, name).set(&attributes)?;
        Ok(true)
    }

    fn special(&mut self, found: &Found<'_>, parent: &[u8], name: &[u8]) -> io::Result<bool> {
        let folder = self.to.folder(parent)?.ok_or(Errno::NOENT)?;
        rustix::fs::mknodat(folder, name, found.kind(), Mode::from_raw_mode(0o600), found.stat.st_rdev)?;
        let attributes = At::Named(found.dir, found.name.as_bytes()).read(&found.stat)?;
        At::Named(folder, name).set(&attributes)?;
        Ok(true)
    }

    /// The bytes of a file, of the size that it had when this began; holes stay holes.
    fn content(&mut self, from: &OwnedFd, to: &OwnedFd, size: u64) -> io::Result<()> {
        if size == 0 {
            return Ok(());
        }
        if self.clones {
            match rustix::fs::ioctl_ficlone(to, from) {
                Ok(()) => return Ok(()),
                Err(error @ (Errno::NOSPC | Errno::DQUOT)) => return Err(error.into()),
                Err(_) => self.clones = false,
            }
        }
        let mut at = 0;
        while at < size {
            let data = match rustix::fs::seek(from, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(Errno::NXIO) => break,
                // A file system that knows no holes.
                Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                    self.range(from, to, at, size)?;
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            let hole = match rustix::fs::seek(from, SeekFrom::Hole(data)) {
                Ok(hole) => hole.min(size),
                Err(Errno::NXIO) => break,
                Err(error) => return Err(error.into()),
            };
            self.range(from, to, data, hole)?;
            at = hole.max(data + 1);
        }
        Ok(rustix::fs::ftruncate(to, size)?)
    }

    fn range(&mut self, from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> io::Result<()> {
        let mut at = start;
        while at < end {
            let want = usize::try_from((end - at).min(PIECE)).unwrap_or(usize::MAX);
            let copied = self.piece(from.as_fd(), to.as_fd(), at, want)?;
            if copied == 0 {
                break;
            }
            at += copied as u64;
            self.step(copied as u64);
        }
        Ok(())
    }

    fn piece(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, at: u64, want: usize) -> io::Result<usize> {
        if self.ranges {
            let (mut read, mut written) = (at, at);
            match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), want) {
                Ok(0) => {}
                Ok(copied) => return Ok(copied),
                Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => self.ranges = false,
                Err(error) => return Err(error.into()),
            }
        }
        let mut buffer = vec![0; want.min(256 << 10)];
        let got = rustix::io::pread(from, &mut buffer, at)?;
        let mut rest = &buffer[..got];
        let mut place = at;
        while !rest.is_empty() {
            let put = rustix::io::pwrite(to, rest, place)?;
            rest = &rest[put..];
            place += put as u64;
        }
        Ok(got)
    }

    fn step(&mut self, bytes: u64) {
        self.done += bytes;
        (self.progress)(self.done.min(self.all), self.all);
    }
}
