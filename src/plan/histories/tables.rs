//! Single rules, as tables.

use std::collections::BTreeMap;

use super::{service, settle};
use crate::model::{
    Ability, ContainerState, ExitStatus, ImageReference, Key, Location, Project, ProjectName, PullPolicy,
    RestartPolicy, Service, ServiceName, SpecHash, Wish,
};
use crate::plan::sim::{Chance, Outcome, World};
use crate::plan::{Plan, WaitingOn};

pub(super) fn one_service(restart: RestartPolicy) -> World {
    let mut world = World::new();
    let mut chance = Chance::new(1);
    let mut web = service(ServiceName::parse("web").unwrap(), 0, &mut chance);
    web.restart = restart;
    web.pull = PullPolicy::Missing;
    web.replicas = 1;
    web.holds.clear();
    web.wishes.clear();
    let name = ProjectName::parse("alpha").unwrap();
    let services = BTreeMap::from([(web.name.clone(), web)]);
    world.desired.projects.insert(
        name.clone(),
        Project {
            name,
            file: "alpha.yaml".into(),
            services,
            unchosen: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
        },
    );
    settle(&mut world);
    world
}

fn end_and_count(world: &mut World, status: ExitStatus, ran_ms: u64) -> (u64, u32) {
    let id = world.containers.keys().next().unwrap().clone();
    world.now = world.now.plus_ms(ran_ms);
    world.end(&id, status);
    let ended = world.now;
    settle(world);
    let since = match world.containers[&id].state {
        ContainerState::Running { since, .. } => since,
        _ => world.now,
    };
    (since.since(ended), world.starts[&id])
}

#[test]
fn an_exit_is_answered_by_its_policy() {
    let started_again = |restart, status| end_and_count(&mut one_service(restart), status, 5).1 == 2;
    let on_failure = RestartPolicy::OnFailure { max: None };
    assert!(!started_again(RestartPolicy::No, ExitStatus::Code(1)));
    assert!(!started_again(RestartPolicy::No, ExitStatus::MachineStopped));
    assert!(started_again(RestartPolicy::Always, ExitStatus::Code(0)));
    assert!(started_again(RestartPolicy::UnlessStopped, ExitStatus::Code(0)));
    assert!(!started_again(on_failure, ExitStatus::Code(0)));
    assert!(started_again(on_failure, ExitStatus::OomKilled));
    assert!(started_again(on_failure, ExitStatus::MachineStopped));
}

#[test]
fn quick_exits_back_off_and_a_long_run_resets() {
    let mut world = one_service(RestartPolicy::Always);
    let waits: Vec<u64> = (0..4).map(|_| end_and_count(&mut world, ExitStatus::Code(1), 5).0).collect();
    assert_eq!(waits, [100, 200, 400, 800]);
    assert_eq!(end_and_count(&mut world, ExitStatus::Code(1), 10_000).0, 100);
}

#[test]
fn a_failed_start_does_not_hold_up_the_removal() {
    let mut world = one_service(RestartPolicy::Always);
    let id = world.containers.keys().next().unwrap().clone();
    world.end(&id, ExitStatus::Code(1));
    world.now = world.now.plus_ms(1_000);
    world.step();
    world.finish(&Key::Container(id.clone()), Outcome::Fails);
    world.desired.projects.clear();
    let plan = world.step();
    assert_eq!(plan.steps.iter().map(|s| s.action.verb()).collect::<Vec<_>>(), ["remove"]);
}

#[test]
fn on_failure_gives_up_after_its_attempts() {
    let mut world = one_service(RestartPolicy::OnFailure { max: Some(2) });
    let starts: Vec<u32> = (0..4).map(|_| end_and_count(&mut world, ExitStatus::Code(1), 5).1).collect();
    assert_eq!(starts, [2, 3, 3, 3]);
}

#[test]
fn the_successor_is_pulled_and_made_before_the_old_one_stops() {
    let mut world = one_service(RestartPolicy::Always);
    let project = world.desired.projects.values_mut().next().unwrap();
    let web = project.services.values_mut().next().unwrap();
    web.hash = SpecHash::of(b"changed");
    web.image = Some(ImageReference::parse("other").unwrap());
    let mut verbs = Vec::new();
    for _ in 0..6 {
        world.step();
        let keys: Vec<Key> = world.under_way.keys().cloned().collect();
        for key in keys {
            verbs.push(world.under_way[&key].verb());
            world.finish(&key, Outcome::Succeeds);
        }
    }
    verbs.sort_unstable_by_key(|v| ["pull", "create", "stop", "remove", "start"].iter().position(|x| x == v));
    assert_eq!(verbs, ["pull", "create", "stop", "remove", "start"]);
    assert_eq!(world.alive_slots().len(), 1);
    assert!(world.images.contains_key(&ImageReference::parse("other").unwrap()));
}

fn verbs(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(|step| step.action.verb()).collect()
}

