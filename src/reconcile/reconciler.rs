//! The reconciler: owns what is in force, what is remembered and what is under way. It is told the time and does nothing itself.

use std::collections::{BTreeMap, BTreeSet};

use super::by_hand::{Override, ServiceKey};
use super::chronicle::Chronicle;
use super::generations::Generations;
use super::host::{ActionError, Change, Transfer};
use super::images::Pulled;
use super::kinds::{done_kind, failed_kind, wait_kind};
use super::ledger::{Changes, Ledger};
use super::view::Event;
use crate::model::{
    Action, ContainerId, ContainerState, ImageReference, Key, Location, Problem, ProjectName, Service, ServiceName,
    Severity, Slot, Timestamp,
};
use crate::plan::{self, CollectPolicy, Desired, Limits, Memory, Observed, Plan, Step};
use crate::source::Look;

/// An action under way.
#[derive(Debug, Clone)]
pub(super) struct UnderWay {
    pub(super) action: Action,
    pub(super) reason: String,
    pub(super) since: Timestamp,
    /// The container as it was seen before the action.
    before: Option<ContainerState>,
    /// What it is about, by the name that it had when it began.
    pub(super) what: String,
    /// Whose container it is about.
    pub(super) slot: Option<Slot>,
}

impl UnderWay {
    pub(super) const fn before(&self) -> Option<&ContainerState> {
        self.before.as_ref()
    }
}

/// What follows from something that was noted.
#[derive(Debug, Default)]
pub struct Noted {
    /// To be brought to disk.
    pub records: Vec<Change>,
    /// To be told.
    pub events: Vec<Event>,
    /// What a look changed.
    pub changes: Changes,
}

/// Decides.
#[derive(Debug)]
pub struct Reconciler {
    pub(super) ledger: Ledger,
    pub(super) memory: Memory,
    pub(super) desired: Desired,
    /// What services cannot join, and what they cannot come after.
    pub(super) unjoined: BTreeMap<(ProjectName, ServiceName), Vec<Problem>>,
    /// What was asked by hand.
    pub(super) overrides: BTreeMap<ServiceKey, Override>,
    pub(super) observed: Observed,
    pub(super) plan: Plan,
    pub(super) under_way: BTreeMap<Key, UnderWay>,
    pub(super) reasons: BTreeMap<ContainerId, String>,
    /// Since when a slot waits for the same thing.
    pub(super) waiting_since: BTreeMap<(Slot, String), Timestamp>,
    pub(super) absent: bool,
    pub(super) ready: bool,
    /// Pulls that ended since the host was seen last.
    pub(super) pulled: BTreeMap<ImageReference, Pulled>,
    /// Images that were removed since the host was seen last.
    pub(super) removed: BTreeSet<ImageReference>,
    /// How far the pulls are, and when that was.
    pub(super) transfers: (BTreeMap<ImageReference, Transfer>, Timestamp),
    /// When the progress of a pull was told last.
    pub(super) progress_told: BTreeMap<ImageReference, Timestamp>,
    pub(super) host_seen: bool,
    pub(super) chronicle: Chronicle,
    pub(super) generations: Generations,
    limits: Limits,
    collect: CollectPolicy,
    crowded_told: bool,
    told: BTreeSet<Problem>,
    held_told: Option<String>,
    events: u64,
}

impl Reconciler {
    /// With what was remembered.
    #[must_use]
    pub fn new(ledger: Ledger, memory: Memory, reasons: BTreeMap<ContainerId, String>, limits: Limits) -> Self {
        Self {
            ledger,
            memory,
            desired: Desired::default(),
            unjoined: BTreeMap::new(),
            overrides: BTreeMap::new(),
            observed: Observed::default(),
            plan: Plan::default(),
            under_way: BTreeMap::new(),
            reasons,
            waiting_since: BTreeMap::new(),
            absent: false,
            ready: false,
            pulled: BTreeMap::new(),
            removed: BTreeSet::new(),
            transfers: Default::default(),
            progress_told: BTreeMap::new(),
            host_seen: false,
            chronicle: Chronicle::default(),
            generations: Generations::default(),
            limits,
            collect: CollectPolicy::default(),
            crowded_told: false,
            told: BTreeSet::new(),
            held_told: None,
            events: 0,
        }
    }

