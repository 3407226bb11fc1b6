//! The upper directory, gone through beside the layers below it.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

use super::lower::{Lower, Was, has, is_whiteout};
use crate::tree::{Reach, listed};

/// Each level holds a descriptor.
const DEEPEST: usize = 200;

/// Something that is not as below.
pub(super) struct Item {
    /// Without a slash before it.
    pub path: Vec<u8>,
    pub sort: Sort,
}

/// How it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// It is gone.
    Gone,
    /// Nothing was there.
    New,
    /// Something was there.
    Replaced,
    /// A folder was there, and of what was in it nothing is to be seen.
    Emptied,
}

pub(super) struct Walk<'a> {
    pub lower: Lower<'a>,
    pub reach: &'a Reach,
    /// Where things are mounted.
    pub places: Vec<Vec<u8>>,
}

/// Paths as they are compared: without empty parts, dots and the first slash.
pub(super) fn parts_of(paths: &[String]) -> Vec<Vec<u8>> {
    let clean = |path: &String| {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        parts.join("/").into_bytes()
    };
    paths.iter().map(clean).collect()
}

impl Walk<'_> {
    /// Each folder comes before what is in it.
    pub(super) fn run(&self, upper: &OwnedFd) -> io::Result<Vec<Item>> {
        let mut items = Vec::new();
        self.folder(upper, &[], &self.lower.all(), &mut items, 0)?;
        Ok(items)
    }

    fn folder(
        &self,
        dir: &OwnedFd,
        path: &[u8],
        below: &[usize],
        items: &mut Vec<Item>,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEEPEST {
            let path = String::from_utf8_lossy(path).chars().take(200).collect::<String>();
            return Err(io::Error::other(format!("/{path}… lies deeper than {DEEPEST} folders")));
        }
        for name in listed(dir)? {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let held = match openat(dir, &name, flags, Mode::empty()) {
                Ok(held) => held,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let path = if path.is_empty() { name.into_bytes() } else { [path, b"/", name.as_bytes()].concat() };
            self.one(held, path, below, items, depth)?;
        }
        Ok(())
    }

    fn one(
        &self,
        held: OwnedFd,
        path: Vec<u8>,
        below: &[usize],
        items: &mut Vec<Item>,
        depth: usize,
    ) -> io::Result<()> {
        let stat = fstat(&held)?;
        let was = self.lower.was(&path, below)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory {
            let sort = match (is_whiteout(&held, &stat, self.reach)?, &was) {
                (true, Was::Nothing) => return Ok(()),
                (true, _) => Sort::Gone,
                // Made so that something can be mounted on it.
                (false, Was::Nothing) if stat.st_size == 0 && self.places.contains(&path) => return Ok(()),
                (false, Was::Nothing) => Sort::New,
                (false, _) => Sort::Replaced,
            };
            items.push(Item { path, sort });
            return Ok(());
        }
        let dir = self.reach.reopen(held.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let first = items.len();
        let opaque = has(&held, self.reach, "trusted.overlay.opaque", Some(b"y"))?;
        drop(held);
        let (sort, below) = match &was {
            Was::Nothing => (Sort::New, &[][..]),
            Was::Other => (Sort::Replaced, &[][..]),
            Was::Folder(layers, _) if opaque => (Sort::Emptied, layers.as_slice()),
            Was::Folder(layers, _) => (Sort::Replaced, layers.as_slice()),
        };
        items.push(Item { path: path.clone(), sort });
        self.folder(&dir, &path, below, items, depth + 1)?;
        if let (Sort::Emptied, Was::Folder(layers, _)) = (sort, &was) {
            self.emptied(&dir, &path, layers, items)?;
        }
        if items.len() == first + 1 && !self.counts(&path, &stat, &was, opaque) {
            items.truncate(first);
        }
        Ok(())
    }

    /// What an opaque folder hides and does not have itself is gone.
    fn emptied(&self, dir: &OwnedFd, path: &[u8], layers: &[usize], items: &mut Vec<Item>) -> io::Result<()> {
        let here = listed(dir)?;
        for name in self.lower.names(path, layers)? {
            let path = [path, b"/", name.as_bytes()].concat();
            if !here.contains(&name) && !matches!(self.lower.was(&path, layers)?, Was::Nothing) {
                items.push(Item { path, sort: Sort::Gone });
            }
        }
        Ok(())
    }

    /// Whether a folder in which nothing differs is itself another one.
    fn counts(&self, path: &[u8], stat: &Stat, was: &Was, opaque: bool) -> bool {
        let on_the_way = self.places.iter().any(|place| {
            place == path || place.strip_prefix(path).is_some_and(|rest| path.is_empty() || rest.starts_with(b"/"))
        });
        match was {
            Was::Nothing => !on_the_way,
            Was::Other => true,
            Was::Folder(_, below) => {
                let look = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
                let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
                opaque || look(stat) != look(below) || (time(stat) != time(below) && !on_the_way)
            }
        }
    }
}
