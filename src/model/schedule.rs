//! When a service runs that runs at set times only, and one run of it.

use std::fmt;

use jiff::tz::TimeZone;

use super::{Cron, ExitStatus, Task, Timestamp};

/// `x-longshore: schedule`. It reads no clock: the time is given to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// When.
    pub times: Times,
    /// By whose clocks.
    pub zone: Zone,
    /// What is done when it is time and the last run goes on.
    pub overlap: Overlap,
    /// What is done about a time that passed while nothing could be started.
    pub missed: Missed,
    /// So many runs are remembered.
    pub history: u32,
    /// A run that takes longer is ended.
    pub timeout_ms: Option<u64>,
}

/// Which times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Times {
    /// Minutes of the calendar.
    Cron(Cron),
    /// Multiples of this since 1970, so that they are the same after each start.
    Every {
        /// The interval.
        ms: u64,
        /// As it was written.
        text: String,
    },
}

/// A time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// As the file names it; none: the host's own.
    pub name: Option<String>,
    /// Its rules.
    pub rules: TimeZone,
}

/// What is done when it is time and the last run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// The time is left out.
    Skip,
    /// It runs once the last one has ended; one waits at most.
    Queue,
    /// The last one is stopped.
    Replace,
}

/// What is done about times that passed: the machine was off, its clock was set, or the service was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// They are left out.
    Skip,
    /// It runs once for all of them, if the last one is not longer ago.
    RunOnce {
        /// How long.
        within_ms: u64,
    },
}

/// Times that have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// The last one.
    pub last: Timestamp,
    /// The one before it, and how many there were up to that.
    pub before: Option<(Timestamp, u32)>,
}

/// A time is kept if the run begins this soon after it: a restart of the daemon does not miss one.
pub const ON_TIME_MS: u64 = 60_000;
/// Counted no further.
const MOST: u32 = 1_000;

impl Schedule {
    /// The first time after an instant.
    #[must_use]
    pub fn after(&self, at: Timestamp) -> Option<Timestamp> {
        match &self.times {
            Times::Every { ms, .. } => Some(Timestamp((at.millis() / ms + 1).saturating_mul(*ms))),
            Times::Cron(cron) => {
                let at = jiff::Timestamp::from_millisecond(i64::try_from(at.millis()).ok()?).ok()?;
                let next = cron.after(&self.zone.rules, at)?;
                u64::try_from(next.as_millisecond()).ok().map(Timestamp)
            }
        }
    }

    /// The times after one instant and not after the other, if there are any; from a thousand on, they are not counted.
    #[must_use]
    pub fn within(&self, after: Timestamp, until: Timestamp) -> Option<Passed> {
        let mut passed = Passed { last: self.after(after).filter(|at| *at <= until)?, before: None };
        let mut times = 0;
        while let Some(next) = self.after(passed.last).filter(|at| *at <= until) {
            times += 1;
            if times == MOST {
                // So many that the last ones are near.
                let last = self.last_near(until).unwrap_or(next);
                let before = self.last_near(Timestamp(last.millis().saturating_sub(1))).unwrap_or(passed.last);
                return Some(Passed { last, before: Some((before, times)) });
            }
            passed = Passed { last: next, before: Some((passed.last, times)) };
        }
        Some(passed)
    }

    fn last_near(&self, until: Timestamp) -> Option<Timestamp> {
        const HOUR: u64 = 3_600_000;
        let spans = [HOUR / 60, HOUR, 24 * HOUR, 31 * 24 * HOUR, 366 * 24 * HOUR];
        spans.into_iter().find_map(|span| {
            let mut last = self.after(Timestamp(until.millis().saturating_sub(span))).filter(|at| *at <= until)?;
            while let Some(next) = self.after(last).filter(|at| *at <= until) {
                last = next;
            }
            Some(last)
        })
    }

