//! One daemon for each directory: a lock on the directory itself, so that another path to it does not fool it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

/// What a daemon was just starting when it was killed holds the lock until it has become another program.
const LAST_BREATH: Duration = Duration::from_secs(2);

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
        let mut file = File::open(dir).map_err(unusable)?;
        let note = dir.join("daemon.pid");
        let until = Instant::now() + LAST_BREATH;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => {
                    // The note is for messages and patience only; the lock is what counts.
                    File::create(&note).and_then(|mut f| writeln!(f, "{}", std::process::id())).map_err(unusable)?;
                    return Ok(Self { _dir: locked });
                }
                Err((again, nix::errno::Errno::EWOULDBLOCK)) => {
                    let pid = std::fs::read_to_string(&note).ok().and_then(|text| text.trim().parse().ok());
                    if pid.is_none_or(runs) || Instant::now() > until {
                        return Err(LockError::InUse { dir: dir.to_owned(), pid });
                    }
                    file = again;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err((_, errno)) => return Err(unusable(errno.into())),
            }
        }
    }
}

/// Whether there is a process with this number that has not ended; one that nobody has waited for yet has no program any more.
fn runs(pid: i32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
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

    #[test]
    fn what_a_killed_daemon_was_starting_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let held = Flock::lock(File::open(dir.path()).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        std::fs::write(dir.path().join("daemon.pid"), dead.id().to_string()).unwrap();
        let child = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(held);
        });
        DirectoryLock::take(dir.path(), 0o700).unwrap();
        child.join().unwrap();
    }
}
