//! The one way into a layer's directory: every path is resolved inside its root, by the kernel.
//!
//! Whatever links an image brings, `openat2(RESOLVE_IN_ROOT)` cannot leave the root; all that is done, is done with
//! plain `*at` calls on the last part of a name below a directory descriptor and never follows that part.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags};
use rustix::io::Errno;

/// The attribute by which overlayfs hides what lower layers hold in a directory.
const OPAQUE: &str = "trusted.overlay.opaque";
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// As many links as the kernel itself follows.
const LINKS: u32 = 40;

pub(in crate::image) type Parent = Rc<OwnedFd>;

/// A layer's directory being filled.
pub(in crate::image) struct Tree {
    root: Parent,
    trash: OwnedFd,
    discarded: u64,
    /// Entries come directory by directory; the last one is kept open.
    last: Option<(Vec<u8>, Parent)>,
}

impl Tree {
    pub(in crate::image) fn open(root: &Path, trash: &Path) -> Result<Self, Errno> {
        let open = |path: &Path| rustix::fs::openat(CWD, path, OFlags::RDONLY | DIRECTORY, Mode::empty());
        Ok(Self { root: Rc::new(open(root)?), trash: open(trash)?, discarded: 0, last: None })
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
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = Rc::new(rustix::fs::openat2(&*self.root, path.as_slice(), flags, Mode::empty(), how)?);
        self.last = Some((path, Rc::clone(&fd)));
        Ok(fd)
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
            here = Rc::new(rustix::fs::openat(&*here, part.as_slice(), OFlags::PATH | DIRECTORY, Mode::empty())?);
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
        rustix::fs::openat2(&*self.root, path, OFlags::PATH | DIRECTORY, Mode::empty(), how).map(Rc::new)
    }

    /// Takes an entry away, a full directory with all that is in it.
    pub(in crate::image) fn discard(&mut self, parent: &Parent, name: &[u8], found: &Stat) -> Result<(), Errno> {
        // Any path may have led through it.
        self.last = None;
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return rustix::fs::unlinkat(&**parent, name, AtFlags::empty());
        }
        match rustix::fs::unlinkat(&**parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                self.discarded += 1;
                rustix::fs::renameat(&**parent, name, &self.trash, self.discarded.to_string())
            }
            other => other,
        }
    }
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
