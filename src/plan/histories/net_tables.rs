//! Single rules of networks, as tables.

use std::collections::BTreeMap;

use super::settle;
use super::tables::{one_service, web};
use super::toy_net::{joined, network, pool};
use crate::model::{
    ContainerId, ContainerState, ExitStatus, ImageReference, Key, Network, NetworkId, NetworkMode, NetworkName,
    Project, ProjectName, RestartPolicy, Service, ServiceName, SpecHash,
};
use crate::plan::sim::{Outcome, World};
use crate::plan::{Plan, WaitingOn, unjoined};

/// One service on one network.
fn on(defined: &Network, restart: RestartPolicy) -> World {
    let mut world = one_service(restart);
    let name = defined.name.as_str().to_owned();
    define(&mut world, defined.clone());
    let service = web(&mut world);
    service.network = joined(&[&name]);
    service.hash = SpecHash::of(b"on a network");
    settle(&mut world);
    let id = only(&world);
    assert!(matches!(world.containers[&id].state, ContainerState::Running { .. }));
    world
}

fn define(world: &mut World, network: Network) {
    let project = world.desired.projects.values_mut().next().unwrap();
    project.networks.insert(network.name.clone(), network);
}

fn only(world: &World) -> ContainerId {
    assert_eq!(world.containers.len(), 1);
    world.containers.keys().next().unwrap().clone()
}

fn another(world: &mut World, name: &str, change: impl FnOnce(&mut Service)) {
    let project = world.desired.projects.values_mut().next().unwrap();
    let mut service = project.services.values().next().unwrap().clone();
    service.name = ServiceName::parse(name).unwrap();
    service.hash = SpecHash::of(name.as_bytes());
    change(&mut service);
    project.services.insert(service.name.clone(), service);
}

fn verbs(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(|step| step.action.verb()).collect()
}

/// What is done until nothing is left to do, each with its reason.
fn run(world: &mut World) -> Vec<String> {
    let mut done = Vec::new();
    for _ in 0..20 {
        let plan = world.step();
        done.extend(plan.steps.iter().map(|step| format!("{}: {}", step.action.verb(), step.reason)));
        let keys: Vec<Key> = world.under_way.keys().cloned().collect();
        keys.iter().for_each(|key| world.finish(key, Outcome::Succeeds));
    }
    done
}

#[test]
fn a_network_that_can_be_beside_the_old_one_is_made_before_its_container_moves() {
    let mut world = on(&network("alpha_default"), RestartPolicy::No);
    let id = only(&world);
    define(&mut world, Network { mtu: Some(1400), ..network("alpha_default") });
    let anew = "network alpha_default is defined anew";
    assert_eq!(
        run(&mut world),
        [
            "make network: a service joins network alpha_default".to_owned(),
            format!("stop: {anew}"),
            format!("start: {anew}"),
            format!("remove network: {anew}"),
        ]
    );
    assert_eq!((world.starts[&id], world.net.networks.len()), (2, 1));
    assert_eq!(world.memory.restarts.get(&id).copied().unwrap_or_default().total, 0, "it is no restart");
}

#[test]
fn a_network_that_cannot_be_beside_the_old_one_comes_after_it() {
    let subnet = Network { pools: vec![pool("10.9.0.0/24")], ..network("alpha_default") };
    let bridge = Network { bridge: Some("br7".to_owned()), ..network("alpha_default") };
    let auto = network("alpha_default");
    let chosen = Network { pools: vec![pool("172.16.1.0/25")], ..network("alpha_default") };
    for (before, after) in [
        (subnet.clone(), Network { mtu: Some(1400), ..subnet }),
        (bridge.clone(), Network { internal: true, ..bridge }),
        (auto, chosen),
    ] {
        let mut world = on(&before, RestartPolicy::Always);
        // Another one is on it, and a third one is made while it goes.
        another(&mut world, "db", |service| service.restart = RestartPolicy::No);
        settle(&mut world);
        another(&mut world, "late", |_| {});
        define(&mut world, after);
        let verbs: Vec<String> =
            run(&mut world).iter().map(|done| done.split(':').next().unwrap().to_owned()).collect();
        let order = ["stop", "create", "stop", "remove network", "make network", "start", "start", "start"];
        assert_eq!(verbs, order.map(str::to_owned));
        assert_eq!((world.alive_slots().len(), world.net.networks.len()), (3, 1));
    }
}

#[test]
fn nobody_is_stopped_for_a_network_that_cannot_come() {
    let subnet = Network { pools: vec![pool("10.9.0.0/24")], ..network("alpha_default") };
    let mut world = on(&subnet, RestartPolicy::Always);
    another(&mut world, "db", |_| {});
    settle(&mut world);
    // The other one is held, and what runs of it stays on the old network.
    let problem = crate::model::Problem::new(crate::model::Severity::Held, crate::model::Location::whole("x"), "no");
    web(&mut world).holds.push(crate::model::Hold { problem });
    define(&mut world, Network { mtu: Some(1400), ..subnet });
    let plan = world.step();
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    let blocked = |on: &WaitingOn| matches!(on, WaitingOn::Network { after: Some(_), .. });
    assert!(plan.waiting.iter().any(|wait| blocked(&wait.on)), "{:?}", plan.waiting);
    web_free(&mut world);
    assert_eq!(run(&mut world).len(), 6);
    assert_eq!(world.alive_slots().len(), 2);
}

