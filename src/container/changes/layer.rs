//! The changes as a layer: an archive as the OCI image specification has it, the same for the same files.

use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat};
use rustix::io::Errno;

use super::ChangesError;
use super::lower::has;
use super::walk::{Item, Sort};
use crate::tree::{Packer, Packing, Reach};

/// What says in a layer that something is gone.
const GONE: &[u8] = b".wh.";
/// What says that nothing of a folder below is to be seen.
const OPAQUE: &[u8] = b".wh..wh..opq";

pub(super) fn write(upper: &OwnedFd, items: &[Item], out: impl Write) -> Result<(), ChangesError> {
    let reach = Reach::open()?;
    let enter = |_: BorrowedFd<'_>, _: &Stat| true;
    let how = Packing { reach: &reach, enter: &enter, attributes: true };
    let mut packer = Packer::new(std::io::BufWriter::with_capacity(256 << 10, out), &how);
    let mut opaque: Vec<&[u8]> = Vec::new();
    for item in items {
        let (above, name) = split(&item.path);
        if name.starts_with(GONE) {
            return Err(ChangesError::Name { path: shown(&item.path) });
        }
        if item.sort == Sort::Gone {
            // The mark of the whole folder says it already.
            if !opaque.contains(&above) {
                packer.mark([above, if above.is_empty() { b"" } else { b"/" }, GONE, name].concat())?;
            }
            continue;
        }
        let Some(held) = open(upper, &item.path)? else { continue };
        let kind = FileType::from_raw_mode(fstat(&held).map_err(std::io::Error::from)?.st_mode);
        let noted = ["trusted.overlay.redirect", "trusted.overlay.metacopy"];
        if matches!(kind, FileType::Directory | FileType::RegularFile) {
            for name in noted {
                if has(&held, &reach, name, None)? {
                    return Err(ChangesError::Noted { path: shown(&item.path) });
                }
            }
        }
        packer.single(&held, item.path.clone())?;
        if item.sort == Sort::Emptied {
            packer.mark([&item.path, &b"/"[..], OPAQUE].concat())?;
            opaque.push(&item.path);
        }
    }
    Ok(packer.finish()?)
}

fn open(upper: &OwnedFd, path: &[u8]) -> std::io::Result<Option<OwnedFd>> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat2(upper, path, flags, Mode::empty(), how) {
        Ok(held) => Ok(Some(held)),
        // Gone meanwhile.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path).escape_debug())
}
