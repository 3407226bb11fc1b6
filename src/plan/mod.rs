//! The planner: what to do next, as a pure function of what should be, what is, what is remembered and the time.
//!
//! It does not read the clock, draws no random numbers and performs nothing. It takes **one next step per object** and says for
//! every other object what it waits for and when to look again; that list is the answer to "why is it not running?".
//!
//! One slot (replica `n` of a service) goes through
//!
//! ```text
//! image absent ──Pull──▶ image here ──Create──▶ made ──(stale one: Stop)──▶ Start ──▶ running
//!                                                          └──────Remove        ▲        │
//!                                                                               └─back-off◀ exited
//! ```
//!
//! with an Update at any time between, where the file changed only what a container is given as it is,
//!
//! so that the old container is stopped only when the new one's image is here and its folder is made. A start waits for the networks
//! that the service joins: see `networks` and `joins`.

mod backoff;
mod collect;
mod facts;
mod files;
mod hand;
mod health;
#[cfg(test)]
mod histories;
mod images;
mod job;
mod jobs;
mod joins;
mod live;
mod memory;
mod mounts;
mod networks;
mod order;
mod rollout;
#[cfg(test)]
mod sim;
mod slot;
mod tasks;
mod unmet;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use backoff::failure_delay_ms;
pub use collect::{Crowded, in_use};
pub use facts::{CollectPolicy, DiskUse, ImageFacts, Limits, Ports};
pub use hand::{ByHand, Scaled, Stopped, begun};
pub use health::Cures;
pub use images::{follows, stands_for};
pub use job::{Job, JobRun, JobStep, Verdict};
pub use memory::{Failure, Memory, Restarts, Variant};
pub use mounts::MountTable;
pub use networks::unjoined;
pub use order::{Followed, Lacking, circles, stop_order};
pub use rollout::{Rollout, SetAside, Version};
pub use tasks::{AskedTask, MOST_TASKS};
pub use unmet::unmet;

use crate::model::{
    Ability, Action, Attached, ContainerId, ContainerName, ContainerState, Dependency, Digest, ExitStatus, FileKind,
    Health, HookFailure, ImageReference, Key, NetworkId, NetworkName, ObservedContainer, ObservedNetwork, Project,
    ProjectName, Service, ServiceName, Slot, Timestamp,
};

/// What should be: the projects in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// By name.
    pub projects: BTreeMap<ProjectName, Project>,
    /// Projects that are seen on the host while nobody knows what the files say of them: what runs of them is kept as it is.
    pub kept: BTreeSet<ProjectName>,
    /// What was asked of services by hand. Other numbers of replicas are in the projects already.
    pub by_hand: BTreeMap<(ProjectName, ServiceName), ByHand>,
    /// What the files say of services that something else is run for, because that is set aside: their registries are asked all the
    /// same, so that a newer version is noticed.
    pub watched: BTreeMap<(ProjectName, ServiceName), Service>,
}

/// What is: the host as it was just seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Images that are here, whole.
    pub images: BTreeMap<ImageReference, ImageFacts>,
    /// The disk that images lie on; none where it cannot be asked.
    pub disk: Option<DiskUse>,
    /// The platform that is meant where the file names none.
    pub machine: String,
    /// What the machine lacks, and why.
    pub lacks: BTreeMap<Ability, String>,
    /// Containers that we made.
    pub containers: BTreeMap<ContainerId, ObservedContainer>,
    /// How those are that run and have a health check.
    pub health: BTreeMap<ContainerId, Health>,
    /// What the last check of those that are unhealthy said, in one line.
    pub complaints: BTreeMap<ContainerId, String>,
    /// What they were joined to when they were started last.
    pub attached: BTreeMap<ContainerId, Attached>,
    /// Containers that are held still, because that was asked for.
    pub paused: BTreeSet<ContainerId>,
    /// Containers that run and lack a link, and what is wrong.
    pub lost: BTreeMap<ContainerId, String>,
    /// To whom the published ports of containers lead that are not simply their own.
    pub ports: BTreeMap<ContainerId, Ports>,
    /// Networks that we made.
    pub networks: BTreeMap<NetworkId, ObservedNetwork>,
    /// Why the rules of the packet filter must be put right; none: they are.
    pub firewall: Option<String>,
    /// Hooks that failed last.
    pub hooks: BTreeMap<ContainerId, HookFailure>,
    /// What is mounted on the host, and what should be.
    pub mounts: MountTable,
    /// The wall clock, which may jump.
    pub wall: Timestamp,
}

