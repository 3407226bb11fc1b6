//! The table of the family `inet`: who reaches whom.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::expression::{
    Draft, Hook, accept, address, drop, field, is, meta, not, number, one_of, prefix, tracked, tuple,
};
use super::{Answered, Rules, Table, answered};
use crate::model::{Cidr, Protocol};

/// Before conntrack.
const ENTER: Hook = Hook { kind: "filter", hook: "prerouting", priority: -300 };
const PUBLISH_IN: Hook = Hook { kind: "nat", hook: "prerouting", priority: -100 };
const PUBLISH_HERE: Hook = Hook { kind: "nat", hook: "output", priority: -100 };
const BETWEEN: Hook = Hook { kind: "filter", hook: "forward", priority: 0 };
const HOST: Hook = Hook { kind: "filter", hook: "input", priority: 0 };
const LEAVE: Hook = Hook { kind: "nat", hook: "postrouting", priority: 100 };

/// What differs between the families.
struct Family {
    ipv6: bool,
    /// Its header.
    header: &'static str,
    /// The kind of its addresses.
    kind: &'static str,
}

impl Family {
    const V4: Self = Self { ipv6: false, header: "ip", kind: "ipv4_addr" };
    const V6: Self = Self { ipv6: true, header: "ip6", kind: "ipv6_addr" };

    fn source(&self) -> Value {
        field(self.header, "saddr")
    }
    fn destination(&self) -> Value {
        field(self.header, "daddr")
    }
    /// The set's name for this family.
    fn named(&self, what: &str) -> String {
        format!("{what}{}", if self.ipv6 { 6 } else { 4 })
    }
    fn set(&self, what: &str) -> String {
        format!("@{}", self.named(what))
    }
    fn has(&self, cidr: Cidr) -> bool {
        cidr.address.is_ipv6() == self.ipv6
    }
}

pub(super) fn table(rules: &Rules, ipv6: bool) -> (Table, Vec<Value>) {
    let (name, families): (_, &[Family]) =
        if ipv6 { ("inet", &[Family::V4, Family::V6]) } else { ("ip", &[Family::V4]) };
    let mut draft = Draft::new(name, &rules.table);
    names(&mut draft, rules);
    for family in families {
        addresses(&mut draft, rules, family);
        ports(&mut draft, rules, family);
    }
    draft.chain("enter", ENTER, enter(families));
    draft.chain("publish_in", PUBLISH_IN, publish(families, &["ports_at", "ports"]));
    draft.chain("publish_here", PUBLISH_HERE, publish(families, &["ports_here", "ports_at", "ports"]));
    draft.chain("between", BETWEEN, between());
    draft.chain("host", HOST, host(rules.api, families));
    draft.chain("leave", LEAVE, leave(families));
    draft.done()
}

fn names(draft: &mut Draft, rules: &Rules) {
    let networks = || rules.networks.iter();
    draft.set("bridges", "ifname".into(), networks().map(|n| n.interface.as_str().into()).collect());
    let internal = networks().filter(|network| network.internal);
    draft.set("internal", "ifname".into(), internal.map(|n| n.interface.as_str().into()).collect());
    let same = networks().map(|n| tuple([n.interface.as_str().into(), n.interface.as_str().into()]));
    draft.set("same", json!(["ifname", "ifname"]), same.collect());
}

fn addresses(draft: &mut Draft, rules: &Rules, family: &Family) {
    let subnets = |masquerade: bool| {
        let networks = rules.networks.iter().filter(move |n| !masquerade || (n.masquerade && !n.internal));
        networks.flat_map(|n| n.subnets.iter().map(move |subnet| (n.interface.as_str(), *subnet)))
    };
    let of_family = |(_, subnet): &(&str, Cidr)| family.has(*subnet);
    let own = subnets(false).filter(of_family).map(|(bridge, subnet)| tuple([bridge.into(), prefix(subnet)]));
    draft.intervals(&family.named("own"), json!(["ifname", family.kind]), own.collect());
    let masquerade = subnets(true).filter(of_family).map(|(_, subnet)| prefix(subnet));
    draft.intervals(&family.named("masquerade"), family.kind.into(), masquerade.collect());
    let blocked = rules.blocked.iter().filter(|cidr| family.has(**cidr)).map(|cidr| prefix(*cidr));
    draft.intervals(&family.named("blocked"), family.kind.into(), blocked.collect());
}

/// Where published ports lead. Of two that are the same the first one counts: one mistake must not take the others' rules away.
fn ports(draft: &mut Draft, rules: &Rules, family: &Family) {
    let mut all: BTreeMap<(Protocol, u16), Value> = BTreeMap::new();
    let mut at: BTreeMap<(IpAddr, Protocol, u16), Value> = BTreeMap::new();
    let mut here = at.clone();
    for (published, leads) in &rules.published {
        let Some(leads) = leads.iter().find(|address| address.is_ipv6() == family.ipv6) else { continue };
        let to = tuple([address(*leads), published.target.into()]);
        let (protocol, port) = (published.protocol, published.port);
        match answered(published, family.ipv6) {
            None => {}
            Some(Answered::All) => {
                all.entry((protocol, port)).or_insert(to);
            }
            Some(Answered::At(on)) => {
                at.entry((on, protocol, port)).or_insert(to);
            }
            Some(Answered::Here(on)) => {
                here.entry((on, protocol, port)).or_insert(to);
            }
        }
    }
    let to = json!([family.kind, "inet_service"]);
    let all = all.into_iter().map(|((protocol, port), to)| json!([tuple([number(protocol).into(), port.into()]), to]));
    draft.map(&family.named("ports"), json!(["inet_proto", "inet_service"]), to.clone(), all.collect());
    for (name, map) in [("ports_at", at), ("ports_here", here)] {
        let elements = map
            .into_iter()
            .map(|((on, protocol, port), to)| json!([tuple([address(on), number(protocol).into(), port.into()]), to]));
        let kind = json!([family.kind, "inet_proto", "inet_service"]);
        draft.map(&family.named(name), kind, to.clone(), elements.collect());
    }
}

