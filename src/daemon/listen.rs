//! The API's unix socket: made anew, for the owner and the group `longshore`, never taken from a daemon that answers.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// The group that may speak to the daemon, where the machine has it.
const GROUP: &str = "longshore";

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    /// Somebody answers there.
    #[error("{} is in use: another daemon answers there; stop it, or use another --socket", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else lies there.
    #[error("{} exists and is not a socket; remove it, or use another --socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("the socket {} cannot be made", path.display())]
    Unusable {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// Listens on `path` with mode 0660.
pub(super) fn unix(path: &Path) -> Result<UnixListener, ListenError> {
    let unusable = |error| ListenError::Unusable { path: path.to_owned(), error };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(unusable)?;
    }
    clear_stale(path)?;
    // Bound under a private name first: nobody can connect before the mode and the owner are right.
    let private = path.with_extension(format!("sock.{}", std::process::id()));
    let listener = std::os::unix::net::UnixListener::bind(&private).map_err(unusable)?;
    let made = std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o660))
        .and_then(|()| hand_to_group(&private))
        .and_then(|()| std::fs::rename(&private, path))
        .and_then(|()| listener.set_nonblocking(true));
    if let Err(error) = made {
        // What was made half is not left behind; the error that counts is the first one.
        drop(std::fs::remove_file(&private));
        return Err(unusable(error));
    }
    UnixListener::from_std(listener).map_err(unusable)
}

fn clear_stale(path: &Path) -> Result<(), ListenError> {
    use std::os::unix::fs::FileTypeExt as _;
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(ListenError::InUse { path: path.to_owned() }),
        Err(_) => Ok(()),
    }
}

fn hand_to_group(path: &Path) -> io::Result<()> {
    match nix::unistd::Group::from_name(GROUP) {
        Ok(Some(group)) => std::os::unix::fs::chown(path, None, Some(group.gid.as_raw())),
        Ok(None) | Err(_) => Ok(()),
    }
}