/// Everything that a plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What should be.
    pub desired: &'a Desired,
    /// What is.
    pub observed: &'a Observed,
    /// What happened before.
    pub memory: &'a Memory,
    /// Whole actions that are under way, by key.
    pub under_way: &'a BTreeMap<Key, Action>,
    /// How much may be under way.
    pub limits: Limits,
    /// When images are removed.
    pub collect: CollectPolicy,
    /// Now, on a clock that does not jump.
    pub now: Timestamp,
}

/// An action and why it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// Why, for the status.
    pub reason: String,
    /// The slot it serves; none for an image.
    pub slot: Option<Slot>,
}

/// What an object waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingOn {
    /// The image is being pulled, or will be.
    Image(ImageReference),
    /// An action on the same object is under way.
    Step(&'static str),
    /// The container it replaces has to end first.
    Predecessor(ContainerId),
    /// The last attempt failed and is repeated later.
    Retry {
        /// What failed.
        verb: &'static str,
        /// Why.
        error: String,
        /// How often so far.
        attempts: u32,
    },
    /// It ended, and is started again after the back-off.
    Backoff {
        /// How it ended.
        status: ExitStatus,
        /// How often it was started again so far.
        restarts: u32,
    },
    /// Too much is under way.
    Turn,
    /// Its owner: it ended and its policy says that it stays so.
    Owner {
        /// How it ended.
        status: ExitStatus,
        /// Why it stays so.
        because: &'static str,
    },
    /// Its owner: it is stopped.
    Stopped(Stopped),
    /// Its owner: it is held still.
    Paused,
    /// The file, or the machine: a key holds the service.
    Held,
    /// Nothing: the registry could not be asked whether the image moved, and what is here is used.
    Refresh {
        /// Which.
        image: ImageReference,
        /// Why.
        error: String,
        /// How often so far.
        attempts: u32,
    },
    /// Nothing: what its name stands for is another image by now, and its policy does not replace what runs.
    Recreation {
        /// Which.
        image: ImageReference,
        /// What the name stands for.
        digest: Digest,
    },
    /// The image is not here and `pull_policy: never` forbids to pull it.
    NeverPulled(ImageReference),
    /// A network that it joins is not up; it is being made, or put right, or will be.
    Network {
        /// Which.
        id: NetworkId,
        /// Its name.
        name: NetworkName,
        /// The network that has to go first: the two cannot be at once.
        after: Option<NetworkId>,
    },
    /// A network that it joins is external, and nobody defines it.
    NoNetwork(NetworkName),
    /// A path that it is given lies where something should be mounted and is not.
    Mount {
        /// The path.
        path: PathBuf,
        /// What should be a mount point.
        point: PathBuf,
        /// Who says so.
        why: String,
    },
    /// What one of its configs or secrets holds is known from its state file alone, and that does not say it now.
    Content {
        /// Which of the two.
        kind: FileKind,
        /// Its name.
        name: String,
    },
    /// It runs, and its first good check has not come.
    FirstCheck,
    /// It is unhealthy, or was when it was stopped.
    Unhealthy {
        /// What its last check said.
        said: String,
        /// What becomes of it.
        then: Unwell,
    },
    /// Whose network it shares does not run.
    NetworkOf {
        /// Whose, in words.
        whose: String,
        /// Whether there is such a container.
        here: bool,
    },
    /// A service that it comes after is not as far as it has to be.
    Dependency {
        /// Which, and how far it has to be.
        of: Dependency,
        /// What is missing.
        why: Lacking,
    },
    /// Nothing: it runs at set times, and the next one is not here yet.
    Time {
        /// The next one, as its clocks show it; none within nine years.
        next: Option<String>,
        /// Its times.
        times: String,
        /// How its last run ended.
        last: Option<ExitStatus>,
    },
    /// A container that goes too, and comes after it, has to end first.
    Dependents {
        /// Which.
        id: ContainerId,
        /// Its name.
        name: ContainerName,
    },
}

