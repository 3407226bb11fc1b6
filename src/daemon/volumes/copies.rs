//! Copies of volumes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;

use super::VolumeWork;
use super::refuse::{self, refused};
use crate::api::wire::{ImageProgress, RestoredVolume, VolumeSnapshot};
use crate::api::{Job, Refusal};
use crate::model::VolumeName;
use crate::volume::{Snapshot, VolumeError};

/// Bytes done, and in all.
#[derive(Default)]
struct Moved(AtomicU64, AtomicU64);

impl Moved {
    fn note(&self, done: u64, all: u64) {
        self.1.store(all, Ordering::Relaxed);
        self.0.store(done, Ordering::Relaxed);
    }
    fn shown(&self) -> ImageProgress {
        let (done, all) = (self.0.load(Ordering::Relaxed), self.1.load(Ordering::Relaxed));
        ImageProgress { done, total: (all > 0).then_some(all), ..ImageProgress::default() }
    }
}

impl VolumeWork {
    /// What is on the way goes on where nobody waits for it any more.
    fn job<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &dyn Fn(u64, u64)) -> Result<T, VolumeError> + Send + 'static,
    ) -> Job<T> {
        let moved: Arc<Moved> = Arc::default();
        let (this, noted) = (self.clone(), Arc::clone(&moved));
        let outcome = async move {
            let work = move || work(&this, &|done, all| noted.note(done, all));
            let done = tokio::task::spawn_blocking(work).await.map_err(|_| refuse::lost())?;
            done.map_err(|error| refused(&error))
        };
        Job { progress: Box::new(move || moved.shown()), outcome: outcome.boxed() }
    }

    pub(super) fn snapshot_job(&self, name: VolumeName, called: Option<String>) -> Job<VolumeSnapshot> {
        self.job(move |this, progress| {
            let called = called.unwrap_or_else(by_time);
            this.volumes.snapshot(&name, &called, progress).map(shown)
        })
    }

    pub(super) fn restore_job(&self, name: VolumeName, from: String) -> Job<RestoredVolume> {
        self.job(move |this, progress| {
            this.volumes.restore(&name, &from, &|| this.at_rest(&name), progress)?;
            Ok(RestoredVolume { volume: name.to_string(), snapshot: from })
        })
    }

    /// Those of one volume, which may be gone; or all.
    pub(super) async fn copies(&self, of: Option<VolumeName>) -> Result<Vec<VolumeSnapshot>, Refusal> {
        self.aside(move |this| {
            let all = this.volumes.snapshots().into_iter();
            let found: Vec<_> = all.filter(|copy| of.as_ref().is_none_or(|of| copy.volume == *of)).map(shown).collect();
            if let (Some(of), true) = (of, found.is_empty()) {
                this.volumes.stored(&of).map_err(|error| refused(&error))?;
            }
            Ok(found)
        })
        .await
    }

    pub(super) async fn copy_removal(&self, of: VolumeName, called: String) -> Result<VolumeSnapshot, Refusal> {
        self.aside(move |this| {
            let all = this.volumes.snapshots();
            let found = all.into_iter().find(|copy| copy.volume == of && copy.name == called);
            this.volumes.remove_snapshot(&of, &called).map_err(|error| refused(&error))?;
            found.map(shown).ok_or_else(|| refused(&VolumeError::NoSnapshot { name: of, called }))
        })
        .await
    }
}

/// `2026-11-05T103000Z`: sorts as it was made.
fn by_time() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H%M%SZ").to_string()
}

pub(super) fn shown(copy: Snapshot) -> VolumeSnapshot {
    let Snapshot { volume, name, created, bytes } = copy;
    VolumeSnapshot { volume: volume.to_string(), name, created: created.into(), bytes }
}
