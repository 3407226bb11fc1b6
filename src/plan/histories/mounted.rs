//! Images that services mount: in the histories, what is checked of them, and their rules as tables.

use super::checks::{platform, right};
use super::tables::{one_service, web};
use super::{held, named, settle};
use crate::model::{
    ContainerSpec, Digest, ImageMount, ImageReference, Key, Mount, MountSource, PullPolicy, RestartPolicy, Service,
    Slot, SpecHash, Timestamp,
};
use crate::plan::sim::{Outcome, World};
use crate::plan::{Observed, Plan, WaitingOn};

/// An image that nobody runs.
pub(super) fn only() -> ImageReference {
    ImageReference::parse("e").unwrap()
}

/// What a service of this version mounts.
pub(super) fn mounts(version: usize) -> Vec<Mount> {
    let images = match version {
        1 => vec![only()],
        // What another one runs, and what is pinned.
        2 => vec![named(0), named(3)],
        _ => Vec::new(),
    };
    images.into_iter().enumerate().map(|(number, reference)| mount(number, reference)).collect()
}

fn mount(number: usize, reference: ImageReference) -> Mount {
    let source = MountSource::Image(ImageMount { reference, subpath: None });
    Mount { target: format!("/m{number}"), source, read_only: true, owner: None }
}

/// The services in force that mount an image.
pub(super) fn users<'a>(world: &'a World, image: &'a ImageReference) -> impl Iterator<Item = (Slot, &'a Service)> {
    let all = world.desired.projects.values().flat_map(|p| p.services.values().map(|s| (p.name.clone(), s)));
    let live = all.filter(move |(p, s)| s.mounted_images().contains(image) && !held(world, p, s) && s.replicas > 0);
    live.map(|(project, s)| (Slot { project, service: s.name.clone(), number: 1 }, s))
}

/// From when on the registry may be asked for who mounts the image: while a container is to be made, and not too often.
pub(super) fn may_ask(
    world: &World,
    observed: &Observed,
    image: &ImageReference,
    slot: &Slot,
    service: &Service,
) -> Option<Timestamp> {
    let made = (1..=service.replicas).all(|number| {
        let slot = Slot { number, ..slot.clone() };
        observed.containers.values().any(|c| c.spec.slot == slot && right(world, service, c))
    });
    let pause = match service.pull {
        PullPolicy::Every { ms } => ms,
        PullPolicy::Always => 60_000,
        PullPolicy::Missing | PullPolicy::Never => return None,
    };
    let answered = world.answered.get(&(image.clone(), platform(service.platform.as_ref())));
    (!made && image.digest().is_none()).then(|| answered.map_or(Timestamp::default(), |at| at.plus_ms(pause)))
}

pub(super) fn create(world: &World, spec: &ContainerSpec) {
    let of = platform(spec.service.platform.as_ref());
    assert_eq!(spec.mounted.len(), spec.service.mounted_images().len(), "made without an image that it mounts");
    for (image, digest) in &spec.mounted {
        assert_eq!(Some(digest), world.stands_for(image, &of), "made with another {image} than is here");
    }
}

pub(super) fn check_end(world: &World, spec: &ContainerSpec) {
    assert!(spec.mounted.keys().eq(spec.service.mounted_images()), "{} lacks images that it mounts", spec.slot);
    let here = |digest: &Digest| world.images.values().any(|here| here.digest == *digest);
    assert!(spec.mounted.values().all(here), "an image is gone that {} mounts", spec.slot);
}

// ---- tables ---------------------------------------------------------------------------------------------------------------

/// `web` of the pull policy, which mounts an image, before anything is done; its own image is here.
fn mounting(pull: PullPolicy) -> World {
    let mut world = one_service(RestartPolicy::Always);
    world.containers.clear();
    let web = web(&mut world);
    web.pull = pull;
    web.mounts = vec![mount(0, only()), mount(1, ImageReference::parse("f").unwrap())];
    web.hash = SpecHash::of(b"mounts");
    world
}

