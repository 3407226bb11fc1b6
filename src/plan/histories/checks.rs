//! What is checked at every single step of a history, each rule said a second time and in another way.

use std::collections::BTreeSet;

use super::{held, live, mounted, net_checks, order, toy_files, toy_jobs, wanted, ward};
use crate::model::{
    Action, ContainerId, ContainerSpec, ContainerState, Digest, ExitStatus, ImageReference, Key, ObservedContainer,
    Platform, PullPolicy, RestartPolicy, Service, Slot, Timestamp,
};
use crate::plan::sim::World;
use crate::plan::{Observed, Plan, Wait, WaitingOn};

pub(in crate::plan) fn check_plan(world: &World, observed: &Observed, plan: &Plan) {
    let mut keys = BTreeSet::new();
    for step in &plan.steps {
        let key = step.action.key();
        assert!(!world.under_way.contains_key(&key), "a second action for {key} while one is under way");
        assert!(keys.insert(key.clone()), "two actions for {key} in one plan");
        assert!(!step.reason.is_empty(), "{key}: no reason");
        let failed = match &step.action {
            Action::Update { spec } => world.memory.updates.get(&spec.id),
            Action::Connect { spec } => world.memory.connects.get(&spec.id),
            other => world.memory.failures.get(&key).filter(|f| f.verb == other.verb()),
        };
        if let Some(failure) = failed {
            assert!(failure.retry_at <= world.now, "{key} is retried before its back-off is over");
        }
        super::by_hand::check_step(world, observed, &step.action);
        check_action(world, observed, plan, &step.action);
    }
    check_limits(world, plan);
    check_asked(world, observed, plan);
    check_crowded(world, observed, plan);
    check_nothing_is_forgotten(world, observed, plan);
    net_checks::nothing_is_forgotten(world, observed, plan);
    ward::nothing_is_forgotten(world, observed, plan);
    assert!(plan.wake_at.is_none_or(|at| at > world.now), "the planner wants to be woken in the past");
}

fn check_limits(world: &World, plan: &Plan) {
    let actions = || world.under_way.values().chain(plan.steps.iter().map(|s| &s.action));
    let pulls = actions().filter(|a| matches!(a, Action::Pull { .. })).count();
    assert!(pulls <= world.limits.pulls, "{pulls} pulls at once");
    let removals = actions().filter(|a| matches!(a, Action::RemoveImage { .. })).count();
    assert!(removals <= 1, "{removals} images are removed at once");
    let others = actions().filter(|a| matches!(a.key(), Key::Container(_))).count();
    assert!(others <= world.limits.containers, "{others} container actions at once");
}

