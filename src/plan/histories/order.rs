//! What is checked of the order at every step, said a second time.

use std::collections::BTreeSet;

use super::checks::right;
use super::{by_hand, held, toy_files, wanted, ward};
use crate::model::{
    Action, Condition, ContainerId, ContainerState, Dependency, ExitStatus, Health, Key, NetworkMode,
    ObservedContainer, ProjectName, RestartPolicy, Service, ServiceName, Slot,
};
use crate::plan::sim::World;
use crate::plan::{Plan, may_run};

type Name = (ProjectName, ServiceName);

/// As its file says; where it is in none, as it was made.
pub(super) fn file_or_record<'a>(world: &'a World, container: &'a ObservedContainer) -> &'a [Dependency] {
    let slot = &container.spec.slot;
    let file = world.desired.projects.get(&slot.project).and_then(|project| project.services.get(&slot.service));
    file.map_or(&container.spec.service.depends, |service| &service.depends)
}

fn after(world: &World, of: &Name, files: bool) -> BTreeSet<Name> {
    let named = |all: &[Dependency]| all.iter().map(|d| (d.project.clone(), d.service.clone())).collect::<Vec<_>>();
    if let Some(service) = world.desired.projects.get(&of.0).and_then(|project| project.services.get(&of.1)) {
        return named(&service.depends).into_iter().collect();
    }
    let made =
        world.containers.values().filter(|c| !files && (&c.spec.slot.project, &c.spec.slot.service) == (&of.0, &of.1));
    made.flat_map(|c| named(&c.spec.service.depends)).collect()
}

