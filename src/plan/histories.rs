//! Random histories: edits, deaths, failures before and after the effect, restarts of the daemon and of the machine.
//! The end is as desired, **and every step is checked**: convergence alone cannot see an action that should not have been taken.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::sim::{Chance, Outcome, World};
use super::{Observed, Plan, WaitingOn, backoff};
use crate::model::{
    Action, ContainerId, ContainerState, ExitStatus, Hold, ImageReference, Key, Location, NetworkMode,
    ObservedContainer, Problem, Process, Project, ProjectName, PullPolicy, RestartPolicy, Service, ServiceName,
    Severity, Slot, SpecHash, StopPolicy,
};

fn histories() -> u64 {
    std::env::var("LONGSHORE_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(3_000)
}

#[test]
fn random_histories_converge_and_take_no_wrong_step() {
    let first: u64 = std::env::var("LONGSHORE_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let all = histories();
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for seed in (first + thread..first + all).step_by(usize::try_from(threads).unwrap_or(1)) {
                    let run = std::panic::catch_unwind(|| history(seed));
                    assert!(run.is_ok(), "history with LONGSHORE_SEED={seed} failed (message above)");
                }
            });
        }
    });
    println!("{all} histories from seed {first}");
}

fn history(seed: u64) {
    let mut chance = Chance::new(seed);
    let mut world = World::new();
    for _ in 0..20 + chance.below(60) {
        disturb(&mut world, &mut chance);
        world.step();
    }
    settle(&mut world);
    check_end(&world);
}

/// One thing happens.
fn disturb(world: &mut World, chance: &mut Chance) {
    match chance.below(20) {
        0..4 => edit(world, chance),
        4..11 => finish_one(world, chance),
        11 | 12 => exit_one(world, chance),
        13 => {
            if let Some(id) = any_alive(world, chance) {
                world.orphan(&id);
            }
        }
        14 => world.registry_up = !world.registry_up,
        15 if chance.one_in(3) => world.daemon_restarts(chance),
        16 if chance.one_in(6) => world.reboots(),
        17 if chance.one_in(4) => {
            let in_use: BTreeSet<_> = world.containers.values().map(|c| c.spec.image.clone()).collect();
            world.images.retain(|image, _| in_use.contains(image));
        }
        _ => world.now = world.now.plus_ms([1, 50, 150, 1_000, 15_000, 100_000][chance.below(6)]),
    }
}

fn finish_one(world: &mut World, chance: &mut Chance) {
    let keys: Vec<Key> = world.under_way.keys().cloned().collect();
    if keys.is_empty() {
        return;
    }
    let outcome = match chance.below(8) {
        0 => Outcome::Fails,
        1 => Outcome::FailsAfterEffect,
        _ => Outcome::Succeeds,
    };
    world.finish(&keys[chance.below(keys.len())], outcome);
}

fn any_alive(world: &World, chance: &mut Chance) -> Option<ContainerId> {
    let alive: Vec<_> = world.containers.values().filter(|c| c.state.alive()).map(|c| c.spec.id.clone()).collect();
    (!alive.is_empty()).then(|| alive[chance.below(alive.len())].clone())
}

fn exit_one(world: &mut World, chance: &mut Chance) {
    if let Some(id) = any_alive(world, chance) {
        let orphan = matches!(world.containers[&id].state, ContainerState::Orphaned { .. });
        let code = [0, 0, 1, 3][chance.below(4)];
        world.end(&id, if orphan { ExitStatus::ShimLost } else { ExitStatus::Code(code) });
    }
}

fn edit(world: &mut World, chance: &mut Chance) {
    let project = ProjectName::parse(["alpha", "beta", "gamma"][chance.below(3)]).unwrap();
    if chance.one_in(6) {
        world.desired.projects.remove(&project);
        return;
    }
    let entry = world.desired.projects.entry(project.clone()).or_insert_with(|| Project {
        name: project.clone(),
        file: PathBuf::from(format!("{project}.yaml")),
        services: BTreeMap::new(),
    });
    let name = ServiceName::parse(["web", "db", "job"][chance.below(3)]).unwrap();
    if chance.one_in(5) {
        entry.services.remove(&name);
        return;
    }
    let version = chance.below(4);
    entry.services.insert(name.clone(), service(name, version, chance));
}

