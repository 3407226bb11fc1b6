//! What changes on a container without making it again: resources, labels, restart policy, stop settings.

use std::io;
use std::sync::Arc;

use super::{Containers, blocking};
use crate::model::ContainerSpec;

/// Why a container was not given what changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// There is none.
    #[error("no such container")]
    Unknown,
    /// Its record.
    #[error("the container's record was not written")]
    Record(#[source] io::Error),
}

impl Containers {
    /// Gives it what can change, and records that.
    pub async fn update(&self, spec: &ContainerSpec) -> Result<(), UpdateError> {
        let busy = self.busy(&spec.id).ok_or(UpdateError::Unknown)?;
        let _one = busy.lock().await;
        let (inner, new) = (Arc::clone(&self.0), spec.clone());
        blocking(move || inner.folders.update(&new)).await.map_err(UpdateError::Record)?;
        if let Some(known) = self.known().get_mut(&spec.id) {
            known.observed.spec = spec.clone();
        }
        self.notify();
        Ok(())
    }
}
