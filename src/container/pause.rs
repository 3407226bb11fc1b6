//! A container held still: while somebody copies what it wrote, or until its owner wants it to go on.
//!
//! That it is held for a copy is noted in its folder first: a daemon that was killed meanwhile lets it go on when it starts again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::process::Process;
use super::{Containers, Inner, blocking};
use crate::model::{ContainerId, ContainerState, Signal};

const LIMIT: Duration = Duration::from_secs(10);
const NOTE: &str = "paused";

/// Why a container is not held still, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// There is none.
    #[error("no such container")]
    Unknown,
    /// There is nothing to hold.
    #[error("the container does not run")]
    NotRunning,
    /// The kernel.
    #[error("the container's processes cannot be held still")]
    Freeze(#[source] io::Error),
}

/// Why a signal was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// There is nobody to send it to.
    #[error("the container does not run")]
    NotRunning,
    /// It cannot be told.
    #[error("the container's main process cannot be reached")]
    Unreachable(#[source] io::Error),
}

/// A container that nobody starts, stops or removes, and that does not move where it was to be held still. Dropped, it goes on.
pub struct Still {
    inner: Arc<Inner>,
    id: ContainerId,
    frozen: bool,
    _turn: OwnedMutexGuard<()>,
}

impl Drop for Still {
    fn drop(&mut self) {
        if self.frozen {
            self.inner.let_go(&self.id);
        }
    }
}

impl Inner {
    fn note(&self, id: &ContainerId) -> PathBuf {
        self.folders.container(id).join(NOTE)
    }

    fn let_go(&self, id: &ContainerId) {
        self.cgroups.thaw(id);
        // Left, it only makes the next daemon do this once more.
        let _ = fs::remove_file(self.note(id));
    }

    /// What a daemon that was killed held still goes on.
    pub(super) fn let_go_if_held(&self, id: &ContainerId) {
        if self.note(id).exists() {
            self.let_go(id);
        }
    }
}

impl Containers {
    /// Takes the container's turn, and holds its processes still where that is asked for and it runs.
    pub async fn still(&self, id: &ContainerId, pause: bool) -> io::Result<Still> {
        let unknown = || io::Error::new(io::ErrorKind::NotFound, "no such container");
        let turn = self.busy(id).ok_or_else(unknown)?.lock_owned().await;
        let runs = match self.state(id).ok_or_else(unknown)? {
            ContainerState::Running { .. } | ContainerState::Orphaned { .. } => true,
            ContainerState::Created | ContainerState::Exited { .. } | ContainerState::StartFailed { .. } => false,
        };
        let mut still = Still { inner: Arc::clone(&self.0), id: id.clone(), frozen: false, _turn: turn };
        // What its owner holds still stays so.
        if pause && runs && !self.is_paused(id) {
            still.frozen = true;
            let (inner, id) = (Arc::clone(&self.0), id.clone());
            blocking(move || {
                File::create(inner.note(&id))?;
                inner.cgroups.freeze(&id, LIMIT)
            })
            .await?;
        }
        Ok(still)
    }
}

impl Containers {
    /// Holds every process of a container that runs still. Nothing to do for one that is.
    pub async fn pause(&self, id: &ContainerId) -> Result<(), PauseError> {
        let busy = self.busy(id).ok_or(PauseError::Unknown)?;
        let _one = busy.lock().await;
        if self.init(id).is_none() {
            return Err(PauseError::NotRunning);
        }
        let (inner, held) = (Arc::clone(&self.0), id.clone());
        let frozen = blocking(move || {
            // Half of it held still is worse than none.
            inner.cgroups.freeze(&held, LIMIT).inspect_err(|_| inner.cgroups.thaw(&held))
        });
        frozen.await.map_err(PauseError::Freeze)?;
        self.set_paused(id, true);
        Ok(())
    }

    /// Lets it go on. Nothing to do for one that does.
    pub async fn unpause(&self, id: &ContainerId) -> Result<(), PauseError> {
        let busy = self.busy(id).ok_or(PauseError::Unknown)?;
        let _one = busy.lock().await;
        self.let_go_on(id).await;
        Ok(())
    }

    /// For whoever holds the container's lock.
    pub(super) async fn let_go_on(&self, id: &ContainerId) {
        if !self.is_paused(id) {
            return;
        }
        let (inner, held) = (Arc::clone(&self.0), id.clone());
        // It fails only where the container is gone, or the daemon ends.
        let _ = tokio::task::spawn_blocking(move || inner.cgroups.thaw(&held)).await;
        self.set_paused(id, false);
    }

    fn set_paused(&self, id: &ContainerId, paused: bool) {
        if let Some(known) = self.known().get_mut(id) {
            known.paused = paused && known.observed.state.alive();
        }
        self.notify();
    }

    fn is_paused(&self, id: &ContainerId) -> bool {
        self.known().get(id).is_some_and(|known| known.paused)
    }

    /// Those that are held still because that was asked for.
    #[must_use]
    pub fn paused(&self) -> BTreeSet<ContainerId> {
        self.known().iter().filter(|(_, known)| known.paused).map(|(id, _)| id.clone()).collect()
    }

    /// Sends a signal to the main process of a container that runs. One that ends it reaches it although it is held still.
    pub async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<(), SignalError> {
        let init = self.init(id).ok_or(SignalError::NotRunning)?;
        let process = Process::open(init).map_err(SignalError::Unreachable)?.ok_or(SignalError::NotRunning)?;
        process.signal(signal.number());
        if signal == Signal::KILL && self.is_paused(id) {
            let (inner, held) = (Arc::clone(&self.0), id.clone());
            // A hierarchy of version 1 lets nobody die who is held still.
            let _ = tokio::task::spawn_blocking(move || inner.cgroups.thaw(&held)).await;
        }
        Ok(())
    }
}
