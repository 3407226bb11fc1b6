//! Applies the members of one layer to its directory, in overlayfs' form.
//!
//! Order matters and is kept: a whiteout speaks only of lower layers, so it never hides what this layer brings, before
//! or after it; a directory that takes the place of something else is opaque. Owners are set before modes, because
//! chown(2) clears set-uid; times of directories come last, because filling them changes them.

use std::fs::File;
use std::io::{self, BufRead, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::fs::{Advice, AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, makedev};
use rustix::io::Errno;

use super::split::Recorded;
use super::tree::{self, Parent, Tree};
use super::whiteout::{self, Mark};
use crate::image::error::{LayerError, shown};
use crate::image::settings::Limits;
use crate::untar::{Archive, Entry, Kind};

/// Longest name of a member, as the kernel's own PATH_MAX without its NUL.
const PATH: usize = 4095;
/// Bytes of directory names held for the times set at the end.
const DIRECTORY_NAMES: usize = 64 << 20;
/// Bytes of a file after which the kernel is asked to begin writing them to the disk.
const WRITE_BEHIND: u64 = 8 << 20;

/// Name and value of an extended attribute.
type Xattr<'e> = (&'e [u8], &'e [u8]);

/// What was found out while a layer was applied.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::image) struct Facts {
    /// The layer hides all layers below it. Overlayfs has no mark for that on a root.
    pub(in crate::image) opaque_root: bool,
    /// Members of the archive.
    pub(in crate::image) entries: u64,
    /// Bytes of the files it holds, in whole blocks.
    pub(in crate::image) disk_bytes: u64,
}

/// The archive with its record.
type Source<R> = Archive<Recorded<R>>;

/// Applies members one by one.
pub(in crate::image) struct Extractor<'a> {
    tree: Tree,
    limits: &'a Limits,
    facts: Facts,
    entries: u64,
    disk_bytes: u64,
    directories: Vec<(Vec<u8>, Timestamps)>,
    directory_names: usize,
    /// Something else stands where a directory was.
    directory_gone: bool,
}

impl<'a> Extractor<'a> {
    pub(in crate::image) fn new(tree: Tree, limits: &'a Limits) -> Self {
        Self {
            tree,
            limits,
            facts: Facts::default(),
            entries: 0,
            disk_bytes: 0,
            directories: Vec::new(),
            directory_names: 0,
            directory_gone: false,
        }
    }

