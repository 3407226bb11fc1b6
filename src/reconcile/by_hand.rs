//! What was asked of services by hand: kept over restarts of the daemon and the machine, put over what the files say, and over when it
//! is released or the file says something else of the service.
//!
//! It is an edit of what should be, like a file's: nothing is done here.

use std::collections::{BTreeMap, BTreeSet};

use super::host::Change;
use super::reconciler::{Noted, Reconciler};
use super::view::HandView;
use crate::model::{
    ContainerId, ContainerState, ObservedContainer, Project, ProjectName, Purpose, Service, ServiceName, Signal,
    SpecHash, Timestamp,
};
use crate::plan::{self, ByHand, Desired, Scaled, begun};
use crate::spec::nearest;

/// A service, by its project's name and its own.
pub type ServiceKey = (ProjectName, ServiceName);

/// What was asked of one service, and over which version of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The hash of the service that the file gave.
    pub hash: SpecHash,
    /// Since when.
    pub since: Timestamp,
    /// What was asked.
    pub hand: ByHand,
}

/// Something that is asked of what a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// `project/service`, a project, a container, or a service whose name is the only one.
    pub name: String,
    /// What.
    pub verb: Verb,
}

/// What can be asked by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Nothing of it runs until it is started, or released.
    Stop {
        /// How long it has to end by itself; none: as the file says.
        grace_ms: Option<u64>,
    },
    /// What was stopped, or ended, runs again.
    Start,
    /// What runs is stopped and started again, once.
    Restart {
        /// How long it has to end by itself; none: as the file says.
        grace_ms: Option<u64>,
    },
    /// A signal is sent to what runs, by whoever asks.
    Kill {
        /// Which.
        signal: Signal,
    },
    /// What runs is held still.
    Pause,
    /// It goes on.
    Unpause,
    /// So many replicas.
    Scale {
        /// How many.
        replicas: u32,
    },
    /// As the file says.
    Release,
}

/// What was asked, and of whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Obeyed {
    /// The services that it was asked of.
    pub services: Vec<ServiceKey>,
    /// Those that are to get a signal.
    pub containers: Vec<(ContainerId, Signal)>,
}

/// What became of what was asked.
pub(super) type Answer = Result<Obeyed, Disobeyed>;

