//! Random histories: edits, deaths, failures before and after the effect, restarts of the daemon and of the machine.
//! The end is as desired, **and every step is checked**: convergence alone cannot see an action that should not have been taken.

mod by_hand;
mod checks;
mod jobs;
mod mounted;
mod net_checks;
mod net_tables;
mod order;
mod order_tables;
mod policies;
mod tables;
mod tasks;
mod toy_ends;
pub(super) mod toy_files;
pub(super) mod toy_jobs;
pub(super) mod toy_net;
pub(super) mod toy_order;
pub(super) mod ward;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub(super) use by_hand::notice as notice_hands;
pub(super) use checks::check_plan;
use checks::right;
pub(super) use net_checks::note_moves;

use toy_net as net;

use super::sim::{Chance, Outcome, World};
use crate::model::{
    Ability, ContainerId, ContainerState, Digest, ExitStatus, Hold, ImageReference, Key, Location, Loosening,
    NetworkMode, Problem, Process, Project, ProjectName, PullPolicy, Resources, RestartPace, RestartPolicy, Service,
    ServiceName, Severity, Slot, SpecHash, StopPolicy, Wish,
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
    match chance.below(41) {
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
        17 if chance.one_in(4) => world.images_are_lost(),
        18 | 19 => world.tag_moves(&image(chance)),
        20 if chance.one_in(3) => world.clock_is_wrong = !world.clock_is_wrong,
        20 => world.machine_changes(chance),
        21 => world.others_use = [0, 400, 700, 820, 900][chance.below(5)],
        23 => net::redefine(world, chance),
        24 | 25 => net::disturb(world, chance),
        26..29 => content(world, chance),
        29 | 32..36 => ward::disturb(world, chance),
        36 | 37 => by_hand::ask(world, chance),
        38..41 => toy_jobs::disturb(world, chance),
        22 if chance.one_in(4) => world.somebody_pulls(&image(chance)),
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
    world.desired.watched.retain(|of, _| of.0 != project);
    if chance.one_in(6) {
        world.desired.projects.remove(&project);
        return world.forget();
    }
    let entry = world.desired.projects.entry(project.clone()).or_insert_with(|| Project {
        name: project.clone(),
        file: PathBuf::from(format!("{project}.yaml")),
        services: BTreeMap::new(),
        networks: net::networks(&project, 0),
        unchosen: BTreeMap::new(),
        volumes: BTreeMap::new(),
    });
    let name = ServiceName::parse(["web", "db", "job"][chance.below(3)]).unwrap();
    let service_name = name.clone();
    if chance.one_in(5) {
        entry.services.remove(&name);
        if chance.one_in(2) {
            entry.unchosen.insert(name, vec!["debug".to_owned()]);
        }
        return world.forget();
    }
    entry.unchosen.remove(&name);
    match entry.services.get_mut(&name).filter(|_| chance.one_in(3)) {
        Some(service) if chance.one_in(4) => toy_order::join(service, &project, chance),
        Some(service) => change_live(service, chance),
        None => {
            let version = chance.below(4);
            let mut service = service(name.clone(), version, chance);
            service.pace = pace(chance);
            net::join(&mut service, &project, version, chance);
            toy_order::join(&mut service, &project, chance);
            entry.services.insert(name.clone(), service);
        }
    }
    by_hand::edited(world, &project, &service_name);
    pin(world, &project, &name, chance);
    edited(world, &project);
}

/// What the file asks for is set aside: another manifest is run instead, or that of the tag as it is now.
fn pin(world: &mut World, project: &ProjectName, name: &ServiceName, chance: &mut Chance) {
    let tagged =
        |service: &&Service| service.platform.is_none() && service.image.as_ref().is_some_and(|i| i.digest().is_none());
    let found = world.desired.projects.get(project).and_then(|p| p.services.get(name)).filter(tagged);
    let Some(file) = found.filter(|_| chance.one_in(5)).cloned() else { return };
    let Some(image) = file.image.clone() else { return };
    let pinned = Some(world.tag(&image));
    if chance.one_in(2) {
        world.tag_moves(&image);
    }
    let service = Service { pinned, ..file.clone() };
    world.desired.projects.get_mut(project).and_then(|p| p.services.insert(name.clone(), service));
    world.desired.watched.insert((project.clone(), name.clone()), Service { pinned: None, ..file });
}

fn edited(world: &mut World, project: &ProjectName) {
    let services = world.desired.projects.get(project).into_iter().flat_map(|project| project.services.keys());
    for of in services.map(|name| (project.clone(), name.clone())).collect::<Vec<_>>() {
        world.memory.edited.insert(of.clone(), world.now);
        world.edited.insert(of, world.now);
    }
}

/// What a config or a secret holds is another content.
fn content(world: &mut World, chance: &mut Chance) {
    let names: Vec<ProjectName> = world.desired.projects.keys().cloned().collect();
    if names.is_empty() {
        return;
    }
    let project = names[chance.below(names.len())].clone();
    let services = world.desired.projects.get_mut(&project).into_iter().flat_map(|p| p.services.values_mut());
    services.for_each(|service| toy_files::change(service, chance));
    edited(world, &project);
}

/// An edit of one thing that a container is given as it is.
fn change_live(service: &mut Service, chance: &mut Chance) {
    match chance.below(8) {
        7 => service.health = ward::policy(chance),
        4.. => toy_files::change(service, chance),
        0 => service.resources.memory = [None, Some(64 << 20), Some(128 << 20)][chance.below(3)],
        1 if chance.one_in(2) => service.pace = pace(chance),
        1 => service.labels = (0..chance.below(3)).map(|n| (format!("l{n}"), String::new())).collect(),
        2 => service.stop.grace_ms = [1_000, 10_000][chance.below(2)],
        _ => service.restart = [RestartPolicy::Always, RestartPolicy::No][chance.below(2)],
    }
}

fn pace(chance: &mut Chance) -> RestartPace {
    let slow = RestartPace { first_ms: 3_000, factor_percent: 100, longest_ms: 3_000, reset_ms: 50_000 };
    [RestartPace::default(), RestartPace::default(), slow][chance.below(3)]
}

/// One of the images that services name; one is pinned, the last one is only mounted.
fn image(chance: &mut Chance) -> ImageReference {
    match chance.below(5) {
        4 => mounted::only(),
        version => named(version),
    }
}

fn named(version: usize) -> ImageReference {
    let pinned = format!("d:1@sha256:{}", "d".repeat(64));
    ImageReference::parse(["a", "b", "c", &pinned][version % 4]).unwrap()
}

pub(super) fn service(name: ServiceName, version: usize, chance: &mut Chance) -> Service {
    let location = Location::whole("x.yaml");
    let problem = Problem::new(Severity::Held, location.clone(), "not supported yet");
    let wish = |ability: Ability| Wish {
        ability,
        needed: ability.protects(),
        key: "services.x.y".to_owned(),
        location: location.clone(),
    };
    let loosening = Loosening { what: "it is wide".to_owned(), key: "z".to_owned(), location: location.clone() };
    Service {
        hash: SpecHash::of(format!("{name}/{version}").as_bytes()),
        name,
        image: Some(named(version)),
        platform: None,
        pull: [
            PullPolicy::Missing,
            PullPolicy::Always,
            PullPolicy::Never,
            PullPolicy::Every { ms: 20_000 },
            PullPolicy::Every { ms: 100_000 },
        ][chance.below(5)],
        replicas: u32::try_from(chance.below(4)).unwrap(),
        container_name: None,
        process: Process::default(),
        hostname: None,
        labels: (0..chance.below(2)).map(|n| (format!("l{n}"), String::new())).collect(),
        annotations: BTreeMap::new(),
        restart: [
            RestartPolicy::No,
            RestartPolicy::Always,
            RestartPolicy::UnlessStopped,
            RestartPolicy::OnFailure { max: Some(2) },
            RestartPolicy::OnFailure { max: None },
        ][chance.below(5)],
        stop: StopPolicy { signal: None, grace_ms: [10_000, 5_000][chance.below(2)] },
        network: NetworkMode::None,
        read_only: false,
        hold_port: false,
        mounts: mounted::mounts(version),
        pace: RestartPace::default(),
        health: ward::policy(chance),
        required_mounts: Vec::new(),
        depends: Vec::new(),
        schedule: None,
        hooks: crate::model::Hooks::default(),
        files: toy_files::files(version, chance),
        names: Default::default(),
        isolation: Default::default(),
        resources: Resources { memory: [None, Some(64 << 20)][chance.below(2)], ..Resources::default() },
        pinned: None,
        taking: Default::default(),
        loosenings: (0..chance.below(2)).map(|_| loosening.clone()).collect(),
        wishes: [&[][..], &[], &[Ability::Swap], &[Ability::Memory]][chance.below(4)]
            .iter()
            .copied()
            .map(wish)
            .collect(),
        suspended: false,
        holds: if chance.one_in(8) { vec![Hold { problem }] } else { Vec::new() },
    }
}

/// Faults stop; time passes until each tag was asked about; everything under way ends well.
fn settle(world: &mut World) {
    world.registry_up = true;
    ward::heals(world);
    let mut services = world.desired.projects.values().flat_map(|p| p.services.values());
    let asking = services.any(|service| matches!(service.pull, PullPolicy::Every { .. }));
    let end = if asking { world.now.plus_ms(250_000) } else { world.now };
    for _ in 0..5_000 {
        let plan = world.step();
        let keys: Vec<Key> = world.under_way.keys().cloned().collect();
        if let Some(key) = keys.first() {
            world.finish(key, Outcome::Succeeds);
            continue;
        }
        let timed = |wait: &super::Wait| matches!(wait.on, super::WaitingOn::Time { .. });
        let waits = plan.waiting.iter().any(|wait| wait.until.is_some() && !timed(wait));
        match plan.wake_at {
            Some(at) if waits || !plan.upkeep.is_empty() || world.now < end => {
                assert!(at > world.now, "the planner wants to be woken in the past");
                world.now = at;
            }
            Some(_) | None => return,
        }
    }
    panic!("it does not settle: {:?}", world.under_way);
}

/// Whether the file, or what the machine lacks, keeps the service from being started.
fn held(world: &World, project: &ProjectName, service: &Service) -> bool {
    let needs = |ability| service.wishes.iter().any(|wish| wish.ability == ability);
    if by_hand::stopped(world, project, service) {
        return true;
    }
    let free = service.holds.is_empty() && net::joinable(&world.desired, project, service);
    let free = free && !order::circular(world, project, service);
    !free || world.lacks.contains_key(&Ability::Memory) && needs(Ability::Memory)
}

/// What a container was given, or is to be given, without being made again.
fn live(service: &Service) -> impl PartialEq + std::fmt::Debug + '_ {
    let files: Vec<_> = service.files.iter().map(|file| (&file.target, &file.name, file.on_change)).collect();
    let policy = (service.restart, service.pace, service.stop, service.pull, &service.health);
    (&service.resources, &service.labels, policy, files, &service.depends)
}

