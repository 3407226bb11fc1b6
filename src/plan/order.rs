//! The rules for order: a container is started when what it comes after is as far as it asks for, and stopped, where both go, before
//! what it comes after. There is one graph for all of that, over all projects: as the files say, and for services that are in no
//! file any more as their containers were made.
//!
//! What runs is never stopped because something that it comes after is not as it should be. Nobody waits for ever for a stop that
//! failed, nor in a circle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::networks::{Standing, standing};
use super::slot::{stays_ended, surplus};
use super::{Blocked, Desired, Facts, Planner, Stopped, WaitingOn, hand, joins, may_run};
use crate::model::{
    Action, Condition, ContainerId, ContainerSpec, ContainerState, Dependency, ExitStatus, Health, Key, Location,
    ObservedContainer, Problem, ProcessId, ProjectName, Service, ServiceName, Severity, Slot,
};

/// A service by its project and name.
type Of<'a> = (&'a ProjectName, &'a ServiceName);

/// What is missing of a dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// No state file defines it.
    Unknown,
    /// None of its profiles is chosen.
    NotChosen,
    /// It is held.
    Held,
    /// Its owner wants that nothing of it runs.
    Stopped(Stopped),
    /// Its owner has it held still.
    Paused,
    /// Not all its containers run.
    Start,
    /// One of its containers could not be started; it is tried again.
    StartFailed,
    /// Its health check says so.
    Health(Health),
    /// It runs, and nothing checks its health.
    Check,
    /// It has not ended yet.
    End,
    /// It runs at set times, and has not run yet.
    Time,
    /// It ended otherwise than with 0, and stays so.
    Success(ExitStatus),
}

impl Lacking {
    /// Whether it is not to be expected soon: who does not require it goes on.
    const fn is_hopeless(self) -> bool {
        match self {
            Self::Unknown
            | Self::NotChosen
            | Self::Held
            | Self::Stopped(_)
            | Self::Paused
            | Self::StartFailed
            | Self::Health(Health::Unhealthy)
            | Self::Check
            | Self::Time
            | Self::Success(_) => true,
            Self::Start | Self::Health(Health::Starting | Health::Healthy) | Self::End => false,
        }
    }
}

/// A run of a dependency that is ended to be followed by another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The dependency's container.
    pub container: ContainerId,
    /// The run.
    pub process: ProcessId,
    /// What is said of it.
    pub reason: String,
}

/// Who comes after whom.
#[derive(Default)]
pub(super) struct Order<'a> {
    depends: BTreeMap<Of<'a>, Vec<&'a Dependency>>,
    dependents: BTreeMap<Of<'a>, Vec<Of<'a>>>,
    containers: BTreeMap<Of<'a>, Vec<&'a ObservedContainer>>,
    /// What comes first has the lower number.
    rank: BTreeMap<Of<'a>, usize>,
    /// Services that come, over others, after themselves, each with the way there.
    circles: BTreeMap<Of<'a>, Vec<Of<'a>>>,
}

impl<'a> Order<'a> {
    pub(super) fn of(facts: &Facts<'a>) -> Self {
        let mut order = Self::of_files(facts.desired);
        // Nobody comes after a one-off.
        for container in facts.observed.containers.values().filter(|c| c.spec.purpose.task().is_none()) {
            let spec = &container.spec;
            let of = (&spec.slot.project, &spec.slot.service);
            order.containers.entry(of).or_default().push(container);
            let in_file = facts.desired.projects.get(of.0).is_some_and(|project| project.services.contains_key(of.1));
            if !in_file {
                order.depends.entry(of).or_default().extend(&spec.service.depends);
            }
        }
        order.finish();
        if !order.circles.is_empty() {
            // What is in no file any more holds nobody.
            let mut files = Self::of_files(facts.desired);
            files.finish();
            order.circles = files.circles;
        }
        order
    }

    fn of_files(desired: &'a Desired) -> Self {
        let all = desired.projects.values().flat_map(|p| p.services.values().map(|service| (&p.name, service)));
        let depends = all.map(|(project, service)| ((project, &service.name), service.depends.iter().collect()));
        Self { depends: depends.collect(), ..Self::default() }
    }

