//! Compares an unpacked layer with what its archive said.
//!
//! The archive is rebuilt and read like any other; each member is looked up where the record says it stands. Contents
//! count by their digest, attributes one by one, and whatever else lies in the directory is a stranger. Memory is a
//! number for each path and a bounded list of complaints.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::BuildHasher as _;
use std::io::{self, BufRead, Read};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat, makedev};
use rustix::io::Errno;

use super::extract::{clean, taken};
use super::rebuild::Rebuilt;
use super::split::{self, read_through};
use super::whiteout::{self, Mark};
use crate::image::error::{line, shown};
use crate::image::hash::Hasher;
use crate::model::Digest;
use crate::untar::{Archive, Entry, Kind};

/// Complaints after which a layer is damaged enough.
pub(super) const MOST: usize = 1000;
/// Paths named in one sentence.
const NAMED: usize = 3;

/// What is wrong with a layer, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::image) enum Damage {
    /// Nothing is known: an earlier version unpacked it, or its archive could not be recorded.
    Unknown,
    /// It is not what was unpacked.
    Found(String),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("it has no record to compare it with"),
            Self::Found(what) => f.write_str(what),
        }
    }
}

/// Reads a whole layer, contents and attributes, and compares it with what was unpacked.
pub(in crate::image) fn check(layer_dir: &Path, diff_id: &Digest) -> Result<(), Damage> {
    if !layer_dir.join(split::FILE).exists() {
        return Err(Damage::Unknown);
    }
    let unreadable = |error: io::Error| Damage::Found(line(&format!("it cannot be read: {error}"), 300));
    let rebuilt = Rebuilt::open(layer_dir, true).map_err(unreadable)?;
    let root = rebuilt.root().try_clone().map_err(unreadable)?;
    let mut archive = Archive::new(Hashing { input: rebuilt, hasher: Hasher::like(diff_id) });
    let mut checking = Checking { root, state: RandomState::new(), expected: HashSet::new(), wrong: BTreeMap::new() };
    checking.members(&mut archive).map_err(|e| Damage::Found(line(&format!("its record is damaged: {e}"), 300)))?;
    let mut hashing = archive.into_inner();
    hashing.drain().map_err(unreadable)?;
    let digest = hashing.hasher.finish();
    for (path, why) in hashing.input.into_wrong() {
        checking.wrong.insert(path, why);
    }
    checking.strangers().map_err(unreadable)?;
    match checking.sentence() {
        Some(sentence) => Err(Damage::Found(sentence)),
        None if digest != diff_id.as_str() => Err(Damage::Found(format!("its content is {digest}"))),
        None => Ok(()),
    }
}

struct Hashing {
    input: Rebuilt,
    hasher: Hasher,
}

impl Hashing {
    fn drain(&mut self) -> io::Result<()> {
        loop {
            let got = self.fill_buf()?.len();
            if got == 0 {
                return Ok(());
            }
            self.consume(got);
        }
    }
}

impl BufRead for Hashing {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }
    fn consume(&mut self, amount: usize) {
        // What is consumed is in the buffer, so this reads nothing.
        if let Ok(piece) = self.input.fill_buf() {
            self.hasher.update(&piece[..amount]);
        }
        self.input.consume(amount);
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_through(self, buffer)
    }
}

struct Checking {
    root: OwnedFd,
    state: RandomState,
    /// Paths that members made, as numbers.
    expected: HashSet<u64>,
    wrong: BTreeMap<Vec<u8>, String>,
}

impl Checking {
    fn members(&mut self, archive: &mut Archive<Hashing>) -> Result<(), Box<dyn std::error::Error>> {
        while let Some(entry) = archive.next()? {
            let Some(path) = archive.input().input.member()? else { continue };
            self.expect(&path);
            let rebuilt = &archive.input().input;
            if rebuilt.replaced(&path) {
                continue;
            }
            let replaced = |path: &[u8]| rebuilt.replaced(path);
            match self.compare(&entry, &path, &replaced) {
                // A later member may give a directory other attributes.
                Ok(()) => drop(self.wrong.remove(&path)),
                Err(why) if self.wrong.len() < MOST => drop(self.wrong.insert(path, why)),
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn expect(&mut self, path: &[u8]) {
        let mut path = path;
        while self.expected.insert(self.state.hash_one(path)) {
            let Some(slash) = path.iter().rposition(|b| *b == b'/') else { return };
            path = &path[..slash];
        }
    }

    /// Opens what stands at `path` without following or using it.
    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = if path.is_empty() { b"." } else { path };
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), how)
    }

    fn look(&self, path: &[u8]) -> Result<(OwnedFd, Stat), String> {
        let look = self.open(path).and_then(|fd| rustix::fs::fstat(&fd).map(|found| (fd, found)));
        look.map_err(|error| match error {
            Errno::NOENT => "it is gone".to_owned(),
            Errno::LOOP | Errno::NOTDIR => "something else stands in its way".to_owned(),
            other => format!("it cannot be looked at: {other}"),
        })
    }

