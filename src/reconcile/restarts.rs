//! Restarts that are numbered: `on-failure` with a limit keeps its count on disk before each, so that no end of the daemon gives one more.

use super::host::Change;
use super::reconciler::{Reconciler, UnderWay};
use crate::model::{Action, ContainerSpec, ContainerState, Key, RestartPolicy};

impl Reconciler {
    /// What must be on disk before an action that was just put under way is begun: the restart as if it had been done.
    #[must_use]
    pub fn before(&self, key: &Key) -> Option<Change> {
        let under = self.under_way.get(key)?;
        let spec = numbered(under)?;
        // One that is started anew for a reason of ours is not counted.
        if !matches!(under.before(), Some(ContainerState::Exited { .. })) || self.memory.moving.contains_key(&spec.id) {
            return None;
        }
        let mut restarts = self.memory.restarts.get(&spec.id).copied().unwrap_or_default();
        restarts.total = restarts.total.saturating_add(1);
        Some(Change::History { id: spec.id.clone(), restarts, reason: under.reason.clone() })
    }

    /// A restart that failed did not happen.
    pub(super) fn taken_back(&self, under: &UnderWay) -> Option<Change> {
        let spec = numbered(under)?;
        let restarts = self.memory.restarts.get(&spec.id).copied().unwrap_or_default();
        Some(Change::History { id: spec.id.clone(), restarts, reason: under.reason.clone() })
    }
}

fn numbered(under: &UnderWay) -> Option<&ContainerSpec> {
    match &under.action {
        Action::Start { spec, .. } if matches!(spec.service.restart, RestartPolicy::OnFailure { max: Some(_) }) => {
            Some(spec)
        }
        _ => None,
    }
}