    fn of_made(specs: impl Iterator<Item = &'a ContainerSpec>) -> Self {
        let mut order = Self::default();
        for spec in specs {
            order.depends.entry((&spec.slot.project, &spec.slot.service)).or_default().extend(&spec.service.depends);
        }
        order.finish();
        order
    }

    /// Numbers the services, and opens the circles: in one, nobody comes after anybody.
    fn finish(&mut self) {
        let all: Vec<Of<'a>> = self.depends.keys().copied().collect();
        let mut round = false;
        for first in &all {
            round |= self.walk(*first);
        }
        if round {
            self.circles = all.iter().filter_map(|of| Some((*of, self.way(*of, *of)?))).collect();
            let circular: BTreeSet<Of<'a>> = self.circles.keys().copied().collect();
            let closed = |of: &Of<'a>, d: &Dependency| {
                let next = (&d.project, &d.service);
                circular.contains(of) && circular.contains(&next) && self.way(next, *of).is_some()
            };
            let open = |(of, all): (&Of<'a>, &Vec<&'a Dependency>)| {
                (*of, all.iter().copied().filter(|d| !closed(of, d)).collect())
            };
            self.depends = self.depends.iter().map(open).collect();
        }
        for (of, depends) in &self.depends {
            for dependency in depends {
                self.dependents.entry((&dependency.project, &dependency.service)).or_default().push(*of);
            }
        }
    }

    /// Numbers a service after all that it comes after. Whether it came round to where it had been.
    fn walk(&mut self, first: Of<'a>) -> bool {
        let mut round = false;
        let mut way: Vec<(Of<'a>, usize)> = vec![(first, 0)];
        let mut passed = BTreeSet::from([first]);
        while let Some((of, at)) = way.pop() {
            let next = self.depends.get(&of).and_then(|all| all.get(at)).map(|d| (&d.project, &d.service));
            let Some(next) = next.filter(|_| !self.rank.contains_key(&of)) else {
                let number = self.rank.len();
                self.rank.entry(of).or_insert(number);
                continue;
            };
            way.push((of, at + 1));
            if self.rank.contains_key(&next) {
                continue;
            }
            if passed.insert(next) {
                way.push((next, 0));
            } else {
                round = true;
            }
        }
        round
    }

    /// The shortest way from one to another, at least one step.
    fn way(&self, from: Of<'a>, to: Of<'a>) -> Option<Vec<Of<'a>>> {
        let mut came: BTreeMap<Of<'a>, Of<'a>> = BTreeMap::new();
        let mut open = VecDeque::from([from]);
        while let Some(of) = open.pop_front() {
            for next in self.depends.get(&of).into_iter().flatten().map(|d| (&d.project, &d.service)) {
                if came.contains_key(&next) {
                    continue;
                }
                came.insert(next, of);
                if next == to {
                    let mut way = vec![of];
                    while let Some(of) = way.last().filter(|of| **of != from).and_then(|of| came.get(of)) {
                        way.push(*of);
                    }
                    way.reverse();
                    return Some(way);
                }
                open.push_back(next);
            }
        }
        None
    }

    /// What comes first is planned first.
    pub(super) fn rank(&self, slot: &Slot) -> usize {
        self.rank.get(&(&slot.project, &slot.service)).copied().unwrap_or_default()
    }

    /// Whether it comes, over others, after itself.
    pub(super) fn circular(&self, project: &ProjectName, service: &ServiceName) -> bool {
        !self.circles.is_empty() && self.circles.contains_key(&(project, service))
    }

    fn depends<'b>(&'b self, slot: &'b Slot) -> &'b [&'a Dependency] {
        self.depends.get(&(&slot.project, &slot.service)).map_or(&[], Vec::as_slice)
    }

    fn containers<'b>(&'b self, project: &'b ProjectName, service: &'b ServiceName) -> &'b [&'a ObservedContainer] {
        self.containers.get(&(project, service)).map_or(&[], Vec::as_slice)
    }
}