fn service(name: ServiceName, version: usize, chance: &mut Chance) -> Service {
    let image = ImageReference::parse(["a", "b", "c"][version % 3]).unwrap();
    let problem = Problem::new(Severity::Held, Location::whole("x.yaml"), "not supported yet");
    Service {
        hash: SpecHash::of(format!("{name}/{version}").as_bytes()),
        name,
        image: Some(image),
        platform: None,
        pull: [PullPolicy::Missing, PullPolicy::Always, PullPolicy::Never, PullPolicy::Missing][chance.below(4)],
        replicas: u32::try_from(chance.below(4)).unwrap(),
        container_name: None,
        process: Process::default(),
        hostname: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        restart: [
            RestartPolicy::No,
            RestartPolicy::Always,
            RestartPolicy::UnlessStopped,
            RestartPolicy::OnFailure { max: Some(2) },
            RestartPolicy::OnFailure { max: None },
        ][chance.below(5)],
        stop: StopPolicy { signal: None, grace_ms: 10_000 },
        network: NetworkMode::None,
        read_only: false,
        holds: if chance.one_in(8) { vec![Hold { problem }] } else { Vec::new() },
    }
}

/// Faults stop; time passes; everything under way ends well.
fn settle(world: &mut World) {
    world.registry_up = true;
    for _ in 0..2_000 {
        let plan = world.step();
        let keys: Vec<Key> = world.under_way.keys().cloned().collect();
        if let Some(key) = keys.first() {
            world.finish(key, Outcome::Succeeds);
            continue;
        }
        match plan.wake_at {
            Some(at) => {
                assert!(at > world.now, "the planner wants to be woken in the past");
                world.now = at;
            }
            None => return,
        }
    }
    panic!("it does not settle: {:?}", world.under_way);
}

/// What the files say of a slot.
fn wanted<'a>(world: &'a World, slot: &Slot) -> Option<&'a Service> {
    let service = world.desired.projects.get(&slot.project)?.services.get(&slot.service)?;
    (slot.number <= service.replicas || !service.holds.is_empty()).then_some(service)
}

fn check_end(world: &World) {
    for (name, project) in &world.desired.projects {
        for service in project.services.values().filter(|s| s.holds.is_empty()) {
            for number in 1..=service.replicas {
                let slot = Slot { project: name.clone(), service: service.name.clone(), number };
                check_slot_end(world, &slot, service);
            }
        }
    }
    for container in world.containers.values() {
        assert!(wanted(world, &container.spec.slot).is_some(), "{} is left over", container.spec.slot);
    }
}

fn check_slot_end(world: &World, slot: &Slot, service: &Service) {
    let here: Vec<_> = world.containers.values().filter(|c| c.spec.slot == *slot).collect();
    let image = service.image.as_ref().unwrap();
    let never = service.pull == PullPolicy::Never && !world.images.contains_key(image);
    if never && here.iter().all(|c| c.spec.service.hash != service.hash) {
        return;
    }
    assert_eq!(here.len(), 1, "slot {slot} holds {} containers", here.len());
    assert_eq!(here[0].spec.service.hash, service.hash, "slot {slot} holds an old container");
    match &here[0].state {
        ContainerState::Running { .. } => {}
        ContainerState::Exited { status, .. } => {
            let done = match service.restart {
                RestartPolicy::No => true,
                RestartPolicy::OnFailure { max } => status.success() || max.is_some(),
                RestartPolicy::Always | RestartPolicy::UnlessStopped => false,
            };
            assert!(done, "slot {slot} stays ended: {status}");
        }
        other => panic!("slot {slot} ends as {other:?}"),
    }
}

// ---- what is checked at every single step -------------------------------------------------------------------------------