/// Whether the file's word counts for this slot now.
fn in_force(world: &World, slot: &Slot) -> bool {
    wanted(world, slot).is_some_and(|service| !held(world, &slot.project, service))
}

/// What the files say of a slot.
fn wanted<'a>(world: &'a World, slot: &Slot) -> Option<&'a Service> {
    let service = world.desired.projects.get(&slot.project)?.services.get(&slot.service)?;
    let kept = held(world, &slot.project, service) && !by_hand::stopped(world, &slot.project, service);
    (slot.number <= service.replicas || kept).then_some(service)
}

fn check_end(world: &World) {
    for (name, project) in &world.desired.projects {
        for service in project.services.values().filter(|s| !held(world, name, s)) {
            for number in 1..=service.replicas {
                let slot = Slot { project: name.clone(), service: service.name.clone(), number };
                check_slot_end(world, &slot, service);
            }
        }
    }
    for container in world.containers.values() {
        assert!(wanted(world, &container.spec.slot).is_some(), "{} is left over", container.spec.slot);
    }
    by_hand::check_end(world);
    net_checks::check_end(world);
    order::check_end(world);
}

fn check_slot_end(world: &World, slot: &Slot, service: &Service) {
    let here: Vec<_> = world.containers.values().filter(|c| c.spec.slot == *slot).collect();
    if service.schedule.is_some() {
        assert!(here.len() <= 1, "slot {slot} holds {} containers", here.len());
        assert!(here.iter().all(|c| c.spec.purpose.run().is_some()), "slot {slot} holds what is no run");
        return;
    }
    let image = service.image.as_ref().unwrap();
    let lost = |digest: &Digest| !world.images.values().any(|here| here.digest == *digest);
    let missing =
        |image: &ImageReference| match service.pinned.as_ref().filter(|_| service.image.as_ref() == Some(image)) {
            Some(pinned) => lost(pinned),
            None => !world.images.contains_key(image),
        };
    let never = service.pull == PullPolicy::Never && service.images().any(missing);
    if never && here.iter().all(|c| c.spec.service.hash != service.hash) {
        return;
    }
    if order::check_waiting(world, slot, service, &here) {
        return;
    }
    assert_eq!(here.len(), 1, "slot {slot} holds {} containers", here.len());
    assert_eq!(here[0].spec.service.hash, service.hash, "slot {slot} holds an old container");
    mounted::check_end(world, &here[0].spec);
    assert_eq!(live(&here[0].spec.service), live(service), "slot {slot} was not given what changed");
    let settled = toy_files::settled(here[0], service) || order::runs_on(world, here[0]);
    assert!(settled, "slot {slot} sees what its files held before");
    let newest = world.tag(image);
    match (&service.pinned, service.pull) {
        (Some(pinned), _) => {
            assert_eq!(here[0].spec.image_digest, *pinned, "slot {slot} is made from another manifest");
        }
        (None, PullPolicy::Every { .. }) => {
            assert_eq!(here[0].spec.image_digest, newest, "slot {slot} does not follow its tag");
        }
        (None, PullPolicy::Always) => {
            // Where the name was lost, what runs is as good as any.
            let known = world.images.get(image).is_none_or(|known| known.digest == here[0].spec.image_digest);
            assert!(known, "slot {slot} is behind");
        }
        (None, PullPolicy::Missing | PullPolicy::Never) => {}
    }
    match &here[0].state {
        ContainerState::Running { .. } => net_checks::check_running(world, here[0]),
        // Whose network it shares ended for good, or is not there.
        _ if net_checks::nobody_to_share_with(world, here[0]) => {}
        ContainerState::Exited { .. } if ward::may_stay(world, here[0]) => {}
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
