//! What is checked of networks at every step, said a second time and in another way.

use super::toy_net::definition;
use super::{held, in_force, order, right, toy_files, wanted};
use crate::model::{
    Action, ContainerId, ContainerState, Key, Network, NetworkId, NetworkMode, NetworkName, NetworkPlace,
    ObservedContainer, ObservedNetwork, ProcessId, Slot,
};
use crate::plan::sim::World;
use crate::plan::{Observed, Plan, Upkeep};

fn joined(container: &ObservedContainer) -> Vec<&NetworkName> {
    let joins = container.spec.service.network.membership().map_or(&[][..], |membership| &membership.joins);
    joins.iter().map(|join| &join.network).collect()
}

fn on(observed: &Observed, container: &ContainerId, network: &NetworkId) -> bool {
    observed.attached.get(container).is_some_and(|a| a.links.iter().any(|link| link.network == *network))
}

/// Whether a service that may be started joins it.
fn joined_by_somebody(world: &World, id: &NetworkId) -> bool {
    world.desired.projects.iter().any(|(project, file)| {
        file.services.values().any(|service| {
            let names = service.network.membership().map_or(&[][..], |membership| &membership.joins);
            let mut ids = names.iter().filter_map(|join| definition(&world.desired, &join.network));
            service.replicas > 0 && !held(world, project, service) && ids.any(|n| NetworkId::derive(n) == *id)
        })
    })
}

/// Whether it is kept as it was made: nobody knows what should be, or the service is held, or its successor is not made.
fn as_it_is(world: &World, container: &ObservedContainer) -> bool {
    let slot = &container.spec.slot;
    let Some(service) = wanted(world, slot) else { return world.desired.kept.contains(&slot.project) };
    held(world, &slot.project, service) || container.spec.service.hash != service.hash
}

/// Whether it holds, until its successor is made, a container that was made for a network which nobody defines any more.
pub(super) fn is_cut_off(world: &World, observed: &Observed, slot: &Slot) -> bool {
    let here = observed.containers.values().filter(|c| c.spec.slot == *slot && as_it_is(world, c));
    here.flat_map(joined).any(|name| definition(&world.desired, name).is_none())
}

fn clash(old: &ObservedNetwork, new: &Network) -> bool {
    let same_bridge = old.network.bridge == new.bridge && new.bridge.is_some();
    same_bridge || old.subnets.iter().any(|subnet| new.pools.iter().any(|pool| pool.subnet.overlaps(*subnet)))
}

pub(super) fn make(world: &World, observed: &Observed, plan: &Plan, network: &Network) {
    let (id, name) = (NetworkId::derive(network), &network.name);
    let here = observed.networks.get(&id);
    assert!(here.is_none_or(|network| network.broken.is_some()), "network {name} is made though it is up");
    let used = observed.containers.values().any(|c| c.state.alive() && on(observed, &c.spec.id, &id));
    let starting =
        |a: &Action| matches!(a, Action::Start { network: NetworkPlace::Networks(ids), .. } if ids.contains(&id));
    let used = used || world.under_way.values().any(starting);
    let again = observed.containers.values().any(|c| joined(c).contains(&name) && as_it_is(world, c));
    assert!(joined_by_somebody(world, &id) || used || again, "network {name} is made for nobody");
    for (other, old) in observed.networks.iter().filter(|(other, _)| **other != id) {
        let stays = joined_by_somebody(world, other);
        assert!(
            here.is_some() || stays || !clash(old, network),
            "network {name} is made beside what it cannot be with"
        );
    }
    let removing = plan.steps.iter().any(|s| matches!(&s.action, Action::RemoveNetwork { id: gone } if *gone == id));
    assert!(!removing, "network {name} is made and removed at once");
}

pub(super) fn remove(world: &World, observed: &Observed, plan: &Plan, id: &NetworkId) {
    let name = &observed.networks[id].network.name;
    assert!(!joined_by_somebody(world, id), "network {name} is removed that a service joins");
    for container in observed.containers.values().filter(|c| on(observed, &c.spec.id, id)) {
        let slot = &container.spec.slot;
        assert!(!container.state.alive(), "network {name} is removed under {slot}");
        let unknown = world.desired.kept.contains(&slot.project) && !world.desired.projects.contains_key(&slot.project);
        assert!(!unknown, "network {name} is removed and nobody knows what is meant to be on it");
    }
    let starting =
        |a: &Action| matches!(a, Action::Start { network: NetworkPlace::Networks(ids), .. } if ids.contains(id));
    let planned = plan.steps.iter().any(|step| starting(&step.action));
    assert!(!planned && !world.under_way.values().any(starting), "network {name} is removed under a start");
}

pub(super) fn connect(world: &World, observed: &Observed, id: &ContainerId) {
    let container = &observed.containers[id];
    let slot = &container.spec.slot;
    assert!(matches!(container.state, ContainerState::Running { .. }), "{slot} is connected and does not run");
    assert!(world.net.lost.contains_key(id), "{slot} is connected and lacks nothing");
    let whole = |network: &NetworkId| observed.networks.get(network).is_some_and(|n| n.broken.is_none());
    let links = &observed.attached[id].links;
    assert!(links.iter().all(|link| whole(&link.network)), "{slot} is connected to what is not up");
}