pub(super) fn check_plan(world: &World, observed: &Observed, plan: &Plan) {
    let mut keys = BTreeSet::new();
    for step in &plan.steps {
        let key = step.action.key();
        assert!(!world.under_way.contains_key(&key), "a second action for {key} while one is under way");
        assert!(keys.insert(key.clone()), "two actions for {key} in one plan");
        assert!(!step.reason.is_empty(), "{key}: no reason");
        if let Some(failure) = world.memory.failures.get(&key).filter(|f| f.verb == step.action.verb()) {
            assert!(failure.retry_at <= world.now, "{key} is retried before its back-off is over");
        }
        check_action(world, observed, plan, &step.action);
    }
    check_limits(world, plan);
    check_nothing_is_forgotten(world, observed, plan);
    assert!(plan.wake_at.is_none_or(|at| at > world.now), "the planner wants to be woken in the past");
}

fn check_limits(world: &World, plan: &Plan) {
    let actions = || world.under_way.values().chain(plan.steps.iter().map(|s| &s.action));
    let pulls = actions().filter(|a| matches!(a, Action::Pull { .. })).count();
    assert!(pulls <= world.limits.pulls, "{pulls} pulls at once");
    let others = actions().count() - pulls;
    assert!(others <= world.limits.containers, "{others} container actions at once");
}

fn check_action(world: &World, observed: &Observed, plan: &Plan, action: &Action) {
    match action {
        Action::Pull { image, .. } => check_pull(world, image),
        Action::Create { spec } => {
            let service = wanted(world, &spec.slot).expect("a container is made that no file asks for");
            assert!(service.holds.is_empty(), "a container of a held service is made");
            assert!(spec.slot.number <= service.replicas, "a replica too many is made");
            assert_eq!(spec.service.hash, service.hash, "a container is made from an old specification");
            assert_eq!(Some(&spec.image_digest), observed.images.get(&spec.image), "made without its image");
            assert!(!observed.containers.contains_key(&spec.id), "made a second time");
        }
        Action::Start { spec } => check_start(world, observed, plan, &observed.containers[&spec.id]),
        Action::Stop { id, .. } => check_stop(world, observed, &observed.containers[id]),
        Action::Remove { id } => check_remove(world, &observed.containers[id]),
    }
}

fn check_pull(world: &World, image: &ImageReference) {
    let asked = world.desired.projects.values().flat_map(|p| p.services.values()).any(|s| {
        s.image.as_ref() == Some(image) && s.holds.is_empty() && s.pull != PullPolicy::Never && s.replicas > 0
    });
    assert!(asked, "{image} is pulled for nobody");
    let fresh = world.memory.asked.get(image).is_some_and(|at| world.now.since(*at) == 0);
    assert!(!(fresh && world.images.contains_key(image)), "{image} is pulled again at once");
}

fn check_start(world: &World, observed: &Observed, plan: &Plan, container: &ObservedContainer) {
    let slot = &container.spec.slot;
    assert!(!container.state.alive(), "{slot} is started while it runs");
    for other in observed.containers.values().filter(|c| c.spec.slot == *slot && c.spec.id != container.spec.id) {
        assert!(!other.state.alive(), "{slot} is started beside one that runs");
        let key = Key::Container(other.spec.id.clone());
        let starts = |a: &Action| matches!(a, Action::Start { .. }) && a.key() == key;
        let both = world.under_way.values().any(starts) || plan.steps.iter().any(|s| starts(&s.action));
        assert!(!both, "{slot} is started twice");
    }
    let service = wanted(world, slot).expect("something is started that no file asks for");
    if let ContainerState::Exited { status, started, at } = container.state {
        let current = service.hash == container.spec.service.hash && service.holds.is_empty();
        let policy = if current { service.restart } else { container.spec.service.restart };
        check_restart(world, &container.spec.id, policy, status, at.since(started));
    } else {
        assert!(service.holds.is_empty(), "a held service is started for the first time");
        assert_eq!(service.hash, container.spec.service.hash, "an old specification is started");
    }
}

