//! Each pull policy, each rule of removal, as tables.

use super::settle;
use super::tables::{one_service, web};
use crate::model::{Action, Digest, ImageReference, Key, Platform, PullPolicy, RestartPolicy, ServiceName};
use crate::plan::sim::{Outcome, World};
use crate::plan::{Plan, WaitingOn};

fn following(pull: PullPolicy) -> World {
    let mut world = one_service(RestartPolicy::Always);
    web(&mut world).pull = pull;
    settle(&mut world);
    world
}

fn image(world: &mut World) -> ImageReference {
    web(world).image.clone().unwrap()
}

fn running(world: &World) -> Vec<Digest> {
    let alive = world.containers.values().filter(|c| c.state.alive());
    alive.map(|c| c.spec.image_digest.clone()).collect()
}

fn edit(world: &mut World) {
    let project = world.desired.projects.values().next().unwrap();
    let of = (project.name.clone(), project.services.keys().next().unwrap().clone());
    world.memory.edited.insert(of.clone(), world.now);
    world.edited.insert(of, world.now);
    world.memory.retry_now();
}

/// All that is done without time passing.
fn run(world: &mut World, outcome: Outcome) -> (Vec<(&'static str, String)>, Plan) {
    let mut done = Vec::new();
    for _ in 0..100 {
        let plan = world.step();
        done.extend(plan.steps.iter().map(|step| (step.action.verb(), step.reason.clone())));
        let Some(key) = world.under_way.keys().next().cloned() else { return (done, plan) };
        world.finish(&key, outcome);
    }
    panic!("it goes on and on: {done:?}");
}

fn verbs(done: &[(&'static str, String)]) -> Vec<&'static str> {
    done.iter().map(|(verb, _)| *verb).collect()
}

#[test]
fn only_who_follows_a_tag_is_replaced_when_it_moves() {
    let day = 86_400_000;
    for (pull, asked, replaced) in [
        (PullPolicy::Never, false, false),
        (PullPolicy::Missing, false, false),
        // Nothing happened: nobody asks.
        (PullPolicy::Always, false, false),
        (PullPolicy::Every { ms: day }, true, true),
    ] {
        let mut world = following(pull);
        let (image, before) = (image(&mut world), running(&world));
        world.tag_moves(&image);
        world.now = world.now.plus_ms(2 * day);
        let (done, _) = run(&mut world, Outcome::Succeeds);
        assert_eq!(verbs(&done).contains(&"pull"), asked, "{pull:?}: {done:?}");
        assert_eq!(running(&world) != before, replaced, "{pull:?}: {done:?}");
        assert_eq!(running(&world).len(), 1, "{pull:?}");
    }
}

#[test]
fn a_move_is_told_with_both_digests() {
    let mut world = following(PullPolicy::Every { ms: 20_000 });
    let (image, before) = (image(&mut world), running(&world));
    world.tag_moves(&image);
    world.now = world.now.plus_ms(20_000);
    let (done, _) = run(&mut world, Outcome::Succeeds);
    assert_eq!(verbs(&done), ["pull", "create", "stop", "remove", "start"]);
    let moved = format!("image {image} moved from {} to {}", before[0].short(), running(&world)[0].short());
    for (verb, reason) in &done[1..4] {
        assert_eq!(*reason, moved, "{verb}");
    }
}

#[test]
fn always_asks_after_an_edit_and_after_the_start_of_the_daemon_and_then_no_more() {
    let mut world = following(PullPolicy::Always);
    let hour = |world: &mut World| world.now = world.now.plus_ms(3_600_000);
    hour(&mut world);
    assert!(run(&mut world, Outcome::Succeeds).0.is_empty());
    edit(&mut world);
    assert_eq!(verbs(&run(&mut world, Outcome::Succeeds).0), ["pull"]);
    world.now = world.now.plus_ms(1);
    edit(&mut world);
    let (done, plan) = run(&mut world, Outcome::Succeeds);
    assert!(done.is_empty(), "asked again within a minute");
    assert_eq!(plan.wake_at, Some(world.now.plus_ms(59_999)), "and not forgotten");
    world.now = world.now.plus_ms(60_000);
    assert_eq!(verbs(&run(&mut world, Outcome::Succeeds).0), ["pull"]);
    hour(&mut world);
    world.daemon_restarts(&mut super::Chance::new(1));
    assert_eq!(verbs(&run(&mut world, Outcome::Succeeds).0), ["pull"]);
    hour(&mut world);
    assert!(run(&mut world, Outcome::Succeeds).0.is_empty());
}

#[test]
fn an_interval_goes_on_over_a_restart() {
    let mut world = following(PullPolicy::Every { ms: 100_000 });
    let asked = world.images.values().next().unwrap().asked;
    world.now = asked.plus_ms(99_000);
    world.daemon_restarts(&mut super::Chance::new(1));
    let (done, plan) = run(&mut world, Outcome::Succeeds);
    assert!(done.is_empty(), "{done:?}");
    assert_eq!(plan.wake_at, Some(asked.plus_ms(100_000)));
    // Where the clock of the records is wrong, it is asked once.
    world.clock_is_wrong = true;
    world.daemon_restarts(&mut super::Chance::new(1));
    assert_eq!(verbs(&run(&mut world, Outcome::Succeeds).0), ["pull"]);
    assert!(run(&mut world, Outcome::Succeeds).0.is_empty());
}

#[test]
fn a_registry_that_is_down_changes_nothing_and_is_asked_again() {
    let mut world = following(PullPolicy::Every { ms: 20_000 });
    let before = running(&world);
    world.registry_up = false;
    world.now = world.now.plus_ms(20_000);
    let (_, plan) = run(&mut world, Outcome::Succeeds);
    let wait = plan.waiting.iter().find(|w| matches!(w.on, WaitingOn::Refresh { attempts: 1, .. }));
    let until = wait.expect("it is told").until.expect("it is tried again");
    assert_eq!(plan.wake_at, Some(until));
    world.now = until;
    let (done, plan) = run(&mut world, Outcome::Succeeds);
    assert_eq!(verbs(&done), ["pull"]);
    assert!(plan.waiting.iter().any(|w| matches!(w.on, WaitingOn::Refresh { attempts: 2, .. })));
    assert_eq!(running(&world), before);
}

#[test]
fn what_is_here_is_run_once_the_registry_could_not_be_asked() {
    let mut world = following(PullPolicy::Always);
    world.registry_up = false;
    world.now = world.now.plus_ms(3_600_000);
    web(&mut world).hash = crate::model::SpecHash::of(b"changed");
    edit(&mut world);
    let (done, plan) = run(&mut world, Outcome::Succeeds);
    assert_eq!(verbs(&done), ["pull", "create", "stop", "remove", "start"]);
    assert!(plan.waiting.iter().any(|w| matches!(w.on, WaitingOn::Refresh { .. })), "{:?}", plan.waiting);
}

#[test]
fn what_is_pinned_is_never_asked_about_and_what_is_lost_is_pulled() {
    let mut world = following(PullPolicy::Always);
    let pinned = ImageReference::parse(&format!("d:1@sha256:{}", "d".repeat(64))).unwrap();
    web(&mut world).image = Some(pinned.clone());
    web(&mut world).hash = crate::model::SpecHash::of(b"pinned");
    settle(&mut world);
    world.now = world.now.plus_ms(3_600_000);
    edit(&mut world);
    assert!(run(&mut world, Outcome::Succeeds).0.is_empty());
    world.containers.clear();
    world.images.remove(&pinned);
    assert_eq!(verbs(&run(&mut world, Outcome::Succeeds).0), ["pull", "create", "start"]);
}

#[test]
fn a_pull_by_hand_moves_only_who_follows() {
    for (pull, replaced) in [(PullPolicy::Missing, false), (PullPolicy::Always, true)] {
        let mut world = following(pull);
        let (image, before) = (image(&mut world), running(&world));
        world.tag_moves(&image);
        world.somebody_pulls(&image);
        run(&mut world, Outcome::Succeeds);
        assert_eq!(running(&world) != before, replaced, "{pull:?}");
    }
}

/// Two services of one name: `web` for the machine, `arm` for another platform.
fn two_platforms(pull: PullPolicy) -> World {
    let mut world = one_service(RestartPolicy::Always);
    web(&mut world).pull = pull;
    let mut arm = web(&mut world).clone();
    arm.name = ServiceName::parse("arm").unwrap();
    arm.platform = Platform::parse("linux/arm64");
    arm.hash = crate::model::SpecHash::of(b"arm");
    world.desired.projects.values_mut().next().unwrap().services.insert(arm.name.clone(), arm);
    world
}

#[test]
fn one_name_for_two_platforms_is_pulled_once_for_each_and_not_back_and_forth() {
    for pull in [PullPolicy::Missing, PullPolicy::Always, PullPolicy::Every { ms: 20_000 }] {
        let mut world = two_platforms(pull);
        let (done, _) = run(&mut world, Outcome::Succeeds);
        let pulls = verbs(&done).iter().filter(|verb| **verb == "pull").count();
        // The world was settled with one of the two.
        assert!((1..=2).contains(&pulls), "{pull:?}: {done:?}");
        let before = running(&world);
        assert_eq!(before.iter().collect::<std::collections::BTreeSet<_>>().len(), 2, "{pull:?}");
        // More of both, and what is lost is made again: all that is needed is here.
        world.desired.projects.values_mut().for_each(|p| p.services.values_mut().for_each(|s| s.replicas = 3));
        let (done, plan) = run(&mut world, Outcome::Succeeds);
        assert!(!verbs(&done).contains(&"pull") && running(&world).len() == 6, "{pull:?}: {done:?}");
        assert!(plan.waiting.is_empty(), "{pull:?}: {:?}", plan.waiting);
        assert!(run(&mut world, Outcome::Succeeds).0.is_empty());
    }
}

#[test]
fn one_name_for_two_platforms_is_followed_for_each() {
    let mut world = two_platforms(PullPolicy::Every { ms: 20_000 });
    run(&mut world, Outcome::Succeeds);
    let (image, before) = (image(&mut world), running(&world));
    world.now = world.now.plus_ms(20_000);
    let (done, _) = run(&mut world, Outcome::Succeeds);
    assert_eq!(verbs(&done), ["pull", "pull"], "asked once for each: {done:?}");
    assert_eq!(running(&world), before);
    world.tag_moves(&image);
    world.now = world.now.plus_ms(20_000);
    let (done, _) = run(&mut world, Outcome::Succeeds);
    assert_eq!(verbs(&done).iter().filter(|verb| **verb == "pull").count(), 2, "{done:?}");
    assert!(running(&world).iter().all(|digest| !before.contains(digest)));
    // Who was killed knows the answer of one; the other one is asked about, and nothing is replaced.
    let after = running(&world);
    world.daemon_restarts(&mut super::Chance::new(1));
    let (done, _) = run(&mut world, Outcome::Succeeds);
    assert!(verbs(&done).iter().all(|verb| *verb == "pull") && done.len() <= 2, "{done:?}");
    assert_eq!(running(&world), after);
}

#[test]
fn what_is_here_in_another_version_and_not_followed_is_told() {
    for (pull, told) in [(PullPolicy::Missing, true), (PullPolicy::Never, true), (PullPolicy::Always, false)] {
        let mut world = following(pull);
        let image = image(&mut world);
        world.tag_moves(&image);
        world.somebody_pulls(&image);
        let (_, plan) = run(&mut world, Outcome::Succeeds);
        let other = world.images[&image].digest.clone();
        let on = WaitingOn::Recreation { image, digest: other.clone() };
        assert_eq!(plan.waiting.iter().any(|wait| wait.on == on), told, "{pull:?}: {:?}", plan.waiting);
        // Its next container is made from it, and there is nothing more to tell.
        world.containers.clear();
        let (_, plan) = run(&mut world, Outcome::Succeeds);
        assert!(running(&world) == [other] && plan.waiting.is_empty(), "{pull:?}: {:?}", plan.waiting);
    }
}

// ---- removal --------------------------------------------------------------------------------------------------------------

/// A service that ran three images: two generations are kept, the first one may go.
fn three_generations() -> (World, Vec<Digest>) {
    let mut world = following(PullPolicy::Every { ms: 20_000 });
    let image = image(&mut world);
    let mut ran = running(&world);
    for _ in 0..2 {
        world.tag_moves(&image);
        settle(&mut world);
        ran.extend(running(&world));
    }
    assert_eq!(world.images.len(), 3);
    (world, ran)
}

fn removed(world: &mut World) -> (Vec<Digest>, Plan) {
    let mut gone = Vec::new();
    for _ in 0..100 {
        let plan = world.step();
        let Some(key) = world.under_way.keys().next().cloned() else { return (gone, plan) };
        if let Action::RemoveImage { digest, .. } = &world.under_way[&key] {
            gone.push(digest.clone());
        }
        world.finish(&key, Outcome::Succeeds);
    }
    panic!("it goes on and on");
}

#[test]
fn only_a_full_disk_removes_and_only_what_nobody_runs_or_ran_before() {
    let (mut world, ran) = three_generations();
    world.others_use = 700;
    assert_eq!(removed(&mut world).0, []);
    world.others_use = 900;
    let (gone, plan) = removed(&mut world);
    assert_eq!(gone, [ran[0].clone()]);
    let crowded = plan.crowded.expect("it is still full, and that is said");
    assert_eq!((crowded.percent, crowded.in_use, crowded.young), (96, 2, 0));
    assert!(plan.wake_at.is_some());
}

#[test]
fn young_and_pinned_images_stay() {
    let (mut world, ran) = three_generations();
    let old = world.images.iter().find(|(_, here)| here.digest == ran[0]).unwrap().0.clone();
    world.others_use = 900;
    world.images.get_mut(&old).unwrap().pinned = true;
    assert_eq!(removed(&mut world).0, []);
    let here = world.images.get_mut(&old).unwrap();
    (here.pinned, here.used) = (false, world.now);
    let (gone, plan) = removed(&mut world);
    assert_eq!((gone.len(), plan.crowded.unwrap().young), (0, 1));
    world.now = world.now.plus_ms(50_000);
    assert_eq!(removed(&mut world).0, [ran[0].clone()]);
}

#[test]
fn removal_ends_at_the_lower_mark_and_takes_the_idlest_first() {
    let mut world = World::new();
    for n in 0..6 {
        let image = ImageReference::parse(&format!("left{n}")).unwrap();
        world.somebody_pulls(&image);
        world.now = world.now.plus_ms(1_000);
    }
    world.now = world.now.plus_ms(100_000);
    let first: Vec<Digest> = (0..6).map(|n| world.tag(&ImageReference::parse(&format!("left{n}")).unwrap())).collect();
    world.others_use = 690;
    // 87 %; each takes 3 %.
    assert_eq!(removed(&mut world).0, first[..3]);
    assert_eq!(removed(&mut world).0, []);
}

#[test]
fn a_failing_removal_is_not_in_the_way_of_the_next() {
    let mut world = World::new();
    let images: Vec<_> = ["one", "two"].iter().map(|name| ImageReference::parse(name).unwrap()).collect();
    for image in &images {
        world.somebody_pulls(image);
        world.now = world.now.plus_ms(100_000);
    }
    world.others_use = 900;
    world.step();
    world.finish(&Key::Image(images[0].clone()), Outcome::Fails);
    world.step();
    assert!(world.under_way.contains_key(&Key::Image(images[1].clone())));
}

#[test]
fn a_pinned_service_is_made_from_its_manifest_whatever_its_tag_stands_for() {
    let mut world = following(PullPolicy::Every { ms: 20_000 });
    let (image, before) = (image(&mut world), running(&world));
    world.tag_moves(&image);
    world.now = world.now.plus_ms(20_000);
    run(&mut world, Outcome::Succeeds);
    assert_ne!(running(&world), before);
    // Back, with the same hash: by the manifest that lost its name.
    web(&mut world).pinned = Some(before[0].clone());
    let (done, _) = run(&mut world, Outcome::Succeeds);
    assert_eq!(verbs(&done), ["create", "stop", "remove", "start"], "{done:?}");
    assert_eq!(running(&world), before);
    world.tag_moves(&image);
    world.now = world.now.plus_ms(100_000);
    let (done, plan) = run(&mut world, Outcome::Succeeds);
    assert!(done.is_empty() && plan.waiting.is_empty(), "neither asked about nor told: {done:?} {:?}", plan.waiting);
    // What is lost is pulled by its digest, not by its name.
    world.containers.clear();
    world.images.clear();
    let plan = world.step();
    let pulled = plan.steps.iter().find_map(|step| match &step.action {
        Action::Pull { image, .. } => Some(image.clone()),
        _ => None,
    });
    assert_eq!(pulled, Some(image.at(&before[0])));
}

#[test]
fn what_is_set_aside_is_asked_about_all_the_same() {
    let mut world = following(PullPolicy::Every { ms: 20_000 });
    let (image, before) = (image(&mut world), running(&world));
    let project = world.desired.projects.values().next().unwrap();
    let file = project.services.values().next().unwrap().clone();
    let of = (project.name.clone(), file.name.clone());
    web(&mut world).pinned = Some(before[0].clone());
    world.desired.watched.insert(of, file);
    world.tag_moves(&image);
    world.now = world.now.plus_ms(19_999);
    let (done, plan) = run(&mut world, Outcome::Succeeds);
    assert!(done.is_empty(), "{done:?}");
    assert_eq!(plan.wake_at, Some(world.now.plus_ms(1)));
    world.now = world.now.plus_ms(1);
    let (done, _) = run(&mut world, Outcome::Succeeds);
    assert_eq!(verbs(&done), ["pull"]);
    assert_eq!(running(&world), before, "it is only asked about");
}