fn check_action(world: &World, observed: &Observed, plan: &Plan, action: &Action) {
    match action {
        Action::Pull { image, platform, .. } => check_pull(world, observed, image, platform.as_ref()),
        Action::RemoveImage { image, digest } => check_collect(world, observed, plan, image, digest),
        Action::Create { spec } => {
            let slot = &spec.slot;
            let service = wanted(world, slot).expect("a container is made that no file asks for");
            assert!(!held(world, &slot.project, service), "a container of a held service is made");
            assert!(spec.slot.number <= service.replicas, "a replica too many is made");
            assert_eq!(spec.service.hash, service.hash, "a container is made from an old specification");
            let named = || world.stands_for(&spec.image, &platform(service.platform.as_ref()));
            let here = service.pinned.as_ref().or_else(named);
            assert_eq!(Some(&spec.image_digest), here, "made without its image");
            mounted::create(world, spec);
            assert!(!observed.containers.contains_key(&spec.id), "made a second time");
        }
        Action::MakeNetwork { network } => net_checks::make(world, observed, plan, network),
        Action::RemoveNetwork { id } => net_checks::remove(world, observed, plan, id),
        Action::Connect { spec } => net_checks::connect(world, observed, &spec.id),
        Action::Guard => assert!(world.net.firewall.is_some(), "the rules are put right that are right"),
        Action::HoldPorts { .. } | Action::HandOver { .. } => panic!("no rule moves ports"),
        Action::Start { spec, network } => {
            net_checks::start(world, observed, &observed.containers[&spec.id], network);
            check_start(world, observed, plan, &observed.containers[&spec.id]);
            toy_files::check_start(world, spec);
            order::check_start(world, plan, &spec.slot);
        }
        Action::Update { spec } => {
            let slot = &spec.slot;
            let service = wanted(world, slot).expect("a container is changed that no file asks for");
            assert!(!held(world, &slot.project, service), "a container of a held service is changed");
            let before = &observed.containers[&spec.id];
            assert!(right(world, service, before), "a container is changed that has to be made again");
            let orphaned = matches!(before.state, ContainerState::Orphaned { .. });
            assert!(!orphaned, "a container is changed whose rest has to be ended");
            let after = world.update_after.get(&spec.id);
            assert!(after.is_none_or(|at| *at <= world.now), "an update that failed is tried again at once");
            let swaps = toy_files::swaps(before, service);
            assert!(swaps || live(&before.spec.service) != live(&spec.service), "nothing is changed");
            toy_files::check_update(before, spec, service);
            assert_eq!(live(&spec.service), live(service), "a container is given what no file says");
            let unchanged = |s: &ContainerSpec| (s.id.clone(), s.name.clone(), s.slot.clone(), s.image_digest.clone());
            assert_eq!(unchanged(&before.spec), unchanged(spec), "more is changed than can be");
        }
        Action::Pause { .. } | Action::Unpause { .. } => {}
        Action::Stop { id, .. } => {
            check_stop(world, observed, &observed.containers[id]);
            order::check_stop(world, plan, &observed.containers[id]);
        }
        Action::Remove { id } => check_remove(world, observed, &observed.containers[id]),
    }
}

fn users<'a>(world: &'a World, image: &'a ImageReference) -> impl Iterator<Item = (Slot, &'a Service)> {
    let all = world.desired.projects.values().flat_map(|p| p.services.values().map(|s| (p.name.clone(), s)));
    let wants = move |s: &Service| match (&s.pinned, &s.image) {
        (Some(digest), Some(own)) => own.at(digest) == *image,
        (_, own) => own.as_ref() == Some(image),
    };
    let live = all.filter(move |(p, s)| wants(s) && !held(world, p, s) && s.replicas > 0);
    let watched = world.desired.watched.iter().map(|(of, s)| (of.0.clone(), s)).filter(move |(_, s)| wants(s));
    live.chain(watched).map(|(project, s)| (Slot { project, service: s.name.clone(), number: 1 }, s))
}

pub(super) fn follows(service: &Service) -> bool {
    let pinned = service.pinned.is_some() || service.image.as_ref().is_none_or(|image| image.digest().is_some());
    !pinned && matches!(service.pull, PullPolicy::Always | PullPolicy::Every { .. })
}

/// Whether it is the container that the file, and the tag where the service follows it, ask for.
pub(super) fn right(world: &World, service: &Service, container: &ObservedContainer) -> bool {
    if let Some(pinned) = &service.pinned {
        return container.spec.service.hash == service.hash && *pinned == container.spec.image_digest;
    }
    let platform = platform(service.platform.as_ref());
    let here = service.image.as_ref().and_then(|image| world.stands_for(image, &platform));
    let same = here.is_none_or(|digest| *digest == container.spec.image_digest);
    let scheduled = service.schedule.is_some() == container.spec.purpose.run().is_some();
    scheduled && container.spec.service.hash == service.hash && (same || !follows(service))
}

pub(super) fn platform(platform: Option<&Platform>) -> String {
    platform.map_or_else(String::new, ToString::to_string)
}

