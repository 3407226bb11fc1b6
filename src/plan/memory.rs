//! What the planner has to know of the past: failed attempts, restarts, when an image was asked for.
//!
//! The reconciler keeps it; losing it costs waiting time and counters, never a container.

use std::collections::{BTreeMap, BTreeSet};

use super::backoff::failure_delay_ms;
use super::{AskedTask, CollectPolicy, Cures, Desired, DiskUse, Followed, Job, Observed, Plan, SetAside};
use crate::model::{
    Action, ContainerId, ContainerState, Digest, Health, ImageReference, Key, NetworkId, ObservedContainer,
    ProjectName, Service, ServiceName, Slot, Timestamp,
};

/// The last failure of an action on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What failed.
    pub verb: &'static str,
    /// Why.
    pub error: String,
    /// How often in a row.
    pub attempts: u32,
    /// When it failed last.
    pub at: Timestamp,
    /// When it may be tried again.
    pub retry_at: Timestamp,
}

/// How often a container was started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restarts {
    /// Since it was made, or started by hand.
    pub total: u32,
    /// In a row, with no long run between.
    pub streak: u32,
}

/// What happened before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// Failed attempts by key.
    pub failures: BTreeMap<Key, Failure>,
    /// Failed updates by container, apart from what else fails with it: neither makes the other one forget its back-off.
    pub updates: BTreeMap<ContainerId, Failure>,
    /// Failed repairs of links by container, likewise.
    pub connects: BTreeMap<ContainerId, Failure>,
    /// Containers that are stopped to be started on another network, and why.
    pub moving: BTreeMap<ContainerId, String>,
    /// Containers that are to be started anew after what they come after.
    pub following: BTreeMap<ContainerId, Vec<Followed>>,
    /// Those of them that are unhealthy, or were.
    pub curing: BTreeSet<ContainerId>,
    /// How often they were.
    pub cures: BTreeMap<ContainerId, Cures>,
    /// Containers that are stopped because they were unhealthy, and what their last check said.
    pub given_up: BTreeMap<ContainerId, String>,
    /// Restarts by container.
    pub restarts: BTreeMap<ContainerId, Restarts>,
    /// When the end of a container was noticed, on the planner's own clock.
    pub ends: BTreeMap<ContainerId, Timestamp>,
    /// When the registry last said what an image is, on the planner's own clock, by whomever it was asked.
    pub asked: BTreeMap<Variant, Timestamp>,
    /// When the question was put that the registry answered last, of those that the planner put since it runs.
    pub heard: BTreeMap<Variant, Timestamp>,
    /// What a name stood for when it was seen last. One name has one record, and services may want it for two platforms.
    pub meant: BTreeMap<Variant, Digest>,
    /// The platform that is meant where a file names none.
    pub machine: String,
    /// When the file of a service came into force, of those that did since the planner runs.
    pub edited: BTreeMap<(ProjectName, ServiceName), Timestamp>,
    /// Services that run at set times.
    pub jobs: BTreeMap<(ProjectName, ServiceName), Job>,
    /// One-offs that were asked for since the planner runs.
    pub tasks: BTreeMap<ContainerId, AskedTask>,
    /// One-offs that are to end and to go, kept ones too.
    pub discarded: BTreeSet<ContainerId>,
    /// Since when each run goes on, on the planner's own clock.
    pub runs_since: BTreeMap<ContainerId, Timestamp>,
    /// The manifests that each service ran last, the newest first.
    pub generations: BTreeMap<(ProjectName, ServiceName), Vec<Digest>>,
    /// The manifests of the generations that a service can go back to.
    pub good: BTreeMap<(ProjectName, ServiceName), Vec<Digest>>,
    /// Versions that are set aside.
    pub set_aside: BTreeMap<(ProjectName, ServiceName), SetAside>,
    /// Whether images are being removed because the disk is full.
    pub collecting: bool,
}

/// An image for one platform.
pub type Variant = (ImageReference, String);

/// So many manifests of each service are kept: what it runs, and what it ran before.
const GENERATIONS: usize = 2;

