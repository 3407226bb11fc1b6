//! Applies the members of one layer to its directory, in overlayfs' form.
//!
//! Order matters and is kept: a whiteout speaks only of lower layers, so it never hides what this layer brings, before
//! or after it; a directory that takes the place of something else is opaque. Owners are set before modes, because
//! chown(2) clears set-uid; times of directories come last, because filling them changes them.

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, makedev};
use rustix::io::Errno;

use super::tar::{Archive, Entry, Kind};
use super::tree::{self, Parent, Tree};
use super::whiteout::{self, Mark};
use crate::image::error::{LayerError, shown};
use crate::image::settings::Limits;

/// Longest name of a member, as the kernel's own PATH_MAX without its NUL.
const PATH: usize = 4095;
/// Bytes of directory names held for the times set at the end.
const DIRECTORY_NAMES: usize = 64 << 20;

/// Name and value of an extended attribute.
type Xattr<'e> = (&'e [u8], &'e [u8]);

/// What was found out while a layer was applied.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::image) struct Facts {
    /// The layer hides all layers below it. Overlayfs has no mark for that on a root.
    pub(in crate::image) opaque_root: bool,
}

/// Applies members one by one.
pub(in crate::image) struct Extractor<'a> {
    tree: Tree,
    limits: &'a Limits,
    facts: Facts,
    entries: u64,
    directories: Vec<(Vec<u8>, Timestamps)>,
    directory_names: usize,
    buffer: Vec<u8>,
}

impl<'a> Extractor<'a> {
    pub(in crate::image) fn new(tree: Tree, limits: &'a Limits) -> Self {
        Self {
            tree,
            limits,
            facts: Facts::default(),
            entries: 0,
            directories: Vec::new(),
            directory_names: 0,
            buffer: vec![0; 128 << 10],
        }
    }

