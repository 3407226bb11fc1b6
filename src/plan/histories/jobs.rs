//! A week of a service that runs at set times, and single rules for such services.

use jiff::tz::TimeZone;

use super::tables::{one_service, web};
use crate::model::{
    ContainerState, Cron, ExitStatus, Key, Missed, Overlap, PastRun, RestartPolicy, Run, RunOutcome, RunWhy, Schedule,
    Times, Timestamp, Zone,
};
use crate::plan::sim::{Outcome, World};
use crate::plan::{JobStep, Plan, Verdict};

fn at(text: &str) -> Timestamp {
    let at: jiff::Timestamp = text.parse().unwrap();
    Timestamp(u64::try_from(at.as_millisecond()).unwrap())
}

fn berlin(cron: &str) -> Schedule {
    Schedule {
        times: Times::Cron(Cron::parse(cron).unwrap()),
        zone: Zone { name: Some("Europe/Berlin".to_owned()), rules: TimeZone::get("Europe/Berlin").unwrap() },
        overlap: Overlap::Skip,
        missed: Missed::RunOnce { within_ms: 3_600_000 },
        history: 100,
        timeout_ms: None,
    }
}

/// A service of that schedule, from this moment on.
fn world(schedule: Schedule, begin: &str) -> World {
    let mut world = one_service(RestartPolicy::No);
    world.set_clock(at(begin));
    web(&mut world).schedule = Some(schedule);
    all_is_done(&mut world);
    world
}

/// Everything that can be done is done, without time passing.
fn all_is_done(world: &mut World) -> Plan {
    for _ in 0..100 {
        let plan = world.step();
        let Some(key) = world.under_way.keys().next().cloned() else { return plan };
        world.finish(&key, Outcome::Succeeds);
    }
    panic!("it goes on and on");
}

/// Time passes; a run that went on for so long ends.
fn pass(world: &mut World, until: &str, runs_ms: u64) {
    let until = at(until);
    loop {
        let plan = all_is_done(world);
        let running = world.containers.values().find_map(|c| match c.state {
            ContainerState::Running { since, .. } => Some((c.spec.id.clone(), since.plus_ms(runs_ms))),
            _ => None,
        });
        let next = plan.waiting.iter().filter_map(|wait| wait.until).min().unwrap();
        let next = world.wall().plus_ms(next.since(world.now));
        let ends = running.as_ref().map_or(next, |(_, ends)| *ends);
        let then = next.min(ends).min(until);
        world.now = world.now.plus_ms(then.since(world.wall()));
        if let Some((id, ends)) = running
            && ends <= then
        {
            world.end(&id, ExitStatus::Code(0));
        }
        if then == until {
            all_is_done(world);
            return;
        }
    }
}

/// The machine is off until then.
fn off(world: &mut World, until: &str) {
    let until = at(until);
    world.now = world.now.plus_ms(until.since(world.wall()));
    world.reboots();
    all_is_done(world);
}

fn table(world: &World) -> Vec<String> {
    let job = world.memory.jobs.values().next().unwrap();
    let service = world.desired.projects.values().next().unwrap().services.values().next().unwrap();
    let schedule = service.schedule.as_ref().unwrap();
    let row = |PastRun { due, why, outcome }: &PastRun| {
        let what = match outcome {
            RunOutcome::Ended { started, status, stopped, .. } => {
                let stopped = stopped.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
                format!("{} at {}: {status}{stopped}", why.as_str(), schedule.told(*started))
            }
            RunOutcome::Left { times, why } => format!("left out, {times}: {why}"),
        };
        format!("{} | {what}", schedule.told(*due))
    };
    job.history.iter().map(row).collect()
}

