//! `networks` of the file.

use std::collections::BTreeMap;

use super::super::check::path;
use super::super::environment;
use super::super::nearest::nearest;
use super::super::node::{Key, Node};
use super::super::project::Reader;
use super::super::scope::Scope;
use super::super::source_text::Span;
use super::{INTERFACE_HINT, is_interface, pools};
use crate::model::{Driver, Hold, IpvlanMode, Location, MacvlanMode, Network, NetworkMode, NetworkName, ProjectName};

/// Compose's name for the network of services that name none.
pub(super) const DEFAULT: &str = "default";
const DRIVER: &str = "driver";
const DRIVERS: [&str; 5] = ["bridge", "host", "none", "macvlan", "ipvlan"];
const OPTIONS: &str = "driver_opts";
/// More than a host has routes for.
const MAX_NETWORKS: usize = 1000;

/// The networks that services may name.
#[derive(Debug)]
pub(in crate::spec) struct Definitions(BTreeMap<String, Definition>);

/// One network of the file.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) what: What,
    /// Where its key stands; the file as a whole for a default network that is not written.
    pub(super) at: Span,
    /// It has a name of its own, by which other projects may know it.
    pub(super) named: bool,
    /// Why it is not made as it is written.
    pub(super) faults: Vec<Hold>,
}

/// What a service gets that names it.
#[derive(Debug)]
pub(super) enum What {
    /// A network of this project.
    Ours(Box<Network>),
    /// One that is defined elsewhere.
    External(NetworkName),
    /// Docker's `bridge`: what a service has that names no network.
    Default,
    /// Docker's `host` and `none`: no network to join.
    Plain(NetworkMode),
}

impl Definitions {
    pub(in crate::spec) fn read(root: &Node, project: &ProjectName, reader: &mut Reader<'_, '_>) -> Self {
        let given = root.given("networks").map(Node::entries).unwrap_or_default();
        if let Some((key, _)) = given.get(MAX_NETWORKS) {
            reader.report.error(key.at, "networks", format!("a file may have at most {MAX_NETWORKS} networks"));
        }
        let mut all: BTreeMap<String, Definition> = given
            .iter()
            .take(MAX_NETWORKS)
            .filter_map(|(key, body)| Some((key.text.clone(), definition(key, body, project, reader)?)))
            .collect();
        let standing = |definition: &Definition| !matches!(definition.what, What::Default);
        if !all.get(DEFAULT).is_some_and(standing)
            && let Ok(name) = NetworkName::parse(&format!("{project}_{DEFAULT}"))
        {
            let location = Location::whole(reader.report.source.path);
            let what = What::Ours(Box::new(plain(name, location)));
            all.insert(DEFAULT.to_owned(), Definition { what, at: Span::default(), named: false, faults: Vec::new() });
        }
        Self(all)
    }

    /// The network with this key, and its key: another one where it stands for the default network.
    pub(super) fn find(&self, key: &str) -> Option<(&str, &Definition)> {
        let (found, definition) = self.0.get_key_value(key)?;
        match definition.what {
            What::Default => self.0.get_key_value(DEFAULT).map(|(key, definition)| (key.as_str(), definition)),
            What::Ours(_) | What::External(_) | What::Plain(_) => Some((found, definition)),
        }
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Definition)> {
        self.0.iter().map(|(key, definition)| (key.as_str(), definition))
    }
    pub(super) fn nearest(&self, key: &str) -> Option<&str> {
        nearest(key, self.0.keys().map(String::as_str))
    }
}

/// A bridge with nothing said about it.
const fn plain(name: NetworkName, location: Location) -> Network {
    Network {
        name,
        driver: Driver::Bridge,
        internal: false,
        ipv4: true,
        ipv6: false,
        pools: Vec::new(),
        mtu: None,
        bridge: None,
        labels: BTreeMap::new(),
        location,
    }
}

fn definition(key: &Key, body: &Node, project: &ProjectName, reader: &mut Reader<'_, '_>) -> Option<Definition> {
    let full = path("networks", &key.text);
    let location = reader.report.source.location(key.at);
    let mut scope = Scope::new(body, &full, key.at, reader);
    let named = scope.word("name").is_some();
    let what = match external(key, body, &mut scope) {
        Some(name) => elsewhere(&name, key, &mut scope)?,
        None => {
            let name =
                scope.word("name").map_or_else(|| format!("{project}_{}", key.text), |(name, _)| name.to_owned());
            ours(name_of(&name, key, &mut scope)?, location, key.at, &mut scope)
        }
    };
    Some(Definition { what, at: key.at, named, faults: scope.finish().holds })
}

