//! The toy host's services that run at set times, and its wall clock, which jumps. What is checked is said a second time here: each time
//! is run once or left out, and no run is begun beside another one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;

use super::service;
use crate::model::{
    ContainerId, ContainerSpec, Health, Missed, ON_TIME_MS, ObservedContainer, OnUnhealthy, Overlap, Project,
    ProjectName, PullPolicy, RestartPolicy, Run, RunOutcome, RunWhy, Schedule, Service, ServiceName, Slot, Times,
    Timestamp, Zone,
};
use crate::plan::sim::{Chance, World};
use crate::plan::{self, Facts, Job, JobStep, Observed, Plan, Verdict, WaitingOn};

type Of = (ProjectName, ServiceName);

/// What is known of times, apart from the planner's memory.
#[derive(Default)]
pub(in crate::plan) struct Jobs {
    /// What the wall clock is ahead of the one that does not jump.
    ahead_ms: u64,
    /// What the database held before the last decisions.
    saved: BTreeMap<Of, Job>,
    /// Which times were begun.
    ran: BTreeSet<(Of, Timestamp, bool)>,
    /// From when on times count, and how many were decided since; none where that was lost with the daemon.
    counted: BTreeMap<Of, (Timestamp, u32)>,
}

pub(super) fn of(slot: &Slot) -> Of {
    (slot.project.clone(), slot.service.clone())
}

impl World {
    pub(in crate::plan) fn wall(&self) -> Timestamp {
        self.now.plus_ms(self.jobs.ahead_ms)
    }

    /// The clock of runs is the wall clock; of the others, for their back-off's sake, the one that does not jump.
    pub(in crate::plan) fn wall_of(&self, id: &ContainerId) -> Timestamp {
        let run = self.containers.get(id).is_some_and(|c| c.spec.purpose.run().is_some());
        if run { self.wall() } else { self.now }
    }

    fn plan(&self, observed: &Observed) -> Plan {
        let (desired, memory, under_way) = (&self.desired, &self.memory, &self.under_way);
        let (limits, collect, now) = (self.limits, self.collect, self.now);
        plan::plan(&Facts { desired, observed, memory, under_way, limits, collect, now })
    }

    pub(super) fn set_clock(&mut self, wall: Timestamp) {
        self.jobs.ahead_ms = wall.since(self.now);
    }
}

/// The plan, once everything is decided that can be.
pub(in crate::plan) fn planned(world: &mut World, observed: &Observed) -> Plan {
    world.memory.notice_runs(observed, world.now);
    save(world);
    let mut plan = world.plan(observed);
    for _ in 0..8 {
        let jobs = std::mem::take(&mut plan.jobs);
        if jobs.is_empty() {
            break;
        }
        decide(world, jobs);
        plan = world.plan(observed);
    }
    assert!(plan.jobs.is_empty(), "decisions go on for ever: {:?}", plan.jobs);
    plan
}

fn decide(world: &mut World, steps: Vec<JobStep>) {
    for step in steps {
        let of = (step.project.clone(), step.service.clone());
        let service = world.desired.projects[&of.0].services[&of.1].clone();
        check(world, &of, service.schedule.as_ref().expect("decided without a schedule"), &step.verdict);
        let wall = world.wall();
        world.memory.judge(step, Some(&service), wall);
    }
}

/// What is remembered before anything more is decided.
fn save(world: &mut World) {
    world.jobs.saved.clone_from(&world.memory.jobs);
}

/// The daemon is killed: what it decided last is on disk, or is not.
pub(in crate::plan) fn forget(world: &mut World, lost: bool) -> BTreeMap<Of, Job> {
    if !lost {
        return std::mem::take(&mut world.memory.jobs);
    }
    let changed = |of: &Of| world.jobs.saved.get(of) != world.memory.jobs.get(of);
    let stale: Vec<Of> = world.jobs.counted.keys().filter(|of| changed(of)).cloned().collect();
    for of in stale {
        world.jobs.counted.remove(&of);
    }
    world.jobs.saved.clone()
}

