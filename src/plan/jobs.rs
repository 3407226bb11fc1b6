//! The rules for services that run at set times.
//!
//! Each time is decided once: it is run, or left out with a reason. What was decided is remembered before anything is done for it,
//! and the container of a run carries the time that it was made for: a time is not run twice, whatever is lost in between.
//!
//! ```text
//! time comes ─┬─▶ run: Create ─▶ Start ─▶ running ─▶ ended, remembered        (the container before is removed once the new one is made)
//!             ├─▶ queued, while the run before goes on
//!             └─▶ left out: it overlaps, or it passed too long ago
//! ```
//!
//! The wall clock comes in as data. Where it is set forward, what it leaps over was missed; where it is set back, nothing is run until it
//! has caught up, unless it was so far ahead that it must have been wrong. A run is as its file was when it began: an edit counts
//! from the next one on.

use super::slot::{container_spec, retire, start, stays_ended, supervise};
use super::{Job, JobRun, Planner, Stopped, Verdict, WaitingOn, hand, images, may_run};
use crate::model::{
    Action, ContainerId, ContainerSpec, ContainerState, ExitStatus, Health, ImageReference, Key, Missed, ON_TIME_MS,
    ObservedContainer, OnUnhealthy, Overlap, Passed, Purpose, Run, RunOutcome, RunWhy, Schedule, Service, Slot,
    StopPolicy, Timestamp,
};

/// Nobody tells us that the clock was set, or that the machine slept: it is looked at this often.
pub(super) const LOOK_MS: u64 = 30_000;
/// Further ahead of the clock than this, what was decided last was decided by a clock that was wrong.
pub(super) const WRONG_MS: u64 = 3 * 3_600_000;
/// A run that could not be begun for so long, where no limit is given, is not begun any more.
const GIVE_UP_MS: u64 = 3_600_000;

/// Looks after the run of the service, and decides about the times that came.
pub(super) fn fill(
    planner: &mut Planner<'_>,
    slot: &Slot,
    (service, schedule): (&Service, &Schedule),
    containers: &[&ObservedContainer],
) {
    let wall = planner.facts.observed.wall;
    let job = match known(planner, slot, schedule, containers) {
        Ok(job) => job,
        Err(verdict) => return planner.decide(slot, verdict),
    };
    if hand::is_paused(planner, slot) {
        return hold_still(planner, slot, (service, schedule), job, containers);
    }
    let decided = decided(job.decided, containers, wall);
    let pending = schedule.within(decided, wall);
    match &job.run {
        Some(run) => {
            let container = of_run(run, containers);
            if !run.begun && container.is_some_and(|c| begun(planner, c)) {
                return planner.decide(slot, Verdict::Begun);
            }
            if let Some(verdict) = over(planner, slot, schedule, (run, container), pending.is_some()) {
                return planner.decide(slot, verdict);
            }
            if let Some(times) = pending {
                let verdicts = overlap(schedule.overlap, run, job.queued.is_some(), times);
                return verdicts.into_iter().for_each(|verdict| planner.decide(slot, verdict));
            }
            go_on(planner, slot, service, run, (container, containers));
        }
        None if containers.iter().any(|c| may_run(c, planner.facts.under_way)) => {
            // What the file asked for before it had a schedule, or a run that nothing is remembered of.
            look_after_last(planner, slot, containers);
        }
        None => {
            if let Some(due) = job.queued {
                return planner.decide(slot, Verdict::Run(Run { due, why: RunWhy::Queued }));
            }
            if let Some(times) = pending {
                return come(schedule, times, wall).into_iter().for_each(|verdict| planner.decide(slot, verdict));
            }
            look_after_last(planner, slot, containers);
            prepare(planner, slot, service);
        }
    }
    wait(planner, slot, schedule, decided.max(wall), containers);
}

