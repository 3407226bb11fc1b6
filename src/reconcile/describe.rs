//! Turns what the reconciler knows into what the status says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::host::{Gauges, Transfer};
use super::kinds::wait_kind;
use super::networks::port_views;
use super::order;
use super::reconciler::Reconciler;
use super::view::{
    ContainerStateView, ContainerView, FolderView, ImageStateView, ImageView, Phase, ProjectView, ServiceView,
    StepView, StoreView, View, WaitView,
};
use crate::model::{
    Action, ContainerState, ImageReference, Key, ObservedContainer, Project, ProjectName, Service, ServiceName,
    Settings, Slot, TASK_NUMBER, Timestamp,
};
use crate::plan::{Failure, ImageFacts, Unwell, Wait, WaitingOn, in_use};

/// What the status shows beside the reconciler's own knowledge.
#[derive(Debug, Clone)]
pub(super) struct Surroundings<'a> {
    pub(super) now: Timestamp,
    pub(super) revision: u64,
    pub(super) folder: &'a Path,
    pub(super) watching: String,
    /// Whether something that was decided is not on disk yet.
    pub(super) unsaved: Option<String>,
    pub(super) saving: bool,
    pub(super) gauges: Gauges,
}

impl Reconciler {
    pub(super) fn view(&self, around: &Surroundings<'_>) -> View {
        let saved = !around.saving && around.unsaved.is_none();
        let projects = self.project_views(saved, &around.gauges);
        let open = |wait: &&Wait| match &wait.on {
            WaitingOn::Held
            | WaitingOn::Stopped(_)
            | WaitingOn::Paused
            | WaitingOn::Time { .. }
            | WaitingOn::Owner { .. }
            | WaitingOn::NeverPulled(_)
            | WaitingOn::NoNetwork(_)
            // What it waits for waits itself, or is under way.
            | WaitingOn::NetworkOf { .. }
            // Somebody has to mount it.
            | WaitingOn::Mount { .. }
            | WaitingOn::Content { .. }
            | WaitingOn::Unhealthy { then: Unwell::Stopped | Unwell::RunsOn, .. }
            | WaitingOn::Refresh { .. }
            | WaitingOn::Recreation { .. } => false,
            WaitingOn::Dependency { why, .. } => order::goes_on(*why),
            WaitingOn::Image(_)
            | WaitingOn::Step(_)
            | WaitingOn::Predecessor(_)
            | WaitingOn::Dependents { .. }
            | WaitingOn::Retry { .. }
            | WaitingOn::Backoff { .. }
            | WaitingOn::FirstCheck
            | WaitingOn::Unhealthy { then: Unwell::Restarts { .. }, .. }
            | WaitingOn::Network { .. }
            | WaitingOn::Turn => true,
        };
        let busy = !self.under_way.is_empty()
            || self.plan.waiting.iter().any(|w| open(&w))
            || !self.plan.upkeep.is_empty()
            || self.absent;
        let note = [around.gauges.store_note.clone(), around.unsaved.clone()].into_iter().flatten().collect::<Vec<_>>();
        View {
            at: around.now,
            revision: around.revision,
            ready: self.ready,
            settled: self.ready && saved && !busy,
            folder: FolderView {
                path: around.folder.to_owned(),
                held: self.ledger.held().cloned(),
                watching: around.watching.clone(),
            },
            store: StoreView { note: (!note.is_empty()).then(|| note.join("; ")) },
            projects,
            images: self.image_views(&around.gauges),
            needed: in_use(&self.desired, &self.observed, &self.memory).into_iter().cloned().collect(),
            problems: self.problems(),
            under_way: self.under_way.values().map(|u| self.step_view(u)).collect(),
            waiting: self.waiting_views(),
            loosenings: around.gauges.loosenings.clone(),
            notes: around.gauges.notes.clone(),
            networks: self.network_views(),
            volumes: self.volumes_view(),
            secrets: self.secrets_view(),
            jobs: self.job_views(),
            tasks: self.task_views(),
        }
    }

    /// What waits, and for what, in words.
    #[must_use]
    pub fn waits(&self) -> Vec<(String, String)> {
        self.plan.waiting.iter().map(|wait| (wait.slot.to_string(), self.wait_reason(&wait.on))).collect()
    }

