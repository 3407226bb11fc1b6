//! Where the parts of an archive lie: spooled out of a tar, or in a folder.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::spool::Spool;
use super::{ArchiveError, refused};
use crate::image::error::{StoreError, shown};
use crate::image::hash::digest_like;
use crate::model::Digest;

/// Parts by their names in the archive.
pub(super) enum Shelf {
    Spool(Spool),
    Folder { path: PathBuf, dir: OwnedFd },
}

impl Shelf {
    pub(super) fn folder(path: &Path) -> Result<Self, ArchiveError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| ArchiveError::Read(e.into()))?;
        Ok(Self::Folder { path: path.to_owned(), dir })
    }

    /// A part and its size. A folder's links are not followed out of it, and nothing but files is read.
    pub(super) fn open(&self, name: &str) -> Result<Option<(File, u64)>, ArchiveError> {
        let file = match self {
            Self::Spool(spool) => match spool.path(name) {
                Some(path) => File::open(path).map_err(ArchiveError::Read)?,
                None => return Ok(None),
            },
            Self::Folder { path, dir } => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
                match rustix::fs::openat2(dir, name, flags, Mode::empty(), ResolveFlags::BENEATH) {
                    Ok(file) => File::from(file),
                    Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
                    Err(e) => return Err(ArchiveError::Store(StoreError::io(&path.join(name))(e.into()))),
                }
            }
        };
        let found = file.metadata().map_err(ArchiveError::Read)?;
        if found.is_file() {
            Ok(Some((file, found.len())))
        } else {
            refused(format!("{} is not a file", shown(name.as_bytes())))
        }
    }

    /// A small part.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some((file, size)) = self.open(name)? else { return Ok(None) };
        if size > limit {
            return refused(format!("{} has {size} bytes; at most {limit} are allowed", shown(name.as_bytes())));
        }
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
        Ok(Some(bytes))
    }

    /// A small part that is what its digest says.
    pub(super) fn document(&self, name: &str, digest: &Digest, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let Some(bytes) = self.read(name, limit)? else {
            return Err(ArchiveError::Missing { what: shown(name.as_bytes()) });
        };
        let got = digest_like(digest, &bytes);
        if got == digest.as_str() { Ok(bytes) } else { Err(ArchiveError::WrongDigest { digest: digest.clone(), got }) }
    }
}