    /// With another rule for the removal of images.
    #[must_use]
    pub fn collecting(self, collect: CollectPolicy) -> Self {
        Self { collect, ..self }
    }

    /// With the generations that were remembered.
    #[must_use]
    pub fn going_back(self, generations: Generations) -> Self {
        Self { generations, ..self }
    }

    /// The folder was looked at.
    pub fn looked(&mut self, look: &Look, now: Timestamp) -> Noted {
        let changes = self.ledger.absorb(look, now);
        self.absent = changes.look_again || changes.writing;
        let mut noted = Noted::default();
        for path in &changes.applied {
            let Some(good) = self.ledger.good(path) else { continue };
            let services = good.document.project.services.keys();
            let edited = services.map(|service| ((good.document.project.name.clone(), service.clone()), now));
            self.memory.edited.extend(edited);
            let project = good.document.project.name.to_string();
            let source = good.source.clone();
            noted.records.push(Change::Good { path: path.clone(), project: project.clone(), source });
            let message = format!("project {project} is in force");
            noted.events.push(self.event(now, "file.applied", path.display().to_string(), message));
        }
        for path in &changes.removed {
            noted.records.push(Change::Gone(path.clone()));
            let message = "the file is gone; what it made is removed".to_owned();
            noted.events.push(self.event(now, "file.removed", path.display().to_string(), message));
        }
        if !(changes.applied.is_empty() && changes.removed.is_empty()) {
            // Who edits a file wants to see now whether it works: what failed is tried at once.
            self.memory.retry_now();
        }
        self.release_edited(now, &mut noted);
        self.refresh_desired();
        self.release_others(now, &mut noted);
        self.note_edits(&changes, now);
        self.forget(&mut noted);
        self.tell_problems(now, &mut noted);
        self.ready = true;
        noted.changes = changes;
        noted
    }

    /// A service is forgotten once it is in no file and its last container is gone: its images may go then.
    fn forget(&mut self, noted: &mut Noted) {
        let mut gone = self.memory.forget(&self.desired, &self.observed);
        gone.extend(self.unknown_books());
        for key in gone {
            self.generations.forget(&key);
        }
        self.forget_jobs(noted);
    }

    /// Each problem is told once, not once a look.
    pub(super) fn tell_problems(&mut self, now: Timestamp, noted: &mut Noted) {
        let problems: BTreeSet<Problem> = self.ledger.problems().into_iter().chain(self.service_problems()).collect();
        for problem in problems.difference(&self.told.clone()) {
            let mut event = self.event(now, "file.problem", problem.location.to_string(), problem.to_string());
            event.location = Some(problem.location.clone());
            noted.events.push(event);
        }
        self.told = problems;
        let held = self.ledger.held().map(|held| held.reason.clone());
        if held != self.held_told {
            let (kind, message) = match &held {
                Some(reason) => ("folder.held", reason.clone()),
                None => ("folder.followed", "the state folder is followed again".to_owned()),
            };
            noted.events.push(self.event(now, kind, "state folder".to_owned(), message));
            self.held_told = held;
        }
    }

    /// What holds services, or what they run without: by the file, or because the machine lacks it.
    fn service_problems(&self) -> Vec<Problem> {
        let all = self.desired.projects.values().flat_map(|p| p.services.values().map(|service| (&p.name, service)));
        all.flat_map(|(project, s)| self.holds_of(project, s).into_iter().chain(self.missed_by(s))).collect()
    }

    /// Why a service is not started.
    pub(super) fn holds_of(&self, project: &ProjectName, service: &Service) -> Vec<Problem> {
        let lacking = plan::unmet(service, &self.observed.lacks).into_iter().filter(|p| p.severity == Severity::Held);
        let unjoined = self.unjoined.get(&(project.clone(), service.name.clone())).into_iter().flatten().cloned();
        service.holds.iter().map(|hold| hold.problem.clone()).chain(lacking).chain(unjoined).collect()
    }

    /// What a service runs without.
    fn missed_by(&self, service: &Service) -> Vec<Problem> {
        plan::unmet(service, &self.observed.lacks).into_iter().filter(|p| p.severity == Severity::Warning).collect()
    }

