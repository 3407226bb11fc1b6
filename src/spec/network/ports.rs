//! `ports` and `expose`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::node::{Node, Value};
use super::super::scope::Scope;
use super::super::source_text::Span;
use super::port_text::{Range, Written, pairs, range, split};
use crate::model::{Exposed, Port, Protocol};

const PORTS: &str = "ports";
const EXPOSE: &str = "expose";

/// What is to be published, and where each of it stands.
pub(super) fn ports(scope: &mut Scope<'_, '_, '_>) -> (Vec<Port>, Vec<Span>) {
    let (mut ports, mut places) = (Vec::new(), Vec::new());
    let mut taken = Taken::default();
    for node in scope.given(PORTS).map(Node::items).unwrap_or_default() {
        let before = ports.len();
        if let Err((message, hint)) = port(node, scope, &mut ports) {
            scope.stop(node.at, PORTS, message, hint);
        }
        places.resize(ports.len(), node.at);
        let twice = ports[before..].iter().filter_map(fixed).find(|port| taken.take(*port, ()).is_some());
        if let Some((_, port, protocol)) = twice {
            let message = format!("the host's port {port}/{} is published twice", protocol.name());
            scope.stop(node.at, PORTS, message, "remove one of them, or give it another port of the host");
        }
    }
    (ports, places)
}

/// An address of the host (none: as configured), one port of it, and the protocol.
pub(super) type Fixed = (Option<IpAddr>, u16, Protocol);

/// The one port of the host that it must have.
pub(super) fn fixed(port: &Port) -> Option<Fixed> {
    port.host.filter(|(first, last)| first == last).map(|(first, _)| (port.address, first, port.protocol))
}

/// Who has which port of the host. An address that stands for all of its family takes a port of each of them.
#[derive(Debug)]
pub(super) struct Taken<T> {
    by_address: BTreeMap<Fixed, T>,
    by_family: BTreeMap<(bool, u16, Protocol), T>,
}

impl<T> Default for Taken<T> {
    fn default() -> Self {
        Self { by_address: BTreeMap::new(), by_family: BTreeMap::new() }
    }
}

impl<T: Clone> Taken<T> {
    /// Takes a port, or says who has it.
    pub(super) fn take(&mut self, (address, port, protocol): Fixed, owner: T) -> Option<T> {
        let all = |address: IpAddr| match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let of_all = address.and_then(|address| self.by_address.get(&(Some(all(address)), port, protocol)));
        let of_any = address
            .filter(IpAddr::is_unspecified)
            .and_then(|address| self.by_family.get(&(address.is_ipv4(), port, protocol)));
        let other = self.by_address.get(&(address, port, protocol)).or(of_all).or(of_any);
        if let Some(other) = other {
            return Some(other.clone());
        }
        if let Some(address) = address {
            self.by_family.entry((address.is_ipv4(), port, protocol)).or_insert_with(|| owner.clone());
        }
        self.by_address.insert((address, port, protocol), owner);
        None
    }
}

type Fault = (String, &'static str);

const SHORT: &str =
    "write PORT, HOST:PORT or ADDRESS:HOST:PORT, each port from 1 to 65535 or a range, and /udp for UDP";
const LONG: &str = "write a port from 1 to 65535, or a range such as 8000-8010 for `published`";

fn port(node: &Node, scope: &mut Scope<'_, '_, '_>, ports: &mut Vec<Port>) -> Result<(), Fault> {
    let part = |name: &str| node.given(name).and_then(Node::text).unwrap_or_default().trim();
    let (written, name, hint) = match node.value {
        Value::Map(_) => {
            let written = Written {
                address: part("host_ip"),
                host: part("published"),
                target: part("target"),
                protocol: part("protocol"),
            };
            if written.target.is_empty() {
                return Err(("the port has no `target`".to_owned(), LONG));
            }
            (written, Some(part("name")).filter(|name| !name.is_empty()), LONG)
        }
        Value::Scalar(_) | Value::List(_) => (split(node.text().unwrap_or_default().trim()), None, SHORT),
    };
    let fault = |message| (message, hint);
    let address = address(written.address).map_err(fault)?;
    let protocol = protocol(written.protocol).map_err(fault)?;
    let target = range(written.target).map_err(fault)?;
    let host = host(written.host).map_err(fault)?;
    let pairs = pairs(host, target).map_err(fault)?;
    scope.reader.spend_ports(target).map_err(|message| (message, "use `network_mode: host` for so many"))?;
    let location = scope.reader.report.source.location(node.at);
    ports.extend(pairs.map(|(host, target)| Port {
        address,
        host,
        target,
        protocol,
        name: name.map(str::to_owned),
        location: location.clone(),
    }));
    Ok(())
}

/// Nothing and 0 mean any port that is free.
fn host(text: &str) -> Result<Option<Range>, String> {
    if matches!(text, "" | "0") { Ok(None) } else { range(text).map(Some) }
}

fn address(text: &str) -> Result<Option<IpAddr>, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.is_empty() {
        return Ok(None);
    }
    bare.parse().map(Some).map_err(|_| format!("{text:?} is not an address"))
}

fn protocol(text: &str) -> Result<Protocol, String> {
    if text.is_empty() {
        return Ok(Protocol::Tcp);
    }
    Protocol::parse(&text.to_ascii_lowercase()).ok_or_else(|| format!("{text:?} is not a protocol"))
}

/// `expose`: `PORT[-PORT][/PROTOCOL]`.
pub(super) fn expose(scope: &mut Scope<'_, '_, '_>) -> Vec<Exposed> {
    let mut all = BTreeSet::new();
    for (text, at) in scope.texts(EXPOSE) {
        let (ports, named) = text.trim().split_once('/').unwrap_or((text.trim(), ""));
        let read = range(ports).and_then(|range| {
            scope.reader.spend_ports(range)?;
            Ok((range, protocol(named)?))
        });
        match read {
            Ok(((first, last), protocol)) => all.extend((first..=last).map(|port| (protocol, port))),
            Err(message) => scope.stop(at, EXPOSE, message, "write PORT, PORT-PORT or PORT/udp"),
        }
    }
    all.into_iter().map(|(protocol, port)| Exposed { port, protocol }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_all_takes_the_port_of_each() {
        let fixed = |address: &str, port| (address.parse().ok(), port, Protocol::Tcp);
        let clash = |one: &str, other: &str| {
            let mut taken = Taken::default();
            assert_eq!(taken.take(fixed(one, 80), 1), None);
            let clash = taken.take(fixed(other, 80), 2);
            assert_eq!(taken.take(fixed(other, 81), 3), None, "another port");
            assert_eq!(taken.take((fixed(other, 80).0, 80, Protocol::Udp), 4), None, "another protocol");
            clash.is_some()
        };
        for (one, other, expected) in [
            ("", "", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0", "10.0.0.1", true),
            ("::", "::1", true),
            ("0.0.0.0", "::1", false),
            ("0.0.0.0", "::", false),
            // What is configured is not known here.
            ("", "10.0.0.1", false),
        ] {
            assert_eq!(clash(one, other), expected, "{one} {other}");
            assert_eq!(clash(other, one), expected, "{other} {one}");
        }
    }
}
