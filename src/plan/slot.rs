//! The rules for one slot: which container belongs there, and what is the next step towards it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::health::{self, Verdict};
use super::networks::{Standing, standing};
use super::{
    Blocked, Planner, Stopped, Unwell, WaitingOn, files, hand, images, jobs, joins, live, may_run, mounts, order,
};
use crate::model::{
    Action, ContainerId, ContainerName, ContainerSpec, ContainerState, Digest, ExitStatus, ImageReference, Key,
    NetworkName, ObservedContainer, Purpose, RestartPolicy, Service, Signal, Slot, StopPolicy, Timestamp,
};

pub(super) fn plan_slot(planner: &mut Planner<'_>, slot: &Slot, containers: &[&ObservedContainer]) {
    match wanted(planner, slot) {
        Wanted::Nothing(reason) => clear(planner, slot, containers, reason),
        Wanted::Stopped(by) => halt(planner, slot, containers, by),
        Wanted::AsItIs => keep(planner, slot, containers, WaitingOn::Held),
        Wanted::NoNetwork(name) => keep(planner, slot, containers, WaitingOn::NoNetwork(name.clone())),
        Wanted::Service(service) => match &service.schedule {
            Some(schedule) => jobs::fill(planner, slot, (service, schedule), containers),
            None => fill(planner, slot, service, containers),
        },
    }
}

enum Wanted<'a> {
    /// Nothing belongs here.
    Nothing(&'static str),
    /// Nothing that runs; what is here stays.
    Stopped(Stopped),
    /// The service is held, or unknown: what is here stays, nothing new is made.
    AsItIs,
    /// The same, because nobody defines this network.
    NoNetwork(&'a NetworkName),
    /// A container of this service.
    Service(&'a Service),
}

fn wanted<'a>(planner: &Planner<'a>, slot: &Slot) -> Wanted<'a> {
    let Some(project) = planner.facts.desired.projects.get(&slot.project) else {
        let unknown = planner.facts.desired.kept.contains(&slot.project);
        return if unknown { Wanted::AsItIs } else { Wanted::Nothing("its state file is gone") };
    };
    let Some(service) = project.services.get(&slot.service) else {
        let unchosen = project.unchosen.contains_key(&slot.service);
        return Wanted::Nothing(if unchosen { UNCHOSEN } else { "its service is no longer in the file" });
    };
    let surplus = slot.number > service.replicas;
    match standing(planner.facts, (planner.networks.defined(), &planner.order), project, service) {
        Standing::Held => Wanted::AsItIs,
        Standing::NoNetwork(name) => Wanted::NoNetwork(name),
        Standing::Stopped(_) | Standing::InForce if surplus => Wanted::Nothing(FEWER),
        Standing::Stopped(by) => Wanted::Stopped(by),
        Standing::InForce => Wanted::Service(service),
    }
}

const UNCHOSEN: &str = "none of its profiles is chosen";
const FEWER: &str = "fewer replicas are asked for";

/// Whether nothing belongs in the slot.
pub(super) fn surplus(planner: &Planner<'_>, slot: &Slot) -> bool {
    matches!(wanted(planner, slot), Wanted::Nothing(_))
}

/// Ends and removes everything in the slot.
fn clear(planner: &mut Planner<'_>, slot: &Slot, containers: &[&ObservedContainer], reason: &str) {
    if reason == FEWER && hand::not_yet(planner, slot, true) {
        return planner.wait(slot, WaitingOn::Turn, None);
    }
    for container in containers {
        match order::holds_the_stop(planner, slot) {
            Some(on) if matches!(container.state, ContainerState::Running { .. }) => planner.wait(slot, on, None),
            Some(_) | None => retire(planner, slot, container, reason),
        }
    }
}

/// A stopped service: what runs is ended and kept; nothing is started, made or replaced.
fn halt(planner: &mut Planner<'_>, slot: &Slot, containers: &[&ObservedContainer], by: Stopped) {
    for container in containers.iter().filter(|container| container.state.alive()) {
        retire(planner, slot, container, by.reason());
    }
    planner.wait(slot, WaitingOn::Stopped(by), None);
    let project = planner.facts.desired.projects.get(&slot.project);
    if let Some(schedule) = project.and_then(|p| p.services.get(&slot.service)?.schedule.as_ref()) {
        jobs::stop(planner, slot, (schedule, by), containers);
    }
}

