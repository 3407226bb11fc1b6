//! Single rules of the order, as tables: what one service waits for, by how the other one is.

use std::collections::BTreeMap;

use super::{service, settle};
use crate::model::{
    Condition, ContainerId, Dependency, ExitStatus, Health, HealthCheck, HealthPolicy, HealthTest, Key, OnUnhealthy,
    Project, ProjectName, PullPolicy, RestartPolicy, ServiceName,
};
use crate::plan::sim::{Chance, Outcome, World};
use crate::plan::{Lacking, WaitingOn};

fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

/// A check in the file.
fn checked(on_unhealthy: Option<OnUnhealthy>) -> HealthPolicy {
    let test = Some(HealthTest::Shell("true".to_owned()));
    HealthPolicy { check: HealthCheck { test, ..HealthCheck::default() }, on_unhealthy }
}

/// `app` comes after `web`, whose health is checked.
fn world(condition: Condition, required: bool, restart: RestartPolicy) -> World {
    let mut world = World::new();
    let project = ProjectName::parse("alpha").unwrap();
    let mut services = BTreeMap::new();
    for text in ["app", "web"] {
        let mut one = service(name(text), 0, &mut Chance::new(1));
        (one.pull, one.replicas, one.restart) = (PullPolicy::Missing, 1, restart);
        one.holds.clear();
        one.wishes.clear();
        one.health = if text == "web" { checked(None) } else { HealthPolicy::default() };
        services.insert(one.name.clone(), one);
    }
    let dependency = Dependency { project: project.clone(), service: name("web"), condition, restart: false, required };
    services.get_mut(&name("app")).unwrap().depends = vec![dependency];
    let (file, networks, volumes) = ("alpha.yaml".into(), BTreeMap::new(), BTreeMap::new());
    let unchosen = BTreeMap::new();
    let name = project.clone();
    world.desired.projects.insert(project, Project { name, file, services, unchosen, networks, volumes });
    world
}

fn id(world: &World, of: &str) -> Option<ContainerId> {
    world.containers.values().find(|c| c.spec.slot.service.as_str() == of).map(|c| c.spec.id.clone())
}

/// Goes on until nothing is under way.
fn go(world: &mut World) -> Option<Lacking> {
    for _ in 0..1000 {
        let plan = world.step();
        let Some(key) = world.under_way.keys().next().cloned() else {
            return plan.waiting.iter().find_map(|wait| match &wait.on {
                WaitingOn::Dependency { why, .. } => Some(*why),
                _ => None,
            });
        };
        world.finish(&key, Outcome::Succeeds);
    }
    panic!("it does not come to rest: {:?}", world.under_way);
}

fn runs(world: &World, of: &str) -> bool {
    id(world, of).is_some_and(|id| world.containers[&id].state.alive())
}

#[test]
fn a_start_waits_for_its_condition() {
    use Condition::{Completed, Healthy, Started};
    let no = RestartPolicy::No;
    for (condition, required, health, ended, expected) in [
        (Started, true, None, None, None),
        (Started, true, Some(Health::Unhealthy), None, None),
        (Started, true, None, Some(ExitStatus::Code(3)), None),
        (Healthy, true, None, None, Some(Lacking::Health(Health::Starting))),
        (Healthy, true, Some(Health::Unhealthy), None, Some(Lacking::Health(Health::Unhealthy))),
        (Healthy, false, Some(Health::Unhealthy), None, None),
        (Healthy, true, Some(Health::Healthy), None, None),
        (Healthy, true, None, Some(ExitStatus::Code(0)), Some(Lacking::Start)),
        (Completed, true, None, None, Some(Lacking::End)),
        (Completed, false, None, None, Some(Lacking::End)),
        (Completed, true, None, Some(ExitStatus::Code(0)), None),
        (Completed, true, None, Some(ExitStatus::Code(3)), Some(Lacking::Success(ExitStatus::Code(3)))),
        (Completed, false, None, Some(ExitStatus::Code(3)), None),
    ] {
        let mut world = world(condition, required, no);
        let web = web_runs(&mut world);
        health.into_iter().for_each(|health| world.ward.set(&web, health));
        ended.into_iter().for_each(|status| world.end(&web, status));
        let seen = go(&mut world);
        let facts = format!("{condition:?} required {required}, {health:?}, ended {ended:?}");
        println!("{facts}: expected {expected:?}, seen {seen:?}");
        assert_eq!((seen, runs(&world, "app")), (expected, expected.is_none()), "{facts}");
    }
}

