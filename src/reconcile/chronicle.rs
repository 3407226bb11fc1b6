//! Why services are as they are: the last things that happened to each, oldest first, with their causes. Pure; it is told the time.
//!
//! What happens again and again in a row is one cause with a count: a container that ends the same way soon after each start, a
//! step that fails for the same reason. So a crash loop does not push out what began it.

mod health;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::by_hand::ServiceKey;
use super::host::{ActionError, Change};
use super::ledger::{Changes, Ledger};
use super::reconciler::{Reconciler, UnderWay};
use crate::model::{
    Action, Cause, CauseKind, ContainerSpec, ContainerState, ImageReference, ObservedContainer, ProjectName,
    ServiceName, Slot, Timestamp,
};
use crate::plan::{Desired, Observed, Wait, WaitingOn};
use crate::source::GoodFile;
use crate::spec::{self, Version};

/// So many causes are kept of each service.
const KEPT: usize = 50;
/// The same thing is another cause after so long.
const ROW_MS: u64 = 10 * 60 * 1000;
/// So long the causes of a service outlive it.
const GONE_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// How the end of one ends that was asked for.
const ASKED: &str = ", as it was stopped";

/// The causes of all services.
#[derive(Debug, Default)]
pub struct Chronicle {
    of: BTreeMap<ServiceKey, Vec<Cause>>,
    /// Whose causes are not on disk as they are.
    changed: BTreeSet<ServiceKey>,
}

impl Chronicle {
    /// With what was remembered.
    #[must_use]
    pub fn remembered(of: BTreeMap<(ProjectName, ServiceName), Vec<Cause>>) -> Self {
        Self { of, changed: BTreeSet::new() }
    }

    /// What happened to a service, the newest last.
    pub(super) fn causes(&self, key: &ServiceKey) -> Option<&[Cause]> {
        self.of.get(key).map(Vec::as_slice)
    }

    /// What a look changed: files that came into force, over an older version or not, and files that are gone.
    fn looked(&mut self, ledger: &Ledger, changes: &Changes, now: Timestamp) {
        for path in &changes.applied {
            let Some(good) = ledger.good(path) else { continue };
            let name = &good.document.project.name;
            let before = changes.replaced.iter().find(|(_, old)| old.document.project.name == *name);
            self.edited(path, before.map(|(_, good)| good.as_ref()), good, now);
        }
        for (path, before) in &changes.replaced {
            let project = &before.document.project;
            let goes_on =
                |path: &PathBuf| ledger.good(path).is_some_and(|good| good.document.project.name == project.name);
            if changes.applied.iter().any(goes_on) {
                continue;
            }
            for service in project.services.keys() {
                let gone = cause(CauseKind::Dropped, path.display().to_string(), "the file is gone".to_owned(), now);
                self.push((project.name.clone(), service.clone()), gone);
            }
        }
    }

    fn edited(&mut self, path: &Path, before: Option<&GoodFile>, good: &GoodFile, now: Timestamp) {
        let project = &good.document.project;
        let said = |kind, text: &str| cause(kind, path.display().to_string(), text.to_owned(), now);
        let Some(before) = before else {
            for service in project.services.keys() {
                self.push((project.name.clone(), service.clone()), said(CauseKind::Edited, "the file came into force"));
            }
            return;
        };
        for (service, edits) in spec::edits(path, version(before), version(good)) {
            let written = edits.iter().any(|edit| edit.file == path);
            let text = if written { "the file was edited" } else { "what the file refers to was changed" };
            self.push((project.name.clone(), service), Cause { edits, ..said(CauseKind::Edited, text) });
        }
        for service in before.document.project.services.keys().filter(|name| !project.services.contains_key(*name)) {
            let text = match project.unchosen.contains_key(service) {
                true => "none of its profiles is chosen any more",
                false => "the file does not define it any more",
            };
            let gone = said(CauseKind::Dropped, text);
            self.push((project.name.clone(), service.clone()), gone);
        }
    }

    /// A container was seen to have ended.
    fn ended(&mut self, spec: &ContainerSpec, how: String, at: Timestamp) {
        let (key, name) = (key_of(&spec.slot), spec.name.as_str());
        // One that ended while no daemon was here may have been told before that one went.
        let known = |c: &Cause| c.subject == name && c.kind == CauseKind::Ended && c.last >= at;
        if !self.of.get(&key).is_some_and(|causes| causes.iter().any(known)) {
            self.push(key, cause(CauseKind::Ended, name.to_owned(), how, at));
        }
    }