/// What runs of an older version is in the way, and its successor cannot be made yet.
#[test]
fn nobody_is_stopped_while_who_is_in_the_way_waits_for_its_successor() {
    let subnet = Network { pools: vec![pool("10.9.0.0/24")], ..network("alpha_default") };
    let mut world = on(&subnet, RestartPolicy::Always);
    another(&mut world, "zoo", |_| {});
    settle(&mut world);
    world.registry_up = false;
    let newer = web(&mut world);
    newer.hash = SpecHash::of(b"newer");
    newer.image = Some(ImageReference::parse("newer").unwrap());
    define(&mut world, Network { mtu: Some(1400), ..subnet });
    let done = run(&mut world);
    assert!(!done.is_empty() && done.iter().all(|done| done.starts_with("pull")), "{done:?}");
    settle(&mut world);
    assert_eq!((world.alive_slots().len(), world.net.networks.len()), (2, 1));
}

fn web_free(world: &mut World) {
    let project = world.desired.projects.values_mut().next().unwrap();
    project.services.values_mut().for_each(|service| service.holds.clear());
}

#[test]
fn a_network_that_fails_keeps_what_runs_and_says_why() {
    let mut world = on(&network("alpha_default"), RestartPolicy::Always);
    define(&mut world, Network { mtu: Some(1400), ..network("alpha_default") });
    let key = Key::Network(NetworkId::derive(&Network { mtu: Some(1400), ..network("alpha_default") }));
    world.step();
    world.finish(&key, Outcome::Fails);
    let plan = world.step();
    assert!(plan.steps.is_empty() && world.alive_slots().len() == 1);
    let retry = world.memory.failures[&key].retry_at;
    assert!(matches!(&plan.waiting[0].on, WaitingOn::Network { after: None, .. }), "{:?}", plan.waiting);
    assert_eq!((plan.waiting[0].until, plan.wake_at.unwrap() <= retry), (Some(retry), true));
}

#[test]
fn what_is_broken_is_put_right_and_nothing_is_started_anew() {
    let mut world = on(&network("alpha_default"), RestartPolicy::Always);
    let id = only(&world);
    world.net.networks.values_mut().next().unwrap().broken = Some("the bridge is gone".to_owned());
    world.net.lost.insert(id.clone(), "its link is gone".to_owned());
    world.net.firewall = Some("the table is gone".to_owned());
    let done = run(&mut world);
    assert_eq!(
        done,
        ["make network: the bridge is gone", "guard: the table is gone", "connect: its link is gone"]
            .map(str::to_owned)
    );
    assert_eq!(world.starts[&id], 1);
}

#[test]
fn a_link_that_cannot_be_put_right_delays_neither_an_end_nor_a_start() {
    let mut world = on(&network("alpha_default"), RestartPolicy::Always);
    let id = only(&world);
    let key = Key::Container(id.clone());
    world.net.lost.insert(id.clone(), "its link is gone".to_owned());
    assert_eq!(verbs(&world.step()), ["connect"]);
    world.finish(&key, Outcome::Fails);
    let plan = world.step();
    assert!(matches!(plan.waiting[0].on, WaitingOn::Retry { verb: "connect", .. }), "{:?}", plan.waiting);
    world.end(&id, ExitStatus::Code(1));
    world.step();
    world.now = world.now.plus_ms(150);
    assert_eq!(verbs(&world.step()), ["start"]);
    world.finish(&key, Outcome::Succeeds);
    world.net.lost.insert(id, "its link is gone".to_owned());
    world.desired.projects.clear();
    assert_eq!(verbs(&world.step()), ["stop"]);
}