fn check(world: &mut World, of: &Of, schedule: &Schedule, verdict: &Verdict) {
    let wall = world.wall();
    let job = world.memory.jobs.get(of).cloned().unwrap_or_default();
    let alive = world.containers.values().any(|c| self::of(&c.spec.slot) == *of && c.state.alive());
    let still = stands_still(world, of);
    let observed = world.observed();
    let mut count = |due: Timestamp, times: u32| {
        assert!(due <= wall, "decided before it is time");
        assert!(due > job.decided, "{of:?}: {due:?} is decided twice");
        if let Some((from, decided)) = world.jobs.counted.get_mut(of) {
            *decided += times;
            let all = schedule.within(*from, due).filter(|passed| passed.last == due);
            let all = all.map_or(0, |passed| passed.before.map_or(0, |(_, times)| times) + 1);
            assert!(all == *decided || all >= 1_000, "{of:?}: {decided} of {all} times are decided");
        }
    };
    match verdict {
        Verdict::Begin { .. } | Verdict::Rewound => {
            if *verdict == Verdict::Rewound {
                assert!(job.decided.since(wall) > 3 * 3_600_000, "times are forgotten because of a small jump");
            }
            let from = if let Verdict::Begin { from, .. } = verdict { *from } else { wall };
            world.jobs.counted.insert(of.clone(), (from, 0));
            world.jobs.ran.retain(|(other, due, _)| other != of || *due <= wall);
        }
        Verdict::Run(Run { why: RunWhy::ByHand, .. }) | Verdict::Begun => {}
        Verdict::Run(Run { due, why: RunWhy::Queued }) => {
            assert_eq!(job.queued, Some(*due), "what did not wait is run");
            assert!(job.run.is_none() && !alive, "what waits is run beside another one");
            assert!(!still, "a run of what is stopped or paused");
        }
        Verdict::Run(Run { due, why }) => {
            assert!(job.run.is_none() && !alive, "a run beside another one");
            assert!(!still, "a run of what is stopped or paused");
            let late = wall.since(*due);
            match why {
                RunWhy::Scheduled => assert!(late <= ON_TIME_MS, "a run that is late is told to be on time"),
                _ => match schedule.missed {
                    Missed::Skip => panic!("what was missed is run"),
                    Missed::RunOnce { within_ms } => assert!(late <= within_ms, "what was missed long ago is run"),
                },
            }
            count(*due, 1);
        }
        Verdict::Adopt(run) => {
            // It was lost with the daemon, or its service was gone from the file for a moment.
            let anew = job.run.is_none() && job.history.is_empty();
            let unsure = anew || !world.jobs.counted.contains_key(of);
            assert!(unsure || run.why == RunWhy::ByHand, "a run is not known, and nothing was lost");
        }
        Verdict::Queue(due) => {
            assert!(schedule.overlap != Overlap::Skip && job.run.is_some() && job.queued.is_none());
            count(*due, 1);
        }
        Verdict::Stop(_) if still => {}
        Verdict::Stop(why) if why.starts_with("unhealthy") => {
            let mut mine =
                world.containers.values().filter(|c| self::of(&c.spec.slot) == *of && c.spec.purpose.run().is_some());
            let ill = |c: &ObservedContainer| observed.health.get(&c.spec.id) == Some(&Health::Unhealthy);
            let acts = |s: &Service| s.health.reaction(s.restart) != OnUnhealthy::Nothing;
            assert!(mine.any(|c| ill(c) && acts(&c.spec.service)), "a run is ended for its health, which is good");
        }
        Verdict::Stop(_) => {
            assert!(
                schedule.timeout_ms.is_some() || schedule.overlap == Overlap::Replace,
                "a run is ended for nothing"
            );
            assert!(alive || job.queued.is_some(), "what does not run is ended");
        }
        Verdict::Leave { due, times, why } if why.contains("by hand") || why.contains("suspend") => {
            assert!(still, "left out, and nobody asked for that: {why}");
            if job.queued != Some(*due) {
                count(*due, *times);
            }
        }
        Verdict::Leave { due, times, why } => {
            let overlaps = why.contains("went on") || why.contains("waits already");
            assert_eq!(overlaps, job.run.is_some(), "left out for another reason: {why}");
            count(*due, *times);
        }
        Verdict::End(outcome) => {
            let run = job.run.as_ref().expect("the end of nothing");
            let mine = |c: &&ObservedContainer| self::of(&c.spec.slot) == *of && c.spec.purpose.run() == Some(&run.of);
            let goes_on = world.containers.values().filter(mine).any(|c| c.state.alive());
            assert!(!goes_on, "a run that goes on is said to be over");
            if let RunOutcome::Ended { .. } = outcome {
                assert!(run.begun, "what never ran has ended");
            }
        }
    }
}

