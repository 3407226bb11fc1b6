//! When a check is due, and what its result means. Pure: it is told the time and does nothing itself.
//!
//! ```text
//!             ┌───────────── a failure, while the start period lasts: nothing
//! Starting ───┤ passed ─────▶ Healthy ◀── passed ──┐
//!             └ `retries` failures in a row ─▶ Unhealthy
//! ```
//! As Docker does: the first check comes one pause after the start, each further one a pause after the end of the one before. The pause
//! is `start_interval` while the container starts and its start period lasts, else `interval`.

use crate::model::{CheckTimes, Health, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Monitor {
    times: CheckTimes,
    started: Timestamp,
    health: Health,
    streak: u32,
    due: Timestamp,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing before this.
    Wait(Timestamp),
    /// A check.
    Check,
}

impl Monitor {
    /// Of a container that was started then, and of which this is known. `spread_ms`: where the first check is due already, so many
    /// are when a daemon starts, and this one begins so much later.
    pub(super) fn new(
        times: CheckTimes,
        started: Timestamp,
        (health, streak): (Health, u32),
        spread_ms: u64,
        now: Timestamp,
    ) -> Self {
        let mut monitor = Self { times, started, health, streak, due: started };
        let first = started.plus_ms(monitor.pause(started));
        monitor.due = if first > now { first } else { now.plus_ms(spread_ms.min(monitor.pause(now))) };
        monitor
    }

    pub(super) fn next(&self, now: Timestamp) -> Next {
        if now < self.due { Next::Wait(self.due) } else { Next::Check }
    }

    pub(super) const fn health(&self) -> Health {
        self.health
    }

    /// Failures in a row that count.
    pub(super) const fn streak(&self) -> u32 {
        self.streak
    }

    /// A check that began then ended.
    pub(super) fn ended(&mut self, passed: bool, begun: Timestamp, now: Timestamp) {
        let forgiven = self.health == Health::Starting && self.starts(begun);
        if passed {
            (self.health, self.streak) = (Health::Healthy, 0);
        } else if !forgiven {
            self.streak = self.streak.saturating_add(1);
            if self.streak >= self.times.retries {
                self.health = Health::Unhealthy;
            }
        }
        self.due = now.plus_ms(self.pause(now));
    }

    /// Nothing came of a check: it was not made, or says nothing of the container.
    pub(super) fn nothing(&mut self, now: Timestamp) {
        self.due = now.plus_ms(self.pause(now));
    }

    fn starts(&self, at: Timestamp) -> bool {
        at.since(self.started) < self.times.start_period_ms
    }

    fn pause(&self, now: Timestamp) -> u64 {
        let CheckTimes { interval_ms, start_interval_ms, .. } = self.times;
        if self.health == Health::Starting && self.starts(now) { start_interval_ms } else { interval_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: Timestamp = Timestamp(1_000_000);

    fn at(seconds: u64) -> Timestamp {
        STARTED.plus_ms(seconds * 1_000)
    }

    fn monitor(start_period_ms: u64) -> Monitor {
        let times = CheckTimes { start_period_ms, ..CheckTimes::default() };
        Monitor::new(times, STARTED, (Health::Starting, 0), 700, STARTED)
    }

    /// Makes the check that is due; when it was, in seconds since the start.
    fn check(monitor: &mut Monitor, passed: bool) -> u64 {
        let Next::Wait(due) = monitor.next(STARTED) else { panic!("it is due at once") };
        assert_eq!(monitor.next(due), Next::Check);
        // Each check takes a second.
        monitor.ended(passed, due, due.plus_ms(1_000));
        due.since(STARTED) / 1_000
    }

    #[test]
    fn so_many_failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let mut monitor = monitor(0);
        let steps: Vec<_> = [false, false, true, false, false, false, false, true]
            .map(|passed| (check(&mut monitor, passed), monitor.health(), monitor.streak()))
            .into();
        use Health::{Healthy, Starting, Unhealthy};
        assert_eq!(
            steps,
            [
                (30, Starting, 1),
                (61, Starting, 2),
                (92, Healthy, 0),
                (123, Healthy, 1),
                (154, Healthy, 2),
                (185, Unhealthy, 3),
                (216, Unhealthy, 4),
                (247, Healthy, 0),
            ]
        );
    }

    #[test]
    fn while_it_starts_failures_do_not_count_and_checks_come_quickly() {
        let mut failing = monitor(12_000);
        let due: Vec<_> = (0..4).map(|_| (check(&mut failing, false), failing.streak())).collect();
        // The second one begins within the period and ends within it; the third begins after it.
        assert_eq!(due, [(5, 0), (11, 0), (42, 1), (73, 2)]);
        // Who was healthy once has started: what fails then counts, and the pause is the usual one.
        let mut quick = monitor(3_600_000);
        assert_eq!((check(&mut quick, true), quick.health()), (5, Health::Healthy));
        assert_eq!((check(&mut quick, false), quick.streak()), (36, 1));
        assert_eq!((check(&mut quick, false), check(&mut quick, false)), (67, 98));
        assert_eq!(quick.health(), Health::Unhealthy);
    }

    #[test]
    fn who_runs_already_is_checked_soon_and_not_all_at_once() {
        let times = CheckTimes::default();
        let adopted = Monitor::new(times, STARTED, (Health::Starting, 0), 700, at(3_600));
        assert_eq!(adopted.next(at(3_600)), Next::Wait(at(3_600).plus_ms(700)));
        let young = Monitor::new(times, STARTED, (Health::Starting, 0), 700, at(10));
        assert_eq!(young.next(at(10)), Next::Wait(at(30)));
        let often = CheckTimes { interval_ms: 100, ..times };
        let often = Monitor::new(often, STARTED, (Health::Healthy, 0), 700, at(10));
        assert_eq!(often.next(at(10)), Next::Wait(at(10).plus_ms(100)));
    }

    #[test]
    fn what_says_nothing_changes_nothing_and_comes_again() {
        let mut monitor = monitor(0);
        check(&mut monitor, false);
        let before = (monitor.health(), monitor.streak());
        monitor.nothing(at(100));
        assert_eq!(
            (monitor.health(), monitor.streak(), monitor.next(at(100))),
            (before.0, before.1, Next::Wait(at(130)))
        );
    }
}
