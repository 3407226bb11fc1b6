//! An archive into a folder. Archives lie, and the folder may be changed meanwhile: the folder of each member is resolved by the kernel
//! within what the caller allows, the last part is never followed, and a file is written beside its place and renamed there.

use std::fs::File;
use std::io::{self, BufRead, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::land::{Landing, Placing, Reason, UnpackError};
use super::pack::travels;
use super::reach::{Reach, mount_of};
use crate::untar::{Archive, Entry, Kind};

/// Opens a path.
pub(crate) type Opens<'a> = dyn Fn(&[u8], OFlags) -> Result<OwnedFd, Errno> + 'a;

/// How an archive is unpacked.
pub(crate) struct Unpack<'a> {
    pub reach: &'a Reach,
    /// Opens a path on the side of the destination, as its owner would.
    pub open: &'a Opens<'a>,
    /// Where links in the folder of a member may lead, seen from where the archive lands.
    pub resolve: ResolveFlags,
    pub dest: &'a [u8],
    pub placing: Placing,
    /// Owners, set-user-id bits and attributes as in the archive.
    pub owners: bool,
    /// Else whose everything is; none: whoever we are.
    pub owner: Option<(u32, u32)>,
    /// Devices too.
    pub devices: bool,
    /// What is added to a path where one is told.
    pub side: &'a str,
    /// Whether something may be made in a folder, or written to a file.
    pub check: &'a dyn Fn(BorrowedFd<'_>) -> Result<(), Reason>,
    /// Asked again and again.
    pub go_on: &'a dyn Fn() -> io::Result<()>,
}

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Files, folders and whatever else.
    pub files: u64,
    /// Of the contents of files.
    pub bytes: u64,
    /// Members that were left out, and how many.
    pub left_out: u64,
}

impl Unpack<'_> {
    /// Unpacks all of it. What was unpacked before something fails stays.
    pub(crate) fn run<R: BufRead>(&self, from: R) -> Result<Unpacked, UnpackError> {
        let mut archive = Archive::new(from);
        let mut work: Option<Work<'_>> = None;
        while let Some(entry) = archive.next()? {
            (self.go_on)().map_err(UnpackError::GivenUp)?;
            let parts = clean(&entry.path).ok_or_else(|| refused(&entry, "it leads out of the destination"))?;
            let work = match &mut work {
                Some(work) => work,
                None => {
                    let landing = Rc::new(Landing::find(self, &entry, &parts)?);
                    work.insert(Work { how: self, landing, last: None, folders: Vec::new(), done: Unpacked::default() })
                }
            };
            work.member(&entry, &parts, &mut archive)?;
        }
        match work {
            Some(work) => work.finish(),
            None if self.placing == Placing::Copy => {
                Err(crate::untar::TarError::Format("it is empty".to_owned()).into())
            }
            None => {
                (self.open)(self.dest, OFlags::PATH | OFlags::DIRECTORY).map_err(|e| self.place(self.dest, e))?;
                Ok(Unpacked::default())
            }
        }
    }

    pub(super) fn shown(&self, path: &[u8]) -> String {
        let path: String = String::from_utf8_lossy(path).chars().take(500).collect();
        format!("{}{}", path.escape_debug(), self.side)
    }

    pub(super) fn place(&self, path: &[u8], error: Errno) -> UnpackError {
        UnpackError::Place { place: self.shown(path), reason: io::Error::from(error).into() }
    }
}

fn refused(entry: &Entry, why: &'static str) -> UnpackError {
    let member = String::from_utf8_lossy(&entry.path).chars().take(300).collect::<String>();
    UnpackError::Member { member: member.escape_debug().to_string(), why }
}

struct Work<'a> {
    how: &'a Unpack<'a>,
    landing: Rc<Landing>,
    /// Members come folder by folder: the last one is kept open.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Filling a folder changes its times, and one that may not be written could not be filled: both come last.
    folders: Vec<(Vec<u8>, Mode, Timestamps)>,
    done: Unpacked,
}

