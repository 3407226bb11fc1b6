//! `network_mode`, `networks` and `ports` as lines of the canonical text: what the container is given, not how networks are
//! defined. Whoever adds a field is made to say here how it is written.

use std::cmp::Reverse;

use super::Canonical;
use crate::model::{Join, Membership, NetworkMode, Port, ServiceLink};

pub(super) fn mode(mode: &NetworkMode, text: &mut Canonical) {
    match mode {
        NetworkMode::None => {}
        NetworkMode::Host => text.line("network_mode", &["host"]),
        NetworkMode::Service(name) => text.line("network_mode", &["service", name.as_str()]),
        NetworkMode::Container(name) => text.line("network_mode", &["container", name.as_str()]),
        NetworkMode::Networks(membership) => {
            text.line("network_mode", &["networks"]);
            networks(membership, text);
        }
    }
}

fn networks(membership: &Membership, text: &mut Canonical) {
    // What is exposed is told to others; the container itself has nothing of it.
    let Membership { joins, ports, links, expose: _ } = membership;
    joins.iter().for_each(|one| join(one, text));
    let order = by_gateway(joins);
    if !order.is_sorted() {
        let names: Vec<&str> = order.iter().map(|at| joins[*at].network.as_str()).collect();
        text.line("gateways", &names);
    }
    let mut lines: Vec<Vec<String>> = ports.iter().map(port).collect();
    lines.sort_unstable();
    for line in lines {
        text.line("ports", &line.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let mut links: Vec<(&str, &str)> =
        links.iter().map(|ServiceLink { target, alias }| (&**target, &**alias)).collect();
    links.sort_unstable();
    for (target, alias) in links {
        text.line("links", &[target, alias]);
    }
}

/// The joins in the order in which they may have the default route. Only this order counts, not the numbers that make it.
fn by_gateway(joins: &[Join]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..joins.len()).collect();
    order.sort_by_key(|at| Reverse(joins[*at].gateway_priority));
    order
}

/// Lines after the first one belong to the network of the first.
fn join(join: &Join, text: &mut Canonical) {
    let Join { network, aliases, ipv4, ipv6, link_local, mac, interface, gateway_priority: _ } = join;
    text.line("networks", &[network.as_str()]);
    let mut aliases = aliases.clone();
    aliases.sort_unstable();
    text.each("networks.aliases", &aliases);
    text.number("networks.ipv4_address", *ipv4);
    text.number("networks.ipv6_address", *ipv6);
    text.each("networks.link_local_ips", &link_local.iter().map(ToString::to_string).collect::<Vec<_>>());
    text.number("networks.mac_address", *mac);
    text.option("networks.interface_name", interface.as_deref());
}

fn port(port: &Port) -> Vec<String> {
    let Port { address, host, target, protocol, name: _, location: _ } = port;
    let host = host.map_or_else(String::new, |(first, last)| format!("{first}-{last}"));
    let address = address.map_or_else(String::new, |address| address.to_string());
    vec![address, host, target.to_string(), protocol.name().to_owned()]
}