/// What becomes of a container that is unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwell {
    /// It is restarted after a pause.
    Restarts {
        /// How often it was, so far.
        so_far: u32,
    },
    /// It was stopped, and stays so.
    Stopped,
    /// It runs on.
    RunsOn,
}

/// One object that is not, or no longer, acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// What waits.
    pub slot: Slot,
    /// For what.
    pub on: WaitingOn,
    /// When it is looked at again by itself.
    pub until: Option<Timestamp>,
}

/// Something that no slot stands for, that failed and is tried again: a network, or the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upkeep {
    /// What is to be done.
    pub action: Action,
    /// How it failed.
    pub on: WaitingOn,
    /// When it is tried again.
    pub until: Timestamp,
}

/// The next steps, and what everything else waits for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// At most one for each key, none for a key that has one under way.
    pub steps: Vec<Step>,
    /// Everything that is not as it should be and gets no step now.
    pub waiting: Vec<Wait>,
    /// What failed and is tried again, beside the slots.
    pub upkeep: Vec<Upkeep>,
    /// When to plan again though nothing happened.
    pub wake_at: Option<Timestamp>,
    /// The disk is full, and nothing can be removed.
    pub crowded: Option<Crowded>,
    /// Containers that are being stopped, or were, to be started again on another network or with another file, and why.
    pub moving: BTreeMap<ContainerId, String>,
    /// Containers that are to be started anew after what they come after, and the runs of that which end.
    pub following: BTreeMap<ContainerId, Vec<Followed>>,
    /// Those of them that are unhealthy, or were.
    pub curing: BTreeSet<ContainerId>,
    /// Containers that are being stopped, or were, because they are unhealthy, and what their last check said: they stay so.
    pub given_up: BTreeMap<ContainerId, String>,
    /// How far each service is with the version that is asked for.
    pub rollouts: BTreeMap<(ProjectName, ServiceName), Rollout>,
    /// What was decided of services that run at set times. To be remembered, and planned anew with, before anything is done.
    pub jobs: Vec<JobStep>,
}

impl Plan {
    /// Not later than this.
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn wait(&mut self, slot: &Slot, on: WaitingOn, until: Option<Timestamp>) {
        if let Some(at) = until {
            self.wake(at);
        }
        self.waiting.push(Wait { slot: slot.clone(), on, until });
    }
}

/// Plans.
#[must_use]
pub fn plan(facts: &Facts<'_>) -> Plan {
    let mut planner = Planner::new(facts);
    let by_slot = containers_by_slot(facts.observed);
    let mut slots: Vec<Slot> = all_slots(facts.desired, &by_slot).into_iter().collect();
    slots.sort_by_key(|slot| planner.order.rank(slot));
    for slot in slots {
        let containers = by_slot.get(&slot).map_or(&[][..], Vec::as_slice);
        slot::plan_slot(&mut planner, &slot, containers);
    }
    tasks::plan(&mut planner);
    for (of, service) in &facts.desired.watched {
        images::watch(&mut planner, of, service);
    }
    order::note(&mut planner);
    networks::plan(&mut planner);
    collect::plan(&mut planner);
    planner.plan
}

fn containers_by_slot(observed: &Observed) -> BTreeMap<Slot, Vec<&ObservedContainer>> {
    let mut by_slot: BTreeMap<Slot, Vec<&ObservedContainer>> = BTreeMap::new();
    // One-offs fill no place.
    for container in observed.containers.values().filter(|c| c.spec.purpose.task().is_none()) {
        by_slot.entry(container.spec.slot.clone()).or_default().push(container);
    }
    by_slot
}

fn all_slots(desired: &Desired, seen: &BTreeMap<Slot, Vec<&ObservedContainer>>) -> BTreeSet<Slot> {
    let wanted = desired.projects.values().flat_map(|project| {
        project.services.values().flat_map(|service| {
            (1..=service.replicas).map(|number| Slot {
                project: project.name.clone(),
                service: service.name.clone(),
                number,
            })
        })
    });
    wanted.chain(seen.keys().cloned()).collect()
}

