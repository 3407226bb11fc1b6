//! Services that run at set times.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;
use crate::model::RunOutcome;
use crate::reconcile::view::{JobRunView, JobView};

/// A service that runs at set times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// Its project.
    pub project: String,
    /// Its name.
    pub service: String,
    /// Its times.
    pub schedule: String,
    /// Whose clocks; null: the host's.
    pub timezone: Option<String>,
    /// Why nothing of it is run, whatever the time: it is stopped or paused.
    pub idle: Option<String>,
    /// The next time; null where there is none.
    pub next: Option<Time>,
    /// The same, as its clocks show it.
    pub next_local: Option<String>,
    /// A time that waits for the end of the present run.
    pub queued: Option<Time>,
    /// The present run; null while none goes on.
    pub run: Option<JobRun>,
    /// What became of the last times, the newest last.
    pub history: Vec<JobRun>,
}

/// One time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobRun {
    /// Which.
    pub due: Time,
    /// The same, as its clocks show it.
    pub due_local: String,
    /// Why it was run: `scheduled`, `missed`, `queued` or `by hand`.
    pub why: String,
    /// `running`, `succeeded`, `failed`, or `left` where nothing was run.
    pub outcome: String,
    /// When it was started.
    pub started: Option<Time>,
    /// When it ended.
    pub ended: Option<Time>,
    /// Its exit code, as a shell would show it.
    pub exit_code: Option<u8>,
    /// How it ended, or why nothing was run.
    pub reason: Option<String>,
    /// How many times in a row were left out.
    pub times: u32,
}

impl From<&JobView> for Job {
    fn from(view: &JobView) -> Self {
        Self {
            project: view.project.to_string(),
            service: view.service.to_string(),
            schedule: view.schedule.clone(),
            timezone: view.timezone.clone(),
            idle: view.idle.map(ToOwned::to_owned),
            next: view.next.map(Time::from),
            next_local: view.next_told.clone(),
            queued: view.queued.map(Time::from),
            run: view.run.as_ref().map(JobRun::from),
            history: view.history.iter().map(JobRun::from).collect(),
        }
    }
}

impl From<&JobRunView> for JobRun {
    fn from(view: &JobRunView) -> Self {
        let run = Self {
            due: view.due.into(),
            due_local: view.told.clone(),
            why: view.why.as_str().to_owned(),
            outcome: "running".to_owned(),
            started: None,
            ended: None,
            exit_code: None,
            reason: None,
            times: 1,
        };
        match &view.outcome {
            None => run,
            Some(RunOutcome::Left { times, why }) => {
                Self { outcome: "left".to_owned(), times: *times, reason: Some(why.clone()), ..run }
            }
            Some(outcome @ RunOutcome::Ended { started, at, status, stopped }) => Self {
                outcome: if outcome.success() { "succeeded" } else { "failed" }.to_owned(),
                started: Some((*started).into()),
                ended: Some((*at).into()),
                exit_code: Some(status.code()),
                reason: Some(stopped.as_ref().map_or_else(|| status.to_string(), |why| format!("{status}: {why}"))),
                ..run
            },
        }
    }
}
