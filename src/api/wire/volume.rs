//! Volumes, and copies of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VolumeEntry {
    /// Its name.
    pub name: String,
    /// `local`.
    pub driver: String,
    /// Options of the driver: `type`, `o`, `device`. Empty: a folder in the data directory.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created: Time,
    /// Where on the host its files are.
    pub path: String,
    /// Nobody gave it its name: it belongs to a place in a replica of a service.
    pub anonymous: bool,
    /// What its options name is mounted now.
    pub mounted: bool,
    /// The containers that use it, those that do not run too.
    pub used_by: Vec<String>,
    /// The state files in force that name it, and those whose services need it.
    pub defined_by: Vec<String>,
    /// Neither a container nor a state file names it.
    pub unused: bool,
    /// Bytes on disk, where that was asked for.
    pub bytes: Option<u64>,
    /// Files and folders in it, where that was asked for.
    pub files: Option<u64>,
}

/// Make a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeAsk {
    /// Its name.
    pub name: String,
    /// Options of the driver `local`: `type`, `o`, `device`.
    #[serde(default)]
    pub driver_opts: BTreeMap<String, String>,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A volume is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovedVolume {
    /// Its name.
    pub name: String,
    /// So many copies of it are kept.
    pub snapshots: u64,
}

/// Remove volumes that nothing needs. Without names and without `anonymous` nothing is removed: the answer says what could be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VolumePruneAsk {
    /// These, where neither a container nor a state file names them; where one does, none is removed.
    pub names: Vec<String>,
    /// All anonymous ones that no container uses and no state file needs.
    pub anonymous: bool,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// What was removed, and what could be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrunedVolumes {
    /// The volumes; for a question only, those that would go.
    pub removed: Vec<PrunedVolume>,
    /// Volumes that nothing needs and that stay until somebody names them.
    pub unused: Vec<PrunedVolume>,
    /// Bytes of disk that are free again, or would be.
    pub freed: u64,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrunedVolume {
    /// Its name.
    pub name: String,
    /// Nobody gave it its name.
    pub anonymous: bool,
    /// Bytes on disk; none where its options mount what is not on ours.
    pub bytes: Option<u64>,
}

/// Copy a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotAsk {
    /// The copy's name; without it, the time.
    pub name: Option<String>,
}

/// A copy of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VolumeSnapshot {
    /// Of which volume.
    pub volume: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Time,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Put a copy in the place of what a volume holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreAsk {
    /// The copy's name.
    pub snapshot: String,
}

/// A volume holds what the copy held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoredVolume {
    /// The volume.
    pub volume: String,
    /// The copy.
    pub snapshot: String,
}

/// A volume holds what the archive held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportedVolume {
    /// The volume.
    pub volume: String,
}