    fn step_view(&self, under: &super::reconciler::UnderWay) -> StepView {
        StepView {
            verb: under.action.verb(),
            what: under.what.clone(),
            reason: under.reason.clone(),
            since: under.since,
        }
    }

    fn waiting_views(&self) -> Vec<WaitView> {
        let slots = self.plan.waiting.iter().filter(|w| !done(w)).map(|w| self.wait_view(w));
        let upkeep = self.plan.upkeep.iter().map(|upkeep| self.upkeep_view(upkeep));
        slots.chain(upkeep).collect()
    }

    fn wait_view(&self, wait: &Wait) -> WaitView {
        let since = self.waiting_since.get(&(wait.slot.clone(), wait_kind(&wait.on))).copied().unwrap_or_default();
        WaitView { what: wait.slot.to_string(), reason: self.wait_reason(&wait.on), since, until: wait.until }
    }

    pub(super) fn wait_reason(&self, on: &WaitingOn) -> String {
        match on {
            WaitingOn::Image(image) => match self.pull_failure(image) {
                Some(failure) => format!("image {image}: attempt {} failed: {}", failure.attempts, failure.error),
                None => self.pull_in_words(image),
            },
            WaitingOn::Refresh { image, error, attempts } => format!(
                "what is here of image {image} is used: its registry could not be asked whether it moved (attempt {attempts}: {error})"
            ),
            WaitingOn::Recreation { image, digest } => format!(
                "image {image} is here in another version ({}); it is used when the container is made anew",
                digest.short()
            ),
            WaitingOn::Step(verb) => format!("{verb} is under way"),
            WaitingOn::Predecessor(id) => match self.observed.containers.get(id) {
                Some(old) => format!("the container that it replaces ({}, {}) has to end", old.spec.name, id.short()),
                None => format!("the container that it replaces ({}) has to end", id.short()),
            },
            WaitingOn::Retry { verb, error, attempts } => {
                let times = if *attempts == 1 { "once".to_owned() } else { format!("{attempts} times") };
                format!("{verb} failed {times}: {error}")
            }
            WaitingOn::Backoff { status, restarts } => {
                format!("{status}; started again after a pause ({restarts} restarts so far)")
            }
            WaitingOn::Turn => "others are under way; it is its turn soon".to_owned(),
            WaitingOn::Owner { status, because } => format!("{status}; it stays so ({because})"),
            WaitingOn::Held => "held: see its problems".to_owned(),
            WaitingOn::Stopped(by) => by.reason().to_owned(),
            WaitingOn::Paused => "it is paused by hand".to_owned(),
            WaitingOn::NeverPulled(image) => {
                format!("image {image} is not here and pull_policy is never; pull it by hand or change the policy")
            }
            WaitingOn::Network { id, name, after } => self.network_reason(id, name, after.as_ref()),
            WaitingOn::NoNetwork(name) => format!(
                "network {name} is external and no state file defines it; define it in one: networks: {{{name}: {{name: {name}}}}}"
            ),
            WaitingOn::Mount { path, point, why } => format!(
                "{} is not mounted ({why}), and {} of this service is on it; it is started once it is mounted",
                point.display(),
                path.display()
            ),
            WaitingOn::FirstCheck => "its health check has not gone well yet".to_owned(),
            WaitingOn::Unhealthy { said, then } => super::health::unwell(said, *then),
            WaitingOn::Content { kind, name } => {
                let kind = kind.word();
                format!(
                    "what its {kind} {name:?} holds is kept in no record, and its state file does not say it now; it is started once the file defines the {kind}"
                )
            }
            WaitingOn::Dependency { of, why } => self.dependency_reason(of, *why),
            WaitingOn::Dependents { name, .. } => {
                format!("{name} goes too, and is stopped first: it comes after this one")
            }
            WaitingOn::Time { next: None, times, .. } => format!("its times never come again (`{times}`)"),
            WaitingOn::Time { next: Some(next), times, last: Some(status) } if !status.success() => {
                format!("its last run ended with {status}; waits for its next time: {next} (`{times}`)")
            }
            WaitingOn::Time { next: Some(next), times, .. } => {
                format!("waits for its next time: {next} (`{times}`)")
            }
            WaitingOn::NetworkOf { whose, here: true } => {
                format!("{whose}, whose network it shares, does not run; it is started once that one runs")
            }
            WaitingOn::NetworkOf { whose, here: false } => {
                format!("{whose}, whose network it shares, is not here; it is started once a container of it runs")
            }
        }
    }