/// `external: true`, or the old form with the name inside: its name outside. Compose refuses whatever else is said of it.
fn external(key: &Key, body: &Node, scope: &mut Scope<'_, '_, '_>) -> Option<String> {
    let node = scope.given("external")?;
    let inside = node.given("name").and_then(Node::text).filter(|name| !name.is_empty());
    if inside.is_none() && node.truth() != Some(true) && node.entries().is_empty() {
        return None;
    }
    let beside = |name: &str| !matches!(name, "external" | "name") && !name.starts_with("x-");
    if let Some((other, _)) = body.entries().iter().find(|(other, value)| beside(&other.text) && !value.is_null()) {
        let message = format!("`{}` and `external` exclude each other", other.text);
        scope.error(other.at, &other.text, message, "an external network is defined elsewhere; remove one of them");
    }
    match (scope.word("name"), inside) {
        (Some((name, at)), Some(inside)) if name != inside => {
            let message = format!("the network has two names outside: {inside:?} and {name:?}");
            scope.error(at, "name", message, "remove one of them");
            Some(name.to_owned())
        }
        (Some((name, _)), _) | (None, Some(name)) => Some(name.to_owned()),
        (None, None) => Some(key.text.clone()),
    }
}

fn elsewhere(name: &str, key: &Key, scope: &mut Scope<'_, '_, '_>) -> Option<What> {
    Some(match name {
        "host" => What::Plain(NetworkMode::Host),
        "none" => What::Plain(NetworkMode::None),
        "bridge" => What::Default,
        other => What::External(name_of(other, key, scope)?),
    })
}

fn name_of(name: &str, key: &Key, scope: &mut Scope<'_, '_, '_>) -> Option<NetworkName> {
    match NetworkName::parse(name) {
        Ok(name) => Some(name),
        Err(error) => {
            let at = scope.word("name").map_or(key.at, |(_, at)| at);
            scope.error(at, "name", error.to_string(), "write another `name:`");
            None
        }
    }
}

fn ours(name: NetworkName, location: Location, at: Span, scope: &mut Scope<'_, '_, '_>) -> What {
    let word = scope.word(DRIVER).map_or("", |(word, _)| word);
    let driver = match word {
        "host" => return What::Plain(NetworkMode::Host),
        "none" | "null" => return What::Plain(NetworkMode::None),
        "" | "bridge" => Driver::Bridge,
        "macvlan" => Driver::Macvlan { parent: parent(scope), mode: macvlan_mode(scope) },
        "ipvlan" => Driver::Ipvlan { parent: parent(scope), mode: ipvlan_mode(scope) },
        other => {
            let message = format!("the network driver {other:?} is not supported");
            let near = nearest(other, DRIVERS).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            let hint = format!("{near}it may be bridge, macvlan, ipvlan, host or none");
            scope.stop(scope.place(DRIVER), DRIVER, message, &hint);
            Driver::Bridge
        }
    };
    let switch = |name: &str, usual| scope.given(name).and_then(Node::truth).unwrap_or(usual);
    let (internal, ipv4, ipv6) = (switch("internal", false), switch("enable_ipv4", true), switch("enable_ipv6", false));
    if !ipv4 && !ipv6 {
        scope.stop(at, "enable_ipv4", "the network has neither IPv4 nor IPv6", "write `enable_ipv6: true`");
    }
    let mtu = mtu(ipv6, scope);
    let bridge = bridge(&driver, scope);
    other_options(&driver, scope);
    What::Ours(Box::new(Network {
        internal,
        ipv4,
        ipv6,
        pools: pools::read(ipv4, ipv6, scope),
        mtu,
        bridge,
        labels: environment::labels(scope.body(), "labels"),
        driver,
        ..plain(name, location)
    }))
}

/// One of `driver_opts`, by any of its names.
fn option<'s>(names: &[&str], scope: &Scope<'s, '_, '_>) -> Option<(&'s str, Span)> {
    let options = scope.given(OPTIONS)?;
    let node = names.iter().find_map(|name| options.given(name))?;
    node.text().filter(|text| !text.is_empty()).map(|text| (text, node.at))
}

const MTU: [&str; 3] = ["com.docker.network.driver.mtu", "com.docker.network.mtu", "mtu"];
const BRIDGE: &str = "com.docker.network.bridge.name";

/// RFC 791 and RFC 8200 have a least MTU.
fn mtu(ipv6: bool, scope: &mut Scope<'_, '_, '_>) -> Option<u32> {
    let (text, at) = option(&MTU, scope)?;
    let least = if ipv6 { 1280 } else { 68 };
    let number = text.parse::<u32>().ok().filter(|mtu| (least..=65_535).contains(mtu));
    if number.is_none() {
        let of = if ipv6 { " with IPv6" } else { "" };
        let message = format!("the MTU {text} is not from {least} to 65535, as it must be{of}");
        scope.stop(at, OPTIONS, message, "write 1500, or leave it out: then it is that of the way out");
    }
    number
}

