//! What is done to images: by the loop, and by hand through a front door. Both share the pulls that run.

use std::sync::Arc;

use super::LinuxHost;
use super::observe::wall;
use crate::image::{Present, Progress, PullError, Refreshed, StoreError};
use crate::model::{ContainerSpec, Digest, ImageReference, Platform, Timestamp};

/// A pull that runs. Whoever wants the same image takes part: it sees the same progress, waits for its turn, and then finds
/// everything here and only asks the registry.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) progress: Arc<Progress>,
    pub(super) since: Timestamp,
    turn: Arc<tokio::sync::Mutex<()>>,
    users: usize,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freed {
    /// Names that are gone.
    pub names: Vec<ImageReference>,
    /// Bytes on the disk that are free again.
    pub bytes: u64,
}

/// Why an image is not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// There is no image of this name.
    #[error("there is no image {image} here; `longshore image ls` lists what there is")]
    Unknown {
        /// Which.
        image: ImageReference,
    },
    /// Containers are made from it.
    #[error(
        "image {image} is in use by {containers}; remove the service from its state file first, or use --force to remove only the name"
    )]
    Used {
        /// Which.
        image: ImageReference,
        /// By which, with their services.
        containers: String,
    },
    /// It is being pulled.
    #[error("image {image} is being pulled; wait for the end of the pull")]
    Pulling {
        /// Which.
        image: ImageReference,
    },
    /// The disk.
    #[error("image {image} is not removed")]
    Store {
        /// Which.
        image: ImageReference,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
}

impl LinuxHost {
    /// Pulls an image now, asking its registry in any case. A pull of it that runs is joined. The loop looks at what came.
    pub async fn pull_image(&self, image: &ImageReference, platform: Option<&Platform>) -> Result<Present, PullError> {
        let over = Over::join(self, image);
        let _mine = over.running.turn.lock().await;
        self.refreshed(image, platform, &over.running.progress).await
    }

    /// Makes the image present; a pull of it that runs is joined. Where it is here, its registry is asked first whether it moved.
    pub(super) async fn bring(
        &self,
        image: &ImageReference,
        platform: Option<&Platform>,
        refresh: bool,
    ) -> Result<(), PullError> {
        let over = Over::join(self, image);
        let _mine = over.running.turn.lock().await;
        let progress = &over.running.progress;
        if refresh {
            return self.refreshed(image, platform, progress).await.map(drop);
        }
        self.images.pull(image, platform, progress).await.map(drop)
    }

    async fn refreshed(
        &self,
        image: &ImageReference,
        platform: Option<&Platform>,
        progress: &Progress,
    ) -> Result<Present, PullError> {
        let refreshed = self.images.refresh(image, platform, progress).await?;
        Ok(match refreshed {
            Refreshed::Same(present) | Refreshed::Moved { to: present, .. } => present,
        })
    }

    /// How far the pull of this image is, while one runs.
    #[must_use]
    pub fn progress_of(&self, image: &ImageReference) -> Option<Arc<Progress>> {
        self.pulls().get(image).map(|running| Arc::clone(&running.progress))
    }

    /// The containers that are made from a manifest.
    #[must_use]
    pub fn users_of(&self, digest: &Digest) -> Vec<ContainerSpec> {
        let all = self.containers.observe().into_values().map(|container| container.spec);
        all.filter(|spec| spec.image_digest == *digest).collect()
    }

    /// Removes a name, with what only it led to. With `force` also a name whose image a container is made from: then only the
    /// name goes, what the container needs stays.
    pub async fn remove_image(&self, image: &ImageReference, force: bool) -> Result<Freed, RemoveError> {
        let digest = self.removable(image, force)?;
        let freed = self.remove_name(image, &digest).await?;
        self.changed.notify_one();
        Ok(freed)
    }

