//! Networks of one file that cannot be there together.

use std::collections::BTreeMap;

use super::super::check::path;
use super::super::effects;
use super::super::report::Report;
use super::across::ours;
use super::definitions::Definition;
use crate::model::{Cidr, Driver, Hold, Network};

/// What is wrong with each network that has something wrong, alone or beside another one. Of two that cannot be there
/// together, it is the later one in the file.
pub(super) fn faults<'d>(made: &[(&'d str, &'d Definition)], report: &Report<'_>) -> BTreeMap<&'d str, Vec<Hold>> {
    let mut order: Vec<(&str, &Definition, &Network)> =
        made.iter().filter_map(|(key, definition)| Some((*key, *definition, ours(definition)?))).collect();
    order.sort_by_key(|(_, definition, _)| definition.at);
    let mut faults: BTreeMap<&str, Vec<Hold>> = BTreeMap::new();
    for (key, definition, _) in &order {
        if !definition.faults.is_empty() {
            faults.insert(key, definition.faults.clone());
        }
    }
    let networks: Vec<&Network> = order.iter().map(|(_, _, network)| *network).collect();
    for (at, message, hint) in twice(&networks).into_iter().chain(overlaps(&networks)) {
        let (key, definition, _) = order[at];
        let hold = effects::hold(report, definition.at, &path("networks", key), &message, hint);
        faults.entry(key).or_default().push(hold);
    }
    faults
}

type Fault = (usize, String, &'static str);

/// Names, of networks and of bridges.
fn twice(networks: &[&Network]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (mut names, mut bridges) = (BTreeMap::new(), BTreeMap::new());
    for (at, network) in networks.iter().enumerate() {
        if names.insert(&network.name, at).is_some() {
            let message = format!("another network of the file has the name {} too", network.name);
            faults.push((at, message, "write another `name:`"));
        }
        if let Some(bridge) = &network.bridge
            && let Some(other) = bridges.insert(bridge, at)
        {
            let message = format!("the network {} has the bridge {bridge:?} too", networks[other].name);
            faults.push((at, message, "give one of them a bridge of another name"));
        }
    }
    faults
}

/// Subnets with an address in common. On an interface of the host two networks may have the same: they are on other wires.
fn overlaps(networks: &[&Network]) -> Vec<Fault> {
    let mut subnets: Vec<(Cidr, usize)> = Vec::new();
    for (at, network) in networks.iter().enumerate() {
        subnets.extend(network.pools.iter().map(|pool| (pool.subnet, at)));
    }
    subnets.sort_unstable();
    let mut faults = Vec::new();
    // A subnet is within another one or apart from it: those that hold the one that is looked at.
    let mut around: Vec<(Cidr, usize)> = Vec::new();
    for (subnet, at) in subnets {
        while around.last().is_some_and(|(other, _)| !other.overlaps(subnet)) {
            around.pop();
        }
        let bridged = |at: usize| networks[at].driver == Driver::Bridge;
        let clash = around.iter().find(|(_, other)| *other != at && (bridged(at) || bridged(*other)));
        if let Some((other_subnet, other)) = clash {
            let (late, early) = (at.max(*other), at.min(*other));
            let (mine, its) = if late == at { (subnet, *other_subnet) } else { (*other_subnet, subnet) };
            let message = format!("the subnet {mine} overlaps {its} of the network {}", networks[early].name);
            faults.push((late, message, "give one of them another subnet"));
        }
        around.push((subnet, at));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AddressPool, Location, MacvlanMode, NetworkName};

    fn network(name: &str, driver: Driver, subnets: &[&str]) -> Network {
        let pool = |text: &&str| AddressPool {
            subnet: Cidr::parse(text).unwrap(),
            range: None,
            gateway: None,
            kept: BTreeMap::new(),
        };
        Network {
            name: NetworkName::parse(name).unwrap(),
            driver,
            internal: false,
            ipv4: true,
            ipv6: false,
            pools: subnets.iter().map(pool).collect(),
            mtu: None,
            bridge: None,
            labels: BTreeMap::new(),
            location: Location::whole("x"),
        }
    }

    #[test]
    fn the_later_of_two_overlapping_networks_is_told() {
        let told = |networks: &[Network]| {
            let all: Vec<&Network> = networks.iter().collect();
            overlaps(&all).into_iter().map(|(at, message, _)| format!("{at} {message}")).collect::<Vec<_>>()
        };
        let bridge = |name, subnets| network(name, Driver::Bridge, subnets);
        let wire = |name, subnets| network(name, Driver::Macvlan { parent: None, mode: MacvlanMode::Bridge }, subnets);
        assert_eq!(told(&[bridge("a", &["10.0.0.0/24", "10.0.2.0/24"]), bridge("b", &["10.0.1.0/24"])]), [""; 0]);
        assert_eq!(
            told(&[bridge("a", &["10.0.1.0/24"]), bridge("b", &["10.0.0.0/16"])]),
            ["1 the subnet 10.0.0.0/16 overlaps 10.0.1.0/24 of the network a"]
        );
        assert_eq!(
            told(&[bridge("a", &["10.0.0.0/8"]), bridge("b", &["10.0.0.0/24"]), bridge("c", &["10.9.0.0/16"])]).len(),
            2
        );
        assert_eq!(told(&[wire("a", &["10.0.0.0/24"]), wire("b", &["10.0.0.0/24"])]), [""; 0]);
        assert_eq!(told(&[wire("a", &["10.0.0.0/24"]), bridge("b", &["10.0.0.0/24"])]).len(), 1);
    }
}