/// From when on a service may ask, if it has a reason to.
fn may_ask(world: &World, observed: &Observed, slot: &Slot, service: &Service) -> Option<Timestamp> {
    let image = service.image.as_ref().filter(|_| follows(service))?;
    let variant = (image.clone(), platform(service.platform.as_ref()));
    let answered = world.answered.get(&variant).copied();
    let after = |ms| answered.map_or(Timestamp::default(), |at| at.plus_ms(ms));
    match service.pull {
        PullPolicy::Every { ms } => Some(after(ms)),
        PullPolicy::Always => {
            let of = (slot.project.clone(), slot.service.clone());
            let edited = world.edited.get(&of).copied().unwrap_or_default();
            let heard = world.heard.get(&variant).is_some_and(|at| *at >= edited);
            // Nothing is made of what is set aside.
            let aside = world.desired.watched.get(&of).is_some_and(|watched| std::ptr::eq(watched, service));
            let made = aside
                || (1..=service.replicas).all(|number| {
                    let slot = Slot { number, ..slot.clone() };
                    observed.containers.values().any(|c| c.spec.slot == slot && right(world, service, c))
                });
            (!heard || !made).then(|| after(60_000))
        }
        PullPolicy::Missing | PullPolicy::Never => None,
    }
}

fn check_pull(world: &World, observed: &Observed, image: &ImageReference, of: Option<&Platform>) {
    let users = || users(world, image).filter(|(_, s)| s.platform.as_ref() == of);
    let mounting = || mounted::users(world, image).filter(|(_, s)| s.platform.as_ref() == of);
    let mut all = users().chain(mounting());
    assert!(all.any(|(_, s)| s.pull != PullPolicy::Never), "{image} is pulled for nobody");
    if observed.images.get(image).is_none_or(|facts| facts.platform != platform(of)) {
        return;
    }
    assert!(image.digest().is_none(), "{image} is pinned, here, and asked about");
    let own = users().filter_map(|(slot, s)| may_ask(world, observed, &slot, s));
    let mounting = mounting().filter_map(|(slot, s)| mounted::may_ask(world, observed, image, &slot, s));
    let allowed =
        own.chain(mounting).min().expect("the registry is asked about an image that nobody wants the newest of");
    assert!(allowed <= world.now, "{image} is asked about {} ms too early", allowed.since(world.now));
}

/// Whoever is to follow a tag gets it asked about in time.
fn check_asked(world: &World, observed: &Observed, plan: &Plan) {
    for image in observed.images.keys() {
        let first = users(world, image).filter_map(|(slot, s)| may_ask(world, observed, &slot, s)).min();
        let Some(at) = first else { continue };
        let key = Key::Image(image.clone());
        let acts = world.under_way.contains_key(&key) || plan.steps.iter().any(|s| s.action.key() == key);
        let turn = plan.waiting.iter().any(|w| w.on == WaitingOn::Turn)
            || plan.steps.iter().any(|s| s.action.verb() == "pull");
        let retried = world.memory.failures.contains_key(&key);
        let woken = at > world.now && plan.wake_at.is_some_and(|wake| wake <= at);
        // What is still on its way may be the reason to ask.
        let making = at > world.now && !world.under_way.is_empty();
        assert!(
            acts || turn || retried || woken || making || at > world.now && !plan.steps.is_empty(),
            "{image} is not asked about in time"
        );
    }
}

/// Whether nobody needs the image: said without the planner's help.
fn collectable(world: &World, observed: &Observed, plan: &Plan, digest: &Digest) -> Result<(), &'static str> {
    let named = |image: &ImageReference| observed.images.get(image).is_some_and(|facts| facts.digest == *digest);
    let mut services = world.desired.projects.values().flat_map(|p| p.services.values());
    let names = || observed.images.values().filter(|facts| facts.digest == *digest);
    let making = |a: &Action| matches!(a, Action::Create { spec } | Action::Start { spec, .. } if spec.manifests().any(|d| d == digest));
    if world.containers.values().any(|c| c.spec.manifests().any(|needed| needed == digest)) {
        return Err("a container needs it");
    }
    if world.under_way.values().any(making) || plan.steps.iter().any(|s| making(&s.action)) {
        return Err("a container is about to be made from it");
    }
    if services.any(|s| s.images().any(named) || s.pinned.as_ref() == Some(digest)) {
        return Err("a service names it");
    }
    if world.ran.values().any(|ran| ran.contains(digest)) {
        return Err("a service ran it last, or before");
    }
    if names().any(|facts| facts.pinned) {
        return Err("it is pinned");
    }
    if names().any(|facts| facts.idle_ms < world.collect.min_age_ms) {
        return Err("it is young");
    }
    Ok(())
}