fn leads(world: &World, from: &Name, to: &Name, files: bool) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from.clone()];
    while let Some(name) = open.pop() {
        for next in after(world, &name, files) {
            if next == *to {
                return true;
            }
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    false
}

/// Whether a service comes, by the files, after itself.
pub(super) fn circular(world: &World, project: &ProjectName, service: &Service) -> bool {
    let of = (project.clone(), service.name.clone());
    leads(world, &of, &of, true)
}

/// Whether a dependency closes a circle: nobody waits in one.
pub(super) fn closed(world: &World, slot: &Slot, dependency: &Dependency) -> bool {
    let (from, to) =
        ((slot.project.clone(), slot.service.clone()), (dependency.project.clone(), dependency.service.clone()));
    from == to || leads(world, &to, &from, false)
}

fn acts(world: &World, plan: Option<&Plan>, of: impl Fn(&Action) -> bool) -> bool {
    world.under_way.values().any(&of) || plan.is_some_and(|plan| plan.steps.iter().any(|step| of(&step.action)))
}

fn stays(policy: RestartPolicy, status: ExitStatus, restarts: u32) -> bool {
    match policy {
        RestartPolicy::No => true,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => false,
        RestartPolicy::OnFailure { max } => status.success() || max.is_some_and(|max| restarts >= max),
    }
}

/// Whether a dependency is as far as it is asked to be; or, where that is not required, will not be.
fn met(world: &World, plan: Option<&Plan>, dependency: &Dependency) -> bool {
    let project = world.desired.projects.get(&dependency.project);
    let Some(service) = project.and_then(|project| project.services.get(&dependency.service)) else {
        return !dependency.required;
    };
    let held = held(world, &dependency.project, service);
    (1..=service.replicas).all(|number| {
        let slot = Slot { project: dependency.project.clone(), service: dependency.service.clone(), number };
        let mut all = world.containers.values().filter(|c| c.spec.slot == slot);
        let hopeless = !dependency.required && held;
        let far = |c: &ObservedContainer| far(world, plan, dependency, service, held, c);
        hopeless || all.any(far)
    })
}

fn far(
    world: &World,
    plan: Option<&Plan>,
    dependency: &Dependency,
    service: &Service,
    held: bool,
    container: &ObservedContainer,
) -> bool {
    let id = &container.spec.id;
    let stops = acts(world, plan, |a| matches!(a, Action::Stop { id: other, .. } if other == id));
    let starts = acts(world, plan, |a| matches!(a, Action::Start { spec, .. } if spec.id == *id));
    let health = world.observed().health.get(id).copied();
    let present = held || service.hash == container.spec.service.hash;
    let policy = if held { container.spec.service.restart } else { service.restart };
    let restarts = world.memory.restarts.get(id).map_or(0, |r| r.total);
    let optional = !dependency.required;
    let paused = by_hand::paused(world, &container.spec.slot);
    let stopped = by_hand::stopped(world, &dependency.project, service);
    let moves = !stopped && (!paused || optional);
    let starts = starts || by_hand::again(world, container);
    match (&container.state, dependency.condition) {
        (ContainerState::Running { .. }, Condition::Started) => !stops && moves,
        (ContainerState::Running { .. }, Condition::Healthy) => {
            let coming = !held && service.health.is_given();
            let fine = match health {
                Some(Health::Healthy) => true,
                Some(Health::Starting) => false,
                Some(Health::Unhealthy) => optional,
                None => optional && !coming,
            };
            !stops && (fine || optional && paused) && moves
        }
        (ContainerState::Running { .. }, Condition::Completed) => optional && paused,
        (ContainerState::Exited { status, .. }, Condition::Started) => {
            !stopped && present && !starts && stays(policy, *status, restarts)
        }
        (ContainerState::Exited { status, .. }, Condition::Completed) => {
            let failed = optional && stays(policy, *status, restarts);
            present && !starts && (status.success() || failed)
        }
        (ContainerState::StartFailed { .. }, _) => optional,
        _ => false,
    }
}

fn unmet(world: &World, plan: Option<&Plan>, slot: &Slot) -> Option<Dependency> {
    let file = world.desired.projects.get(&slot.project).and_then(|project| project.services.get(&slot.service));
    let made = || {
        world.containers.values().filter(|c| c.spec.slot.project == slot.project && c.spec.slot.service == slot.service)
    };
    let depends: Vec<Dependency> = match file {
        Some(service) => service.depends.clone(),
        None => made().flat_map(|c| c.spec.service.depends.clone()).collect(),
    };
    depends.into_iter().find(|d| !closed(world, slot, d) && !met(world, plan, d))
}

pub(super) fn check_start(world: &World, plan: &Plan, slot: &Slot) {
    let lacking = unmet(world, Some(plan), slot);
    assert!(lacking.is_none(), "{slot} is started before {}", lacking.unwrap());
}

pub(super) fn check_stop(world: &World, plan: &Plan, container: &ObservedContainer) {
    let slot = &container.spec.slot;
    if !matches!(container.state, ContainerState::Running { .. }) {
        return;
    }
    let Some(service) = wanted(world, slot) else { return check_last(world, container) };
    let plain = matches!(container.spec.service.network, NetworkMode::None | NetworkMode::Host);
    if plain && !held(world, &slot.project, service) && !ward::is_to_be_stopped(world, container) {
        // Of two that stop in one plan, neither counts for the other.
        let lacking = unmet(world, None, slot).filter(|_| unmet(world, Some(plan), slot).is_some());
        let what = if right(world, service, container) { "started anew" } else { "replaced" };
        assert!(lacking.is_none(), "{slot} is {what} before {}", lacking.unwrap());
    }
}

/// Nobody who goes too and comes after it is alive.
fn check_last(world: &World, container: &ObservedContainer) {
    let slot = &container.spec.slot;
    let comes_after = |other: &&ObservedContainer| {
        let before = |d: &Dependency| {
            d.project == slot.project && d.service == slot.service && !closed(world, &other.spec.slot, d)
        };
        file_or_record(world, other).iter().any(before)
    };
    let stuck = |other: &ObservedContainer| {
        world.memory.failures.get(&Key::Container(other.spec.id.clone())).is_some_and(|f| f.verb == "stop")
    };
    let mut going =
        world.containers.values().filter(|c| wanted(world, &c.spec.slot).is_none() && may_run(c, &world.under_way));
    let first = going.find(|c| comes_after(c) && !stuck(c));
    assert!(first.is_none(), "{slot} is stopped before {}, which comes after it", first.unwrap().spec.slot);
}

/// Whether what it comes after was started anew by us since it was started.
pub(super) fn must_follow(world: &World, container: &ObservedContainer) -> bool {
    let gone = |(of, process): &(ContainerId, _)| !matches!(world.containers.get(of).map(|c| &c.state), Some(ContainerState::Running { init, .. }) if init == process);
    matches!(container.state, ContainerState::Running { .. })
        && world.order.owes.get(&container.spec.id).is_some_and(|all| all.iter().any(gone))
}

/// Whether what runs in the slot and is to be started anew rightly runs on, because its next run could not begin.
pub(super) fn runs_on(world: &World, container: &ObservedContainer) -> bool {
    container.state.alive() && unmet(world, None, &container.spec.slot).is_some()
}

/// At the end: whether the slot rightly waits for what it comes after. What runs of it is as it was.
pub(super) fn check_waiting(world: &World, slot: &Slot, service: &Service, here: &[&ObservedContainer]) -> bool {
    let Some(lacking) = unmet(world, None, slot) else { return false };
    let made = here.iter().filter(|c| c.spec.service.hash == service.hash).count();
    let running = here.iter().filter(|c| c.state.alive()).count();
    assert!(made >= 1, "slot {slot} waits for {lacking}, and nothing is made");
    assert!(running <= 1 && here.len() <= 2, "slot {slot} waits for {lacking} with {} containers", here.len());
    // One that is to be started again, for what its files hold by now, runs on as it is until then.
    let to_be_started_anew = here.iter().any(|c| c.state.alive() && toy_files::changed(world, c));
    running == 0 || here.len() == 2 || to_be_started_anew
}

pub(super) fn check_end(world: &World) {
    for container in world.containers.values() {
        let slot = &container.spec.slot;
        let current = wanted(world, slot).is_some_and(|s| right(world, s, container) && !held(world, &slot.project, s));
        let owes = current && must_follow(world, container) && unmet(world, None, slot).is_none();
        assert!(!owes, "{slot} was not started anew after what it comes after");
    }
}
