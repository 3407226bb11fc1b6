//! What an owner asked of a service by hand, over its file: that it is stopped, has another number of replicas, or runs again once.
//!
//! A run that is to be followed by another one is known by when it began: it is over as soon as the container runs as of another
//! moment, whoever saw to that. So nobody has to remember in which half of a restart a daemon was killed. A run that is ended because
//! the service is stopped is noted likewise: it is what goes on when the service is no longer stopped, whatever its policy says.

use std::collections::BTreeMap;

use super::{Desired, Facts, Planner, WaitingOn};
use crate::model::{
    Action, ContainerId, ContainerState, Key, ObservedContainer, Project, Purpose, Service, Slot, Timestamp,
};

/// What was asked of one service by hand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ByHand {
    /// Nothing of it runs.
    pub stopped: bool,
    /// What of it runs is held still.
    pub paused: bool,
    /// So many replicas, instead of those that the file gives.
    pub scaled: Option<Scaled>,
    /// How long a container that is stopped for it has to end by itself; none: as the file says.
    pub grace_ms: Option<u64>,
    /// Runs that are followed by another one, by when they began.
    pub again: BTreeMap<ContainerId, Timestamp>,
}

/// Another number of replicas than the file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaled {
    /// How many.
    pub replicas: u32,
    /// What the file said then.
    pub file: u32,
}

impl ByHand {
    /// Forgets runs that are over, and notes those that end because the service is stopped. `here`: its containers.
    pub fn notice(&mut self, stopped: bool, here: &[&ObservedContainer]) {
        let run = |id: &ContainerId| here.iter().find(|c| c.spec.id == *id).and_then(|c| begun(&c.state));
        self.again.retain(|id, begun| run(id) == Some(*begun));
        if stopped {
            // A run that is ended is over: there is another one when it is time.
            let running = here.iter().filter(|c| c.state.alive() && c.spec.purpose == Purpose::Service);
            self.again.extend(running.filter_map(|c| Some((c.spec.id.clone(), begun(&c.state)?))));
        }
        if !stopped && self.again.is_empty() {
            self.grace_ms = None;
        }
    }

    /// Whether nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.stopped && !self.paused && self.scaled.is_none() && self.again.is_empty()
    }
}

/// When the present run of a container began, or its last one.
#[must_use]
pub const fn begun(state: &ContainerState) -> Option<Timestamp> {
    match state {
        ContainerState::Running { since: begun, .. }
        | ContainerState::Exited { started: begun, .. }
        | ContainerState::Orphaned { started: begun } => Some(*begun),
        ContainerState::Created | ContainerState::StartFailed { .. } => None,
    }
}

impl Desired {
    /// What was asked by hand of the service of a slot.
    #[must_use]
    pub fn by_hand(&self, slot: &Slot) -> Option<&ByHand> {
        // Most have none.
        if self.by_hand.is_empty() {
            return None;
        }
        self.by_hand.get(&(slot.project.clone(), slot.service.clone()))
    }
}

/// Who stopped a service, where somebody did.
pub(super) fn stopped(facts: &Facts<'_>, project: &Project, service: &Service) -> Option<Stopped> {
    let by_hand = !facts.desired.by_hand.is_empty()
        && facts.desired.by_hand.get(&(project.name.clone(), service.name.clone())).is_some_and(|hand| hand.stopped);
    let by_file = || service.suspended.then_some(Stopped::ByFile);
    by_hand.then_some(Stopped::ByHand).or_else(by_file)
}

/// By whom a service is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// `longshore stop`.
    ByHand,
    /// Its file: `suspend`.
    ByFile,
}

impl Stopped {
    /// In words.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ByHand => "it is stopped by hand",
            Self::ByFile => "its file says suspend: true",
        }
    }
}

/// Why the container is to run again, where that was asked for by hand and did not come to pass yet.
pub(super) fn again(planner: &Planner<'_>, container: &ObservedContainer) -> Option<String> {
    let asked = planner.facts.desired.by_hand(&container.spec.slot)?.again.get(&container.spec.id)?;
    (begun(&container.state) == Some(*asked)).then(|| "it is started again by hand".to_owned())
}

/// Replicas that were asked for by hand come and go one after the other: a lower one before a higher one, and the other way round.
/// Whether this one has to wait for that.
pub(super) fn not_yet(planner: &Planner<'_>, slot: &Slot, surplus: bool) -> bool {
    if planner.facts.desired.by_hand(slot).is_none_or(|hand| hand.scaled.is_none()) {
        return false;
    }
    let all = planner.facts.observed.containers.values();
    let mut same = all.filter(|c| c.spec.slot.project == slot.project && c.spec.slot.service == slot.service);
    if surplus {
        return same.any(|c| c.spec.slot.number > slot.number);
    }
    let made: Vec<u32> = same.filter(|c| !acted_upon(planner, &c.spec.id)).map(|c| c.spec.slot.number).collect();
    !(1..slot.number).all(|number| made.contains(&number))
}

fn acted_upon(planner: &Planner<'_>, id: &ContainerId) -> bool {
    let key = Key::Container(id.clone());
    planner.facts.under_way.contains_key(&key) || planner.plan.steps.iter().any(|step| step.action.key() == key)
}

/// Whether what runs in the slot is to be held still.
pub(super) fn is_paused(planner: &Planner<'_>, slot: &Slot) -> bool {
    planner.facts.desired.by_hand(slot).is_some_and(|hand| hand.paused)
}

/// Holds a container that runs still where that is asked for, or lets it go on where it is not. Whether there is something to do.
pub(super) fn pause(planner: &mut Planner<'_>, slot: &Slot, container: &ObservedContainer) -> bool {
    let asked = is_paused(planner, slot);
    let id = container.spec.id.clone();
    match (asked, planner.facts.observed.paused.contains(&id)) {
        (true, false) => planner.step(slot, Action::Pause { id }, "it is paused by hand".to_owned()),
        (false, true) => planner.step(slot, Action::Unpause { id }, "it is no longer paused".to_owned()),
        (true, true) => {
            planner.wait(slot, WaitingOn::Paused, None);
            return false;
        }
        (false, false) => return false,
    }
    true
}
