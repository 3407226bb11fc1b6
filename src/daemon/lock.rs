//! One daemon for each directory: a lock on the directory itself, so that another path to it does not fool it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// The lock is held as long as this lives; the kernel drops it with the process.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _dir: Flock<File>,
}

/// Why a directory is not ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    /// Another daemon holds it.
    #[error("{dir} is in use by another longshore daemon{}; stop that one, or use another directory", .pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The other one, where it is known.
        pid: Option<i32>,
    },
    /// It cannot be made or opened.
    #[error("{dir} cannot be used")]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl DirectoryLock {
    /// Makes the directory where it is missing, and takes it.
    pub(super) fn take(dir: &Path, mode: u32) -> Result<Self, LockError> {
        let unusable = |error| LockError::Unusable { dir: dir.to_owned(), error };
        make(dir, mode).map_err(unusable)?;
        let file = File::open(dir).map_err(unusable)?;
        let note = dir.join("daemon.pid");
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => {
                // The note is for the message above only; the lock is what counts.
                File::create(&note).and_then(|mut f| writeln!(f, "{}", std::process::id())).map_err(unusable)?;
                Ok(Self { _dir: locked })
            }
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                let pid = std::fs::read_to_string(&note).ok().and_then(|text| text.trim().parse().ok());
                Err(LockError::InUse { dir: dir.to_owned(), pid })
            }
            Err((_, errno)) => Err(unusable(errno.into())),
        }
    }
}

fn make(dir: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_path_to_the_directory_does_not_fool_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("data");
        let first = DirectoryLock::take(&real, 0o700).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let said = DirectoryLock::take(&link, 0o700).unwrap_err().to_string();
        assert!(said.contains(&format!("(pid {})", std::process::id())), "{said}");
        drop(first);
        DirectoryLock::take(&link, 0o700).unwrap();
    }
}
