//! `networks` of a service.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::node::{Node, Value};
use super::super::scope::Scope;
use super::super::source_text::Span;
use super::definitions::{DEFAULT, Definitions, What};
use super::{ALIAS_HINT, INTERFACE_HINT, Own, Places, is_alias, is_interface, pools};
use crate::model::{Ability, Join, Mac, Network, NetworkMode, NetworkName};

const NETWORKS: &str = "networks";
const MAC: &str = "mac_address";

/// What the networks are that a service names.
pub(super) enum Joined {
    /// To be joined, in the order of the interfaces.
    Networks(Vec<Join>),
    /// `host` or `none` by a name.
    Plain(NetworkMode),
}

/// One network as the service names it.
struct Named<'s> {
    key: &'s str,
    at: Span,
    /// The map below the name; none in a list.
    more: Option<&'s Node>,
    priority: i64,
}

/// What one network is asked for.
struct Asking<'a> {
    network: Option<&'a Network>,
    name: &'a NetworkName,
    replicas: u32,
}

pub(super) fn read(
    replicas: u32,
    definitions: &Definitions,
    scope: &mut Scope<'_, '_, '_>,
    places: &mut Places,
) -> Joined {
    let named = named(scope);
    let mut joins = Vec::new();
    let mut plain = None;
    let mut ipv6 = false;
    let mut seen = BTreeSet::new();
    for one in &named {
        let Some((key, definition)) = definitions.find(one.key) else {
            unknown(one, definitions, scope);
            continue;
        };
        let (network, name) = match &definition.what {
            What::Ours(network) => (Some(&**network), &network.name),
            What::External(name) => (None, name),
            What::Plain(mode) => {
                plain = Some((mode.clone(), one));
                continue;
            }
            What::Default => continue,
        };
        if !seen.insert(name) {
            let message = format!("the network {name} is joined twice");
            scope.stop(one.at, NETWORKS, message, "remove one of its names");
            continue;
        }
        places.networks.push(key.to_owned());
        if network.is_some_and(|network| network.ipv6) && !ipv6 {
            ipv6 = true;
            match names_networks(scope) {
                true => scope.need(one.at, NETWORKS, Ability::Ipv6),
                false => scope.need_itself(Ability::Ipv6),
            }
        }
        let asking = Asking { network, name, replicas };
        joins.push(join(one, &asking, scope, places));
    }
    match plain {
        Some((mode, _)) if joins.is_empty() => return Joined::Plain(mode),
        Some((_, one)) => {
            let message = format!("with the network {:?} no other one can be joined", one.key);
            scope.stop(one.at, NETWORKS, message, "remove it, or all others");
        }
        None => {}
    }
    service_mac(&mut joins, replicas, scope, places);
    Joined::Networks(joins)
}

/// In the order of the interfaces: those of higher priority first, then by their names.
fn named<'s>(scope: &mut Scope<'s, '_, '_>) -> Vec<Named<'s>> {
    let mut all: Vec<Named<'s>> = Vec::new();
    let mut seen = BTreeSet::new();
    if let Some(node) = scope.given(NETWORKS) {
        for item in node.items() {
            let key = item.text().unwrap_or_default();
            if !seen.insert(key) {
                scope.error(item.at, NETWORKS, format!("the network {key:?} is named twice"), "remove one of them");
                continue;
            }
            all.push(Named { key, at: item.at, more: None, priority: 0 });
        }
        for (name, more) in node.entries() {
            let priority = whole(more, "priority", scope);
            all.push(Named { key: &name.text, at: name.at, more: Some(more), priority });
        }
    }
    if all.is_empty() {
        let at = scope.name_at();
        all.push(Named { key: DEFAULT, at, more: None, priority: 0 });
    }
    all.sort_by_key(|one| (Reverse(one.priority), one.key));
    all
}

fn whole(node: &Node, name: &str, scope: &mut Scope<'_, '_, '_>) -> i64 {
    let Some(given) = node.given(name) else { return 0 };
    let text = given.text().unwrap_or_default();
    text.parse().unwrap_or_else(|_| {
        scope.stop(given.at, NETWORKS, format!("`{name}` is {text}: expected a whole number"), "write 0 or 100");
        0
    })
}