    /// What makes its times other ones.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.zone.name {
            Some(zone) => format!("{self} {zone}"),
            None => self.to_string(),
        }
    }

    /// An instant as its clocks show it.
    #[must_use]
    pub fn told(&self, at: Timestamp) -> String {
        let format = if at.millis().is_multiple_of(60_000) { "%Y-%m-%d %H:%M %:z" } else { "%Y-%m-%d %H:%M:%S %:z" };
        let instant = i64::try_from(at.millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        instant.map_or_else(
            || at.millis().to_string(),
            |instant| jiff::ZonedDateTime::new(instant, self.zone.rules.clone()).strftime(format).to_string(),
        )
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.times {
            Times::Cron(cron) => cron.fmt(f),
            Times::Every { text, .. } => write!(f, "@every {text}"),
        }
    }
}

/// What a container was made for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Purpose {
    /// To run as long as the file asks for it.
    #[default]
    Service,
    /// One run of a schedule.
    Run(Run),
    /// What somebody asked for once.
    Task(Task),
}

impl Purpose {
    /// The run, if it is one.
    #[must_use]
    pub const fn run(&self) -> Option<&Run> {
        match self {
            Self::Run(run) => Some(run),
            Self::Service | Self::Task(_) => None,
        }
    }

    /// The one-off, if it is one.
    #[must_use]
    pub const fn task(&self) -> Option<&Task> {
        match self {
            Self::Task(task) => Some(task),
            Self::Service | Self::Run(_) => None,
        }
    }
}

/// One run of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The time that it is for; where it was asked for by hand, when that was.
    pub due: Timestamp,
    /// Why it is run.
    pub why: RunWhy,
}

/// Why a schedule is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunWhy {
    /// It was time.
    Scheduled,
    /// It had been time, and nothing could be started then.
    Missed,
    /// It had been time, and the run before went on.
    Queued,
    /// Somebody asked for it.
    ByHand,
}

impl RunWhy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Scheduled, Self::Missed, Self::Queued, Self::ByHand];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Missed => "missed",
            Self::Queued => "queued",
            Self::ByHand => "by hand",
        }
    }

    /// The reason that a word stands for.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.as_str() == word)
    }
}

/// What is remembered of a time that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRun {
    /// The time.
    pub due: Timestamp,
    /// Why it was run.
    pub why: RunWhy,
    /// What became of it.
    pub outcome: RunOutcome,
}

/// What became of a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutcome {
    /// It was run.
    Ended {
        /// When it was started last.
        started: Timestamp,
        /// When it ended.
        at: Timestamp,
        /// How.
        status: ExitStatus,
        /// Why we ended it, where we did.
        stopped: Option<String>,
    },
    /// Nothing was run, and why. Of several times in a row, `due` is the last one.
    Left {
        /// How many.
        times: u32,
        /// Why.
        why: String,
    },
}

impl RunOutcome {
    /// Whether it was run, to a good end.
    #[must_use]
    pub const fn success(&self) -> bool {
        matches!(self, Self::Ended { status, stopped: None, .. } if status.success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(ms: u64) -> Schedule {
        Schedule {
            times: Times::Every { ms, text: "x".to_owned() },
            zone: Zone { name: None, rules: TimeZone::UTC },
            overlap: Overlap::Skip,
            missed: Missed::Skip,
            history: 1,
            timeout_ms: None,
        }
    }

    #[test]
    fn the_last_time_is_found_however_many_there_were() {
        let minute = every(60_000);
        let at = |ms| Timestamp(ms);
        let passed = |last, before: Option<(u64, u32)>| {
            Some(Passed { last: at(last), before: before.map(|(before, times)| (at(before), times)) })
        };
        assert_eq!(minute.within(at(0), at(59_999)), None);
        assert_eq!(minute.within(at(0), at(60_000)), passed(60_000, None));
        assert_eq!(minute.within(at(60_000), at(180_001)), passed(180_000, Some((120_000, 1))));
        let many = passed(60_000 * 100_000, Some((60_000 * 99_999, 1_000)));
        assert_eq!(minute.within(at(0), at(60_000 * 100_000 + 7)), many);
        let cron = Schedule { times: Times::Cron(Cron::parse("0 3 * * *").unwrap()), ..every(1) };
        let year = 365 * 86_400_000;
        let last = 100 * year - 21 * 3_600_000;
        assert_eq!(cron.within(at(0), at(100 * year)), passed(last, Some((last - 86_400_000, 1_000))));
        assert_eq!(cron.told(at(3 * 3_600_000)), "1970-01-01 03:00 +00:00");
    }
}
