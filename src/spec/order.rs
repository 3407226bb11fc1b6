//! What a service comes after: `depends_on`, the same of `x-longshore` across projects, and what `links`, `volumes_from` and
//! `network_mode: service:…` imply. Read when all services are.

use std::collections::{BTreeMap, BTreeSet};

use super::check::path;
use super::nearest::nearest;
use super::node::{Key, Node};
use super::profiles;
use super::report::Report;
use super::source_text::Span;
use crate::model::{Condition, Dependency, ProjectName, Service, ServiceName};

const DEPENDS_ON: &str = "depends_on";
const ACROSS: &str = "x-longshore.depends_on";

/// One thing that a service comes after, with where that is written.
struct Edge {
    of: Dependency,
    at: Span,
    /// The key, below the service.
    key: &'static str,
}

/// What is known of the file's services.
pub(super) struct Known<'n> {
    /// All of them, also those that are not part of the project.
    pub(super) given: &'n [(Key, Node)],
    /// The file.
    pub(super) root: &'n Node,
    pub(super) project: &'n ProjectName,
    /// Those that are not part of the project, with their profiles.
    pub(super) unchosen: &'n BTreeMap<ServiceName, Vec<String>>,
    /// Whether further ones may be written elsewhere.
    pub(super) included: bool,
}

/// Tells each service what it comes after.
pub(super) fn finish(services: &mut [Service], known: &Known<'_>, report: &mut Report<'_>) {
    let part: BTreeSet<String> = services.iter().map(|service| service.name.to_string()).collect();
    let mut edges: BTreeMap<ServiceName, Vec<Edge>> = BTreeMap::new();
    for (name, body) in known.given {
        let found = Reading { known, part: &part, name: &name.text, report }.edges(body);
        if let Ok(name) = ServiceName::parse(&name.text)
            && part.contains(name.as_str())
        {
            edges.insert(name, found);
        }
    }
    circles(&mut edges, known, report);
    for service in services {
        let mut depends: BTreeMap<(ProjectName, ServiceName), Dependency> = BTreeMap::new();
        for Edge { of, .. } in edges.remove(&service.name).into_iter().flatten() {
            // What is said with a condition wins over what is only implied, and comes first.
            depends.entry((of.project.clone(), of.service.clone())).or_insert(of);
        }
        service.depends = depends.into_values().collect();
    }
}

/// One service while what it comes after is read.
struct Reading<'r, 'a, 'n> {
    known: &'r Known<'n>,
    part: &'r BTreeSet<String>,
    name: &'r str,
    report: &'r mut Report<'a>,
}