/// Why nothing of what was asked is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disobeyed {
    /// There is nothing of that name.
    Unknown {
        /// The name.
        name: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// More than one thing has the name.
    Ambiguous {
        /// The name.
        name: String,
        /// What it could be.
        candidates: Vec<String>,
    },
    /// It cannot be.
    Refused {
        /// Why.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

fn refused(message: impl Into<String>, hint: &str) -> Disobeyed {
    Disobeyed::Refused { message: message.into(), hint: Some(hint.to_owned()) }
}

const SUSPEND: &str = "remove `suspend` from the file";

/// What a name stands for: a service, or one container of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    key: ServiceKey,
    only: Option<ContainerId>,
}

impl Reconciler {
    /// With what was asked by hand before the daemon ended.
    #[must_use]
    pub fn with_overrides(mut self, overrides: BTreeMap<ServiceKey, Override>) -> Self {
        self.overrides = overrides;
        self
    }

    /// Does what is asked, all or nothing of it.
    pub fn obey(&mut self, orders: &[Order], now: Timestamp) -> (Result<Obeyed, Disobeyed>, Noted) {
        let mut noted = Noted::default();
        if !self.ready() {
            return (Err(refused("the daemon is starting: the first look is not done yet", "ask again")), noted);
        }
        let found = orders.iter().map(|order| self.check(order).map(|targets| (targets, order.verb)));
        let found: Vec<(Vec<Target>, Verb)> = match found.collect() {
            Ok(found) => found,
            Err(why) => return (Err(why), noted),
        };
        let (mut services, mut containers) = (BTreeSet::new(), Vec::new());
        for (targets, verb) in found {
            for target in targets {
                services.insert(target.key.clone());
                match verb {
                    Verb::Kill { signal } => containers.extend(self.killed(&target, signal, now, &mut noted)),
                    verb => self.carry_out(&target, verb, now, &mut noted),
                }
            }
        }
        self.memory.retry_now();
        self.refresh_desired();
        (Ok(Obeyed { services: services.into_iter().collect(), containers }), noted)
    }

    fn check(&self, order: &Order) -> Result<Vec<Target>, Disobeyed> {
        let mut targets = self.targets(&order.name)?;
        if matches!(order.verb, Verb::Restart { .. }) && targets.len() > 1 {
            targets.retain(|target| self.wanted(&target.key).is_none_or(|(_, service)| service.schedule.is_none()));
        }
        for target in &targets {
            let Some((_, service)) = self.wanted(&target.key) else { continue };
            self.allowed(target, service, order.verb)?;
        }
        Ok(targets)
    }

    fn allowed(&self, target: &Target, service: &Service, verb: Verb) -> Result<(), Disobeyed> {
        let name = written(&target.key);
        let whole = "write project/service for all of them";
        match verb {
            Verb::Stop { .. } | Verb::Kill { .. } | Verb::Pause | Verb::Unpause | Verb::Release => {}
            Verb::Start | Verb::Restart { .. } | Verb::Scale { .. } => {
                if let Some(hold) = self.holds_of(&target.key.0, service).into_iter().next() {
                    return Err(Disobeyed::Refused { message: format!("{name} is held: {hold}"), hint: None });
                }
            }
        }
        match verb {
            Verb::Scale { replicas } if replicas > 1 && service.container_name.is_some() => Err(refused(
                format!("{name} has a container_name, and two containers cannot have one name"),
                "remove `container_name` from the file",
            )),
            Verb::Scale { replicas } if replicas > 1 && service.schedule.is_some() => Err(refused(
                format!("{name} runs at set times, one run at a time"),
                "remove `x-longshore.schedule` from the file",
            )),
            Verb::Restart { .. } if service.schedule.is_some() => {
                Err(refused(format!("{name} runs at set times only"), "`longshore jobs run` runs it now"))
            }
            Verb::Stop { .. } | Verb::Start | Verb::Pause | Verb::Unpause | Verb::Scale { .. }
                if target.only.is_some() && service.replicas > 1 =>
            {
                Err(refused(format!("{name} has {} containers, and this is one of them", service.replicas), whole))
            }
            Verb::Start if service.suspended => Err(refused(format!("the file of {name} says suspend: true"), SUSPEND)),
            Verb::Restart { .. } | Verb::Pause if service.suspended => {
                Err(refused(format!("{name} does not run: its file says suspend: true"), SUSPEND))
            }
            Verb::Restart { .. } | Verb::Pause if self.stopped(&target.key) => {
                Err(refused(format!("{name} is stopped by hand"), "`longshore start` starts it"))
            }
            Verb::Kill { .. } if self.runs(target, ContainerState::alive).is_empty() => {
                Err(refused(format!("nothing of {name} runs"), "`longshore ps -a` shows what became of it"))
            }
            Verb::Stop { .. }
            | Verb::Start
            | Verb::Restart { .. }
            | Verb::Kill { .. }
            | Verb::Pause
            | Verb::Unpause
            | Verb::Scale { .. }
            | Verb::Release => Ok(()),
        }
    }

    fn stopped(&self, key: &ServiceKey) -> bool {
        self.overrides.get(key).is_some_and(|over| over.hand.stopped)
    }

    fn wanted(&self, key: &ServiceKey) -> Option<(&Project, &Service)> {
        let project = self.desired.projects.get(&key.0)?;
        Some((project, project.services.get(&key.1)?))
    }

    fn targets(&self, name: &str) -> Result<Vec<Target>, Disobeyed> {
        let whole = |key: ServiceKey| Target { key, only: None };
        let all = || self.desired.projects.values().flat_map(|p| p.services.keys().map(move |s| (&p.name, s)));
        let key = |(p, s): (&ProjectName, &ServiceName)| (p.clone(), s.clone());
        if let Some((project, service)) = name.split_once('/') {
            let found = all().find(|(p, s)| p.as_str() == project && s.as_str() == service);
            return found.map(|of| vec![whole(key(of))]).ok_or_else(|| self.unknown(name));
        }
        let in_project: Vec<_> = all().filter(|(p, _)| p.as_str() == name).map(key).collect();
        let called: Vec<_> = all().filter(|(_, s)| s.as_str() == name).map(key).collect();
        let container = self.observed.containers.values().find(|c| c.spec.name.as_str() == name);
        let elsewhere = called.iter().any(|(p, _)| p.as_str() != name);
        match (in_project.is_empty(), container, called.as_slice()) {
            (false, None, _) if !elsewhere => Ok(in_project.into_iter().map(whole).collect()),
            (true, Some(container), []) => {
                let of = &container.spec.slot;
                let key = (of.project.clone(), of.service.clone());
                let target = Target { key, only: Some(container.spec.id.clone()) };
                self.wanted(&target.key).map(|_| vec![target]).ok_or_else(|| self.unknown(name))
            }
            (true, None, [one]) => Ok(vec![whole(one.clone())]),
            (true, None, []) => Err(self.unknown(name)),
            _ => {
                let project = (!in_project.is_empty()).then(|| format!("the project {name}"));
                let container = container.map(|_| format!("the container {name}"));
                let candidates = project.into_iter().chain(container).chain(called.iter().map(written)).collect();
                Err(Disobeyed::Ambiguous { name: name.to_owned(), candidates })
            }
        }
    }

    fn unknown(&self, name: &str) -> Disobeyed {
        let unchosen = self.desired.projects.values().flat_map(|p| p.unchosen.iter().map(move |of| (&p.name, of)));
        let mut unchosen = unchosen.filter(|(p, (s, _))| name == s.as_str() || name == format!("{p}/{s}"));
        if let Some((project, (service, profiles))) = unchosen.next() {
            return refused(
                format!("{project}/{service} is not chosen: it asks for the profile {}", profiles.join(" or ")),
                "choose it by `x-longshore: {profiles: [..]}` in its file, or by `profiles` of the configuration",
            );
        }
        let project = name.split('/').next().unwrap_or(name);
        if self.desired.kept.iter().any(|kept| kept.as_str() == project) {
            let message = format!("the file of the project {project} is not known: what runs of it is kept as it is");
            return refused(message, "`longshore status` says why");
        }
        if self.observed.containers.values().any(|c| {
            let gone = !self.desired.projects.contains_key(&c.spec.slot.project);
            gone && (c.spec.slot.project.as_str() == project || c.spec.name.as_str() == name)
        }) {
            return refused(format!("{name} is being removed: its state file is gone"), "put the file back");
        }
        let services = || self.desired.projects.values().flat_map(|p| p.services.keys().map(move |s| (&p.name, s)));
        let words = services().map(|(p, s)| format!("{p}/{s}"));
        let words = words.chain(services().map(|(_, s)| s.to_string()));
        let words = words.chain(self.desired.projects.keys().map(ToString::to_string));
        let words: Vec<String> =
            words.chain(self.observed.containers.values().map(|c| c.spec.name.to_string())).collect();
        // Names have hyphens; a slip is looked for as in keys, which have none.
        let folded: Vec<String> = words.iter().map(|word| word.replace('-', "_")).collect();
        let near = nearest(name, folded.iter().map(String::as_str));
        let near = near.and_then(|near| folded.iter().position(|word| word == near)).map(|at| words[at].clone());
        Disobeyed::Unknown { name: name.chars().take(256).collect(), nearest: near }
    }

    fn carry_out(&mut self, target: &Target, verb: Verb, now: Timestamp, noted: &mut Noted) {
        if matches!(verb, Verb::Start | Verb::Restart { .. }) {
            self.forgive(target, noted);
        }
        let Some((_, service)) = self.wanted(&target.key) else { return };
        let (hash, file) = (service.hash.clone(), self.replicas_by_file(&target.key, service));
        let before = self.overrides.get(&target.key).cloned();
        let mut hand = before.as_ref().map(|over| over.hand.clone()).unwrap_or_default();
        let (kind, message) = match verb {
            Verb::Stop { grace_ms } => {
                (hand.stopped, hand.paused, hand.grace_ms) = (true, false, grace_ms);
                hand.again.extend(self.to_run_again(target, ContainerState::alive));
                ("service.stopped", "stopped by hand".to_owned())
            }
            Verb::Start => {
                (hand.stopped, hand.paused) = (false, false);
                hand.again.extend(self.to_run_again(target, |state| !state.alive()));
                ("service.started", "started by hand".to_owned())
            }
            Verb::Restart { grace_ms } => {
                (hand.paused, hand.grace_ms) = (false, grace_ms);
                hand.again.extend(self.to_run_again(target, |_| true));
                ("service.restarted", "restarted by hand".to_owned())
            }
            // Nothing that is kept.
            Verb::Kill { .. } => return,
            Verb::Pause => {
                hand.paused = true;
                ("service.paused", "paused by hand".to_owned())
            }
            Verb::Unpause => {
                hand.paused = false;
                ("service.unpaused", "no longer paused".to_owned())
            }
            Verb::Scale { replicas } => {
                hand.scaled = (replicas != file).then_some(Scaled { replicas, file });
                ("service.scaled", format!("{replicas} replicas by hand, {file} by its file"))
            }
            Verb::Release => {
                if before.is_none() {
                    return;
                }
                // What is still to run again does.
                hand = ByHand { again: hand.again, ..ByHand::default() };
                ("service.released", "it is as its file says again".to_owned())
            }
        };
        self.note_asked(&target.key, &message, now);
        let event = self.event(now, kind, written(&target.key), message);
        noted.events.push(event);
        let same = before.as_ref().filter(|over| over.hash == hash);
        let since = same.map_or(now, |over| if over.hand == hand { over.since } else { now });
        self.put_override(&target.key, Some(Override { hash, since, hand }), noted);
    }

    /// What was given up for its containers is not: they start as if for the first time.
    fn forgive(&mut self, target: &Target, noted: &mut Noted) {
        for (id, _) in self.runs(target, |_| true) {
            if self.memory.forgive(&id) {
                let reason = "it is started again by hand".to_owned();
                noted.records.push(Change::History { id, restarts: plan::Restarts::default(), reason });
            }
        }
    }

    fn killed(
        &mut self,
        target: &Target,
        signal: Signal,
        now: Timestamp,
        noted: &mut Noted,
    ) -> Vec<(ContainerId, Signal)> {
        let name = signal.name();
        let message = format!("{name} is sent by hand");
        self.note_asked(&target.key, &message, now);
        let event = self.event(now, "service.killed", written(&target.key), message);
        noted.events.push(event);
        self.runs(target, ContainerState::alive).into_iter().map(|(id, _)| (id, signal)).collect()
    }

    /// What the file says, whatever was asked by hand.
    fn replicas_by_file(&self, key: &ServiceKey, service: &Service) -> u32 {
        let scaled = self.overrides.get(key).and_then(|over| over.hand.scaled);
        scaled.map_or(service.replicas, |scaled| scaled.file)
    }

    fn runs(&self, target: &Target, of: impl Fn(&ContainerState) -> bool) -> Vec<(ContainerId, Timestamp)> {
        let mine = containers_of(&self.observed.containers, &target.key);
        let mine = mine.filter(|c| target.only.as_ref().is_none_or(|only| *only == c.spec.id) && of(&c.state));
        mine.filter_map(|c| Some((c.spec.id.clone(), begun(&c.state)?))).collect()
    }

    /// A run that is over stays so: there is another one when it is time.
    fn to_run_again(&self, target: &Target, of: impl Fn(&ContainerState) -> bool) -> Vec<(ContainerId, Timestamp)> {
        let mut runs = self.runs(target, of);
        runs.retain(|(id, _)| self.observed.containers.get(id).is_some_and(|c| c.spec.purpose == Purpose::Service));
        runs
    }

    fn put_override(&mut self, key: &ServiceKey, over: Option<Override>, noted: &mut Noted) {
        let over = over.filter(|over| !over.hand.is_empty());
        if self.overrides.get(key) == over.as_ref() {
            return;
        }
        match &over {
            Some(over) => drop(self.overrides.insert(key.clone(), over.clone())),
            None => drop(self.overrides.remove(key)),
        }
        noted.records.push(Change::ByHand { project: key.0.clone(), service: key.1.clone(), over });
    }

    /// The files were read: what they say anew counts.
    pub(super) fn release_edited(&mut self, now: Timestamp, noted: &mut Noted) {
        let files = self.ledger.files();
        for (key, over) in self.overrides.clone() {
            let project = files.projects.get(&key.0);
            let Some(service) = project.and_then(|project| project.services.get(&key.1)) else {
                if !files.kept.contains(&key.0) {
                    self.put_override(&key, None, noted);
                }
                continue;
            };
            let mut kept = over.clone();
            if over.hash != service.hash {
                // Its containers are made anew.
                kept.hand = ByHand { scaled: kept.hand.scaled, ..ByHand::default() };
                kept.hash = service.hash.clone();
            }
            kept.hand.scaled = kept.hand.scaled.filter(|scaled| scaled.file == service.replicas);
            if kept.hand == over.hand {
                continue;
            }
            let message = "its file changed; what was asked by hand is over".to_owned();
            self.note_asked(&key, &message, now);
            let event = self.event(now, "service.released", written(&key), message);
            noted.events.push(event);
            self.put_override(&key, Some(kept), noted);
        }
    }

    /// The host was seen: runs that are over are forgotten.
    pub(super) fn notice_runs(&mut self, noted: &mut Noted) {
        let mut changed = false;
        for (key, over) in self.overrides.clone().into_iter().chain(self.suspended()) {
            let mut hand = over.hand.clone();
            let stopped = hand.stopped || self.wanted(&key).is_some_and(|(_, service)| service.suspended);
            hand.notice(stopped, &containers_of(&self.observed.containers, &key).collect::<Vec<_>>());
            if hand != over.hand {
                self.put_override(&key, Some(Override { hand, ..over }), noted);
                changed = true;
            }
        }
        if changed {
            self.desired.by_hand = hands(&self.overrides);
        }
    }

    /// Services that their files suspend and of which nothing was asked by hand: which runs that ended is noted all the same.
    fn suspended(&self) -> Vec<(ServiceKey, Override)> {
        let all = self.desired.projects.values().flat_map(|p| p.services.values().map(move |s| (&p.name, s)));
        let all = all.filter(|(_, service)| service.suspended).map(|(project, service)| {
            let (hash, since) = (service.hash.clone(), Timestamp::default());
            ((project.clone(), service.name.clone()), Override { hash, since, hand: ByHand::default() })
        });
        all.filter(|(key, _)| !self.overrides.contains_key(key)).collect()
    }

    pub(super) fn hand_view(&self, project: &ProjectName, service: &ServiceName) -> Option<HandView> {
        let over = self.overrides.get(&(project.clone(), service.clone()))?;
        let ByHand { stopped, paused, scaled, grace_ms: _, again: _ } = &over.hand;
        let view = HandView { stopped: *stopped, paused: *paused, scaled: *scaled, since: over.since };
        (view.stopped || view.paused || view.scaled.is_some()).then_some(view)
    }
}

/// Puts other numbers of replicas over what is in force.
pub(super) fn apply(overrides: &BTreeMap<ServiceKey, Override>, desired: &mut Desired) {
    for (key, over) in overrides {
        let service = desired.projects.get_mut(&key.0).and_then(|project| project.services.get_mut(&key.1));
        if let (Some(service), Some(scaled)) = (service, over.hand.scaled) {
            // There is one run at a time.
            let most = if service.schedule.is_some() { 1 } else { u32::MAX };
            service.replicas = scaled.replicas.min(most);
        }
    }
    desired.by_hand = hands(overrides);
}

fn hands(overrides: &BTreeMap<ServiceKey, Override>) -> BTreeMap<ServiceKey, ByHand> {
    overrides.iter().map(|(key, over)| (key.clone(), over.hand.clone())).collect()
}

fn containers_of<'a>(
    containers: &'a BTreeMap<ContainerId, ObservedContainer>,
    key: &'a ServiceKey,
) -> impl Iterator<Item = &'a ObservedContainer> {
    containers.values().filter(|c| c.spec.slot.project == key.0 && c.spec.slot.service == key.1)
}

/// As it is written.
fn written(key: &ServiceKey) -> String {
    format!("{}/{}", key.0, key.1)
}