pub(super) fn start(world: &World, observed: &Observed, container: &ObservedContainer, place: &NetworkPlace) {
    let slot = &container.spec.slot;
    match (&container.spec.service.network, place) {
        (NetworkMode::None | NetworkMode::Host, NetworkPlace::Plain) => {}
        (NetworkMode::Networks(_), NetworkPlace::Networks(ids)) => {
            let names = joined(container);
            assert_eq!(names.len(), ids.len(), "{slot} is started without one of its networks");
            for (name, id) in names.into_iter().zip(ids) {
                let there = observed.networks.get(id).expect("it is started on a network that is not there");
                assert!(there.broken.is_none(), "{slot} is started on {name}, which is broken");
                assert_eq!(there.network.name, *name, "{slot} is started on another network");
                let defined = definition(&world.desired, name);
                assert!(defined.is_none_or(|n| NetworkId::derive(n) == *id), "{slot} is started on the old {name}");
                let removing = |a: &Action| matches!(a, Action::RemoveNetwork { id: gone } if gone == id);
                assert!(!world.under_way.values().any(removing), "{slot} is started on {name}, which is going");
            }
        }
        (NetworkMode::Service(_) | NetworkMode::Container(_), NetworkPlace::Of(other)) => {
            let owner = &observed.containers[other];
            assert!(matches!(owner.state, ContainerState::Running { .. }), "{slot} shares what does not run");
            let stopping = matches!(world.under_way.get(&Key::Container(other.clone())), Some(Action::Stop { .. }));
            assert!(!stopping, "{slot} shares what is being stopped");
            assert!(is_owner(container, owner), "{slot} shares with a stranger");
        }
        (mode, place) => panic!("{slot} has {mode:?} and is started with {place:?}"),
    }
}

fn is_owner(container: &ObservedContainer, owner: &ObservedContainer) -> bool {
    let slot = &container.spec.slot;
    match &container.spec.service.network {
        NetworkMode::Service(name) => {
            owner.spec.slot == Slot { project: slot.project.clone(), service: name.clone(), number: 1 }
        }
        NetworkMode::Container(name) => owner.spec.name == *name && owner.spec.id != container.spec.id,
        NetworkMode::None | NetworkMode::Host | NetworkMode::Networks(_) => false,
    }
}

fn owner_process(observed: &Observed, container: &ObservedContainer) -> Option<(ContainerId, ProcessId)> {
    observed.containers.values().filter(|owner| is_owner(container, owner)).find_map(|owner| match owner.state {
        ContainerState::Running { init, .. } => Some((owner.spec.id.clone(), init)),
        _ => None,
    })
}

/// Whether the network that it was on is another one by now.
fn misplaced(world: &World, observed: &Observed, container: &ObservedContainer) -> bool {
    let Some(attached) = observed.attached.get(&container.spec.id) else { return false };
    let other = attached.links.iter().any(|link| {
        definition(&world.desired, &link.name).is_some_and(|defined| NetworkId::derive(defined) != link.network)
    });
    let owner = owner_process(observed, container);
    let shares_another = attached.shared.is_some() && owner.is_some() && attached.shared != owner;
    other || shares_another
}

/// Whether it may be started against its policy.
pub(super) fn must_move(world: &World, observed: &Observed, container: &ObservedContainer) -> bool {
    if world.net.moved.contains(&container.spec.id) {
        return true;
    }
    let ended_by_itself = match (&container.state, owner_process(observed, container)) {
        (ContainerState::Exited { at, .. }, Some((owner, _))) => match observed.containers[&owner].state {
            ContainerState::Running { since, .. } => *at < since,
            _ => false,
        },
        _ => false,
    };
    misplaced(world, observed, container) && !ended_by_itself
}

/// What is as the file says is stopped: its network must be another one, which is up or waits for the old one to go.
pub(super) fn stop(world: &World, observed: &Observed, container: &ObservedContainer) {
    let slot = &container.spec.slot;
    let again = misplaced(world, observed, container) || toy_files::changed(world, container);
    let again = again || order::must_follow(world, container);
    assert!(again, "{slot} is stopped, and it is as the file says");
    for name in joined(container) {
        let Some(defined) = definition(&world.desired, name) else { panic!("{slot} is stopped to be nowhere") };
        let id = NetworkId::derive(defined);
        let here = observed.networks.get(&id);
        let up = here.is_some_and(|network| network.broken.is_none());
        let mut others = observed.networks.iter().filter(|(other, _)| **other != id);
        let blocked =
            here.is_none() && others.any(|(other, old)| clash(old, defined) && !joined_by_somebody(world, other));
        let making = |a: &Action| matches!(a, Action::MakeNetwork { .. });
        let blocked = blocked || here.is_none() && world.under_way.values().any(making);
        assert!(up || blocked, "{slot} is stopped before network {name} is up");
    }
}

