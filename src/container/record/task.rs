//! `task` of the record: a one-off that somebody asked for.

use serde::{Deserialize, Serialize};

use crate::model::{Purpose, Task};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TaskRecord {
    token: String,
    keep: bool,
}

impl TaskRecord {
    pub(super) fn of(purpose: &Purpose) -> Option<Self> {
        purpose.task().map(|task| Self { token: task.token.clone(), keep: task.keep })
    }

    pub(super) fn to_model(&self) -> Purpose {
        Purpose::Task(Task { token: self.token.clone(), keep: self.keep })
    }
}