/// Until `web` runs.
fn web_runs(world: &mut World) -> ContainerId {
    while !runs(world, "web") {
        world.step();
        let key = world.under_way.keys().next().unwrap().clone();
        world.finish(&key, Outcome::Succeeds);
    }
    id(world, "web").unwrap()
}

fn checks_web(world: &mut World, health: HealthPolicy) {
    let mut projects = world.desired.projects.values_mut();
    projects.next().unwrap().services.get_mut(&name("web")).unwrap().health = health;
}

#[test]
fn who_is_checked_by_nothing_is_never_healthy_and_who_was_not_looked_at_yet_starts() {
    for (required, expected) in [(true, Some(Lacking::Check)), (false, None)] {
        let mut world = world(Condition::Healthy, required, RestartPolicy::No);
        checks_web(&mut world, HealthPolicy::default());
        assert_eq!((go(&mut world), runs(&world, "app")), (expected, !required), "required {required}");
    }
    let mut world = world(Condition::Healthy, false, RestartPolicy::No);
    checks_web(&mut world, HealthPolicy::default());
    let web = web_runs(&mut world);
    // Its file gives it a check, and it was not given that yet.
    checks_web(&mut world, checked(None));
    let starting = Some(Lacking::Health(Health::Starting));
    world.step();
    world.finish(&Key::Container(web.clone()), Outcome::Fails);
    assert_eq!((go(&mut world), runs(&world, "app")), (starting, false), "the update failed");
    world.now = world.now.plus_ms(100_000);
    assert_eq!((go(&mut world), runs(&world, "app")), (starting, false), "nobody looked at it yet");
    world.ward.set(&web, Health::Healthy);
    assert_eq!((go(&mut world), runs(&world, "app")), (None, true));
}

#[test]
fn what_its_owner_stopped_or_paused_or_did_not_choose_is_waited_for_and_who_runs_is_left_alone() {
    use Condition::{Completed, Healthy, Started};
    type Asked = fn(&mut World);
    let stopped: Asked = |world| hand(world).stopped = true;
    let paused: Asked = |world| hand(world).paused = true;
    let suspended: Asked = |world| service_web(world).suspended = true;
    let unchosen: Asked = |world| {
        let project = world.desired.projects.values_mut().next().unwrap();
        project.services.remove(&name("web"));
        project.unchosen.insert(name("web"), vec!["debug".to_owned()]);
    };
    let by_hand = Lacking::Stopped(crate::plan::Stopped::ByHand);
    for (what, ask, condition, expected) in [
        ("stopped", stopped, Started, by_hand),
        ("stopped", stopped, Healthy, by_hand),
        ("stopped", stopped, Completed, by_hand),
        ("suspended", suspended, Started, Lacking::Stopped(crate::plan::Stopped::ByFile)),
        ("paused", paused, Started, Lacking::Paused),
        ("paused", paused, Completed, Lacking::Paused),
        ("not chosen", unchosen, Started, Lacking::NotChosen),
    ] {
        for (required, expected) in [(true, Some(expected)), (false, None)] {
            let mut fresh = world(condition, required, RestartPolicy::No);
            if what == "paused" {
                while !runs(&fresh, "web") {
                    fresh.step();
                    let key = fresh.under_way.keys().next().unwrap().clone();
                    fresh.finish(&key, Outcome::Succeeds);
                }
            }
            ask(&mut fresh);
            let seen = go(&mut fresh);
            println!("{what}, {condition:?}, required {required}: expected {expected:?}, seen {seen:?}");
            assert_eq!((seen, runs(&fresh, "app")), (expected, expected.is_none()), "{what}, {condition:?}");
        }
    }
    for (what, ask) in [("stopped", stopped), ("paused", paused), ("not chosen", unchosen)] {
        let mut world = world(Started, true, RestartPolicy::Always);
        settle(&mut world);
        ask(&mut world);
        go(&mut world);
        let seen = (runs(&world, "web"), runs(&world, "app"));
        assert_eq!(seen, (what == "paused", true), "{what}: what runs is not stopped");
    }
}

#[test]
fn a_job_that_was_stopped_by_hand_is_not_completed() {
    let mut world = world(Condition::Completed, true, RestartPolicy::No);
    while !runs(&world, "web") {
        world.step();
        let key = world.under_way.keys().next().unwrap().clone();
        world.finish(&key, Outcome::Succeeds);
    }
    hand(&mut world).stopped = true;
    let web = id(&world, "web").unwrap();
    world.step();
    world.end(&web, ExitStatus::Code(0));
    assert_eq!(go(&mut world), Some(Lacking::Stopped(crate::plan::Stopped::ByHand)));
    hand(&mut world).stopped = false;
    assert_eq!((go(&mut world), runs(&world, "web")), (Some(Lacking::End), true), "it goes on");
    world.end(&web, ExitStatus::Code(0));
    assert_eq!((go(&mut world), runs(&world, "app")), (None, true));
}

