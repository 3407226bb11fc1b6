//! The table of the family `inet`: who reaches whom.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::expression::{
    Draft, Hook, accept, address, by, drop, field, is, leave_branch, meta, not, number, one_of, prefix, tracked, tuple,
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

/// The ports that are answered on all addresses.
const ALL: &str = "ports";
/// Those on one.
const AT: &str = "ports_at";
/// Those on one, for this machine only.
const HERE: &str = "ports_here";

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
    let (mut sources, mut hairpins) = (Vec::new(), Vec::new());
    let mut subnets: BTreeMap<&str, Vec<Cidr>> = BTreeMap::new();
    for network in &rules.networks {
        subnets.entry(&network.interface).or_default().extend(&network.subnets);
    }
    for (bridge, own) in &subnets {
        sources.push(draft.branch("from", bridge, from(own, families)));
        hairpins.push(draft.branch("back", bridge, back(own, families)));
    }
    draft.chain("enter", ENTER, enter(families, &sources));
    draft.chain("publish_in", PUBLISH_IN, publish(families, &[AT, ALL]));
    draft.chain("publish_here", PUBLISH_HERE, publish(families, &[HERE, AT, ALL]));
    draft.chain("between", BETWEEN, between());
    draft.chain("host", HOST, host(rules.api, families));
    draft.chain("leave", LEAVE, leave(families, &hairpins));
    draft.done()
}

fn names(draft: &mut Draft, rules: &Rules) {
    let networks = || rules.networks.iter();
    draft.set("bridges", &"ifname".into(), networks().map(|n| n.interface.as_str().into()).collect());
    let internal = networks().filter(|network| network.internal);
    draft.set("internal", &"ifname".into(), internal.map(|n| n.interface.as_str().into()).collect());
    let same = networks().map(|n| tuple([n.interface.as_str().into(), n.interface.as_str().into()]));
    draft.set("same", &json!(["ifname", "ifname"]), same.collect());
}

fn addresses(draft: &mut Draft, rules: &Rules, family: &Family) {
    let masquerade = rules.networks.iter().filter(|network| network.masquerade && !network.internal);
    let masquerade = masquerade.flat_map(|network| &network.subnets);
    let prefixes = |all: &mut dyn Iterator<Item = &Cidr>| {
        let all: Vec<Cidr> = all.filter(|cidr| family.has(**cidr)).copied().collect();
        widest(&all).map(prefix).collect::<Vec<_>>()
    };
    draft.intervals(&family.named("masquerade"), &family.kind.into(), prefixes(&mut { masquerade }));
    draft.intervals(&family.named("blocked"), &family.kind.into(), prefixes(&mut rules.blocked.iter()));
}

/// Without those that lie in another one: two that overlap would be refused.
fn widest(all: &[Cidr]) -> impl Iterator<Item = Cidr> {
    let within = |one: Cidr, other: Cidr| other.prefix <= one.prefix && other.contains(one.network().address);
    let kept = move |at: usize, one: Cidr| {
        let wider = |(other_at, other): (usize, &Cidr)| {
            at != other_at && within(one, *other) && (one.network() != other.network() || other_at < at)
        };
        !all.iter().enumerate().any(wider)
    };
    all.iter().enumerate().filter(move |(at, one)| kept(*at, **one)).map(|(_, cidr)| *cidr)
}

/// What a port is looked up by: the address on which it is answered, if one is, its protocol and its number.
type Key = (Option<IpAddr>, Protocol, u16);

/// Where published ports lead. Of two that are the same the first one counts: one mistake must not take the others' rules away.
///
/// The address and the port in maps of their own: older versions of nft know no map to both in JSON.
fn ports(draft: &mut Draft, rules: &Rules, family: &Family) {
    let mut maps: BTreeMap<&str, BTreeMap<Key, (IpAddr, u16)>> =
        [ALL, AT, HERE].map(|name| (name, BTreeMap::new())).into();
    for (published, leads) in &rules.published {
        let Some(leads) = leads.iter().find(|address| address.is_ipv6() == family.ipv6) else { continue };
        let (map, on) = match answered(published, family.ipv6) {
            None => continue,
            Some(Answered::All) => (ALL, None),
            Some(Answered::At(on)) => (AT, Some(on)),
            Some(Answered::Here(on)) => (HERE, Some(on)),
        };
        let key = (on, published.protocol, published.port);
        maps.entry(map).or_default().entry(key).or_insert((*leads, published.target));
    }
    for (name, map) in maps {
        let kind = if name == ALL {
            json!(["inet_proto", "inet_service"])
        } else {
            json!([family.kind, "inet_proto", "inet_service"])
        };
        let key = |(on, protocol, port): &Key| match on {
            None => tuple([number(*protocol).into(), (*port).into()]),
            Some(on) => tuple([address(*on), number(*protocol).into(), (*port).into()]),
        };
        let addresses = map.iter().map(|(k, (to, _))| json!([key(k), address(*to)])).collect();
        draft.map(&family.named(name), &kind, family.kind, addresses);
        let targets = map.iter().map(|(k, (_, target))| json!([key(k), target])).collect();
        draft.map(&family.named(&format!("{name}_to")), &kind, "inet_service", targets);
    }
}

fn from_ours() -> Value {
    is(&meta("iifname"), "@bridges")
}

fn to_ours() -> Value {
    is(&meta("oifname"), "@bridges")
}

fn on_same_bridge() -> Value {
    is(&tuple([meta("iifname"), meta("oifname")]), "@same")
}

