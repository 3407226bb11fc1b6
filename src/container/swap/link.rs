//! What the daemon and the helper that swaps files tell each other, over one socket pair.
//!
//! ```text
//! daemon ─▶ helper   length (4 bytes, big-endian) and the order as JSON; then what the files hold
//! helper ─▶ daemon   the report as JSON, to the end
//! ```

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::container::given_files::FileOrder;
use crate::container::link::ProcessRecord;

/// What a helper is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct SwapOrder {
    /// The container's first process.
    pub init: ProcessRecord,
    /// Its cgroup.
    pub cgroup: PathBuf,
    /// A folder of our own where the files are written; nobody sees them there.
    pub place: PathBuf,
    /// Which.
    pub files: Vec<FileOrder>,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwapReport {
    /// All of them were swapped.
    Done,
    /// Some may have been.
    Failed(String),
    /// The container ended meanwhile.
    ContainerEnded,
}