    fn compare(&self, entry: &Entry, path: &[u8], replaced: &dyn Fn(&[u8]) -> bool) -> Result<(), String> {
        let parts = clean(&entry.path).unwrap_or_default();
        let (fd, found) = self.look(path)?;
        if whiteout::read(&parts) != Mark::Entry {
            return Ok(());
        }
        let kind = FileType::from_raw_mode(found.st_mode);
        let wanted = match &entry.kind {
            Kind::Hardlink(target) => return self.linked(&found, target, replaced),
            Kind::File { .. } => FileType::RegularFile,
            Kind::Directory => FileType::Directory,
            Kind::Symlink(_) => FileType::Symlink,
            Kind::Character(..) => FileType::CharacterDevice,
            Kind::Block(..) => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
        };
        if kind != wanted {
            return Err("it is of another kind".to_owned());
        }
        match &entry.kind {
            Kind::File { size } if u64::try_from(found.st_size) != Ok(*size) => {
                return Err("its size is not what was unpacked".to_owned());
            }
            Kind::Symlink(target) => {
                let leads = rustix::fs::readlinkat(&fd, "", Vec::new()).map_err(|e| e.to_string())?;
                if leads.as_bytes() != target {
                    return Err(format!("it leads to {}", shown(leads.as_bytes())));
                }
            }
            Kind::Character(major, minor) | Kind::Block(major, minor) if found.st_rdev != makedev(*major, *minor) => {
                return Err("it is another device".to_owned());
            }
            _ => {}
        }
        attributes(entry, &found)?;
        extended(entry, fd.as_fd())
    }

    fn linked(&self, found: &Stat, target: &[u8], replaced: &dyn Fn(&[u8]) -> bool) -> Result<(), String> {
        let target = clean(target).unwrap_or_default().join(&b'/');
        if replaced(&target) {
            return Ok(());
        }
        match self.look(&target) {
            Ok((_, other)) if (other.st_dev, other.st_ino) != (found.st_dev, found.st_ino) => {
                Err(format!("it is no longer the same file as {}", shown(&target)))
            }
            // The name may lead through links; the target itself is looked at where it stands.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// What lies in the directory although no member made it.
    fn strangers(&mut self) -> io::Result<()> {
        let mut ahead = vec![Vec::new()];
        while let Some(path) = ahead.pop() {
            let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let name: &[u8] = if path.is_empty() { b"." } else { &path };
            let fd = rustix::fs::openat2(&self.root, name, flags, Mode::empty(), how)?;
            for found in Dir::new(fd)? {
                let found = found?;
                let name = found.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                let below = if path.is_empty() { name.to_vec() } else { [&path, name].join(&b'/') };
                if !self.expected.contains(&self.state.hash_one(below.as_slice())) {
                    if self.wrong.len() < MOST {
                        self.wrong.insert(below, "it is not of the layer".to_owned());
                    }
                    continue;
                }
                let directory = match found.file_type() {
                    FileType::Unknown => self.look(&below).is_ok_and(|(_, stat)| is_directory(&stat)),
                    kind => kind == FileType::Directory,
                };
                if directory {
                    ahead.push(below);
                }
            }
        }
        Ok(())
    }

    fn sentence(&self) -> Option<String> {
        let named: Vec<_> = self.wrong.iter().take(NAMED).map(|(path, why)| format!("{}: {why}", name(path))).collect();
        let more = self.wrong.len().saturating_sub(NAMED);
        match (named.is_empty(), more) {
            (true, _) => None,
            (false, 0) => Some(named.join("; ")),
            (false, more) => Some(format!("{}; and {more} more", named.join("; "))),
        }
    }
}

fn name(path: &[u8]) -> String {
    if path.is_empty() { "its root".to_owned() } else { shown(path) }
}

fn is_directory(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Directory
}

fn attributes(entry: &Entry, found: &Stat) -> Result<(), String> {
    if (found.st_uid, found.st_gid) != (entry.uid, entry.gid) {
        return Err(format!("its owner is {}:{}", found.st_uid, found.st_gid));
    }
    let mode = found.st_mode & 0o7777;
    if mode != entry.mode && !matches!(entry.kind, Kind::Symlink(_)) {
        return Err(format!("its mode is {mode:04o}"));
    }
    let (seconds, nanos) = entry.mtime;
    // File systems cut off times that they cannot hold, and some know no fractions.
    let held = (0..1 << 31).contains(&seconds);
    let fraction = found.st_mtime_nsec;
    if held && (found.st_mtime != seconds || fraction != 0 && fraction != u64::from(nanos)) {
        return Err("its time is not what was unpacked".to_owned());
    }
    Ok(())
}

fn extended(entry: &Entry, fd: std::os::fd::BorrowedFd<'_>) -> Result<(), String> {
    if !matches!(entry.kind, Kind::File { .. } | Kind::Directory) {
        return Ok(());
    }
    // The last record of a name counts, as when it was set.
    let wanted: BTreeMap<_, _> = entry.xattrs.iter().filter(|(name, _)| taken(name)).map(|(n, v)| (n, v)).collect();
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    for (name, value) in wanted {
        let mut there = vec![0; value.len() + 1];
        let same =
            rustix::fs::getxattr(&path, name.as_slice(), &mut there[..]).is_ok_and(|got| there[..got] == **value);
        if !same {
            return Err(format!("its attribute {} is not what was unpacked", shown(name)));
        }
    }
    Ok(())
}