    fn pull_failure(&self, image: &ImageReference) -> Option<&Failure> {
        self.memory.failures.get(&Key::Image(image.clone())).filter(|failure| failure.verb == "pull")
    }

    fn project_views(&self, saved: bool, gauges: &Gauges) -> Vec<ProjectView> {
        let mut names: BTreeSet<&ProjectName> = self.desired.projects.keys().collect();
        names.extend(self.observed.containers.values().map(|c| &c.spec.slot.project));
        let mut by_service: BTreeMap<(&ProjectName, &ServiceName), Vec<&ObservedContainer>> = BTreeMap::new();
        for container in self.observed.containers.values() {
            let slot = &container.spec.slot;
            by_service.entry((&slot.project, &slot.service)).or_default().push(container);
        }
        let mut waits: BTreeMap<(&ProjectName, &ServiceName), Vec<&Wait>> = BTreeMap::new();
        // What a one-off waits for is not the service's own.
        for wait in self.plan.waiting.iter().filter(|wait| wait.slot.number != TASK_NUMBER) {
            waits.entry((&wait.slot.project, &wait.slot.service)).or_default().push(wait);
        }
        let facts = Known { by_service, waits, saved, gauges };
        names.into_iter().map(|name| self.project_view(name, &facts)).collect()
    }

    fn project_view(&self, name: &ProjectName, facts: &Known<'_>) -> ProjectView {
        let project = self.desired.projects.get(name);
        let mut services: BTreeSet<&ServiceName> = project.iter().flat_map(|p| p.services.keys()).collect();
        services.extend(project.iter().flat_map(|p| p.unchosen.keys()));
        services.extend(facts.by_service.keys().filter(|(project, _)| *project == name).map(|(_, service)| *service));
        let services: Vec<ServiceView> =
            services.into_iter().map(|service| self.service_view(name, project, service, facts)).collect();
        let file = project.map(|p| p.file.clone());
        let known = project.is_some() || self.desired.kept.contains(name);
        let worst = services.iter().map(|s| s.phase).max();
        ProjectView {
            name: name.clone(),
            phase: if known { worst.unwrap_or(Phase::Applied) } else { Phase::Removing },
            last_good: file.as_ref().is_some_and(|file| self.ledger.is_last_good(file)),
            file,
            services,
        }
    }

    fn service_view(
        &self,
        name: &ProjectName,
        project: Option<&Project>,
        service: &ServiceName,
        facts: &Known<'_>,
    ) -> ServiceView {
        let wanted = project.and_then(|p| p.services.get(service));
        let none = Vec::new();
        let containers = facts.by_service.get(&(name, service)).unwrap_or(&none);
        let no_waits = Vec::new();
        let waits = facts.waits.get(&(name, service)).unwrap_or(&no_waits);
        let replicas: Vec<_> = containers.iter().copied().filter(|c| c.spec.purpose.task().is_none()).collect();
        let running = replicas.iter().filter(|c| matches!(c.state, ContainerState::Running { .. })).count();
        let waiting = waits.iter().filter(|w| !done(w)).map(|w| self.wait_view(w));
        let unchosen = project.and_then(|p| Some(not_chosen(name, service, p.unchosen.get(service)?)));
        let image = wanted.and_then(|s| s.image.clone()).or_else(|| containers.first().map(|c| c.spec.image.clone()));
        let key = (name.clone(), service.clone());
        ServiceView {
            name: service.clone(),
            image,
            phase: match &unchosen {
                Some(_) if replicas.is_empty() => Phase::Applied,
                Some(_) | None => self.service_phase(name, wanted, &replicas, waits, facts.saved),
            },
            wanted: wanted.map_or(0, |s| s.replicas),
            running: u32::try_from(running).unwrap_or(u32::MAX),
            holds: wanted.map(|s| self.holds_of(name, s)).unwrap_or_default(),
            loosenings: wanted.map(|s| s.loosenings.clone()).unwrap_or_default(),
            by_hand: self.hand_view(name, service),
            waiting: unchosen.into_iter().chain(waiting).collect(),
            ports: wanted.map(|s| port_views(s, facts.gauges)).unwrap_or_default(),
            generation: self.present_generation(&key),
            aside: self.aside_view(&key),
            update: self.update_note(&key),
            containers: containers.iter().map(|c| self.container_view(c, waits)).collect(),
        }
    }

