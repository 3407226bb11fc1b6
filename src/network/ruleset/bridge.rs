//! The table of the family `bridge`: a container has the MAC address and the addresses that it was given, and no others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::expression::{Draft, Hook, accept, drop, field, is, meta, not, one_of, tuple};
use super::{Rules, Table, link_local};

const PORT: Hook = Hook { kind: "filter", hook: "prerouting", priority: -300 };

pub(super) fn table(rules: &Rules, ipv6: bool) -> (Table, Vec<Value>) {
    let mut draft = Draft::new("bridge", &rules.table);
    let mut ports = BTreeSet::new();
    let mut macs = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for endpoint in &rules.endpoints {
        let port = endpoint.port.as_str();
        ports.insert(port);
        macs.insert((port, endpoint.mac));
        addresses.insert((port, IpAddr::V6(link_local(endpoint.mac))));
        addresses.extend(endpoint.addresses.iter().map(|address| (port, *address)));
    }
    let of = |ipv6: bool| addresses.iter().filter(move |(_, address)| address.is_ipv6() == ipv6);
    let pair = |port: &str, value: String| tuple([port.into(), value.into()]);
    let listed = |ipv6: bool| of(ipv6).map(|(port, address)| pair(port, address.to_string())).collect::<Vec<_>>();
    draft.set("ports", &"ifname".into(), ports.into_iter().map(Value::from).collect());
    let macs = macs.into_iter().map(|(port, mac)| pair(port, mac.to_string()));
    draft.set("macs", &json!(["ifname", "ether_addr"]), macs.collect());
    draft.set("addresses4", &json!(["ifname", "ipv4_addr"]), listed(false));
    draft.set("addresses6", &json!(["ifname", "ipv6_addr"]), listed(true));
    let targets = of(true).filter_map(|(port, address)| match address {
        IpAddr::V6(address) => Some(pair(port, format!("{:#034x}", address.to_bits()))),
        IpAddr::V4(_) => None,
    });
    let mut port = link_layer();
    port.extend(ipv4());
    port.extend(if ipv6 { self::ipv6(targets.collect()) } else { vec![vec![is_kind("ip6"), drop()]] });
    draft.chain("port", PORT, port);
    draft.done()
}

fn is_kind(kind: &str) -> Value {
    is(&field("ether", "type"), kind)
}

/// Not what the container at this port has.
fn foreign(value: Value, set: &str) -> Value {
    not(&tuple([meta("iifname"), value]), set)
}

fn link_layer() -> Vec<Vec<Value>> {
    vec![
        vec![not(&meta("iifname"), "@ports"), accept()],
        vec![foreign(field("ether", "saddr"), "@macs"), drop()],
        // Also what has a VLAN tag: inside of it might be anything.
        vec![not(&field("ether", "type"), one_of(&json!(["ip", "arp", "ip6"]))), drop()],
    ]
}

fn ipv4() -> Vec<Vec<Value>> {
    vec![
        vec![is_kind("arp"), foreign(field("arp", "saddr ether"), "@macs"), drop()],
        // A probe (RFC 5227) has no address yet.
        vec![
            is_kind("arp"),
            not(&field("arp", "saddr ip"), "0.0.0.0"),
            foreign(field("arp", "saddr ip"), "@addresses4"),
            drop(),
        ],
        vec![is_kind("ip"), foreign(field("ip", "saddr"), "@addresses4"), drop()],
    ]
}

/// `targets`: what a container may say that it is, for each port.
fn ipv6(targets: Vec<Value>) -> Vec<Vec<Value>> {
    let advertisement = is(&field("icmpv6", "type"), "nd-neighbor-advert");
    let mut rules = vec![
        // `::` asks whether an address is free.
        vec![not(&field("ip6", "saddr"), "::"), foreign(field("ip6", "saddr"), "@addresses6"), drop()],
        // Containers are not routers.
        vec![is(&field("icmpv6", "type"), one_of(&json!(["nd-router-advert", "nd-redirect"]))), drop()],
    ];
    if !targets.is_empty() {
        // The target's field has no name in older versions of nft, and only a set without a name takes what has none.
        let target = json!({ "payload": { "base": "th", "offset": 64, "len": 128 } });
        let strange = not(&tuple([meta("iifname"), target]), one_of(&targets.into()));
        rules.push(vec![advertisement, strange, drop()]);
    }
    rules
}