impl Memory {
    /// Notes an end that was just seen, or seen at start, and forgets those that are over.
    pub fn notice_ends<'a>(&mut self, containers: impl Iterator<Item = &'a ObservedContainer>, now: Timestamp) {
        let mut ends = BTreeMap::new();
        for container in containers {
            if let ContainerState::Exited { .. } = container.state {
                let id = &container.spec.id;
                ends.insert(id.clone(), self.ends.get(id).copied().unwrap_or(now));
            }
        }
        self.ends = ends;
    }

    /// Takes in how old the images' records say that they are: what was asked before the planner ran, or by somebody else.
    /// The records' clock may be wrong and jump: an answer is never taken for older than it was known to be.
    pub fn notice_images(&mut self, observed: &Observed, now: Timestamp) {
        self.machine.clone_from(&observed.machine);
        for (image, facts) in &observed.images {
            let variant = (image.clone(), facts.platform.clone());
            self.meant.insert(variant.clone(), facts.digest.clone());
            let Some(ago) = facts.asked_ago_ms else { continue };
            let at = Timestamp(now.millis().saturating_sub(ago));
            let asked = self.asked.entry(variant).or_insert(at);
            *asked = at.max(*asked);
            // Somebody else was answered since.
            let key = Key::Image(image.clone());
            if self.failures.get(&key).is_some_and(|failure| failure.at < at) {
                self.failures.remove(&key);
            }
        }
    }

    /// Keeps in mind who was stopped only to be started on another network, or because it is unhealthy.
    /// A restart for health counts once it is begun: one whose end nobody hears of counts too.
    pub fn notice_moves(&mut self, plan: &Plan, now: Timestamp) {
        for id in plan.curing.difference(&self.curing) {
            self.cures.entry(id.clone()).or_default().note(now);
        }
        self.moving.clone_from(&plan.moving);
        self.following.clone_from(&plan.following);
        self.curing.clone_from(&plan.curing);
        self.given_up.clone_from(&plan.given_up);
    }

    /// Who is healthy for long has got over what it was restarted for.
    pub fn notice_health(&mut self, observed: &Observed, now: Timestamp) {
        for (id, health) in &observed.health {
            if let (Health::Healthy, Some(cures)) = (health, self.cures.get_mut(id)) {
                cures.healthy(now);
            }
        }
    }

    /// Begins to remove images above one mark, and goes on until the other.
    pub fn notice_disk(&mut self, disk: Option<&DiskUse>, policy: CollectPolicy) {
        let percent = disk.map_or(0, DiskUse::percent);
        let above = if self.collecting { policy.stop.min(policy.start) } else { policy.start };
        self.collecting = policy.enabled && percent >= u64::from(above);
    }

    /// Forgets services and images that are neither wanted nor here. Returns the services whose generations went.
    pub fn forget(&mut self, desired: &Desired, observed: &Observed) -> Vec<(ProjectName, ServiceName)> {
        let wanted = |(project, service): &(ProjectName, ServiceName)| {
            let by_file = desired.projects.get(project).is_some_and(|p| p.services.contains_key(service));
            by_file || desired.kept.contains(project)
        };
        let here = |of: &(ProjectName, ServiceName)| {
            observed.containers.values().any(|c| c.spec.slot.project == of.0 && c.spec.slot.service == of.1)
        };
        self.edited.retain(|of, _| wanted(of));
        self.updates.retain(|id, _| observed.containers.contains_key(id));
        self.connects.retain(|id, _| observed.containers.contains_key(id));
        let defined: BTreeSet<NetworkId> =
            desired.projects.values().flat_map(|p| p.networks.values()).map(NetworkId::derive).collect();
        self.failures.retain(|key, _| match key {
            Key::Network(id) => observed.networks.contains_key(id) || defined.contains(id),
            Key::Image(_) | Key::Container(_) | Key::Firewall => true,
        });
        let gone: Vec<_> = self.generations.keys().filter(|of| !wanted(of) && !here(of)).cloned().collect();
        self.generations.retain(|of, _| !gone.contains(of));
        let services = desired.projects.values().flat_map(|p| p.services.values());
        let named: BTreeSet<&ImageReference> = services.flat_map(Service::images).collect();
        let known = |image: &ImageReference| observed.images.contains_key(image) || named.contains(image);
        self.asked.retain(|(image, _), _| known(image));
        self.heard.retain(|(image, _), _| known(image));
        self.meant.retain(|(image, _), _| known(image));
        gone
    }

    /// Whether the registry answered since the service's file came into force and the planner runs.
    pub(super) fn heard(&self, slot: &Slot, variant: &Variant) -> bool {
        let edited = self.edited.get(&(slot.project.clone(), slot.service.clone()));
        self.heard.get(variant).is_some_and(|heard| edited.is_none_or(|edited| heard >= edited))
    }

    /// An action that was begun then succeeded. `before` is the container as it was seen before a start.
    pub fn succeeded(&mut self, action: &Action, before: Option<&ContainerState>, begun: Timestamp, now: Timestamp) {
        match action {
            Action::Update { spec } => drop(self.updates.remove(&spec.id)),
            Action::Connect { spec } => drop(self.connects.remove(&spec.id)),
            other => drop(self.failures.remove(&other.key())),
        }
        match action {
            Action::Pull { image, platform, .. } => {
                let variant =
                    (image.clone(), platform.as_ref().map_or_else(|| self.machine.clone(), ToString::to_string));
                self.asked.insert(variant.clone(), now);
                self.heard.insert(variant, begun);
            }
            Action::Start { spec, .. } => {
                let moved = self.moving.remove(&spec.id).is_some();
                if let Some(ContainerState::Exited { started, at, .. }) = before
                    && !moved
                {
                    let restarts = self.restarts.entry(spec.id.clone()).or_default();
                    let streak = spec.service.pace.streak(restarts.streak, at.since(*started));
                    restarts.streak = streak.saturating_add(1);
                    restarts.total = restarts.total.saturating_add(1);
                }
                self.curing.remove(&spec.id);
                self.given_up.remove(&spec.id);
                self.ends.remove(&spec.id);
                self.ran(&spec.slot, &spec.image_digest);
            }
            Action::Remove { id } => {
                self.restarts.remove(id);
                self.cures.remove(id);
                self.curing.remove(id);
                self.given_up.remove(id);
                self.ends.remove(id);
                self.updates.remove(id);
                self.connects.remove(id);
            }
            Action::Create { .. }
            | Action::Update { .. }
            | Action::Stop { .. }
            | Action::Pause { .. }
            | Action::Unpause { .. }
            | Action::RemoveImage { .. }
            | Action::MakeNetwork { .. }
            | Action::RemoveNetwork { .. }
            | Action::Connect { .. }
            | Action::HoldPorts { .. }
            | Action::HandOver { .. }
            | Action::Guard => {}
        }
    }

    /// What runs is the newest generation.
    fn ran(&mut self, slot: &Slot, digest: &Digest) {
        let generations = self.generations.entry((slot.project.clone(), slot.service.clone())).or_default();
        generations.retain(|known| known != digest);
        generations.insert(0, digest.clone());
        generations.truncate(GENERATIONS);
    }

    /// An action failed; it may be tried again after the back-off, or after `at_least_ms` where that is longer.
    pub fn failed(&mut self, action: &Action, error: String, at_least_ms: Option<u64>, now: Timestamp) {
        let key = action.key();
        let attempts = self.failure(action).map_or(0, |f| f.attempts).saturating_add(1);
        let delay = failure_delay_ms(&key, attempts, now).max(at_least_ms.unwrap_or(0));
        let failure = Failure { verb: action.verb(), error, attempts, at: now, retry_at: now.plus_ms(delay) };
        match action {
            Action::Update { spec } => drop(self.updates.insert(spec.id.clone(), failure)),
            Action::Connect { spec } => drop(self.connects.insert(spec.id.clone(), failure)),
            Action::Pull { .. }
            | Action::Create { .. }
            | Action::Start { .. }
            | Action::Stop { .. }
            | Action::Pause { .. }
            | Action::Unpause { .. }
            | Action::Remove { .. }
            | Action::RemoveImage { .. }
            | Action::MakeNetwork { .. }
            | Action::RemoveNetwork { .. }
            | Action::HoldPorts { .. }
            | Action::HandOver { .. }
            | Action::Guard => drop(self.failures.insert(key, failure)),
        }
    }

    /// How this action failed last, if the last thing that failed with what it is about was the same.
    #[must_use]
    pub fn failure(&self, action: &Action) -> Option<&Failure> {
        match action {
            Action::Update { spec } => self.updates.get(&spec.id),
            Action::Connect { spec } => self.connects.get(&spec.id),
            other => self.failures.get(&other.key()).filter(|failure| failure.verb == other.verb()),
        }
    }

    /// The owner wants a container to run again: what was given up for it is forgotten. Whether there was something.
    pub fn forgive(&mut self, id: &ContainerId) -> bool {
        self.restarts.remove(id).is_some_and(|restarts| restarts != Restarts::default())
    }

    /// The owner did something: what failed may be tried at once.
    pub fn retry_now(&mut self) {
        self.failures.clear();
        self.updates.clear();
        self.connects.clear();
    }
}