/// A held service: what runs is looked after as it was made; nothing is created, replaced or removed.
fn keep(planner: &mut Planner<'_>, slot: &Slot, containers: &[&ObservedContainer], on: WaitingOn) {
    keep_running(planner, slot, None, containers);
    planner.wait(slot, on, None);
}

/// Brings the slot towards a container of this service.
fn fill(planner: &mut Planner<'_>, slot: &Slot, service: &Service, containers: &[&ObservedContainer]) {
    let Some(image) = &service.image else { return };
    let current = current(planner, service, containers);
    let stale = || containers.iter().filter(|c| current.is_none_or(|chosen| chosen.spec.id != c.spec.id));
    match current {
        None if containers.is_empty() && hand::not_yet(planner, slot, false) => {
            planner.wait(slot, WaitingOn::Turn, None);
        }
        None => {
            let digest = images::resolved(planner, slot, service, image);
            let (Some(digest), Some(mounted)) = (digest, images::mounted(planner, slot, service)) else {
                return keep_running(planner, slot, Some(service), containers);
            };
            let id = ContainerId::mounting(slot, &service.hash, digest, &mounted);
            let spec = Box::new(ContainerSpec { mounted, ..container_spec(id, slot, service, image, digest) });
            planner.step(slot, Action::Create { spec }, creation_reason(service, digest, containers));
            keep_running(planner, slot, Some(service), containers);
        }
        Some(container) => {
            if let Some(blocked) = stale().find_map(|old| order::holds_the_change(planner, old)) {
                planner.wait(slot, blocked.0, blocked.1);
                keep_running(planner, slot, Some(service), containers);
                // Each move of a tag makes a successor; one that never ran is nobody's any more.
                let superseded: Vec<_> = stale().filter(|old| never_ran(planner, old)).collect();
                for old in superseded {
                    retire(planner, slot, old, &retirement_reason(service, container, old));
                }
                return images::look_after(planner, slot, service, image, container);
            }
            for old in stale() {
                let reason = retirement_reason(service, container, old);
                retire(planner, slot, old, &reason);
            }
            match stale().find(|old| may_run(old, planner.facts.under_way)) {
                Some(old) if !matches!(container.state, ContainerState::Running { .. }) => {
                    planner.wait(slot, WaitingOn::Predecessor(old.spec.id.clone()), None);
                }
                Some(_) | None => supervise_current(planner, slot, container, service),
            }
            images::look_after(planner, slot, service, image, container);
        }
    }
}

fn never_ran(planner: &Planner<'_>, container: &ObservedContainer) -> bool {
    let started = match container.state {
        ContainerState::Created | ContainerState::StartFailed { .. } => false,
        ContainerState::Running { .. } | ContainerState::Exited { .. } | ContainerState::Orphaned { .. } => true,
    };
    !started && !may_run(container, planner.facts.under_way)
}

/// The container that is what the file asks for: by hash, and by digest where the service follows its tag; of several, the one that
/// runs, else the one of the present image.
fn current<'a>(
    planner: &Planner<'_>,
    service: &Service,
    containers: &[&'a ObservedContainer],
) -> Option<&'a ObservedContainer> {
    let present = images::here(planner, service).map(|facts| &facts.digest);
    let matching = || {
        let same = containers.iter().copied().filter(|c| c.spec.service.hash == service.hash);
        let same = same.filter(|c| c.spec.purpose == Purpose::Service);
        same.filter(|c| !images::moved(planner, service, c))
    };
    matching()
        .find(|c| may_run(c, planner.facts.under_way))
        .or_else(|| matching().find(|c| present == Some(&c.spec.image_digest)))
        .or_else(|| matching().next())
}

/// While no successor is made, the old container is looked after as before: as it was made, or as the file says where only its image
/// is another.
fn keep_running(planner: &mut Planner<'_>, slot: &Slot, service: Option<&Service>, containers: &[&ObservedContainer]) {
    if let Some(container) = incumbent(planner, containers) {
        if container.spec.purpose != Purpose::Service {
            // Who is unhealthy is seen to where its schedule is.
            return supervise(planner, slot, container, container.spec.service.restart);
        }
        let present = service.filter(|service| service.hash == container.spec.service.hash);
        let service = present.unwrap_or(&container.spec.service);
        health::keep(planner, container, service);
        look_after(planner, slot, container, service);
    }
}

