//! The record of a service that runs at set times. All times are in milliseconds since the Unix epoch, by the wall clock.

use serde::{Deserialize, Serialize};

/// What was decided of its times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// Its schedule, in words; another one begins anew.
    pub schedule: String,
    /// Times up to this one are decided.
    pub decided: u64,
    /// The run that is to be, or goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunRecord>,
    /// The time that is run when that one has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<u64>,
    /// What became of the last times, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastRunRecord>,
}

/// A run that is to be, or goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The time that it is for.
    pub due: u64,
    /// Why it is run: `scheduled`, `missed`, `queued` or `by hand`.
    pub why: String,
    /// Whether its container was started.
    #[serde(default)]
    pub begun: bool,
    /// Why it is being ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

/// A time that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRunRecord {
    /// The time.
    pub due: u64,
    /// Why it was run.
    pub why: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: RunOutcomeRecord,
}

/// What became of a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum RunOutcomeRecord {
    /// It was run.
    Ended {
        /// When it was started.
        started: u64,
        /// When it ended.
        ended: u64,
        /// How: `code`, `signal`, `oom_killed`, `after_oom`, `machine_stopped` or `shim_lost`.
        how: String,
        /// The code or the signal, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u8>,
        /// Why it was ended by us.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stopped: Option<String>,
    },
    /// Nothing was run.
    Left {
        /// How many times in a row.
        times: u32,
        /// Why.
        reason: String,
    },
}
