//! What the status says of networks: which there are, who is on them, and which ports lead in.

use super::host::Gauges;
use super::reconciler::Reconciler;
use super::view::{MemberView, NetworkView, PortView, WaitView};
use crate::model::{
    Attachment, ContainerName, Exposure, Key, NetworkId, NetworkName, ObservedContainer, Published, Service, Timestamp,
};
use crate::plan::Upkeep;

impl Reconciler {
    pub(super) fn network_views(&self) -> Vec<NetworkView> {
        let views = self.observed.networks.iter().map(|(id, observed)| NetworkView {
            id: id.clone(),
            network: observed.network.clone(),
            subnets: observed.subnets.clone(),
            gateways: observed.gateways.clone(),
            interface: observed.interface.clone(),
            broken: observed.broken.clone(),
            members: self.members(id),
        });
        let mut views: Vec<NetworkView> = views.collect();
        views.sort_by(|a, b| (&a.network.name, &a.id).cmp(&(&b.network.name, &b.id)));
        views
    }

    fn members(&self, id: &NetworkId) -> Vec<MemberView> {
        let alive = self.observed.containers.values().filter(|container| container.state.alive());
        let members = alive.filter_map(|container| {
            let attached = self.observed.attached.get(&container.spec.id)?;
            let link = attached.links.iter().find(|link| link.network == *id)?;
            let (addresses, mac) = (link.addresses.clone(), link.mac);
            Some(MemberView { id: container.spec.id.clone(), name: container.spec.name.clone(), addresses, mac })
        });
        let mut members: Vec<MemberView> = members.collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members
    }

    pub(super) fn links_of(&self, container: &ObservedContainer) -> Vec<Attachment> {
        self.observed.attached.get(&container.spec.id).map(|attached| attached.links.clone()).unwrap_or_default()
    }

    pub(super) fn ports_of(&self, container: &ObservedContainer) -> Vec<Published> {
        let attached = self.observed.attached.get(&container.spec.id).filter(|_| container.state.alive());
        attached.map(|attached| attached.published.clone()).unwrap_or_default()
    }

    pub(super) fn shared_by(&self, container: &ObservedContainer) -> Option<ContainerName> {
        let (owner, _) = self.observed.attached.get(&container.spec.id)?.shared.as_ref()?;
        self.observed.containers.get(owner).map(|owner| owner.spec.name.clone())
    }

    pub(super) fn upkeep_view(&self, upkeep: &Upkeep) -> WaitView {
        let name = self.name_of(&upkeep.action);
        WaitView {
            what: if matches!(upkeep.action.key(), Key::Network(_)) { format!("network {name}") } else { name },
            reason: self.wait_reason(&upkeep.on),
            since: self.memory.failure(&upkeep.action).map_or_else(Timestamp::default, |failure| failure.at),
            until: Some(upkeep.until),
        }
    }

    pub(super) fn network_reason(&self, id: &NetworkId, name: &NetworkName, after: Option<&NetworkId>) -> String {
        if let Some(failure) = self.memory.failures.get(&Key::Network(id.clone())).filter(|f| f.verb == "make network")
        {
            return format!("network {name} is not up: attempt {} failed: {}", failure.attempts, failure.error);
        }
        let Some(old) = after else { return format!("network {name} is being made") };
        let users = self.observed.containers.values().filter(|c| {
            let attached = self.observed.attached.get(&c.spec.id);
            c.state.alive() && attached.is_some_and(|attached| attached.links.iter().any(|l| l.network == *old))
        });
        let users: Vec<String> = users.map(|c| c.spec.name.to_string()).collect();
        let old_name =
            self.observed.networks.get(old).map_or_else(|| old.short().to_owned(), |n| n.network.name.to_string());
        let which =
            if old_name == name.as_str() { "its former definition".to_owned() } else { format!("network {old_name}") };
        if users.is_empty() {
            return format!("network {name} is made once {which} is gone: they cannot be at once");
        }
        format!(
            "network {name} is made once {which} is gone, with which it cannot be at once; on that: {}",
            users.join(", ")
        )
    }
}

/// The ports that a service publishes once it runs, with what the settings add where the file is silent.
pub(super) fn port_views(service: &Service, gauges: &Gauges) -> Vec<PortView> {
    let ports = service.network.membership().map_or(&[][..], |membership| &membership.ports);
    let view = |port: &crate::model::Port| PortView {
        address: port.address.or(gauges.publish_ip),
        host: port.host,
        target: port.target,
        protocol: port.protocol,
        // An address in the file says from where it is meant to be reached.
        exposure: match gauges.exposure {
            Exposure::Loopback if port.address.is_some() => Exposure::All,
            exposure => exposure,
        },
    };
    ports.iter().map(view).collect()
}
