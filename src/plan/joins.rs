//! The rules for a container's own network: where it comes from when it is started, when a container must be started anew because
//! its network is another one by now, and when its links are put right as it runs.
//!
//! A container that is stopped to be started on another network did not fail: neither its policy nor the back-off is asked, and it
//! is not counted as a restart.

use super::networks::{up, waits_for};
use super::{Blocked, Planner, WaitingOn};
use crate::model::{Action, ContainerState, Join, Key, NetworkMode, NetworkPlace, ObservedContainer, ProcessId, Slot};

/// Where the network of a container that is to be started comes from, or what it waits for.
pub(super) fn place(planner: &mut Planner<'_>, container: &ObservedContainer) -> Result<NetworkPlace, Blocked> {
    match &container.spec.service.network {
        NetworkMode::None | NetworkMode::Host => Ok(NetworkPlace::Plain),
        NetworkMode::Networks(membership) => {
            let mut ids = Vec::new();
            for join in &membership.joins {
                let Some((id, network)) = planner.networks.of_join(planner.facts, container, join) else {
                    return Err(Box::new((WaitingOn::NoNetwork(join.network.clone()), None)));
                };
                planner.networks.asked.insert(id.clone(), network);
                ids.push((id, network));
            }
            match ids.iter().find(|(id, _)| !up(planner.facts, id)) {
                Some((id, network)) => Err(Box::new(waits_for(planner, id, network))),
                None => Ok(NetworkPlace::Networks(ids.into_iter().map(|(id, _)| id).collect())),
            }
        }
        NetworkMode::Service(_) | NetworkMode::Container(_) => match sharing(planner, container) {
            Some(Sharing { owner: Some((owner, _)), .. }) => Ok(NetworkPlace::Of(owner.spec.id.clone())),
            Some(Sharing { whose, here, .. }) => Err(Box::new((WaitingOn::NetworkOf { whose, here }, None))),
            None => Ok(NetworkPlace::Plain),
        },
    }
}

/// Whose network a container shares.
struct Sharing<'a> {
    /// In words.
    whose: String,
    /// Whether there is such a container.
    here: bool,
    /// The one that runs, and as which process.
    owner: Option<(&'a ObservedContainer, ProcessId)>,
}

fn sharing<'a>(planner: &Planner<'a>, container: &ObservedContainer) -> Option<Sharing<'a>> {
    let facts = planner.facts;
    let slot = &container.spec.slot;
    let all = facts.observed.containers.values().filter(|other| other.spec.id != container.spec.id);
    let (whose, found): (String, Vec<&ObservedContainer>) = match &container.spec.service.network {
        NetworkMode::Service(name) => {
            let owner = Slot { service: name.clone(), number: 1, ..slot.clone() };
            (format!("service {name}"), all.filter(|other| other.spec.slot == owner).collect())
        }
        NetworkMode::Container(name) => {
            (format!("container {name}"), all.filter(|other| other.spec.name == *name).collect())
        }
        NetworkMode::None | NetworkMode::Host | NetworkMode::Networks(_) => return None,
    };
    let owner = found.iter().find_map(|other| match other.state {
        ContainerState::Running { init, .. } if !ending(planner, other) => Some((*other, init)),
        ContainerState::Running { .. }
        | ContainerState::Created
        | ContainerState::Exited { .. }
        | ContainerState::StartFailed { .. }
        | ContainerState::Orphaned { .. } => None,
    });
    Some(Sharing { whose, here: !found.is_empty(), owner })
}

/// Whether it is being stopped, or will be with this plan.
pub(super) fn ending(planner: &Planner<'_>, container: &ObservedContainer) -> bool {
    let key = Key::Container(container.spec.id.clone());
    let planned = planner.plan.steps.iter().map(|step| &step.action).find(|action| action.key() == key);
    let action = planner.facts.under_way.get(&key).or(planned);
    matches!(action, Some(Action::Stop { .. }))
}

/// Why a container that the file asks for must be started anew on another network than it was started on last.
pub(super) fn moved(planner: &Planner<'_>, container: &ObservedContainer) -> Option<String> {
    let attached = planner.facts.observed.attached.get(&container.spec.id)?;
    if let Some(membership) = container.spec.service.network.membership() {
        return membership
            .joins
            .iter()
            .find(|join| anew(planner, container, join))
            .map(|join| format!("network {} is defined anew", join.network));
    }
    let (_, process) = attached.shared.as_ref()?;
    let Sharing { whose, owner: Some((owner, present)), .. } = sharing(planner, container)? else { return None };
    let another = attached.shared.as_ref().is_some_and(|(id, _)| *id != owner.spec.id) || *process != present;
    // One that ended by itself before that has no use for the new network.
    let ended_before = match (&container.state, &owner.state) {
        (ContainerState::Exited { at, .. }, ContainerState::Running { since, .. }) => at < since,
        _ => false,
    };
    (another && !ended_before).then(|| format!("{whose}, whose network it shares, was started anew"))
}

/// Whether the network that the container is on under this name is another one by now.
fn anew(planner: &Planner<'_>, container: &ObservedContainer, join: &Join) -> bool {
    let Some((present, _)) = planner.networks.defined().get(&join.network) else { return false };
    let attached = planner.facts.observed.attached.get(&container.spec.id);
    let mut links = attached.into_iter().flat_map(|attached| &attached.links);
    links.any(|link| link.name == join.network && link.network != *present)
}

/// What a container that has to move waits for before it is stopped: it runs on until it can be started on the other network, or
/// until its own one is all that is in the other one's way.
pub(super) fn holds_the_move(planner: &Planner<'_>, container: &ObservedContainer) -> Option<Blocked> {
    let facts = planner.facts;
    let membership = container.spec.service.network.membership()?;
    membership.joins.iter().find_map(|join| {
        let (id, network) = planner.networks.defined().get(&join.network)?;
        let old = planner.networks.in_the_way(facts, id, network).filter(|_| !facts.observed.networks.contains_key(id));
        let ready = up(facts, id) || old.is_some_and(|old| planner.networks.yields(&old));
        (!ready).then(|| Box::new(waits_for(planner, id, network)))
    })
}

/// Puts the links of a container that runs right, where one is lost.
pub(super) fn connect(planner: &mut Planner<'_>, slot: &Slot, container: &ObservedContainer) {
    let facts = planner.facts;
    let Some(why) = facts.observed.lost.get(&container.spec.id) else { return };
    let attached = facts.observed.attached.get(&container.spec.id);
    let down = attached.into_iter().flat_map(|attached| &attached.links).find(|link| !up(facts, &link.network));
    if let Some(link) = down {
        let (on, until) = match facts.observed.networks.get(&link.network).map(|observed| &observed.network) {
            Some(network) => waits_for(planner, &link.network, network),
            None => match planner.networks.defined().get(&link.name) {
                Some((id, network)) => waits_for(planner, id, network),
                None => (WaitingOn::NoNetwork(link.name.clone()), None),
            },
        };
        return planner.wait(slot, on, until);
    }
    planner.step(slot, Action::Connect { spec: Box::new(container.spec.clone()) }, why.clone());
}
