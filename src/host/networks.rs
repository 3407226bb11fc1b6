//! Starting a container in its networks.

use super::LinuxHost;
use super::apply::failed;
use crate::container::StartNetwork;
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
            let attached = self.networks.attach(spec, place, shared).await.map_err(|e| failed(&e))?;
            let (resolver, host_gateway) = (!attached.links.is_empty(), self.networks.host_gateway(&attached));
            let given = StartNetwork { attached, resolver, host_gateway };
            if let Err(error) = self.containers.start_with(&spec.id, given.into()).await {
                self.networks.ended(&spec.id);
                return Err(failed(&error));
            }
        }
        match self.containers.init(&spec.id) {
            Some(init) => self.networks.started(&spec.id, init),
            // It has ended already.
            None => self.networks.ended(&spec.id),
        }
        Ok(())
    }
}
