//! What is asked of services by hand in a history, and what must be so then, said without the planner's help.

use super::{held, right};
use crate::model::{
    Action, ContainerId, ContainerState, ObservedContainer, ProjectName, Purpose, Service, ServiceName, Slot, Timestamp,
};
use crate::plan::sim::{Chance, World};
use crate::plan::{Observed, Scaled};

pub(super) fn stopped(world: &World, project: &ProjectName, service: &Service) -> bool {
    let hand = world.desired.by_hand.get(&(project.clone(), service.name.clone()));
    service.suspended || hand.is_some_and(|hand| hand.stopped)
}

pub(super) fn paused(world: &World, slot: &Slot) -> bool {
    let hand = world.desired.by_hand.get(&(slot.project.clone(), slot.service.clone()));
    hand.is_some_and(|hand| hand.paused)
}

fn run(state: &ContainerState) -> Option<Timestamp> {
    match state {
        ContainerState::Running { since, .. } => Some(*since),
        ContainerState::Exited { started, .. } | ContainerState::Orphaned { started } => Some(*started),
        ContainerState::Created | ContainerState::StartFailed { .. } => None,
    }
}

/// One thing is asked.
pub(super) fn ask(world: &mut World, chance: &mut Chance) {
    let all = world.desired.projects.values().flat_map(|p| p.services.keys().map(move |s| (p.name.clone(), s.clone())));
    let all: Vec<_> = all.collect();
    if all.is_empty() {
        return;
    }
    let key = all[chance.below(all.len())].clone();
    let mine = |c: &&ObservedContainer| c.spec.slot.project == key.0 && c.spec.slot.service == key.1;
    let runs = |of: fn(&ContainerState) -> bool| -> Vec<(ContainerId, Timestamp)> {
        let all = world.containers.values().filter(mine).filter(|c| of(&c.state));
        let all = all.filter(|c| c.spec.purpose == Purpose::Service);
        all.filter_map(|c| Some((c.spec.id.clone(), run(&c.state)?))).collect()
    };
    let (all, ended) = (runs(|_| true), runs(|state| !state.alive()));
    let hand = world.desired.by_hand.entry(key.clone()).or_default();
    let service = world.desired.projects.get_mut(&key.0).and_then(|p| p.services.get_mut(&key.1)).unwrap();
    let again = match chance.below(8) {
        0 | 1 => {
            (hand.stopped, hand.paused) = (true, false);
            return;
        }
        2 | 3 => {
            (hand.stopped, hand.paused) = (false, false);
            ended
        }
        4 if !hand.stopped => {
            hand.paused = false;
            all
        }
        5 => {
            hand.paused = !hand.paused && !hand.stopped;
            return;
        }
        6 => {
            let file = hand.scaled.map_or(service.replicas, |scaled| scaled.file);
            let most = if service.schedule.is_some() { 2 } else { 5 };
            service.replicas = u32::try_from(chance.below(most)).unwrap();
            hand.scaled = Some(Scaled { replicas: service.replicas, file });
            return;
        }
        7 => {
            service.suspended = !service.suspended;
            return;
        }
        _ => {
            service.replicas = hand.scaled.take().map_or(service.replicas, |scaled| scaled.file);
            (hand.stopped, hand.paused) = (false, false);
            return;
        }
    };
    hand.again.extend(again.iter().cloned());
    world.asked.extend(again);
}

/// Its file says something else: nothing that was asked counts.
pub(super) fn edited(world: &mut World, project: &ProjectName, service: &ServiceName) {
    world.desired.by_hand.remove(&(project.clone(), service.clone()));
    let containers = &world.containers;
    world.asked.retain(|id, _| {
        containers.get(id).is_some_and(|c| c.spec.slot.project != *project || c.spec.slot.service != *service)
    });
}

