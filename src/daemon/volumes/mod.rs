//! Work on volumes, for the front doors: the API's trait on the host and the volume room.
//!
//! | file | what |
//! |---|---|
//! | `needs` | who needs which volume: containers that exist, state files in force |
//! | `remove` | volumes that go: by name, or because nothing needs them |
//! | `archive` | export and import |
//! | `copies` | snapshots |
//! | `disk` | what lies on disk |
//! | `refuse` | errors of the room as the API refuses |

mod archive;
mod copies;
mod disk;
mod needs;
mod refuse;
mod remove;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;

use crate::api::wire::{
    DiskRow, ImportedVolume, PrunedVolumes, RemovedVolume, RestoredVolume, VolumeAsk, VolumeEntry, VolumePruneAsk,
    VolumeSnapshot,
};
use crate::api::{Answer, ByteStream, Job, Refusal, RefusalKind, VolumeDoor};
use crate::host::LinuxHost;
use crate::image::Images;
use crate::model::{Volume, VolumeName};
use crate::reconcile::view::View;
use crate::volume::{Stored, Usage, VolumeError, Volumes};
use needs::Needs;

/// Who measures what is on another machine, which may be gone, does not wait for longer.
const ELSEWHERE: Duration = Duration::from_secs(10);

/// The volumes of this daemon.
#[derive(Clone)]
pub(super) struct VolumeWork {
    host: Arc<LinuxHost>,
    /// What they want as volumes.
    images: Images,
    volumes: Volumes,
    /// Tells which volumes state files name.
    view: watch::Receiver<Arc<View>>,
}

impl VolumeWork {
    pub(super) fn new(
        host: Arc<LinuxHost>,
        images: Images,
        volumes: Volumes,
        view: watch::Receiver<Arc<View>>,
    ) -> Self {
        Self { host, images, volumes, view }
    }

    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(&this)).await.unwrap_or_else(|_| Err(refuse::lost()))
    }

    async fn needs(&self) -> Result<Needs, Refusal> {
        self.aside(|this| Ok(this.needs_now())).await
    }

    /// What it takes; none where its options mount what is not mounted now, or what does not answer.
    async fn usage(&self, stored: &Stored) -> Result<Option<Usage>, Refusal> {
        let measuring = self.volumes.usage(&stored.volume.name);
        let measured = if stored.volume.options.is_empty() {
            Ok(measuring.await)
        } else {
            tokio::time::timeout(ELSEWHERE, measuring).await
        };
        match measured {
            Ok(Ok(usage)) => Ok(Some(usage)),
            // Gone meanwhile: it takes nothing.
            Err(_) | Ok(Err(VolumeError::NotMounted { .. } | VolumeError::Absent { .. })) => Ok(None),
            Ok(Err(error)) => Err(refuse::refused(&error)),
        }
    }

    async fn entries(&self, sizes: bool) -> Result<Vec<VolumeEntry>, Refusal> {
        let needs = self.needs().await?;
        let mut all = Vec::new();
        for stored in self.volumes.list() {
            let usage = if sizes { self.usage(&stored).await? } else { None };
            all.push(entry(stored, &needs, usage));
        }
        Ok(all)
    }

    async fn one(&self, name: VolumeName, size: bool) -> Result<VolumeEntry, Refusal> {
        let stored = self.volumes.stored(&name).map_err(|error| refuse::refused(&error))?;
        let usage = if size { self.usage(&stored).await? } else { None };
        Ok(entry(stored, &self.needs().await?, usage))
    }

    async fn making(&self, ask: VolumeAsk) -> Result<VolumeEntry, Refusal> {
        let name = refuse::name(&ask.name)?;
        if Volumes::anonymous(&name) {
            let message = format!("{name} cannot be given to a volume: so are those named that nobody named");
            return Err(Refusal::new(RefusalKind::Invalid, message).hint("give it a name of fewer than 64 characters"));
        }
        let volume = Volume { name: name.clone(), options: ask.driver_opts, labels: ask.labels, external: false };
        self.volumes.make(&volume).await.map_err(|error| refuse::not_made(&error))?;
        self.one(name, false).await
    }
}

fn entry(stored: Stored, needs: &Needs, usage: Option<Usage>) -> VolumeEntry {
    let Stored { volume: Volume { name, options, labels, external: _ }, created, path, anonymous, mounted } = stored;
    let (used_by, defined_by) = (needs.containers(&name), needs.files(&name));
    VolumeEntry {
        name: name.to_string(),
        driver: "local".to_owned(),
        options,
        labels,
        created: created.into(),
        path: path.display().to_string(),
        anonymous,
        mounted,
        unused: used_by.is_empty() && defined_by.is_empty(),
        used_by,
        defined_by,
        bytes: usage.map(|usage| usage.bytes),
        files: usage.map(|usage| usage.files),
    }
}

impl VolumeDoor for VolumeWork {
    fn list(&self, sizes: bool) -> Answer<'_, Vec<VolumeEntry>> {
        self.entries(sizes).boxed()
    }
    fn inspect(&self, name: String, size: bool) -> Answer<'_, VolumeEntry> {
        async move { self.one(refuse::name(&name)?, size).await }.boxed()
    }
    fn create(&self, ask: VolumeAsk) -> Answer<'_, VolumeEntry> {
        self.making(ask).boxed()
    }
    fn remove(&self, name: String) -> Answer<'_, RemovedVolume> {
        async move { self.removal(refuse::name(&name)?).await }.boxed()
    }
    fn prune(&self, ask: VolumePruneAsk) -> Answer<'_, PrunedVolumes> {
        self.pruning(ask).boxed()
    }
    fn export(&self, name: String) -> Answer<'_, ByteStream> {
        async move { self.archive(refuse::name(&name)?).await }.boxed()
    }
    fn import(&self, name: String, replace: bool, archive: ByteStream) -> Result<Job<ImportedVolume>, Refusal> {
        Ok(self.import_job(refuse::name(&name)?, replace, archive))
    }
    fn snapshot(&self, name: String, called: Option<String>) -> Result<Job<VolumeSnapshot>, Refusal> {
        Ok(self.snapshot_job(refuse::name(&name)?, called))
    }
    fn snapshots(&self, name: Option<String>) -> Answer<'_, Vec<VolumeSnapshot>> {
        async move { self.copies(name.as_deref().map(refuse::name).transpose()?).await }.boxed()
    }
    fn remove_snapshot(&self, name: String, called: String) -> Answer<'_, VolumeSnapshot> {
        async move { self.copy_removal(refuse::name(&name)?, called).await }.boxed()
    }
    fn restore(&self, name: String, from: String) -> Result<Job<RestoredVolume>, Refusal> {
        Ok(self.restore_job(refuse::name(&name)?, from))
    }
    fn disk_use(&self, items: bool) -> Answer<'_, Vec<DiskRow>> {
        self.rows(items).boxed()
    }
}