/// Services of several projects that come after each other in a circle. Inside of one file it is an error.
#[must_use]
pub fn circles(desired: &Desired) -> Vec<((ProjectName, ServiceName), Problem)> {
    let mut order = Order::of_files(desired);
    order.finish();
    let problem = |(of, way): (&Of<'_>, &Vec<Of<'_>>)| {
        let project = desired.projects.get(of.0)?;
        let round: Vec<String> =
            way.iter().chain([of]).map(|(project, service)| format!("{project}/{service}")).collect();
        let message = format!("services come after each other in a circle: {}", round.join(" -> "));
        let problem = Problem::new(Severity::Held, Location::whole(project.file.clone()), message)
            .with_key(format!("services.{}.x-longshore.depends_on", of.1))
            .with_hint("none of them could be started; remove one of these");
        Some(((of.0.clone(), of.1.clone()), problem))
    };
    order.circles.iter().filter_map(problem).collect()
}

/// What a container of this slot waits for before it is started.
pub(super) fn unmet(planner: &Planner<'_>, slot: &Slot) -> Option<WaitingOn> {
    planner.order.depends(slot).iter().find_map(|dependency| {
        let why = lacking(planner, dependency).into_iter().find(|why| dependency.required || !why.is_hopeless())?;
        Some(WaitingOn::Dependency { of: (*dependency).clone(), why })
    })
}

/// What is missing, of all its containers.
fn lacking(planner: &Planner<'_>, dependency: &Dependency) -> Vec<Lacking> {
    let facts = planner.facts;
    let here = planner.order.containers(&dependency.project, &dependency.service);
    let project = facts.desired.projects.get(&dependency.project);
    let service = project.and_then(|project| project.services.get(&dependency.service));
    let stopped = project.zip(service).and_then(|(project, service)| hand::stopped(facts, project, service));
    let (numbers, held): (BTreeSet<u32>, bool) = match (project, service) {
        (Some(project), Some(service)) => {
            let standing = standing(facts, (planner.networks.defined(), &planner.order), project, service);
            ((1..=service.replicas).collect(), !matches!(standing, Standing::InForce))
        }
        (Some(project), None) if project.unchosen.contains_key(&dependency.service) => return vec![Lacking::NotChosen],
        // Nobody knows what its file says: what is here of it counts.
        (None, _) if facts.desired.kept.contains(&dependency.project) && !here.is_empty() => {
            (here.iter().map(|c| c.spec.slot.number).collect(), true)
        }
        _ => return vec![Lacking::Unknown],
    };
    let lacking = numbers.iter().filter_map(|number| {
        let slot: Vec<_> = here.iter().copied().filter(|c| c.spec.slot.number == *number).collect();
        let why = lacking_in(planner, dependency.condition, service.filter(|_| !held), &slot);
        let paused = slot.iter().any(|c| runs(c) && hand::is_paused(planner, &c.spec.slot));
        match (stopped, why) {
            // What has done its work has done it.
            (Some(_), None) if dependency.condition == Condition::Completed => None,
            (Some(by), _) => Some(Lacking::Stopped(by)),
            (None, _) if paused => Some(Lacking::Paused),
            (None, Some(Lacking::Start)) if held => Some(Lacking::Held),
            (None, why) => why,
        }
    });
    lacking.collect()
}