impl Work<'_> {
    fn member<R: BufRead>(
        &mut self,
        entry: &Entry,
        parts: &[&[u8]],
        archive: &mut Archive<R>,
    ) -> Result<(), UnpackError> {
        let landing = Rc::clone(&self.landing);
        let Some(target) = landing.parts(parts) else {
            return Err(refused(entry, "it is not below the root of the archive"));
        };
        let at = target.join(&b'/');
        let fail = |reason: Reason| {
            let text = if at.is_empty() { landing.text.clone() } else { [&landing.text, &b"/"[..], &at].concat() };
            UnpackError::Place { place: self.how.shown(&text), reason }
        };
        let Some((name, above)) = target.split_last() else {
            // The folder that all lands in is somebody's already.
            return if entry.kind == Kind::Directory { Ok(()) } else { Err(fail(Reason::Folder)) };
        };
        let done = match &entry.kind {
            Kind::Hardlink(link) => {
                let link = clean(link).and_then(|parts| landing.parts(&parts).map(|p| p.join(&b'/')));
                match link {
                    Some(link) => self.link(&above.join(&b'/'), name, &link),
                    None => return Err(refused(entry, "its link leads out of the destination")),
                }
            }
            Kind::Character(..) | Kind::Block(..) if !self.how.devices => {
                self.done.left_out += 1;
                return Ok(());
            }
            _ => self.one(&above.join(&b'/'), name, entry, archive),
        };
        match done {
            Ok(()) => {
                self.done.files += 1;
                Ok(())
            }
            Err(Trouble::Place(reason)) => Err(fail(reason)),
            Err(Trouble::Other(error)) => Err(error),
        }
    }

    /// The folder with this path below the base; made where it is missing.
    fn folder(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, Trouble> {
        if self.last.as_ref().is_none_or(|(known, _)| known != path) {
            let held = match self.within(path) {
                Err(Errno::NOENT) => self.make(path)?,
                held => held?,
            };
            (self.how.check)(held.as_fd()).map_err(Trouble::Place)?;
            self.last = Some((path.to_vec(), held));
        }
        let (_, held) = self.last.as_ref().ok_or(Trouble::Place(Reason::Missing))?;
        Ok(held.as_fd())
    }

    fn within(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        rustix::fs::openat2(&self.landing.base, path, flags, Mode::empty(), self.how.resolve)
    }

    /// An archive need not bring the folders of its members.
    fn make(&self, path: &[u8]) -> Result<OwnedFd, Trouble> {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        for count in 1..=parts.len() {
            let (above, whole) = (parts[..count - 1].join(&b'/'), parts[..count].join(&b'/'));
            if let Err(Errno::NOENT) = self.within(&whole) {
                let above = self.within(&above)?;
                (self.how.check)(above.as_fd()).map_err(Trouble::Place)?;
                match rustix::fs::mkdirat(&above, parts[count - 1], Mode::from_raw_mode(0o755)) {
                    Ok(()) => {}
                    Err(Errno::EXIST) => continue,
                    Err(error) => return Err(error.into()),
                }
                if let Some((uid, gid)) = self.how.owner {
                    own(above.as_fd(), parts[count - 1], uid, gid)?;
                }
            }
        }
        Ok(self.within(path)?)
    }

    fn one<R: BufRead>(
        &mut self,
        above: &[u8],
        name: &[u8],
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), Trouble> {
        let how = self.how;
        let dir = self.folder(above)?.try_clone_to_owned()?;
        if entry.kind == Kind::Directory {
            return self.make_folder(&dir, above, name, entry);
        }
        let there = stat(&dir, name)?;
        match there.map(|there| FileType::from_raw_mode(there.st_mode)) {
            Some(FileType::Directory) => return Err(Trouble::Place(Reason::Folder)),
            // Who names /dev/null does not mean to replace it.
            Some(FileType::CharacterDevice | FileType::BlockDevice) => return Err(Trouble::Place(Reason::Device)),
            Some(_) | None => {}
        }
        let draft = draft();
        let made = match &entry.kind {
            Kind::File { .. } => {
                if let Some(file) = self.mounted(&dir, name, there.as_ref())? {
                    return self.fill(file, archive);
                }
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&dir, &draft, flags, Mode::from_raw_mode(0o600))?;
                let held = file.try_clone()?;
                self.fill(File::from(file), archive).and_then(|()| Ok(dress(how, held.as_fd(), entry)?))
            }
            Kind::Symlink(target) => {
                rustix::fs::symlinkat(target.as_slice(), &dir, &draft)?;
                self.dress_closed(&dir, &draft, entry)
            }
            Kind::Character(major, minor) | Kind::Block(major, minor) => {
                let character = matches!(entry.kind, Kind::Character(..));
                let kind = if character { FileType::CharacterDevice } else { FileType::BlockDevice };
                let device = rustix::fs::makedev(*major, *minor);
                rustix::fs::mknodat(&dir, &draft, kind, how.mode(entry), device)?;
                self.dress_closed(&dir, &draft, entry)
            }
            Kind::Fifo => {
                rustix::fs::mknodat(&dir, &draft, FileType::Fifo, how.mode(entry), 0)?;
                self.dress_closed(&dir, &draft, entry)
            }
            Kind::Directory | Kind::Hardlink(_) => Ok(()),
        };
        let placed = made.and_then(|()| Ok(rustix::fs::renameat(&dir, &draft, &dir, name)?));
        if placed.is_err() {
            // What is half made is nobody's.
            let _ = rustix::fs::unlinkat(&dir, &draft, AtFlags::empty());
        }
        placed
    }

    fn make_folder(&mut self, dir: &OwnedFd, above: &[u8], name: &[u8], entry: &Entry) -> Result<(), Trouble> {
        let path = if above.is_empty() { name.to_vec() } else { [above, b"/", name].concat() };
        let made = match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let held = match self.within(&path) {
            Ok(held) => held,
            Err(Errno::NOTDIR) => return Err(Trouble::Place(Reason::File)),
            Err(error) => return Err(error.into()),
        };
        if made || self.how.owners {
            let open = self.how.reach.reopen(held.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?;
            self.how.own(open.as_fd(), entry)?;
            if self.how.owners {
                attributes(open.as_fd(), entry)?;
            }
            let mode = if made { self.how.mode(entry) } else { Mode::from_raw_mode(entry.mode) };
            self.folders.push((path, mode, times(entry)));
        }
        Ok(())
    }

    /// A file that is mounted by itself cannot be replaced: it is written to.
    fn mounted(&self, dir: &OwnedFd, name: &[u8], there: Option<&Stat>) -> Result<Option<File>, Trouble> {
        if !there.is_some_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::RegularFile) {
            return Ok(None);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        let seen = rustix::fs::fstat(&held)?;
        let regular = FileType::from_raw_mode(seen.st_mode) == FileType::RegularFile;
        if !regular || mount_of(&held)? == mount_of(dir)? {
            return Ok(None);
        }
        (self.how.check)(held.as_fd()).map_err(Trouble::Place)?;
        Ok(Some(File::from(self.how.reach.reopen(held.as_fd(), OFlags::WRONLY | OFlags::TRUNC)?)))
    }

    fn fill<R: BufRead>(&mut self, mut file: File, archive: &mut Archive<R>) -> Result<(), Trouble> {
        loop {
            (self.how.go_on)().map_err(|e| Trouble::Other(UnpackError::GivenUp(e)))?;
            let piece = archive.data().map_err(|e| Trouble::Other(e.into()))?;
            if piece.is_empty() {
                return Ok(());
            }
            file.write_all(piece)?;
            let got = piece.len();
            self.done.bytes += got as u64;
            archive.used(got);
        }
    }

    fn link(&mut self, above: &[u8], name: &[u8], target: &[u8]) -> Result<(), Trouble> {
        let (folder, first) = match target.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&target[..slash], &target[slash + 1..]),
            None => (&b""[..], target),
        };
        let source = self.within(folder)?;
        let dir = self.folder(above)?;
        let draft = draft();
        rustix::fs::linkat(&source, first, dir, &draft, AtFlags::empty())?;
        let placed = rustix::fs::renameat(dir, &draft, dir, name);
        // Two names of one file are not renamed onto each other.
        let _ = rustix::fs::unlinkat(dir, &draft, AtFlags::empty());
        Ok(placed?)
    }

    /// What is never opened: a link, a device, a FIFO.
    fn dress_closed(&self, dir: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), Trouble> {
        if let Some((uid, gid)) = self.how.whose(entry) {
            own(dir.as_fd(), name, uid, gid)?;
        }
        Ok(rustix::fs::utimensat(dir, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn finish(self) -> Result<Unpacked, UnpackError> {
        for (path, mode, times) in self.folders.iter().rev() {
            // One that was taken away meanwhile needs neither.
            let Ok(held) = self.within(path) else { continue };
            let set = self.how.reach.reopen(held.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY).and_then(|open| {
                rustix::fs::fchmod(&open, *mode)?;
                Ok(rustix::fs::futimens(&open, times)?)
            });
            let text = [&self.landing.text, &b"/"[..], path].concat();
            set.map_err(|e| UnpackError::Place { place: self.how.shown(&text), reason: e.into() })?;
        }
        Ok(self.done)
    }
}

impl Unpack<'_> {
    fn whose(&self, entry: &Entry) -> Option<(u32, u32)> {
        if self.owners { Some((entry.uid, entry.gid)) } else { self.owner }
    }

    /// With another owner a set-user-id bit would mean something else.
    fn mode(&self, entry: &Entry) -> Mode {
        Mode::from_raw_mode(if self.owners { entry.mode } else { entry.mode & 0o1777 })
    }

    fn own(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), Errno> {
        let Some((uid, gid)) = self.whose(entry) else { return Ok(()) };
        rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }
}

/// An owner takes set-uid bits and capabilities away: it comes first; times come last.
fn dress(how: &Unpack<'_>, fd: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
    how.own(fd, entry)?;
    rustix::fs::fchmod(fd, how.mode(entry))?;
    if how.owners {
        attributes(fd, entry)?;
    }
    Ok(rustix::fs::futimens(fd, &times(entry))?)
}

fn attributes(fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), Errno> {
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| travels(name)) {
        match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
            // Not every file system has them, and not everybody may set them.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn own(dir: BorrowedFd<'_>, name: &[u8], uid: u32, gid: u32) -> Result<(), Errno> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
}

fn stat(dir: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn times(entry: &Entry) -> Timestamps {
    let (tv_sec, nanos) = entry.mtime;
    let at = Timespec { tv_sec, tv_nsec: nanos.into() };
    Timestamps { last_access: at, last_modification: at }
}

/// Beside its place, under a name that nobody else takes.
fn draft() -> Vec<u8> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!(".longshore-cp-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)).into_bytes()
}

/// Why a member is not in its place.
enum Trouble {
    Place(Reason),
    Other(UnpackError),
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        Self::Place(io::Error::from(error).into())
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Place(error.into())
    }
}

/// The path in parts, without empty ones and dots; one with `..` is none.
fn clean(path: &[u8]) -> Option<Vec<&[u8]>> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    (!parts.contains(&&b".."[..])).then_some(parts)
}
