//! The toy host's networks, and what happens to them.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    AddressPool, Attached, Attachment, Cidr, ContainerId, ContainerName, ContainerState, Driver, Join, Link, Location,
    Membership, Network, NetworkId, NetworkMode, NetworkName, NetworkPlace, ObservedContainer, ObservedNetwork,
    ProjectName, Service, ServiceName, SpecHash,
};
use crate::plan::Desired;
use crate::plan::sim::{Chance, World};

/// What the host has of networks.
#[derive(Default)]
pub(in crate::plan) struct Net {
    pub(in crate::plan) networks: BTreeMap<NetworkId, ObservedNetwork>,
    pub(in crate::plan) attached: BTreeMap<ContainerId, Attached>,
    pub(in crate::plan) lost: BTreeMap<ContainerId, String>,
    pub(in crate::plan) firewall: Option<String>,
    /// Containers that were stopped to be started on another network, by the daemon that runs.
    pub(in crate::plan) moved: BTreeSet<ContainerId>,
    /// Subnets that were chosen.
    chosen: u8,
}

impl Net {
    pub(in crate::plan) fn make(&mut self, network: &Network) -> Result<(), String> {
        let id = NetworkId::derive(network);
        if let Some(here) = self.networks.get_mut(&id) {
            here.broken = None;
            return Ok(());
        }
        let mut subnets: Vec<Cidr> = network.pools.iter().map(|pool| pool.subnet).collect();
        for other in self.networks.values() {
            if network.bridge.is_some() && other.network.bridge == network.bridge {
                return Err("the bridge is there already".to_owned());
            }
            if other.subnets.iter().any(|there| subnets.iter().any(|subnet| subnet.overlaps(*there))) {
                return Err("the subnet is taken".to_owned());
            }
        }
        if subnets.is_empty() {
            self.chosen = self.chosen.wrapping_add(1);
            subnets.push(Cidr::parse(&format!("172.16.{}.0/24", self.chosen)).unwrap());
        }
        let (gateways, interface) = (Vec::new(), network.bridge.clone());
        self.networks
            .insert(id, ObservedNetwork { network: network.clone(), subnets, gateways, interface, broken: None });
        Ok(())
    }

    pub(in crate::plan) fn remove(&mut self, id: &NetworkId, containers: &BTreeMap<ContainerId, ObservedContainer>) {
        for (container, attached) in &self.attached {
            let alive = containers.get(container).is_some_and(|c| c.state.alive());
            let on = attached.links.iter().any(|link| link.network == *id);
            assert!(!(alive && on), "network {} is removed under a container that runs", id.short());
        }
        self.networks.remove(id);
    }

    fn whole(&self, id: &NetworkId) -> bool {
        self.networks.get(id).is_some_and(|network| network.broken.is_none())
    }

    pub(in crate::plan) fn connect(&mut self, id: &ContainerId) -> Result<(), String> {
        let links = self.attached.get(id).map(|attached| attached.links.clone()).unwrap_or_default();
        if links.iter().all(|link| self.whole(&link.network)) {
            self.lost.remove(id);
            return Ok(());
        }
        Err("the bridge is gone".to_owned())
    }

    pub(in crate::plan) fn attach(
        &mut self,
        id: &ContainerId,
        place: &NetworkPlace,
        containers: &BTreeMap<ContainerId, ObservedContainer>,
    ) -> Result<(), String> {
        let mut attached = Attached::default();
        match place {
            NetworkPlace::Plain => {}
            NetworkPlace::Networks(ids) => {
                for network in ids {
                    if !self.whole(network) {
                        return Err("a network is not up".to_owned());
                    }
                    attached.links.push(attachment(network, &self.networks[network].network.name));
                }
            }
            NetworkPlace::Of(other) => match containers.get(other).map(|other| &other.state) {
                Some(ContainerState::Running { init, .. }) => attached.shared = Some((other.clone(), *init)),
                _ => return Err("whose network it shares is gone".to_owned()),
            },
        }
        self.attached.insert(id.clone(), attached);
        self.lost.remove(id);
        Ok(())
    }

    pub(in crate::plan) fn forget(&mut self, id: &ContainerId) {
        self.attached.remove(id);
        self.moved.remove(id);
    }

    /// No bridge and no rule is left, the records are.
    pub(in crate::plan) fn reboots(&mut self) {
        self.networks.values_mut().for_each(|network| network.broken = Some("the bridge is gone".to_owned()));
        self.lost.clear();
        self.firewall = Some("the table is gone".to_owned());
    }
}

pub(in crate::plan) fn attachment(network: &NetworkId, name: &NetworkName) -> Attachment {
    Attachment {
        network: network.clone(),
        name: name.clone(),
        link: Link::Bridge { bridge: "b".to_owned(), port: "p".to_owned() },
        interface: "eth0".to_owned(),
        mac: None,
        addresses: Vec::new(),
        gateways: Vec::new(),
        mtu: 1500,
        internal: false,
    }
}

pub(super) fn network(name: &str) -> Network {
    Network {
        name: NetworkName::parse(name).unwrap(),
        driver: Driver::Bridge,
        internal: false,
        ipv4: true,
        ipv6: false,
        pools: Vec::new(),
        mtu: None,
        bridge: None,
        labels: BTreeMap::new(),
        location: Location::whole("x.yaml"),
    }
}