/// What is in the way of a step, and until when.
type Blocked = Box<(WaitingOn, Option<Timestamp>)>;

/// A plan in the making: where limits and retries are enforced, once for all rules.
struct Planner<'a> {
    facts: &'a Facts<'a>,
    networks: networks::Networks<'a>,
    order: order::Order<'a>,
    plan: Plan,
    pulls: usize,
    containers: usize,
}

impl<'a> Planner<'a> {
    fn new(facts: &'a Facts<'a>) -> Self {
        let pulls = facts.under_way.values().filter(|a| matches!(a, Action::Pull { .. })).count();
        let containers = facts.under_way.keys().filter(|key| matches!(key, Key::Container(_))).count();
        let order = order::Order::of(facts);
        let networks = networks::Networks::of(facts, &order);
        Self { facts, networks, order, plan: Plan::default(), pulls, containers }
    }

    fn wait(&mut self, slot: &Slot, on: WaitingOn, until: Option<Timestamp>) {
        self.plan.wait(slot, on, until);
    }

    /// Decides about a service that runs at set times.
    fn decide(&mut self, slot: &Slot, verdict: Verdict) {
        self.plan.jobs.push(JobStep { project: slot.project.clone(), service: slot.service.clone(), verdict });
    }

    /// Takes the step, or lets the slot wait for what is in its way.
    fn step(&mut self, slot: &Slot, action: Action, reason: String) {
        let pulled = match &action {
            Action::Pull { image, .. } => Some(WaitingOn::Image(image.clone())),
            _ => None,
        };
        let serves = pulled.is_none().then_some(slot);
        match self.attempt(serves, action, reason) {
            Ok(()) => pulled.into_iter().for_each(|on| self.wait(slot, on, None)),
            Err(blocked) => self.wait(slot, blocked.0, blocked.1),
        }
    }

    /// Takes the step, unless one is under way or planned for the same key, its last attempt failed too recently, or too much
    /// is under way: then that is the answer.
    fn attempt(&mut self, slot: Option<&Slot>, action: Action, reason: String) -> Result<(), Blocked> {
        let key = action.key();
        let same = self
            .facts
            .under_way
            .get(&key)
            .or_else(|| self.plan.steps.iter().map(|s| &s.action).find(|a| a.key() == key));
        if let Some(other) = same {
            let on = match other {
                Action::Pull { image, .. } => WaitingOn::Image(image.clone()),
                other => WaitingOn::Step(other.verb()),
            };
            return Err(Box::new((on, None)));
        }
        if let Some(failure) = self.facts.memory.failure(&action)
            && failure.retry_at > self.facts.now
        {
            let on = WaitingOn::Retry { verb: failure.verb, error: failure.error.clone(), attempts: failure.attempts };
            return Err(Box::new((on, Some(failure.retry_at))));
        }
        let room = match &action {
            Action::Pull { .. } => Some((&mut self.pulls, self.facts.limits.pulls)),
            // One at a time, which its rule sees to; or quickly done.
            Action::RemoveImage { .. } | Action::MakeNetwork { .. } | Action::RemoveNetwork { .. } | Action::Guard => {
                None
            }
            Action::Create { .. }
            | Action::Start { .. }
            | Action::Update { .. }
            | Action::Connect { .. }
            | Action::HoldPorts { .. }
            | Action::HandOver { .. }
            | Action::Stop { .. }
            | Action::Pause { .. }
            | Action::Unpause { .. }
            | Action::Remove { .. } => Some((&mut self.containers, self.facts.limits.containers)),
        };
        if let Some((count, limit)) = room {
            if *count >= limit {
                return Err(Box::new((WaitingOn::Turn, None)));
            }
            *count += 1;
        }
        self.plan.steps.push(Step { action, reason, slot: slot.cloned() });
        Ok(())
    }
}

/// Whether a container must not be joined by another one of the same slot.
fn may_run(container: &ObservedContainer, under_way: &BTreeMap<Key, Action>) -> bool {
    let starting = matches!(under_way.get(&Key::Container(container.spec.id.clone())), Some(Action::Start { .. }));
    starting || matches!(container.state, ContainerState::Running { .. } | ContainerState::Orphaned { .. })
}
