//! How far each service is, where the planner does not say it: whether all containers of the version that is asked for run and are well,
//! or one of them failed before they all were.

use super::{Outcome, ServiceKey};
use crate::model::{ContainerState, FailureAction, Health, Key, ObservedContainer, Service};
use crate::plan::{Rollout, Version};
use crate::reconcile::reconciler::Reconciler;

/// A step that failed so often fails for good.
const ATTEMPTS: u32 = 3;

impl Reconciler {
    pub(super) fn verdict(&self, key: &ServiceKey, service: &Service) -> Option<Rollout> {
        if let Some(said) = self.plan.rollouts.get(key) {
            return Some(said.clone());
        }
        let version = Version { hash: service.hash.clone(), digest: self.made_from(key, service)? };
        let mine: Vec<&ObservedContainer> =
            self.observed.containers.values().filter(|c| made(c, key, &version)).collect();
        let well = mine.iter().filter(|c| c.spec.slot.number <= service.replicas && self.well(c)).count();
        let proven = u32::try_from(well).unwrap_or(u32::MAX);
        if proven >= service.replicas {
            return Some(Rollout::Proven(version));
        }
        let known = self.generations.book(key).and_then(|book| book.of(&version));
        let open = known.is_none_or(|generation| generation.outcome == Outcome::UnderWay);
        let why = mine.iter().find_map(|c| self.failed(c)).filter(|_| open);
        match (why, service.taking.on_failure) {
            (Some(why), Some(then)) if then != FailureAction::Continue => Some(Rollout::Failed { version, why, then }),
            _ => Some(Rollout::UnderWay { version, proven, of: service.replicas }),
        }
    }

    fn well(&self, container: &ObservedContainer) -> bool {
        let health = self.observed.health.get(&container.spec.id);
        matches!(container.state, ContainerState::Running { .. })
            && health.is_none_or(|health| *health == Health::Healthy)
    }

    fn failed(&self, container: &ObservedContainer) -> Option<String> {
        let id = &container.spec.id;
        let name = &container.spec.name;
        let step = self.memory.failures.get(&Key::Container(id.clone())).filter(|failure| failure.attempts >= ATTEMPTS);
        match &container.state {
            ContainerState::StartFailed { error, .. } => Some(format!("{name} could not be started: {error}")),
            ContainerState::Exited { status, .. } if !status.success() => Some(format!("{name} ended with {status}")),
            ContainerState::Running { .. } if self.observed.health.get(id) == Some(&Health::Unhealthy) => {
                let said = self.observed.complaints.get(id).cloned().unwrap_or_default();
                Some(format!("{name} is unhealthy: {said}"))
            }
            _ => step.map(|failure| {
                format!("{} of {name} failed {} times: {}", failure.verb, failure.attempts, failure.error)
            }),
        }
    }
}

fn made(container: &ObservedContainer, key: &ServiceKey, version: &Version) -> bool {
    let spec = &container.spec;
    spec.slot.project == key.0
        && spec.slot.service == key.1
        && spec.service.hash == version.hash
        && spec.image_digest == version.digest
}