fn bridge(driver: &Driver, scope: &mut Scope<'_, '_, '_>) -> Option<String> {
    let (text, at) = option(&[BRIDGE], scope).filter(|_| *driver == Driver::Bridge)?;
    if !is_interface(text) {
        scope.stop(at, OPTIONS, format!("{text:?} cannot be the name of a bridge"), INTERFACE_HINT);
    }
    Some(text.to_owned())
}

fn parent(scope: &mut Scope<'_, '_, '_>) -> Option<String> {
    let (text, at) = option(&["parent"], scope)?;
    if !is_interface(text) {
        let hint = "write the name of an interface of the host, such as eth0 or eth0.10";
        scope.stop(at, OPTIONS, format!("{text:?} cannot be the name of an interface"), hint);
    }
    if scope.given("internal").and_then(Node::truth) == Some(true) {
        // On the wire nothing of ours could keep it to itself.
        let message = format!("the network is internal, and {text} would lead outside");
        scope.stop(at, OPTIONS, message, "leave `parent` out: then it has no wire; or leave `internal` out");
    }
    Some(text.to_owned())
}

fn macvlan_mode(scope: &mut Scope<'_, '_, '_>) -> MacvlanMode {
    let Some((text, at)) = option(&["macvlan_mode"], scope) else { return MacvlanMode::Bridge };
    match text {
        "bridge" => MacvlanMode::Bridge,
        "vepa" => MacvlanMode::Vepa,
        "private" => MacvlanMode::Private,
        "passthru" => MacvlanMode::Passthru,
        other => {
            let hint = "it may be bridge, vepa, private or passthru";
            scope.stop(at, OPTIONS, format!("{other:?} is not a mode of macvlan"), hint);
            MacvlanMode::Bridge
        }
    }
}

fn ipvlan_mode(scope: &mut Scope<'_, '_, '_>) -> IpvlanMode {
    let Some((text, at)) = option(&["ipvlan_mode"], scope) else { return IpvlanMode::L2 };
    match text {
        "l2" => IpvlanMode::L2,
        "l3" => IpvlanMode::L3,
        "l3s" => IpvlanMode::L3s,
        other => {
            scope.stop(at, OPTIONS, format!("{other:?} is not a mode of ipvlan"), "it may be l2, l3 or l3s");
            IpvlanMode::L2
        }
    }
}

/// Those that would keep containers or ports apart hold; others are warned of.
fn other_options(driver: &Driver, scope: &mut Scope<'_, '_, '_>) {
    let options = scope.given(OPTIONS).map(Node::entries).unwrap_or_default();
    for (key, value) in options.iter().filter(|(_, value)| value.text().is_some_and(|text| !text.is_empty())) {
        let (name, text) = (key.text.as_str(), value.text().unwrap_or_default());
        let off = value.truth() == Some(false) || text == "0";
        let known = match driver {
            Driver::Bridge => name == BRIDGE,
            Driver::Macvlan { .. } => matches!(name, "parent" | "macvlan_mode"),
            Driver::Ipvlan { .. } => matches!(name, "parent" | "ipvlan_mode"),
        };
        match name {
            _ if known || MTU.contains(&name) => {}
            "com.docker.network.bridge.enable_icc" if off => scope.stop(
                key.at,
                OPTIONS,
                "containers of one network are not kept apart from each other (enable_icc: false is not supported yet)",
                "give each service a network of its own, or remove the option",
            ),
            "com.docker.network.bridge.host_binding_ipv4" if text != "0.0.0.0" => scope.stop(
                key.at,
                OPTIONS,
                "an address for all ports of a network is not supported yet (host_binding_ipv4)",
                "write the address before each port: 127.0.0.1:8080:80",
            ),
            "com.docker.network.bridge.gateway_mode_ipv4" | "com.docker.network.bridge.gateway_mode_ipv6"
                if text != "nat" =>
            {
                scope.stop(
                    key.at,
                    OPTIONS,
                    format!("the gateway mode {text:?} is not supported yet"),
                    "write `nat`, or `internal: true` for a network without a way out",
                );
            }
            "com.docker.network.bridge.enable_icc"
            | "com.docker.network.bridge.enable_ip_masquerade"
            | "com.docker.network.bridge.host_binding_ipv4"
            | "com.docker.network.bridge.gateway_mode_ipv4"
            | "com.docker.network.bridge.gateway_mode_ipv6"
                if !off => {}
            _ => {
                let message = format!("the network option {name:?} has no effect");
                scope.warn(key.at, OPTIONS, message, "it is not known here; remove it");
            }
        }
    }
}
