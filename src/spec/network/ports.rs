//! `ports` and `expose`.

use std::collections::BTreeSet;
use std::net::IpAddr;

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
    let mut seen = BTreeSet::new();
    for node in scope.given(PORTS).map(Node::items).unwrap_or_default() {
        let before = ports.len();
        if let Err((message, hint)) = port(node, scope, &mut ports) {
            scope.error(node.at, PORTS, message, hint);
        }
        places.resize(ports.len(), node.at);
        if let Some(twice) = ports[before..].iter().filter_map(fixed).find(|port| !seen.insert(*port)) {
            let message = format!("the host's port {}/{} is published twice", twice.1, twice.2.name());
            scope.error(node.at, PORTS, message, "remove one of them, or give it another port of the host");
        }
    }
    (ports, places)
}

/// The one port of the host that it must have.
pub(super) fn fixed(port: &Port) -> Option<(Option<IpAddr>, u16, Protocol)> {
    port.host.filter(|(first, last)| first == last).map(|(first, _)| (port.address, first, port.protocol))
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
            Err(message) => scope.error(at, EXPOSE, message, "write PORT, PORT-PORT or PORT/udp"),
        }
    }
    all.into_iter().map(|(protocol, port)| Exposed { port, protocol }).collect()
}
