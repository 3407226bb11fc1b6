//! Starting a container with its mounts, in its networks.

use super::LinuxHost;
use super::apply::failed;
use crate::container::{StartGiven, StartNetwork};
use crate::model::{ContainerSpec, NetworkPlace};
use crate::reconcile::ActionError;

impl LinuxHost {
    /// Its addresses, ports and rules first, then the container, then its names.
    pub(super) async fn start(&self, spec: &ContainerSpec, place: &NetworkPlace) -> Result<(), ActionError> {
        let shared = match place {
            NetworkPlace::Of(target) => self.containers.init(target),
            NetworkPlace::Plain | NetworkPlace::Networks(_) => None,
        };
        // One that runs has what it was given.
        if self.containers.init(&spec.id).is_none() {
            let (mounts, held) = self.mounts_for(spec).await?;
            let attached = self.networks.attach(spec, place, shared).await.map_err(|e| failed(&e))?;
            let (resolver, host_gateway) = (!attached.links.is_empty(), self.networks.host_gateway(&attached));
            let (asked, of) = (self.networks.clone(), spec.id.clone());
            let keepers = tokio::task::spawn_blocking(move || asked.keepers(&of)).await.unwrap_or_default();
            let network = StartNetwork { attached, resolver, host_gateway, keepers };
            let started = self
                .containers
                .start_with(&spec.id, StartGiven { network, mounts, files: spec.service.files.clone() })
                .await;
            drop(held);
            if let Err(error) = started {
                self.networks.ended(&spec.id);
                self.release_volumes(&self.volume_names(spec)).await;
                return Err(failed(&error));
            }
            self.hooks.started(&self.containers, &spec.id, &spec.service.hooks.post_start);
        }
        match self.containers.init(&spec.id) {
            Some(init) => self.networks.started(&spec.id, init),
            // It has ended already.
            None => self.networks.ended(&spec.id),
        }
        Ok(())
    }

    /// Once it accepts connections: whose turn it is is written down first, and then put in force.
    pub(super) async fn hand_over(&self, spec: &ContainerSpec) -> Result<(), ActionError> {
        self.networks.accepts(&spec.id).await.map_err(|e| failed(&e))?;
        let attached = self.networks.next_turn(&spec.id).map_err(|e| failed(&e))?;
        if let Some(attached) = &attached {
            let noted = self.containers.note_attached(&spec.id, attached.clone()).await;
            noted.map_err(|error| ActionError {
                message: format!("that it has the ports now was not written down: {error}"),
                retry_after_ms: None,
            })?;
        }
        self.networks.hand_over(&spec.id, attached).await.map_err(|e| failed(&e))
    }
}
