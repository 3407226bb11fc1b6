//! What is told of containers: their states from memory, and what they take on disk.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::sync::watch;

use super::{Containers, link, walk};
use crate::model::{ContainerId, Digest, ObservedContainer};

/// What a container takes on disk, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// What it wrote into its root.
    pub written: u64,
    /// Its output.
    pub logs: u64,
}

impl Containers {
    /// What is seen now. Cheap: kept in memory.
    #[must_use]
    pub fn observe(&self) -> BTreeMap<ContainerId, ObservedContainer> {
        self.known().iter().map(|(id, known)| (id.clone(), known.observed.clone())).collect()
    }

    /// The manifest that a container is made from.
    #[must_use]
    pub fn image_of(&self, id: &ContainerId) -> Option<Digest> {
        self.known().get(id).map(|known| known.observed.spec.image_digest.clone())
    }

    /// Fires whenever anything of [`Containers::observe`] changed.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// The folder to read its log from.
    #[must_use]
    pub fn log_dir(&self, id: &ContainerId) -> PathBuf {
        self.0.folders.container(id).join(link::LOGS)
    }

    /// What a container takes on disk. Blocks: what it wrote is walked through.
    #[must_use]
    pub fn disk_use(&self, id: &ContainerId) -> DiskUse {
        let folder = self.0.folders.container(id);
        DiskUse { written: walk::bytes(&folder.join("upper")), logs: walk::bytes(&folder.join(link::LOGS)) }
    }
}