#[test]
fn who_shares_a_network_is_started_anew_with_it_and_an_ended_job_is_not() {
    let mut world = on(&network("alpha_default"), RestartPolicy::Always);
    let owner = only(&world);
    let share = |service: &mut Service| {
        service.network = NetworkMode::Service(ServiceName::parse("web").unwrap());
        service.restart = RestartPolicy::No;
    };
    another(&mut world, "side", share);
    another(&mut world, "job", share);
    let done = run(&mut world);
    assert_eq!(done.iter().filter(|done| done.starts_with("start")).count(), 2);
    let of = |world: &World, name: &str| {
        world.containers.values().find(|c| c.spec.slot.service.as_str() == name).unwrap().spec.id.clone()
    };
    let (side, job) = (of(&world, "side"), of(&world, "job"));
    world.end(&job, ExitStatus::Code(0));
    world.now = world.now.plus_ms(1_000);
    world.end(&owner, ExitStatus::Code(1));
    assert!(run(&mut world).is_empty(), "what shares the network of one that ended runs on");
    world.now = world.now.plus_ms(1_000);
    let anew = "service web, whose network it shares, was started anew";
    assert_eq!(run(&mut world)[1..], [format!("stop: {anew}"), format!("start: {anew}")]);
    assert_eq!((world.starts[&side], world.starts[&job]), (2, 1));
    // It ends between the two: the move that was begun is ended.
    let process = |world: &World| world.net.attached[&side].shared.clone();
    let before = process(&world);
    world.end(&owner, ExitStatus::Code(1));
    world.step();
    world.now = world.now.plus_ms(1_000);
    world.step();
    world.finish(&Key::Container(owner.clone()), Outcome::Succeeds);
    world.step();
    world.finish(&Key::Container(side.clone()), Outcome::Succeeds);
    world.end(&owner, ExitStatus::Code(1));
    let plan = world.step();
    assert!(plan.waiting.iter().any(|wait| matches!(wait.on, WaitingOn::NetworkOf { here: true, .. })));
    settle(&mut world);
    assert!(matches!(world.containers[&side].state, ContainerState::Running { .. }) && process(&world) != before);
}

#[test]
fn a_network_that_nobody_defines_or_two_define_holds_who_joins_it() {
    let mut world = on(&network("shared"), RestartPolicy::Always);
    let beta = ProjectName::parse("beta").unwrap();
    let mut guest = web(&mut world).clone();
    guest.name = ServiceName::parse("guest").unwrap();
    let services = BTreeMap::from([(guest.name.clone(), guest)]);
    let file = "beta.yaml".into();
    let project = Project {
        name: beta.clone(),
        file,
        services,
        unchosen: BTreeMap::new(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
    };
    world.desired.projects.insert(beta.clone(), project);
    settle(&mut world);
    assert_eq!((world.alive_slots().len(), world.net.networks.len()), (2, 1), "an external one is shared");
    let other = Network { mtu: Some(9000), ..network("shared") };
    world.desired.projects.get_mut(&beta).unwrap().networks.insert(other.name.clone(), other);
    let told = |world: &World| {
        let unjoined = unjoined(&world.desired);
        unjoined.values().flatten().map(|p| format!("{:?} {p}", p.severity)).collect::<Vec<_>>()
    };
    assert_eq!(
        told(&world),
        [
            "Held x.yaml: network shared is defined by alpha.yaml and, otherwise, by beta.yaml; that of alpha.yaml is in force (define it in one of them, and say `external: true` in the other; or give it another `name` in beta.yaml)"
        ]
    );
    let plan = world.step();
    assert!(plan.steps.is_empty() && plan.waiting[0].on == WaitingOn::Held, "{plan:?}");
    // Nobody defines it any more: what runs on it runs on, and it stays.
    world.desired.projects.values_mut().for_each(|project| project.networks.clear());
    let plan = world.step();
    let shared = NetworkName::parse("shared").unwrap();
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    assert!(plan.waiting.iter().all(|wait| wait.on == WaitingOn::NoNetwork(shared.clone())) && plan.waiting.len() == 2);
    assert_eq!(
        told(&world)[0],
        "Held alpha.yaml: network shared is external and no state file defines it (define it in one: networks: {shared: {name: shared}})"
    );
}

#[test]
fn what_nobody_knows_of_keeps_its_networks_even_ended() {
    let mut world = on(&network("alpha_default"), RestartPolicy::No);
    let id = only(&world);
    world.end(&id, ExitStatus::Code(0));
    let alpha = ProjectName::parse("alpha").unwrap();
    let project = world.desired.projects.remove(&alpha).unwrap();
    world.desired.kept.insert(alpha.clone());
    assert!(world.step().steps.is_empty());
    world.desired.kept.clear();
    let mut done: Vec<_> = run(&mut world).iter().map(|done| done.split(':').next().unwrap().to_owned()).collect();
    done.sort();
    assert_eq!(done, ["remove", "remove network"]);
    // A network that only its file gives a name, and that nobody joins, is not made.
    world.desired.projects.insert(alpha, Project { services: BTreeMap::new(), ..project });
    assert!(world.step().steps.is_empty());
}

#[test]
fn a_network_stays_while_a_start_on_it_is_under_way() {
    let mut world = on(&network("alpha_default"), RestartPolicy::Always);
    let id = only(&world);
    world.end(&id, ExitStatus::MachineStopped);
    assert_eq!(verbs(&world.step()), ["start"]);
    world.desired.projects.clear();
    assert!(world.step().steps.is_empty());
    world.finish(&Key::Container(id), Outcome::Succeeds);
    assert_eq!(verbs(&world.step()), ["stop"]);
    settle(&mut world);
    assert!(world.net.networks.is_empty() && world.containers.is_empty());
}