/// What is remembered of the service; or what is to be decided first.
fn known<'a>(
    planner: &Planner<'a>,
    slot: &Slot,
    schedule: &Schedule,
    containers: &[&ObservedContainer],
) -> Result<&'a Job, Verdict> {
    let wall = planner.facts.observed.wall;
    let of = (slot.project.clone(), slot.service.clone());
    let before = planner.facts.memory.jobs.get(&of);
    let Some(job) = before.filter(|job| job.schedule == schedule.key()) else {
        let run = before.and_then(|job| job.run.as_ref()).filter(|run| counts(&run.of, wall));
        let from = run.map_or(wall, |run| run.of.due.max(wall));
        return Err(Verdict::Begin { schedule: schedule.key(), from: decided(from, containers, wall) });
    };
    if job.decided.since(wall) > WRONG_MS {
        return Err(Verdict::Rewound);
    }
    let unknown = unknown(job.run.as_ref(), containers).cloned();
    unknown.map_or(Ok(job), |run| Err(Verdict::Adopt(run)))
}

/// The service is stopped: its run is over, and its times pass. What runs is ended by who calls.
pub(super) fn stop(
    planner: &mut Planner<'_>,
    slot: &Slot,
    (schedule, by): (&Schedule, Stopped),
    containers: &[&ObservedContainer],
) {
    let job = match known(planner, slot, schedule, containers) {
        Ok(job) => job,
        Err(verdict) => return planner.decide(slot, verdict),
    };
    let container = job.run.as_ref().and_then(|run| of_run(run, containers));
    let ends = job.run.as_ref().filter(|run| run.begun && run.stopped.is_none() && container.is_some());
    if ends.is_some() {
        return planner.decide(slot, Verdict::Stop(by.reason().to_owned()));
    }
    if let Some(verdict) = pass(planner, slot, schedule, (job, by.reason()), containers) {
        return planner.decide(slot, verdict);
    }
    wake(planner, schedule, job.decided);
}

/// The service is held still: what runs of it is, too, and its times pass.
fn hold_still(
    planner: &mut Planner<'_>,
    slot: &Slot,
    (service, schedule): (&Service, &Schedule),
    job: &Job,
    containers: &[&ObservedContainer],
) {
    if let Some(verdict) = pass(planner, slot, schedule, (job, "it is paused by hand"), containers) {
        return planner.decide(slot, verdict);
    }
    match &job.run {
        Some(run) => go_on(planner, slot, service, run, (of_run(run, containers), containers)),
        None => look_after_last(planner, slot, containers),
    }
    planner.wait(slot, WaitingOn::Paused, None);
    wake(planner, schedule, job.decided);
}

/// What is decided of times that come while nothing is begun, and of the run that was.
fn pass(
    planner: &Planner<'_>,
    slot: &Slot,
    schedule: &Schedule,
    (job, why): (&Job, &'static str),
    containers: &[&ObservedContainer],
) -> Option<Verdict> {
    let left = |due, times| Verdict::Leave { due, times, why: why.to_owned() };
    if let Some(run) = &job.run {
        let container = of_run(run, containers);
        if !run.begun && container.is_some_and(|c| begun(planner, c)) {
            return Some(Verdict::Begun);
        }
        if !run.begun && !busy(planner, slot, container) {
            return Some(Verdict::End(RunOutcome::Left { times: 1, why: why.to_owned() }));
        }
        let untimed = Schedule { timeout_ms: None, ..schedule.clone() };
        if let Some(verdict) = over(planner, slot, &untimed, (run, container), false) {
            return Some(verdict);
        }
    }
    if let Some(due) = job.queued {
        return Some(left(due, 1));
    }
    let wall = planner.facts.observed.wall;
    let times = schedule.within(decided(job.decided, containers, wall), wall)?;
    Some(left(times.last, times.before.map_or(1, |(_, times)| times + 1)))
}

fn of_run<'a>(run: &JobRun, containers: &[&'a ObservedContainer]) -> Option<&'a ObservedContainer> {
    containers.iter().copied().find(|c| c.spec.purpose.run() == Some(&run.of))
}

/// Whether its container is being made, or acted upon.
fn busy(planner: &Planner<'_>, slot: &Slot, container: Option<&ObservedContainer>) -> bool {
    let under_way = &planner.facts.under_way;
    let mine = |action: &Action| matches!(action, Action::Create { spec } if spec.slot == *slot);
    let acted_upon = |c: &ObservedContainer| under_way.contains_key(&Key::Container(c.spec.id.clone()));
    under_way.values().any(mine) || container.is_some_and(acted_upon)
}