/// A move that was begun is kept in mind, apart from the planner's memory.
pub(in crate::plan) fn note_moves(world: &World, observed: &Observed, plan: &Plan) -> Vec<ContainerId> {
    let moves = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Stop { id, .. } => Some(&observed.containers[id]).filter(|c| {
            let right = wanted(world, &c.spec.slot).is_some_and(|service| right(world, service, c));
            let again = misplaced(world, observed, c) || toy_files::changed(world, c);
            let again = again || order::must_follow(world, c) || super::by_hand::again(world, c);
            let right = right && in_force(world, &c.spec.slot);
            right && matches!(c.state, ContainerState::Running { .. }) && again
        }),
        Action::Start { spec, .. } => Some(&observed.containers[&spec.id]).filter(|c| {
            let current = wanted(world, &c.spec.slot).is_some_and(|service| service.hash == c.spec.service.hash);
            let again =
                must_move(world, observed, c) || toy_files::changed(world, c) || super::by_hand::again(world, c);
            current && in_force(world, &c.spec.slot) && again
        }),
        _ => None,
    });
    moves.map(|c| c.spec.id.clone()).collect()
}

/// What is broken gets a step, is under way, failed just now, or waits for what is said.
pub(super) fn nothing_is_forgotten(world: &World, observed: &Observed, plan: &Plan) {
    let busy = |key: &Key| {
        let failed = plan.upkeep.iter().any(|upkeep| upkeep.action.key() == *key);
        failed || world.under_way.contains_key(key) || plan.steps.iter().any(|s| s.action.key() == *key)
    };
    let woken = |upkeep: &Upkeep| plan.wake_at.is_some_and(|at| at <= upkeep.until);
    assert!(plan.upkeep.iter().all(woken), "what failed is not tried again in time");
    if observed.firewall.is_some() {
        assert!(busy(&Key::Firewall), "the rules are gone, and nothing is done");
    }
    for (id, network) in &observed.networks {
        let used = observed.containers.values().any(|c| c.state.alive() && on(observed, &c.spec.id, id));
        let acts = busy(&Key::Network(id.clone()));
        assert!(
            network.broken.is_none() || !used || acts,
            "network {} is broken, and nothing is done",
            network.network.name
        );
    }
    for id in observed.lost.keys() {
        let slot = &observed.containers[id].spec.slot;
        let spoken = plan.waiting.iter().any(|w| w.slot == *slot);
        assert!(spoken || busy(&Key::Container(id.clone())), "{slot} lacks a link, and nothing is done");
    }
}

pub(super) fn check_running(world: &World, container: &ObservedContainer) {
    let observed = world.observed();
    let slot = &container.spec.slot;
    assert!(
        !misplaced(world, &observed, container) || stuck(world, container),
        "{slot} is on another network than it should be"
    );
    assert!(!world.net.lost.contains_key(&container.spec.id), "{slot} lacks a link at the end");
}

/// Whether its new network cannot come, because a container that is kept as it is is on what is in the way.
fn stuck(world: &World, container: &ObservedContainer) -> bool {
    joined(container).into_iter().any(|name| {
        let Some(defined) = definition(&world.desired, name) else { return false };
        kept_out(world, defined)
    })
}

fn kept_out(world: &World, network: &Network) -> bool {
    let observed = world.observed();
    let id = NetworkId::derive(network);
    !observed.networks.contains_key(&id)
        && observed.networks.iter().any(|(other, old)| {
            let kept = |c: &&ObservedContainer| {
                let pinned = on(&observed, &c.spec.id, other) || joined(c).contains(&&old.network.name);
                pinned && as_it_is(world, c)
            };
            clash(old, network) && observed.containers.values().any(|c| kept(&c))
        })
}

/// Whether a container cannot be started because nobody runs whose network it shares, or because its own one cannot come.
pub(super) fn nobody_to_share_with(world: &World, container: &ObservedContainer) -> bool {
    let shares = matches!(container.spec.service.network, NetworkMode::Service(_) | NetworkMode::Container(_));
    shares && owner_process(&world.observed(), container).is_none() || stuck(world, container)
}

/// Nothing is broken, and nothing is there that nobody needs.
pub(super) fn check_end(world: &World) {
    let observed = world.observed();
    assert_eq!(world.net.firewall, None, "the rules are not put right");
    for (id, network) in &observed.networks {
        let name = &network.network.name;
        let kept =
            |c: &ObservedContainer| as_it_is(world, c) && (on(&observed, &c.spec.id, id) || joined(c).contains(&name));
        let used = observed.containers.values().any(|c| c.state.alive() && on(&observed, &c.spec.id, id));
        let needed = joined_by_somebody(world, id);
        assert!(needed || used || observed.containers.values().any(kept), "network {name} is left over");
        assert!(network.broken.is_none() || !(used || needed), "network {name} is broken at the end");
    }
}