    fn service_phase(
        &self,
        project: &ProjectName,
        wanted: Option<&Service>,
        containers: &[&ObservedContainer],
        waits: &[&Wait],
        saved: bool,
    ) -> Phase {
        let Some(wanted) = wanted else {
            return if self.desired.kept.contains(project) { Phase::Held } else { Phase::Removing };
        };
        let phase_of_wait = |wait: &&Wait| match &wait.on {
            WaitingOn::Held
            | WaitingOn::NoNetwork(_)
            | WaitingOn::Mount { .. }
            | WaitingOn::Content { .. }
            | WaitingOn::NetworkOf { here: false, .. } => Phase::Held,
            WaitingOn::Dependency { why, .. } => order::phase(*why),
            WaitingOn::Network { id, .. } if self.memory.failures.contains_key(&Key::Network(id.clone())) => {
                Phase::Failing
            }
            WaitingOn::Retry { .. }
            | WaitingOn::Backoff { .. }
            | WaitingOn::NeverPulled(_)
            | WaitingOn::Unhealthy { .. } => Phase::Failing,
            WaitingOn::Image(image) if self.pull_failure(image).is_some() => Phase::Failing,
            WaitingOn::Refresh { .. } | WaitingOn::Recreation { .. } | WaitingOn::Stopped(_) | WaitingOn::Paused => {
                Phase::Applied
            }
            WaitingOn::Time { last: Some(status), .. } if !status.success() => Phase::Failing,
            WaitingOn::Time { .. } => Phase::Applied,
            WaitingOn::Owner { status, .. } if status.success() => Phase::Applied,
            WaitingOn::Owner { .. } => Phase::Failing,
            WaitingOn::Image(_)
            | WaitingOn::Step(_)
            | WaitingOn::Predecessor(_)
            | WaitingOn::Dependents { .. }
            | WaitingOn::Network { .. }
            | WaitingOn::NetworkOf { here: true, .. }
            | WaitingOn::FirstCheck
            | WaitingOn::Turn => Phase::Applying,
        };
        let waiting = waits.iter().map(phase_of_wait).max().unwrap_or(Phase::Applied);
        let mine = |action: &Action| match action {
            Action::Create { spec }
            | Action::Start { spec, .. }
            | Action::Update { spec }
            | Action::Connect { spec }
            | Action::HandOver { spec } => {
                let slot = &spec.slot;
                slot.project == *project && slot.service == wanted.name && slot.number != TASK_NUMBER
            }
            Action::HoldPorts { id }
            | Action::Stop { id, .. }
            | Action::Pause { id }
            | Action::Unpause { id }
            | Action::Remove { id } => containers.iter().any(|c| c.spec.id == *id),
            Action::Pull { image, .. } => wanted.images().any(|wanted| wanted == image),
            Action::RemoveImage { .. } | Action::MakeNetwork { .. } | Action::RemoveNetwork { .. } | Action::Guard => {
                false
            }
        };
        let busy = !saved || self.under_way.values().any(|under| mine(&under.action));
        let aside = self.aside_view(&(project.clone(), wanted.name.clone())).is_some();
        let held = aside || !self.holds_of(project, wanted).is_empty();
        match (held, busy) {
            (true, _) => Phase::Held,
            (false, true) => waiting.max(Phase::Applying),
            (false, false) => waiting,
        }
    }

    fn container_view(&self, container: &ObservedContainer, waits: &[&Wait]) -> ContainerView {
        let spec = &container.spec;
        let Slot { project, service, number } = spec.slot.clone();
        let goes_on = |w: &&&Wait| container.state.alive() && matches!(w.on, WaitingOn::Time { .. });
        let mine = || waits.iter().filter(|w| w.slot == spec.slot).filter(|w| !goes_on(w));
        // A note about its image comes after what it really waits for.
        let wait = mine().find(|w| !matches!(w.on, WaitingOn::Recreation { .. })).or_else(|| mine().next());
        let reason = match wait {
            Some(wait) if !matches!(wait.on, WaitingOn::Held | WaitingOn::Predecessor(_)) => self.wait_reason(&wait.on),
            _ => {
                self.reasons.get(&spec.id).cloned().unwrap_or_else(|| "it was here when the daemon started".to_owned())
            }
        };
        ContainerView {
            id: spec.id.clone(),
            name: spec.name.clone(),
            project,
            service,
            number,
            image: spec.image.clone(),
            image_digest: spec.image_digest.clone(),
            hash: spec.service.hash.to_string(),
            settings: Settings::of(&spec.service),
            state: state_view(container),
            health: self.observed.health.get(&spec.id).copied(),
            paused: self.observed.paused.contains(&spec.id),
            restarts: self.restarts_of(&spec.id),
            reason,
            next_attempt: wait.and_then(|w| w.until),
            links: self.links_of(container),
            ports: self.ports_of(container),
            shares: self.shared_by(container),
        }
    }

