//! How processes of the toy host end.

use std::collections::BTreeSet;

use crate::model::{ContainerId, ContainerState, ExitStatus, Slot};
use crate::plan::sim::World;

impl World {
    pub(in crate::plan) fn end(&mut self, id: &ContainerId, status: ExitStatus) {
        let at = self.wall_of(id);
        if let Some(container) = self.containers.get_mut(id) {
            let started = match container.state {
                ContainerState::Running { since, .. } => since,
                ContainerState::Orphaned { started } => started,
                ContainerState::Created | ContainerState::Exited { .. } | ContainerState::StartFailed { .. } => return,
            };
            container.state = ContainerState::Exited { status, started, at };
            self.paused.remove(id);
            self.net.lost.remove(id);
        }
    }

    /// The shim of a running container is killed.
    pub(in crate::plan) fn orphan(&mut self, id: &ContainerId) {
        if let Some(container) = self.containers.get_mut(id)
            && let ContainerState::Running { since, .. } = container.state
        {
            container.state = ContainerState::Orphaned { started: since };
            self.net.lost.remove(id);
        }
    }

    pub(in crate::plan) fn alive_slots(&self) -> BTreeSet<Slot> {
        self.containers.values().filter(|c| c.state.alive()).map(|c| c.spec.slot.clone()).collect()
    }
}
