//! When a request is tried again within a pull. The one place for it.
//!
//! Only what may be otherwise a moment later is tried again: a connection that broke, a silence, a server in trouble or
//! one that asks to slow down. Each wait is bounded and shown; beyond the bounds the error stands, and the planner decides.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use super::error::RegistryError;
use crate::image::error::line;
use crate::image::progress::{Progress, PullWait};
use crate::image::settings::Attempts;
use crate::model::{Timestamp, sentence};

/// The first wait; it doubles.
const FIRST: Duration = Duration::from_millis(200);
/// Attempts at one thing, however much it moves: a server that gives a byte for each connection is not waited out.
const ALL: u32 = 500;

/// The attempts at one thing.
pub(super) struct Tries<'a> {
    rule: Attempts,
    progress: &'a Progress,
    fruitless: u32,
    all: u32,
}

impl<'a> Tries<'a> {
    pub(super) fn new(rule: Attempts, progress: &'a Progress) -> Self {
        Self { rule, progress, fruitless: 0, all: 0 }
    }

    /// Something came: attempts count from the beginning.
    pub(super) fn moved(&mut self) {
        self.fruitless = 0;
    }

    /// Waits until the next attempt; or gives the error back, because there is no use in one or there were enough.
    pub(super) async fn again(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.fruitless += 1;
        self.all += 1;
        let asked = error.retry_after().unwrap_or_default();
        if !error.passing()
            || self.fruitless >= self.rule.fruitless
            || self.all >= ALL
            || asked > self.rule.longest_wait
        {
            return Err(error);
        }
        let chance = RandomState::new().build_hasher().finish();
        let wait = asked.max(back_off(self.fruitless, chance).min(self.rule.longest_wait));
        let until = Timestamp(crate::image::now().millis() + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let reason = line(&sentence(&error), 300);
        tracing::debug!(%reason, ?wait, "a request is tried again");
        let shown = PullWait { reason, until, attempt: self.fruitless, of: self.rule.fruitless };
        let _resting = self.progress.wait(shown);
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Doubles with each attempt, up to a minute; between half and all of it, so that many do not come back at once.
fn back_off(attempt: u32, chance: u64) -> Duration {
    let full = FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(8)).min(Duration::from_secs(60));
    full / 2 + full.mul_f64((chance % 1000) as f64 / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_stay_bounded() {
        for attempt in 1..40 {
            let full = Duration::from_millis((200 << (attempt - 1).min(8)).min(60_000));
            for chance in [0, 1, 999, u64::MAX] {
                let wait = back_off(attempt, chance);
                assert!(wait >= full / 2 && wait <= full, "{attempt} {chance}: {wait:?}");
            }
        }
    }

    #[tokio::test]
    async fn long_waits_and_lasting_errors_end_it() {
        let progress = Progress::default();
        let rule = Attempts { fruitless: 3, longest_wait: Duration::from_secs(2) };
        let registry = || "r".to_owned();
        let slow = RegistryError::TooManyRequests {
            registry: registry(),
            said: super::super::Said::default(),
            retry_after: Some(Duration::from_secs(3)),
        };
        assert!(Tries::new(rule, &progress).again(slow).await.is_err());
        let denied = RegistryError::Denied { registry: registry(), status: 403, said: super::super::Said::default() };
        assert!(Tries::new(rule, &progress).again(denied).await.is_err());
        let silent = || RegistryError::Timeout { registry: registry(), waited: Duration::ZERO };
        let mut tries = Tries::new(rule, &progress);
        let mut good = 0;
        while tries.again(silent()).await.is_ok() {
            good += 1;
        }
        assert_eq!(good, 2);
        tries.moved();
        assert!(tries.again(silent()).await.is_ok());
    }
}
