//! Places where a layer grows before anyone may see it.
//!
//! An `ingest/<name>` directory that is dropped without being committed removes itself; one left by a dead run is
//! removed when the store opens. Trees are removed without recursion and with few descriptors, however deep an image
//! made them: a full directory is first moved up beside its elders.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A private directory with `diff/`, the layer to be, and `trash/`, what the layer replaced of its own.
#[derive(Debug)]
pub(in crate::image) struct Ingest {
    path: PathBuf,
    kept: bool,
}

impl Ingest {
    /// Makes `parent/<name never used before>`.
    pub(in crate::image) fn make(parent: &Path) -> io::Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let path = loop {
            let name = format!("{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
            match std::fs::create_dir(parent.join(&name)) {
                Ok(()) => break parent.join(name),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        };
        let ingest = Self { path, kept: false };
        std::fs::create_dir(ingest.diff())?;
        std::fs::create_dir(ingest.trash())?;
        Ok(ingest)
    }
    pub(in crate::image) fn path(&self) -> &Path {
        &self.path
    }
    pub(in crate::image) fn diff(&self) -> PathBuf {
        self.path.join("diff")
    }
    pub(in crate::image) fn trash(&self) -> PathBuf {
        self.path.join("trash")
    }
    /// Moves it to `target` and lets it live, unless something stands there.
    pub(in crate::image) fn keep_as(mut self, target: &Path) -> io::Result<Result<(), Occupied>> {
        match std::fs::rename(&self.path, target) {
            Ok(()) => {
                self.kept = true;
                Ok(Ok(()))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                Ok(Err(Occupied(self)))
            }
            Err(error) => Err(error),
        }
    }
}

/// An ingest directory whose place is taken.
pub(in crate::image) struct Occupied(pub(in crate::image) Ingest);

impl Drop for Ingest {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = remove_tree(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "an unfinished layer could not be removed; it will be when the daemon starts again");
        }
    }
}

/// Removes a directory and all below it. What is not there is removed already.
pub(in crate::image) fn remove_tree(path: &Path) -> io::Result<()> {
    let top = match rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return std::fs::remove_file(path),
        Err(error) => return Err(error.into()),
    };
    let mut moved = 0u64;
    while sweep(top.as_fd(), &mut moved)? {}
    std::fs::remove_dir(path)
}

/// Empties `top` by one round; true while something may be left.
fn sweep(top: BorrowedFd<'_>, moved: &mut u64) -> io::Result<bool> {
    let mut again = false;
    for name in names(top)? {
        if remove_one(top, &name)? {
            continue;
        }
        // A full directory: what is in it goes, or moves up to `top` for the next round.
        let child = rustix::fs::openat(top, &name, DIRECTORY, Mode::empty())?;
        lift(child.as_fd(), top, moved)?;
        remove_one(top, &name)?;
        again = true;
    }
    Ok(again)
}

fn lift(child: BorrowedFd<'_>, top: BorrowedFd<'_>, moved: &mut u64) -> io::Result<()> {
    for name in names(child)? {
        if remove_one(child, &name)? {
            continue;
        }
        loop {
            *moved += 1;
            match rustix::fs::renameat_with(
                child,
                &name,
                top,
                format!(".moved-{moved}"),
                rustix::fs::RenameFlags::NOREPLACE,
            ) {
                Ok(()) => break,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Removes a file, a link or an empty directory; false for a full directory.
fn remove_one(parent: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<bool> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Names in a directory, a bounded number at a time: the caller comes again until there are none.
fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<std::ffi::CString>> {
    let own: OwnedFd = rustix::fs::openat(dir, c".", DIRECTORY, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(own)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}
