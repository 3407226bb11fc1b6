//! Images as they are listed and looked into.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Time;

/// One image of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageEntry {
    /// Every name it has; empty for one that lost its name.
    pub names: Vec<String>,
    /// The digest of its manifest.
    pub digest: String,
    /// What the registry had under the name: the same, or the index that it was chosen from.
    pub top: String,
    /// Its platform.
    pub platform: String,
    /// Bytes of its layers as a registry has them.
    pub bytes: u64,
    /// Bytes of its layers on disk; layers that images share count for each.
    pub disk_bytes: u64,
    /// When it was built, where it says so.
    pub created: Option<Time>,
    /// When it came here.
    pub pulled: Time,
    /// When a container was made from it or removed last.
    pub last_used: Option<Time>,
    /// Whether it is kept whatever happens.
    pub pinned: bool,
    /// How it came here: `pulled`, `loaded`, `imported` or `tagged`.
    pub origin: String,
    /// The containers that are made from it.
    pub used_by: Vec<String>,
}

/// All about one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageDetails {
    /// As it is listed.
    pub image: ImageEntry,
    /// Repositories that are known to hold its blobs.
    pub sources: Vec<String>,
    /// Its layers, lowest first.
    pub layers: Vec<LayerEntry>,
    /// Its manifest, as it came.
    pub manifest: Value,
    /// Its configuration, as it came.
    pub config: Value,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LayerEntry {
    /// The digest of its blob.
    pub digest: String,
    /// The digest of its archive.
    pub diff_id: String,
    /// Bytes of its blob.
    pub bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

/// One step of how an image was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// When, where it is known.
    pub created: Option<Time>,
    /// By which command.
    pub created_by: String,
    /// What was noted.
    pub comment: String,
    /// The archive's digest, where the step made a layer.
    pub diff_id: Option<String>,
    /// Bytes of the layer.
    pub bytes: u64,
}