    /// A step was done.
    fn done(&mut self, slot: &Slot, action: &Action, name: &str, reason: &str, again: bool, now: Timestamp) {
        let key = key_of(slot);
        let last = self.of.get_mut(&key).and_then(|causes| causes.iter_mut().rev().find(|c| c.subject == name));
        if let Some(ended) = last.filter(|c| again && c.kind == CauseKind::Ended) {
            (ended.reason, ended.next) = (Some(format!("started again ({reason})")), None);
            self.changed.insert(key);
            return;
        }
        let text = match action {
            Action::Create { spec } => format!("created from image {} ({})", spec.image, spec.image_digest.short()),
            other => done_word(other).to_owned(),
        };
        self.push(key, Cause { reason: Some(reason.to_owned()), ..cause(CauseKind::Done, name.to_owned(), text, now) });
    }

    /// A step failed.
    fn failed(&mut self, key: ServiceKey, subject: &str, text: String, next: Option<Timestamp>, now: Timestamp) {
        self.push(key, Cause { next, ..cause(CauseKind::Failed, subject.to_owned(), text, now) });
    }

    /// The name of an image stands for another one.
    fn moved(&mut self, desired: &Desired, image: &ImageReference, text: &str, now: Timestamp) {
        for key in users(desired, image) {
            self.push(key, cause(CauseKind::Moved, format!("image {image}"), text.to_owned(), now));
        }
    }

    /// Something was decided of its generations.
    pub(super) fn generation(
        &mut self,
        key: &ServiceKey,
        kind: CauseKind,
        text: String,
        reason: Option<String>,
        now: Timestamp,
    ) {
        self.push(key.clone(), Cause { reason, ..cause(kind, format!("service {}", key.1), text, now) });
    }

    /// When containers that ended are started again.
    fn waits(&mut self, waits: &[Wait], observed: &Observed) {
        for wait in waits.iter().filter(|wait| matches!(wait.on, WaitingOn::Backoff { .. })) {
            let key = key_of(&wait.slot);
            let names = observed.containers.values().filter(|c| c.spec.slot == wait.slot).map(|c| c.spec.name.as_str());
            let Some(causes) = self.of.get_mut(&key) else { continue };
            for name in names {
                let last = causes.iter_mut().rev().find(|c| c.subject == name && c.kind == CauseKind::Ended);
                if let Some(last) = last.filter(|last| last.next != wait.until) {
                    last.next = wait.until;
                    self.changed.insert(key.clone());
                }
            }
        }
    }

    /// Forgets services that are gone for long.
    fn forget(&mut self, desired: &Desired, observed: &Observed, now: Timestamp) {
        let here = |(project, service): &ServiceKey| {
            desired.kept.contains(project)
                || desired.projects.get(project).is_some_and(|p| p.services.contains_key(service))
                || observed
                    .containers
                    .values()
                    .any(|c| c.spec.slot.project == *project && c.spec.slot.service == *service)
        };
        let old = |causes: &[Cause]| causes.last().is_none_or(|last| now.since(last.last) > GONE_MS);
        let gone: Vec<ServiceKey> =
            self.of.iter().filter(|(key, causes)| old(causes) && !here(key)).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.of.remove(&key);
            self.changed.insert(key);
        }
    }

    /// What is to be brought to disk.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let changed = std::mem::take(&mut self.changed);
        let change = |key: ServiceKey| {
            let causes = self.of.get(&key).cloned().unwrap_or_default();
            Change::Causes { project: key.0, service: key.1, causes }
        };
        changed.into_iter().map(change).collect()
    }

    fn push(&mut self, key: ServiceKey, new: Cause) {
        let causes = self.of.entry(key.clone()).or_default();
        let last = causes.iter().rposition(|c| c.subject == new.subject);
        let same = |c: &Cause| {
            c.kind == new.kind && c.text == new.text && c.edits == new.edits && new.last.since(c.last) < ROW_MS
        };
        let repeats = matches!(new.kind, CauseKind::Failed | CauseKind::Ended);
        match last.filter(|at| repeats && same(&causes[*at])) {
            Some(at) => {
                let old = causes.remove(at);
                let times = old.times.saturating_add(1);
                causes.push(Cause { at: old.at, times, reason: old.reason, ..new });
            }
            None => causes.push(new),
        }
        if causes.len() > KEPT {
            causes.remove(0);
        }
        self.changed.insert(key);
    }
}

impl Reconciler {
    /// With what happened to services before.
    #[must_use]
    pub fn remembering(mut self, chronicle: Chronicle) -> Self {
        self.chronicle = chronicle;
        self
    }