/// When the next time comes, and when the clock is looked at again.
fn wake(planner: &mut Planner<'_>, schedule: &Schedule, decided: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
    let facts = planner.facts;
    let next = schedule.after(decided.max(facts.observed.wall));
    let until = next.map(|next| facts.now.plus_ms(next.since(facts.observed.wall).max(1)));
    let look = facts.now.plus_ms(LOOK_MS);
    planner.plan.wake(until.map_or(look, |until| until.min(look)));
    (next, until)
}

/// A run of which nothing is remembered: it was begun, and nothing could be written down any more.
fn unknown<'a>(known: Option<&JobRun>, containers: &[&'a ObservedContainer]) -> Option<&'a Run> {
    let alive = containers.iter().filter(|c| c.state.alive()).filter_map(|c| c.spec.purpose.run());
    alive.into_iter().find(|run| known.is_none_or(|known| known.of != **run))
}

/// Times up to this one are decided: as is remembered, or as a container shows.
fn decided(remembered: Timestamp, containers: &[&ObservedContainer], wall: Timestamp) -> Timestamp {
    let runs = containers.iter().filter_map(|c| c.spec.purpose.run()).filter(|run| counts(run, wall));
    runs.map(|run| run.due).max().map_or(remembered, |due| due.max(remembered))
}

/// Whether the run shows that times up to its own are decided.
fn counts(run: &Run, wall: Timestamp) -> bool {
    run.why != RunWhy::ByHand && run.due.since(wall) <= WRONG_MS
}

/// Whether its command ran, or is about to.
fn begun(planner: &Planner<'_>, container: &ObservedContainer) -> bool {
    match container.state {
        ContainerState::Running { .. } | ContainerState::Exited { .. } | ContainerState::Orphaned { .. } => true,
        ContainerState::Created | ContainerState::StartFailed { .. } => may_run(container, planner.facts.under_way),
    }
}

/// A run that is over, or that is not begun any more.
fn over(
    planner: &Planner<'_>,
    slot: &Slot,
    schedule: &Schedule,
    (run, container): (&JobRun, Option<&ObservedContainer>),
    next: bool,
) -> Option<Verdict> {
    let facts = planner.facts;
    if busy(planner, slot, container) {
        return None;
    }
    match container.map(|c| (c, &c.state)) {
        Some((container, ContainerState::Exited { status, started, at }))
            if run.stopped.is_some() || ended(planner, container, *status) =>
        {
            let (started, at, status, stopped) = (*started, *at, *status, run.stopped.clone());
            return Some(Verdict::End(RunOutcome::Ended { started, at, status, stopped }));
        }
        Some((container, ContainerState::Running { .. })) if run.stopped.is_none() => {
            if let Some(said) = unwell(planner, container) {
                return Some(Verdict::Stop(format!("unhealthy: {said}")));
            }
            let limit = schedule.timeout_ms?;
            let since = facts.memory.runs_since.get(&container.spec.id).copied().unwrap_or(facts.now);
            let over = facts.now.since(since) >= limit;
            return over.then(|| Verdict::Stop(format!("its timeout of {} s is over", limit.div_ceil(1000))));
        }
        None if run.begun => {
            let why = "its container was removed before it was seen how it ended".to_owned();
            return Some(Verdict::End(RunOutcome::Left { times: 1, why }));
        }
        Some((_, state)) if run.begun && !matches!(state, ContainerState::StartFailed { .. }) => return None,
        Some(_) | None => {}
    }
    let late = facts.observed.wall.since(run.of.due);
    let within = match schedule.missed {
        Missed::RunOnce { within_ms } => within_ms.max(ON_TIME_MS),
        Missed::Skip => GIVE_UP_MS,
    };
    let why = || match container.map(|c| (&c.state, facts.memory.failures.get(&Key::Container(c.spec.id.clone())))) {
        Some((_, Some(failure))) => format!("it could not be started: {}", failure.error),
        Some((ContainerState::StartFailed { error, .. }, None)) => format!("it could not be started: {error}"),
        Some(_) | None if next => "it was not started before the next time".to_owned(),
        Some(_) | None => "it could not be started in time".to_owned(),
    };
    let gives_way = next && schedule.overlap != Overlap::Queue;
    let too_late = late > within && !run.begun && matches!(run.of.why, RunWhy::Scheduled | RunWhy::Missed);
    (gives_way || too_late).then(|| Verdict::End(RunOutcome::Left { times: 1, why: why() }))
}