/// All that is done without time passing, step by step.
fn run(world: &mut World) -> (Vec<String>, Plan) {
    let mut done = Vec::new();
    for _ in 0..100 {
        let plan = world.step();
        let mut verbs: Vec<&str> = plan.steps.iter().map(|step| step.action.verb()).collect();
        verbs.sort_unstable();
        done.extend((!verbs.is_empty()).then(|| verbs.join(" ")));
        let keys: Vec<Key> = world.under_way.keys().cloned().collect();
        if keys.is_empty() {
            return (done, plan);
        }
        keys.iter().for_each(|key| world.finish(key, Outcome::Succeeds));
    }
    panic!("it goes on and on: {done:?}");
}

fn spec(world: &World) -> ContainerSpec {
    assert_eq!(world.containers.len(), 1);
    world.containers.values().next().unwrap().spec.clone()
}

#[test]
fn what_is_mounted_is_pulled_at_once_and_before_the_container_is_made() {
    let mut world = mounting(PullPolicy::Missing);
    let plan = world.step();
    assert_eq!(plan.steps.iter().filter(|step| step.action.verb() == "pull").count(), 2, "{plan:?}");
    let waits = |image: &ImageReference| plan.waiting.iter().any(|w| w.on == WaitingOn::Image(image.clone()));
    assert!(waits(&only()), "{:?}", plan.waiting);
    // One fails: it is told as a pull of the service's own image would be, and tried again.
    world.finish(&Key::Image(only()), Outcome::Fails);
    let plan = world.step();
    assert!(plan.waiting.iter().any(|w| matches!(w.on, WaitingOn::Retry { verb: "pull", .. }) && w.until.is_some()));
    settle(&mut world);
    assert_eq!(spec(&world).mounted[&only()], world.tag(&only()));
}

#[test]
fn the_policy_of_the_service_is_that_of_what_it_mounts() {
    let mut world = mounting(PullPolicy::Never);
    let (done, plan) = run(&mut world);
    assert!(done.is_empty() && plan.waiting.iter().any(|w| w.on == WaitingOn::NeverPulled(only())), "{plan:?}");
    for (pull, asked) in [(PullPolicy::Missing, false), (PullPolicy::Always, true)] {
        let mut world = mounting(pull);
        for image in [only(), ImageReference::parse("f").unwrap()] {
            world.somebody_pulls(&image);
        }
        world.now = world.now.plus_ms(100_000);
        let (done, _) = run(&mut world);
        assert_eq!(done.iter().any(|verbs| verbs.contains("pull")), asked, "{pull:?}: {done:?}");
        assert_eq!(world.alive_slots().len(), 1);
    }
}

#[test]
fn a_container_keeps_what_it_was_made_with_and_the_next_one_takes_what_is_here_by_then() {
    for pull in [PullPolicy::Missing, PullPolicy::Every { ms: 20_000 }] {
        let mut world = mounting(pull);
        run(&mut world);
        let before = spec(&world);
        world.tag_moves(&only());
        world.somebody_pulls(&only());
        world.now = world.now.plus_ms(100_000);
        let (done, plan) = run(&mut world);
        assert!(done.iter().all(|verbs| verbs == "pull"), "{pull:?}: {done:?}");
        assert!(plan.waiting.is_empty(), "{:?}", plan.waiting);
        assert_eq!(spec(&world), before, "{pull:?}");
        world.containers.clear();
        run(&mut world);
        let after = spec(&world);
        assert_eq!(after.mounted[&only()], world.tag(&only()), "{pull:?}");
        assert_ne!(after.id, before.id, "it sees something else, and is another one");
    }
}

#[test]
fn on_a_full_disk_what_is_mounted_stays_as_long_as_somebody_needs_it() {
    let mut world = mounting(PullPolicy::Missing);
    run(&mut world);
    let mounted = spec(&world).mounted[&only()].clone();
    world.tag_moves(&only());
    world.somebody_pulls(&only());
    world.now = world.now.plus_ms(100_000);
    world.others_use = 900;
    run(&mut world);
    let here = |world: &World, digest| world.images.values().any(|here| here.digest == digest);
    let newer = world.tag(&only());
    assert!(here(&world, mounted.clone()), "its container is there");
    assert!(here(&world, newer.clone()), "its file names it");
    world.desired.projects.clear();
    world.forget();
    run(&mut world);
    assert!(!here(&world, mounted) && !here(&world, newer));
}