/// The container that runs, else the one that ran last. A successor that was made and never started is not it: its own successor may
/// not come for long.
fn incumbent<'a>(planner: &Planner<'_>, containers: &[&'a ObservedContainer]) -> Option<&'a ObservedContainer> {
    let alive = containers.iter().copied().find(|c| may_run(c, planner.facts.under_way));
    let ran = |c: &ObservedContainer| match c.state {
        ContainerState::Exited { started, .. } => Some(started),
        ContainerState::Created
        | ContainerState::Running { .. }
        | ContainerState::Orphaned { .. }
        | ContainerState::StartFailed { .. } => None,
    };
    alive.or_else(|| containers.iter().copied().filter(|c| ran(c).is_some()).max_by_key(|c| ran(c)))
}

fn creation_reason(service: &Service, digest: &Digest, containers: &[&ObservedContainer]) -> String {
    let same = containers.iter().find(|c| c.spec.service.hash == service.hash);
    match (same, &service.image) {
        (Some(old), Some(image)) => images::moved_reason(image, &old.spec.image_digest, digest),
        _ if containers.is_empty() => "the file asks for it".to_owned(),
        _ => "its specification changed".to_owned(),
    }
}

fn retirement_reason(service: &Service, current: &ObservedContainer, old: &ObservedContainer) -> String {
    match &service.image {
        Some(image) if old.spec.service.hash == service.hash && images::follows(service) => {
            images::moved_reason(image, &old.spec.image_digest, &current.spec.image_digest)
        }
        _ => "its specification changed".to_owned(),
    }
}

pub(super) fn container_spec(
    id: ContainerId,
    slot: &Slot,
    service: &Service,
    image: &ImageReference,
    digest: &Digest,
) -> ContainerSpec {
    let replica_name = || ContainerName::of_replica(&slot.project, &slot.service, slot.number);
    ContainerSpec {
        id,
        name: service.container_name.clone().unwrap_or_else(replica_name),
        slot: slot.clone(),
        image: image.clone(),
        image_digest: digest.clone(),
        mounted: BTreeMap::new(),
        service: service.clone(),
        purpose: Purpose::Service,
    }
}

/// Ends a container that nobody wants, then removes it.
pub(super) fn retire(planner: &mut Planner<'_>, slot: &Slot, container: &ObservedContainer, reason: &str) {
    let id = container.spec.id.clone();
    let action = match container.state {
        ContainerState::Running { .. } => {
            let StopPolicy { signal, grace_ms } = stop_policy(planner, slot, container);
            Action::Stop { id, signal, grace_ms }
        }
        ContainerState::Orphaned { .. } => kill(id),
        ContainerState::Created | ContainerState::Exited { .. } | ContainerState::StartFailed { .. } => {
            Action::Remove { id }
        }
    };
    planner.step(slot, action, reason.to_owned());
}

/// As the file says now; as the container was made where the file says nothing any more.
fn stop_policy(planner: &Planner<'_>, slot: &Slot, container: &ObservedContainer) -> StopPolicy {
    let project = planner.facts.desired.projects.get(&slot.project);
    let service = project.and_then(|p| p.services.get(&slot.service));
    let policy = service.map_or(container.spec.service.stop, |service| service.stop);
    let grace_ms = planner.facts.desired.by_hand(slot).and_then(|hand| hand.grace_ms);
    StopPolicy { grace_ms: grace_ms.unwrap_or(policy.grace_ms), ..policy }
}

const fn kill(id: ContainerId) -> Action {
    Action::Stop { id, signal: Some(Signal::KILL), grace_ms: 0 }
}

/// The current container: given what changed, started when it was never started, then supervised by the file's present policy.
fn supervise_current(planner: &mut Planner<'_>, slot: &Slot, container: &ObservedContainer, service: &Service) {
    health::keep(planner, container, service);
    // What is left of an orphan is ended first.
    let orphaned = matches!(container.state, ContainerState::Orphaned { .. });
    let given = if orphaned { ControlFlow::Continue(None) } else { live::update(planner, slot, container, service) };
    let ControlFlow::Continue(failed) = given else { return };
    match &container.state {
        ContainerState::Created | ContainerState::StartFailed { .. } => {
            start(planner, slot, container, "the file asks for it".to_owned());
        }
        ContainerState::Running { .. } | ContainerState::Exited { .. } => match moving(planner, container, service) {
            Some(reason) => relocate(planner, slot, container, reason),
            None => look_after(planner, slot, container, service),
        },
        ContainerState::Orphaned { .. } => look_after(planner, slot, container, service),
    }
    if let Some(blocked) = failed {
        planner.wait(slot, blocked.0, blocked.1);
    }
}

/// Why the container is started on another network than it was on, or with another file: because it has to be, or because that is why
/// it was stopped.
fn moving(planner: &Planner<'_>, container: &ObservedContainer, service: &Service) -> Option<String> {
    let begun = planner.facts.memory.moving.get(&container.spec.id);
    let running = matches!(container.state, ContainerState::Running { .. });
    let busy = planner.facts.under_way.contains_key(&Key::Container(container.spec.id.clone()));
    let changed = || files::restarts(container, service);
    let again = hand::again(planner, container);
    let follows = || order::follows(planner, container);
    let why = again.or_else(|| joins::moved(planner, container)).or_else(changed).or_else(follows);
    why.or_else(|| begun.filter(|_| !running || busy).cloned())
}

/// Stops the container, as soon as it can be started again on its other network, with its other files, and starts it there.
fn relocate(planner: &mut Planner<'_>, slot: &Slot, container: &ObservedContainer, reason: String) {
    let id = container.spec.id.clone();
    let running = matches!(container.state, ContainerState::Running { .. });
    let busy = planner.facts.under_way.contains_key(&Key::Container(id.clone()));
    if running
        && !busy
        && let Some(blocked) = holds_the_start(planner, container)
    {
        planner.wait(slot, blocked.0, blocked.1);
        return joins::connect(planner, slot, container);
    }
    if running {
        let StopPolicy { signal, grace_ms } = stop_policy(planner, slot, container);
        planner.step(slot, Action::Stop { id: id.clone(), signal, grace_ms }, reason.clone());
    } else {
        start(planner, slot, container, reason.clone());
    }
    // One that ended by itself, and for which nothing is done yet, may be left to its policy again by an edit.
    let acts = planner.plan.steps.iter().any(|step| step.action.key() == Key::Container(id.clone()));
    if acts || planner.facts.memory.moving.contains_key(&id) {
        planner.plan.moving.insert(id, reason);
    }
}

/// Looks after a container that was started: by its health, and else by its policy.
fn look_after(planner: &mut Planner<'_>, slot: &Slot, container: &ObservedContainer, service: &Service) {
    let id = &container.spec.id;
    let unwell = |said, then| WaitingOn::Unhealthy { said, then };
    let (on, until) = match health::verdict(planner, container, service) {
        Verdict::Nothing => return supervise(planner, slot, container, service.restart),
        Verdict::Restart(reason) => {
            relocate(planner, slot, container, reason);
            if planner.plan.moving.contains_key(id) {
                planner.plan.curing.insert(id.clone());
            }
            return;
        }
        Verdict::Stop(said) => return give_up(planner, slot, container, said),
        Verdict::Stays(said) => return planner.wait(slot, unwell(said, Unwell::Stopped), None),
        Verdict::Starting => (WaitingOn::FirstCheck, None),
        Verdict::Pause { said, restarts, until } => (unwell(said, Unwell::Restarts { so_far: restarts }), Some(until)),
        Verdict::Told(said) => (unwell(said, Unwell::RunsOn), None),
    };
    supervise(planner, slot, container, service.restart);
    planner.wait(slot, on, until);
}

/// Stops a container because it is unhealthy, for good.
fn give_up(planner: &mut Planner<'_>, slot: &Slot, container: &ObservedContainer, said: String) {
    let id = container.spec.id.clone();
    let StopPolicy { signal, grace_ms } = stop_policy(planner, slot, container);
    let reason = format!("unhealthy: {said}; on_unhealthy: stop");
    planner.step(slot, Action::Stop { id: id.clone(), signal, grace_ms }, reason);
    let acts = planner.plan.steps.iter().any(|step| step.action.key() == Key::Container(id.clone()));
    if acts {
        planner.plan.given_up.insert(id, said);
    }
}

/// What a container that is to be stopped and started again would wait for then: it runs on until that is there.
fn holds_the_start(planner: &Planner<'_>, container: &ObservedContainer) -> Option<Blocked> {
    let missing = mounts::missing(&planner.facts.observed.mounts, &container.spec);
    let on = missing.or_else(|| files::given(planner, &container.spec).err());
    let blocked = on.map(|on| Box::new((on, None))).or_else(|| joins::holds_the_move(planner, container));
    blocked.or_else(|| order::holds_the_change(planner, container))
}

/// Looks after a container that was started: restart, wait, or leave it to its owner.
pub(super) fn supervise(planner: &mut Planner<'_>, slot: &Slot, container: &ObservedContainer, policy: RestartPolicy) {
    match &container.state {
        ContainerState::Running { .. } => {
            let key = Key::Container(container.spec.id.clone());
            if let Some(action) = planner.facts.under_way.get(&key) {
                let verb = action.verb();
                return planner.wait(slot, WaitingOn::Step(verb), None);
            }
            if hand::pause(planner, slot, container) {
                return;
            }
            joins::connect(planner, slot, container);
        }
        ContainerState::Orphaned { .. } => {
            let reason = "its shim was killed; what is left of it is ended".to_owned();
            planner.step(slot, kill(container.spec.id.clone()), reason);
        }
        ContainerState::Exited { status, started, at } => {
            restart(planner, slot, container, policy, *status, at.since(*started));
        }
        ContainerState::Created | ContainerState::StartFailed { .. } => {}
    }
}

fn restart(
    planner: &mut Planner<'_>,
    slot: &Slot,
    container: &ObservedContainer,
    policy: RestartPolicy,
    status: ExitStatus,
    ran_ms: u64,
) {
    let restarts = planner.facts.memory.restarts.get(&container.spec.id).copied().unwrap_or_default();
    let over = jobs::run_is_over(planner, container).then_some("its run is over");
    if let Some(because) = stays_ended(policy, status, restarts.total).or(over) {
        return planner.wait(slot, WaitingOn::Owner { status, because }, None);
    }
    let due = match status {
        ExitStatus::MachineStopped => Timestamp::default(),
        ExitStatus::Code(_)
        | ExitStatus::Signal(_)
        | ExitStatus::OomKilled
        | ExitStatus::AfterOom(_)
        | ExitStatus::ShimLost => {
            let ended = planner.facts.memory.ends.get(&container.spec.id).copied().unwrap_or(planner.facts.now);
            let pace = container.spec.service.pace;
            ended.plus_ms(pace.delay_ms(pace.streak(restarts.streak, ran_ms)))
        }
    };
    if due > planner.facts.now {
        return planner.wait(slot, WaitingOn::Backoff { status, restarts: restarts.total }, Some(due));
    }
    let how = status.told(container.spec.service.resources.memory);
    start(planner, slot, container, format!("{how}; restart: {}", policy_name(policy)));
}

pub(super) fn stays_ended(policy: RestartPolicy, status: ExitStatus, restarts: u32) -> Option<&'static str> {
    match policy {
        RestartPolicy::No => Some("restart: no"),
        RestartPolicy::Always | RestartPolicy::UnlessStopped => None,
        RestartPolicy::OnFailure { .. } if status.success() => Some("restart: on-failure, and it succeeded"),
        RestartPolicy::OnFailure { max: Some(max) } if restarts >= max => {
            Some("restart: on-failure, and all its attempts are used up")
        }
        RestartPolicy::OnFailure { .. } => None,
    }
}

const fn policy_name(policy: RestartPolicy) -> &'static str {
    match policy {
        RestartPolicy::No => "no",
        RestartPolicy::Always => "always",
        RestartPolicy::UnlessStopped => "unless-stopped",
        RestartPolicy::OnFailure { .. } => "on-failure",
    }
}

pub(super) fn start(planner: &mut Planner<'_>, slot: &Slot, container: &ObservedContainer, reason: String) {
    let missing = || mounts::missing(&planner.facts.observed.mounts, &container.spec);
    if let Some(on) = order::unmet(planner, slot).or_else(missing) {
        return planner.wait(slot, on, None);
    }
    let mut spec = Box::new(container.spec.clone());
    match files::given(planner, &container.spec) {
        Ok(files) => spec.service.files = files,
        Err(on) => return planner.wait(slot, on, None),
    }
    match joins::place(planner, container) {
        Ok(network) => planner.step(slot, Action::Start { spec, network }, reason),
        Err(blocked) => planner.wait(slot, blocked.0, blocked.1),
    }
}