/// Whether nothing of it may be begun, because it is stopped or held still.
fn stands_still(world: &World, of: &Of) -> bool {
    let hand = world.desired.by_hand.get(of);
    let suspended = world.desired.projects[&of.0].services.get(&of.1).is_some_and(|service| service.suspended);
    suspended || hand.is_some_and(|hand| hand.stopped || hand.paused)
}

/// The command of a container runs: for the first time, or again by its policy.
pub(in crate::plan) fn started(world: &mut World, spec: &ContainerSpec) {
    let Some(run) = spec.purpose.run() else { return };
    if !world.starts.contains_key(&spec.id) {
        let by_hand = run.why == RunWhy::ByHand;
        assert!(world.jobs.ran.insert((of(&spec.slot), run.due, by_hand)), "{run:?} of {} is run twice", spec.slot);
    }
}

/// Whether the times of services in force are decided, and the planner wakes for the next one.
pub(in crate::plan) fn check_plan(world: &World, plan: &Plan) {
    for wait in &plan.waiting {
        if let WaitingOn::Time { .. } = &wait.on {
            let job = &world.memory.jobs[&of(&wait.slot)];
            let service = &world.desired.projects[&wait.slot.project].services[&wait.slot.service];
            let schedule = service.schedule.as_ref().unwrap();
            let wake = plan.wake_at.expect("a time is waited for, and nobody wakes");
            let next = schedule.after(job.decided.max(world.wall())).unwrap();
            let lost = !world.jobs.counted.contains_key(&of(&wait.slot));
            // A run that is not remembered shows that its time was decided.
            let due = if lost { world.now.plus_ms(30_000) } else { world.now.plus_ms(next.since(world.wall())) };
            assert!(wake <= due.min(world.now.plus_ms(30_000)), "the planner wakes too late for the next time");
            let late = schedule.within(job.decided, world.wall());
            assert!(late.is_none() || lost || world.slot_is_unruly(&wait.slot), "it is time, and nothing is decided");
        }
    }
}

impl World {
    /// What runs there is no run of the schedule: it is ended first.
    fn slot_is_unruly(&self, slot: &Slot) -> bool {
        self.containers.values().any(|c| c.spec.slot == *slot && c.spec.purpose.run().is_none())
    }
}

/// A run is stopped because it was decided so, or because it is none.
pub(super) fn check_stop(world: &World, observed: &Observed, container: &ObservedContainer) {
    let Some(run) = container.spec.purpose.run() else { return };
    let job = &world.memory.jobs[&of(&container.spec.slot)];
    let present = job.run.as_ref().filter(|present| present.of == *run);
    let stopped = present.is_some_and(|present| present.stopped.is_some());
    // Another one was made already: this one was lost sight of.
    let others = observed.containers.values().filter(|c| c.spec.slot == container.spec.slot).count();
    let followed = present.is_none() && others > 1;
    assert!(stopped || followed, "a run is stopped that nobody decided about");
}

