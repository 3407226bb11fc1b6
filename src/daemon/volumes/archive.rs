//! Volumes as archives, on their way in and out.

use futures_util::FutureExt as _;

use super::VolumeWork;
use super::refuse::{self, refused};
use crate::api::wire::{ImageProgress, ImportedVolume};
use crate::api::{ByteStream, Job, Refusal};
use crate::daemon::pipes::{self, Incoming};
use crate::model::VolumeName;
use crate::volume::Onto;

impl VolumeWork {
    pub(super) async fn archive(&self, name: VolumeName) -> Result<ByteStream, Refusal> {
        self.volumes.stored(&name).map_err(|error| refused(&error))?;
        let this = self.clone();
        let make = |to| async move {
            let (volumes, of) = (this.volumes.clone(), name.clone());
            let written = tokio::task::spawn_blocking(move || volumes.export(&of, to)).await;
            // What was mounted for this alone.
            if !this.host.volumes_in_use().contains(&name) {
                this.volumes.release(&name).await;
            }
            written.map_err(|_| refuse::lost())?.map_err(|error| refused(&error))
        };
        pipes::download("the archive of a volume", make).await
    }

    pub(super) fn import_job(&self, name: VolumeName, replace: bool, archive: ByteStream) -> Job<ImportedVolume> {
        let this = self.clone();
        let onto = if replace { Onto::Anything } else { Onto::Nothing };
        let outcome = async move {
            let archive = Incoming::new(archive);
            let of = name.clone();
            let work = move || this.volumes.import(&of, archive, onto, &|| this.at_rest(&of));
            let done = tokio::task::spawn_blocking(work).await.map_err(|_| refuse::lost())?;
            done.map_err(|error| refused(&error))?;
            Ok(ImportedVolume { volume: name.to_string() })
        };
        Job { progress: Box::new(ImageProgress::default), outcome: outcome.boxed() }
    }
}
