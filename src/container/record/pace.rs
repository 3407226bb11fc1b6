//! `pace` of the record: how restarts are spaced.

use serde::{Deserialize, Serialize};

use crate::model::RestartPace;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PaceRecord {
    first_ms: u64,
    factor_percent: u32,
    longest_ms: u64,
    reset_ms: u64,
}

impl Default for PaceRecord {
    fn default() -> Self {
        RestartPace::default().into()
    }
}

impl From<RestartPace> for PaceRecord {
    fn from(RestartPace { first_ms, factor_percent, longest_ms, reset_ms }: RestartPace) -> Self {
        Self { first_ms, factor_percent, longest_ms, reset_ms }
    }
}

impl From<PaceRecord> for RestartPace {
    fn from(PaceRecord { first_ms, factor_percent, longest_ms, reset_ms }: PaceRecord) -> Self {
        Self { first_ms, factor_percent, longest_ms, reset_ms }
    }
}
