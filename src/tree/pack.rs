//! A tree into an archive. Every step is taken by descriptor: no link is followed, no device opened, and what is swapped meanwhile is
//! left out or told as what it has become. Sockets are left out: nobody listens at a copy.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tar::EntryType;

use super::reach::{Reach, mount_of};
use super::write::{Head, Writer};

/// Each level holds a descriptor; nobody nests folders deeper by accident.
const DEEPEST: usize = 400;
const PIECE: usize = 256 << 10;
/// A file that says it is empty may be one that the kernel makes when it is read: so much of it is. It may be shorter than it says, too:
/// what is small is read before it is announced.
const MADE: u64 = 4 << 20;
/// Longest list or value of attributes that the kernel gives.
const ATTRIBUTES: usize = 64 << 10;

/// Why an archive is not whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// The file, as the archive calls it.
    #[error("{} cannot be read", String::from_utf8_lossy(path))]
    Read { path: Vec<u8>, source: io::Error },
    /// Too many folders in each other.
    #[error("{} lies deeper than {DEEPEST} folders", String::from_utf8_lossy(path))]
    Deep { path: Vec<u8> },
    /// Whoever takes the archive takes no more of it.
    #[error("the archive cannot be written")]
    Write(#[source] io::Error),
}

/// How a tree is packed.
pub(crate) struct Packing<'a> {
    pub reach: &'a Reach,
    /// Whether to go on in a folder, or a file, that something is mounted on.
    pub enter: &'a dyn Fn(BorrowedFd<'_>, &Stat) -> bool,
    /// Extended attributes too.
    pub attributes: bool,
}