impl Reading<'_, '_, '_> {
    fn edges(mut self, body: &Node) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (text, at, long) in entries(body.given(DEPENDS_ON)) {
            edges.extend(self.own(text, at, long));
        }
        let across = |node: &Node| node.given("x-longshore").and_then(|own| own.given(DEPENDS_ON)).cloned();
        for node in across(body).iter().chain(across(self.known.root).iter()) {
            for (text, at, long) in entries(Some(node)) {
                edges.extend(self.across(text, at, long));
            }
        }
        edges.extend(self.implied(body));
        edges
    }

    /// A service of the same file.
    fn own(&mut self, text: &str, at: Span, long: Option<&Node>) -> Option<Edge> {
        let dependency = self.dependency(self.known.project.clone(), ServiceName::parse(text).ok(), long);
        if let Some(profiles) = dependency.service.as_ref().and_then(|name| self.known.unchosen.get(name)) {
            self.unchosen(text, profiles, at, dependency.required);
            return Some(Edge { of: dependency.named()?, at, key: DEPENDS_ON });
        }
        if !self.part.contains(text) {
            self.missing(text, at, dependency.required);
            return None;
        }
        if dependency.condition == Condition::Healthy && self.never_healthy(text) {
            let message =
                format!("the service {text:?} has its health check switched off, so that it is never healthy");
            self.tell(at, DEPENDS_ON, true, message, "give it a `healthcheck`, or wait for `service_started`");
        }
        Some(Edge { of: dependency.named()?, at, key: DEPENDS_ON })
    }

    /// A service of another project, or of the same one.
    fn across(&mut self, text: &str, at: Span, long: Option<&Node>) -> Option<Edge> {
        let hint = "write PROJECT/SERVICE";
        let Some((project, service)) = text.split_once('/') else {
            let message = format!("{text:?} names no project; services of the same file belong into `depends_on`");
            self.tell(at, ACROSS, true, message, hint);
            return None;
        };
        if project == self.known.project.as_str() {
            let edge = self.own(service, at, long)?;
            return Some(Edge { key: ACROSS, ..edge });
        }
        match (ProjectName::parse(project), ServiceName::parse(service)) {
            (Ok(project), Ok(service)) => {
                let of = self.dependency(project, Some(service), long).named()?;
                Some(Edge { of, at, key: ACROSS })
            }
            (Err(error), _) | (_, Err(error)) => {
                self.tell(at, ACROSS, true, error.to_string(), hint);
                None
            }
        }
    }

    /// What other keys imply. What is wrong with those is told where they are read.
    fn implied(&self, body: &Node) -> Vec<Edge> {
        let mut edges = Vec::new();
        let mut add = |name: &str, at: Span, key: &'static str| {
            let Some(service) = ServiceName::parse(name).ok().filter(|_| self.part.contains(name)) else { return };
            let project = self.known.project.clone();
            let of = Dependency { project, service, condition: Condition::Started, restart: false, required: true };
            edges.push(Edge { of, at, key });
        };
        for item in body.given("links").map(Node::items).unwrap_or_default() {
            let text = item.text().unwrap_or_default();
            add(text.split(':').next().unwrap_or_default(), item.at, "links");
        }
        for item in body.given("volumes_from").map(Node::items).unwrap_or_default() {
            let text = item.text().unwrap_or_default();
            if !text.starts_with("container:") {
                add(text.split(':').next().unwrap_or_default(), item.at, "volumes_from");
            }
        }
        if let Some(node) = body.given("network_mode")
            && let Some(name) = node.text().and_then(|text| text.strip_prefix("service:"))
        {
            add(name, node.at, "network_mode");
        }
        edges
    }

    fn dependency(&self, project: ProjectName, service: Option<ServiceName>, long: Option<&Node>) -> Asked {
        let given = |name: &str| long.and_then(|long| long.given(name));
        Asked {
            project,
            service,
            condition: given("condition").and_then(Node::text).and_then(Condition::parse).unwrap_or(Condition::Started),
            restart: given("restart").and_then(Node::truth).unwrap_or(false),
            required: given("required").and_then(Node::truth).unwrap_or(true),
        }
    }

    /// None of its profiles is chosen: who requires it waits until one is.
    fn unchosen(&mut self, name: &str, profiles: &[String], at: Span, required: bool) {
        if !required {
            return;
        }
        let message = format!(
            "the service {:?} has to come first, and it is not chosen: it asks for the profile {}",
            name,
            profiles::listed(profiles)
        );
        let hint = "choose it (`x-longshore: {profiles: [..]}`, or `profiles` of the configuration), or write `required: false` here";
        self.tell(at, DEPENDS_ON, false, message, hint);
    }

    /// There is no such service.
    fn missing(&mut self, name: &str, at: Span, required: bool) {
        // One whose name is no name was told.
        if self.known.included || self.known.given.iter().any(|(key, _)| key.text == name) {
            return;
        }
        let names = self.known.given.iter().map(|(key, _)| key.text.as_str()).filter(|other| *other != self.name);
        let meant = nearest(name, names).map(|near| format!("did you mean `{near}`?"));
        let (message, hint) = (format!("there is no service {name:?} in the file"), meant.unwrap_or_default());
        if required {
            self.tell(at, DEPENDS_ON, true, message, &hint);
        } else {
            self.tell(at, DEPENDS_ON, false, format!("{message}; it is not waited for"), &hint);
        }
    }

    /// Whether the file says that nothing is checked. An image may have a check of its own.
    fn never_healthy(&self, name: &str) -> bool {
        let body = self.known.given.iter().find(|(key, _)| key.text == name).map(|(_, body)| body);
        let probed = body.and_then(|body| body.given("x-longshore")).and_then(|own| own.given("probe")).is_some();
        let Some(check) = body.and_then(|body| body.given("healthcheck")) else { return false };
        let disabled = check.given("disable").and_then(Node::truth).unwrap_or(false);
        let none =
            |node: &Node| node.text() == Some("NONE") || node.items().first().and_then(Node::text) == Some("NONE");
        !probed && (disabled || check.given("test").is_some_and(none))
    }

    fn tell(&mut self, at: Span, key: &str, error: bool, message: String, hint: &str) {
        let key = format!("{}.{key}", path("services", self.name));
        let noted = if error { self.report.error(at, &key, message) } else { self.report.warning(at, &key, message) };
        if !hint.is_empty() {
            noted.hint(hint);
        }
    }
}

