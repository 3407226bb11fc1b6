//! Health checks: whoever runs and has one is checked, by a task of its own, for as long as it runs.
//!
//! ```text
//! containers change ─▶ keeper: one task for each that runs and has a check
//! its task   monitor (pure): due? ─▶ turn ─▶ run: exec, or `longshore runtime probe` ─▶ monitor ─▶ board ─▶ containers changed
//! ```
//! What was seen is kept in memory alone. A daemon that starts anew knows nothing, so everything is `starting` again, and is checked
//! soon; nothing is done to a container for it. What follows from being unhealthy is not decided here.

pub mod link;
mod monitor;
mod run;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Containers, Inner, Known, now};
use crate::model::{Check, ContainerId, ContainerState, Health, ObservedContainer, ProcessId, Timestamp};
use monitor::{Monitor, Next};
use run::Outcome;

/// Checks at the same time, in all containers together. Each ends at its timeout, so nobody waits for ever.
const TURNS: usize = 32;
static ROOM: Semaphore = Semaphore::const_new(TURNS);
/// Of those that are due when the daemon starts, all are begun within this time.
const SPREAD_MS: u64 = 2_000;
/// So many runs are remembered, as in Docker.
const KEPT: usize = 5;

/// What is known of a container's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSeen {
    /// How it is.
    pub health: Health,
    /// Failures in a row.
    pub failing: u32,
    /// The last checks, the oldest first.
    pub runs: VecDeque<CheckRun>,
}

/// One check that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRun {
    /// When it began.
    pub begun: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// 0: it went well; -1: it took too long.
    pub code: i32,
    /// The beginning of what it said.
    pub output: String,
}

/// All containers at one moment.
#[derive(Debug, Default)]
pub struct Look {
    /// As they are.
    pub containers: BTreeMap<ContainerId, ObservedContainer>,
    /// Of those that run and have a health check.
    pub health: BTreeMap<ContainerId, Health>,
    /// Of those that are unhealthy, in one line.
    pub complaints: BTreeMap<ContainerId, String>,
}

/// What was seen of one run of a container.
#[derive(Debug)]
pub(super) struct Board {
    init: ProcessId,
    seen: HealthSeen,
}

/// Who is checked by a task.
struct Kept {
    init: ProcessId,
    check: Check,
    task: JoinHandle<()>,
}

impl Drop for Kept {
    /// A check that is being made ends with it: who asked for the command is gone.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Known {
    /// The run that is checked, and how.
    fn checked(&self) -> Option<(ProcessId, Timestamp, Check)> {
        let ContainerState::Running { init, since, .. } = self.observed.state else { return None };
        let check = self.observed.spec.service.health.check.over(&self.image_health)?;
        Some((init, since, check))
    }

    /// What is known of the run that is checked; before its first check, that it starts.
    fn health(&self) -> Option<HealthSeen> {
        let (init, _, _) = self.checked()?;
        let seen = self.board.as_ref().filter(|board| board.init == init).map(|board| board.seen.clone());
        Some(seen.unwrap_or(HealthSeen { health: Health::Starting, failing: 0, runs: VecDeque::new() }))
    }
}

impl Containers {
    /// All containers, how those are that run and have a health check, and what the last check of those that are unhealthy said: of
    /// one and the same moment, so that who runs and is not among the second has no check.
    #[must_use]
    pub fn look(&self) -> Look {
        let known = self.known();
        let mut look = Look::default();
        for (id, known) in known.iter() {
            look.containers.insert(id.clone(), known.observed.clone());
            let Some(seen) = known.health() else { continue };
            if seen.health == Health::Unhealthy {
                look.complaints.insert(id.clone(), seen.runs.back().map(CheckRun::words).unwrap_or_default());
            }
            look.health.insert(id.clone(), seen.health);
        }
        look
    }

    /// What is known of the health of a container that runs and has a check.
    #[must_use]
    pub fn health_of(&self, id: &ContainerId) -> Option<HealthSeen> {
        self.known().get(id).and_then(Known::health)
    }

