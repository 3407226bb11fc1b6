//! Single rules for one-off containers.

use std::collections::BTreeMap;

use super::tables::one_service;
use crate::model::{
    Action, ContainerId, ContainerState, ExitStatus, RestartPolicy, ServiceName, Slot, TASK_NUMBER, Task, TaskAsk,
};
use crate::plan::sim::{Outcome, World};
use crate::plan::tasks::READ_MS;
use crate::plan::{AskedTask, Memory};

/// Somebody asks for one.
fn ask(world: &mut World, keep: bool, detach: bool) -> ContainerId {
    let project = world.desired.projects.values().next().unwrap();
    let service = &project.services[&ServiceName::parse("web").unwrap()];
    let slot = Slot { project: project.name.clone(), service: service.name.clone(), number: TASK_NUMBER };
    let task = Task { token: Task::token(&slot, world.now, 0), keep };
    let id = ContainerId::of_task(&slot, &task, world.now);
    let asked = AskedTask {
        name: task.name(&slot).unwrap(),
        service: service.once(&TaskAsk { keep, detach, ..TaskAsk::default() }),
        slot,
        task,
        detached: detach,
        begun: false,
        status: None,
        failed: None,
        over: None,
        dismissed: false,
        read: false,
    };
    world.memory.tasks.insert(id.clone(), asked);
    id
}

/// Everything that can be done is done, without time passing; what it was.
fn all_is_done(world: &mut World) -> Vec<(&'static str, ContainerId)> {
    let mut done = Vec::new();
    for _ in 0..100 {
        let (desired, observed, now) = (world.desired.clone(), world.observed(), world.now);
        world.memory.notice_tasks(&desired, &observed, now);
        world.step();
        let Some((key, action)) = world.under_way.iter().next().map(|(key, action)| (key.clone(), action.clone()))
        else {
            return done;
        };
        if let Action::Create { spec } | Action::Start { spec, .. } = &action {
            done.push((action.verb(), spec.id.clone()));
        }
        if let Action::Stop { id, .. } | Action::Remove { id } = &action {
            done.push((action.verb(), id.clone()));
        }
        world.finish(&key, Outcome::Succeeds);
    }
    panic!("it goes on and on");
}

fn ran(world: &World, id: &ContainerId) -> bool {
    matches!(world.containers[id].state, ContainerState::Running { .. })
}

#[test]
fn one_that_was_asked_for_runs_once_beside_the_replica_and_goes_when_its_end_was_read() {
    let mut world = one_service(RestartPolicy::Always);
    let replica = world.containers.keys().next().unwrap().clone();
    let id = ask(&mut world, false, false);
    assert_eq!(all_is_done(&mut world), [("create", id.clone()), ("start", id.clone())]);
    assert!(ran(&world, &id) && ran(&world, &replica));
    world.end(&id, ExitStatus::Code(3));
    assert_eq!(all_is_done(&mut world), []);
    assert_eq!(world.memory.tasks[&id].status, Some(ExitStatus::Code(3)));
    world.memory.tasks.get_mut(&id).unwrap().read = true;
    assert_eq!(all_is_done(&mut world), [("remove", id.clone())]);
    assert!(world.memory.tasks.is_empty() && ran(&world, &replica));
}

#[test]
fn whoever_reads_no_end_has_a_minute_and_whoever_waits_for_none_has_none() {
    let mut world = one_service(RestartPolicy::Always);
    let (slow, detached) = (ask(&mut world, false, false), {
        world.now = world.now.plus_ms(1);
        ask(&mut world, false, true)
    });
    all_is_done(&mut world);
    world.end(&slow, ExitStatus::Code(0));
    world.end(&detached, ExitStatus::Code(0));
    assert_eq!(all_is_done(&mut world), [("remove", detached.clone())]);
    world.now = world.now.plus_ms(READ_MS - 1);
    assert_eq!(all_is_done(&mut world), []);
    assert_eq!(world.step().wake_at, Some(world.now.plus_ms(1)));
    world.now = world.now.plus_ms(1);
    assert_eq!(all_is_done(&mut world), [("remove", slow)]);
    assert!(world.memory.tasks.is_empty());
}

#[test]
fn a_daemon_that_remembers_nothing_starts_none_and_removes_what_has_ended_but_kept_ones() {
    let mut world = one_service(RestartPolicy::Always);
    let mut all = BTreeMap::new();
    for (name, keep) in [("running", false), ("ended", false), ("kept", true)] {
        all.insert(name, ask(&mut world, keep, false));
        world.now = world.now.plus_ms(1);
    }
    all_is_done(&mut world);
    world.end(&all["ended"], ExitStatus::MachineStopped);
    world.end(&all["kept"], ExitStatus::MachineStopped);
    let made = ask(&mut world, false, false);
    let key = world.step().steps.iter().map(|step| step.action.key()).next().unwrap();
    world.finish(&key, Outcome::Succeeds);
    world.memory = Memory::default();
    let mut removed = all_is_done(&mut world);
    removed.sort();
    let mut wanted = [("remove", all["ended"].clone()), ("remove", made)];
    wanted.sort();
    assert_eq!(removed, wanted);
    assert!(ran(&world, &all["running"]));
    world.memory.discarded.extend(all.values().cloned());
    let mut gone = all_is_done(&mut world);
    gone.sort();
    let mut wanted =
        [("remove", all["kept"].clone()), ("remove", all["running"].clone()), ("stop", all["running"].clone())];
    wanted.sort();
    assert_eq!(gone, wanted);
}

#[test]
fn one_whose_service_goes_goes_too() {
    let mut world = one_service(RestartPolicy::Always);
    let _kept = ask(&mut world, true, false);
    all_is_done(&mut world);
    world.now = world.now.plus_ms(1);
    let late = ask(&mut world, false, false);
    world.desired.projects.clear();
    all_is_done(&mut world);
    assert!(world.containers.is_empty());
    assert!(world.memory.tasks[&late].failed.as_ref().is_some_and(|why| why.contains("no longer in the file")));
}
