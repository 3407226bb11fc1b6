//! What is asked of services by hand.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;
use crate::reconcile::view::HandView;

/// Something that is asked of services by hand. Names are `project/service`, projects (all their services), containers, or services
/// whose name is the only one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum HandAsk {
    /// Nothing of them runs until they are started or released.
    Stop {
        /// Which.
        names: Vec<String>,
        /// How long they have to end by themselves; null: as their files say.
        #[serde(default)]
        grace_ms: Option<u64>,
    },
    /// What was stopped, or ended, runs again.
    Start {
        /// Which.
        names: Vec<String>,
    },
    /// What runs is stopped and started again, once.
    Restart {
        /// Which.
        names: Vec<String>,
        /// How long they have to end by themselves; null: as their files say.
        #[serde(default)]
        grace_ms: Option<u64>,
    },
    /// A signal is sent to the main processes of what runs.
    Kill {
        /// Which.
        names: Vec<String>,
        /// `TERM`, `SIGHUP`, `9`; null: SIGKILL.
        #[serde(default)]
        signal: Option<String>,
    },
    /// What runs is held still.
    Pause {
        /// Which.
        names: Vec<String>,
    },
    /// It goes on.
    Unpause {
        /// Which.
        names: Vec<String>,
    },
    /// Another number of replicas than the file's.
    Scale {
        /// How many, by name.
        replicas: BTreeMap<String, u32>,
    },
    /// They are as their files say again.
    Release {
        /// Which; none: all of which something was asked.
        names: Vec<String>,
    },
}

/// Of whom it is asked now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandDone {
    /// The services, as project/service.
    pub services: Vec<String>,
}

/// What was asked of a service by hand, over its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ByHand {
    /// Nothing of it runs.
    pub stopped: bool,
    /// What of it runs is held still.
    pub paused: bool,
    /// How many replicas there are; null: as many as the file says.
    pub replicas: Option<u32>,
    /// How many the file says, where there are others.
    pub file_replicas: Option<u32>,
    /// Since when.
    pub since: Time,
}

impl From<&HandView> for ByHand {
    fn from(view: &HandView) -> Self {
        Self {
            stopped: view.stopped,
            paused: view.paused,
            replicas: view.scaled.map(|scaled| scaled.replicas),
            file_replicas: view.scaled.map(|scaled| scaled.file),
            since: view.since.into(),
        }
    }
}
