//! Hooks that failed: told once each.

use super::reconciler::{Noted, Reconciler};
use crate::model::Timestamp;
use crate::plan::Observed;

impl Reconciler {
    pub(super) fn tell_hooks(&mut self, observed: &Observed, now: Timestamp, noted: &mut Noted) {
        for (id, failure) in &observed.hooks {
            let Some(container) = observed.containers.get(id) else { continue };
            if self.observed.hooks.get(id) == Some(failure) {
                continue;
            }
            let name = container.spec.name.to_string();
            self.note_hook(&container.spec.slot, &name, failure.text.clone(), now);
            noted.events.push(self.event(now, "hook.failed", name, failure.text.clone()));
        }
    }
}