fn check_collect(world: &World, observed: &Observed, plan: &Plan, image: &ImageReference, digest: &Digest) {
    assert_eq!(Some(digest), observed.images.get(image).map(|facts| &facts.digest), "{image} is something else");
    let collectable = collectable(world, observed, plan, digest);
    assert!(collectable.is_ok(), "{image} is removed although {}", collectable.unwrap_err());
    let percent = observed.disk.as_ref().expect("a disk").percent();
    let mark = if world.filled { world.collect.stop } else { world.collect.start };
    assert!(percent >= u64::from(mark), "{image} is removed although the disk is only {percent} % full");
}

fn check_crowded(world: &World, observed: &Observed, plan: &Plan) {
    let full = observed.disk.as_ref().is_some_and(|disk| disk.percent() >= u64::from(world.collect.start));
    let removing = |a: &Action| matches!(a, Action::RemoveImage { .. });
    if plan.crowded.is_some() {
        assert!(full, "the disk is said to be full and is not");
    }
    if !full || world.under_way.values().any(removing) || plan.steps.iter().any(|s| removing(&s.action)) {
        return;
    }
    assert!(plan.crowded.is_some(), "the disk is full, and nothing is done or said");
    for (name, facts) in &observed.images {
        let key = Key::Image(name.clone());
        let busy = world.under_way.contains_key(&key) || world.memory.failures.contains_key(&key);
        let free = collectable(world, observed, plan, &facts.digest);
        assert!(busy || free.is_err(), "{name} could be removed, and the disk is said to be full");
    }
}

fn check_start(world: &World, observed: &Observed, plan: &Plan, container: &ObservedContainer) {
    let slot = &container.spec.slot;
    assert!(!container.state.alive(), "{slot} is started while it runs");
    if container.spec.purpose.task().is_some() {
        assert!(!matches!(container.state, ContainerState::Exited { .. }), "{slot} is run once more");
        return;
    }
    for other in observed.containers.values().filter(|c| c.spec.slot == *slot && c.spec.id != container.spec.id) {
        assert!(!other.state.alive(), "{slot} is started beside one that runs");
        let key = Key::Container(other.spec.id.clone());
        let starts = |a: &Action| matches!(a, Action::Start { .. }) && a.key() == key;
        let both = world.under_way.values().any(starts) || plan.steps.iter().any(|s| starts(&s.action));
        assert!(!both, "{slot} is started twice");
    }
    let service = wanted(world, slot).expect("something is started that no file asks for");
    if container.spec.purpose.run().is_some() {
        if let ContainerState::Exited { status, started, at } = container.state {
            let policy = container.spec.service.restart;
            check_restart(world, &container.spec.id, policy, status, at.since(started));
        }
        return;
    }
    if let ContainerState::Exited { status, started, at } = container.state {
        let current = service.hash == container.spec.service.hash && !held(world, &slot.project, service);
        let policy = if current { service.restart } else { container.spec.service.restart };
        if current && super::by_hand::again(world, container) {
            return;
        }
        if current && (net_checks::must_move(world, observed, container) || toy_files::changed(world, container)) {
            return;
        }
        if ward::is_cured(world, container) {
            return;
        }
        assert!(!ward::is_given_up(world, container), "{slot} is started though it was stopped for its health");
        check_restart(world, &container.spec.id, policy, status, at.since(started));
    } else {
        assert!(!held(world, &slot.project, service), "a held service is started for the first time");
        assert_eq!(service.hash, container.spec.service.hash, "an old specification is started");
    }
    if !held(world, &slot.project, service)
        && right(world, service, container)
        && live(&container.spec.service) != live(service)
    {
        let failed = world.memory.updates.contains_key(&container.spec.id);
        assert!(failed, "{slot} is started before it was given what changed");
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
        let pace = world.containers[id].spec.service.pace;
        let streak = if ran >= pace.reset_ms { 0 } else { restarts.streak };
        let ended = world.memory.ends[id];
        let waited = world.now.since(ended);
        assert!(waited >= pace.delay_ms(streak), "started again after {waited} ms, streak {streak}");
    }
}

