//! One arm for each action.

use std::error::Error;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{LinuxHost, RemoveError};
use crate::container::{ImageDefaults, StopError};
use crate::image::StoreError;
use crate::model::{Action, ContainerId, ContainerSpec, Digest, ImageReference, Signal, sentence};
use crate::plan::stop_order;
use crate::reconcile::ActionError;

impl LinuxHost {
    pub(super) async fn perform(&self, action: Action) -> Result<(), ActionError> {
        match action {
            Action::Pull { image, platform, refresh } => {
                let brought = self.bring(&image, platform.as_ref(), refresh).await;
                brought
                    .map_err(|error| ActionError { retry_after_ms: error.retry_after().map(millis), ..failed(&error) })
            }
            Action::Create { spec } => self.create(&spec).await,
            Action::Start { spec, network } => self.start(&spec, &network).await,
            Action::Update { spec } => self.containers.update(&spec).await.map_err(|e| failed(&e)),
            Action::Stop { id, signal, grace_ms } => self.stop(&id, signal, grace_ms).await.map_err(|e| failed(&e)),
            Action::Pause { id } => self.containers.pause(&id).await.map_err(|e| failed(&e)),
            Action::Unpause { id } => self.containers.unpause(&id).await.map_err(|e| failed(&e)),
            Action::Remove { id } => self.remove(&id).await,
            Action::RemoveImage { image, digest } => self.collect(&image, &digest).await,
            Action::MakeNetwork { network } => self.networks.make(&network).await.map_err(|e| failed(&e)),
            Action::RemoveNetwork { id } => self.networks.remove(&id).await.map_err(|e| failed(&e)),
            Action::Connect { spec } => self.networks.connect(&spec.id).await.map_err(|e| failed(&e)),
            Action::HoldPorts { id } => self.networks.hold(&id).await.map_err(|e| failed(&e)),
            Action::HandOver { spec } => self.hand_over(&spec).await,
            Action::Guard => self.networks.guard().await.map_err(|e| failed(&e)),
        }
    }

    /// The planner's choice is checked against what is now: a name that moved, or that is used after all, stays.
    async fn collect(&self, image: &ImageReference, digest: &Digest) -> Result<(), ActionError> {
        match self.removable(image) {
            Ok(found) if found == *digest => {}
            Ok(_) | Err(RemoveError::Unknown { .. }) => return Ok(()),
            Err(error) => return Err(failed(&error)),
        }
        self.remove_name(image).await.map(drop).map_err(|e| failed(&e))
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<(), ActionError> {
        let damaged = |image: &ImageReference, error: StoreError| {
            self.images.forget(image);
            self.changed.notify_one();
            failed(&error)
        };
        let own = |error| damaged(&spec.image, error);
        let layers = self.images.layers(&spec.image_digest).map_err(own)?;
        let config = self.images.config(&spec.image_digest).map_err(own)?;
        for (image, digest) in &spec.mounted {
            self.images.layers(digest).map_err(|error| damaged(image, error))?;
        }
        let defaults = ImageDefaults {
            entrypoint: config.entrypoint,
            command: config.cmd,
            environment: config.env,
            working_dir: config.working_dir,
            user: config.user,
            stop_signal: config.stop_signal,
            volumes: config.volumes,
            health: (&config.health).into(),
        };
        self.containers.create(spec, layers, &defaults).await.map_err(|e| failed(&e))?;
        spec.manifests().for_each(|digest| self.images.used(digest));
        Ok(())
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), ActionError> {
        let digest = self.containers.image_of(id);
        let spec = self.containers.observe().remove(id).map(|container| container.spec);
        let names = spec.as_ref().map(|spec| self.volume_names(spec)).unwrap_or_default();
        self.containers.remove(id).await.map_err(|e| failed(&e))?;
        self.networks.forget(id);
        self.hooks.forget(id);
        self.release_volumes(&names).await;
        let mounted = spec.iter().flat_map(|spec| spec.mounted.values());
        digest.iter().chain(mounted).for_each(|digest| self.images.used(digest));
        Ok(())
    }

    /// Stops everything that is alive, each container as its file asked for: those first who come after others, over all projects.
    /// Each stop has a limit of time, and one that fails holds up nobody.
    pub async fn stop_all(&self) {
        let alive = self.containers.observe().into_values().filter(|c| c.state.alive());
        let specs: Vec<ContainerSpec> = alive.map(|container| container.spec).collect();
        for wave in stop_order(&specs) {
            join_all(wave.into_iter().map(|spec| self.stop_one(spec))).await;
        }
    }

    /// Its hooks first, then its signal; all of it within the grace.
    async fn stop(&self, id: &ContainerId, signal: Option<Signal>, grace_ms: u64) -> Result<(), StopError> {
        let end = Instant::now() + Duration::from_millis(grace_ms);
        if self.containers.init(id).is_some() && grace_ms > 0 {
            let hooks = self.containers.hooks(id).pre_stop;
            self.hooks.stopping(&self.containers, id, &hooks, end).await;
        }
        self.containers.stop(id, signal, millis(end.saturating_duration_since(Instant::now()))).await
    }

    async fn stop_one(&self, spec: &ContainerSpec) {
        let policy = spec.service.stop;
        if let Err(error) = self.stop(&spec.id, policy.signal, policy.grace_ms).await {
            tracing::error!(container = %spec.name, error = sentence(&error), "it could not be stopped");
        }
    }
}

pub(super) fn failed(error: &dyn Error) -> ActionError {
    ActionError { message: sentence(error), retry_after_ms: None }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