    /// Applies all members and then the directories' times.
    pub(in crate::image) fn run<R: BufRead>(mut self, archive: &mut Source<R>) -> Result<Facts, LayerError> {
        while let Some(entry) = archive.next()? {
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(LayerError::Entries { limit: self.limits.entries });
            }
            self.apply(&entry, archive)?;
        }
        self.finish_directories()?;
        Ok(Facts { entries: self.entries, disk_bytes: self.disk_bytes, ..self.facts })
    }

    fn apply<R: BufRead>(&mut self, entry: &Entry, archive: &mut Source<R>) -> Result<(), LayerError> {
        let parts = clean(&entry.path)?;
        let most = self.limits.path_bytes;
        if entry.path.len() > most {
            return Err(refuse(entry, &format!("its path has more than {most} bytes")));
        }
        let Some((name, parents)) = parts.split_last() else { return self.root(entry, archive) };
        let io = |source: Errno| LayerError::Member { path: shown(&entry.path), source: source.into() };
        match whiteout::read(&parts) {
            Mark::Skip => Ok(()),
            Mark::Trap => Err(refuse(entry, "it is a whiteout of nothing, of its own directory or of a parent")),
            Mark::Opaque => {
                self.opaque(parents).map_err(io)?;
                let at = self.tree.made(parents).map_err(io)?;
                record(entry, archive, at.path(), 0)
            }
            Mark::Gone(gone) => {
                let parent = self.gone(parents, gone).map_err(io)?;
                record(entry, archive, parent.path_of(gone).as_deref(), 0)
            }
            Mark::Entry => {
                let parent = self.tree.made(parents).map_err(io)?;
                self.member(entry, &parts, &parent, name, archive)
            }
        }
    }

    /// The root of the layer itself: only its attributes are taken.
    fn root<R: BufRead>(&mut self, entry: &Entry, archive: &mut Source<R>) -> Result<(), LayerError> {
        if entry.kind != Kind::Directory {
            return Err(refuse(entry, "it would take the place of the root"));
        }
        let root = self.tree.root();
        record(entry, archive, Some(b""), 0)?;
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

    fn gone(&mut self, parents: &[&[u8]], name: &[u8]) -> Result<Parent, Errno> {
        let parent = self.tree.made(parents)?;
        match tree::stat(&parent, name)? {
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                tree::set_opaque(&parent, name)?;
            }
            Some(_) => {}
            None => rustix::fs::mknodat(&*parent, name, FileType::CharacterDevice, Mode::empty(), 0)?,
        }
        Ok(parent)
    }

    fn member<R: BufRead>(
        &mut self,
        entry: &Entry,
        parts: &[&[u8]],
        parent: &Parent,
        name: &[u8],
        archive: &mut Source<R>,
    ) -> Result<(), LayerError> {
        let io = |source: Errno| LayerError::Member { path: shown(&entry.path), source: source.into() };
        match &entry.kind {
            Kind::Directory => {
                self.directory(entry, parent, name, archive)?;
                record(entry, archive, parent.path_of(name).as_deref(), 0)?;
                let dir = tree::open_directory(parent, name).map_err(io)?;
                self.attributes(entry, dir.as_fd())?;
                return self.remember(entry, parts);
            }
            Kind::Hardlink(target) => return self.hardlink(entry, target, parent, name, archive),
            Kind::File { .. } | Kind::Symlink(_) | Kind::Character(..) | Kind::Block(..) | Kind::Fifo => {}
        }
        if let Kind::File { size } = entry.kind {
            return self.file(entry, size, parent, name, archive);
        }
        self.make_way(entry, parent, name, archive)?;
        record(entry, archive, parent.path_of(name).as_deref(), 0)?;
        let special = |kind, device| rustix::fs::mknodat(&**parent, name, kind, Mode::empty(), device);
        match &entry.kind {
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
            Kind::File { .. } | Kind::Directory | Kind::Hardlink(_) => {}
        }
        self.named_attributes(entry, parent, name)
    }

    fn directory<R: BufRead>(
        &mut self,
        entry: &Entry,
        parent: &Parent,
        name: &[u8],
        archive: &mut Source<R>,
    ) -> Result<(), LayerError> {
        let io = |source: Errno| failed(entry, source);
        match rustix::fs::mkdirat(&**parent, name, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(io),
        }
        match tree::stat(parent, name).map_err(io)? {
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => Ok(()),
            Some(found) => {
                self.replace(entry, parent, name, &found, archive)?;
                tree::make_directory(parent, name).and_then(|()| tree::set_opaque(parent, name)).map_err(io)
            }
            None => tree::make_directory(parent, name).map_err(io),
        }
    }

    fn make_way<R: BufRead>(
        &mut self,
        entry: &Entry,
        parent: &Parent,
        name: &[u8],
        archive: &mut Source<R>,
    ) -> Result<(), LayerError> {
        match tree::stat(parent, name).map_err(|e| failed(entry, e))? {
            Some(found) => self.replace(entry, parent, name, &found, archive),
            None => Ok(()),
        }
    }

    /// Takes away what stands in the way; the record keeps what cannot be read from the layer any more.
    fn replace<R: BufRead>(
        &mut self,
        entry: &Entry,
        parent: &Parent,
        name: &[u8],
        found: &Stat,
        archive: &mut Source<R>,
    ) -> Result<(), LayerError> {
        let io = |source: Errno| failed(entry, source);
        self.directory_gone |= FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        let recorder = archive.input();
        let size = u64::try_from(found.st_size).unwrap_or(u64::MAX);
        let file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile && size > 0;
        let content = match recorder.room() {
            Some(room) if file && size <= room => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(&**parent, name, flags, Mode::empty()).map_err(io)?;
                let mut content = Vec::new();
                File::from(fd).take(room).read_to_end(&mut content).map_err(|e| unwritten(entry, e))?;
                Some(content)
            }
            Some(_) | None => None,
        };
        if file && content.is_none() {
            recorder.give_up();
        }
        let kept = recorder.lost(parent.path_of(name).as_deref(), content.as_deref());
        kept.map_err(|e| unwritten(entry, e))?;
        if self.tree.discard(parent, name, found).map_err(io)? {
            archive.input().give_up();
        }
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        size: u64,
        parent: &Parent,
        name: &[u8],
        archive: &mut Source<R>,
    ) -> Result<(), LayerError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(&**parent, name, flags, Mode::from_raw_mode(entry.mode & 0o777));
        let fd = match create() {
            Err(Errno::EXIST) => {
                self.make_way(entry, parent, name, archive)?;
                create()
            }
            other => other,
        };
        let mut file = File::from(fd.map_err(|e| failed(entry, e))?);
        record(entry, archive, parent.path_of(name).as_deref(), size)?;
        let (mut written, mut begun) = (0, 0);
        loop {
            let piece = archive.data()?;
            if piece.is_empty() {
                break;
            }
            file.write_all(piece).map_err(|e| unwritten(entry, e))?;
            let got = piece.len();
            archive.used(got);
            written += got as u64;
            if written - begun >= WRITE_BEHIND {
                // The disk works while the rest is unpacked; only a hint.
                let length = std::num::NonZeroU64::new(written - begun);
                let _ = rustix::fs::fadvise(&file, begun, length, Advice::DontNeed);
                begun = written;
            }
        }
        self.disk_bytes += written.next_multiple_of(4096);
        self.attributes(entry, file.as_fd())?;
        rustix::fs::futimens(&file, &times(entry)).map_err(|e| failed(entry, e))
    }

    /// Nothing but the name is made: owner and mode belong to the target (CVE-2021-32760).
    fn hardlink<R: BufRead>(
        &mut self,
        entry: &Entry,
        target: &[u8],
        parent: &Parent,
        name: &[u8],
        archive: &mut Source<R>,
    ) -> Result<(), LayerError> {
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
                return record(entry, archive, parent.path_of(name).as_deref(), 0);
            }
            self.replace(entry, parent, name, &there, archive)?;
        }
        record(entry, archive, parent.path_of(name).as_deref(), 0)?;
        rustix::fs::linkat(&*source, *from, &**parent, name, AtFlags::empty()).map_err(|e| match e {
            Errno::NOENT => missing(),
            other => io(other),
        })
    }

    /// Owner, extended attributes and mode of something that is open.
    fn attributes(&self, entry: &Entry, fd: impl AsFd) -> Result<(), LayerError> {
        let io = |source: Errno| LayerError::Member { path: shown(&entry.path), source: source.into() };
        let fd = fd.as_fd();
        // Asking is cheaper than setting what is so already.
        let found = rustix::fs::fstat(fd).map_err(io)?;
        let foreign = (found.st_uid, found.st_gid) != (entry.uid, entry.gid);
        if foreign {
            rustix::fs::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))).map_err(io)?;
        }
        for (name, value) in self.xattrs(entry)? {
            rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()).map_err(io)?;
        }
        if foreign || found.st_mode & 0o7777 != entry.mode {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(io)?;
        }
        Ok(())
    }

    /// The same for links, devices and FIFOs, which are never opened.
    fn named_attributes(&self, entry: &Entry, parent: &Parent, name: &[u8]) -> Result<(), LayerError> {
        let io = |source: Errno| LayerError::Member { path: shown(&entry.path), source: source.into() };
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(&**parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
        for (key, value) in self.xattrs(entry)? {
            // There is no setxattrat on older kernels. The path leads through our own descriptor, and the last part
            // is not followed. Linux knows user.* only on files and directories; elsewhere it is dropped.
            let path = [format!("/proc/self/fd/{}/", parent.as_fd().as_raw_fd()).as_bytes(), name].concat();
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
        Ok(entry.xattrs.iter().filter(|(n, _)| taken(n)).map(|(n, v)| (n.as_slice(), v.as_slice())).collect())
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
                Some((name, parents)) => self.tree.existing(parents).and_then(|parent| {
                    let other = |found: Stat| FileType::from_raw_mode(found.st_mode) != FileType::Directory;
                    if self.directory_gone && tree::stat(&parent, name)?.is_some_and(other) {
                        return Ok(());
                    }
                    rustix::fs::utimensat(&*parent, *name, &times, AtFlags::SYMLINK_NOFOLLOW)
                }),
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

/// Whether an extended attribute of an image is set here.
pub(super) fn taken(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
}

/// Notes in the record where a member stands.
fn record<R: BufRead>(
    entry: &Entry,
    archive: &mut Source<R>,
    path: Option<&[u8]>,
    size: u64,
) -> Result<(), LayerError> {
    archive.input().member(path, size).map_err(|e| unwritten(entry, e))
}

fn failed(entry: &Entry, source: Errno) -> LayerError {
    unwritten(entry, source.into())
}

fn unwritten(entry: &Entry, source: io::Error) -> LayerError {
    LayerError::Member { path: shown(&entry.path), source }
}

/// The parts of a member's name, `.` and `..` worked out in the text; what leads above the root is refused.
pub(super) fn clean(path: &[u8]) -> Result<Vec<&[u8]>, LayerError> {
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