    /// Applies all members and then the directories' times.
    pub(in crate::image) fn run<R: Read>(mut self, archive: &mut Archive<R>) -> Result<Facts, LayerError> {
        while let Some(entry) = archive.next()? {
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(LayerError::Entries { limit: self.limits.entries });
            }
            self.apply(&entry, archive)?;
        }
        self.finish_directories()?;
        Ok(self.facts)
    }

    fn apply<R: Read>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<(), LayerError> {
        let parts = clean(&entry.path)?;
        let Some((name, parents)) = parts.split_last() else { return self.root(entry) };
        let io = |source: Errno| LayerError::Member { path: shown(&entry.path), source: source.into() };
        match whiteout::read(&parts) {
            Mark::Skip => Ok(()),
            Mark::Trap => Err(refuse(entry, "it is a whiteout of nothing, of its own directory or of a parent")),
            Mark::Opaque => self.opaque(parents).map_err(io),
            Mark::Gone(gone) => self.gone(parents, gone).map_err(io),
            Mark::Entry => {
                let parent = self.tree.made(parents).map_err(io)?;
                self.member(entry, &parts, &parent, name, archive)
            }
        }
    }

    /// The root of the layer itself: only its attributes are taken.
    fn root(&mut self, entry: &Entry) -> Result<(), LayerError> {
        if entry.kind != Kind::Directory {
            return Err(refuse(entry, "it would take the place of the root"));
        }
        let root = self.tree.root();
        self.attributes(entry, &*root)?;
        self.remember(entry, &[])
    }

    fn opaque(&mut self, parents: &[&[u8]]) -> Result<(), Errno> {
        let Some((name, above)) = parents.split_last() else {
            self.facts.opaque_root = true;
            return Ok(());
        };
        self.tree.made(parents)?;
        let parent = self.tree.made(above)?;
        match tree::stat(&parent, name)? {
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                tree::set_opaque(&parent, name)
            }
            // The name is a link: the mark belongs to the directory it leads to, inside the root.
            Some(_) | None => {
                let target = self.tree.made(parents)?;
                tree::set_opaque(&target, b".")
            }
        }
    }

    fn gone(&mut self, parents: &[&[u8]], name: &[u8]) -> Result<(), Errno> {
        let parent = self.tree.made(parents)?;
        match tree::stat(&parent, name)? {
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                tree::set_opaque(&parent, name)
            }
            Some(_) => Ok(()),
            None => rustix::fs::mknodat(&*parent, name, FileType::CharacterDevice, Mode::empty(), 0),
        }
    }

    fn member<R: Read>(
        &mut self,
        entry: &Entry,
        parts: &[&[u8]],
        parent: &Parent,
        name: &[u8],
        archive: &mut Archive<R>,
    ) -> Result<(), LayerError> {
        let io = |source: Errno| LayerError::Member { path: shown(&entry.path), source: source.into() };
        match &entry.kind {
            Kind::Directory => {
                self.directory(parent, name).map_err(io)?;
                let dir = tree::open_directory(parent, name).map_err(io)?;
                self.attributes(entry, dir.as_fd())?;
                return self.remember(entry, parts);
            }
            Kind::Hardlink(target) => return self.hardlink(entry, target, parent, name),
            Kind::File { .. } | Kind::Symlink(_) | Kind::Character(..) | Kind::Block(..) | Kind::Fifo => {}
        }
        self.make_way(parent, name).map_err(io)?;
        let special = |kind, device| rustix::fs::mknodat(&**parent, name, kind, Mode::empty(), device);
        match &entry.kind {
            Kind::File { .. } => return self.file(entry, parent, name, archive),
            Kind::Symlink(target) => rustix::fs::symlinkat(target.as_slice(), &**parent, name).map_err(io)?,
            // This device is how overlayfs says "gone": an image must not speak its language.
            Kind::Character(0, 0) => {
                return Err(refuse(entry, "it is the device 0:0, which overlayfs reads as a whiteout"));
            }
            Kind::Character(major, minor) => {
                special(FileType::CharacterDevice, makedev(*major, *minor)).map_err(io)?;
            }
            Kind::Block(major, minor) => special(FileType::BlockDevice, makedev(*major, *minor)).map_err(io)?,
            Kind::Fifo => special(FileType::Fifo, 0).map_err(io)?,
            Kind::Directory | Kind::Hardlink(_) => {}
        }
        self.named_attributes(entry, parent, name)
    }

    fn directory(&mut self, parent: &Parent, name: &[u8]) -> Result<(), Errno> {
        match tree::stat(parent, name)? {
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => Ok(()),
            Some(found) => {
                self.tree.discard(parent, name, &found)?;
                tree::make_directory(parent, name)?;
                tree::set_opaque(parent, name)
            }
            None => tree::make_directory(parent, name),
        }
    }

    fn make_way(&mut self, parent: &Parent, name: &[u8]) -> Result<(), Errno> {
        match tree::stat(parent, name)? {
            Some(found) => self.tree.discard(parent, name, &found),
            None => Ok(()),
        }
    }

    fn file<R: Read>(
        &mut self,
        entry: &Entry,
        parent: &Parent,
        name: &[u8],
        archive: &mut Archive<R>,
    ) -> Result<(), LayerError> {
        let failed = |source| LayerError::Member { path: shown(&entry.path), source };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&**parent, name, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(fd.map_err(|e| failed(e.into()))?);
        loop {
            let got = archive.data(&mut self.buffer)?;
            if got == 0 {
                break;
            }
            file.write_all(&self.buffer[..got]).map_err(failed)?;
        }
        self.attributes(entry, file.as_fd())?;
        rustix::fs::futimens(&file, &times(entry)).map_err(|e| failed(e.into()))
    }

    /// Nothing but the name is made: owner and mode belong to the target (CVE-2021-32760).
    fn hardlink(&mut self, entry: &Entry, target: &[u8], parent: &Parent, name: &[u8]) -> Result<(), LayerError> {
        let io = |source: Errno| LayerError::Member { path: shown(&entry.path), source: source.into() };
        let parts = clean(target)?;
        let Some((from, above)) = parts.split_last() else {
            return Err(refuse(entry, "it is a hard link to the root"));
        };
        let missing = || refuse(entry, "it is a hard link to something that is not in its layer");
        let source = match self.tree.existing(above) {
            Ok(source) => source,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(missing()),
            Err(error) => return Err(io(error)),
        };
        let found = tree::stat(&source, from).map_err(io)?.filter(|f| !tree::is_whiteout(f)).ok_or_else(missing)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            return Err(refuse(entry, "it is a hard link to a directory"));
        }
        if let Some(there) = tree::stat(parent, name).map_err(io)? {
            if (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino) {
                return Ok(());
            }
            self.tree.discard(parent, name, &there).map_err(io)?;
        }
        rustix::fs::linkat(&*source, *from, &**parent, name, AtFlags::empty()).map_err(|e| match e {
            Errno::NOENT => missing(),
            other => io(other),
        })
    }

    /// Owner, extended attributes and mode of something that is open.
    fn attributes(&self, entry: &Entry, fd: impl AsFd) -> Result<(), LayerError> {
        let io = |source: Errno| LayerError::Member { path: shown(&entry.path), source: source.into() };
        let fd = fd.as_fd();
        rustix::fs::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))).map_err(io)?;
        for (name, value) in self.xattrs(entry)? {
            rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()).map_err(io)?;
        }
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(io)
    }

    /// The same for links, devices and FIFOs, which are never opened.
    fn named_attributes(&self, entry: &Entry, parent: &Parent, name: &[u8]) -> Result<(), LayerError> {
        let io = |source: Errno| LayerError::Member { path: shown(&entry.path), source: source.into() };
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(&**parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
        for (key, value) in self.xattrs(entry)? {
            // There is no setxattrat on older kernels. The path leads through our own descriptor, and the last part
            // is not followed. Linux knows user.* only on files and directories; elsewhere it is dropped.
            let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat();
            match rustix::fs::lsetxattr(path, key, value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(io(error)),
            }
        }
        if !matches!(entry.kind, Kind::Symlink(_)) {
            rustix::fs::chmodat(&**parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty()).map_err(io)?;
        }
        rustix::fs::utimensat(&**parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(io)
    }

    /// The attributes an image may set: its users' own and file capabilities. `trusted.*` and `user.overlay.*` steer
    /// overlayfs and are dropped; security labels and ACLs speak of a host that is not this one.
    fn xattrs<'e>(&self, entry: &'e Entry) -> Result<Vec<Xattr<'e>>, LayerError> {
        let bytes: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > self.limits.xattr_bytes {
            return Err(refuse(entry, "its extended attributes are too large"));
        }
        let kept = |name: &[u8]| {
            name == b"security.capability" || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
        };
        Ok(entry.xattrs.iter().filter(|(n, _)| kept(n)).map(|(n, v)| (n.as_slice(), v.as_slice())).collect())
    }

    fn remember(&mut self, entry: &Entry, parts: &[&[u8]]) -> Result<(), LayerError> {
        let path = parts.join(&b'/');
        self.directory_names += path.len() + size_of::<(Vec<u8>, Timestamps)>();
        if self.directory_names > DIRECTORY_NAMES {
            return Err(refuse(entry, "the layer holds too many directories"));
        }
        self.directories.push((path, times(entry)));
        Ok(())
    }

    fn finish_directories(&mut self) -> Result<(), LayerError> {
        for (path, times) in std::mem::take(&mut self.directories) {
            let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|p| !p.is_empty()).collect();
            let set = match parts.split_last() {
                None => rustix::fs::futimens(&*self.tree.root(), &times),
                Some((name, parents)) => self
                    .tree
                    .existing(parents)
                    .and_then(|parent| rustix::fs::utimensat(&*parent, *name, &times, AtFlags::SYMLINK_NOFOLLOW)),
            };
            match set {
                // A later member took its place.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(LayerError::Member { path: shown(&path), source: error.into() }),
            }
        }
        Ok(())
    }
}

/// The parts of a member's name, `.` and `..` worked out in the text; what leads above the root is refused.
fn clean(path: &[u8]) -> Result<Vec<&[u8]>, LayerError> {
    let refused = |why: &str| LayerError::Refused { path: shown(path), why: why.to_owned() };
    if path.is_empty() {
        return Err(refused("it has no name"));
    }
    if path.len() > PATH {
        return Err(refused("its path is longer than Linux allows"));
    }
    let mut parts = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or_else(|| refused("its path leads out of the image"))?;
            }
            _ => parts.push(part),
        }
    }
    Ok(parts)
}

fn refuse(entry: &Entry, why: &str) -> LayerError {
    LayerError::Refused { path: shown(&entry.path), why: why.to_owned() }
}

fn times(entry: &Entry) -> Timestamps {
    let (tv_sec, nanos) = entry.mtime;
    let stamp = Timespec { tv_sec, tv_nsec: i64::from(nanos) };
    Timestamps { last_access: stamp, last_modification: stamp }
}
