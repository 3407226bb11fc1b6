//! What waits to be told. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

/// So many wait at most for one receiver.
const MOST: usize = 256;

/// What waits for one receiver.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Notice>,
    dropped: u64,
}

/// One event, as it is sent.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) kind: String,
    pub(super) body: Arc<[u8]>,
}

impl Queue {
    /// Puts one at the end; the oldest goes where too many wait.
    pub(super) fn push(&mut self, kind: String, body: Arc<[u8]>) {
        if self.waiting.len() == MOST {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        self.waiting.push_back(Notice { kind, body });
    }

    pub(super) fn pop(&mut self) -> Option<Notice> {
        self.waiting.pop_front()
    }

    /// How many went unsent.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Whether these patterns ask for events of this kind: `container.failed`, `container.*` or `*`.
#[must_use]
pub fn asks_for(patterns: &[String], kind: &str) -> bool {
    let meant = |pattern: &String| match pattern.strip_suffix('*') {
        Some(beginning) => kind.starts_with(beginning),
        None => pattern == kind,
    };
    patterns.iter().any(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_dropped_and_counted() {
        let mut queue = Queue::default();
        for number in 0..MOST + 3 {
            queue.push(number.to_string(), Arc::default());
        }
        assert_eq!((queue.dropped(), queue.pop().map(|n| n.kind)), (3, Some("3".to_owned())));
        assert_eq!(queue.waiting.len(), MOST - 1);
    }

    #[test]
    fn kinds_are_asked_for_by_name_by_their_beginning_or_all() {
        let asks = |pattern: &str, kind: &str| asks_for(&[pattern.to_owned()], kind);
        assert!(asks("container.failed", "container.failed") && !asks("container.failed", "container.failed2"));
        assert!(asks("container.*", "container.exited") && !asks("container.*", "image.failed"));
        assert!(asks("*", "image.failed") && !asks_for(&[], "image.failed"));
    }
}
