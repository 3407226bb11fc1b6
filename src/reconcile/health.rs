//! What is told of health: events when it changes, and the words of the status.

use super::reconciler::{Noted, Reconciler};
use crate::model::{ContainerId, Health, Timestamp};
use crate::plan::{Observed, Unwell};

impl Reconciler {
    /// Told when it changes. That a container starts is told by its start.
    pub(super) fn tell_health(&mut self, observed: &Observed, now: Timestamp, noted: &mut Noted) {
        for (id, health) in &observed.health {
            let before = self.observed.health.get(id);
            let Some(container) = observed.containers.get(id).filter(|_| before != Some(health)) else { continue };
            let name = container.spec.name.to_string();
            let event = match health {
                Health::Starting => continue,
                Health::Healthy => {
                    self.chronicle.healthy(&container.spec.slot, &name, now);
                    self.event(now, "container.healthy", name, "its health check went well".to_owned())
                }
                Health::Unhealthy => {
                    let said = observed.complaints.get(id).cloned().unwrap_or_default();
                    self.chronicle.unhealthy(&container.spec.slot, &name, &said, now);
                    self.event(now, "container.unhealthy", name, said)
                }
            };
            noted.events.push(event);
        }
    }

    /// How often a container was started again, by its policy or because it was unhealthy.
    pub(super) fn restarts_of(&self, id: &ContainerId) -> u32 {
        let by_policy = self.memory.restarts.get(id).map_or(0, |restarts| restarts.total);
        by_policy.saturating_add(self.memory.cures.get(id).map_or(0, |cures| cures.total))
    }
}

/// In words.
pub(super) fn unwell(said: &str, then: Unwell) -> String {
    match then {
        Unwell::Restarts { so_far } => {
            format!("unhealthy: {said}; restarted again after a pause ({so_far} restarts for it so far)")
        }
        Unwell::Stopped => format!("stopped because it was unhealthy: {said}; it stays so (on_unhealthy: stop)"),
        Unwell::RunsOn => format!("unhealthy: {said}; it runs on (`x-longshore: on_unhealthy` could say otherwise)"),
    }
}
