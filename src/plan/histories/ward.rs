//! Health in the histories: who is how, what is checked of it at every step, and its rules as tables.

use std::collections::{BTreeMap, BTreeSet};

use super::tables::{one_service, web};
use super::{in_force, right, settle, wanted};
use crate::model::{
    Action, ContainerId, ContainerState, Health, HealthCheck, HealthPolicy, HealthTest, Key, ObservedContainer,
    OnUnhealthy, RestartPolicy, Timestamp,
};
use crate::plan::sim::{Chance, Outcome, World};
use crate::plan::{Observed, Plan, Unwell, WaitingOn};

/// So many restarts for health may come within a minute, whatever happens.
const IN_A_MINUTE: usize = 5;

#[derive(Default)]
pub(in crate::plan) struct Ward {
    health: BTreeMap<ContainerId, Health>,
    /// Whoever starts is healthy at once.
    all_well: bool,
    /// Who is stopped to be started again, known apart from the planner's memory.
    pub(in crate::plan) curing: BTreeSet<ContainerId>,
    /// Who is stopped for good, likewise.
    given_up: BTreeSet<ContainerId>,
    /// When each was stopped to be started again.
    cured: BTreeMap<ContainerId, Vec<Timestamp>>,
}

pub(super) fn policy(chance: &mut Chance) -> HealthPolicy {
    let test = chance.one_in(2).then(|| HealthTest::Shell("true".to_owned()));
    let reactions = [None, Some(OnUnhealthy::Restart), Some(OnUnhealthy::Stop), Some(OnUnhealthy::Nothing)];
    HealthPolicy { check: HealthCheck { test, ..HealthCheck::default() }, on_unhealthy: reactions[chance.below(4)] }
}

fn running(container: &ObservedContainer) -> bool {
    matches!(container.state, ContainerState::Running { .. })
}

fn reaction(world: &World, container: &ObservedContainer) -> OnUnhealthy {
    let slot = &container.spec.slot;
    let present = wanted(world, slot).filter(|s| in_force(world, slot) && s.hash == container.spec.service.hash);
    let service = present.unwrap_or(&container.spec.service);
    service.health.reaction(service.restart)
}

impl Ward {
    /// As it is seen.
    pub(in crate::plan) fn seen(
        &self,
        containers: &BTreeMap<ContainerId, ObservedContainer>,
    ) -> (BTreeMap<ContainerId, Health>, BTreeMap<ContainerId, String>) {
        let checked = |c: &&ObservedContainer| running(c) && c.spec.service.health.is_given();
        let unseen = if self.all_well { Health::Healthy } else { Health::Starting };
        let of = |id: &ContainerId| self.health.get(id).copied().unwrap_or(unseen);
        let health: BTreeMap<_, _> =
            containers.values().filter(checked).map(|c| (c.spec.id.clone(), of(&c.spec.id))).collect();
        let unhealthy = health.iter().filter(|(_, health)| **health == Health::Unhealthy);
        let complaints = unhealthy.map(|(id, _)| (id.clone(), "it hurts".to_owned())).collect();
        (health, complaints)
    }

    pub(in crate::plan) fn started(&mut self, id: &ContainerId) {
        self.given_up.remove(id);
        self.health.insert(id.clone(), if self.all_well { Health::Healthy } else { Health::Starting });
    }

    pub(in crate::plan) fn stopped(&mut self, id: &ContainerId, now: Timestamp) {
        if self.curing.contains(id) {
            self.cured.entry(id.clone()).or_default().push(now);
        }
    }

    pub(in crate::plan) fn daemon_forgets(&mut self) {
        self.curing.clear();
        self.given_up.clear();
        self.cured.clear();
        // Nobody is known to be well before it is checked anew.
        self.health.clear();
    }

    pub(super) fn set(&mut self, id: &ContainerId, health: Health) {
        self.health.insert(id.clone(), health);
    }

    /// Whoever starts has to be looked at first, again.
    pub(super) fn is_looked_at(&mut self) {
        self.all_well = false;
    }
}

/// Whoever starts becomes healthy, also who does so later. Who is unhealthy stays so for as long as it runs.
pub(super) fn heals(world: &mut World) {
    world.ward.all_well = true;
    for health in world.ward.health.values_mut().filter(|health| **health == Health::Starting) {
        *health = Health::Healthy;
    }
}

/// Somebody's health changes.
pub(super) fn disturb(world: &mut World, chance: &mut Chance) {
    let ids: Vec<ContainerId> = world.observed().health.into_keys().collect();
    if !ids.is_empty() {
        let health = [Health::Healthy, Health::Unhealthy, Health::Unhealthy][chance.below(3)];
        world.ward.health.insert(ids[chance.below(ids.len())].clone(), health);
    }
}

