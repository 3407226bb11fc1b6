//! A toy host: images, containers and actions in flight, with every way in which the real one fails.
//!
//! It knows nothing of the planner's rules. What it checks when an action takes effect is what would hurt on a real machine:
//! two processes in one slot, a container removed while it runs, a start without an image.

use std::collections::{BTreeMap, BTreeSet};

use super::histories::toy_net::Net;
use super::histories::toy_order::{Ordered, note_renewals};
use super::histories::ward::Ward;
use super::histories::{toy_files, toy_jobs};
use super::{CollectPolicy, Desired, DiskUse, ImageFacts, Limits, Memory, Observed, Plan, Variant};
use crate::model::{
    Ability, Action, ContainerId, ContainerSpec, ContainerState, Digest, ExitStatus, ImageReference, Key, NetworkPlace,
    ObservedContainer, Platform, ProcessId, ProjectName, ServiceName, Timestamp,
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

/// An image that is here.
#[derive(Debug, Clone)]
pub(super) struct Here {
    pub(super) digest: Digest,
    /// Empty: the machine's.
    pub(super) platform: String,
    pub(super) asked: Timestamp,
    pub(super) used: Timestamp,
    pub(super) pinned: bool,
}

/// The disk has so many units, and each image takes this many of them.
const DISK: u64 = 1_000;
const IMAGE: u64 = 30;

pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) desired: Desired,
    /// What the machine lacks.
    pub(super) lacks: BTreeMap<Ability, String>,
    pub(super) images: BTreeMap<ImageReference, Here>,
    /// How often each tag was moved.
    tags: BTreeMap<ImageReference, u32>,
    pub(super) registry_up: bool,
    /// The records' times tell nothing.
    pub(super) clock_is_wrong: bool,
    /// Units of the disk that others use.
    pub(super) others_use: u64,
    pub(super) collect: CollectPolicy,
    /// Whether the upper mark was passed since the lower one was.
    pub(super) filled: bool,
    /// When the registry said last what an image is, as far as it can be known to the daemon that runs.
    pub(super) answered: BTreeMap<Variant, Timestamp>,
    /// When it was asked for that, by the daemon that runs.
    pub(super) heard: BTreeMap<Variant, Timestamp>,
    /// What each name stood for last, as far as it can be known to the daemon that runs.
    stood: BTreeMap<Variant, Digest>,
    pub(super) edited: BTreeMap<(ProjectName, ServiceName), Timestamp>,
    /// The last two images that each service ran.
    pub(super) ran: BTreeMap<(ProjectName, ServiceName), Vec<Digest>>,
    begun: BTreeMap<Key, Timestamp>,
    pub(super) containers: BTreeMap<ContainerId, ObservedContainer>,
    pub(super) under_way: BTreeMap<Key, Action>,
    pub(super) memory: Memory,
    pub(super) limits: Limits,
    pub(super) net: Net,
    pub(super) order: Ordered,
    pub(super) ward: Ward,
    /// Held still.
    pub(super) paused: BTreeSet<ContainerId>,
    /// Runs that are to be followed by another one, as far as the history knows.
    pub(super) asked: BTreeMap<ContainerId, Timestamp>,
    pub(super) jobs: toy_jobs::Jobs,
    /// How many processes were begun.
    processes: u64,
    /// How often each container took effect as started.
    pub(super) starts: BTreeMap<ContainerId, u32>,
    /// When an update that failed may be tried again, known apart from the planner's own memory.
    pub(super) update_after: BTreeMap<ContainerId, Timestamp>,
    /// Restarts that were reported as done, counted apart from the planner's own memory.
    pub(super) counted: BTreeMap<ContainerId, u32>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            now: Timestamp(1_000_000),
            desired: Desired::default(),
            lacks: BTreeMap::new(),
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
            registry_up: true,
            clock_is_wrong: false,
            others_use: 0,
            collect: CollectPolicy { enabled: true, start: 85, stop: 80, min_age_ms: 50_000 },
            filled: false,
            answered: BTreeMap::new(),
            heard: BTreeMap::new(),
            stood: BTreeMap::new(),
            edited: BTreeMap::new(),
            ran: BTreeMap::new(),
            begun: BTreeMap::new(),
            containers: BTreeMap::new(),
            under_way: BTreeMap::new(),
            memory: Memory::default(),
            limits: Limits { pulls: 2, containers: 5 },
            net: Net::default(),
            order: Ordered::default(),
            ward: Ward::default(),
            paused: BTreeSet::new(),
            asked: BTreeMap::new(),
            jobs: toy_jobs::Jobs::default(),
            processes: 0,
            starts: BTreeMap::new(),
            update_after: BTreeMap::new(),
            counted: BTreeMap::new(),
        }
    }

    pub(super) fn observed(&self) -> Observed {
        let facts = |here: &Here| ImageFacts {
            digest: here.digest.clone(),
            platform: here.platform.clone(),
            asked_ago_ms: (!self.clock_is_wrong).then(|| self.now.since(here.asked)),
            idle_ms: self.now.since(here.used),
            bytes: IMAGE,
            disk_bytes: IMAGE,
            pinned: here.pinned,
        };
        let digests: BTreeSet<&Digest> = self.images.values().map(|here| &here.digest).collect();
        let used = self.others_use + digests.len() as u64 * IMAGE;
        let (health, complaints) = self.ward.seen(&self.containers);
        Observed {
            health,
            complaints,
            hooks: BTreeMap::new(),
            images: self.images.iter().map(|(image, here)| (image.clone(), facts(here))).collect(),
            disk: Some(DiskUse { path: "/images".into(), total: DISK, used }),
            machine: String::new(),
            lacks: self.lacks.clone(),
            containers: self.containers.clone(),
            paused: self.paused.clone(),
            attached: self.net.attached.clone(),
            lost: self.net.lost.clone(),
            ports: BTreeMap::new(),
            networks: self.net.networks.clone(),
            firewall: self.net.firewall.clone(),
            mounts: super::MountTable::default(),
            wall: self.wall(),
        }
    }

    /// What the registry has under the name.
    pub(super) fn tag(&self, image: &ImageReference) -> Digest {
        let moves = self.tags.get(image).copied().unwrap_or(0);
        image.digest().cloned().unwrap_or_else(|| digest_of(&format!("{image}/{moves}")))
    }

    /// What a name stands for on this host, or stood for before it was pulled for another platform.
    pub(super) fn stands_for(&self, image: &ImageReference, platform: &str) -> Option<&Digest> {
        let named = self.images.get(image)?;
        let stood = || self.stood.get(&(image.clone(), platform.to_owned()));
        let digest = if named.platform == platform { Some(&named.digest) } else { stood() };
        digest.filter(|digest| self.images.values().any(|here| here.digest == **digest))
    }

    pub(super) fn tag_moves(&mut self, image: &ImageReference) {
        *self.tags.entry(image.clone()).or_default() += 1;
    }

    /// By hand: the loop learns of it from the record alone.
    pub(super) fn somebody_pulls(&mut self, image: &ImageReference) {
        if self.registry_up && !self.under_way.contains_key(&Key::Image(image.clone())) {
            self.pulled(image, None);
        }
    }

    fn pulled(&mut self, image: &ImageReference, platform: Option<&Platform>) {
        let of = platform.map_or_else(String::new, ToString::to_string);
        let tag = self.tag(image);
        let digest = if of.is_empty() { tag } else { digest_of(&format!("{tag}/{of}")) };
        let now = self.now;
        let new = Here { digest: digest.clone(), platform: of.clone(), asked: now, used: now, pinned: false };
        let before = self.images.insert(image.clone(), new);
        if let Some(before) = before.filter(|before| before.digest != digest) {
            let name = format!("{}/{}@{}", image.registry(), image.repository(), before.digest);
            self.images.insert(ImageReference::parse(&name).unwrap(), before);
        }
        if !self.clock_is_wrong {
            self.answered.insert((image.clone(), of), now);
        }
    }

    /// Somebody removes what no container uses.
    pub(super) fn images_are_lost(&mut self) {
        let in_use: BTreeSet<_> = self.containers.values().flat_map(|c| c.spec.manifests()).cloned().collect();
        self.images.retain(|_, here| in_use.contains(&here.digest));
    }

    /// The machine was started with something else, or without it.
    pub(super) fn machine_changes(&mut self, chance: &mut Chance) {
        let ability = [Ability::Memory, Ability::Swap][chance.below(2)];
        if self.lacks.remove(&ability).is_none() {
            self.lacks.insert(ability, "the kernel has it not".to_owned());
        }
    }

    /// The files were read, and something is no longer in them.
    pub(super) fn forget(&mut self) {
        for of in self.memory.forget(&self.desired, &self.observed()) {
            self.ran.remove(&of);
        }
    }

    /// Looks, plans, and puts the steps under way.
    pub(super) fn step(&mut self) -> Plan {
        let observed = self.observed();
        self.memory.notice_ends(observed.containers.values(), self.now);
        self.memory.notice_images(&observed, self.now);
        self.memory.notice_health(&observed, self.now);
        for (image, here) in &self.images {
            self.stood.insert((image.clone(), here.platform.clone()), here.digest.clone());
        }
        self.memory.notice_disk(observed.disk.as_ref(), self.collect);
        if !self.clock_is_wrong {
            for (image, here) in &self.images {
                let answered = self.answered.entry((image.clone(), here.platform.clone())).or_insert(here.asked);
                *answered = here.asked.max(*answered);
            }
        }
        let percent = observed.disk.as_ref().unwrap().percent();
        self.filled = percent >= 85 || self.filled && percent >= 80;
        super::histories::notice_hands(self);
        let plan = toy_jobs::planned(self, &observed);
        toy_jobs::check_plan(self, &plan);
        super::histories::check_plan(self, &observed, &plan);
        let moves = super::histories::note_moves(self, &observed, &plan);
        self.net.moved.extend(moves);
        note_renewals(self, &plan);
        super::histories::ward::note(self, &observed, &plan);
        self.memory.notice_moves(&plan, self.now);
        for step in &plan.steps {
            self.under_way.insert(step.action.key(), step.action.clone());
            self.begun.insert(step.action.key(), self.now);
        }
        plan
    }

    /// Ends one action that is under way: with its effect and success, with neither, or with its effect and an error.
    pub(super) fn finish(&mut self, key: &Key, outcome: Outcome) {
        let Some(action) = self.under_way.remove(key) else { return };
        let before = match key {
            Key::Container(id) => self.containers.get(id).map(|c| c.state.clone()),
            Key::Image(_) | Key::Network(_) | Key::Firewall => None,
        };
        let possible = match outcome {
            Outcome::Fails => Err("it failed".to_owned()),
            Outcome::Succeeds | Outcome::FailsAfterEffect => self.effect(&action),
        };
        if let (Ok(()), Outcome::Succeeds, Action::Start { spec, .. }) = (&possible, outcome, &action) {
            let moved = self.net.moved.remove(&spec.id) | self.ward.curing.remove(&spec.id);
            let again = matches!(before, Some(ContainerState::Exited { .. })) && !moved;
            *self.counted.entry(spec.id.clone()).or_default() += u32::from(again);
        }
        if let (Err(_), Action::Start { spec, .. }) = (&possible, &action) {
            self.fail_start(&spec.id);
        }
        match (possible, outcome) {
            (Ok(()), Outcome::Succeeds) => self.report(&action, before.as_ref()),
            (Ok(()), _) => self.memory.failed(&action, "it failed after it was done".to_owned(), None, self.now),
            (Err(error), _) => self.memory.failed(&action, error, None, self.now),
        }
        if let Action::Update { spec } = &action {
            // The shortest pause that there is.
            let after = if outcome == Outcome::Succeeds { self.now } else { self.now.plus_ms(1_000) };
            self.update_after.insert(spec.id.clone(), after);
        }
    }

    fn report(&mut self, action: &Action, before: Option<&ContainerState>) {
        let begun = self.begun[&action.key()];
        if let Action::Pull { image, platform, .. } = action {
            let variant = (image.clone(), platform.as_ref().map_or_else(String::new, ToString::to_string));
            self.answered.insert(variant.clone(), self.now);
            self.heard.insert(variant, begun);
        }
        if let Action::Start { spec, .. } = action {
            let ran = self.ran.entry((spec.slot.project.clone(), spec.slot.service.clone())).or_default();
            if ran.first() != Some(&spec.image_digest) {
                ran.retain(|digest| *digest != spec.image_digest);
                ran.insert(0, spec.image_digest.clone());
                ran.truncate(2);
            }
        }
        self.memory.succeeded(action, before, begun, self.now);
    }

    fn effect(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Pull { image, platform, .. } => {
                if !self.registry_up {
                    return Err("the registry is down".to_owned());
                }
                self.pulled(image, platform.as_ref());
            }
            Action::Create { spec } => {
                if !spec.manifests().all(|digest| self.images.values().any(|here| here.digest == *digest)) {
                    return Err("the image is gone".to_owned());
                }
                let made = ObservedContainer { spec: recorded(spec), state: ContainerState::Created };
                self.containers.entry(spec.id.clone()).or_insert(made);
            }
            Action::RemoveImage { image, digest } => {
                let used = self.containers.values().any(|c| c.spec.manifests().any(|needed| needed == digest));
                assert!(!used, "{image} was removed while a container needed it");
                if self.images.get(image).is_some_and(|here| here.digest == *digest) {
                    self.images.remove(image);
                }
            }
            Action::Start { spec, network } => {
                self.start(&spec.id, network)?;
                if let Some(container) = self.containers.get_mut(&spec.id) {
                    container.spec.service.files = toy_files::recorded(&spec.service.files);
                }
            }
            Action::MakeNetwork { network } => self.net.make(network)?,
            Action::RemoveNetwork { id } => self.net.remove(id, &self.containers),
            Action::Connect { spec } => self.net.connect(&spec.id)?,
            Action::Guard => self.net.firewall = None,
            Action::HoldPorts { .. } | Action::HandOver { .. } => {}
            Action::Update { spec } => {
                if let Some(container) = self.containers.get_mut(&spec.id) {
                    container.spec = recorded(spec);
                }
            }
            Action::Stop { id, .. } => {
                self.ward.stopped(id, self.now);
                self.end(id, ExitStatus::Signal(15));
            }
            Action::Pause { id } => {
                let runs = self.containers.get(id).is_some_and(|c| c.state.alive());
                if !runs {
                    return Err("it does not run".to_owned());
                }
                self.paused.insert(id.clone());
            }
            Action::Unpause { id } => drop(self.paused.remove(id)),
            Action::Remove { id } => {
                let alive = self.containers.get(id).is_some_and(|c| c.state.alive());
                assert!(!alive, "{id} was removed while it ran");
                self.containers.remove(id);
                self.net.forget(id);
                self.starts.remove(id);
                self.counted.remove(id);
                self.update_after.remove(id);
            }
        }
        Ok(())
    }

    fn start(&mut self, id: &ContainerId, place: &NetworkPlace) -> Result<(), String> {
        let Some(container) = self.containers.get(id) else { return Err("it was never made".to_owned()) };
        if matches!(container.state, ContainerState::Running { .. }) {
            return Ok(());
        }
        let slot = container.spec.slot.clone();
        let other = self.containers.values().find(|c| c.spec.slot == slot && c.state.alive());
        assert!(other.is_none() || container.spec.purpose.task().is_some(), "two processes in slot {slot}");
        self.net.attach(id, place, &self.containers)?;
        self.ward.started(id);
        // No two runs of a container begin at the same moment.
        if super::begun(&self.containers[id].state) == Some(self.wall_of(id)) {
            self.now = self.now.plus_ms(1);
        }
        let since = self.wall_of(id);
        toy_jobs::started(self, &self.containers[id].spec.clone());
        if let Some(container) = self.containers.get_mut(id) {
            self.processes += 1;
            let process = ProcessId { pid: 1, start_ticks: self.processes };
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

    /// The daemon is killed: what was under way is done or not, and what it remembered is lost.
    pub(super) fn daemon_restarts(&mut self, chance: &mut Chance) {
        for (_, action) in std::mem::take(&mut self.under_way) {
            if chance.one_in(2) {
                // A failed effect changes nothing; nobody is left who could be told.
                let _unheard = self.effect(&action);
            }
        }
        self.daemon_forgets(chance.one_in(3));
    }

    /// Power is lost: no process is left, and nothing is under way.
    pub(super) fn reboots(&mut self) {
        self.under_way.clear();
        self.daemon_forgets(false);
        self.net.reboots();
        self.paused.clear();
        let at = self.now;
        for container in self.containers.values_mut() {
            let started = match container.state {
                ContainerState::Running { since, .. } => since,
                ContainerState::Orphaned { started } => started,
                ContainerState::Created | ContainerState::Exited { .. } | ContainerState::StartFailed { .. } => {
                    continue;
                }
            };
            let at = at.max(started);
            container.state = ContainerState::Exited { status: ExitStatus::MachineStopped, started, at };
        }
    }

    /// Generations are in the database, the last answers in the images' records.
    fn daemon_forgets(&mut self, lost: bool) {
        let jobs = toy_jobs::forget(self, lost);
        let generations = std::mem::take(&mut self.memory.generations);
        self.memory = Memory { generations, jobs, ..Memory::default() };
        self.counted.clear();
        self.net.moved.clear();
        self.order.owes.clear();
        self.ward.daemon_forgets();
        self.update_after.clear();
        self.answered.clear();
        self.heard.clear();
        self.stood.clear();
        self.edited.clear();
        self.filled = false;
    }
}

/// What comes back from a container's record: what is only told of a service is not in it.
fn recorded(spec: &ContainerSpec) -> ContainerSpec {
    let mut spec = spec.clone();
    (spec.service.holds, spec.service.wishes, spec.service.loosenings) = Default::default();
    spec.service.files = toy_files::recorded(&spec.service.files);
    spec
}

/// How an action ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeds,
    Fails,
    FailsAfterEffect,
}

fn digest_of(text: &str) -> Digest {
    let hash = crate::model::SpecHash::of(text.as_bytes());
    Digest::parse(&format!("sha256:{hash}")).unwrap()
}
