//! The toy host's services come after each other, and its containers have health checks.

use std::collections::BTreeMap;

use super::order::{closed, file_or_record};
use super::wanted;
use crate::model::{
    Action, Condition, ContainerId, ContainerState, Dependency, Health, Key, ObservedContainer, ProcessId, ProjectName,
    Service, ServiceName,
};
use crate::plan::Plan;
use crate::plan::sim::{Chance, World};

/// What is known of the order, apart from the planner's memory.
#[derive(Default)]
pub(in crate::plan) struct Ordered {
    health: BTreeMap<ContainerId, Health>,
    /// Who has to be started anew, and after the end of which runs.
    pub(in crate::plan) owes: BTreeMap<ContainerId, Vec<(ContainerId, ProcessId)>>,
}

impl Ordered {
    pub(in crate::plan) fn health(
        &self,
        containers: &BTreeMap<ContainerId, ObservedContainer>,
    ) -> BTreeMap<ContainerId, Health> {
        let running = |id: &ContainerId| matches!(containers.get(id), Some(c) if matches!(c.state, ContainerState::Running { .. }));
        // Jobs have no health check.
        let checked = |id: &ContainerId| containers[id].spec.slot.service.as_str() != "job";
        let all = self.health.iter().filter(|(id, _)| running(id) && checked(id));
        all.map(|(id, health)| (id.clone(), *health)).collect()
    }

    pub(in crate::plan) fn started(&mut self, id: &ContainerId) {
        self.health.insert(id.clone(), Health::Starting);
    }

    pub(super) fn set(&mut self, id: &ContainerId, health: Health) {
        self.health.insert(id.clone(), health);
    }
}

/// Somebody's health changes.
pub(super) fn disturb(world: &mut World, chance: &mut Chance) {
    let ids: Vec<ContainerId> = world.containers.keys().cloned().collect();
    if !ids.is_empty() {
        let health = [Health::Healthy, Health::Healthy, Health::Unhealthy, Health::Starting][chance.below(4)];
        world.order.set(&ids[chance.below(ids.len())], health);
    }
}

/// What starts comes to be healthy; what is not stays so.
pub(super) fn checks_pass(world: &mut World) {
    for health in world.order.health.values_mut().filter(|health| **health == Health::Starting) {
        *health = Health::Healthy;
    }
}

/// Gives a service something to come after.
pub(super) fn join(service: &mut Service, project: &ProjectName, chance: &mut Chance) {
    service.depends.clear();
    let before: &[&str] = match service.name.as_str() {
        "web" => &["db", "job"],
        "db" => &["job"],
        _ => &[],
    };
    for name in before.iter().copied().filter(|_| chance.one_in(3)).collect::<Vec<_>>() {
        service.depends.push(dependency(project.as_str(), name, chance));
    }
    if chance.one_in(6) {
        // Mostly down, seldom round.
        let other = match project.as_str() {
            "gamma" => ["alpha", "beta"][chance.below(2)],
            "beta" => "alpha",
            _ if chance.one_in(3) => "gamma",
            _ => return,
        };
        let name = ["web", "db", "job"][chance.below(3)];
        service.depends.push(dependency(other, name, chance));
    }
}

fn dependency(project: &str, service: &str, chance: &mut Chance) -> Dependency {
    Dependency {
        project: ProjectName::parse(project).unwrap(),
        service: ServiceName::parse(service).unwrap(),
        condition: [Condition::Started, Condition::Started, Condition::Healthy, Condition::Completed][chance.below(4)],
        restart: chance.one_in(2),
        required: !chance.one_in(4),
    }
}

/// Keeps in mind who has to be started anew.
pub(in crate::plan) fn note_renewals(world: &mut World, plan: &Plan) {
    let planned = || plan.steps.iter().map(|step| &step.action);
    let stops = |id: &ContainerId| {
        let mut all = world.under_way.values().chain(planned());
        all.any(|action| matches!(action, Action::Stop { id: other, .. } if other == id))
    };
    let mut renewed = Vec::new();
    for container in world.containers.values() {
        if let ContainerState::Running { init, .. } = container.state
            && stops(&container.spec.id)
            && wanted(world, &container.spec.slot).is_some()
        {
            renewed.push((container.spec.slot.clone(), container.spec.id.clone(), init));
        }
    }
    let mut owes: BTreeMap<ContainerId, Vec<(ContainerId, ProcessId)>> = BTreeMap::new();
    for container in world.containers.values() {
        let id = &container.spec.id;
        let key = Key::Container(id.clone());
        let start = |action: &&Action| matches!(action, Action::Start { .. }) && action.key() == key;
        let running = matches!(container.state, ContainerState::Running { .. });
        if planned().any(|a| start(&a)) || !running && !world.under_way.values().any(|a| start(&a)) {
            continue;
        }
        let gone = |(of, process): &&(ContainerId, ProcessId)| !matches!(world.containers.get(of).map(|c| &c.state), Some(ContainerState::Running { init, .. }) if init == process);
        let mut all: Vec<_> = world.order.owes.get(id).into_iter().flatten().filter(gone).cloned().collect();
        for dependency in file_or_record(world, container).iter().filter(|d| d.restart) {
            let same =
                |slot: &crate::model::Slot| slot.project == dependency.project && slot.service == dependency.service;
            let after =
                renewed.iter().filter(|(slot, ..)| same(slot) && !closed(world, &container.spec.slot, dependency));
            all.extend(after.map(|(_, id, process)| (id.clone(), *process)));
        }
        if !all.is_empty() {
            owes.insert(id.clone(), all);
        }
    }
    world.order.owes = owes;
}
