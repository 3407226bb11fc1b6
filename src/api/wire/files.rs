//! Files of containers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An archive was unpacked in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Copied {
    /// The container's name.
    pub container: String,
    /// Files, folders and whatever else.
    pub files: u64,
    /// Of the contents of files.
    pub bytes: u64,
}

/// Something in a container's root is not as in its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileChange {
    /// Absolute; what is not UTF-8 is replaced.
    pub path: String,
    /// What became of it.
    pub kind: FileChangeKind,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileChangeKind {
    /// It is not in the image.
    Added,
    /// It is another one, or something in it is.
    Changed,
    /// It is no more.
    Deleted,
}
