//! `network_mode`, and what excludes it.

use super::super::node::Value;
use super::super::scope::Scope;
use super::super::source_text::Span;
use super::definitions::{DEFAULT, Definitions, What};
use super::joins::{self, Joined};
use super::{Places, links, ports};
use crate::model::{Ability, ContainerName, Join, Membership, NetworkMode, NetworkName, ServiceName};

const MODE: &str = "network_mode";
const HINT: &str = "write `none` (loopback only), `host`, `bridge`, `service:NAME` or `container:NAME`";

/// What a service asks of networks. Nothing said is the project's default network.
pub(in crate::spec) fn read(
    replicas: u32,
    definitions: &Definitions,
    scope: &mut Scope<'_, '_, '_>,
) -> (NetworkMode, Places) {
    let mut places = Places::default();
    let written = scope.word(MODE);
    if written.is_some() && joins::names_networks(scope) {
        let message = format!("`networks` and `{MODE}` exclude each other");
        scope.error(scope.place("networks"), "networks", message, "remove one of them");
    }
    let (ports, at_ports) = ports::ports(scope);
    let expose = ports::expose(scope);
    let links = links::read(scope);
    let joined = match written {
        None => joins::read(replicas, definitions, scope, &mut places),
        Some((text, at)) => by_mode(text, at, definitions, scope, &mut places),
    };
    let mode = match joined {
        Joined::Networks(joins) => {
            places.ports = at_ports;
            needs_networks(scope);
            NetworkMode::Networks(Box::new(Membership { joins, ports, links, expose }))
        }
        Joined::Plain(mode) => {
            excluded(&mode, scope);
            mode
        }
    };
    (mode, places)
}

fn by_mode(
    text: &str,
    at: Span,
    definitions: &Definitions,
    scope: &mut Scope<'_, '_, '_>,
    places: &mut Places,
) -> Joined {
    let wrong = |scope: &mut Scope<'_, '_, '_>, message: String| {
        scope.stop(at, MODE, message, HINT);
        Joined::Plain(NetworkMode::None)
    };
    match (text, text.split_once(':')) {
        ("none", _) => Joined::Plain(NetworkMode::None),
        ("host", _) => Joined::Plain(NetworkMode::Host),
        ("bridge" | DEFAULT, _) => default_network(definitions, at, scope, places),
        (_, Some(("service", name))) => match ServiceName::parse(name) {
            Ok(name) => {
                places.shares = Some(at);
                Joined::Plain(NetworkMode::Service(name))
            }
            Err(error) => wrong(scope, error.to_string()),
        },
        (_, Some(("container", name))) => match ContainerName::parse(name) {
            Ok(name) => Joined::Plain(NetworkMode::Container(name)),
            Err(error) => wrong(scope, error.to_string()),
        },
        // As Docker has it: any other word is the name of a network.
        (name, None) => match NetworkName::parse(name) {
            Ok(name) => Joined::Networks(vec![joins::plain(name)]),
            Err(error) => wrong(scope, error.to_string()),
        },
        (other, Some(_)) => wrong(scope, format!("{other:?} is not a network mode")),
    }
}

/// With `network_mode: bridge`.
fn default_network(definitions: &Definitions, at: Span, scope: &mut Scope<'_, '_, '_>, places: &mut Places) -> Joined {
    let Some((key, definition)) = definitions.find(DEFAULT) else { return Joined::Plain(NetworkMode::None) };
    let name = match &definition.what {
        What::Ours(network) => {
            if network.ipv6 {
                scope.need(at, MODE, Ability::Ipv6);
            }
            &network.name
        }
        What::External(name) => name,
        What::Plain(mode) => return Joined::Plain(mode.clone()),
        What::Default => return Joined::Plain(NetworkMode::None),
    };
    places.networks.push(key.to_owned());
    let joins: Vec<Join> = vec![joins::plain(name.clone())];
    Joined::Networks(joins)
}

/// Bridges and rules of our own, told at what asks for them.
fn needs_networks(scope: &mut Scope<'_, '_, '_>) {
    let key = ["networks", "ports", MODE].into_iter().find(|key| scope.given(key).is_some());
    match key {
        Some(key) => scope.need(scope.place(key), key, Ability::Networks),
        None => scope.need_itself(Ability::Networks),
    }
}

/// What cannot be had without a network of its own: Docker's rules.
fn excluded(mode: &NetworkMode, scope: &mut Scope<'_, '_, '_>) {
    let (said, refused, discarded): (_, &[&'static str], &[&'static str]) = match mode {
        NetworkMode::Networks(_) => return,
        NetworkMode::None => {
            ("`network_mode: none`".to_owned(), &["ports"], &["links", "external_links", "mac_address"])
        }
        NetworkMode::Host => {
            ("`network_mode: host`".to_owned(), &["links", "external_links", "mac_address"], &["ports"])
        }
        NetworkMode::Service(name) => (format!("`network_mode: service:{name}`"), &SHARED, &[]),
        NetworkMode::Container(name) => (format!("`network_mode: container:{name}`"), &SHARED, &[]),
    };
    for key in asked_for(refused, scope) {
        let message = format!("`{key}` and {said} exclude each other");
        let hint = match mode {
            NetworkMode::Service(name) => format!("write `{key}` at the service {name}, whose network is used"),
            NetworkMode::Container(name) => format!("the container {name}, whose network is used, decides it"),
            NetworkMode::None | NetworkMode::Host | NetworkMode::Networks(_) => "remove one of them".to_owned(),
        };
        scope.error(scope.place(key), key, message, &hint);
    }
    for key in asked_for(discarded, scope) {
        let hint = if key == "ports" { "remove it; the service's ports are the host's" } else { "remove it" };
        let message = format!("`{}` has no effect with {said}", scope.full(key));
        scope.warn(scope.place(key), key, message, hint);
    }
}

fn asked_for(keys: &[&'static str], scope: &Scope<'_, '_, '_>) -> Vec<&'static str> {
    let asks = |key: &&'static str| {
        scope.given(key).is_some_and(|node| match &node.value {
            Value::List(items) => !items.is_empty(),
            Value::Map(entries) => !entries.is_empty(),
            Value::Scalar(_) => node.text().is_some_and(|text| !text.is_empty()),
        })
    };
    keys.iter().copied().filter(asks).collect()
}

/// What the other container decides.
const SHARED: [&str; 8] =
    ["ports", "expose", "links", "external_links", "mac_address", "hostname", "dns", "extra_hosts"];
