//! What lies on disk.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// What lies on disk, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskUse {
    /// A row for each kind.
    pub rows: Vec<DiskRow>,
}

/// One kind of things on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskRow {
    /// Which kind.
    pub kind: DiskKind,
    /// How many there are.
    pub count: u64,
    /// How many of them are in use.
    pub active: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes that would be free without those that are not in use.
    pub reclaimable: u64,
    /// Each of them, where that was asked for.
    pub items: Vec<DiskItem>,
}

/// A kind of things on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskKind {
    /// Images, each with the layers that no other image has.
    Images,
    /// Unpacked layers.
    Layers,
    /// What containers wrote.
    Containers,
    /// Output of containers.
    Logs,
    /// Downloads that have not come to their end.
    Partial,
    /// Volumes. Those that nothing uses and nothing names could go.
    Volumes,
    /// Copies of volumes, as if they shared no blocks.
    Snapshots,
}

/// One thing on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskItem {
    /// What it is called.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Of these, bytes that it shares with others of its kind.
    pub shared: u64,
    /// Whether it is in use.
    pub active: bool,
    /// When it was made; of a container, when it was started last.
    #[serde(default)]
    pub since: Option<Time>,
    /// Who uses it: containers; of a container, its service; else the state files that name it.
    #[serde(default)]
    pub used_by: Vec<String>,
}
