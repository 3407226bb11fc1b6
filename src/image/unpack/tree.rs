//! The one way into a layer's directory: every path is resolved inside its root, by the kernel.
//!
//! Whatever links an image brings, `openat2(RESOLVE_IN_ROOT)` cannot leave the root; all that is done, is done with
//! plain `*at` calls on the last part of a name below a directory descriptor and never follows that part.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags};
use rustix::io::Errno;

/// The attribute by which overlayfs hides what lower layers hold in a directory.
const OPAQUE: &str = "trusted.overlay.opaque";
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// As many links as the kernel itself follows.
const LINKS: u32 = 40;

/// A directory of the layer.
pub(in crate::image) struct Place {
    fd: OwnedFd,
    /// Where it is, without links. None: too deep to have a name.
    path: Option<Vec<u8>>,
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Place {
    /// Where `name` in this directory is.
    pub(in crate::image) fn path_of(&self, name: &[u8]) -> Option<Vec<u8>> {
        let path = self.path.as_deref()?;
        Some(if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() })
    }
    pub(in crate::image) fn path(&self) -> Option<&[u8]> {
        self.path.as_deref()
    }
}

pub(in crate::image) type Parent = Rc<Place>;

/// A layer's directory being filled.
pub(in crate::image) struct Tree {
    root: Parent,
    /// Where the kernel says the root is.
    root_path: Vec<u8>,
    trash: OwnedFd,
    discarded: u64,
    /// Entries come directory by directory; the last one is kept open.
    last: Option<(Vec<u8>, Parent)>,
}

impl Tree {
    pub(in crate::image) fn open(root: &Path, trash: &Path) -> Result<Self, Errno> {
        let open = |path: &Path| rustix::fs::openat(CWD, path, OFlags::RDONLY | DIRECTORY, Mode::empty());
        let root = open(root)?;
        let root_path = told_path(root.as_fd()).unwrap_or_default();
        let root = Rc::new(Place { fd: root, path: Some(Vec::new()) });
        Ok(Self { root, root_path, trash: open(trash)?, discarded: 0, last: None })
    }

    pub(in crate::image) fn root(&self) -> Parent {
        Rc::clone(&self.root)
    }

    /// The directory that `parts` lead to.
    pub(in crate::image) fn existing(&mut self, parts: &[&[u8]]) -> Result<Parent, Errno> {
        if parts.is_empty() {
            return Ok(self.root());
        }
        let path = parts.join(&b'/');
        if let Some((known, fd)) = &self.last
            && *known == path
        {
            return Ok(Rc::clone(fd));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let open = |how| rustix::fs::openat2(&*self.root, path.as_slice(), flags, Mode::empty(), how);
        let place = match open(how | ResolveFlags::NO_SYMLINKS) {
            Ok(fd) => Place { fd, path: Some(path.clone()) },
            Err(Errno::LOOP) => self.found(open(how)?),
            Err(error) => return Err(error),
        };
        let place = Rc::new(place);
        self.last = Some((path, Rc::clone(&place)));
        Ok(place)
    }

    /// A directory that links lead to: only the kernel knows where it is.
    fn found(&self, fd: OwnedFd) -> Place {
        let path = told_path(fd.as_fd()).and_then(|told| {
            let below = told.strip_prefix(self.root_path.as_slice())?;
            if below.is_empty() { Some(Vec::new()) } else { below.strip_prefix(b"/").map(<[u8]>::to_vec) }
        });
        Place { fd, path: path.filter(|_| !self.root_path.is_empty()) }
    }

    /// The directory that `parts` lead to; what is missing on the way is made as root's, 0755.
    pub(in crate::image) fn made(&mut self, parts: &[&[u8]]) -> Result<Parent, Errno> {
        match self.existing(parts) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.last = None;
                self.make(parts)
            }
            other => other,
        }
    }

    /// Walks one part at a time, because a link may lead to what is yet to be made.
    fn make(&self, parts: &[&[u8]]) -> Result<Parent, Errno> {
        let mut ahead: Vec<Vec<u8>> = parts.iter().rev().map(|p| p.to_vec()).collect();
        let mut walked: Vec<Vec<u8>> = Vec::new();
        let mut here = self.root();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part.is_empty() || part == b"." {
                continue;
            }
            if part == b".." {
                walked.pop();
                here = self.reopen(&walked)?;
                continue;
            }
            match stat(&here, &part)? {
                Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Symlink => {
                    links += 1;
                    if links > LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = rustix::fs::readlinkat(&*here, part.as_slice(), Vec::new())?.into_bytes();
                    if target.starts_with(b"/") {
                        walked.clear();
                        here = self.root();
                    }
                    ahead.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
                    continue;
                }
                Some(found) if is_whiteout(&found) => {
                    rustix::fs::unlinkat(&*here, part.as_slice(), AtFlags::empty())?;
                    make_directory(&here, &part)?;
                    set_opaque(&here, &part)?;
                }
                Some(_) => {}
                None => make_directory(&here, &part)?,
            }
            let fd = rustix::fs::openat(&*here, part.as_slice(), OFlags::PATH | DIRECTORY, Mode::empty())?;
            here = Rc::new(Place { fd, path: here.path_of(&part) });
            walked.push(part);
        }
        Ok(here)
    }

    fn reopen(&self, walked: &[Vec<u8>]) -> Result<Parent, Errno> {
        if walked.is_empty() {
            return Ok(self.root());
        }
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let path = walked.join(&b'/');
        let fd = rustix::fs::openat2(&*self.root, path.as_slice(), OFlags::PATH | DIRECTORY, Mode::empty(), how)?;
        Ok(Rc::new(Place { fd, path: Some(path) }))
    }

    /// Takes an entry away, a full directory with all that is in it; whether it was one.
    pub(in crate::image) fn discard(&mut self, parent: &Parent, name: &[u8], found: &Stat) -> Result<bool, Errno> {
        // Any path may have led through it.
        self.last = None;
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return rustix::fs::unlinkat(&**parent, name, AtFlags::empty()).map(|()| false);
        }
        match rustix::fs::unlinkat(&**parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                self.discarded += 1;
                rustix::fs::renameat(&**parent, name, &self.trash, self.discarded.to_string()).map(|()| true)
            }
            other => other.map(|()| false),
        }
    }
}

/// The kernel's own name for an open directory.
fn told_path(fd: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::readlinkat(CWD, link, Vec::new()).ok().map(std::ffi::CString::into_bytes)
}

/// What is at `name`, not following it.
pub(in crate::image) fn stat(parent: &Parent, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(&**parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Overlayfs' whiteout. An image may not bring this device itself, so every one in a layer is ours.
pub(in crate::image) fn is_whiteout(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == 0
}

/// Makes a directory of exactly 0755; the process's umask has no say.
pub(in crate::image) fn make_directory(parent: &Parent, name: &[u8]) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(&**parent, name, mode)?;
    rustix::fs::chmodat(&**parent, name, mode, AtFlags::empty())
}

/// Hides what lower layers hold in the directory `name`.
pub(in crate::image) fn set_opaque(parent: &Parent, name: &[u8]) -> Result<(), Errno> {
    let dir = open_directory(parent, name)?;
    rustix::fs::fsetxattr(dir.as_fd(), OPAQUE, b"y", XattrFlags::empty())
}

/// Opens the directory `name` itself, for work on its attributes.
pub(in crate::image) fn open_directory(parent: &Parent, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(&**parent, name, OFlags::RDONLY | DIRECTORY, Mode::empty())
}
