//! What changes on a container without making it again: resources, labels, restart policy, stop settings.

use std::io;
use std::sync::Arc;

use super::resources::{ResourceError, write};
use super::{Containers, Inner};
use crate::model::ContainerSpec;

/// Why a container was not given what changed. It goes on as it was.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// There is none.
    #[error("no such container")]
    Unknown,
    /// A limit cannot be what it should be now.
    #[error("the container runs on with the limits it has")]
    Resources(#[from] ResourceError),
    /// Its record.
    #[error("the container's record was not written")]
    Record(#[source] io::Error),
}

impl Containers {
    /// Gives it what can change, and records that. Limits of one that runs are written to its cgroups; all of them, or none.
    pub async fn update(&self, spec: &ContainerSpec) -> Result<(), UpdateError> {
        let busy = self.busy(&spec.id).ok_or(UpdateError::Unknown)?;
        let _one = busy.lock().await;
        let known = self.known().get(&spec.id).map(|known| known.observed.clone()).ok_or(UpdateError::Unknown)?;
        let (inner, new) = (Arc::clone(&self.0), spec.clone());
        let updated = tokio::task::spawn_blocking(move || {
            let runs = known.state.alive();
            update(&inner, runs.then_some(&known.spec), &new)
        });
        updated.await.map_err(|error| UpdateError::Record(io::Error::other(error)))??;
        if let Some(known) = self.known().get_mut(&spec.id) {
            known.observed.spec = spec.clone();
        }
        self.notify();
        Ok(())
    }
}

/// `running`: what one that runs was made from.
fn update(inner: &Inner, running: Option<&ContainerSpec>, new: &ContainerSpec) -> Result<(), UpdateError> {
    let before = running.map(|spec| &spec.service.resources).filter(|before| **before != new.service.resources);
    let written = before
        .map(|before| write(&inner.sight.machine, &inner.cgroups.path(&new.id), Some(before), &new.service.resources));
    let written = written.transpose()?;
    inner.folders.update(new).map_err(|error| {
        // What is not recorded would be undone by the next start, and seen by nobody.
        written.into_iter().for_each(super::resources::Undo::back);
        UpdateError::Record(error)
    })
}
