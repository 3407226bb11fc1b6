//! What is remembered of a service that runs at set times, and what may be decided about it.

use super::{Memory, Observed};
use crate::model::{ContainerState, PastRun, ProjectName, Run, RunOutcome, RunWhy, Service, ServiceName, Timestamp};

/// A service that runs at set times.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Job {
    /// Its schedule, in words; another one begins anew.
    pub schedule: String,
    /// Times up to this one are decided, on the wall clock.
    pub decided: Timestamp,
    /// The run that is to be, or goes on.
    pub run: Option<JobRun>,
    /// The time that is run when that one has ended.
    pub queued: Option<Timestamp>,
    /// What became of the last times, the newest last.
    pub history: Vec<PastRun>,
}

/// A run that is to be, or goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRun {
    /// Which.
    pub of: Run,
    /// Whether its container was started.
    pub begun: bool,
    /// Why it is being ended.
    pub stopped: Option<String>,
}

/// Something that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobStep {
    /// Of which project.
    pub project: ProjectName,
    /// Of which service.
    pub service: ServiceName,
    /// What.
    pub verdict: Verdict,
}

/// What may be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The schedule is new, or another one.
    Begin {
        /// It, in words.
        schedule: String,
        /// Times count from then on.
        from: Timestamp,
    },
    /// The clock was far ahead when the last time was decided: times count from now on.
    Rewound,
    /// There is a run that is not remembered.
    Adopt(Run),
    /// The run's container was started.
    Begun,
    /// It is run.
    Run(Run),
    /// It is run once the present run has ended.
    Queue(Timestamp),
    /// The present run is ended, and why.
    Stop(String),
    /// Times are left out, and why.
    Leave {
        /// The last one.
        due: Timestamp,
        /// How many.
        times: u32,
        /// Why.
        why: String,
    },
    /// The present run is over.
    End(RunOutcome),
}

/// Kept of a service whose file says nothing about it any more.
const KEPT: u32 = 10;

impl Job {
    fn take(&mut self, verdict: Verdict, wall: Timestamp) {
        match verdict {
            Verdict::Begin { schedule, from } => {
                (self.schedule, self.decided, self.queued) = (schedule, from, None);
            }
            Verdict::Rewound => (self.decided, self.queued) = (wall, None),
            Verdict::Adopt(run) => {
                if let Some(lost) = self.run.take() {
                    let why = "what became of it was not written down".to_owned();
                    self.over(lost.of.due, lost.of.why, RunOutcome::Left { times: 1, why });
                }
                self.decided_up_to(&run);
                self.run = Some(JobRun { of: run, begun: true, stopped: None });
            }
            Verdict::Begun => {
                if let Some(run) = &mut self.run {
                    run.begun = true;
                }
            }
            Verdict::Run(run) => {
                if run.why == RunWhy::Queued {
                    self.queued = None;
                }
                self.decided_up_to(&run);
                self.run = Some(JobRun { of: run, begun: false, stopped: None });
            }
            Verdict::Queue(due) => (self.decided, self.queued) = (due, Some(due)),
            Verdict::Stop(why) => {
                if let Some(run) = &mut self.run {
                    run.stopped = Some(why);
                }
            }
            Verdict::Leave { due, times, why } => {
                self.decided = self.decided.max(due);
                self.queued = self.queued.filter(|queued| *queued != due);
                self.over(due, RunWhy::Scheduled, RunOutcome::Left { times, why });
            }
            Verdict::End(outcome) => {
                if let Some(run) = self.run.take() {
                    self.over(run.of.due, run.of.why, outcome);
                }
            }
        }
    }

    fn decided_up_to(&mut self, run: &Run) {
        if run.why != RunWhy::ByHand {
            self.decided = self.decided.max(run.due);
        }
    }

    fn over(&mut self, due: Timestamp, why: RunWhy, mut outcome: RunOutcome) {
        // The same again and again is said once.
        if let (
            Some(PastRun { outcome: RunOutcome::Left { times: before, why: same }, .. }),
            RunOutcome::Left { times, why },
        ) = (self.history.last(), &mut outcome)
            && same == why
        {
            *times = times.saturating_add(*before);
            self.history.pop();
        }
        self.history.push(PastRun { due, why, outcome });
    }
}

impl Memory {
    /// Remembers what was decided. `service`: what its file says.
    pub fn judge(&mut self, step: JobStep, service: Option<&Service>, wall: Timestamp) {
        let job = self.jobs.entry((step.project, step.service)).or_default();
        job.take(step.verdict, wall);
        let kept = service.and_then(|service| service.schedule.as_ref()).map_or(KEPT, |schedule| schedule.history);
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        job.history.drain(..job.history.len().saturating_sub(kept));
    }

    /// Since when runs go on: as their records say, where they were begun before they were seen.
    pub fn notice_runs(&mut self, observed: &Observed, now: Timestamp) {
        let before = std::mem::take(&mut self.runs_since);
        for (id, container) in &observed.containers {
            if let (ContainerState::Running { since, .. }, Some(_)) = (&container.state, container.spec.purpose.run()) {
                let begun = Timestamp(now.millis().saturating_sub(observed.wall.since(*since)));
                self.runs_since.insert(id.clone(), before.get(id).copied().unwrap_or(begun));
            }
        }
    }
}
