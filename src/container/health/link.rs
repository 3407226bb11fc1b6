//! What the daemon and the helper that connects to a container tell each other, over one socket pair.
//!
//! ```text
//! daemon ─▶ helper   length (4 bytes, big-endian) and the order as JSON
//! helper ─▶ daemon   the report as JSON, to the end
//! ```

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::container::link::ProcessRecord;
use crate::container::record::HealthCheckRecord;

/// What a helper is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProbeOrder {
    /// The container's first process.
    pub init: ProcessRecord,
    /// Its cgroup.
    pub cgroup: PathBuf,
    /// Its test is a probe.
    pub check: HealthCheckRecord,
    /// How long it may take.
    pub limit_ms: u64,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeReport {
    /// It is well. What was seen.
    Passed(String),
    /// It is not. What was seen.
    Failed(String),
    /// The container ended meanwhile.
    ContainerEnded,
}
