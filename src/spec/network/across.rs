//! What can be said of networks only when all services are read.

use std::collections::{BTreeMap, BTreeSet};

use super::super::check::path;
use super::super::effects;
use super::super::report::Report;
use super::super::scope::MAX_HOLDS;
use super::super::source_text::Span;
use super::definitions::{Definition, Definitions, What};
use super::ports::{Taken, fixed};
use super::{Own, Places, conflicts};
use crate::model::{Loosening, Network, NetworkMode, NetworkName, Service, ServiceName, Severity};

type Read = (Service, Places);

/// Holds what services cannot have together, and returns the networks that are to be made.
pub(in crate::spec) fn finish(
    services: &mut [Read],
    definitions: &Definitions,
    report: &mut Report<'_>,
) -> BTreeMap<NetworkName, Network> {
    shared_networks(services, report);
    own_addresses(services, report);
    host_ports(services, report);
    let used: BTreeSet<String> = services.iter().flat_map(|(_, places)| places.networks.iter().cloned()).collect();
    let made: Vec<(&str, &Definition)> =
        definitions.iter().filter(|(key, definition)| definition.named || used.contains(*key)).collect();
    let faults = conflicts::faults(&made, report);
    for (service, places) in services {
        let all = places.networks.iter().filter_map(|key| faults.get(key.as_str())).flatten().cloned();
        service.holds.extend(all.take(MAX_HOLDS));
    }
    for (_, holds) in faults.iter().filter(|(key, _)| !used.contains(**key)) {
        for hold in holds {
            // No service is there to be held.
            let mut problem = hold.problem.clone();
            problem.severity = Severity::Warning;
            problem.message = format!("the network is not made: {}", problem.message);
            report.add(problem);
        }
    }
    let sound = made.iter().filter(|(key, _)| !faults.contains_key(key));
    sound
        .filter_map(|(_, definition)| ours(definition))
        .map(|network| (network.name.clone(), network.clone()))
        .collect()
}

pub(super) const fn ours(definition: &Definition) -> Option<&Network> {
    match &definition.what {
        What::Ours(network) => Some(network),
        What::External(_) | What::Default | What::Plain(_) => None,
    }
}

fn hold(service: &mut Service, at: Span, key: &str, (message, hint): (String, &str), report: &Report<'_>) {
    let key = format!("{}.{key}", path("services", service.name.as_str()));
    service.holds.push(effects::hold(report, at, &key, &message, hint));
}

/// `network_mode: service:NAME` leads to a service of the project with a network, over others or not.
fn shared_networks(services: &mut [Read], report: &mut Report<'_>) {
    let steps: BTreeMap<ServiceName, Step> =
        services.iter().map(|(service, _)| (service.name.clone(), Step::of(&service.network))).collect();
    for (service, places) in services {
        let (NetworkMode::Service(first), Some(at)) = (&service.network, places.shares) else { continue };
        match end(first, &steps) {
            Ok(Step::Host) => {
                let what = format!(
                    "it uses the host's network through the service {first}: interfaces, ports and abstract sockets"
                );
                let key = format!("{}.network_mode", path("services", service.name.as_str()));
                service.loosenings.push(Loosening { what, key, location: report.source.location(at) });
            }
            Ok(_) => {}
            Err(fault) => {
                let message = match fault {
                    Shared::Missing(name) if name == *first => {
                        format!("there is no service {:?} in the project, whose network is asked for", name.as_str())
                    }
                    Shared::Missing(name) => format!(
                        "it shares the network of {first:?}, which leads to the service {:?}, and that is not in the project",
                        name.as_str(),
                        first = first.as_str()
                    ),
                    Shared::Circle(names) => format!("networks are shared in a circle: {}", names.join(" -> ")),
                };
                hold(service, at, "network_mode", (message, "name a service that has a network of its own"), report);
            }
        }
    }
}

/// Whose network a service has.
enum Step {
    Host,
    Own,
    Of(ServiceName),
}

impl Step {
    fn of(mode: &NetworkMode) -> Self {
        match mode {
            NetworkMode::Host => Self::Host,
            NetworkMode::None | NetworkMode::Networks(_) | NetworkMode::Container(_) => Self::Own,
            NetworkMode::Service(name) => Self::Of(name.clone()),
        }
    }
}

/// Why a shared network is nobody's.
enum Shared {
    Missing(ServiceName),
    Circle(Vec<String>),
}

/// Follows the services that share each other's networks to the one that has it.
fn end<'s>(first: &ServiceName, steps: &'s BTreeMap<ServiceName, Step>) -> Result<&'s Step, Shared> {
    let mut passed: Vec<&ServiceName> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut name = first;
    loop {
        if !seen.insert(name) {
            let circle = passed.iter().skip_while(|other| **other != name).chain([&name]);
            return Err(Shared::Circle(circle.map(ToString::to_string).collect()));
        }
        passed.push(name);
        match steps.get(name) {
            None => return Err(Shared::Missing(name.clone())),
            Some(Step::Of(next)) => name = next,
            Some(end) => return Ok(end),
        }
    }
}

/// No two have the same address or MAC address on one network.
fn own_addresses(services: &mut [Read], report: &mut Report<'_>) {
    let mut first: BTreeMap<(NetworkName, Own), String> = BTreeMap::new();
    for (service, places) in services.iter_mut().filter(|(service, _)| service.replicas > 0) {
        for (network, own, at) in &places.own {
            let name = service.name.to_string();
            let other = first.entry((network.clone(), *own)).or_insert_with(|| name.clone());
            if *other == name {
                continue;
            }
            let (what, key) = match own {
                Own::Address(address) => (format!("address {address}"), "networks"),
                Own::Mac(mac) => (format!("MAC address {mac}"), "mac_address"),
            };
            let message = format!("the service {other:?} has the {what} of the network {network} already");
            hold(service, *at, key, (message, "give one of them another one"), report);
        }
    }
}

/// A port of the host leads to one container. Which of two services has it is said by the order of the file.
fn host_ports(services: &mut [Read], report: &mut Report<'_>) {
    let mut taken = Taken::default();
    for (service, places) in services.iter_mut().filter(|(service, _)| service.replicas > 0) {
        let Some(membership) = service.network.membership() else { continue };
        let mut faults = Vec::new();
        for (port, at) in membership.ports.iter().zip(&places.ports) {
            let room = port.host.map_or(u32::MAX, |(from, to)| u32::from(to - from) + 1);
            if service.replicas > room
                && let Some((from, to)) = port.host
            {
                let of = if from == to { format!("the port {from}") } else { format!("the ports {from}-{to}") };
                let message = format!("{} containers cannot all have {of} of the host", service.replicas);
                let hint = "write a range that has one for each (8000-8010:80), leave the host's port out, or run one";
                faults.push((*at, message, hint));
                continue;
            }
            let Some(fixed) = fixed(port) else { continue };
            let other = taken.take(fixed, service.name.clone()).filter(|other| *other != service.name);
            if let Some(other) = other {
                let (port, protocol) = (fixed.1, fixed.2.name());
                let message = format!("the service {:?} has the host's port {port}/{protocol} already", other.as_str());
                faults.push((*at, message, "give one of them another port of the host"));
            }
        }
        // A range is one line of the file.
        faults.dedup_by_key(|(at, _, _)| *at);
        for (at, message, hint) in faults {
            hold(service, at, "ports", (message, hint), report);
        }
    }
}
