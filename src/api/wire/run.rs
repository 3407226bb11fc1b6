//! One-off containers of services.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reconcile::view::TaskView;

/// A container of a service that is to be run once.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunAsk {
    /// `service` or `project/service`.
    pub service: String,
    /// The command and its arguments; where it is left out, the service's own.
    pub command: Vec<String>,
    /// Replaces the entrypoint; then the command is only what is given here.
    pub entrypoint: Option<String>,
    /// `NAME=value` each, over the service's own; `NAME` takes one away.
    pub environment: Vec<String>,
    /// As whom, `name|uid[:group|gid]`.
    pub user: Option<String>,
    /// Where, absolute.
    pub working_dir: Option<String>,
    /// Whether it stays once it has ended.
    pub keep: bool,
    /// Whether nobody waits for its end: it is removed as soon as it has ended. Else there is a minute to read what it said, or
    /// until it is deleted.
    pub detach: bool,
}

impl fmt::Debug for RunAsk {
    /// Without the variables: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunAsk").field("service", &self.service).field("command", &self.command).finish_non_exhaustive()
    }
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunState {
    /// The container's id.
    pub id: String,
    /// The container's name.
    pub name: String,
    /// `waiting`, `running`, `ended`, `failed` where it was not run, or `lost` where nobody saw how it ended.
    pub state: String,
    /// What it waits for, why it was not run, or how it ended.
    pub reason: Option<String>,
    /// Its exit code, as a shell would show it.
    pub exit_code: Option<u8>,
}

impl From<&TaskView> for RunState {
    fn from(view: &TaskView) -> Self {
        let (state, reason) = match (&view.failed, view.status) {
            (Some(failed), _) => ("failed", Some(failed.clone())),
            (None, Some(status)) => ("ended", Some(status.to_string())),
            (None, None) if view.running => ("running", None),
            (None, None) if view.over => ("lost", Some("it was removed before it was seen how it ended".to_owned())),
            (None, None) => ("waiting", view.waiting.clone()),
        };
        Self {
            id: view.id.to_string(),
            name: view.name.to_string(),
            state: state.to_owned(),
            reason,
            exit_code: view.status.map(crate::model::ExitStatus::code),
        }
    }
}

/// It is ended and removed, or will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunEnded {
    /// As it was asked for.
    pub name: String,
}
