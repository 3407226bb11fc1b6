//! What long work on images says while it goes on, and at its end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ErrorFacts, Time};

/// One line of an answer that comes while the work goes on. The last one is `done` or `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "{T}Step")]
pub enum ImageStep<T> {
    /// How far it is. Comes when something changed, and every few seconds where nothing did.
    Progress(ImageProgress),
    /// Something is wrong with an image; comes once more when it was to be repaired, with what came of it.
    Finding(ImageFinding),
    /// It is done.
    Done(T),
    /// It failed.
    Error(ErrorFacts),
}

/// How far the work is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageProgress {
    /// Bytes that are done, of all layers.
    pub done: u64,
    /// Bytes in all, once known.
    pub total: Option<u64>,
    /// Each layer.
    pub layers: Vec<LayerStep>,
    /// What it waits for now.
    pub wait: Option<TransferWait>,
    /// Which host answers now.
    pub from: Option<String>,
    /// Bytes that were here from an earlier attempt.
    pub resumed: u64,
    /// The image that is compared with what it should be.
    #[serde(default)]
    pub checks: Option<String>,
}

/// How far one layer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LayerStep {
    /// The digest of its blob.
    pub digest: String,
    /// Bytes that are done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
    /// What is being done with it.
    pub state: LayerState,
}

/// What is being done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LayerState {
    /// Its turn has not come.
    Waiting,
    /// Its bytes are on their way.
    Fetching,
    /// All bytes came and are being unpacked.
    Unpacking,
    /// Here.
    Done,
    /// It was here before.
    Present,
}

/// A pause of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransferWait {
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Time,
    /// Which attempt comes next.
    pub attempt: u32,
    /// How many attempts there are.
    pub of: u32,
}

/// An image was fetched, or was here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pulled {
    /// The reference in full.
    pub image: String,
    /// The digest of its manifest.
    pub digest: String,
    /// Bytes of its layers as the registry has them.
    pub bytes: u64,
    /// Whether the name means something else than before.
    pub changed: bool,
}

/// An image is in its registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pushed {
    /// The reference in full.
    pub image: String,
    /// The digest under which the registry has it.
    pub digest: String,
    /// Whether that is the digest it has here.
    pub same: bool,
    /// Bytes that the registry had.
    pub present: u64,
    /// Bytes that the registry took from another of its repositories.
    pub mounted: u64,
    /// Bytes that were sent.
    pub uploaded: u64,
}

/// An image has a new name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tagged {
    /// The new name in full.
    pub image: String,
    /// The digest of its manifest.
    pub digest: String,
}

/// What was taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovedImage {
    /// Names that are no more.
    pub untagged: Vec<String>,
    /// How many layers went.
    pub layers: u64,
    /// Bytes of disk that are free again.
    pub freed: u64,
}

/// Whether an image is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pinned {
    /// The reference in full.
    pub image: String,
    /// Whether it is kept whatever happens.
    pub pinned: bool,
}

/// What was removed because nothing uses it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pruned {
    /// The images; for a question only, those that would go.
    pub images: Vec<PrunedImage>,
    /// Bytes of disk that are free again, or would be.
    pub freed: u64,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrunedImage {
    /// Its name, or the digest where it had none.
    pub image: String,
    /// The digest of its manifest.
    pub digest: String,
    /// Bytes of its layers on disk; those that other images share stay.
    pub bytes: u64,
}

/// What a comparison of images found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// The images that were looked at.
    pub images: Vec<String>,
    /// What is wrong with them, and what came of it in the end.
    pub findings: Vec<ImageFinding>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageFinding {
    /// An image that it belongs to; others may share it.
    pub image: String,
    /// What kind of thing it is.
    pub part: ImagePart,
    /// Its digest; of a layer that of its content.
    pub what: String,
    /// What is wrong, in one line.
    pub damage: String,
    /// How it is now.
    pub state: FindingState,
    /// Why it could not be repaired.
    pub error: Option<String>,
}

/// What an image is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImagePart {
    /// A manifest, an index or a configuration.
    Document,
    /// A compressed layer that is kept.
    Blob,
    /// An unpacked layer.
    Layer,
}

/// How something is that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    /// It is damaged.
    Damaged,
    /// It cannot be checked, because an earlier version kept nothing to compare it with. It may be whole.
    Unknown,
    /// It was fetched again and is whole.
    Repaired,
    /// It was to be fetched again, and is as it was.
    Failed,
}

/// What came out of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Loaded {
    /// The images.
    pub images: Vec<LoadedImage>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadedImage {
    /// Its name, where it has one.
    pub image: Option<String>,
    /// The digest of its manifest.
    pub digest: String,
}