    /// What happened to a service, the newest last; none where nothing is known of it.
    #[must_use]
    pub fn causes_of(&self, project: &ProjectName, service: &ServiceName) -> Option<Vec<Cause>> {
        self.chronicle.causes(&(project.clone(), service.clone())).map(<[Cause]>::to_vec)
    }

    pub(super) fn note_edits(&mut self, changes: &Changes, now: Timestamp) {
        self.chronicle.looked(&self.ledger, changes, now);
        self.chronicle.forget(&self.desired, &self.observed, now);
    }

    /// Something was asked of a service by hand.
    pub(super) fn note_asked(&mut self, key: &ServiceKey, text: &str, now: Timestamp) {
        let subject = format!("{}/{}", key.0, key.1);
        self.chronicle.push(key.clone(), cause(CauseKind::Asked, subject, text.to_owned(), now));
    }

    /// A container that ended since it was seen last, or while nobody looked.
    pub(super) fn note_end(&mut self, container: &ObservedContainer, before: Option<&ContainerState>) {
        let ContainerState::Exited { status, at, .. } = &container.state else { return };
        if matches!(before, Some(ContainerState::Exited { .. })) {
            return;
        }
        let spec = &container.spec;
        let how = status.told(spec.service.resources.memory);
        let asked = self.reasons.get(&spec.id).is_some_and(|reason| reason.starts_with("stop:"));
        let how = if asked { format!("{how}{ASKED}") } else { how };
        self.chronicle.ended(spec, how, *at);
    }

    /// Whose container an action is about.
    pub(super) fn slot_of(&self, action: &Action) -> Option<Slot> {
        match action {
            Action::Create { spec }
            | Action::Start { spec, .. }
            | Action::Update { spec }
            | Action::Connect { spec }
            | Action::HandOver { spec } => Some(spec.slot.clone()),
            Action::HoldPorts { id }
            | Action::Stop { id, .. }
            | Action::Pause { id }
            | Action::Unpause { id }
            | Action::Remove { id } => self.observed.containers.get(id).map(|container| container.spec.slot.clone()),
            Action::Pull { .. }
            | Action::RemoveImage { .. }
            | Action::MakeNetwork { .. }
            | Action::RemoveNetwork { .. }
            | Action::Guard => None,
        }
    }

    pub(super) fn note_waits_of_ends(&mut self) {
        self.chronicle.waits(&self.plan.waiting, &self.observed);
    }

    /// What was decided of a service that runs at set times.
    pub(super) fn note_job(&mut self, of: &ServiceKey, text: String, wrong: bool, now: Timestamp) {
        let kind = if wrong { CauseKind::Failed } else { CauseKind::Done };
        self.chronicle.push(of.clone(), cause(kind, "schedule".to_owned(), text, now));
    }

    /// A hook that failed. Its container goes on.
    pub(super) fn note_hook(&mut self, slot: &Slot, name: &str, text: String, now: Timestamp) {
        self.chronicle.failed(key_of(slot), name, text, None, now);
    }

    pub(super) fn note_moved(&mut self, image: &ImageReference, text: &str, now: Timestamp) {
        self.chronicle.moved(&self.desired, image, text, now);
    }

    /// How a step ended, for those whom it concerns.
    pub(super) fn note_outcome(&mut self, under: &UnderWay, result: &Result<(), ActionError>, now: Timestamp) {
        let image = |image: &ImageReference| (users(&self.desired, image), format!("image {image}"));
        let (keys, subject) = match (&under.slot, &under.action) {
            (Some(slot), _) => (vec![key_of(slot)], under.what.clone()),
            (None, Action::Pull { image: reference, .. }) => image(reference),
            (None, _) => return,
        };
        match (result, &under.slot, &under.action) {
            (Ok(()), Some(slot), action) => {
                let ended = matches!(under.before(), Some(ContainerState::Exited { .. }));
                let again = ended && matches!(action, Action::Start { .. });
                self.chronicle.done(slot, action, &subject, &under.reason, again, now);
            }
            (Ok(()), None, Action::Pull { refresh: false, .. }) => {
                for key in keys {
                    let text = format!("pulled in {} ms", now.since(under.since));
                    let reason = Some(under.reason.clone());
                    self.chronicle.push(key, Cause { reason, ..cause(CauseKind::Done, subject.clone(), text, now) });
                }
            }
            (Ok(()), None, _) => {}
            (Err(error), ..) => {
                let next = self.memory.failure(&under.action).map(|failure| failure.retry_at);
                let text = format!("{} failed: {}", under.action.verb(), error.message);
                for key in keys {
                    self.chronicle.failed(key, &subject, text.clone(), next, now);
                }
            }
        }
    }
}