#[test]
fn successors_that_wait_do_not_pile_up() {
    let mut world = world(Condition::Started, true, RestartPolicy::Always);
    settle(&mut world);
    let app = id(&world, "app").unwrap();
    hand(&mut world).stopped = true;
    for version in ["second", "third", "fourth"] {
        let services = &mut world.desired.projects.values_mut().next().unwrap().services;
        services.get_mut(&name("app")).unwrap().hash = crate::model::SpecHash::of(version.as_bytes());
        assert_eq!(go(&mut world), Some(Lacking::Stopped(crate::plan::Stopped::ByHand)));
        let of_app = world.containers.values().filter(|c| c.spec.slot.service.as_str() == "app").count();
        assert_eq!((of_app, world.containers[&app].state.alive()), (2, true), "{version}");
    }
    hand(&mut world).stopped = false;
    settle(&mut world);
    assert!(!world.containers.contains_key(&app) && runs(&world, "app"));
}

fn hand(world: &mut World) -> &mut crate::plan::ByHand {
    world.desired.by_hand.entry((ProjectName::parse("alpha").unwrap(), name("web"))).or_default()
}

fn service_web(world: &mut World) -> &mut crate::model::Service {
    world.desired.projects.values_mut().next().unwrap().services.get_mut(&name("web")).unwrap()
}

#[test]
fn who_runs_is_left_alone_and_is_started_again_in_order() {
    let mut world = world(Condition::Healthy, true, RestartPolicy::Always);
    checks_web(&mut world, checked(Some(OnUnhealthy::Nothing)));
    settle(&mut world);
    world.ward.is_looked_at();
    let (web, app) = (id(&world, "web").unwrap(), id(&world, "app").unwrap());
    world.ward.set(&web, Health::Unhealthy);
    assert_eq!((go(&mut world), runs(&world, "app")), (None, true), "what runs is not stopped");
    world.end(&app, ExitStatus::Code(1));
    // Its end is noticed, and the pause after it is over.
    go(&mut world);
    world.now = world.now.plus_ms(100_000);
    assert_eq!(go(&mut world), Some(Lacking::Health(Health::Unhealthy)), "a restart waits as a start does");
    world.ward.set(&web, Health::Healthy);
    assert_eq!((go(&mut world), runs(&world, "app")), (None, true));
    world.reboots();
    assert_eq!(go(&mut world), Some(Lacking::Health(Health::Starting)), "and so does a boot");
    world.ward.set(&web, Health::Healthy);
    assert_eq!((go(&mut world), runs(&world, "app")), (None, true));
}

#[test]
fn who_is_restarted_for_its_health_is_followed_only_where_that_is_asked() {
    for restart in [false, true] {
        let mut world = world(Condition::Healthy, true, RestartPolicy::Always);
        let services = world.desired.projects.values_mut().flat_map(|project| project.services.values_mut());
        services.flat_map(|service| &mut service.depends).for_each(|dependency| dependency.restart = restart);
        settle(&mut world);
        world.ward.is_looked_at();
        let (web, app) = (id(&world, "web").unwrap(), id(&world, "app").unwrap());
        world.ward.set(&web, Health::Unhealthy);
        go(&mut world);
        assert_eq!((world.starts[&web], world.starts[&app]), (2, 1), "not before it is healthy again");
        world.ward.set(&web, Health::Healthy);
        go(&mut world);
        assert_eq!((world.starts[&web], world.starts[&app]), (2, 1 + u32::from(restart)), "restart {restart}");
        assert!(runs(&world, "app"));
    }
}

#[test]
fn who_cannot_be_stopped_does_not_hold_up_the_others_for_ever() {
    let mut world = world(Condition::Started, true, RestartPolicy::Always);
    settle(&mut world);
    world.desired.projects.clear();
    let verbs = |world: &mut World| {
        let plan = world.step();
        let named = |id: &ContainerId| world.containers[id].spec.slot.service.to_string();
        plan.steps
            .iter()
            .map(|step| match &step.action {
                crate::model::Action::Stop { id, .. } => format!("stop {}", named(id)),
                other => other.verb().to_owned(),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(verbs(&mut world), ["stop app"]);
    assert_eq!(verbs(&mut world), Vec::<String>::new());
    let key = world.under_way.keys().next().unwrap().clone();
    world.finish(&key, Outcome::Fails);
    assert_eq!(verbs(&mut world), ["stop web"]);
}
