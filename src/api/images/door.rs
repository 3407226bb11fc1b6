//! What the daemon can do with images, as the routes need it.

use std::io;

use axum::body::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::api::wire::{
    CommitAsk, DiskUse, HistoryEntry, ImageDetails, ImageEntry, ImageFinding, ImageProgress, ImportAsk, LoadAsk,
    Loaded, PinAsk, Pinned, PruneAsk, Pruned, PullAsk, Pulled, PushAsk, Pushed, RemoveAsk, RemovedImage, SaveAsk,
    TagAsk, Tagged, Verified, VerifyAsk,
};
use crate::model::ContainerId;

/// An answer that takes a moment.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Refusal>>;

/// Bytes as they come.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// What a comparison finds, as it finds it.
pub type Findings = BoxStream<'static, ImageFinding>;

/// Long work. Dropping it gives it up, unless somebody else wants it too.
pub struct Job<T> {
    /// How far it is; cheap, asked several times a second.
    pub progress: Box<dyn Fn() -> ImageProgress + Send + Sync>,
    /// The work itself.
    pub outcome: BoxFuture<'static, Result<T, Refusal>>,
}

/// The images of this machine.
pub trait ImageDoor: Send + Sync {
    /// All images.
    fn list(&self) -> Answer<'_, Vec<ImageEntry>>;
    /// All about one.
    fn inspect(&self, name: String) -> Answer<'_, ImageDetails>;
    /// How one was made, last step first.
    fn history(&self, name: String) -> Answer<'_, Vec<HistoryEntry>>;
    /// Asks the registry and fetches what is missing.
    fn pull(&self, ask: PullAsk) -> Result<Job<Pulled>, Refusal>;
    /// Brings an image to its registry.
    fn push(&self, ask: PushAsk) -> Result<Job<Pushed>, Refusal>;
    /// Gives another name.
    fn tag(&self, ask: TagAsk) -> Answer<'_, Tagged>;
    /// Takes a name away.
    fn remove(&self, ask: RemoveAsk) -> Answer<'_, RemovedImage>;
    /// Keeps an image, or no longer.
    fn pin(&self, ask: PinAsk) -> Answer<'_, Pinned>;
    /// Removes what nothing uses.
    fn prune(&self, ask: PruneAsk) -> Answer<'_, Pruned>;
    /// Compares images with what they should be. The findings end before the job does.
    fn verify(&self, ask: VerifyAsk) -> Result<(Job<Verified>, Findings), Refusal>;
    /// Opens an archive of images for reading.
    fn save(&self, ask: SaveAsk) -> Answer<'_, ByteStream>;
    /// Reads images from an archive.
    fn load(&self, ask: LoadAsk, archive: ByteStream) -> Result<Job<Loaded>, Refusal>;
    /// Makes an image from an archive of files.
    fn import(&self, ask: ImportAsk, archive: ByteStream) -> Result<Job<Loaded>, Refusal>;
    /// Makes an image of a container.
    fn commit(&self, id: &ContainerId, ask: CommitAsk) -> Result<Job<Loaded>, Refusal>;
    /// What lies on disk; each thing by itself only where that is asked for.
    fn disk_use(&self, items: bool) -> Answer<'_, DiskUse>;
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which kind of reason.
    pub kind: RefusalKind,
    /// One sentence.
    pub message: String,
    /// What can be done about it.
    pub hint: Option<String>,
}

/// Which kind of reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// There is no such image.
    Unknown,
    /// There is no such volume.
    NoVolume,
    /// There is no such secret.
    NoSecret,
    /// There is no such copy of a volume.
    NoSnapshot,
    /// More than one image could be meant.
    Ambiguous,
    /// Something uses it.
    InUse,
    /// It is there already, as something else.
    Exists,
    /// Something else is being done with it.
    Busy,
    /// The question makes no sense.
    Invalid,
    /// It was tried, and failed.
    Failed,
}

impl Refusal {
    /// A refusal without a hint.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }
    /// The same with what can be done about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}