fn unknown(one: &Named<'_>, definitions: &Definitions, scope: &mut Scope<'_, '_, '_>) {
    let message = format!("the network {:?} is not defined in the file", one.key);
    // To explain a hundred thousand unknown names would take seconds.
    let near = if scope.reader.report.full() { None } else { definitions.nearest(one.key) };
    let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    scope.error(one.at, NETWORKS, message, &format!("{near}networks are defined below `networks:` of the file"));
}

fn join(one: &Named<'_>, asking: &Asking<'_>, scope: &mut Scope<'_, '_, '_>, places: &mut Places) -> Join {
    let plain = plain(asking.name.clone());
    let Some(more) = one.more else { return plain };
    if let Some(options) = more.given("driver_opts").filter(|options| !options.entries().is_empty()) {
        scope.warn(
            options.at,
            NETWORKS,
            "the options of a link have no effect",
            "they are for Docker's drivers; remove them",
        );
    }
    Join {
        aliases: aliases(more, scope),
        ipv4: fixed::<Ipv4Addr>(more, "ipv4_address", asking, scope, places),
        ipv6: fixed::<Ipv6Addr>(more, "ipv6_address", asking, scope, places),
        link_local: link_local(more, scope),
        mac: more.given(MAC).and_then(|node| mac(node, asking, scope, places)),
        interface: interface(more, scope),
        gateway_priority: whole(more, "gw_priority", scope),
        ..plain
    }
}

/// A link of which nothing more is asked.
pub(super) const fn plain(network: NetworkName) -> Join {
    Join {
        network,
        aliases: Vec::new(),
        ipv4: None,
        ipv6: None,
        link_local: Vec::new(),
        mac: None,
        interface: None,
        gateway_priority: 0,
    }
}

fn texts<'s>(node: &'s Node, name: &str) -> impl Iterator<Item = (&'s str, Span)> {
    let items = node.given(name).map(Node::items).unwrap_or_default();
    items.iter().map(|item| (item.text().unwrap_or_default(), item.at))
}

fn aliases(more: &Node, scope: &mut Scope<'_, '_, '_>) -> Vec<String> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for (text, at) in texts(more, "aliases") {
        if !is_alias(text) {
            scope.stop(at, NETWORKS, format!("the alias {text:?} is not a name"), ALIAS_HINT);
        } else if seen.insert(text.to_ascii_lowercase()) {
            all.push(text.to_owned());
        }
    }
    all
}

fn link_local(more: &Node, scope: &mut Scope<'_, '_, '_>) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for (text, at) in texts(more, "link_local_ips") {
        let good = |address: &IpAddr| match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        match text.parse::<IpAddr>().ok().filter(good) {
            Some(address) => all.push(address),
            None => {
                let message = format!("{text:?} is not a link-local address");
                scope.stop(at, NETWORKS, message, "write one of 169.254.0.0/16 or fe80::/10");
            }
        }
    }
    all
}

fn interface(more: &Node, scope: &mut Scope<'_, '_, '_>) -> Option<String> {
    let node = more.given("interface_name")?;
    let text = node.text().filter(|text| !text.is_empty())?;
    if !is_interface(text) {
        scope.stop(node.at, NETWORKS, format!("{text:?} cannot be the name of an interface"), INTERFACE_HINT);
    }
    Some(text.to_owned())
}

/// An address that the file chooses.
fn fixed<A: std::str::FromStr + Into<IpAddr> + Copy>(
    more: &Node,
    name: &str,
    asking: &Asking<'_>,
    scope: &mut Scope<'_, '_, '_>,
    places: &mut Places,
) -> Option<A> {
    let node = more.given(name)?;
    let text = node.text().filter(|text| !text.is_empty())?;
    let Ok(found) = text.parse::<A>() else {
        let family = if name == "ipv4_address" { "an IPv4 address" } else { "an IPv6 address" };
        scope.stop(node.at, NETWORKS, format!("{text:?} is not {family}"), "write one of the network's subnet");
        return None;
    };
    let address = found.into();
    places.own.push((asking.name.clone(), Own::Address(address), node.at));
    if asking.replicas > 1 {
        let message = format!("{} containers cannot all have the address {address}", asking.replicas);
        scope.stop(node.at, NETWORKS, message, &format!("remove `{name}`, or run one container"));
    }
    if let Some((message, hint)) = asking.network.and_then(|network| misplaced(address, network)) {
        scope.stop(node.at, NETWORKS, message, &hint);
    }
    Some(found)
}