/// What is missing in one slot of a dependency. `service`: what its file says, where that is in force.
fn lacking_in(
    planner: &Planner<'_>,
    condition: Condition,
    service: Option<&Service>,
    here: &[&ObservedContainer],
) -> Option<Lacking> {
    let scheduled = service.is_some_and(|service| service.schedule.is_some());
    if scheduled && condition == Condition::Started {
        // It is as far as it can be until it is time.
        return None;
    }
    let running = here.iter().find(|c| runs(c) && !joins::ending(planner, c));
    let mut ended = here.iter().filter_map(|container| ended(planner, service, container));
    let failed = here.iter().any(|c| matches!(c.state, ContainerState::StartFailed { .. }));
    let not_yet = if failed { Lacking::StartFailed } else { Lacking::Start };
    match (condition, running) {
        (Condition::Started, Some(_)) => None,
        (Condition::Started, None) => ended.all(|(_, stays)| !stays).then_some(not_yet),
        (Condition::Healthy, None) => Some(not_yet),
        (Condition::Healthy, Some(container)) => match planner.facts.observed.health.get(&container.spec.id) {
            Some(Health::Healthy) => None,
            Some(health) => Some(Lacking::Health(*health)),
            // Its file gives it a check, which it is to be given while it runs, or its successor has.
            None if service.is_some_and(|service| service.health.is_given()) => Some(Lacking::Health(Health::Starting)),
            None => Some(Lacking::Check),
        },
        (Condition::Completed, Some(_)) => Some(Lacking::End),
        (Condition::Completed, None) => match ended.next() {
            Some((status, _)) if status.success() => None,
            Some((status, true)) => Some(Lacking::Success(status)),
            Some((_, false)) => Some(Lacking::End),
            None if scheduled => Some(Lacking::Time),
            None => Some(not_yet),
        },
    }
}

/// How the container that the file asks for ended, and whether it stays so.
fn ended(
    planner: &Planner<'_>,
    service: Option<&Service>,
    container: &ObservedContainer,
) -> Option<(ExitStatus, bool)> {
    let spec = &container.spec;
    let ContainerState::Exited { status, .. } = container.state else { return None };
    let key = Key::Container(spec.id.clone());
    let mut all = planner.facts.under_way.values().chain(planner.plan.steps.iter().map(|step| &step.action));
    let starting = all.any(|action| matches!(action, Action::Start { .. }) && action.key() == key);
    let again = starting || hand::again(planner, container).is_some();
    let other = |service: &Service| service.hash != spec.service.hash && service.schedule.is_none();
    if again || service.is_some_and(other) {
        return None;
    }
    let restarts = planner.facts.memory.restarts.get(&spec.id).copied().unwrap_or_default();
    let policy = service.map_or(spec.service.restart, |service| service.restart);
    Some((status, stays_ended(policy, status, restarts.total).is_some()))
}

fn runs(container: &ObservedContainer) -> bool {
    matches!(container.state, ContainerState::Running { .. })
}

/// What a container that runs, and is to be replaced or started anew, waits for: it runs on until its successor could be started.
/// Not one that is in the way of others, on a network that goes or at a port: they might wait for it in turn.
pub(super) fn holds_the_change(planner: &Planner<'_>, container: &ObservedContainer) -> Option<Blocked> {
    if !runs(container) || joins::ending(planner, container) || in_the_way(planner, container) {
        return None;
    }
    unmet(planner, &container.spec.slot).map(|on| Box::new((on, None)))
}

fn in_the_way(planner: &Planner<'_>, container: &ObservedContainer) -> bool {
    if planner.networks.leaves(planner.facts, container) || joins::moved(planner, container).is_some() {
        return true;
    }
    let slot = &container.spec.slot;
    let own = container.spec.service.network.membership().map_or(&[][..], |membership| &membership.ports);
    let projects = planner.facts.desired.projects.values();
    let all = projects.flat_map(|p| p.services.values().map(move |service| (&p.name, service)));
    let others = all.filter(|(project, service)| (*project, &service.name) != (&slot.project, &slot.service));
    let asked = others.filter_map(|(_, service)| service.network.membership()).flat_map(|m| &m.ports);
    let host = |port: &crate::model::Port| port.host.map(|range| (range, port.protocol));
    let mut pairs = asked.filter_map(host).flat_map(|other| own.iter().filter_map(host).map(move |own| (own, other)));
    !own.is_empty() && pairs.any(|((own, p), (other, q))| p == q && own.0 <= other.1 && other.0 <= own.1)
}

