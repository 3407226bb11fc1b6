//! Why an image was not pushed.

use super::error::StoreError;
use super::manifest::ManifestError;
use super::registry::RegistryError;
use crate::model::{Digest, ImageReference};

/// Why an image was not pushed. Its name at the registry is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// There is no such image here.
    #[error("{image} is not here; pull it, or give an image that is here this name with `longshore image tag`")]
    Absent { image: ImageReference },
    /// The registry does not let us.
    #[error("{0} does not take {image}; if a login is needed: `longshore login {0}`", image.registry())]
    Denied {
        image: ImageReference,
        #[source]
        source: Box<RegistryError>,
    },
    /// The registry did not take it for another reason.
    #[error("cannot push {image}")]
    Registry {
        image: ImageReference,
        #[source]
        source: Box<RegistryError>,
    },
    /// One of its parts.
    #[error("cannot push {} of {image}", digest.short())]
    Blob {
        image: Box<ImageReference>,
        digest: Digest,
        #[source]
        source: Box<RegistryError>,
    },
    /// Nobody has the compressed layer any more, and it cannot be made again.
    #[error(
        "{} of {image} cannot be had: {why}; and its archive cannot be made again from what is here: pull, load or import it again",
        digest.short()
    )]
    NoSource { image: Box<ImageReference>, digest: Digest, why: String },
    /// It cannot be compressed anew.
    #[error("cannot compress layer {} of {image} anew, which no registry has any more", digest.short())]
    Pack {
        image: Box<ImageReference>,
        digest: Digest,
        #[source]
        source: Box<StoreError>,
    },
    /// What is stored here cannot be used.
    #[error("cannot use {image} as it is stored")]
    Manifest {
        image: ImageReference,
        #[source]
        source: Box<ManifestError>,
    },
    /// The store on this machine.
    #[error("cannot read {image}")]
    Store {
        image: ImageReference,
        #[source]
        source: Box<StoreError>,
    },
}

impl PushError {
    pub(super) fn registry(image: &ImageReference, digest: Option<&Digest>, source: RegistryError) -> Self {
        let (image, source) = (image.clone(), Box::new(source));
        match (&*source, digest) {
            (RegistryError::Denied { .. }, _) => Self::Denied { image, source },
            (_, Some(digest)) => Self::Blob { image: Box::new(image), digest: digest.clone(), source },
            (_, None) => Self::Registry { image, source },
        }
    }

    pub(super) fn store(image: &ImageReference, source: StoreError) -> Self {
        Self::Store { image: image.clone(), source: Box::new(source) }
    }
    pub(super) fn pack(image: &ImageReference, digest: &Digest, source: StoreError) -> Self {
        Self::Pack { image: Box::new(image.clone()), digest: digest.clone(), source: Box::new(source) }
    }

    /// Whether the same push will fail again until someone changes something.
    #[must_use]
    pub fn permanent(&self) -> bool {
        match self {
            Self::Registry { source, .. } | Self::Blob { source, .. } => source.permanent(),
            Self::Absent { .. } | Self::Denied { .. } | Self::NoSource { .. } | Self::Manifest { .. } => true,
            Self::Store { .. } | Self::Pack { .. } => false,
        }
    }
}