    /// Removes the images that no container is made from: those without a tag, or all.
    pub async fn prune_images(&self, all: bool) -> Result<Freed, RemoveError> {
        let mut freed = Freed::default();
        for (image, present) in self.images.present() {
            let unused = self.users_of(&present.digest).is_empty();
            if !unused || (image.tag().is_some() && !all) || self.pulls().contains_key(&image) {
                continue;
            }
            match self.remove_image(&image, false).await {
                Ok(more) => {
                    freed.names.extend(more.names);
                    freed.bytes = freed.bytes.saturating_add(more.bytes);
                }
                // Somebody else was faster, or needs it now.
                Err(RemoveError::Unknown { .. } | RemoveError::Used { .. } | RemoveError::Pulling { .. }) => {}
                Err(error @ RemoveError::Store { .. }) => return Err(error),
            }
        }
        Ok(freed)
    }

    /// What a container is made from keeps a name of its own, `registry/repository@digest`.
    pub(super) async fn remove_name(&self, image: &ImageReference, digest: &Digest) -> Result<Freed, RemoveError> {
        let failed = |source| RemoveError::Store { image: image.clone(), source: Box::new(source) };
        let only = self.images.present().values().filter(|other| other.digest == *digest).count() == 1;
        if only && !self.users_of(digest).is_empty() {
            store::untag(&self.images, image, digest).await.map_err(failed)?;
        }
        let bytes = store::remove(&self.images, image).await.map_err(failed)?;
        Ok(Freed { names: vec![image.clone()], bytes })
    }

    /// Whether the image may be removed.
    pub(super) fn removable(&self, image: &ImageReference, force: bool) -> Result<Digest, RemoveError> {
        let present = self.images.present();
        let Some(found) = present.get(image) else { return Err(RemoveError::Unknown { image: image.clone() }) };
        if self.pulls().contains_key(image) {
            return Err(RemoveError::Pulling { image: image.clone() });
        }
        // Another name keeps the manifest and its layers.
        let names = present.values().filter(|other| other.digest == found.digest).count();
        let users = self.users_of(&found.digest);
        if users.is_empty() || names > 1 || (force && image.tag().is_some()) {
            return Ok(found.digest.clone());
        }
        let name = |spec: &ContainerSpec| {
            format!("container {} of service {}/{}", spec.name, spec.slot.project, spec.slot.service)
        };
        let containers = users.iter().map(name).collect::<Vec<_>>().join(", ");
        Err(RemoveError::Used { image: image.clone(), containers })
    }
}

/// A pull is no longer shown once the last who wanted it is answered or gone.
struct Over<'a> {
    host: &'a LinuxHost,
    image: &'a ImageReference,
    running: Running,
}

impl<'a> Over<'a> {
    fn join(host: &'a LinuxHost, image: &'a ImageReference) -> Self {
        let mut pulls = host.pulls();
        let running = pulls.entry(image.clone()).or_insert_with(|| Running {
            progress: Arc::default(),
            since: wall(),
            turn: Arc::default(),
            users: 0,
        });
        running.users += 1;
        let running = running.clone();
        drop(pulls);
        host.changed.notify_one();
        Self { host, image, running }
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let mut pulls = self.host.pulls();
        if let Some(running) = pulls.get_mut(self.image) {
            running.users -= 1;
            if running.users == 0 {
                pulls.remove(self.image);
            }
        }
        drop(pulls);
        self.host.changed.notify_one();
    }
}

/// What the image room's store does with names.
mod store {
    use super::{Digest, ImageReference, StoreError};
    use crate::image::Images;

    pub(super) async fn untag(images: &Images, image: &ImageReference, digest: &Digest) -> Result<(), StoreError> {
        std::future::ready(Err(unsupported(images, image, digest.as_str()))).await
    }

    pub(super) async fn remove(images: &Images, image: &ImageReference) -> Result<u64, StoreError> {
        std::future::ready(Err(unsupported(images, image, ""))).await
    }

    fn unsupported(_images: &Images, image: &ImageReference, digest: &str) -> StoreError {
        let source = std::io::Error::new(std::io::ErrorKind::Unsupported, "images cannot be removed yet");
        StoreError::Io { path: format!("{image}{digest}").into(), source }
    }
}