pub(super) fn pool(subnet: &str) -> AddressPool {
    AddressPool { subnet: Cidr::parse(subnet).unwrap(), range: None, gateway: None, kept: BTreeMap::new() }
}

pub(super) fn join_of(name: &str) -> Join {
    Join {
        network: NetworkName::parse(name).unwrap(),
        aliases: Vec::new(),
        ipv4: None,
        ipv6: None,
        link_local: Vec::new(),
        mac: None,
        interface: None,
        gateway_priority: 0,
    }
}

pub(super) fn joined(names: &[&str]) -> NetworkMode {
    let joins = names.iter().map(|name| join_of(name)).collect();
    NetworkMode::Networks(Box::new(Membership { joins, ..Membership::default() }))
}

/// What a project defines: one network with a subnet that is chosen, one with a subnet of its own, and, in two of three projects,
/// one of the same name with the same bridge.
pub(super) fn networks(project: &ProjectName, variant: usize) -> BTreeMap<NetworkName, Network> {
    let mtu = [None, Some(1400), Some(1300)][variant % 3];
    let number = project.as_str().as_bytes()[0];
    let default = Network { mtu, ..network(&format!("{project}_default")) };
    let subnet = format!("10.{number}.{}.0/24", if variant == 5 { 1 } else { 0 });
    let back = Network { mtu, pools: vec![pool(&subnet)], ..network(&format!("{project}_back")) };
    let shared = Network { mtu, bridge: Some("br0".to_owned()), ..network("shared") };
    let mut all = vec![default, back];
    if project.as_str() != "gamma" && variant != 4 {
        all.push(shared);
    }
    all.into_iter().map(|network| (network.name.clone(), network)).collect()
}

/// Gives the service a network. The hash covers it.
pub(super) fn join(service: &mut Service, project: &ProjectName, version: usize, chance: &mut Chance) {
    let kind = chance.below(7);
    let (default, back) = (format!("{project}_default"), format!("{project}_back"));
    service.network = match kind {
        0 => NetworkMode::None,
        1 => NetworkMode::Host,
        2 => joined(&[&default]),
        3 => joined(&[&default, &back]),
        4 => joined(&["shared", &back]),
        5 => NetworkMode::Service(ServiceName::parse("db").unwrap()),
        _ => NetworkMode::Container(ContainerName::parse("alpha-web-1").unwrap()),
    };
    if kind == 5 && service.name.as_str() == "db" || kind == 6 && project.as_str() == "alpha" {
        service.network = joined(&["shared"]);
    }
    let text = format!("{}/{version}/{:?}", service.name, service.network);
    service.hash = SpecHash::of(text.as_bytes());
}

/// Whether everything that a service joins is defined, by its own project as by the first one.
pub(super) fn joinable(desired: &Desired, project: &ProjectName, service: &Service) -> bool {
    let NetworkMode::Networks(membership) = &service.network else { return true };
    let own = desired.projects.get(project).map(|p| &p.networks);
    membership.joins.iter().all(|join| {
        let Some(first) = definition(desired, &join.network) else { return false };
        own.and_then(|own| own.get(&join.network)).is_none_or(|own| NetworkId::derive(own) == NetworkId::derive(first))
    })
}

/// What the files say of a name.
pub(super) fn definition<'a>(desired: &'a Desired, name: &NetworkName) -> Option<&'a Network> {
    desired.projects.values().find_map(|project| project.networks.get(name))
}

/// A file defines its networks anew.
pub(super) fn redefine(world: &mut World, chance: &mut Chance) {
    let names: Vec<_> = world.desired.projects.keys().cloned().collect();
    if !names.is_empty() {
        let name = &names[chance.below(names.len())];
        world.desired.projects.get_mut(name).unwrap().networks = networks(name, chance.below(6));
        world.forget();
    }
}

/// Somebody deletes a bridge, a link or the rules.
pub(super) fn disturb(world: &mut World, chance: &mut Chance) {
    match chance.below(3) {
        0 => world.net.firewall = Some("the table was flushed".to_owned()),
        1 => {
            let ids: Vec<_> = world.net.networks.keys().cloned().collect();
            if ids.is_empty() {
                return;
            }
            let id = &ids[chance.below(ids.len())];
            world.net.networks.get_mut(id).unwrap().broken = Some("the bridge was deleted".to_owned());
            for (container, attached) in &world.net.attached {
                let runs = matches!(world.containers[container].state, ContainerState::Running { .. });
                if runs && attached.links.iter().any(|link| link.network == *id) {
                    world.net.lost.insert(container.clone(), "its link is no port of the bridge".to_owned());
                }
            }
        }
        _ => {
            let on = |id: &&ContainerId| {
                let runs = matches!(world.containers[*id].state, ContainerState::Running { .. });
                runs && !world.net.attached[*id].links.is_empty()
            };
            let running: Vec<_> = world.net.attached.keys().filter(on).cloned().collect();
            if !running.is_empty() {
                let id = running[chance.below(running.len())].clone();
                world.net.lost.insert(id, "its link was deleted".to_owned());
            }
        }
    }
}