/// The last run stays until there is another one.
pub(super) fn check_remove(world: &World, observed: &Observed, container: &ObservedContainer) {
    let Some(run) = container.spec.purpose.run() else { return };
    let job = &world.memory.jobs[&of(&container.spec.slot)];
    let present = job.run.as_ref().is_some_and(|present| present.of == *run);
    let others = observed.containers.values().filter(|c| c.spec.slot == container.spec.slot).count();
    assert!(!present && others > 1, "the last run is removed");
}

/// Something happens to the clock, or to a service that runs at set times.
pub(super) fn disturb(world: &mut World, chance: &mut Chance) {
    let wall = world.wall();
    match chance.below(8) {
        0 => world.set_clock(wall.plus_ms([5_000, 400_000, 8_000_000][chance.below(3)])),
        1 => {
            let back = [3_000, 400_000, 7_000_000, 30_000_000][chance.below(4)];
            world.set_clock(Timestamp(wall.millis().saturating_sub(back)).max(world.now));
        }
        2 => by_hand(world, chance),
        3..6 => edit(world, chance),
        _ => {
            // It is time for somebody.
            let services = world.desired.projects.values().flat_map(|p| p.services.values());
            let next = services.filter_map(|s| s.schedule.as_ref()?.after(wall)).min();
            world.now = world.now.plus_ms(next.map_or(1, |next| next.since(wall)));
        }
    }
}

fn by_hand(world: &mut World, chance: &mut Chance) {
    let idle: Vec<Of> =
        world.memory.jobs.iter().filter(|(_, job)| job.run.is_none()).map(|(of, _)| of.clone()).collect();
    if !idle.is_empty() {
        let (project, service) = idle[chance.below(idle.len())].clone();
        let run = Run { due: world.wall(), why: RunWhy::ByHand };
        let ran = world.jobs.ran.contains(&((project.clone(), service.clone()), run.due, true));
        if !ran {
            let wall = world.wall();
            world.memory.judge(JobStep { project, service, verdict: Verdict::Run(run) }, None, wall);
        }
    }
}

fn edit(world: &mut World, chance: &mut Chance) {
    let project = ProjectName::parse(["alpha", "delta"][chance.below(2)]).unwrap();
    let name = ServiceName::parse("nightly").unwrap();
    let entry = world.desired.projects.entry(project.clone()).or_insert_with(|| Project {
        name: project.clone(),
        file: format!("{project}.yaml").into(),
        services: BTreeMap::new(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        unchosen: BTreeMap::new(),
    });
    if chance.one_in(8) {
        entry.services.remove(&name);
    } else {
        entry.services.insert(name.clone(), nightly(name, chance));
    }
    super::edited(world, &project);
    world.forget();
    world.memory.jobs.retain(|(project, service), _| {
        let services = world.desired.projects.get(project).map(|project| &project.services);
        services.and_then(|all| all.get(service)).is_some_and(|service| service.schedule.is_some())
    });
}

fn nightly(name: ServiceName, chance: &mut Chance) -> Service {
    let version = chance.below(4);
    let ms = [10_000, 60_000, 3_600_000][chance.below(3)];
    let schedule = Schedule {
        times: Times::Every { ms, text: format!("{ms}ms") },
        zone: Zone { name: None, rules: TimeZone::UTC },
        overlap: [Overlap::Skip, Overlap::Queue, Overlap::Replace][chance.below(3)],
        missed: [Missed::Skip, Missed::RunOnce { within_ms: 1_000_000 }][chance.below(2)],
        history: 5,
        timeout_ms: [None, Some(20_000)][chance.below(2)],
    };
    let made = service(name, version, chance);
    Service {
        replicas: [0, 1, 1, 1][chance.below(4)],
        pull: [PullPolicy::Missing, PullPolicy::Missing, PullPolicy::Never][chance.below(3)],
        restart: [RestartPolicy::No, RestartPolicy::OnFailure { max: Some(2) }][chance.below(2)],
        // Now and then it is an ordinary one.
        schedule: (!chance.one_in(6)).then_some(schedule),
        files: Vec::new(),
        mounts: Vec::new(),
        ..made
    }
}
