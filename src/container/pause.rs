//! A container held still while somebody copies what it wrote.
//!
//! That it is held is noted in its folder first: a daemon that was killed meanwhile lets it go on when it starts again.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::{Containers, Inner, blocking};
use crate::model::{ContainerId, ContainerState};

const LIMIT: Duration = Duration::from_secs(10);
const NOTE: &str = "paused";

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
        if pause && runs {
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