fn check_restart(world: &World, id: &ContainerId, policy: RestartPolicy, status: ExitStatus, ran: u64) {
    let restarts = world.memory.restarts.get(id).copied().unwrap_or_default();
    let counted = world.counted.get(id).copied().unwrap_or_default();
    assert!(restarts.total >= counted, "{} restarts are remembered of {counted}", restarts.total);
    match policy {
        RestartPolicy::No => panic!("restart: no is started again"),
        RestartPolicy::OnFailure { max } => {
            assert!(!status.success(), "on-failure is started again after a success");
            assert!(max.is_none_or(|max| restarts.total < max), "on-failure is started again too often");
        }
        RestartPolicy::Always | RestartPolicy::UnlessStopped => {}
    }
    if status != ExitStatus::MachineStopped {
        let streak = if ran >= 10_000 { 0 } else { restarts.streak };
        let ended = world.memory.ends[id];
        let waited = world.now.since(ended);
        assert!(waited >= backoff::restart_delay_ms(streak), "started again after {waited} ms, streak {streak}");
    }
}

fn check_stop(world: &World, observed: &Observed, container: &ObservedContainer) {
    let slot = &container.spec.slot;
    if matches!(container.state, ContainerState::Orphaned { .. }) {
        return;
    }
    assert!(container.state.alive(), "{slot} is stopped although it does not run");
    let Some(service) = wanted(world, slot) else { return };
    assert!(service.holds.is_empty(), "a held service's container is stopped");
    assert_ne!(service.hash, container.spec.service.hash, "what is as the file says is stopped");
    let successor = observed.containers.values().any(|c| c.spec.slot == *slot && c.spec.service.hash == service.hash);
    assert!(successor, "{slot} is stopped before its successor is made");
}

fn check_remove(world: &World, container: &ObservedContainer) {
    let slot = &container.spec.slot;
    assert!(!container.state.alive(), "{slot} is removed while it runs");
    let Some(service) = wanted(world, slot) else { return };
    assert!(service.holds.is_empty(), "a held service's container is removed");
    let same = world.containers.values().filter(|c| c.spec.slot == *slot && c.spec.service.hash == service.hash);
    let only = same.count() == 1 && service.hash == container.spec.service.hash;
    assert!(!only, "what the file asks for is removed");
}

/// Whatever is not as it should be has a step, an action under way, or a wait that says why.
fn check_nothing_is_forgotten(world: &World, observed: &Observed, plan: &Plan) {
    for (name, project) in &world.desired.projects {
        for service in project.services.values() {
            for number in 1..=service.replicas {
                let slot = Slot { project: name.clone(), service: service.name.clone(), number };
                let right = observed.containers.values().any(|c| {
                    c.spec.slot == slot
                        && c.spec.service.hash == service.hash
                        && matches!(c.state, ContainerState::Running { .. })
                });
                let spoken = plan.waiting.iter().any(|w| w.slot == slot)
                    || plan.steps.iter().any(|s| s.slot.as_ref() == Some(&slot));
                assert!(right || spoken, "slot {slot} is neither right nor spoken of");
            }
        }
    }
    let held = |w: &super::Wait| matches!(w.on, WaitingOn::Held);
    for wait in plan.waiting.iter().filter(|w| held(w)) {
        assert!(wanted(world, &wait.slot).is_some_and(|s| !s.holds.is_empty()), "{} is held for nothing", wait.slot);
    }
}

// ---- single rules, as tables --------------------------------------------------------------------------------------------

fn one_service(restart: RestartPolicy) -> World {
    let mut world = World::new();
    let mut chance = Chance::new(1);
    let mut web = service(ServiceName::parse("web").unwrap(), 0, &mut chance);
    web.restart = restart;
    web.pull = PullPolicy::Missing;
    web.replicas = 1;
    web.holds.clear();
    let name = ProjectName::parse("alpha").unwrap();
    let services = BTreeMap::from([(web.name.clone(), web)]);
    world.desired.projects.insert(name.clone(), Project { name, file: "alpha.yaml".into(), services });
    settle(&mut world);
    world
}

fn end_and_count(world: &mut World, status: ExitStatus, ran_ms: u64) -> (u64, u32) {
    let id = world.containers.keys().next().unwrap().clone();
    world.now = world.now.plus_ms(ran_ms);
    world.end(&id, status);
    let ended = world.now;
    settle(world);
    (world.now.since(ended), world.starts[&id])
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

fn web(world: &mut World) -> &mut Service {
    let project = world.desired.projects.values_mut().next().unwrap();
    project.services.values_mut().next().unwrap()
}
