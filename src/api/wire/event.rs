//! One thing that happened.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;
use crate::reconcile::view;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Counts from the daemon's start.
    pub sequence: u64,
    /// When.
    pub at: Time,
    /// What kind: `container.started`, `file.refused`, …
    pub kind: String,
    /// What it is about.
    pub what: String,
    /// One sentence.
    pub message: String,
    /// `file:line:column`, for what came from a file.
    pub location: Option<String>,
}

impl From<&view::Event> for Event {
    fn from(event: &view::Event) -> Self {
        Self {
            sequence: event.sequence,
            at: event.at.into(),
            kind: event.kind.to_owned(),
            what: event.what.clone(),
            message: event.message.clone(),
            location: event.location.as_ref().map(ToString::to_string),
        }
    }
}
