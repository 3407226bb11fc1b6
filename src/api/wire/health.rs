//! The small answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether the daemon is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// Whether the first look at the folder and the host is done and acted upon.
    pub ready: bool,
    /// Whether nothing is left to do.
    pub settled: bool,
    /// The revision of the status.
    pub revision: u64,
    /// Why it is not ready.
    pub reason: Option<String>,
}

/// Which daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    /// The package's version.
    pub version: String,
    /// The commit it was built from, where known.
    pub commit: Option<String>,
    /// The version of this API: `v1`.
    pub api: String,
    /// The daemon's pid.
    pub pid: u32,
    /// When the daemon was started.
    pub started: super::Time,
}

/// The folder was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Looked {
    /// Always true; what is refused comes as an error.
    pub looked: bool,
}

/// A confirmation was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Confirmed {
    /// Always true; what is refused comes as an error.
    pub confirmed: bool,
}