    /// Has everybody checked who is to be, from now on, for as long as there are containers.
    pub(super) fn keep_health(&self) {
        let (inner, mut changed) = (Arc::downgrade(&self.0), self.0.changed.subscribe());
        tokio::spawn(async move {
            let mut kept = BTreeMap::new();
            loop {
                let Some(held) = inner.upgrade() else { return };
                Self(held).tend(&mut kept, &inner);
                if changed.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// One task for each that runs with a check: the right run, and the check that is in force.
    fn tend(&self, kept: &mut BTreeMap<ContainerId, Kept>, inner: &Weak<Inner>) {
        let mut known = self.known();
        kept.retain(|id, _| known.get(id).is_some_and(|known| known.checked().is_some()));
        for (id, known) in known.iter_mut() {
            let Some((init, since, check)) = known.checked() else {
                known.board = None;
                continue;
            };
            let before = kept.get(id).filter(|kept| kept.init == init);
            if before.is_some_and(|kept| kept.check == check) {
                continue;
            }
            // Another test says nothing of what the one before had found; other times do not change that.
            if before.is_none_or(|kept| kept.check.test != check.test) {
                known.board = None;
            }
            let seen = known.health().map_or((Health::Starting, 0), |seen| (seen.health, seen.failing));
            let clock = Clock::start();
            let monitor = Monitor::new(check.times, since, seen, spread(id), clock.now());
            let one = One { inner: inner.clone(), id: id.clone(), init, check: check.clone(), monitor, clock };
            kept.insert(id.clone(), Kept { init, check, task: tokio::spawn(one.go()) });
        }
    }

    /// Takes in what a check found. Whoever decides is told only where that changes something.
    fn found(&self, id: &ContainerId, init: ProcessId, monitor: &Monitor, run: CheckRun) {
        let mut known = self.known();
        let Some(known_one) = known.get_mut(id) else { return };
        // It may have been started again meanwhile.
        let Some(mut seen) = known_one.health().filter(|_| known_one.checked().is_some_and(|(now, ..)| now == init))
        else {
            return;
        };
        let changed = seen.health != monitor.health();
        (seen.health, seen.failing) = (monitor.health(), monitor.streak());
        if seen.runs.len() == KEPT {
            seen.runs.pop_front();
        }
        seen.runs.push_back(run);
        known_one.board = Some(Board { init, seen });
        drop(known);
        if changed {
            self.notify();
        }
    }
}

impl CheckRun {
    /// What it said, in one line; how it ended where it said nothing.
    #[must_use]
    pub fn words(&self) -> String {
        let line = self.output.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        let line: String = line.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if line.is_empty() { format!("its check ended with exit code {}", self.code) } else { line }
    }
}

/// One container that is checked.
struct One {
    inner: Weak<Inner>,
    id: ContainerId,
    init: ProcessId,
    check: Check,
    monitor: Monitor,
    clock: Clock,
}

impl One {
    async fn go(mut self) {
        loop {
            if let Next::Wait(until) = self.monitor.next(self.clock.now()) {
                tokio::time::sleep_until(self.clock.instant(until)).await;
                continue;
            }
            // It is never closed.
            let Ok(_turn) = ROOM.acquire().await else { return };
            let Some(all) = self.inner.upgrade().map(Containers) else { return };
            let (begun, at) = (self.clock.now(), now());
            let outcome = run::run(&all, &self.id, self.init, &self.check).await;
            let ended = self.clock.now();
            match outcome {
                Some(Outcome { code, output }) => {
                    self.monitor.ended(code == 0, begun, ended);
                    let run = CheckRun { begun: at, ended: at.plus_ms(ended.since(begun)), code, output };
                    all.found(&self.id, self.init, &self.monitor, run);
                }
                None => self.monitor.nothing(ended),
            }
        }
    }
}

/// The same for the same container, so that those that are due together are not begun together.
fn spread(id: &ContainerId) -> u64 {
    u64::from_str_radix(&id.as_str()[..12], 16).unwrap_or(0) % SPREAD_MS
}

/// Wall time at the start, carried on by the monotonic clock.
struct Clock {
    begun: Instant,
    at: Timestamp,
}

impl Clock {
    fn start() -> Self {
        Self { begun: Instant::now(), at: now() }
    }
    fn now(&self) -> Timestamp {
        self.at.plus_ms(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(0))
    }
    fn instant(&self, at: Timestamp) -> Instant {
        self.begun + Duration::from_millis(at.since(self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_told_in_one_line() {
        let run = |code, output: &str| {
            CheckRun { begun: Timestamp(0), ended: Timestamp(0), code, output: output.into() }.words()
        };
        assert_eq!(run(1, "\n  refused \x1b[1m\nmore"), "refused  [1m");
        assert_eq!(run(3, " \n"), "its check ended with exit code 3");
        assert_eq!(run(1, &"x".repeat(5_000)).len(), 200);
    }
}