/// What the planner begins is kept in mind, apart from its memory.
pub(in crate::plan) fn note(world: &mut World, observed: &Observed, plan: &Plan) {
    let stays = |id: &ContainerId| {
        let busy = world.under_way.contains_key(&Key::Container(id.clone()));
        observed.containers.get(id).is_some_and(|c| !running(c) || busy)
    };
    // Only of what is right, and alone: the rest may be forgotten.
    let looked_after = |id: &ContainerId| {
        let c = &observed.containers[id];
        let same = |other: &&ObservedContainer| other.spec.slot == c.spec.slot;
        let alone = observed.containers.values().filter(same).count() == 1;
        let present = wanted(world, &c.spec.slot).filter(|_| in_force(world, &c.spec.slot));
        alone && present.is_some_and(|s| right(world, s, c)) && reaction(world, c) == OnUnhealthy::Stop
    };
    let stopping = |id: &&ContainerId| {
        plan.steps.iter().any(|s| matches!(&s.action, Action::Stop { id: stopped, .. } if stopped == *id))
    };
    // A stop that failed may still have its effect: where it is to be tried again, what comes of the one before is the cure, too.
    let to_be_tried_again = |id: &ContainerId| {
        let stop = world.memory.failures.get(&Key::Container(id.clone())).filter(|failure| failure.verb == "stop");
        let ill = observed.health.get(id) == Some(&Health::Unhealthy);
        ill && stop.is_some() && reaction(world, &observed.containers[id]) == OnUnhealthy::Restart
    };
    let cured = |id: &&ContainerId| stays(id) || to_be_tried_again(id);
    let mut curing: BTreeSet<_> = world.ward.curing.iter().filter(cured).cloned().collect();
    let still = |id: &&ContainerId| stays(id) && looked_after(id);
    let mut given_up: BTreeSet<_> = world.ward.given_up.iter().filter(still).cloned().collect();
    curing.extend(plan.curing.iter().filter(stopping).cloned());
    given_up.extend(plan.given_up.keys().filter(stopping).cloned());
    (world.ward.curing, world.ward.given_up) = (curing, given_up);
}

/// Whether it may be stopped for its health.
pub(super) fn may_stop(world: &World, observed: &Observed, container: &ObservedContainer) -> bool {
    let id = &container.spec.id;
    if !running(container) || observed.health.get(id) != Some(&Health::Unhealthy) {
        return false;
    }
    let minute = |at: &&Timestamp| world.now.since(**at) < 60_000;
    let lately = world.ward.cured.get(id).map_or(0, |all| all.iter().filter(minute).count());
    match reaction(world, container) {
        OnUnhealthy::Nothing => false,
        OnUnhealthy::Stop => true,
        OnUnhealthy::Restart => lately < IN_A_MINUTE,
    }
}

/// Whether it is to be stopped for good, whatever it comes after.
pub(super) fn is_to_be_stopped(world: &World, container: &ObservedContainer) -> bool {
    let ill = world.observed().health.get(&container.spec.id) == Some(&Health::Unhealthy);
    ill && reaction(world, container) == OnUnhealthy::Stop
}

/// Whether it was stopped to be started again.
pub(super) fn is_cured(world: &World, container: &ObservedContainer) -> bool {
    world.ward.curing.contains(&container.spec.id)
}

/// Whether it was stopped for good, and nothing changed since.
pub(super) fn is_given_up(world: &World, container: &ObservedContainer) -> bool {
    world.ward.given_up.contains(&container.spec.id) && reaction(world, container) == OnUnhealthy::Stop
}

/// Whether it may stay ended at the end.
pub(super) fn may_stay(world: &World, container: &ObservedContainer) -> bool {
    let known = world.memory.given_up.contains_key(&container.spec.id);
    known && reaction(world, container) == OnUnhealthy::Stop
}

/// Who is not well gets a step, is acted upon, or is spoken of.
pub(super) fn nothing_is_forgotten(world: &World, observed: &Observed, plan: &Plan) {
    for (id, health) in observed.health.iter().filter(|(_, health)| **health != Health::Healthy) {
        let slot = &observed.containers[id].spec.slot;
        let busy = world.under_way.contains_key(&Key::Container(id.clone()));
        let acts = plan.steps.iter().any(|s| s.slot.as_ref() == Some(slot));
        let spoken = plan.waiting.iter().any(|w| w.slot == *slot);
        assert!(busy || acts || spoken, "{slot} is {} and not spoken of", health.word());
    }
    for id in &plan.curing {
        assert!(plan.moving.contains_key(id), "{} is cured and not to be started again", id.short());
    }
}

// ---- tables ---------------------------------------------------------------------------------------------------------------

