//! What changes on a container without making it again: resources, labels, restart policy, stop settings, contents of configs and secrets.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::process::Process;
use super::resources::{ResourceError, write};
use super::swap::{SwapError, swap};
use super::{Containers, Inner};
use crate::model::{ContainerSpec, ContainerState, Fingerprint, MountedFile, OnChange, ProcessId};

/// Why a container was not given what changed. It goes on as it was.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// There is none.
    #[error("no such container")]
    Unknown,
    /// A limit cannot be what it should be now.
    #[error("the container runs on with the limits it has")]
    Resources(#[from] ResourceError),
    /// A config or a secret was not swapped.
    #[error("the container runs on with the configs and secrets it has")]
    Files(#[from] SwapError),
    /// Its main process was not told.
    #[error("the container has its new configs and secrets, and its main process was not told; it is tried again")]
    Signal(#[source] io::Error),
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
        if let ContainerState::Running { init, .. } = known.state {
            self.swap(init, &known.spec, spec).await?;
        }
        let runs = known.state.alive();
        self.record(runs.then_some(known.spec), spec.without_contents()).await?;
        self.notify();
        Ok(())
    }

    /// Writes the record; `running`: what one that runs was made from, whose limits change with it.
    async fn record(&self, running: Option<ContainerSpec>, new: ContainerSpec) -> Result<(), UpdateError> {
        let (inner, recorded) = (Arc::clone(&self.0), new.clone());
        let updated = tokio::task::spawn_blocking(move || update(&inner, running.as_ref(), &recorded));
        updated.await.map_err(|error| UpdateError::Record(io::Error::other(error)))??;
        if let Some(known) = self.known().get_mut(&new.id) {
            known.observed.spec = new;
        }
        Ok(())
    }

    /// The files that hold something else by now; then each signal that one of them asks for, once. It is recorded after that: what is
    /// not is done again. What they hold is in doubt meanwhile, and recorded so before: it would not be done again otherwise if the
    /// state file said once more what it had said before.
    async fn swap(&self, init: ProcessId, made: &ContainerSpec, new: &ContainerSpec) -> Result<(), UpdateError> {
        let changed = |file: &&MountedFile| {
            let same = |made: &MountedFile| made.target == file.target && made.fingerprint == file.fingerprint;
            file.content.is_some() && !made.service.files.iter().any(same)
        };
        let files: Vec<MountedFile> = new.service.files.iter().filter(changed).cloned().collect();
        if files.is_empty() {
            return Ok(());
        }
        let doubted = in_doubt(made, &files);
        if doubted != *made {
            self.record(None, doubted).await?;
        }
        swap(&self.0, &new.id, init, &files).await?;
        let signals: BTreeSet<i32> = files
            .iter()
            .filter_map(|file| match file.on_change {
                OnChange::Signal(signal) => Some(signal.number()),
                OnChange::Recreate | OnChange::Restart | OnChange::Update => None,
            })
            .collect();
        if let Some(process) = Process::open(init).map_err(UpdateError::Signal)? {
            signals.into_iter().for_each(|number| process.signal(number));
        }
        Ok(())
    }
}

/// A container of which nobody knows what it sees in some files.
fn in_doubt(made: &ContainerSpec, files: &[MountedFile]) -> ContainerSpec {
    let mut made = made.without_contents();
    let doubted = |made: &&mut MountedFile| files.iter().any(|file| file.target == made.target);
    for file in made.service.files.iter_mut().filter(doubted) {
        file.fingerprint = Fingerprint::unknown();
    }
    made
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
