//! How long to wait after a failed action. Pure: jitter comes from the key, not from chance.

use crate::model::{Key, Timestamp};

/// Between attempts of a failing action: 1 s, doubled each time, at most five minutes, spread by up to a fifth.
const FAILURE_FIRST_MS: u64 = 1_000;
const FAILURE_LONGEST_MS: u64 = 300_000;

/// The pause after the `attempts`-th failure in a row. Two keys that fail at the same moment do not retry at the same moment.
#[must_use]
pub fn failure_delay_ms(key: &Key, attempts: u32, at: Timestamp) -> u64 {
    let base = doubled(FAILURE_FIRST_MS, attempts.saturating_sub(1), FAILURE_LONGEST_MS);
    base + spread(key, attempts, at) % (base / 5 + 1)
}

fn doubled(first: u64, times: u32, longest: u64) -> u64 {
    let factor = 1_u64.checked_shl(times).filter(|_| times < 32).unwrap_or(u64::MAX);
    first.saturating_mul(factor).min(longest)
}

/// FNV-1a over the key's text, the attempt and the moment: spread enough, and the same for the same facts.
fn spread(key: &Key, attempts: u32, at: Timestamp) -> u64 {
    let text = format!("{key:?}/{attempts}/{}", at.millis());
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ImageReference;

    #[test]
    fn failures_back_off_with_a_bounded_spread() {
        let key = Key::Image(ImageReference::parse("a").unwrap());
        for attempts in 1..40 {
            let base = doubled(FAILURE_FIRST_MS, attempts - 1, FAILURE_LONGEST_MS);
            let delay = failure_delay_ms(&key, attempts, Timestamp(7));
            assert!(delay >= base && delay <= base + base / 5, "{attempts}: {delay} for {base}");
        }
        let other = Key::Image(ImageReference::parse("b").unwrap());
        assert_ne!(failure_delay_ms(&key, 5, Timestamp(7)), failure_delay_ms(&other, 5, Timestamp(7)));
    }
}