/// The host was seen.
pub(in crate::plan) fn notice(world: &mut World) {
    let projects = &world.desired.projects;
    let known =
        |key: &(ProjectName, ServiceName)| projects.get(&key.0).is_some_and(|p| p.services.contains_key(&key.1));
    world.desired.by_hand.retain(|key, _| known(key));
    let services = || world.desired.projects.values().flat_map(|p| p.services.values().map(move |s| (&p.name, s)));
    let halted: Vec<_> =
        services().filter(|(p, s)| stopped(world, p, s)).map(|(p, s)| (p.clone(), s.name.clone())).collect();
    let of = |c: &ObservedContainer| (c.spec.slot.project.clone(), c.spec.slot.service.clone());
    let ending = world.containers.values().filter(|c| c.state.alive() && halted.contains(&of(c)));
    let ending = ending.filter(|c| c.spec.purpose == Purpose::Service);
    let ending: Vec<_> = ending.filter_map(|c| Some((c.spec.id.clone(), run(&c.state)?))).collect();
    world.asked.extend(ending);
    let containers = &world.containers;
    world.asked.retain(|id, asked| containers.get(id).and_then(|c| run(&c.state)) == Some(*asked));
    for key in &halted {
        world.desired.by_hand.entry(key.clone()).or_default();
    }
    for (key, hand) in &mut world.desired.by_hand {
        let here: Vec<_> = containers.values().filter(|c| of(c) == *key).collect();
        hand.notice(halted.contains(key), &here);
    }
}

/// Whether it is to run again, whatever its policy says.
pub(super) fn again(world: &World, container: &ObservedContainer) -> bool {
    let asked = world.asked.get(&container.spec.id);
    asked.is_some_and(|asked| run(&container.state) == Some(*asked))
}

/// What must be so at each step.
pub(super) fn check_step(world: &World, observed: &Observed, action: &Action) {
    let (slot, fresh) = match action {
        Action::Create { spec } => (&spec.slot, true),
        Action::Stop { id, .. } | Action::Remove { id } => (&observed.containers[id].spec.slot, false),
        Action::Start { spec, .. } => {
            let service =
                world.desired.projects.get(&spec.slot.project).and_then(|p| p.services.get(&spec.slot.service));
            assert!(
                !service.is_some_and(|s| stopped(world, &spec.slot.project, s)),
                "{} is started and stopped",
                spec.slot
            );
            return;
        }
        Action::Pause { id } | Action::Unpause { id } => {
            let (slot, pauses) = (&observed.containers[id].spec.slot, matches!(action, Action::Pause { .. }));
            let hand = world.desired.by_hand.get(&(slot.project.clone(), slot.service.clone()));
            assert_eq!(hand.is_some_and(|hand| hand.paused), pauses, "{slot} is paused, or goes on, unasked");
            assert!(matches!(observed.containers[id].state, ContainerState::Running { .. }), "{slot} does not run");
            return;
        }
        _ => return,
    };
    let key = (slot.project.clone(), slot.service.clone());
    if world.desired.by_hand.get(&key).is_none_or(|hand| hand.scaled.is_none()) {
        return;
    }
    let Some(service) = world.desired.projects.get(&key.0).and_then(|p| p.services.get(&key.1)) else { return };
    let same = |c: &&ObservedContainer| c.spec.slot.project == key.0 && c.spec.slot.service == key.1;
    let here = |number: u32| observed.containers.values().filter(same).any(|c| c.spec.slot.number == number);
    if fresh && !observed.containers.values().filter(same).any(|c| c.spec.slot.number == slot.number) {
        assert!((1..slot.number).all(here), "{slot} comes before a lower one");
    } else if !fresh && slot.number > service.replicas && !held(world, &key.0, service) {
        let higher = observed.containers.values().filter(same).any(|c| c.spec.slot.number > slot.number);
        assert!(!higher, "{slot} goes before a higher one");
    }
}

/// What was asked is so.
pub(super) fn check_end(world: &World) {
    for container in world.containers.values() {
        let slot = &container.spec.slot;
        let Some(service) = world.desired.projects[&slot.project].services.get(&slot.service) else { continue };
        if stopped(world, &slot.project, service) {
            assert!(!container.state.alive(), "{slot} runs although it is stopped");
            continue;
        }
        let hand = world.desired.by_hand.get(&(slot.project.clone(), slot.service.clone()));
        if matches!(container.state, ContainerState::Running { .. }) {
            let asked = hand.is_some_and(|hand| hand.paused);
            assert_eq!(world.paused.contains(&container.spec.id), asked, "{slot} is not as still as was asked");
            let current = !held(world, &slot.project, service) && right(world, service, container);
            assert!(!current || !again(world, container), "{slot} did not run again");
        }
    }
}