#[test]
fn a_week_with_a_long_run_reboots_clock_jumps_and_the_end_of_summer() {
    const HOUR: u64 = 3_600_000;
    let mut world = world(berlin("30 2 * * *"), "2026-10-21T10:00:00Z");
    assert!(world.containers.values().all(|c| !c.state.alive()), "it runs before it is time");
    // Thursday's run goes on for 25 hours, over Friday's time.
    pass(&mut world, "2026-10-23T12:00:00Z", 25 * HOUR);
    // On Saturday the machine is off from midnight to 3:00.
    pass(&mut world, "2026-10-23T22:00:00Z", HOUR / 3);
    off(&mut world, "2026-10-24T01:00:00Z");
    // On Sunday 2:30 comes twice.
    pass(&mut world, "2026-10-25T12:00:00Z", HOUR / 3);
    // On Monday the clock leaps from 1:00 to 5:00, and at 6:00 it is set back to 2:00.
    pass(&mut world, "2026-10-26T00:00:00Z", HOUR / 3);
    world.set_clock(at("2026-10-26T04:00:00Z"));
    pass(&mut world, "2026-10-26T05:00:00Z", HOUR / 3);
    world.set_clock(at("2026-10-26T01:00:00Z"));
    pass(&mut world, "2026-10-26T20:00:00Z", HOUR / 3);
    // On Tuesday the machine fails ten minutes into the run.
    pass(&mut world, "2026-10-27T01:40:00Z", HOUR / 3);
    off(&mut world, "2026-10-27T01:45:00Z");
    // On Wednesday the clock is set back by half an hour in the middle of the run.
    pass(&mut world, "2026-10-28T01:40:00Z", HOUR / 3);
    world.set_clock(at("2026-10-28T01:10:00Z"));
    pass(&mut world, "2026-10-28T10:00:00Z", HOUR / 3);
    let table = table(&world);
    println!("{}", table.join("\n"));
    insta::assert_debug_snapshot!(table, @r#"
    [
        "2026-10-23 02:30 +02:00 | left out, 1: the run before went on (overlap: skip)",
        "2026-10-22 02:30 +02:00 | scheduled at 2026-10-22 02:30 +02:00: exit code 0",
        "2026-10-24 02:30 +02:00 | missed at 2026-10-24 03:00 +02:00: exit code 0",
        "2026-10-25 02:30 +02:00 | scheduled at 2026-10-25 02:30 +02:00: exit code 0",
        "2026-10-26 02:30 +01:00 | left out, 1: it passed while nothing could be started: the machine or the daemon was off, or the clock was set",
        "2026-10-27 02:30 +01:00 | scheduled at 2026-10-27 02:30 +01:00: the machine stopped while it ran (255)",
        "2026-10-28 02:30 +01:00 | scheduled at 2026-10-28 02:30 +01:00: exit code 0",
    ]
    "#);
}

#[test]
fn a_time_that_the_clocks_leave_out_is_run_right_after() {
    let mut world = world(berlin("30 2 * * *"), "2026-03-28T10:00:00Z");
    pass(&mut world, "2026-03-30T10:00:00Z", 60_000);
    insta::assert_debug_snapshot!(table(&world), @r#"
    [
        "2026-03-29 03:00 +02:00 | scheduled at 2026-03-29 03:00 +02:00: exit code 0",
        "2026-03-30 02:30 +02:00 | scheduled at 2026-03-30 02:30 +02:00: exit code 0",
    ]
    "#);
}

#[test]
fn what_overlaps_waits_or_replaces_as_the_file_says() {
    let minute = |overlap, timeout_ms| Schedule { overlap, timeout_ms, ..berlin("* * * * *") };
    let mut all = Vec::new();
    for schedule in [minute(Overlap::Queue, None), minute(Overlap::Replace, None), minute(Overlap::Skip, Some(70_000))]
    {
        let mut world = world(schedule, "2026-11-25T10:00:30Z");
        pass(&mut world, "2026-11-25T10:07:10Z", 150_000);
        all.push(table(&world));
    }
    insta::assert_debug_snapshot!(all, @r#"
    [
        [
            "2026-11-25 11:03 +01:00 | left out, 1: another one waits already for the run before to end",
            "2026-11-25 11:01 +01:00 | scheduled at 2026-11-25 11:01 +01:00: exit code 0",
            "2026-11-25 11:05 +01:00 | left out, 1: another one waits already for the run before to end",
            "2026-11-25 11:02 +01:00 | queued at 2026-11-25 11:03:30 +01:00: exit code 0",
            "2026-11-25 11:07 +01:00 | left out, 1: another one waits already for the run before to end",
        ],
        [
            "2026-11-25 11:01 +01:00 | scheduled at 2026-11-25 11:01 +01:00: ended by SIGTERM (143) (the next run takes its place (overlap: replace))",
            "2026-11-25 11:02 +01:00 | queued at 2026-11-25 11:02 +01:00: ended by SIGTERM (143) (the next run takes its place (overlap: replace))",
            "2026-11-25 11:03 +01:00 | queued at 2026-11-25 11:03 +01:00: ended by SIGTERM (143) (the next run takes its place (overlap: replace))",
            "2026-11-25 11:04 +01:00 | queued at 2026-11-25 11:04 +01:00: ended by SIGTERM (143) (the next run takes its place (overlap: replace))",
            "2026-11-25 11:05 +01:00 | queued at 2026-11-25 11:05 +01:00: ended by SIGTERM (143) (the next run takes its place (overlap: replace))",
            "2026-11-25 11:06 +01:00 | queued at 2026-11-25 11:06 +01:00: ended by SIGTERM (143) (the next run takes its place (overlap: replace))",
        ],
        [
            "2026-11-25 11:03 +01:00 | left out, 2: the run before went on (overlap: skip)",
            "2026-11-25 11:01 +01:00 | scheduled at 2026-11-25 11:01 +01:00: ended by SIGTERM (143) (its timeout of 70 s is over)",
            "2026-11-25 11:06 +01:00 | left out, 2: the run before went on (overlap: skip)",
            "2026-11-25 11:04 +01:00 | scheduled at 2026-11-25 11:04 +01:00: ended by SIGTERM (143) (its timeout of 70 s is over)",
        ],
    ]
    "#);
}

#[test]
fn what_was_missed_is_run_once_or_left_out() {
    let mut all = Vec::new();
    for missed in [Missed::Skip, Missed::RunOnce { within_ms: 600_000 }] {
        let mut world = world(Schedule { missed, ..berlin("*/20 * * * *") }, "2026-11-25T10:01:00Z");
        off(&mut world, "2026-11-25T11:45:00Z");
        pass(&mut world, "2026-11-25T11:59:00Z", 1_000);
        off(&mut world, "2026-11-25T12:55:00Z");
        all.push(table(&world));
    }
    insta::assert_debug_snapshot!(all, @r#"
    [
        [
            "2026-11-25 13:40 +01:00 | left out, 8: it passed while nothing could be started: the machine or the daemon was off, or the clock was set",
        ],
        [
            "2026-11-25 12:20 +01:00 | left out, 4: it passed while nothing could be started: the machine or the daemon was off, or the clock was set",
            "2026-11-25 12:40 +01:00 | missed at 2026-11-25 12:45 +01:00: exit code 0",
            "2026-11-25 13:40 +01:00 | left out, 3: it passed while nothing could be started: the machine or the daemon was off, or the clock was set",
        ],
    ]
    "#);
}

#[test]
fn a_run_that_cannot_be_started_gives_way_to_the_next() {
    let mut world = world(berlin("0 * * * *"), "2026-11-25T10:30:00Z");
    world.now = world.now.plus_ms(1_800_000);
    for _ in 0..4 {
        world.step();
        let key = world.under_way.keys().next().cloned();
        let outcome = |key: &Key| match world.under_way[key].verb() {
            "start" => Outcome::Fails,
            _ => Outcome::Succeeds,
        };
        let outcome = key.as_ref().map(outcome);
        key.into_iter().zip(outcome).for_each(|(key, outcome)| world.finish(&key, outcome));
    }
    world.now = world.now.plus_ms(3_600_000);
    pass(&mut world, "2026-11-25T12:30:00Z", 1_000);
    insta::assert_debug_snapshot!(table(&world), @r#"
    [
        "2026-11-25 12:00 +01:00 | left out, 1: it could not be started: it failed",
        "2026-11-25 13:00 +01:00 | scheduled at 2026-11-25 13:00 +01:00: exit code 0",
    ]
    "#);
}

#[test]
fn a_run_by_hand_decides_no_time_and_an_edit_counts_from_the_next_run_on() {
    let mut world = world(berlin("0 * * * *"), "2026-11-25T10:30:00Z");
    let (project, service) = world.memory.jobs.keys().next().cloned().unwrap();
    let run = Run { due: world.wall(), why: RunWhy::ByHand };
    let wall = world.wall();
    world.memory.judge(JobStep { project, service, verdict: Verdict::Run(run) }, None, wall);
    pass(&mut world, "2026-11-25T10:31:00Z", 600_000);
    let before = world.alive_slots();
    web(&mut world).hash = crate::model::SpecHash::of(b"another");
    pass(&mut world, "2026-11-25T10:35:00Z", 600_000);
    assert_eq!((before.len(), world.alive_slots().len()), (1, 1), "an edit ends a run");
    pass(&mut world, "2026-11-25T12:30:00Z", 600_000);
    insta::assert_debug_snapshot!(table(&world), @r#"
    [
        "2026-11-25 11:30 +01:00 | by hand at 2026-11-25 11:30 +01:00: exit code 0",
        "2026-11-25 12:00 +01:00 | scheduled at 2026-11-25 12:00 +01:00: exit code 0",
        "2026-11-25 13:00 +01:00 | scheduled at 2026-11-25 13:00 +01:00: exit code 0",
    ]
    "#);
    let hashes: Vec<_> = world.containers.values().map(|c| c.spec.service.hash.clone()).collect();
    assert_eq!(hashes, [web(&mut world).hash.clone()]);
}

#[test]
fn a_clock_that_was_far_ahead_counts_no_more() {
    let mut world = world(berlin("0 * * * *"), "2099-01-01T00:30:00Z");
    pass(&mut world, "2099-01-01T01:30:00Z", 1_000);
    world.set_clock(at("2026-11-25T10:30:00Z"));
    pass(&mut world, "2026-11-25T11:30:00Z", 1_000);
    insta::assert_debug_snapshot!(table(&world), @r#"
    [
        "2099-01-01 02:00 +01:00 | scheduled at 2099-01-01 02:00 +01:00: exit code 0",
        "2026-11-25 12:00 +01:00 | scheduled at 2026-11-25 12:00 +01:00: exit code 0",
    ]
    "#);
}
