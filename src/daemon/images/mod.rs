//! Work on images, for the front doors: the API's trait on the host and the image room.

mod archive;
mod commit;
mod disk;
mod look;
mod refuse;
mod remove;
mod transfer;
mod verify;

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::watch;

use crate::api::wire::{
    CommitAsk, DiskUse, HistoryEntry, ImageDetails, ImageEntry, ImportAsk, LoadAsk, Loaded, PinAsk, Pinned, PruneAsk,
    Pruned, PullAsk, Pulled, PushAsk, Pushed, RemoveAsk, RemovedImage, SaveAsk, TagAsk, Tagged, Verified, VerifyAsk,
};
use crate::api::{Answer, ByteStream, Findings, ImageDoor, Job, Refusal, RefusalKind};
use crate::host::LinuxHost;
use crate::image::{Found, Images};
use crate::model::{ContainerId, Digest, ImageReference};
use crate::reconcile::view::View;
use refuse::{found, store};

/// The images of this daemon.
#[derive(Clone)]
pub(super) struct ImageWork {
    host: Arc<LinuxHost>,
    images: Images,
    /// Tells which images services need.
    view: watch::Receiver<Arc<View>>,
}

impl ImageWork {
    pub(super) fn new(host: Arc<LinuxHost>, images: Images, view: watch::Receiver<Arc<View>>) -> Self {
        Self { host, images, view }
    }

    fn find(&self, name: &str) -> Result<Found, Refusal> {
        self.images.find(name).map_err(|error| found(&error))
    }

    /// A name of what was found: the one it was found by, or its only one.
    fn named(&self, name: &str) -> Result<ImageReference, Refusal> {
        let Found { image, digest } = self.find(name)?;
        if let Some(image) = image {
            return Ok(image);
        }
        let names = self.references(&digest);
        match names.as_slice() {
            [one] => Ok(one.clone()),
            _ => {
                let names = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let message = format!("{} has several names: {names}", digest.short());
                Err(Refusal::new(RefusalKind::Ambiguous, message).hint("write one of the names"))
            }
        }
    }

    /// All references that lead to an image.
    fn references(&self, digest: &Digest) -> Vec<ImageReference> {
        let all = self.images.present().into_iter();
        all.filter(|(_, present)| present.digest == *digest).map(|(image, _)| image).collect()
    }

    /// Reading documents of many images takes a moment: not on a thread that serves others.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&this)).await;
        done.unwrap_or_else(|_| {
            Err(Refusal::new(RefusalKind::Failed, "an internal check failed; see the daemon's log"))
        })
    }
}

impl ImageDoor for ImageWork {
    fn list(&self) -> Answer<'_, Vec<ImageEntry>> {
        self.aside(|this| Ok(this.entries())).boxed()
    }
    fn inspect(&self, name: String) -> Answer<'_, ImageDetails> {
        self.aside(move |this| this.details(&name)).boxed()
    }
    fn history(&self, name: String) -> Answer<'_, Vec<HistoryEntry>> {
        self.aside(move |this| this.steps(&name)).boxed()
    }
    fn pull(&self, ask: PullAsk) -> Result<Job<Pulled>, Refusal> {
        self.pull_job(&ask)
    }
    fn push(&self, ask: PushAsk) -> Result<Job<Pushed>, Refusal> {
        self.push_job(&ask)
    }
    fn tag(&self, ask: TagAsk) -> Answer<'_, Tagged> {
        async move {
            let digest = self.find(&ask.source)?.digest;
            let target = refuse::name(&self.images, &ask.target)?;
            if target.digest().is_some() {
                let message = format!("{target} names a digest; a new name needs a tag");
                return Err(Refusal::new(RefusalKind::Invalid, message));
            }
            self.images.tag(&digest, &target).await.map_err(|error| store(&error))?;
            Ok(Tagged { image: target.to_string(), digest: digest.to_string() })
        }
        .boxed()
    }
    fn remove(&self, ask: RemoveAsk) -> Answer<'_, RemovedImage> {
        self.removal(ask).boxed()
    }
    fn pin(&self, ask: PinAsk) -> Answer<'_, Pinned> {
        async move {
            let image = self.named(&ask.image)?;
            self.images.pin(&image, ask.pinned).await.map_err(|error| store(&error))?;
            Ok(Pinned { image: image.to_string(), pinned: ask.pinned })
        }
        .boxed()
    }
    fn prune(&self, ask: PruneAsk) -> Answer<'_, Pruned> {
        self.pruning(ask).boxed()
    }
    fn verify(&self, ask: VerifyAsk) -> Result<(Job<Verified>, Findings), Refusal> {
        self.verify_job(&ask)
    }
    fn save(&self, ask: SaveAsk) -> Answer<'_, ByteStream> {
        self.archive(ask).boxed()
    }
    fn load(&self, ask: LoadAsk, archive: ByteStream) -> Result<Job<Loaded>, Refusal> {
        self.load_job(&ask, archive)
    }
    fn import(&self, ask: ImportAsk, archive: ByteStream) -> Result<Job<Loaded>, Refusal> {
        self.import_job(ask, archive)
    }
    fn commit(&self, id: &ContainerId, ask: CommitAsk) -> Result<Job<Loaded>, Refusal> {
        self.commit_job(id, ask)
    }
    fn disk_use(&self, items: bool) -> Answer<'_, DiskUse> {
        self.aside(move |this| this.measure(items)).boxed()
    }
}