/// Services whose containers are made from the image, or see its files.
fn users(desired: &Desired, image: &ImageReference) -> Vec<ServiceKey> {
    let all = desired.projects.values().flat_map(|p| p.services.values().map(|service| (&p.name, service)));
    let users = all.filter(|(_, service)| service.images().any(|used| used == image));
    users.map(|(project, service)| (project.clone(), service.name.clone())).collect()
}

fn key_of(slot: &Slot) -> ServiceKey {
    (slot.project.clone(), slot.service.clone())
}

fn version(good: &GoodFile) -> Version<'_> {
    Version { text: &good.source.text, references: &good.source.references, project: &good.document.project }
}

fn cause(kind: CauseKind, subject: String, text: String, at: Timestamp) -> Cause {
    Cause { at, last: at, times: 1, kind, subject, text, reason: None, next: None, edits: Vec::new() }
}

const fn done_word(action: &Action) -> &'static str {
    match action {
        Action::Create { .. } => "created",
        Action::Start { .. } => "started",
        Action::Update { .. } => "changed while it runs",
        Action::Stop { .. } => "stopped",
        Action::Pause { .. } => "paused",
        Action::Unpause { .. } => "no longer paused",
        Action::Remove { .. } => "removed",
        Action::Connect { .. } => "connected anew",
        Action::HoldPorts { .. } => "its ports are held",
        Action::HandOver { .. } => "has the ports now",
        Action::Pull { .. } => "pulled",
        Action::RemoveImage { .. } => "image removed",
        Action::MakeNetwork { .. } => "network made",
        Action::RemoveNetwork { .. } => "network removed",
        Action::Guard => "rules restored",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ServiceKey {
        (ProjectName::parse("shop").expect("a name"), ServiceName::parse("web").expect("a name"))
    }

    fn happened(kind: CauseKind, text: &str, at: u64) -> Cause {
        cause(kind, "shop-web-1".to_owned(), text.to_owned(), Timestamp(at))
    }

    fn told(chronicle: &Chronicle) -> Vec<String> {
        let causes = chronicle.causes(&key()).unwrap_or_default();
        causes.iter().map(|c| format!("{} {} ×{} {}..{}", c.kind.as_str(), c.text, c.times, c.at.0, c.last.0)).collect()
    }

    #[test]
    fn what_repeats_itself_is_counted_until_something_else_happens_or_it_is_long_ago() {
        let mut chronicle = Chronicle::default();
        for (kind, text, at) in [
            (CauseKind::Edited, "edit", 1),
            (CauseKind::Ended, "exit code 1", 2),
            (CauseKind::Ended, "exit code 1", 3),
            (CauseKind::Ended, "exit code 2", 4),
            (CauseKind::Ended, "exit code 1", 5),
            (CauseKind::Ended, "exit code 1", 5 + ROW_MS),
            (CauseKind::Edited, "edit", 6 + ROW_MS),
            (CauseKind::Edited, "edit", 7 + ROW_MS),
        ] {
            chronicle.push(key(), happened(kind, text, at));
        }
        insta::assert_debug_snapshot!(told(&chronicle), @r#"
        [
            "edited edit ×1 1..1",
            "ended exit code 1 ×2 2..3",
            "ended exit code 2 ×1 4..4",
            "ended exit code 1 ×1 5..5",
            "ended exit code 1 ×1 600005..600005",
            "edited edit ×1 600006..600006",
            "edited edit ×1 600007..600007",
        ]
        "#);
    }

    #[test]
    fn the_oldest_go_and_a_service_that_is_gone_is_forgotten_after_a_week() {
        let mut chronicle = Chronicle::default();
        for at in 0..60 {
            chronicle.push(key(), happened(CauseKind::Done, &format!("step {at}"), at));
        }
        let all = told(&chronicle);
        assert_eq!((all.len(), all.first().map(String::as_str)), (KEPT, Some("done step 10 ×1 10..10")));
        assert_eq!(chronicle.changes().len(), 1);
        let (desired, observed) = (Desired::default(), Observed::default());
        chronicle.forget(&desired, &observed, Timestamp(59 + GONE_MS));
        assert!(chronicle.changes().is_empty() && chronicle.causes(&key()).is_some());
        chronicle.forget(&desired, &observed, Timestamp(60 + GONE_MS));
        let gone = Change::Causes { project: key().0, service: key().1, causes: Vec::new() };
        assert_eq!((chronicle.changes(), chronicle.causes(&key())), (vec![gone], None));
    }
}
