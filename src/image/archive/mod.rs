//! Images in files: what `docker save`, `podman save`, `skopeo copy` and builders write, and what they read.
//!
//! ```text
//! load:   stdin, file ─▶ outer (gzip, zstd) ─▶ tar ─▶ spool (files in ingest/) ─┐
//!         folder ──────────────────────────────────────────────────────────────┴▶ shelf ─▶ layout ─▶ load ─▶ store
//! import: a root file system's tar ─▶ one layer and a configuration ─▶ store
//! save:   store ─▶ save (an OCI layout with docker's manifest.json in it) ─▶ a tar, or a folder
//! ```
//! An archive is a stranger's: nothing of it is believed, no name in it is ever used as a path on disk, every digest is
//! compared, and what it may take is bounded by [`super::Limits`] and by the free space.

mod changes;
mod commit;
mod feed;
mod import;
mod layout;
mod load;
mod outer;
mod save;
mod shelf;
mod spool;

use std::io;
use std::path::PathBuf;

pub use commit::CommitChanges;
pub use import::ImportChanges;
pub use load::Loaded;
pub use save::ArchiveFormat;

use super::error::{LayerError, StoreError, is_full};
use super::manifest::ManifestError;
use super::unpack::stream::StreamError;
use crate::model::{Digest, ImageReference};
use crate::untar::TarError;

/// Why an archive is not read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes do not come, or are not what they are compressed as.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It breaks a rule.
    #[error("the archive is refused: {reason}")]
    Refused { reason: String },
    /// It is not an image archive, or not the whole of one.
    #[error("the archive lacks {what}")]
    Missing { what: String },
    /// A part is not what its name says.
    #[error("{digest} in the archive has the content {got}")]
    WrongDigest { digest: Digest, got: String },
    /// One of its documents cannot be used.
    #[error("cannot use an image of the archive")]
    Manifest(#[source] Box<ManifestError>),
    /// One of its layers cannot be used.
    #[error("cannot use layer {} of the archive", diff_id.short())]
    Layer {
        diff_id: Digest,
        #[source]
        source: Box<LayerError>,
    },
    /// A root file system that cannot be used.
    #[error("cannot use the root file system")]
    Root(#[source] Box<LayerError>),
    /// The disk is full. What was begun is removed again.
    #[error("no space left for the archive in {}; it needs room for itself and for its content", dir.display())]
    NoSpace { dir: PathBuf },
    /// A change to an imported image cannot be read.
    #[error("cannot read the change {text:?}: {why}")]
    Change { text: String, why: String },
    /// An image to save is not here.
    #[error("there is no image {image} here")]
    Unknown { image: ImageReference },
    /// A layer was unpacked by a version that did not record its archive.
    #[error(
        "layer {} of {image} cannot be made into an archive, because an earlier version unpacked it; fetch it again: `longshore image verify --repair {image}`",
        diff_id.short()
    )]
    NotRebuildable { image: ImageReference, diff_id: Digest },
    /// The target takes no more.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// The folder to write to is not empty.
    #[error("{} is not empty; name a folder that is not there yet", path.display())]
    NotEmpty { path: PathBuf },
    /// The store on this machine.
    #[error("cannot use the image store")]
    Store(#[from] StoreError),
}

impl ArchiveError {
    /// Whether the same archive will fail in the same way.
    #[must_use]
    pub fn permanent(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::Missing { .. }
            | Self::WrongDigest { .. }
            | Self::Manifest(_)
            | Self::Change { .. }
            | Self::NotRebuildable { .. } => true,
            Self::Layer { source, .. } | Self::Root(source) => !source.is_cancelled() && !source.is_disk(),
            Self::Read(_)
            | Self::NoSpace { .. }
            | Self::Unknown { .. }
            | Self::Write(_)
            | Self::NotEmpty { .. }
            | Self::Store(_) => false,
        }
    }
}

impl ArchiveError {
    /// It only follows from another error.
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Layer { source, .. } => source.is_cancelled(),
            Self::Read(source) => {
                let inner = source.get_ref().and_then(|inner| inner.downcast_ref::<StreamError>());
                matches!(inner, Some(StreamError::Cancelled))
            }
            _ => false,
        }
    }
}

impl From<TarError> for ArchiveError {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Read(source) => Self::Read(source),
            TarError::Format(reason) => Self::Refused { reason },
        }
    }
}

impl From<ManifestError> for ArchiveError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(Box::new(error))
    }
}

fn refused<T>(reason: impl Into<String>) -> Result<T, ArchiveError> {
    Err(ArchiveError::Refused { reason: reason.into() })
}

/// An error of the disk that the archive is spooled to.
fn disk(dir: &std::path::Path) -> impl Fn(io::Error) -> ArchiveError {
    let dir = dir.to_owned();
    move |source| match is_full(&source) {
        true => ArchiveError::NoSpace { dir: dir.clone() },
        false => ArchiveError::Store(StoreError::Io { path: dir.clone(), source }),
    }
}

/// Blocking work on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ArchiveError::Store(StoreError::Lost)))
}
