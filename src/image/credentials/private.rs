//! Files that hold secrets: bounded, and only such as nobody else can read.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file of logins is never larger.
const LARGEST: u64 = 1 << 20;

/// Why a file with secrets is not used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Others could read it.
    #[error("{0} can be read by others than its owner (mode {mode:04o}); run `chmod 600 {0}`", path.display())]
    Open { path: PathBuf, mode: u32 },
    /// It belongs to someone who could change it under us.
    #[error("{0} belongs to user {owner}, not to root or the daemon's user; run `chown root {0}`", path.display())]
    Owner { path: PathBuf, owner: u32 },
    /// It is something else.
    #[error("{} is not a file of at most {LARGEST} bytes", path.display())]
    Strange { path: PathBuf },
}

/// The whole file; none where there is none.
pub fn read_private(path: &Path) -> Result<Option<Vec<u8>>, PrivateError> {
    let failed = |source| PrivateError::Io { path: path.to_owned(), source };
    // Opening a pipe would wait for its other end.
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    let file = match opened {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    // The open file is asked, not the path, which may name another one by now.
    let facts = file.metadata().map_err(failed)?;
    if !facts.is_file() || facts.len() > LARGEST {
        return Err(PrivateError::Strange { path: path.to_owned() });
    }
    let mode = facts.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PrivateError::Open { path: path.to_owned(), mode });
    }
    if facts.uid() != 0 && facts.uid() != nix::unistd::geteuid().as_raw() {
        return Err(PrivateError::Owner { path: path.to_owned(), owner: facts.uid() });
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_what_others_cannot_read_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(read_private(&path).unwrap().is_none());
        std::fs::write(&path, "x").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o644, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_private(&path).is_ok(), good, "{mode:o}");
        }
        let said = read_private(&path).unwrap_err().to_string();
        assert!(said.contains("0644") && said.contains("chmod 600"), "{said}");
        assert!(matches!(read_private(dir.path()), Err(PrivateError::Strange { .. })));
    }
}
