//! Where the root of an archive comes to be. The rules are those of `docker cp`:
//!
//! | destination | a file | a folder | what is in a folder (`.`) |
//! |---|---|---|---|
//! | a folder | in it | in it | in it |
//! | a file | in its place | refused | refused |
//! | nothing, its parent is there | there | there | there, as a folder |
//! | nothing, and it ends in `/` | refused | there | there, as a folder |

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::unpack::Unpack;
use crate::untar::{Entry, Kind, TarError};

/// What an archive is to its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placing {
    /// It is unpacked in a folder that is there.
    Extract,
    /// It has one root, which is copied as `docker cp` does.
    Copy,
}

/// Why nothing, or not all, was unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// It is no archive, or not a whole one.
    #[error(transparent)]
    Archive(#[from] TarError),
    /// One of its members is not what it may be.
    #[error("{member} of the archive is refused: {why}")]
    Member { member: String, why: &'static str },
    /// The place.
    #[error("{place} {reason}")]
    Place { place: String, reason: Reason },
    /// It was given up.
    #[error("{0}")]
    GivenUp(io::Error),
}

/// What is wrong with a place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Reason {
    #[error("does not exist; make that folder first")]
    Missing,
    #[error("is no folder")]
    NotAFolder,
    #[error("is a folder, and a file does not take its place; remove it first, or name another place")]
    Folder,
    #[error("is no folder, and a folder does not take its place; remove it first, or name another place")]
    File,
    #[error("is a device, and nothing takes its place; name another place")]
    Device,
    #[error("is on a read-only file system; nothing can be copied there")]
    ReadOnly,
    #[error("cannot be written: no space is left there; make room and copy again")]
    NoSpace,
    #[error("cannot be reached: a link on the way leads out of the destination")]
    Outside,
    #[error("is on a file system of the kernel's, which takes no files")]
    Kernel,
    #[error("is a folder of the kernel's; single files of it can be copied")]
    Made,
    #[error("is a volume or a mount, which is there only while the container runs; start it, and copy then")]
    Absent,
    #[error("cannot be written: {0}")]
    Io(io::Error),
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EROFS) => Self::ReadOnly,
            Some(libc::ENOSPC | libc::EDQUOT) => Self::NoSpace,
            Some(libc::ENOENT) => Self::Missing,
            Some(libc::ENOTDIR) => Self::NotAFolder,
            Some(libc::EXDEV | libc::ELOOP) => Self::Outside,
            _ => Self::Io(error),
        }
    }
}

/// The folder that all members are below.
pub(super) struct Landing {
    pub base: OwnedFd,
    /// How it is called.
    pub text: Vec<u8>,
    /// The name of the root in the archive, and the one that it gets; empty: what is in it lands in `base` itself.
    root: Option<(Vec<u8>, Vec<u8>)>,
}

impl Landing {
    /// `first` is the archive's first member, with its path in parts.
    pub(super) fn find(how: &Unpack<'_>, first: &Entry, parts: &[&[u8]]) -> Result<Self, UnpackError> {
        let folder = |path: &[u8]| (how.open)(path, OFlags::PATH | OFlags::DIRECTORY);
        if how.placing == Placing::Extract {
            let base = folder(how.dest).map_err(|e| how.place(how.dest, e))?;
            return Ok(Self { base, text: how.dest.to_vec(), root: None });
        }
        let name: &[u8] = parts.first().copied().unwrap_or_default();
        let is_folder = first.kind == Kind::Directory;
        let trailing = how.dest.ends_with(b"/") || how.dest.ends_with(b"/.") || how.dest == b".";
        match folder(how.dest) {
            Ok(base) => {
                let root = Some((name.to_vec(), name.to_vec()));
                return Ok(Self { base, text: how.dest.to_vec(), root });
            }
            Err(Errno::NOENT) if trailing && !is_folder => return Err(how.place(how.dest, Errno::NOENT)),
            Err(Errno::NOTDIR) if trailing => return Err(how.place(how.dest, Errno::NOTDIR)),
            Err(Errno::NOTDIR) if is_folder && (how.open)(how.dest, OFlags::PATH).is_ok() => {
                return Err(UnpackError::Place { place: how.shown(how.dest), reason: Reason::File });
            }
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(how.place(how.dest, error)),
        }
        // A link to a file means that file.
        let real = (how.open)(how.dest, OFlags::PATH).ok().and_then(|held| how.reach.path(held.as_fd()).ok());
        let asked = real.as_deref().filter(|path| path.starts_with(b"/")).unwrap_or(how.dest);
        let (parent, last) = split(asked);
        let base = folder(parent).map_err(|e| how.place(parent, e))?;
        Ok(Self { base, text: parent.to_vec(), root: Some((name.to_vec(), last.to_vec())) })
    }

    /// Where a member comes to be below the base. None: it is not below the archive's root.
    pub(super) fn parts<'p>(&'p self, parts: &[&'p [u8]]) -> Option<Vec<&'p [u8]>> {
        let Some((from, to)) = &self.root else { return Some(parts.to_vec()) };
        let rest = if from.is_empty() { parts } else { parts.strip_prefix(&[from.as_slice()])? };
        let to: &[&[u8]] = if to.is_empty() { &[] } else { &[to.as_slice()] };
        Some([to, rest].concat())
    }
}

/// A path's folder and its last part, whatever slashes end it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let mut end = path;
    while end.len() > 1 && end.ends_with(b"/") {
        end = &end[..end.len() - 1];
    }
    match end.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (b"/", &end[1..]),
        Some(slash) => (&end[..slash], &end[slash + 1..]),
        None => (b".", end),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_path_has_a_folder_and_a_last_part() {
        let table: [(&str, &str, &str); 6] = [
            ("/a/b", "/a", "b"),
            ("/a/b///", "/a", "b"),
            ("/a", "/", "a"),
            ("a", ".", "a"),
            ("a/b", "a", "b"),
            ("/", "/", ""),
        ];
        for (path, folder, last) in table {
            assert_eq!(split(path.as_bytes()), (folder.as_bytes(), last.as_bytes()), "{path}");
        }
    }
}
