//! Archives of images, on their way in and out.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::ImageWork;
use super::refuse::{self, failed};
use super::transfer::shown;
use crate::api::wire::{ArchiveForm, ImageProgress, ImportAsk, LoadAsk, Loaded, LoadedImage, SaveAsk};
use crate::api::{ByteStream, Job, Refusal, RefusalKind};
use crate::daemon::pipes::{self, Incoming};
use crate::image::{ArchiveError, ArchiveFormat, ImportChanges, Progress};

impl ImageWork {
    /// What fails before the first byte is an answer of its own; later, the archive is cut and the log says why.
    pub(super) async fn archive(&self, ask: SaveAsk) -> Result<ByteStream, Refusal> {
        let mut names = Vec::new();
        for name in &ask.names {
            names.push(self.named(name)?);
        }
        let format = match ask.format {
            ArchiveForm::DockerArchive => ArchiveFormat::Docker,
            ArchiveForm::OciArchive => ArchiveFormat::Oci,
        };
        let images = self.images.clone();
        let make = |to| async move { images.save(&names, to, format).await.map_err(|error| refused(&error)) };
        pipes::download("an archive of images", make).await
    }

    pub(super) fn load_job(&self, ask: &LoadAsk, archive: ByteStream) -> Result<Job<Loaded>, Refusal> {
        let name = ask.name.as_deref().map(|name| refuse::name(&self.images, name)).transpose()?;
        let progress = Arc::new(Progress::default());
        let (images, moved) = (self.images.clone(), Arc::clone(&progress));
        let outcome = async move {
            let loaded = images.load(Incoming::new(archive), name.as_ref(), moved).await;
            let mut all = Vec::new();
            for image in loaded.map_err(|error| refused(&error))? {
                let digest = image.present.digest.to_string();
                let named = |name: &crate::model::ImageReference| LoadedImage {
                    image: Some(name.to_string()),
                    digest: digest.clone(),
                };
                all.extend(image.names.iter().map(named));
                if image.names.is_empty() {
                    all.push(LoadedImage { image: None, digest });
                }
            }
            Ok(Loaded { images: all })
        };
        Ok(Job { progress: Box::new(move || shown(progress.snapshot())), outcome: outcome.boxed() })
    }

    pub(super) fn import_job(&self, ask: ImportAsk, archive: ByteStream) -> Result<Job<Loaded>, Refusal> {
        let name = refuse::name(&self.images, &ask.name)?;
        let platform = refuse::platform(ask.platform.as_deref())?;
        let changes = ImportChanges { changes: ask.changes, platform, message: ask.message.unwrap_or_default() };
        let images = self.images.clone();
        let outcome = async move {
            let present = images.import(Incoming::new(archive), &name, changes).await;
            let digest = present.map_err(|error| refused(&error))?.digest.to_string();
            Ok(Loaded { images: vec![LoadedImage { image: Some(name.to_string()), digest }] })
        };
        Ok(Job { progress: Box::new(ImageProgress::default), outcome: outcome.boxed() })
    }
}

pub(super) fn refused(error: &ArchiveError) -> Refusal {
    let refusal = failed(error);
    if error.permanent() { Refusal { kind: RefusalKind::Invalid, ..refusal } } else { refusal }
}