/// `web` with a check, which runs.
fn checked(restart: RestartPolicy, on_unhealthy: Option<OnUnhealthy>) -> (World, ContainerId) {
    let mut world = one_service(restart);
    let test = Some(HealthTest::Shell("true".to_owned()));
    web(&mut world).health = HealthPolicy { check: HealthCheck { test, ..HealthCheck::default() }, on_unhealthy };
    settle(&mut world);
    world.ward.is_looked_at();
    let id = world.containers.keys().next().unwrap().clone();
    assert!(running(&world.containers[&id]));
    (world, id)
}

/// It is found to be unhealthy; all that follows without time passing.
fn falls_ill(world: &mut World, id: &ContainerId) -> (Vec<String>, Plan) {
    world.ward.set(id, Health::Unhealthy);
    let mut done = Vec::new();
    for _ in 0..20 {
        let plan = world.step();
        done.extend(plan.steps.iter().map(|s| format!("{}: {}", s.action.verb(), s.reason)));
        let Some(key) = world.under_way.keys().next().cloned() else { return (done, plan) };
        world.finish(&key, Outcome::Succeeds);
    }
    panic!("it goes on and on: {done:?}");
}

fn on(plan: &Plan) -> Vec<&WaitingOn> {
    plan.waiting.iter().map(|wait| &wait.on).collect()
}

#[test]
fn who_is_unhealthy_is_restarted_whatever_its_policy_says_of_its_end() {
    for restart in [RestartPolicy::Always, RestartPolicy::OnFailure { max: Some(1) }, RestartPolicy::No] {
        let (mut world, id) = checked(restart, Some(OnUnhealthy::Restart));
        let (done, plan) = falls_ill(&mut world, &id);
        assert_eq!(done, ["stop: unhealthy: it hurts", "start: unhealthy: it hurts"], "{restart:?}");
        assert_eq!(on(&plan), [&WaitingOn::FirstCheck], "{restart:?}");
        assert_eq!((world.memory.cures[&id].total, world.memory.restarts.get(&id)), (1, None), "{restart:?}");
    }
}

#[test]
fn restarts_for_health_have_a_budget_that_comes_back_with_health() {
    let (mut world, id) = checked(RestartPolicy::Always, None);
    for _ in 0..3 {
        assert_eq!(falls_ill(&mut world, &id).0.len(), 2);
    }
    for pause in [10_000, 20_000, 40_000] {
        let (done, plan) = falls_ill(&mut world, &id);
        let wait = plan.waiting.iter().find(|w| matches!(w.on, WaitingOn::Unhealthy { .. })).unwrap();
        // Its last start came at most a moment after the restart was decided.
        let early = world.now.plus_ms(pause).since(wait.until.unwrap());
        assert!(done.is_empty() && early <= 1, "{pause}: {done:?}, {:?}", wait.until);
        assert!(matches!(wait.on, WaitingOn::Unhealthy { then: Unwell::Restarts { so_far: 3.. }, .. }));
        world.now = world.now.plus_ms(pause);
        assert_eq!(falls_ill(&mut world, &id).0.len(), 2, "{pause}");
    }
    world.ward.set(&id, Health::Healthy);
    world.now = world.now.plus_ms(600_000);
    world.step();
    assert_eq!(falls_ill(&mut world, &id).0.len(), 2, "it was healthy for long");
}

#[test]
fn who_is_stopped_for_its_health_stays_so_until_its_file_says_otherwise() {
    let (mut world, id) = checked(RestartPolicy::Always, Some(OnUnhealthy::Stop));
    let (done, plan) = falls_ill(&mut world, &id);
    assert_eq!(done, ["stop: unhealthy: it hurts; on_unhealthy: stop"]);
    let stopped = WaitingOn::Unhealthy { said: "it hurts".to_owned(), then: Unwell::Stopped };
    assert_eq!(on(&plan), [&stopped]);
    world.now = world.now.plus_ms(3_600_000);
    assert!(world.step().steps.is_empty());
    web(&mut world).health.on_unhealthy = None;
    settle(&mut world);
    assert!(running(&world.containers[&id]));
}

#[test]
fn who_is_only_told_runs_on() {
    let (mut world, id) = checked(RestartPolicy::No, None);
    let (done, plan) = falls_ill(&mut world, &id);
    let told = WaitingOn::Unhealthy { said: "it hurts".to_owned(), then: Unwell::RunsOn };
    assert_eq!((done.len(), on(&plan)), (0, vec![&told]));
    world.ward.set(&id, Health::Healthy);
    assert!(world.step().waiting.is_empty());
}

#[test]
fn who_gets_well_before_it_is_stopped_is_left_alone() {
    let (mut world, id) = checked(RestartPolicy::Always, None);
    world.ward.set(&id, Health::Unhealthy);
    world.step();
    world.finish(&Key::Container(id.clone()), Outcome::Fails);
    world.ward.set(&id, Health::Healthy);
    let plan = world.step();
    assert!(plan.steps.is_empty() && plan.waiting.is_empty(), "{plan:?}");
    assert!(plan.moving.is_empty() && running(&world.containers[&id]));
}