/// `sources`: a branch for each bridge.
///
/// A set of bridges with their subnets would say the same, but the kernel fills such a set (pipapo) only at the end of a transaction,
/// after the rules have begun to look into it: what came from a container meanwhile would be dropped.
fn enter(families: &[Family], sources: &[(String, Value)]) -> Vec<Vec<Value>> {
    let mut rules = vec![vec![not(&meta("iifname"), "@bridges"), accept()]];
    for family in families {
        rules.push(vec![is(&family.destination(), family.set("blocked")), drop()]);
        if !family.ipv6 {
            rules.push(vec![is(&family.destination(), loopback()), drop()]);
        }
    }
    if !sources.is_empty() {
        rules.push(vec![by(&meta("iifname"), sources)]);
    }
    rules
}

/// What comes from a network has an address of it.
fn from(own: &[Cidr], families: &[Family]) -> Vec<Vec<Value>> {
    let mut rules = Vec::new();
    for family in families {
        let subnets = own.iter().filter(|subnet| family.has(**subnet));
        rules.extend(subnets.map(|subnet| vec![is(&family.source(), prefix(*subnet)), leave_branch()]));
        if family.ipv6 {
            let local = one_of(&json!(["::", { "prefix": { "addr": "fe80::", "len": 10 } }]));
            rules.push(vec![is(&family.source(), local), leave_branch()]);
        }
    }
    rules.push(vec![drop()]);
    rules
}

/// From a container to a port that its own network publishes: it would answer directly, from another address than was asked.
fn back(own: &[Cidr], families: &[Family]) -> Vec<Vec<Value>> {
    let of = |family: &Family, subnet: &Cidr| {
        family.has(*subnet).then(|| vec![is(&family.source(), prefix(*subnet)), masquerade()])
    };
    families.iter().flat_map(|family| own.iter().filter_map(move |subnet| of(family, subnet))).collect()
}

fn loopback() -> Value {
    json!({ "prefix": { "addr": "127.0.0.0", "len": 8 } })
}

fn masquerade() -> Value {
    json!({ "masquerade": null })
}

/// The more exact map first.
fn publish(families: &[Family], maps: &[&str]) -> Vec<Vec<Value>> {
    let protocols = one_of(&json!([6, 17, 132]));
    let local = is(&json!({ "fib": { "result": "type", "flags": ["daddr"] } }), "local");
    let here = maps.contains(&HERE);
    let mut rules = Vec::new();
    for family in families {
        for map in maps {
            let (protocol, port) = (meta("l4proto"), field("th", "dport"));
            let key = if *map == ALL { tuple([protocol, port]) } else { tuple([family.destination(), protocol, port]) };
            let found = |map: &str| json!({ "map": { "key": key, "data": family.set(map) } });
            let (to, target) = (found(map), found(&format!("{map}_to")));
            let dnat = json!({ "dnat": { "family": family.header, "addr": to, "port": target } });
            let mut rule = vec![is(&meta("l4proto"), protocols.clone()), local.clone()];
            if !here && !family.ipv6 {
                // Whoever sends that to an interface wants to be taken for this machine.
                rule.push(not(&family.destination(), loopback()));
            }
            rule.push(dnat);
            rules.push(rule);
        }
    }
    rules
}

fn between() -> Vec<Vec<Value>> {
    let published = || tracked("status", &"dnat".into());
    vec![
        vec![tracked("state", &json!(["established", "related"])), accept()],
        vec![on_same_bridge(), accept()],
        vec![is(&meta("iifname"), "@internal"), drop()],
        vec![is(&meta("oifname"), "@internal"), drop()],
        vec![to_ours(), published(), accept()],
        vec![to_ours(), drop()],
        // It would leave with the container's own address.
        vec![from_ours(), tracked("state", &"invalid".into()), drop()],
    ]
}

fn host(api: Option<SocketAddr>, families: &[Family]) -> Vec<Vec<Value>> {
    let mut rules = vec![vec![not(&meta("iifname"), "@bridges"), accept()]];
    if let Some(api) = api {
        let mut rule = Vec::new();
        match api.ip() {
            // `[::]` answers IPv4 too.
            on if on.is_unspecified() => {}
            IpAddr::V4(on) => rule.push(is(&Family::V4.destination(), on.to_string())),
            IpAddr::V6(on) => rule.push(is(&Family::V6.destination(), on.to_string())),
        }
        rule.extend([is(&field("tcp", "dport"), api.port()), drop()]);
        if api.is_ipv4() || families.iter().any(|family| family.ipv6) {
            rules.push(rule);
        }
    }
    rules.push(vec![tracked("state", &json!(["established", "related"])), accept()]);
    if families.iter().any(|family| family.ipv6) {
        let neighbours = one_of(&json!(["nd-neighbor-solicit", "nd-neighbor-advert"]));
        rules.push(vec![is(&field("icmpv6", "type"), neighbours), accept()]);
    }
    rules.push(vec![is(&meta("iifname"), "@internal"), drop()]);
    rules
}

/// `hairpins`: a branch for each bridge.
fn leave(families: &[Family], hairpins: &[(String, Value)]) -> Vec<Vec<Value>> {
    let mut rules = Vec::new();
    if families.iter().any(|family| !family.ipv6) {
        rules.push(vec![to_ours(), is(&Family::V4.source(), loopback()), masquerade()]);
    }
    if !hairpins.is_empty() {
        rules.push(vec![tracked("status", &"dnat".into()), by(&meta("oifname"), hairpins)]);
    }
    for family in families {
        let outside = not(&meta("oifname"), "@bridges");
        rules.push(vec![outside, is(&family.source(), family.set("masquerade")), masquerade()]);
    }
    rules
}
