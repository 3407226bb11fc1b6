//! Which container or service a name means.

use super::error::ApiError;
use crate::model::{ProjectName, ServiceName, TASK_NUMBER};
use crate::reconcile::view::{ContainerStateView, ContainerView, NetworkView, ServiceView, View};

/// The one container with this name, id, or unique beginning of an id.
pub(super) fn container<'v>(view: &'v View, name: &str) -> Result<&'v ContainerView, ApiError> {
    exact(view, name).map_or_else(|| by_id(view, name), Ok)
}

fn exact<'v>(view: &'v View, name: &str) -> Option<&'v ContainerView> {
    containers(view).find(|c| c.name.as_str() == name || c.id.as_str() == name)
}

fn by_id<'v>(view: &'v View, name: &str) -> Result<&'v ContainerView, ApiError> {
    let found: Vec<_> = containers(view).filter(|c| is_prefix(name) && c.id.as_str().starts_with(name)).collect();
    match found.as_slice() {
        [] => Err(ApiError::NoContainer { name: shorten(name) }),
        [one] => Ok(one),
        many => Err(ambiguous(name, many.iter().map(|c| format!("{} ({})", c.name, c.id.short())))),
    }
}

/// The one network with this name, id, or unique beginning of an id. While a network is defined anew there may be two of one name.
pub(super) fn network<'v>(view: &'v View, name: &str) -> Result<&'v NetworkView, ApiError> {
    let called = |n: &&NetworkView| n.network.name.as_str() == name || n.id.as_str() == name;
    let mut found: Vec<_> = view.networks.iter().filter(called).collect();
    if found.is_empty() {
        found = view.networks.iter().filter(|n| is_prefix(name) && n.id.as_str().starts_with(name)).collect();
    }
    match found.as_slice() {
        [] => Err(ApiError::NoNetwork { name: shorten(name) }),
        [one] => Ok(one),
        many => Err(ambiguous(name, many.iter().map(|n| format!("{} ({})", n.network.name, n.id.short())))),
    }
}

/// The containers that a name means: one by name or id, or all of `project/service`, or of the only service of that name. The
/// beginning of an id comes last: a service may be called `db` while a container's id begins so.
pub(super) fn outputs<'v>(view: &'v View, name: &str) -> Result<Vec<&'v ContainerView>, ApiError> {
    if let Some(one) = exact(view, name) {
        return Ok(vec![one]);
    }
    let found: Vec<_> = services(view).filter(|(project, s)| names(name, project, s)).collect();
    match found.as_slice() {
        [] => Ok(vec![by_id(view, name)?]),
        // A one-off is had by its own name only.
        [(_, service)] => Ok(service.containers.iter().filter(|c| c.number != TASK_NUMBER).collect()),
        many => Err(ambiguous(name, many.iter().map(|(project, s)| format!("{project}/{}", s.name)))),
    }
}

/// Project, service and, where a container is meant and not a service, the number of its replica.
pub(super) fn place(view: &View, name: &str) -> Result<(String, String, Option<u32>), ApiError> {
    let of = |c: &ContainerView| (c.project.to_string(), c.service.to_string(), Some(c.number));
    if let Some(one) = exact(view, name) {
        return Ok(of(one));
    }
    let found: Vec<_> = services(view).filter(|(project, s)| names(name, project, s)).collect();
    match found.as_slice() {
        [] => by_id(view, name).map(of),
        [(project, service)] => Ok(((*project).to_owned(), service.name.to_string(), None)),
        many => Err(ambiguous(name, many.iter().map(|(project, s)| format!("{project}/{}", s.name)))),
    }
}

/// The container that `name` means; of a service the replica with this number, else the first one that runs.
pub(super) fn replica<'v>(view: &'v View, name: &str, index: Option<u32>) -> Result<&'v ContainerView, ApiError> {
    let found = outputs(view, name)?;
    let missing = || ApiError::NoReplica { name: shorten(name), index };
    let runs = |c: &&ContainerView| matches!(c.state, ContainerStateView::Running { .. });
    let one = match index {
        Some(index) => found.into_iter().find(|c| c.number == index),
        // Those that run come first.
        None => found.into_iter().min_by_key(|c| (!runs(c), c.number)),
    };
    one.ok_or_else(missing)
}

/// The one service that a name means, as `service` or `project/service`.
pub(super) fn service(view: &View, name: &str) -> Result<(ProjectName, ServiceName), ApiError> {
    let all = view.projects.iter().flat_map(|p| p.services.iter().map(move |s| (p, s)));
    let found: Vec<_> = all.filter(|(p, s)| names(name, p.name.as_str(), s)).collect();
    match found.as_slice() {
        [] => Err(ApiError::NoContainer { name: shorten(name) }),
        [(project, service)] => Ok((project.name.clone(), service.name.clone())),
        many => Err(ambiguous(name, many.iter().map(|(p, s)| format!("{}/{}", p.name, s.name)))),
    }
}

/// All containers, by project, service and number.
pub(super) fn containers(view: &View) -> impl Iterator<Item = &ContainerView> {
    services(view).flat_map(|(_, service)| &service.containers)
}

fn services(view: &View) -> impl Iterator<Item = (&str, &ServiceView)> {
    view.projects.iter().flat_map(|p| p.services.iter().map(|s| (p.name.as_str(), s)))
}

fn names(name: &str, project: &str, service: &ServiceView) -> bool {
    match name.split_once('/') {
        Some((p, s)) => p == project && s == service.name.as_str(),
        None => name == service.name.as_str(),
    }
}

fn is_prefix(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn ambiguous(name: &str, candidates: impl Iterator<Item = String>) -> ApiError {
    // A list for people: more than a handful would not help.
    ApiError::Ambiguous { name: shorten(name), candidates: candidates.take(8).collect() }
}

fn shorten(name: &str) -> String {
    name.chars().take(256).collect()
}
