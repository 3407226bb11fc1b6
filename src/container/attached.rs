//! What containers are joined to: the lease of their addresses and ports, from before their start until the next one.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError};

use super::{Containers, Inner};
use crate::model::{Attached, ContainerId};

impl Containers {
    /// What a container was joined to at its last start; nothing for one that was never started. None where there is no such container.
    #[must_use]
    pub fn attached(&self, id: &ContainerId) -> Option<Attached> {
        self.known().get(id).map(|known| known.attached.clone())
    }

    /// Writes down that it has the ports of its slot, or has them not, from now on.
    pub async fn note_attached(&self, id: &ContainerId, attached: Attached) -> io::Result<()> {
        let (inner, id) = (Arc::clone(&self.0), id.clone());
        super::blocking(move || inner.attach(&id, attached)).await
    }

    /// That of all of them.
    #[must_use]
    pub fn all_attached(&self) -> BTreeMap<ContainerId, Attached> {
        self.known().iter().map(|(id, known)| (id.clone(), known.attached.clone())).collect()
    }
}

impl Inner {
    /// Writes down what it is about to be joined to. A start that changes nothing of it writes nothing.
    pub(super) fn attach(&self, id: &ContainerId, attached: Attached) -> io::Result<()> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known().get(id).is_none_or(|known| known.attached == attached) {
            return Ok(());
        }
        self.folders.write_network(id, &attached)?;
        if let Some(known) = known().get_mut(id) {
            known.attached = attached;
        }
        Ok(())
    }
}