/// Who has to end before a container of this slot is stopped: one that goes too, and comes after it.
pub(super) fn holds_the_stop(planner: &Planner<'_>, slot: &Slot) -> Option<WaitingOn> {
    let dependents = planner.order.dependents.get(&(&slot.project, &slot.service))?;
    let mut here = dependents.iter().flat_map(|of| planner.order.containers(of.0, of.1));
    let first = here.find(|c| {
        let stop = planner.facts.memory.failures.get(&Key::Container(c.spec.id.clone()));
        let stuck = stop.is_some_and(|failure| failure.verb == "stop");
        may_run(c, planner.facts.under_way) && !stuck && surplus(planner, &c.spec.slot)
    })?;
    Some(WaitingOn::Dependents { id: first.spec.id.clone(), name: first.spec.name.clone() })
}

/// Why a container that runs is started anew: what it comes after, with `restart: true`, was replaced or started anew by us.
pub(super) fn follows(planner: &Planner<'_>, container: &ObservedContainer) -> Option<String> {
    let followed = planner.facts.memory.following.get(&container.spec.id).filter(|_| runs(container))?;
    let over = followed.iter().find(|followed| !still(planner, followed))?;
    unmet(planner, &container.spec.slot).is_none().then(|| over.reason.clone())
}

fn still(planner: &Planner<'_>, followed: &Followed) -> bool {
    let container = planner.facts.observed.containers.get(&followed.container);
    container.is_some_and(|c| matches!(c.state, ContainerState::Running { init, .. } if init == followed.process))
}

/// Keeps in mind who is to follow, once all slots are planned.
pub(super) fn note(planner: &mut Planner<'_>) {
    let mut following: BTreeMap<ContainerId, Vec<Followed>> = BTreeMap::new();
    for container in planner.facts.observed.containers.values().filter(|c| c.spec.purpose.task().is_none()) {
        let id = &container.spec.id;
        let key = Key::Container(id.clone());
        let starts = |action: &&Action| matches!(action, Action::Start { .. }) && action.key() == key;
        let started = planner.plan.steps.iter().map(|step| &step.action).any(|action| starts(&action));
        if started || !(runs(container) || planner.facts.under_way.values().any(|action| starts(&action))) {
            continue;
        }
        let before = planner.facts.memory.following.get(id).into_iter().flatten();
        let mut all: Vec<Followed> = before.filter(|f| !still(planner, f)).cloned().collect();
        let depends = planner.order.depends(&container.spec.slot).iter().filter(|d| d.restart);
        all.extend(depends.flat_map(|dependency| renewed(planner, dependency)));
        if !all.is_empty() {
            following.insert(id.clone(), all);
        }
    }
    planner.plan.following = following;
}

/// Runs of a dependency that are being ended to be followed by others.
fn renewed(planner: &Planner<'_>, dependency: &Dependency) -> Vec<Followed> {
    let here = planner.order.containers(&dependency.project, &dependency.service).iter();
    let one = |container: &&ObservedContainer| {
        let ContainerState::Running { init, .. } = container.state else { return None };
        let again = joins::ending(planner, container) && !surplus(planner, &container.spec.slot);
        let reason = format!("{}/{}, which it comes after, was started anew", dependency.project, dependency.service);
        again.then(|| Followed { container: container.spec.id.clone(), process: init, reason })
    };
    here.filter_map(one).collect()
}

/// What is stopped together, those first who come after others. By what the containers were made with: no file is asked.
#[must_use]
pub fn stop_order(specs: &[ContainerSpec]) -> Vec<Vec<&ContainerSpec>> {
    let order = Order::of_made(specs.iter());
    let mut all: Vec<(usize, Of<'_>)> = order.rank.iter().map(|(of, rank)| (*rank, *of)).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    let mut levels: BTreeMap<Of<'_>, usize> = BTreeMap::new();
    for (_, of) in all {
        let dependents = order.dependents.get(&of).into_iter().flatten();
        let level = dependents.filter_map(|of| levels.get(of)).map(|level| level + 1).max().unwrap_or(0);
        levels.insert(of, level);
    }
    let mut waves: BTreeMap<usize, Vec<&ContainerSpec>> = BTreeMap::new();
    for spec in specs {
        let level = levels.get(&(&spec.slot.project, &spec.slot.service)).copied().unwrap_or(0);
        waves.entry(level).or_default().push(spec);
    }
    waves.into_values().collect()
}
