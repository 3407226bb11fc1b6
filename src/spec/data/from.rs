//! What can be said of mounts only when all services are read: `volumes_from`, and which volumes the file names.

use std::collections::{BTreeMap, BTreeSet};

use super::super::check::path;
use super::super::project::Reader;
use super::super::scope::MAX_HOLDS;
use super::super::{effects, hash};
use super::{Definitions, FROM, From, Places, mounts, wide};
use crate::model::{Loosening, Mount, MountSource, Service, ServiceName, Severity, Volume, VolumeName};

type Volumes = BTreeMap<VolumeName, Volume>;

/// Completes the services' mounts, and returns the volumes that the file names. `places` are in the order of the services.
pub(in crate::spec) fn finish(
    services: &mut [Service],
    places: &[Places],
    definitions: &Definitions,
    reader: &mut Reader<'_, '_>,
) -> Volumes {
    let named = faults(services, places, definitions, reader);
    take_over(services, places, reader);
    for (service, places) in services.iter_mut().zip(places) {
        if places.require_sources {
            let sources = service.mounts.iter().filter_map(|mount| match &mount.source {
                MountSource::Bind(bind) => Some(bind.source.clone()),
                MountSource::Volume(_) | MountSource::Image(_) => None,
            });
            service.required_mounts = sources.collect::<BTreeSet<_>>().into_iter().collect();
        }
    }
    named
}

/// Holds who uses a volume that cannot be made. All that the file names are returned: also those that no service uses now.
fn faults(
    services: &mut [Service],
    places: &[Places],
    definitions: &Definitions,
    reader: &mut Reader<'_, '_>,
) -> Volumes {
    let users =
        |key: &str| places.iter().any(|places| places.volumes.binary_search_by(|k| k.as_str().cmp(key)).is_ok());
    for (service, places) in services.iter_mut().zip(places) {
        let found = places.volumes.iter().filter_map(|key| definitions.find(key));
        service.holds.extend(found.flat_map(|definition| &definition.faults).take(MAX_HOLDS).cloned());
    }
    let mut named = Volumes::new();
    for (key, definition) in definitions.iter() {
        named.insert(definition.volume.name.clone(), definition.volume.clone());
        for hold in definition.faults.iter().filter(|_| !users(key)) {
            // No service is there to be held.
            let mut problem = hold.problem.clone();
            problem.severity = Severity::Warning;
            problem.message = format!("the volume is not made: {}", problem.message);
            reader.report.add(problem);
        }
    }
    named
}

/// Gives each service what it takes from others, first to those whose mounts others take.
fn take_over(services: &mut [Service], places: &[Places], reader: &mut Reader<'_, '_>) {
    let index: BTreeMap<ServiceName, usize> =
        services.iter().enumerate().map(|(at, service)| (service.name.clone(), at)).collect();
    let steps: Vec<Vec<(usize, &From)>> =
        services.iter_mut().zip(places).map(|(service, places)| known(service, places, &index, reader)).collect();
    let mut open: Vec<bool> = steps.iter().map(|steps| !steps.is_empty()).collect();
    loop {
        let ready = |at: &usize| {
            open.get(*at) == Some(&true) && steps[*at].iter().all(|(from, _)| open.get(*from) != Some(&true))
        };
        let Some(at) = (0..services.len()).find(ready) else { break };
        for (from, entry) in &steps[at] {
            let mounts = services[*from].mounts.clone();
            add(&mut services[at], mounts, entry, reader);
        }
        services[at].hash = hash::of(&services[at]);
        open[at] = false;
    }
    if let Some(first) = open.iter().position(|open| *open) {
        circle(first, &open, &steps, services, reader);
    }
}

/// The entries that name a service of the project; the others are told.
fn known<'p>(
    service: &mut Service,
    places: &'p Places,
    index: &BTreeMap<ServiceName, usize>,
    reader: &mut Reader<'_, '_>,
) -> Vec<(usize, &'p From)> {
    let mut steps = Vec::new();
    let key = full(service);
    for entry in &places.from {
        if let Some(at) = index.get(&entry.name) {
            steps.push((*at, entry));
        } else if reader.has_service(entry.name.as_str()) {
            let message = format!(
                "the service {:?} is not part of the project, and its mounts are asked for",
                entry.name.as_str()
            );
            let hint = "choose one of its `profiles`, or remove the entry";
            service.holds.push(effects::hold(reader.report, entry.at, &key, &message, hint));
        } else {
            let message =
                format!("there is no service {:?} in the file, whose mounts are asked for", entry.name.as_str());
            reader.report.error(entry.at, &key, message).hint("write SERVICE, SERVICE:ro or SERVICE:rw");
        }
    }
    steps
}

fn full(service: &Service) -> String {
    format!("{}.{FROM}", path("services", service.name.as_str()))
}

/// Adds what finds its place free.
fn add(service: &mut Service, mounts: Vec<Mount>, entry: &From, reader: &mut Reader<'_, '_>) {
    let mut taken: BTreeSet<String> = service.mounts.iter().map(|mount| mount.target.clone()).collect();
    taken.extend(service.isolation.tmpfs.iter().map(|folder| folder.target.clone()));
    for mut mount in mounts {
        if taken.contains(&mount.target) {
            continue;
        }
        mount.read_only |= entry.read_only;
        if let Err((message, hint)) = mounts::spend(&mount, reader) {
            reader.report.error(entry.at, &full(service), message).hint(hint);
            return;
        }
        for what in wide::said(&mount, reader.report.source.path) {
            let location = reader.report.source.location(entry.at);
            service.loosenings.push(Loosening { what, key: full(service), location });
        }
        service.mounts.push(mount);
    }
    service.mounts.sort_by(|a, b| a.target.cmp(&b.target));
    service.loosenings.sort_by(|a, b| a.location.cmp(&b.location));
}

/// Tells of one circle. Who is open waits for somebody who is, so that the way ends in one.
fn circle(
    first: usize,
    open: &[bool],
    steps: &[Vec<(usize, &From)>],
    services: &[Service],
    reader: &mut Reader<'_, '_>,
) {
    let mut passed: Vec<usize> = Vec::new();
    let mut at = first;
    while !passed.contains(&at) {
        passed.push(at);
        match steps[at].iter().find(|(from, _)| open[*from]) {
            Some((from, _)) => at = *from,
            None => return,
        }
    }
    let names = passed.iter().skip_while(|other| **other != at).chain([&at]);
    let names: Vec<&str> = names.map(|at| services[*at].name.as_str()).collect();
    let message = format!("mounts are taken in a circle: {}", names.join(" -> "));
    let place = steps[at].iter().find(|(from, _)| open[*from]).map(|(_, entry)| entry.at).unwrap_or_default();
    reader.report.error(place, &full(&services[at]), message).hint("remove one of them");
}
