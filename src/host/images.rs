//! What is done to images: by the loop, and by hand through a front door. Both share the pulls that run.

use std::sync::Arc;

use super::LinuxHost;
use super::apply::{failed, millis};
use super::observe::wall;
use crate::image::{Present, Progress, PullError, Refreshed, Removed, StoreError};
use crate::model::{ContainerSpec, Digest, ImageReference, Platform, Timestamp};
use crate::reconcile::{ActionError, Answer, Question};

/// A pull that runs. Whoever wants the same image takes part: it sees the same progress, waits for its turn, and then finds
/// everything here and only asks the registry.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) progress: Arc<Progress>,
    pub(super) since: Timestamp,
    turn: Arc<tokio::sync::Mutex<()>>,
    users: usize,
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
    #[error("image {image} is in use by {containers}; remove the service from its state file first")]
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

    /// Asks a registry, and fetches nothing.
    pub(super) async fn question(&self, question: Question) -> Result<Answer, ActionError> {
        let progress = Progress::default();
        let answer = match &question {
            Question::Tags { image } => self.images.tags(image, &progress).await.map(Answer::Tags),
            Question::Moved { image, platform } => {
                self.images.newer(image, platform.as_ref(), &progress).await.map(Answer::Moved)
            }
        };
        answer.map_err(|error| ActionError { retry_after_ms: error.retry_after().map(millis), ..failed(&error) })
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

    /// The containers that are made from a manifest, or mount it.
    #[must_use]
    pub fn users_of(&self, digest: &Digest) -> Vec<ContainerSpec> {
        let all = self.containers.observe().into_values().map(|container| container.spec);
        all.filter(|spec| spec.manifests().any(|needed| needed == digest)).collect()
    }

    /// Removes an image with all its names, with what only they led to; never one that a container is made from.
    pub async fn remove_whole(&self, digest: &Digest) -> Result<Removed, RemoveError> {
        let names: Vec<_> = self.names_of(digest);
        let Some(image) = names.first().cloned() else { return Ok(Removed::default()) };
        if let Some(image) = names.iter().find(|name| self.pulls().contains_key(name)) {
            return Err(RemoveError::Pulling { image: image.clone() });
        }
        self.unused(&image, digest)?;
        let removed = self.images.remove_digest(digest).await;
        let removed = removed.map_err(|source| RemoveError::Store { image, source: Box::new(source) })?;
        self.changed.notify_one();
        Ok(removed)
    }

    fn names_of(&self, digest: &Digest) -> Vec<ImageReference> {
        let present = self.images.present().into_iter();
        present.filter(|(_, present)| present.digest == *digest).map(|(image, _)| image).collect()
    }

    /// Removes a name, with what only it led to; never the last name of what a container is made from.
    pub async fn remove_image(&self, image: &ImageReference) -> Result<Removed, RemoveError> {
        self.removable(image)?;
        let removed = self.remove_name(image).await?;
        self.changed.notify_one();
        Ok(removed)
    }

    pub(super) async fn remove_name(&self, image: &ImageReference) -> Result<Removed, RemoveError> {
        self.images
            .remove(image)
            .await
            .map_err(|source| RemoveError::Store { image: image.clone(), source: Box::new(source) })
    }

    /// Whether the image may be removed.
    pub(super) fn removable(&self, image: &ImageReference) -> Result<Digest, RemoveError> {
        let present = self.images.present();
        let Some(found) = present.get(image) else { return Err(RemoveError::Unknown { image: image.clone() }) };
        if self.pulls().contains_key(image) {
            return Err(RemoveError::Pulling { image: image.clone() });
        }
        // Another name keeps the manifest and its layers.
        if self.names_of(&found.digest).len() == 1 {
            self.unused(image, &found.digest)?;
        }
        Ok(found.digest.clone())
    }

    /// Refuses what containers are made from, and names them.
    fn unused(&self, image: &ImageReference, digest: &Digest) -> Result<(), RemoveError> {
        let users = self.users_of(digest);
        if users.is_empty() {
            return Ok(());
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