/// A dependency whose name may be wrong.
struct Asked {
    project: ProjectName,
    service: Option<ServiceName>,
    condition: Condition,
    restart: bool,
    required: bool,
}

impl Asked {
    fn named(self) -> Option<Dependency> {
        let Self { project, service, condition, restart, required } = self;
        Some(Dependency { project, service: service?, condition, restart, required })
    }
}

/// Both forms: names, or names with how far each has to be.
fn entries(node: Option<&Node>) -> Vec<(&str, Span, Option<&Node>)> {
    let Some(node) = node else { return Vec::new() };
    let listed = node.items().iter().filter_map(|item| Some((item.text()?, item.at, None)));
    let mapped = node.entries().iter().map(|(key, value)| (key.text.as_str(), key.at, Some(value)));
    listed.chain(mapped).collect()
}

/// Tells each circle once, and opens it. A link is only a name here: it gives way to what is said. Those of shared networks and mounts
/// alone hold their services already.
fn circles(edges: &mut BTreeMap<ServiceName, Vec<Edge>>, known: &Known<'_>, report: &mut Report<'_>) {
    let order: Vec<&str> = known.given.iter().map(|(key, _)| key.text.as_str()).collect();
    while let Some(circle) = circle(edges, known.project, &order) {
        let key = |(from, at): &(ServiceName, usize)| Some(edges.get(from)?.get(*at)?.key);
        let linked = circle.iter().find(|step| key(step) == Some("links"));
        let said = circle.iter().find(|step| key(step).is_some_and(|key| matches!(key, DEPENDS_ON | ACROSS)));
        if linked.is_none()
            && let Some(step) = said
        {
            tell(&circle, step, edges, report);
        }
        let Some((from, at)) = linked.or(said).or(circle.first()).cloned() else { return };
        if let Some(all) = edges.get_mut(&from) {
            all.remove(at);
        }
        if report.full() {
            return;
        }
    }
}

fn tell(
    circle: &[(ServiceName, usize)],
    (from, at): &(ServiceName, usize),
    edges: &BTreeMap<ServiceName, Vec<Edge>>,
    report: &mut Report<'_>,
) {
    let Some(edge) = edges.get(from).and_then(|all| all.get(*at)) else { return };
    let names = circle.iter().map(|(name, _)| name.as_str());
    let round: Vec<&str> = names.cycle().skip_while(|name| *name != from.as_str()).take(circle.len() + 1).collect();
    let key = format!("{}.{}", path("services", from.as_str()), edge.key);
    let message = format!("services come after each other in a circle: {}", round.join(" -> "));
    report.error(edge.at, &key, message).hint("none of them could be started; remove one of these");
}

/// The services of one circle, each with which of its edges leads on.
fn circle(
    edges: &BTreeMap<ServiceName, Vec<Edge>>,
    own: &ProjectName,
    order: &[&str],
) -> Option<Vec<(ServiceName, usize)>> {
    let by_name: BTreeMap<&str, &Vec<Edge>> = edges.iter().map(|(name, edges)| (name.as_str(), edges)).collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for first in order {
        // The way from the first one to where we are; each with its edge that is followed.
        let mut way: Vec<(&str, usize)> = vec![(first, 0)];
        while let Some((name, at)) = way.last().copied() {
            match by_name.get(name).and_then(|all| all.get(at)) {
                Some(Edge { of, .. }) if of.project == *own && !done.contains(of.service.as_str()) => {
                    if let Some(from) = way.iter().position(|(passed, _)| *passed == of.service.as_str()) {
                        let named = |(name, at): (&str, usize)| Some((ServiceName::parse(name).ok()?, at));
                        return way.split_off(from).into_iter().map(named).collect();
                    }
                    way.push((of.service.as_str(), 0));
                    continue;
                }
                Some(_) => {}
                None => {
                    done.insert(name);
                    way.pop();
                }
            }
            if let Some(last) = way.last_mut() {
                last.1 += 1;
            }
        }
    }
    None
}