/// What its last check said, where it is unhealthy and is not to go on like that. Its policy does not try it again: a run of its
/// schedule is followed by the next one.
fn unwell<'a>(planner: &Planner<'a>, container: &ObservedContainer) -> Option<&'a str> {
    let (id, service) = (&container.spec.id, &container.spec.service);
    let observed = planner.facts.observed;
    let ill = observed.health.get(id) == Some(&Health::Unhealthy) && !observed.paused.contains(id);
    if !ill || service.health.reaction(service.restart) == OnUnhealthy::Nothing {
        return None;
    }
    Some(observed.complaints.get(id).map_or("", String::as_str))
}

/// Whether it is a run that was ended, or that another one followed.
pub(super) fn run_is_over(planner: &Planner<'_>, container: &ObservedContainer) -> bool {
    let Some(run) = container.spec.purpose.run() else { return false };
    let of = (container.spec.slot.project.clone(), container.spec.slot.service.clone());
    let present = planner.facts.memory.jobs.get(&of).and_then(|job| job.run.as_ref());
    present.is_none_or(|present| present.of != *run || present.stopped.is_some())
}

/// Whether its policy leaves it ended.
fn ended(planner: &Planner<'_>, container: &ObservedContainer, status: ExitStatus) -> bool {
    let restarts = planner.facts.memory.restarts.get(&container.spec.id).copied().unwrap_or_default();
    stays_ended(container.spec.service.restart, status, restarts.total).is_some()
}

/// It is time, and the run before goes on.
fn overlap(overlap: Overlap, run: &JobRun, queued: bool, Passed { last, before }: Passed) -> Vec<Verdict> {
    let left = |(due, times), why: &str| Verdict::Leave { due, times, why: why.to_owned() };
    let all = (last, before.map_or(1, |(_, times)| times + 1));
    let mut verdicts = Vec::new();
    match overlap {
        Overlap::Skip => verdicts.push(left(all, "the run before went on (overlap: skip)")),
        Overlap::Queue | Overlap::Replace if queued => {
            verdicts.push(left(all, "another one waits already for the run before to end"));
        }
        Overlap::Queue | Overlap::Replace => {
            verdicts.extend(before.map(|before| left(before, "the run before went on, and one at most waits for it")));
            verdicts.push(Verdict::Queue(last));
        }
    }
    if overlap == Overlap::Replace && run.stopped.is_none() {
        verdicts.push(Verdict::Stop("the next run takes its place (overlap: replace)".to_owned()));
    }
    verdicts
}

/// It is time, or was.
fn come(schedule: &Schedule, Passed { last, before }: Passed, wall: Timestamp) -> Vec<Verdict> {
    let late = wall.since(last);
    let why = match schedule.missed {
        _ if late <= ON_TIME_MS => Some(RunWhy::Scheduled),
        Missed::RunOnce { within_ms } if late <= within_ms => Some(RunWhy::Missed),
        Missed::RunOnce { .. } | Missed::Skip => None,
    };
    match why {
        None => vec![missed((last, before.map_or(1, |(_, times)| times + 1)))],
        Some(why) => before.map(missed).into_iter().chain([Verdict::Run(Run { due: last, why })]).collect(),
    }
}

fn missed((due, times): (Timestamp, u32)) -> Verdict {
    let why = "it passed while nothing could be started: the machine or the daemon was off, or the clock was set";
    Verdict::Leave { due, times, why: why.to_owned() }
}

