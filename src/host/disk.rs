//! What containers take on disk.

use super::LinuxHost;
use crate::container::{DiskUse, KeptLog};
use crate::model::{ContainerName, ContainerState, Slot, Timestamp};

/// One container's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerDisk {
    /// Its name.
    pub name: ContainerName,
    /// Of which service.
    pub slot: Slot,
    /// Whether it runs.
    pub alive: bool,
    /// When it was started last.
    pub since: Option<Timestamp>,
    /// Bytes.
    pub disk: DiskUse,
}

impl LinuxHost {
    /// What each container takes on disk, by name. Blocks.
    #[must_use]
    pub fn container_disk(&self) -> Vec<ContainerDisk> {
        let each = |(id, seen): (crate::model::ContainerId, crate::model::ObservedContainer)| ContainerDisk {
            slot: seen.spec.slot.clone(),
            alive: seen.state.alive(),
            since: since(&seen.state),
            disk: self.containers.disk_use(&id),
            name: seen.spec.name,
        };
        let mut all: Vec<_> = self.containers.observe().into_iter().map(each).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The output that is kept of containers that are gone, with its bytes. Blocks.
    #[must_use]
    pub fn kept_logs(&self) -> Vec<(KeptLog, u64)> {
        self.containers.kept_logs()
    }

    /// The output of the containers that were in these slots before the present ones.
    #[must_use]
    pub fn previous_logs(&self, project: &str, service: &str, number: Option<u32>) -> Vec<KeptLog> {
        self.containers.previous_logs(project, service, number)
    }
}

fn since(state: &ContainerState) -> Option<Timestamp> {
    match state {
        ContainerState::Running { since, .. } => Some(*since),
        ContainerState::Exited { started, .. } => Some(*started),
        ContainerState::Orphaned { started } => Some(*started),
        ContainerState::Created | ContainerState::StartFailed { .. } => None,
    }
}
