//! What containers take on disk.

use super::LinuxHost;
use crate::container::DiskUse;
use crate::model::ContainerName;

/// One container's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerDisk {
    /// Its name.
    pub name: ContainerName,
    /// Whether it runs.
    pub alive: bool,
    /// Bytes.
    pub disk: DiskUse,
}

impl LinuxHost {
    /// What each container takes on disk, by name. Blocks.
    #[must_use]
    pub fn container_disk(&self) -> Vec<ContainerDisk> {
        let each = |(id, seen): (crate::model::ContainerId, crate::model::ObservedContainer)| ContainerDisk {
            alive: seen.state.alive(),
            disk: self.containers.disk_use(&id),
            name: seen.spec.name,
        };
        let mut all: Vec<_> = self.containers.observe().into_iter().map(each).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}
