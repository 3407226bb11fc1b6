//! One container.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NetworkLink, PublishedPort, Time};
use crate::reconcile::view::{ContainerStateView, ContainerView};

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// Its id: 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: String,
    /// Its service.
    pub service: String,
    /// Which replica, from 1.
    pub number: u32,
    /// The image as the file named it when the container was made.
    pub image: String,
    /// The digest of the manifest it was made from.
    pub image_digest: String,
    /// The hash of its specification.
    pub hash: String,
    /// What it was given and can be given anew as it is: limits, labels and policies, by key, in words.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// What it does.
    pub state: ContainerState,
    /// How it is, where it runs and has a health check.
    #[serde(default)]
    pub health: Option<ContainerHealth>,
    /// Whether all of it is held still.
    #[serde(default)]
    pub paused: bool,
    /// How often it was started again since it was made.
    pub restarts: u32,
    /// Why the last thing was done to it, or nothing is done.
    pub reason: String,
    /// When it is tried again by itself.
    pub next_attempt: Option<Time>,
    /// Its links to networks, as it was started last.
    #[serde(default)]
    pub networks: Vec<NetworkLink>,
    /// Its ports on the host; empty while it does not run.
    #[serde(default)]
    pub ports: Vec<PublishedPort>,
    /// The container whose network it shares.
    #[serde(default)]
    pub shares_network_of: Option<String>,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerHealth {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Checks that failed in a row; told of one container alone.
    #[serde(default)]
    pub failing: u32,
    /// The last checks, the oldest first; told of one container alone.
    #[serde(default)]
    pub checks: Vec<CheckRun>,
}

/// One health check that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckRun {
    /// When it began.
    pub begun: Time,
    /// When it ended.
    pub ended: Time,
    /// 0: it went well; -1: it took too long, and was ended.
    pub exit_code: i32,
    /// The beginning of what it said.
    pub output: String,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Runs.
    Running {
        /// The pid of its main process on the host.
        pid: i32,
        /// The pid of its shim.
        shim: i32,
        /// When it was started.
        since: Time,
    },
    /// Ended.
    Exited {
        /// The code a shell would show.
        code: u8,
        /// How, in words.
        how: String,
        /// When.
        at: Time,
    },
    /// Could not be started.
    StartFailed {
        /// Why.
        error: String,
        /// When.
        at: Time,
    },
    /// Its shim is gone; what is left of it is being ended.
    Orphaned,
}

impl ContainerState {
    /// The word, as metrics and tables show it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running { .. } => "running",
            Self::Exited { .. } => "exited",
            Self::StartFailed { .. } => "start_failed",
            Self::Orphaned => "orphaned",
        }
    }
}

impl From<&ContainerStateView> for ContainerState {
    fn from(state: &ContainerStateView) -> Self {
        match state {
            ContainerStateView::Created => Self::Created,
            ContainerStateView::Running { pid, shim, since } => {
                Self::Running { pid: *pid, shim: *shim, since: (*since).into() }
            }
            ContainerStateView::Exited { status, how, at } => {
                Self::Exited { code: status.code(), how: how.clone(), at: (*at).into() }
            }
            ContainerStateView::StartFailed { error, at } => {
                Self::StartFailed { error: error.clone(), at: (*at).into() }
            }
            ContainerStateView::Orphaned => Self::Orphaned,
        }
    }
}

impl From<&ContainerView> for Container {
    fn from(view: &ContainerView) -> Self {
        Self {
            id: view.id.to_string(),
            name: view.name.to_string(),
            project: view.project.to_string(),
            service: view.service.to_string(),
            number: view.number,
            image: view.image.to_string(),
            image_digest: view.image_digest.to_string(),
            hash: view.hash.clone(),
            settings: view.settings.by_key().clone(),
            state: (&view.state).into(),
            health: view.health.map(|health| ContainerHealth {
                status: health.word().to_owned(),
                failing: 0,
                checks: Vec::new(),
            }),
            paused: view.paused,
            restarts: view.restarts,
            reason: view.reason.clone(),
            next_attempt: view.next_attempt.map(Time::from),
            networks: view.links.iter().map(NetworkLink::from).collect(),
            ports: view.ports.iter().map(PublishedPort::from).collect(),
            shares_network_of: view.shares.as_ref().map(ToString::to_string),
        }
    }
}