fn check_stop(world: &World, observed: &Observed, container: &ObservedContainer) {
    let slot = &container.spec.slot;
    if matches!(container.state, ContainerState::Orphaned { .. }) {
        return;
    }
    assert!(container.state.alive(), "{slot} is stopped although it does not run");
    if container.spec.purpose.task().is_some() {
        return;
    }
    let Some(service) = wanted(world, slot) else { return };
    if ward::may_stop(world, observed, container) || super::by_hand::stopped(world, &slot.project, service) {
        return;
    }
    assert!(!held(world, &slot.project, service), "a held service's container is stopped");
    if service.schedule.is_some() {
        return toy_jobs::check_stop(world, observed, container);
    }
    if right(world, service, container) && super::by_hand::again(world, container) {
        return;
    }
    if right(world, service, container) {
        return net_checks::stop(world, observed, container);
    }
    let here = |c: &&ObservedContainer| c.spec.slot == *slot && right(world, service, c);
    let successor = observed.containers.values().any(|c| here(&c));
    assert!(successor, "{slot} is stopped before its successor is made");
}

fn check_remove(world: &World, observed: &Observed, container: &ObservedContainer) {
    let slot = &container.spec.slot;
    assert!(!container.state.alive(), "{slot} is removed while it runs");
    if container.spec.purpose.task().is_some() {
        return;
    }
    let Some(service) = wanted(world, slot) else { return };
    assert!(!held(world, &slot.project, service), "a held service's container is removed");
    if service.schedule.is_some() {
        return toy_jobs::check_remove(world, observed, container);
    }
    let same = observed.containers.values().filter(|c| c.spec.slot == *slot && right(world, service, c));
    let only = same.count() == 1 && right(world, service, container);
    assert!(!only, "what the file asks for is removed");
}

/// Whatever is not as it should be has a step, an action under way, or a wait that says why.
fn check_nothing_is_forgotten(world: &World, observed: &Observed, plan: &Plan) {
    for (name, project) in &world.desired.projects {
        for service in project.services.values() {
            for number in 1..=service.replicas {
                let slot = Slot { project: name.clone(), service: service.name.clone(), number };
                let right = observed.containers.values().any(|c| {
                    let given = live(&c.spec.service) == live(service) && toy_files::settled(c, service);
                    let same = right(world, service, c) && given;
                    c.spec.slot == slot && same && matches!(c.state, ContainerState::Running { .. })
                });
                let spoken = plan.waiting.iter().any(|w| w.slot == slot)
                    || plan.steps.iter().any(|s| s.slot.as_ref() == Some(&slot));
                assert!(right || spoken, "slot {slot} is neither right nor spoken of");
            }
        }
    }
    for wait in plan.waiting.iter().filter(|wait| matches!(wait.on, WaitingOn::Owner { .. })) {
        let mut here = observed.containers.values().filter(|c| c.spec.slot == wait.slot);
        let again =
            here.any(|c| toy_files::changed(world, c) && wanted(world, &wait.slot).is_some_and(|s| right(world, s, c)));
        assert!(!again, "{} stays ended although what it sees changed", wait.slot);
    }
    let waits = |w: &Wait| matches!(w.on, WaitingOn::Held | WaitingOn::NoNetwork(_));
    for wait in plan.waiting.iter().filter(|w| waits(w)) {
        let unknown = world.desired.kept.contains(&wait.slot.project);
        assert!(
            unknown
                || wanted(world, &wait.slot).is_some_and(|s| held(world, &wait.slot.project, s))
                || net_checks::is_cut_off(world, observed, &wait.slot),
            "{} is held for nothing",
            wait.slot
        );
    }
}