    /// Everything that is wrong with the files, holds included, errors first.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut all = self.ledger.problems();
        all.extend(self.service_problems());
        all.extend(self.crowded_problem());
        all.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.location.cmp(&b.location)));
        all
    }

    pub(super) const fn limits(&self) -> (Limits, CollectPolicy) {
        (self.limits, self.collect)
    }

    /// What should be, as far as the files say.
    #[must_use]
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// The owner confirms what the fuse holds.
    pub fn confirm(&mut self) -> Result<(), String> {
        self.ledger.confirm()
    }

    /// Takes in what is, plans, and puts the steps under way; the caller performs them.
    pub fn step(&mut self, observed: Observed, now: Timestamp) -> (Vec<Step>, Noted) {
        let mut noted = Noted::default();
        self.tell_ends(&observed, now, &mut noted);
        self.tell_images(&observed, now, &mut noted);
        self.tell_health(&observed, now, &mut noted);
        self.tell_hooks(&observed, now, &mut noted);
        self.memory.notice_ends(observed.containers.values(), now);
        self.memory.notice_images(&observed, now);
        self.memory.notice_health(&observed, now);
        self.memory.notice_disk(observed.disk.as_ref(), self.collect);
        self.host_seen = true;
        let machine_changed = self.observed.lacks != observed.lacks;
        self.observed = observed;
        if machine_changed && self.ready {
            self.tell_problems(now, &mut noted);
        }
        if self.ready {
            self.notice_runs(&mut noted);
            self.forget(&mut noted);
            self.release_others(now, &mut noted);
        }
        let mut plan = self.planned(now, &mut noted);
        self.memory.notice_moves(&plan, now);
        let steps = std::mem::take(&mut plan.steps);
        for step in &steps {
            self.begin(step, now);
        }
        self.plan = plan;
        self.note_generations(now, &mut noted);
        self.note_waits(now);
        self.note_waits_of_ends();
        self.tell_crowded(now, &mut noted);
        (steps, noted)
    }

    fn begin(&mut self, step: &Step, now: Timestamp) {
        let key = step.action.key();
        let before = match &key {
            Key::Container(id) => {
                self.reasons.insert(id.clone(), format!("{}: {}", step.action.verb(), step.reason));
                self.observed.containers.get(id).map(|c| c.state.clone())
            }
            Key::Image(_) | Key::Network(_) | Key::Firewall => None,
        };
        let (action, reason) = (step.action.clone(), step.reason.clone());
        let (what, slot) = (self.name_of(&action), self.slot_of(&action));
        self.under_way.insert(key, UnderWay { action, reason, since: now, before, what, slot });
    }

    fn tell_ends(&mut self, observed: &Observed, now: Timestamp, noted: &mut Noted) {
        for (id, container) in &observed.containers {
            let before = self.observed.containers.get(id).map(|c| c.state.clone());
            self.note_end(container, before.as_ref());
            let name = container.spec.name.to_string();
            match &container.state {
                ContainerState::Exited { status, .. }
                    if !matches!(before, Some(ContainerState::Exited { .. }) | None) =>
                {
                    noted.events.push(self.event(
                        now,
                        "container.exited",
                        name,
                        status.told(container.spec.service.resources.memory),
                    ));
                }
                ContainerState::Orphaned { .. } if !matches!(before, Some(ContainerState::Orphaned { .. })) => {
                    let message = "its shim was killed; what is left of it is ended".to_owned();
                    noted.events.push(self.event(now, "container.orphaned", name, message));
                }
                ContainerState::Running { init, .. } if before.is_none() => {
                    let message = format!("runs already, as pid {}", init.pid);
                    noted.events.push(self.event(now, "container.adopted", name, message));
                }
                _ => {}
            }
        }
    }

    /// Told once, not at every look.
    fn tell_crowded(&mut self, now: Timestamp, noted: &mut Noted) {
        let problem = self.crowded_problem();
        if let Some(problem) = problem.as_ref().filter(|_| !self.crowded_told) {
            noted.events.push(self.event(now, "disk.problem", problem.location.to_string(), problem.message.clone()));
        }
        self.crowded_told = problem.is_some();
    }

    fn note_waits(&mut self, now: Timestamp) {
        let before = std::mem::take(&mut self.waiting_since);
        for wait in &self.plan.waiting {
            let key = (wait.slot.clone(), wait_kind(&wait.on));
            let since = before.get(&key).copied().unwrap_or(now);
            self.waiting_since.insert(key, since);
        }
    }

    /// An action ended.
    pub fn finished(&mut self, key: &Key, result: Result<(), ActionError>, now: Timestamp) -> Noted {
        let mut noted = Noted::default();
        let Some(under) = self.under_way.remove(key) else { return noted };
        let what = under.what.clone();
        if result.is_ok() {
            self.note_outcome(&under, &result, now);
        }
        match result {
            Ok(()) => {
                let generations = self.generations_of(&under.action);
                self.memory.succeeded(&under.action, under.before.as_ref(), under.since, now);
                noted.records.extend(self.record_of(&under));
                self.new_generations(&under.action, &generations);
                let took = now.since(under.since);
                if let Action::Pull { image, refresh, .. } = under.action {
                    // What it brought is told when it is seen.
                    let pulled = Pulled { reason: under.reason, took, refresh };
                    self.pulled.insert(image, pulled);
                    return noted;
                }
                if let Action::RemoveImage { image, .. } = &under.action {
                    self.removed.insert(image.clone());
                }
                noted.events.push(self.event(
                    now,
                    done_kind(&under.action),
                    what,
                    format!("{} ({took} ms)", under.reason),
                ));
            }
            Err(error) => {
                self.memory.failed(&under.action, error.message.clone(), error.retry_after_ms, now);
                self.note_outcome(&under, &Err(error.clone()), now);
                self.note_failed_task(&under.action, &error.message);
                let retry = self.memory.failure(&under.action).map_or(0, |f| f.retry_at.since(now));
                noted.records.extend(self.taken_back(&under));
                let message = format!("{} failed: {}; tried again in {retry} ms", under.action.verb(), error.message);
                noted.events.push(self.event(now, failed_kind(&under.action), what, message));
            }
        }
        noted
    }

    fn record_of(&mut self, under: &UnderWay) -> Option<Change> {
        match &under.action {
            Action::Start { spec, .. } if matches!(under.before, Some(ContainerState::Exited { .. })) => {
                let restarts = self.memory.restarts.get(&spec.id).copied().unwrap_or_default();
                Some(Change::History { id: spec.id.clone(), restarts, reason: under.reason.clone() })
            }
            Action::Remove { id } => {
                self.reasons.remove(id);
                Some(Change::Forgotten(id.clone()))
            }
            Action::Start { .. }
            | Action::Pull { .. }
            | Action::Create { .. }
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
            | Action::Guard => None,
        }
    }

    pub(super) fn name_of(&self, action: &Action) -> String {
        let by_id = |id: &ContainerId| {
            self.observed.containers.get(id).map_or_else(|| id.short().to_owned(), |c| c.spec.name.to_string())
        };
        match action {
            Action::Pull { image, .. } | Action::RemoveImage { image, .. } => image.to_string(),
            Action::Create { spec }
            | Action::Start { spec, .. }
            | Action::Update { spec }
            | Action::Connect { spec }
            | Action::HandOver { spec } => spec.name.to_string(),
            Action::MakeNetwork { network } => network.name.to_string(),
            Action::RemoveNetwork { id } => {
                self.observed.networks.get(id).map_or_else(|| id.short().to_owned(), |n| n.network.name.to_string())
            }
            Action::Guard => "firewall".to_owned(),
            Action::HoldPorts { id }
            | Action::Stop { id, .. }
            | Action::Pause { id }
            | Action::Unpause { id }
            | Action::Remove { id } => by_id(id),
        }
    }

    pub(super) fn event(&mut self, at: Timestamp, kind: &'static str, what: String, message: String) -> Event {
        self.events += 1;
        Event { sequence: self.events, at, kind, what, message, location: None::<Location> }
    }

    /// When to step again though nothing happens.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.plan.wake_at
    }

    /// Whether a step may be taken: before the first look, nothing is known of what should be.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.ready
    }
}
