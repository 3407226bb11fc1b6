//! What a record keeps of the image's own configuration.

use serde::{Deserialize, Serialize};

use super::health::HealthCheckRecord;
use super::isolation::is_default;

/// What the image says about how it is run; resolved by whoever made the container, kept with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageDefaults {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub command: Vec<String>,
    /// `Env`, each `NAME=value`.
    pub environment: Vec<String>,
    /// `WorkingDir`; empty: `/`.
    pub working_dir: String,
    /// `User`, looked up in the image's root; empty: root.
    pub user: String,
    /// `StopSignal`.
    pub stop_signal: Option<String>,
    /// `Volumes`.
    #[serde(skip_serializing_if = "is_default")]
    pub volumes: Vec<String>,
    /// `Healthcheck`.
    #[serde(skip_serializing_if = "is_default")]
    pub health: HealthCheckRecord,
}
