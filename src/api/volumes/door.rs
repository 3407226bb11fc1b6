//! What the daemon can do with volumes, as the routes need it.

use crate::api::wire::{
    DiskRow, ImportedVolume, PrunedVolumes, RemovedVolume, RestoredVolume, VolumeAsk, VolumeEntry, VolumePruneAsk,
    VolumeSnapshot,
};
use crate::api::{Answer, ByteStream, Job, Refusal};

/// The volumes of this machine.
pub trait VolumeDoor: Send + Sync {
    /// All volumes; how large they are only where that is asked for.
    fn list(&self, sizes: bool) -> Answer<'_, Vec<VolumeEntry>>;
    /// All about one.
    fn inspect(&self, name: String, size: bool) -> Answer<'_, VolumeEntry>;
    /// Makes one; it may be there already, as the same.
    fn create(&self, ask: VolumeAsk) -> Answer<'_, VolumeEntry>;
    /// Removes one that no container uses and no state file names.
    fn remove(&self, name: String) -> Answer<'_, RemovedVolume>;
    /// Removes those that are named, or anonymous ones, where nothing needs them.
    fn prune(&self, ask: VolumePruneAsk) -> Answer<'_, PrunedVolumes>;
    /// Opens a tar of what it holds.
    fn export(&self, name: String) -> Answer<'_, ByteStream>;
    /// Fills an empty one from a tar, or with `replace` any; one that is missing is made. Not while a container that uses it runs.
    fn import(&self, name: String, replace: bool, archive: ByteStream) -> Result<Job<ImportedVolume>, Refusal>;
    /// Copies it.
    fn snapshot(&self, name: String, called: Option<String>) -> Result<Job<VolumeSnapshot>, Refusal>;
    /// Its copies, or all.
    fn snapshots(&self, name: Option<String>) -> Answer<'_, Vec<VolumeSnapshot>>;
    /// Removes a copy.
    fn remove_snapshot(&self, name: String, called: String) -> Answer<'_, VolumeSnapshot>;
    /// Puts a copy in the place of what it holds; not while a container that uses it runs.
    fn restore(&self, name: String, from: String) -> Result<Job<RestoredVolume>, Refusal>;
    /// What volumes and their copies take on the disk; each by itself only where that is asked for.
    fn disk_use(&self, items: bool) -> Answer<'_, Vec<DiskRow>>;
}
