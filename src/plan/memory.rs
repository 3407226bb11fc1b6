//! What the planner has to know of the past: failed attempts, restarts, when an image was asked for.
//!
//! The reconciler keeps it; losing it costs waiting time and counters, never a container.

use std::collections::BTreeMap;

use super::backoff::{RESTART_RESET_MS, failure_delay_ms};
use crate::model::{Action, ContainerId, ContainerState, ImageReference, Key, ObservedContainer, Timestamp};

/// The last failure of an action on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What failed.
    pub verb: &'static str,
    /// Why.
    pub error: String,
    /// How often in a row.
    pub attempts: u32,
    /// When it failed last.
    pub at: Timestamp,
    /// When it may be tried again.
    pub retry_at: Timestamp,
}

/// How often a container was started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restarts {
    /// Since it was made.
    pub total: u32,
    /// In a row, with no long run between.
    pub streak: u32,
}

/// What happened before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// Failed attempts by key.
    pub failures: BTreeMap<Key, Failure>,
    /// Restarts by container.
    pub restarts: BTreeMap<ContainerId, Restarts>,
    /// When the end of a container was noticed, on the planner's own clock.
    pub ends: BTreeMap<ContainerId, Timestamp>,
    /// When the registry was last asked about an image.
    pub asked: BTreeMap<ImageReference, Timestamp>,
}

impl Memory {
    /// Notes an end that was just seen, or seen at start, and forgets those that are over.
    pub fn notice_ends<'a>(&mut self, containers: impl Iterator<Item = &'a ObservedContainer>, now: Timestamp) {
        let mut ends = BTreeMap::new();
        for container in containers {
            if let ContainerState::Exited { .. } = container.state {
                let id = &container.spec.id;
                ends.insert(id.clone(), self.ends.get(id).copied().unwrap_or(now));
            }
        }
        self.ends = ends;
    }

    /// An action succeeded. `before` is the container as it was seen before a start.
    pub fn succeeded(&mut self, action: &Action, before: Option<&ContainerState>, now: Timestamp) {
        self.failures.remove(&action.key());
        match action {
            Action::Pull { image, .. } => {
                self.asked.insert(image.clone(), now);
            }
            Action::Start { spec } => {
                if let Some(ContainerState::Exited { started, at, .. }) = before {
                    let restarts = self.restarts.entry(spec.id.clone()).or_default();
                    restarts.streak = streak(*restarts, at.since(*started)).saturating_add(1);
                    restarts.total = restarts.total.saturating_add(1);
                }
                self.ends.remove(&spec.id);
            }
            Action::Remove { id } => {
                self.restarts.remove(id);
                self.ends.remove(id);
            }
            Action::Create { .. } | Action::Stop { .. } => {}
        }
    }

    /// An action failed; it may be tried again after the back-off, or after `at_least_ms` where that is longer.
    pub fn failed(&mut self, action: &Action, error: String, at_least_ms: Option<u64>, now: Timestamp) {
        let key = action.key();
        let same = self.failures.get(&key).filter(|f| f.verb == action.verb());
        let attempts = same.map_or(0, |f| f.attempts).saturating_add(1);
        let delay = failure_delay_ms(&key, attempts, now).max(at_least_ms.unwrap_or(0));
        let failure = Failure { verb: action.verb(), error, attempts, at: now, retry_at: now.plus_ms(delay) };
        self.failures.insert(key, failure);
    }

    /// The owner did something: what failed may be tried at once.
    pub fn retry_now(&mut self) {
        self.failures.clear();
    }
}

/// How many quick ends in a row there were, given how long the last run took.
pub(super) fn streak(restarts: Restarts, ran_ms: u64) -> u32 {
    if ran_ms >= RESTART_RESET_MS { 0 } else { restarts.streak }
}