/// An archive in the making.
pub(crate) struct Packer<'a, W> {
    out: Writer<W>,
    how: &'a Packing<'a>,
    /// Where files with further names are.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<'a, W: Write> Packer<'a, W> {
    pub(crate) fn new(out: W, how: &'a Packing<'a>) -> Self {
        Self { out: Writer::new(out), how, links: HashMap::new() }
    }

    /// Packs what `from` (opened by `O_PATH`) is, with all that is in it, under this name; `.`, or nothing at all, means: what is
    /// in it.
    pub(crate) fn tree(&mut self, from: BorrowedFd<'_>, name: &[u8]) -> Result<(), PackError> {
        let held = from.try_clone_to_owned().map_err(failed(name))?;
        self.one(&held, name.to_vec(), None, 0)
    }

    /// Packs it without what is in it.
    pub(crate) fn single(&mut self, held: &OwnedFd, path: Vec<u8>) -> Result<(), PackError> {
        let fail = failed(&path);
        let stat = rustix::fs::fstat(held).map_err(|e| fail(e.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return self.one(held, path, None, 0);
        }
        let mount = mount_of(held).map_err(&fail)?;
        self.folder(held, path, &stat, (mount, true), 0)
    }

    /// An empty file that means something by its name.
    pub(crate) fn mark(&mut self, path: Vec<u8>) -> Result<(), PackError> {
        self.head(&Head::mark(path))
    }

    /// The end of the archive: one without it is not whole.
    pub(crate) fn finish(self) -> Result<(), PackError> {
        self.out.finish().map_err(PackError::Write)
    }

    /// `above`: the mount of the folder that it is in; none for the first one, which is packed whatever it is.
    fn one(&mut self, held: &OwnedFd, path: Vec<u8>, above: Option<u64>, depth: usize) -> Result<(), PackError> {
        let fail = failed(&path);
        let stat = rustix::fs::fstat(held).map_err(|e| fail(e.into()))?;
        let mount = mount_of(held).map_err(&fail)?;
        let closed = above.is_some_and(|above| above != mount) && !(self.how.enter)(held.as_fd(), &stat);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.folder(held, path, &stat, (mount, closed), depth),
            FileType::RegularFile if closed => self.empty(path, &stat),
            FileType::RegularFile => self.file(held, path, &stat),
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(held, "", Vec::new()).map_err(|e| fail(e.into()))?.into_bytes();
                self.head(&Head { link, ..Head::of(path, EntryType::Symlink, &stat) })
            }
            kind @ (FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice) => {
                let entry = match kind {
                    FileType::Fifo => EntryType::Fifo,
                    FileType::CharacterDevice => EntryType::Char,
                    _ => EntryType::Block,
                };
                self.head(&Head { device: stat.st_rdev, ..Head::of(path, entry, &stat) })
            }
            FileType::Socket | FileType::Unknown => Ok(()),
        }
    }

    fn folder(
        &mut self,
        held: &OwnedFd,
        path: Vec<u8>,
        stat: &Stat,
        (mount, closed): (u64, bool),
        depth: usize,
    ) -> Result<(), PackError> {
        if depth > DEEPEST {
            return Err(PackError::Deep { path });
        }
        let fail = failed(&path);
        let dir = self.how.reach.reopen(held.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(&fail)?;
        let prefix = if path.is_empty() { Vec::new() } else { [&path, &b"/"[..]].concat() };
        if !prefix.is_empty() {
            let xattrs = self.xattrs(&dir).map_err(&fail)?;
            self.head(&Head { xattrs, ..Head::of(prefix.clone(), EntryType::Directory, stat) })?;
        }
        if closed {
            return Ok(());
        }
        for name in listed(&dir).map_err(&fail)? {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let child = match rustix::fs::openat(&dir, &name, flags, Mode::empty()) {
                Ok(child) => child,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(fail(error.into())),
            };
            self.one(&child, [&prefix, name.as_bytes()].concat(), Some(mount), depth + 1)?;
        }
        Ok(())
    }

    fn file(&mut self, held: &OwnedFd, path: Vec<u8>, stat: &Stat) -> Result<(), PackError> {
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&identity) {
                return self.head(&Head { link: first.clone(), ..Head::of(path, EntryType::Link, stat) });
            }
            self.links.insert(identity, path.clone());
        }
        let fail = failed(&path);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut file = File::from(self.how.reach.reopen(held.as_fd(), flags).map_err(&fail)?);
        let xattrs = self.xattrs(&file).map_err(&fail)?;
        let mut head = Head { xattrs, ..Head::of(path, EntryType::Regular, stat) };
        head.size = u64::try_from(stat.st_size).unwrap_or(0);
        if head.size <= PIECE as u64 {
            let most = if head.size == 0 { MADE } else { head.size };
            let mut made = Vec::new();
            file.take(most).read_to_end(&mut made).map_err(&fail)?;
            head.size = made.len() as u64;
            self.head(&head)?;
            return self.out.data(&made).and_then(|()| self.out.pad(head.size)).map_err(PackError::Write);
        }
        self.head(&head)?;
        let (mut left, mut piece) = (head.size, vec![0; PIECE]);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let got = match file.read(&mut piece[..most]) {
                // A file that shrinks meanwhile ends in zeros.
                Ok(0) => {
                    piece[..most].fill(0);
                    most
                }
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(fail(error)),
            };
            self.out.data(&piece[..got]).map_err(PackError::Write)?;
            left -= got as u64;
        }
        self.out.pad(head.size).map_err(PackError::Write)
    }

    fn empty(&mut self, path: Vec<u8>, stat: &Stat) -> Result<(), PackError> {
        self.head(&Head::of(path, EntryType::Regular, stat))
    }

    fn head(&mut self, head: &Head) -> Result<(), PackError> {
        self.out.head(head).map_err(PackError::Write)
    }

    fn xattrs(&self, fd: impl std::os::fd::AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if self.how.attributes { read(fd.as_fd()) } else { Ok(Vec::new()) }
    }
}

fn failed(path: &[u8]) -> impl Fn(io::Error) -> PackError + use<> {
    let path = path.to_vec();
    move |source| PackError::Read { path: path.clone(), source }
}

/// The names in a folder, in order.
pub(crate) fn listed(dir: &OwnedFd) -> io::Result<Vec<CString>> {
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

/// Attributes that belong to a file wherever it is: labels are the place's, `trusted` is the file system's.
pub(super) fn travels(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability" || name.starts_with(b"system.posix_acl_")
}

fn read(fd: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut buffer = vec![0; ATTRIBUTES];
    let length = match rustix::fs::flistxattr(fd, &mut buffer[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP | Errno::NOENT | Errno::PERM) => 0,
        Err(error) => return Err(error.into()),
    };
    let names: Vec<Vec<u8>> = buffer[..length].split(|b| *b == 0).filter(|n| travels(n)).map(<[u8]>::to_vec).collect();
    let mut found = Vec::new();
    for name in names {
        match rustix::fs::fgetxattr(fd, name.as_slice(), &mut buffer[..]) {
            Ok(length) => found.push((name, buffer[..length].to_vec())),
            // Taken away meanwhile, or not for us.
            Err(Errno::NODATA | Errno::NOENT | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}