/// Brings the run on its way.
fn go_on(
    planner: &mut Planner<'_>,
    slot: &Slot,
    service: &Service,
    run: &JobRun,
    (container, containers): (Option<&ObservedContainer>, &[&ObservedContainer]),
) {
    let Some(image) = &service.image else { return };
    let why = reason(run);
    let Some(container) = container else {
        let digest = images::resolved(planner, slot, service, image).cloned();
        let (Some(digest), Some(mounted)) = (digest, images::mounted(planner, slot, service)) else {
            return look_after_last(planner, slot, containers);
        };
        let id = ContainerId::of_run(slot, &run.of);
        // The file says when there is a next run.
        let service = Service { schedule: None, ..service.clone() };
        let purpose = Purpose::Run(run.of.clone());
        let spec = ContainerSpec { mounted, purpose, ..container_spec(id, slot, &service, image, &digest) };
        planner.step(slot, Action::Create { spec: Box::new(spec) }, why);
        return look_after_last(planner, slot, containers);
    };
    let others = || containers.iter().copied().filter(|c| c.spec.id != container.spec.id);
    for old in others() {
        retire(planner, slot, old, "another run takes its place");
    }
    if let Some(old) = others().find(|old| may_run(old, planner.facts.under_way)) {
        return planner.wait(slot, WaitingOn::Predecessor(old.spec.id.clone()), None);
    }
    match (&container.state, &run.stopped) {
        (ContainerState::Created | ContainerState::StartFailed { .. }, None) => start(planner, slot, container, why),
        (ContainerState::Running { .. }, Some(stopped)) => {
            let StopPolicy { signal, grace_ms } = service.stop;
            let stop = Action::Stop { id: container.spec.id.clone(), signal, grace_ms };
            planner.step(slot, stop, stopped.clone());
        }
        _ => supervise(planner, slot, container, container.spec.service.restart),
    }
}

fn reason(run: &JobRun) -> String {
    match run.of.why {
        RunWhy::Scheduled => "it is time".to_owned(),
        RunWhy::Missed => "it was time while nothing could be started".to_owned(),
        RunWhy::Queued => "it was time while the run before went on".to_owned(),
        RunWhy::ByHand => "its run was asked for by hand".to_owned(),
    }
}

/// The last run stays until there is another one; it shows how it went. What is no run is ended.
fn look_after_last(planner: &mut Planner<'_>, slot: &Slot, containers: &[&ObservedContainer]) {
    let due = |c: &ObservedContainer| c.spec.purpose.run().map(|run| run.due);
    let started = |c: &ObservedContainer| matches!(c.state, ContainerState::Exited { .. });
    let last =
        containers.iter().copied().filter(|c| due(c).is_some()).max_by_key(|c| (c.state.alive(), started(c), due(c)));
    for container in containers.iter().copied() {
        if due(container).is_none() {
            retire(planner, slot, container, "it runs at set times only");
        } else if last.is_some_and(|last| last.spec.id != container.spec.id) {
            retire(planner, slot, container, "another run took its place");
        } else if container.state.alive() {
            supervise(planner, slot, container, container.spec.service.restart);
        }
    }
}

/// Its image is had before it is time.
fn prepare(planner: &mut Planner<'_>, slot: &Slot, service: &Service) {
    let missing: Vec<ImageReference> =
        service.images().filter(|image| !planner.facts.observed.images.contains_key(image)).cloned().collect();
    for image in missing {
        let _later = images::resolved(planner, slot, service, &image);
    }
}

fn wait(
    planner: &mut Planner<'_>,
    slot: &Slot,
    schedule: &Schedule,
    after: Timestamp,
    containers: &[&ObservedContainer],
) {
    let facts = planner.facts;
    let last = containers.iter().filter(|c| c.spec.purpose.run().is_some()).find_map(|c| match c.state {
        ContainerState::Exited { status, .. } => Some(status),
        ContainerState::Created
        | ContainerState::Running { .. }
        | ContainerState::Orphaned { .. }
        | ContainerState::StartFailed { .. } => None,
    });
    let (next, until) = wake(planner, schedule, after);
    if let Some(limit) = schedule.timeout_ms {
        let runs = containers.iter().filter(|c| matches!(c.state, ContainerState::Running { .. }));
        let ends = runs.filter_map(|c| facts.memory.runs_since.get(&c.spec.id)).map(|since| since.plus_ms(limit));
        if let Some(at) = ends.filter(|at| *at > facts.now).min() {
            planner.plan.wake(at);
        }
    }
    let times = schedule.to_string();
    let next = next.map(|next| schedule.told(next));
    planner.wait(slot, WaitingOn::Time { next, times, last }, until);
}
