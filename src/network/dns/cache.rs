//! Answers of others, for as long as they hold. Pure: it is told the time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::forward::Key;
use super::wire::Answer;

/// The longest that an answer is kept, in seconds.
const LONGEST: u32 = 3600;
/// The most that is kept, in bytes and in answers: twice this, since there are two halves.
const BYTES: usize = 4 << 20;
const ANSWERS: usize = 8192;

/// Two halves: what is used goes to the young one; when that is full, the old one is forgotten and the young one is the old one.
#[derive(Debug, Default)]
pub(super) struct Cache {
    young: Half,
    old: Half,
}

#[derive(Debug, Default)]
struct Half {
    answers: HashMap<Key, Kept>,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Kept {
    answer: Arc<Answer>,
    since: Instant,
    until: Instant,
}

impl Cache {
    /// The answer and its age in seconds.
    pub(super) fn find(&mut self, key: &Key, now: Instant) -> Option<(Arc<Answer>, u32)> {
        let kept = match self.young.answers.get(key) {
            Some(kept) => kept.clone(),
            None => {
                let kept = self.old.answers.remove(key)?;
                if now < kept.until {
                    self.put(key.clone(), kept.clone());
                }
                kept
            }
        };
        let age = u32::try_from(now.saturating_duration_since(kept.since).as_secs()).unwrap_or(u32::MAX);
        (now < kept.until).then_some((kept.answer, age))
    }
    /// Keeps an answer for as long as it says.
    pub(super) fn keep(&mut self, key: Key, answer: Arc<Answer>, now: Instant) {
        if let Some(ttl) = answer.ttl().filter(|ttl| *ttl > 0) {
            let until = now + Duration::from_secs(u64::from(ttl.min(LONGEST)));
            self.put(key, Kept { answer, since: now, until });
        }
    }
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
    fn put(&mut self, key: Key, kept: Kept) {
        self.young.bytes += kept.answer.len();
        if let Some(before) = self.young.answers.insert(key, kept) {
            self.young.bytes -= before.answer.len();
        }
        if self.young.bytes > BYTES || self.young.answers.len() > ANSWERS {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests;
