//! A folder gone through while others may be changing it: every step is taken by descriptor, no link is followed, and nothing
//! leads out of it or onto another file system.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Something in the folder.
pub(super) struct Found<'a> {
    /// The folder that it is in.
    pub dir: BorrowedFd<'a>,
    pub name: &'a CString,
    /// Its path from the beginning.
    pub path: &'a [u8],
    pub stat: Stat,
}

impl Found<'_> {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// What tells that two names are one file.
    pub(super) fn identity(&self) -> Option<(u64, u64)> {
        (self.stat.st_nlink > 1 && self.kind() != FileType::Directory).then_some((self.stat.st_dev, self.stat.st_ino))
    }

    /// What it takes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.stat.st_blocks).unwrap_or(0) * 512
    }

    /// Opens it for reading, unless it has become something else: a device is never opened.
    pub(super) fn open(&self) -> io::Result<Option<OwnedFd>> {
        let held = match rustix::fs::openat(
            self.dir,
            self.name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Ok(held) => held,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&held)?.st_mode) != self.kind() {
            return Ok(None);
        }
        let path = format!("/proc/self/fd/{}", held.as_raw_fd());
        Ok(Some(rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?))
    }
}

/// Opens a folder by its path.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, FOLDER, Mode::empty())?)
}

/// Goes through all that is in a folder, each before what is in it, in the order of names. What vanishes meanwhile is left out.
pub(super) fn walk(root: BorrowedFd<'_>, visit: &mut dyn FnMut(&Found<'_>) -> io::Result<()>) -> io::Result<()> {
    let mut ahead: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(path) = ahead.pop() {
        let Some(dir) = within(root, &path)? else { continue };
        let first = ahead.len();
        for name in names(&dir)? {
            let stat = match rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let path = joined(&path, name.as_bytes());
            let found = Found { dir: dir.as_fd(), name: &name, path: &path, stat };
            visit(&found)?;
            if found.kind() == FileType::Directory {
                ahead.push(path);
            }
        }
        ahead[first..].reverse();
    }
    Ok(())
}

/// Bytes on the disk, a file with many names once, and the number of files.
pub(super) fn measure(root: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let (mut bytes, mut files) = (0, 0);
    let mut seen = std::collections::HashSet::new();
    walk(root, &mut |found| {
        if found.identity().is_none_or(|identity| seen.insert(identity)) {
            bytes += found.bytes();
            files += 1;
        }
        Ok(())
    })?;
    Ok((bytes, files))
}

fn names(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A folder below another, without links on the way. None: it is no more, or something is mounted there.
pub(super) fn within(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<Option<OwnedFd>> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    match rustix::fs::openat2(root, path, FOLDER, Mode::empty(), how) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A path of parts.
pub(super) fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// A folder that is being filled. The last one that was entered is kept open, because names come folder by folder.
pub(super) struct Inside {
    root: OwnedFd,
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Inside {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { root: open(path)?, last: None })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The folder with this path. None: there is none, or a link or something else is on the way.
    pub(super) fn folder(&mut self, path: &[u8]) -> io::Result<Option<BorrowedFd<'_>>> {
        if self.last.as_ref().is_none_or(|(known, _)| known != path) {
            self.last = within(self.root.as_fd(), path)?.map(|fd| (path.to_vec(), fd));
        }
        Ok(self.last.as_ref().map(|(_, fd)| fd.as_fd()))
    }
}

/// A path's folder and its last part.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}