/// Why a container of the network cannot have this address.
fn misplaced(address: IpAddr, network: &Network) -> Option<(String, String)> {
    let (family, on, switch) = match address {
        IpAddr::V4(_) => ("IPv4", network.ipv4, "enable_ipv4"),
        IpAddr::V6(_) => ("IPv6", network.ipv6, "enable_ipv6"),
    };
    let name = &network.name;
    if !on {
        let message = format!("the network {name} has no {family}, and {address} cannot be in it");
        return Some((message, format!("write `{switch}: true` at the network")));
    }
    let same: Vec<_> = network.pools.iter().filter(|pool| pool.subnet.address.is_ipv4() == address.is_ipv4()).collect();
    if same.is_empty() {
        let message = format!(
            "the network {name} has no {family} subnet in the file, and {address} may not be in the one that it gets"
        );
        return Some((message, "write one below `ipam: {config: [{subnet: …}]}` of the network".to_owned()));
    }
    let Some(pool) = same.iter().find(|pool| pool.subnet.contains(address)) else {
        let subnets: Vec<_> = same.iter().map(|pool| pool.subnet.to_string()).collect();
        let message = format!("the address {address} is in no subnet of the network {name} ({})", subnets.join(", "));
        return Some((message, "write one that is in its subnet".to_owned()));
    };
    let other = || "write another one of its subnet".to_owned();
    if pool.gateway.or_else(|| pools::first_host(pool)) == Some(address) {
        return Some((format!("the address {address} is the gateway's of the network {name}"), other()));
    }
    if let Some((kept, _)) = pool.kept.iter().find(|(_, kept)| **kept == address) {
        return Some((format!("the address {address} of the network {name} is kept for {kept:?}"), other()));
    }
    (!pools::is_host(pool.subnet, address))
        .then(|| (format!("the address {address} stands for the subnet {} itself", pool.subnet), other()))
}

fn mac(node: &Node, asking: &Asking<'_>, scope: &mut Scope<'_, '_, '_>, places: &mut Places) -> Option<Mac> {
    let text = node.text().filter(|text| !text.is_empty())?;
    let Some(mac) = Mac::parse(text) else {
        let hint = "write six bytes such as 02:42:ac:11:00:02, the first of them even";
        scope.stop(node.at, MAC, format!("{text:?} is not a MAC address"), hint);
        return None;
    };
    places.own.push((asking.name.clone(), Own::Mac(mac), node.at));
    if asking.replicas > 1 {
        let message = format!("{} containers cannot all have the MAC address {mac}", asking.replicas);
        scope.stop(node.at, MAC, message, "remove it, or run one container");
    }
    Some(mac)
}

/// The service's own `mac_address` is that of its first link.
fn service_mac(joins: &mut [Join], replicas: u32, scope: &mut Scope<'_, '_, '_>, places: &mut Places) {
    let (Some(node), Some(first)) = (scope.given(MAC), joins.first_mut()) else { return };
    if let Some(own) = first.mac {
        if node.text().and_then(Mac::parse) != Some(own) {
            let message = format!("`{MAC}` of the service and of its network {} differ", first.network);
            scope.stop(node.at, MAC, message, "remove one of them");
        }
        return;
    }
    let asking = Asking { network: None, name: &first.network, replicas };
    first.mac = mac(node, &asking, scope, places);
}

/// Whether the service names networks.
pub(super) fn names_networks(scope: &Scope<'_, '_, '_>) -> bool {
    scope.given(NETWORKS).is_some_and(|node| match &node.value {
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => !entries.is_empty(),
        Value::Scalar(_) => false,
    })
}
