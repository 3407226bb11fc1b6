//! `run` of the record: for which time of its schedule a container was made.

use serde::{Deserialize, Serialize};

use super::{RecordError, valid};
use crate::model::{Purpose, Run, RunWhy, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunRecord {
    /// In milliseconds since the Unix epoch.
    due: u64,
    why: String,
}

impl RunRecord {
    pub(super) fn of(purpose: &Purpose) -> Option<Self> {
        let of = |run: &Run| Self { due: run.due.millis(), why: run.why.as_str().to_owned() };
        purpose.run().map(of)
    }

    pub(super) fn to_model(&self) -> Result<Purpose, RecordError> {
        let why = valid("reason of a run", &self.why, RunWhy::parse)?;
        Ok(Purpose::Run(Run { due: Timestamp(self.due), why }))
    }
}
