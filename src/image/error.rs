//! What can go wrong with images, one enum for each kind of work.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::manifest::ManifestError;
use super::registry::RegistryError;
use super::unpack::stream::StreamError;
use crate::model::{Digest, ImageReference};
use crate::untar::TarError;

/// Why the image store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory of the store cannot be made or read.
    #[error("cannot open the image store in {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The HTTP client cannot be made; mostly a certificate that is none.
    #[error("cannot set up the registry client: {reason}")]
    Client { reason: String },
}

/// Why something cannot be read from or written to the image store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The image is not there, or not as a whole.
    #[error("the image {digest} is not in the store")]
    Missing { digest: Digest },
    /// No image of this name is here.
    #[error("there is no image {image} here")]
    Unknown { image: ImageReference },
    /// A thread ended without an answer.
    #[error("the work in the image store ended without a result")]
    Lost,
    /// What is stored is not what was stored.
    #[error("{} in the image store is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// The disk said no.
    #[error("cannot use {} in the image store", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Why a layer is not applied.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A member asks for what no image may.
    #[error("{path} is refused: {why}")]
    Refused { path: String, why: String },
    /// A member cannot be made on this disk.
    #[error("cannot unpack {path}")]
    Member {
        path: String,
        #[source]
        source: io::Error,
    },
    /// The archive itself.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// More members than a layer may have.
    #[error("it holds more than {limit} entries")]
    Entries { limit: u64 },
    /// The bytes stopped, or were too many.
    #[error("the layer cannot be decompressed")]
    Stream(#[source] io::Error),
    /// The content is not what the image's configuration promises.
    #[error("its content is {got}, but the image's configuration promises {expected}")]
    DiffId { expected: Digest, got: String },
    /// The directory it grows in.
    #[error("cannot write the layer to {}", path.display())]
    Disk {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The thread that unpacks ended without an answer.
    #[error("unpacking ended without a result")]
    Lost,
}

impl LayerError {
    /// The I/O error at the bottom, where there is one.
    fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Member { source, .. } | Self::Disk { source, .. } => Some(source),
            Self::Stream(source) | Self::Tar(TarError::Read(source)) => Some(source),
            Self::Refused { .. }
            | Self::Tar(TarError::Format(_))
            | Self::Entries { .. }
            | Self::DiffId { .. }
            | Self::Lost => None,
        }
    }
    /// The download was given up; its own error says why.
    pub(super) fn is_cancelled(&self) -> bool {
        matches!(self.stream(), Some(StreamError::Cancelled))
    }
    pub(super) fn is_limit(&self) -> bool {
        matches!(self.stream(), Some(StreamError::TooLarge { .. } | StreamError::Ratio { .. }))
            || matches!(self, Self::Entries { .. })
    }
    pub(super) fn is_disk(&self) -> bool {
        matches!(self, Self::Member { .. } | Self::Disk { .. })
    }
    fn stream(&self) -> Option<&StreamError> {
        self.io()?.get_ref()?.downcast_ref()
    }
    pub(super) fn is_no_space(&self) -> bool {
        self.is_disk() && self.io().is_some_and(is_full)
    }
}

/// Why an image was not pulled. Nothing of it is visible then.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry did not give what was asked for.
    #[error("cannot pull {image}")]
    Registry {
        image: ImageReference,
        #[source]
        source: Box<RegistryError>,
    },
    /// What the registry gave is not an image that can be used here.
    #[error("cannot use {image}")]
    Manifest {
        image: ImageReference,
        #[source]
        source: Box<ManifestError>,
    },
    /// One of its layers cannot be used.
    #[error("cannot use layer {} of {image}", digest.short())]
    Layer {
        image: ImageReference,
        digest: Digest,
        #[source]
        source: Box<LayerError>,
    },
    /// The disk is full. What was begun is removed again.
    #[error("no space left for {image} in {}", dir.display())]
    NoSpace { image: ImageReference, dir: PathBuf },
    /// The store on this machine.
    #[error("cannot store {image}")]
    Store {
        image: ImageReference,
        #[source]
        source: StoreError,
    },
}

impl PullError {
    pub(super) fn layer(image: &ImageReference, digest: &Digest, dir: &Path, source: LayerError) -> Self {
        if source.is_no_space() {
            return Self::NoSpace { image: image.clone(), dir: dir.to_owned() };
        }
        Self::Layer { image: image.clone(), digest: digest.clone(), source: Box::new(source) }
    }
    pub(super) fn store(image: &ImageReference, source: StoreError) -> Self {
        match source {
            StoreError::Io { path, source } if is_full(&source) => Self::NoSpace { image: image.clone(), dir: path },
            source => Self::Store { image: image.clone(), source },
        }
    }
    /// How long the registry asks to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Registry { source, .. } => source.retry_after(),
            Self::Manifest { .. } | Self::Layer { .. } | Self::NoSpace { .. } | Self::Store { .. } => None,
        }
    }
    /// Whether the same question will get the same answer until someone changes the image or the settings.
    #[must_use]
    pub fn permanent(&self) -> bool {
        match self {
            Self::Registry { source, .. } => source.permanent(),
            Self::Manifest { .. } => true,
            Self::Layer { source, .. } => !source.is_cancelled() && !source.is_disk(),
            Self::NoSpace { .. } | Self::Store { .. } => false,
        }
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A name out of an image, fit for a log: control characters escaped, never longer than a line.
pub(super) fn shown(name: &[u8]) -> String {
    line(&String::from_utf8_lossy(name), 200)
}

/// Foreign text on one line of at most `most` characters.
pub(super) fn line(text: &str, most: usize) -> String {
    let mut out: String = text.chars().take(most).collect::<String>().escape_debug().collect();
    if text.chars().nth(most).is_some() {
        out.push('…');
    }
    out
}
