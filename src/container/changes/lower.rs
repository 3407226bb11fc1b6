//! What the layers below have under a path, as overlayfs puts them together.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, fstat};
use rustix::io::Errno;

use crate::tree::{Reach, listed};

/// The layers, the topmost first.
pub(super) struct Lower<'a> {
    pub layers: Vec<OwnedFd>,
    pub reach: &'a Reach,
}

/// What was there.
#[derive(Debug)]
pub(super) enum Was {
    Nothing,
    /// A folder of these layers; the topmost says how it looks.
    Folder(Vec<usize>, Box<Stat>),
    Other,
}

impl Lower<'_> {
    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.layers.len()).collect()
    }

    /// `layers`: those that its folder is of.
    pub(super) fn was(&self, path: &[u8], layers: &[usize]) -> io::Result<Was> {
        let mut folder: Option<(Vec<usize>, Box<Stat>)> = None;
        for layer in layers {
            let Some(held) = self.open(*layer, path)? else { continue };
            let stat = fstat(&held)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                if folder.is_none() && !is_whiteout(&held, &stat, self.reach)? {
                    return Ok(Was::Other);
                }
                break;
            }
            let opaque = has(&held, self.reach, "trusted.overlay.opaque", Some(b"y"))?;
            match &mut folder {
                Some((layers, _)) => layers.push(*layer),
                None => folder = Some((vec![*layer], Box::new(stat))),
            }
            if opaque {
                break;
            }
        }
        Ok(folder.map_or(Was::Nothing, |(layers, stat)| Was::Folder(layers, stat)))
    }

    /// The names in a folder of these layers.
    pub(super) fn names(&self, path: &[u8], layers: &[usize]) -> io::Result<Vec<CString>> {
        let mut names = BTreeSet::new();
        for layer in layers {
            let Some(held) = self.open(*layer, path)? else { continue };
            let dir = self.reach.reopen(held.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?;
            names.extend(listed(&dir)?);
        }
        Ok(names.into_iter().collect())
    }

    fn open(&self, layer: usize, path: &[u8]) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        // A link is what it is, not what it leads to: only one on the way is refused.
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        match rustix::fs::openat2(&self.layers[layer], path, flags, Mode::empty(), how) {
            Ok(held) => Ok(Some(held)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether overlayfs says by it that something is gone.
pub(super) fn is_whiteout(held: &OwnedFd, stat: &Stat, reach: &Reach) -> io::Result<bool> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Ok(stat.st_rdev == 0),
        FileType::RegularFile if stat.st_size == 0 => has(held, reach, "trusted.overlay.whiteout", None),
        _ => Ok(false),
    }
}

/// Whether a file or a folder has an attribute, with this value where one is given.
pub(super) fn has(held: &OwnedFd, reach: &Reach, name: &str, value: Option<&[u8]>) -> io::Result<bool> {
    let open = reach.reopen(held.as_fd(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let mut found = [0; 256];
    match fgetxattr(&open, name, &mut found) {
        Ok(length) => Ok(value.is_none_or(|value| found[..length] == *value)),
        // Longer than what is asked for.
        Err(Errno::RANGE) => Ok(value.is_none()),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