#[test]
fn what_changes_live_is_given_to_what_runs_and_told_by_its_keys() {
    let mut world = one_service(RestartPolicy::Always);
    let id = world.containers.keys().next().unwrap().clone();
    let service = web(&mut world);
    let memory = service.resources.memory.is_some();
    service.resources.memory = Some(128 << 20);
    service.restart = RestartPolicy::OnFailure { max: Some(3) };
    service.labels = BTreeMap::from([("tier".to_owned(), "front".to_owned())]);
    let had = world.containers[&id].spec.service.labels.len();
    let plan = world.step();
    assert_eq!(verbs(&plan), ["update"]);
    let before = if memory { "64 MiB" } else { "none" };
    let gone = if had > 0 { "label l0 removed, " } else { "" };
    let reason = format!(
        "{gone}label tier added, mem_limit changed from {before} to 128 MiB, restart changed from always to on-failure:3"
    );
    assert_eq!(plan.steps[0].reason, reason);
    world.finish(&Key::Container(id.clone()), Outcome::Succeeds);
    assert_eq!((verbs(&world.step()), world.starts[&id]), (Vec::new(), 1));
}

#[test]
fn an_update_that_fails_is_shown_and_stands_in_nobodys_way() {
    let mut world = one_service(RestartPolicy::Always);
    let id = world.containers.keys().next().unwrap().clone();
    let key = Key::Container(id.clone());
    web(&mut world).resources.memory = Some(128 << 20);
    assert_eq!(verbs(&world.step()), ["update"]);
    world.finish(&key, Outcome::Fails);
    let plan = world.step();
    assert!(verbs(&plan).is_empty() && matches!(plan.waiting[0].on, WaitingOn::Retry { verb: "update", .. }));
    // It ends, and a start of it fails: it is started again although the update is not tried yet, and neither failure makes the
    // other one forget its back-off.
    world.end(&id, ExitStatus::Code(1));
    world.step();
    world.now = world.now.plus_ms(150);
    assert_eq!(verbs(&world.step()), ["start"]);
    world.finish(&key, Outcome::Fails);
    let plan = world.step();
    assert_eq!((verbs(&plan).len(), world.memory.updates[&id].attempts), (0, 1));
    let mut seen = Vec::new();
    for _ in 0..8 {
        world.now = world.step().wake_at.unwrap();
        seen.extend(verbs(&world.step()));
        world.finish(&key, Outcome::Fails);
    }
    assert!(seen.contains(&"update") && seen.contains(&"start"), "{seen:?}");
    assert!(world.memory.updates[&id].attempts > 2 && world.memory.failures[&key].attempts > 2);
    world.desired.projects.clear();
    assert_eq!(verbs(&world.step()), ["remove"]);
}

#[test]
fn the_policy_of_the_file_counts_also_where_it_could_not_be_given() {
    let mut world = one_service(RestartPolicy::Always);
    let id = world.containers.keys().next().unwrap().clone();
    web(&mut world).restart = RestartPolicy::No;
    assert_eq!(verbs(&world.step()), ["update"]);
    world.finish(&Key::Container(id.clone()), Outcome::Fails);
    world.end(&id, ExitStatus::Code(1));
    world.step();
    world.now = world.now.plus_ms(150);
    let plan = world.step();
    assert!(verbs(&plan).is_empty() && matches!(plan.waiting[0].on, WaitingOn::Owner { .. }), "{plan:?}");
}

#[test]
fn a_machine_that_lacks_what_protects_holds_the_service_and_what_runs_runs_on() {
    let mut world = one_service(RestartPolicy::Always);
    let location = Location::at("alpha.yaml", 5, 5);
    let wish = Wish { ability: Ability::Memory, needed: true, key: "services.web.mem_limit".into(), location };
    web(&mut world).wishes.push(wish);
    web(&mut world).hash = SpecHash::of(b"changed");
    world.lacks.insert(Ability::Memory, "the kernel has no memory controller".to_owned());
    let plan = world.step();
    assert!(verbs(&plan).is_empty() && plan.waiting[0].on == WaitingOn::Held);
    assert_eq!(world.alive_slots().len(), 1);
    world.lacks.clear();
    assert_eq!(verbs(&world.step()), ["create"]);
}

/// Found by a power cut: the image of the newest version could not be pulled, and of two older containers it was the one that had
/// never run that was looked after, so that none ran.
#[test]
fn what_ran_before_runs_again_while_its_successors_successor_cannot_be_made() {
    for n in 0..10 {
        let mut world = one_service(RestartPolicy::Always);
        let ran = world.containers.keys().next().unwrap().clone();
        web(&mut world).hash = SpecHash::of(format!("made, and never started {n}").as_bytes());
        world.step();
        let create: Vec<Key> = world.under_way.keys().cloned().collect();
        create.iter().for_each(|key| world.finish(key, Outcome::Succeeds));
        assert_eq!(world.containers.len(), 2);
        world.reboots();
        world.registry_up = false;
        web(&mut world).hash = SpecHash::of(b"cannot be made");
        web(&mut world).image = Some(ImageReference::parse("other").unwrap());
        for _ in 0..5 {
            world.step();
            let keys: Vec<Key> = world.under_way.keys().cloned().collect();
            keys.iter().for_each(|key| world.finish(key, Outcome::Succeeds));
            world.now = world.now.plus_ms(1000);
        }
        assert!(world.containers[&ran].state.alive(), "{n}");
    }
}

pub(super) fn web(world: &mut World) -> &mut Service {
    let project = world.desired.projects.values_mut().next().unwrap();
    project.services.values_mut().next().unwrap()
}