fn from_ours() -> Value {
    is(meta("iifname"), "@bridges")
}

fn to_ours() -> Value {
    is(meta("oifname"), "@bridges")
}

fn on_same_bridge() -> Value {
    is(tuple([meta("iifname"), meta("oifname")]), "@same")
}

fn enter(families: &[Family]) -> Vec<Vec<Value>> {
    let mut rules = vec![vec![not(meta("iifname"), "@bridges"), accept()]];
    for family in families {
        rules.push(vec![is(family.destination(), family.set("blocked")), drop()]);
        let own = not(tuple([meta("iifname"), family.source()]), family.set("own"));
        if family.ipv6 {
            let local = one_of(json!(["::", { "prefix": { "addr": "fe80::", "len": 10 } }]));
            rules.push(vec![not(family.source(), local), own, drop()]);
        } else {
            let loopback = json!({ "prefix": { "addr": "127.0.0.0", "len": 8 } });
            rules.push(vec![is(family.destination(), loopback), drop()]);
            rules.push(vec![own, drop()]);
        }
    }
    rules
}

/// The more exact map first.
fn publish(families: &[Family], maps: &[&str]) -> Vec<Vec<Value>> {
    let protocols = one_of(json!([6, 17, 132]));
    let local = is(json!({ "fib": { "result": "type", "flags": ["daddr"] } }), "local");
    let here = maps.contains(&"ports_here");
    let mut rules = Vec::new();
    for family in families {
        for map in maps {
            let (protocol, port) = (meta("l4proto"), field("th", "dport"));
            let key =
                if *map == "ports" { tuple([protocol, port]) } else { tuple([family.destination(), protocol, port]) };
            let map = json!({ "map": { "key": key, "data": family.set(map) } });
            let dnat = json!({ "dnat": { "family": family.header, "addr": map } });
            let mut rule = vec![is(meta("l4proto"), protocols.clone()), local.clone()];
            if !here && !family.ipv6 {
                // Whoever sends that to an interface wants to be taken for this machine.
                rule.push(not(family.destination(), json!({ "prefix": { "addr": "127.0.0.0", "len": 8 } })));
            }
            rule.push(dnat);
            rules.push(rule);
        }
    }
    rules
}

fn between() -> Vec<Vec<Value>> {
    let published = || tracked("status", "dnat".into());
    vec![
        vec![tracked("state", json!(["established", "related"])), accept()],
        vec![on_same_bridge(), accept()],
        vec![is(meta("iifname"), "@internal"), drop()],
        vec![is(meta("oifname"), "@internal"), drop()],
        vec![to_ours(), published(), accept()],
        vec![to_ours(), drop()],
        // It would leave with the container's own address.
        vec![from_ours(), tracked("state", "invalid".into()), drop()],
    ]
}

fn host(api: Option<SocketAddr>, families: &[Family]) -> Vec<Vec<Value>> {
    let mut rules = vec![vec![not(meta("iifname"), "@bridges"), accept()]];
    if let Some(api) = api {
        let mut rule = Vec::new();
        match api.ip() {
            // `[::]` answers IPv4 too.
            on if on.is_unspecified() => {}
            IpAddr::V4(on) => rule.push(is(Family::V4.destination(), on.to_string())),
            IpAddr::V6(on) => rule.push(is(Family::V6.destination(), on.to_string())),
        }
        rule.extend([is(field("tcp", "dport"), api.port()), drop()]);
        if api.is_ipv4() || families.iter().any(|family| family.ipv6) {
            rules.push(rule);
        }
    }
    rules.push(vec![tracked("state", json!(["established", "related"])), accept()]);
    if families.iter().any(|family| family.ipv6) {
        let neighbours = one_of(json!(["nd-neighbor-solicit", "nd-neighbor-advert"]));
        rules.push(vec![is(field("icmpv6", "type"), neighbours), accept()]);
    }
    rules.push(vec![is(meta("iifname"), "@internal"), drop()]);
    rules
}

fn leave(families: &[Family]) -> Vec<Vec<Value>> {
    let masquerade = || json!({ "masquerade": null });
    let mut rules = Vec::new();
    for family in families {
        if !family.ipv6 {
            let loopback = json!({ "prefix": { "addr": "127.0.0.0", "len": 8 } });
            rules.push(vec![to_ours(), is(family.source(), loopback), masquerade()]);
        }
        // From a container to a port that its own network publishes: it would answer directly, from another address than was asked.
        let own = is(tuple([meta("oifname"), family.source()]), family.set("own"));
        rules.push(vec![tracked("status", "dnat".into()), own, masquerade()]);
        let outside = not(meta("oifname"), "@bridges");
        rules.push(vec![outside, is(family.source(), family.set("masquerade")), masquerade()]);
    }
    rules
}
