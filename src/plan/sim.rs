//! A toy host: images, containers and actions in flight, with every way in which the real one fails.
//!
//! It knows nothing of the planner's rules. What it checks when an action takes effect is what would hurt on a real machine:
//! two processes in one slot, a container removed while it runs, a start without an image.

use std::collections::{BTreeMap, BTreeSet};

use super::{Desired, Facts, Limits, Memory, Observed, Plan, plan};
use crate::model::{
    Action, ContainerId, ContainerState, Digest, ExitStatus, ImageReference, Key, ObservedContainer, ProcessId, Slot,
    Timestamp,
};

/// A small generator (SplitMix64): a history is its seed.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n.max(1) as u64)).unwrap_or(0)
    }
    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) desired: Desired,
    pub(super) images: BTreeMap<ImageReference, Digest>,
    pub(super) registry_up: bool,
    pub(super) containers: BTreeMap<ContainerId, ObservedContainer>,
    pub(super) under_way: BTreeMap<Key, Action>,
    pub(super) memory: Memory,
    pub(super) limits: Limits,
    /// How often each container took effect as started.
    pub(super) starts: BTreeMap<ContainerId, u32>,
    /// Restarts that were reported as done, counted apart from the planner's own memory.
    pub(super) counted: BTreeMap<ContainerId, u32>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            now: Timestamp(1_000_000),
            desired: Desired::default(),
            images: BTreeMap::new(),
            registry_up: true,
            containers: BTreeMap::new(),
            under_way: BTreeMap::new(),
            memory: Memory::default(),
            limits: Limits { pulls: 2, containers: 5 },
            starts: BTreeMap::new(),
            counted: BTreeMap::new(),
        }
    }

    pub(super) fn observed(&self) -> Observed {
        Observed { images: self.images.clone(), containers: self.containers.clone(), ..Observed::default() }
    }

    /// Looks, plans, and puts the steps under way.
    pub(super) fn step(&mut self) -> Plan {
        let observed = self.observed();
        self.memory.notice_ends(observed.containers.values(), self.now);
        let plan = plan(&Facts {
            desired: &self.desired,
            observed: &observed,
            memory: &self.memory,
            under_way: &self.under_way,
            limits: self.limits,
            now: self.now,
        });
        super::histories::check_plan(self, &observed, &plan);
        for step in &plan.steps {
            self.under_way.insert(step.action.key(), step.action.clone());
        }
        plan
    }

    /// Ends one action that is under way: with its effect and success, with neither, or with its effect and an error.
    pub(super) fn finish(&mut self, key: &Key, outcome: Outcome) {
        let Some(action) = self.under_way.remove(key) else { return };
        let before = match key {
            Key::Container(id) => self.containers.get(id).map(|c| c.state.clone()),
            Key::Image(_) => None,
        };
        let possible = match outcome {
            Outcome::Fails => Err("it failed".to_owned()),
            Outcome::Succeeds | Outcome::FailsAfterEffect => self.effect(&action),
        };
        if let (Ok(()), Outcome::Succeeds, Action::Start { spec }) = (&possible, outcome, &action) {
            let again = matches!(before, Some(ContainerState::Exited { .. }));
            *self.counted.entry(spec.id.clone()).or_default() += u32::from(again);
        }
        if let (Err(_), Action::Start { spec }) = (&possible, &action) {
            self.fail_start(&spec.id);
        }
        match (possible, outcome) {
            (Ok(()), Outcome::Succeeds) => self.memory.succeeded(&action, before.as_ref(), self.now),
            (Ok(()), _) => self.memory.failed(&action, "it failed after it was done".to_owned(), None, self.now),
            (Err(error), _) => self.memory.failed(&action, error, None, self.now),
        }
    }

    fn effect(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Pull { image, .. } => {
                if !self.registry_up {
                    return Err("the registry is down".to_owned());
                }
                self.images.insert(image.clone(), digest_of(image));
            }
            Action::Create { spec } => {
                if self.images.get(&spec.image) != Some(&spec.image_digest) {
                    return Err("the image is gone".to_owned());
                }
                let made = ObservedContainer { spec: (**spec).clone(), state: ContainerState::Created };
                self.containers.entry(spec.id.clone()).or_insert(made);
            }
            Action::Start { spec } => self.start(&spec.id)?,
            Action::Stop { id, .. } => self.end(id, ExitStatus::Signal(15)),
            Action::Remove { id } => {
                let alive = self.containers.get(id).is_some_and(|c| c.state.alive());
                assert!(!alive, "{id} was removed while it ran");
                self.containers.remove(id);
                self.starts.remove(id);
                self.counted.remove(id);
            }
        }
        Ok(())
    }

    fn start(&mut self, id: &ContainerId) -> Result<(), String> {
        let Some(container) = self.containers.get(id) else { return Err("it was never made".to_owned()) };
        if matches!(container.state, ContainerState::Running { .. }) {
            return Ok(());
        }
        let slot = container.spec.slot.clone();
        let other = self.containers.values().find(|c| c.spec.slot == slot && c.state.alive());
        assert!(other.is_none(), "two processes in slot {slot}");
        let since = self.now;
        if let Some(container) = self.containers.get_mut(id) {
            let process = ProcessId { pid: 1, start_ticks: 1 };
            container.state = ContainerState::Running { init: process, shim: process, since };
            *self.starts.entry(id.clone()).or_default() += 1;
        }
        Ok(())
    }

    /// Its command could not be run.
    fn fail_start(&mut self, id: &ContainerId) {
        let at = self.now;
        if let Some(container) = self.containers.get_mut(id)
            && !container.state.alive()
        {
            container.state = ContainerState::StartFailed { error: "no such command".to_owned(), at };
        }
    }

    pub(super) fn end(&mut self, id: &ContainerId, status: ExitStatus) {
        let at = self.now;
        if let Some(container) = self.containers.get_mut(id) {
            let started = match container.state {
                ContainerState::Running { since, .. } => since,
                ContainerState::Orphaned { started } => started,
                ContainerState::Created | ContainerState::Exited { .. } | ContainerState::StartFailed { .. } => return,
            };
            container.state = ContainerState::Exited { status, started, at };
        }
    }

    /// The shim of a running container is killed.
    pub(super) fn orphan(&mut self, id: &ContainerId) {
        if let Some(container) = self.containers.get_mut(id)
            && let ContainerState::Running { since, .. } = container.state
        {
            container.state = ContainerState::Orphaned { started: since };
        }
    }

    /// The daemon is killed: what was under way is done or not, and what it remembered is lost.
    pub(super) fn daemon_restarts(&mut self, chance: &mut Chance) {
        for (_, action) in std::mem::take(&mut self.under_way) {
            if chance.one_in(2) {
                // A failed effect changes nothing; nobody is left who could be told.
                let _unheard = self.effect(&action);
            }
        }
        self.memory = Memory::default();
        self.counted.clear();
    }

    /// Power is lost: no process is left, and nothing is under way.
    pub(super) fn reboots(&mut self) {
        self.under_way.clear();
        self.memory = Memory::default();
        self.counted.clear();
        let at = self.now;
        for container in self.containers.values_mut() {
            let started = match container.state {
                ContainerState::Running { since, .. } => since,
                ContainerState::Orphaned { started } => started,
                ContainerState::Created | ContainerState::Exited { .. } | ContainerState::StartFailed { .. } => {
                    continue;
                }
            };
            container.state = ContainerState::Exited { status: ExitStatus::MachineStopped, started, at };
        }
    }

    pub(super) fn alive_slots(&self) -> BTreeSet<Slot> {
        self.containers.values().filter(|c| c.state.alive()).map(|c| c.spec.slot.clone()).collect()
    }
}

/// How an action ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeds,
    Fails,
    FailsAfterEffect,
}

pub(super) fn digest_of(image: &ImageReference) -> Digest {
    let hash = crate::model::SpecHash::of(image.to_string().as_bytes());
    Digest::parse(&format!("sha256:{hash}")).unwrap()
}
