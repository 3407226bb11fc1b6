//! What happened, for everyone who listens: a ring of the last events for those who come late, and a bounded queue for each
//! who is here. Nobody who listens can make the publisher wait.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use crate::model::Timestamp;
use crate::reconcile::view::Event;

/// How many events are kept, and how far a listener may fall behind.
const KEPT: usize = 1000;

/// The feed of events. A clone is the same feed.
#[derive(Debug, Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    // Publishing and subscribing happen under the ring's lock, so that no event falls between replay and feed.
    ring: Mutex<VecDeque<Arc<Event>>>,
    live: broadcast::Sender<Arc<Event>>,
}

/// From where a listener wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Only what comes.
    Nothing,
    /// All that is kept.
    All,
    /// What came after this number.
    After(u64),
    /// What came at this time or later.
    Since(Timestamp),
}

/// What a new listener gets.
#[derive(Debug)]
pub(super) struct Subscription {
    /// What already happened, oldest first.
    pub(super) past: VecDeque<Arc<Event>>,
    /// How many events that were asked for are not kept any more.
    pub(super) lost: u64,
    /// What comes.
    pub(super) live: broadcast::Receiver<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Events {
    /// A feed in which nothing happened yet.
    #[must_use]
    pub fn new() -> Self {
        let (live, _) = broadcast::channel(KEPT);
        Self { shared: Arc::new(Shared { ring: Mutex::new(VecDeque::new()), live }) }
    }

    /// Tells everyone. Never waits.
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        let mut ring = self.ring();
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(event.clone());
        // An error only means that nobody listens.
        let _ = self.shared.live.send(event);
    }

    pub(super) fn subscribe(&self, replay: Replay) -> Subscription {
        let ring = self.ring();
        let live = self.shared.live.subscribe();
        let wanted = |e: &Event| match replay {
            Replay::Nothing => false,
            Replay::All => true,
            Replay::After(sequence) => e.sequence > sequence,
            Replay::Since(time) => e.at >= time,
        };
        let lost = match (replay, ring.front()) {
            (Replay::After(sequence), Some(first)) => first.sequence.saturating_sub(sequence.saturating_add(1)),
            (Replay::After(_) | Replay::Nothing | Replay::All | Replay::Since(_), _) => 0,
        };
        Subscription { past: ring.iter().filter(|e| wanted(e)).cloned().collect(), lost, live }
    }

    fn ring(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        // A push or a pop cannot leave the ring half changed, so a poisoned lock is as good as a sound one.
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: u64) -> Event {
        let at = Timestamp(sequence * 1000);
        Event { sequence, at, kind: "container.started", what: "web".into(), message: "up".into(), location: None }
    }

    #[test]
    fn a_late_listener_gets_what_is_kept_and_learns_what_is_not() {
        let events = Events::new();
        (1..=1500).for_each(|n| events.publish(event(n)));
        let first = |s: &Subscription| s.past.front().map(|e| e.sequence);
        let all = events.subscribe(Replay::All);
        assert_eq!((all.past.len(), first(&all), all.lost), (1000, Some(501), 0));
        let after = events.subscribe(Replay::After(100));
        assert_eq!((first(&after), after.lost), (Some(501), 400));
        let near = events.subscribe(Replay::After(1498));
        assert_eq!((first(&near), near.past.len(), near.lost), (Some(1499), 2, 0));
        let since = events.subscribe(Replay::Since(Timestamp(1_499_500)));
        assert_eq!(first(&since), Some(1500));
        assert!(events.subscribe(Replay::Nothing).past.is_empty());
    }
}
