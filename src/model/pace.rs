//! How restarts are spaced.

/// The pause before a container that ended is started again: `first_ms`, and each time in a row `factor_percent` of the one before, at
/// most `longest_ms`. Who ran for `reset_ms` begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPace {
    /// The first pause.
    pub first_ms: u64,
    /// 200: twice as long each time.
    pub factor_percent: u32,
    /// The longest one.
    pub longest_ms: u64,
    /// A run of this length counts as a good start.
    pub reset_ms: u64,
}

/// Docker's.
impl Default for RestartPace {
    fn default() -> Self {
        Self { first_ms: 100, factor_percent: 200, longest_ms: 60_000, reset_ms: 10_000 }
    }
}

impl RestartPace {
    /// The pause before restart number `streak + 1` in a row.
    #[must_use]
    pub fn delay_ms(&self, streak: u32) -> u64 {
        let longest = self.longest_ms.max(self.first_ms);
        let mut delay = self.first_ms;
        // A delay that stays the same for ever is one; another one grows beyond the longest soon.
        for _ in 0..streak.min(10_000) {
            let next = u128::from(delay) * u128::from(self.factor_percent) / 100;
            let next = u64::try_from(next).unwrap_or(u64::MAX).min(longest);
            if next <= delay {
                break;
            }
            delay = next;
        }
        delay.min(longest)
    }

    /// How many quick ends in a row count, given how long the last run took.
    #[must_use]
    pub const fn streak(&self, before: u32, ran_ms: u64) -> u32 {
        if ran_ms >= self.reset_ms { 0 } else { before }
    }
}

#[cfg(test)]
mod tests {
    use super::RestartPace;

    #[test]
    fn restarts_back_off_as_docker_does_or_as_the_file_says() {
        let delays = |pace: RestartPace| (0..12).map(|streak| pace.delay_ms(streak)).collect::<Vec<_>>();
        let usual = RestartPace::default();
        assert_eq!(delays(usual), [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        assert_eq!(usual.delay_ms(u32::MAX), 60_000);
        let fixed = RestartPace { first_ms: 5_000, factor_percent: 100, longest_ms: 5_000, ..usual };
        assert_eq!(delays(fixed), [5_000; 12]);
        let slow = RestartPace { first_ms: 1_000, factor_percent: 150, longest_ms: 4_000, ..usual };
        assert_eq!(delays(slow)[..6], [1_000, 1_500, 2_250, 3_375, 4_000, 4_000]);
        let none = RestartPace { first_ms: 0, ..usual };
        assert_eq!(delays(none), [0; 12]);
        assert_eq!((usual.streak(3, 9_999), usual.streak(3, 10_000)), (3, 0));
    }
}
