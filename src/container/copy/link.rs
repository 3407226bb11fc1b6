//! What the daemon and the helper that copies files tell each other.
//!
//! ```text
//! daemon ─▶ helper   length (4 bytes, big-endian) and the order as JSON; then the archive that is to be unpacked, to its end
//! helper ─▶ daemon   on the same socket one line of JSON per report; on standard output the archive that is packed
//! ```

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::container::link::ProcessRecord;

/// What a helper is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct CopyOrder {
    /// Where.
    pub place: CopyPlace,
    /// What.
    pub work: CopyWork,
}

/// The container.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyPlace {
    /// It runs: its mounts are entered.
    Running {
        /// Its first process.
        init: ProcessRecord,
        /// Its cgroup.
        cgroup: PathBuf,
    },
    /// It does not: its root is mounted where nobody else sees it.
    Stopped {
        /// The folders of its layers, the lowest first.
        layers: Vec<PathBuf>,
        /// Its folder.
        folder: PathBuf,
        /// Where something is mounted while it runs: nothing is written there.
        mounts: Vec<String>,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyWork {
    /// A file or a folder, to standard output.
    Pack {
        /// Of the container. With `/.` at its end: what is in that folder.
        path: String,
        /// A link at its end is followed.
        follow: bool,
    },
    /// An archive, from the socket.
    Unpack {
        /// Of the container.
        path: String,
        /// The archive has one root, which is placed as `docker cp` does; else it is unpacked in the folder.
        place: bool,
        /// Owners and set-user-id bits as in the archive; else all belongs to root.
        owners: bool,
    },
    /// The whole root without what is mounted in it, to standard output.
    Export,
}

/// What a helper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyReport {
    /// The path is there: the archive follows, or is awaited.
    Ready,
    /// All of it.
    Done(CopyDone),
    /// Not, or not all of it.
    Failed(CopyFailure),
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyDone {
    /// Files, folders and whatever else.
    pub files: u64,
    /// Of the contents of files.
    pub bytes: u64,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum CopyFailure {
    /// There is nothing of that name.
    #[error("{0}")]
    NotFound(String),
    /// It is there, and cannot be.
    #[error("{0}")]
    Refused(String),
    /// Something else.
    #[error("{0}")]
    Failed(String),
    /// The container ended meanwhile.
    #[error("the container ended while files were copied")]
    ContainerEnded,
}
