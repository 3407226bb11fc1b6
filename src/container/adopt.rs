//! Taking over what was found, and noticing when a shim ends.

use std::sync::Arc;

use super::cgroup::Cgroups;
use super::process::{self, Process};
use super::{Containers, Inner, KILL_LIMIT, OpenError, Warning, disk, state};
use crate::model::{ContainerId, ContainerState, ProcessId, UserNamespace};

/// Where those that were found asked to be.
pub(super) fn remember(cgroups: &Cgroups, found: &[disk::Found]) {
    for container in found {
        cgroups.remember(&container.spec.id, container.spec.service.isolation.cgroup_parent.as_deref());
    }
}

impl Inner {
    /// After a removal: gives back what a container holds of what all of them share.
    pub(super) fn gone(&self, id: &ContainerId) {
        self.cgroups.retire(id);
        self.settings.ids.release(&self.folders.container(id));
    }
}

impl Containers {
    /// Takes over a container that was found on disk.
    pub(super) fn adopt(&self, found: disk::Found, warnings: &mut Vec<Warning>) -> Result<(), OpenError> {
        let id = found.spec.id.clone();
        let path = || self.0.folders.container(&id);
        // Whoever may be alive in there must not be ended or doubled for want of a descriptor.
        let state = state::look(&self.0, &id);
        let state = state.map_err(|source| OpenError::Folder { path: path(), source })?;
        if !state.alive() && self.0.cgroups.populated(&id) {
            // A start that did not get as far as its record.
            if let Err(left) = self.0.cgroups.kill(&id, KILL_LIMIT) {
                warnings.push(Warning(format!("container {}: {left}", id.short())));
            }
        }
        if found.spec.service.isolation.user != UserNamespace::Host
            && let Err(error) = self.0.settings.ids.keep(&path())
        {
            warnings
                .push(Warning(format!("container {}: its ids are not known to other daemons: {error}", id.short())));
        }
        let running = matches!(state, ContainerState::Running { .. });
        if state.alive() {
            self.0.let_go_if_held(&id);
        }
        self.know(found.spec, found.image, found.attached, state);
        if running {
            self.watch(&id);
        }
        Ok(())
    }

    /// Looks again once the shim has ended, and for as long as that cannot be seen.
    pub(super) fn watch(&self, id: &ContainerId) {
        let Some(ContainerState::Running { shim, .. }) = self.state(id) else { return };
        let (all, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            loop {
                if let Ok(Some(process)) = Process::open(shim) {
                    process.ended().await;
                }
                if let Some(state) = all.look_when_ended(&id).await {
                    all.set_if_of(&id, shim, state);
                }
                if !all.runs_with(&id, shim) {
                    return;
                }
                // Reached only where the process or the records could not be looked at.
                tokio::time::sleep(process::LOOK_AGAIN).await;
            }
        });
    }

    /// Reads the state from the records. For whoever holds the container's lock: nobody starts it meanwhile.
    pub(super) async fn settle(&self, id: &ContainerId) {
        if let Some(state) = self.look_when_ended(id).await {
            self.set(id, state);
        }
    }

    pub(super) async fn look_when_ended(&self, id: &ContainerId) -> Option<ContainerState> {
        let (inner, looking) = (Arc::clone(&self.0), id.clone());
        tokio::task::spawn_blocking(move || state::look_when_ended(&inner, &looking)).await.ok()?.ok()
    }

    fn runs_with(&self, id: &ContainerId, shim: ProcessId) -> bool {
        matches!(self.state(id), Some(ContainerState::Running { shim: now, .. }) if now == shim)
    }

    /// Where it was started again since the look, that start watches for itself and knows better.
    fn set_if_of(&self, id: &ContainerId, shim: ProcessId, state: ContainerState) {
        if let Some(known) = self.known().get_mut(id)
            && matches!(known.observed.state, ContainerState::Running { shim: now, .. } if now == shim)
        {
            known.paused &= state.alive();
            known.observed.state = state;
        }
        self.notify();
    }
}