    fn image_views(&self, gauges: &Gauges) -> Vec<ImageView> {
        let mut states: BTreeMap<&ImageReference, ImageStateView> = BTreeMap::new();
        for (image, facts) in &self.observed.images {
            let bytes = gauges.sizes.get(image).copied().unwrap_or(facts.bytes);
            states.insert(image, ImageStateView::Present { digest: facts.digest.clone(), bytes });
        }
        for (key, failure) in &self.memory.failures {
            if let Key::Image(image) = key
                && failure.verb == "pull"
            {
                // What is here is of use although nobody could be asked whether it moved; the wait says that.
                let (error, attempts) = (failure.error.clone(), failure.attempts);
                let next_attempt = Some(failure.retry_at);
                states.entry(image).or_insert(ImageStateView::Failed { error, attempts, next_attempt });
            }
        }
        for (image, transfer) in &gauges.transfers {
            // A question about what is here is no pull.
            if transfer.total.is_some() || !states.contains_key(image) {
                states.insert(image, pulling(transfer.clone(), transfer.since));
            }
        }
        for under in self.under_way.values() {
            let Action::Pull { image, refresh, .. } = &under.action else { continue };
            let transfer = gauges.transfers.get(image).cloned().unwrap_or_default();
            let here = self.observed.images.get(image).filter(|_| *refresh && transfer.total.is_none());
            let bytes = |facts: &ImageFacts| gauges.sizes.get(image).copied().unwrap_or(facts.bytes);
            let present =
                here.map(|facts| ImageStateView::Present { digest: facts.digest.clone(), bytes: bytes(facts) });
            states.insert(image, present.unwrap_or_else(|| pulling(transfer, under.since)));
        }
        states.into_iter().map(|(image, state)| ImageView { image: image.clone(), state }).collect()
    }
}

fn pulling(transfer: Transfer, since: Timestamp) -> ImageStateView {
    let Transfer { done, total, layers, wait, from, since: _ } = transfer;
    ImageStateView::Pulling { done, total, since, layers, wait, from }
}

/// The containers and waits of each service, gathered once.
struct Known<'a> {
    by_service: BTreeMap<(&'a ProjectName, &'a ServiceName), Vec<&'a ObservedContainer>>,
    waits: BTreeMap<(&'a ProjectName, &'a ServiceName), Vec<&'a Wait>>,
    saved: bool,
    gauges: &'a Gauges,
}

/// A service that is not part of its project.
fn not_chosen(project: &ProjectName, service: &ServiceName, profiles: &[String]) -> WaitView {
    let all: Vec<String> = profiles.iter().map(|profile| format!("`{profile}`")).collect();
    let reason = format!("not chosen: it asks for the profile {}", all.join(" or "));
    WaitView { what: format!("{project}/{service}"), reason, since: Timestamp::default(), until: None }
}

/// Whether it ended as it was meant to: nobody waits for anything.
fn done(wait: &Wait) -> bool {
    matches!(&wait.on, WaitingOn::Owner { status, .. } if status.success())
}

fn state_view(container: &ObservedContainer) -> ContainerStateView {
    match &container.state {
        ContainerState::Created => ContainerStateView::Created,
        ContainerState::Running { init, shim, since } => {
            ContainerStateView::Running { pid: init.pid, shim: shim.pid, since: *since }
        }
        ContainerState::Exited { status, at, .. } => {
            let how = status.told(container.spec.service.resources.memory);
            ContainerStateView::Exited { status: *status, how, at: *at }
        }
        ContainerState::StartFailed { error, at } => ContainerStateView::StartFailed { error: error.clone(), at: *at },
        ContainerState::Orphaned { .. } => ContainerStateView::Orphaned,
    }
}
