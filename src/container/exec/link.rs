//! What the daemon and the helper that enters a container tell each other, over one socket pair.
//!
//! ```text
//! daemon ─▶ helper   length (4 bytes, big-endian) and the order as JSON; then one byte per signal; its end: hang up
//! helper ─▶ daemon   one line of JSON per report; the first one carries the descriptors of the streams
//! ```
//! The order is not an argument of the helper's: its variables may be secrets, and everybody may read command lines.

use serde::{Deserialize, Serialize};

use crate::container::link::{Order, ProcessRecord};

/// No order is longer.
pub const LONGEST_ORDER: u32 = 4 * 1024 * 1024;

/// What a helper is told.
#[derive(Serialize, Deserialize)]
pub struct ExecOrder {
    /// What the container's shim would be told.
    pub container: Order,
    /// The container's first process.
    pub init: ProcessRecord,
    /// What is to be executed.
    pub ask: ExecAsk,
}

/// What is to be executed. It has no `Debug`: its variables may be secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecAsk {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// `NAME=value` each, beside those of the container; `NAME` takes one away.
    pub environment: Vec<String>,
    /// Absolute; none: the container's.
    pub working_dir: Option<String>,
    /// `name|uid[:group|gid]`; none: the container's.
    pub user: Option<String>,
    /// All capabilities, and no seccomp.
    pub privileged: bool,
    /// Where it reads and writes.
    pub streams: ExecStreams,
}

/// Where an executed command reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecStreams {
    /// Nowhere. It goes on whatever becomes of the daemon.
    None,
    /// Pipes.
    Pipes {
        /// Whether there is something to read.
        stdin: bool,
    },
    /// A terminal.
    Terminal {
        /// Its height.
        rows: u16,
        /// Its width.
        columns: u16,
    },
}

/// What a helper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecReport {
    /// The command runs.
    Started {
        /// Its number on the host.
        pid: i32,
    },
    /// It does not.
    Failed(ExecFailure),
    /// It has ended.
    Ended(ExecEnd),
}

/// Why a command was not executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ExecFailure {
    /// There is no such command.
    #[error("{0}")]
    NotFound(String),
    /// It is there, or whatever else it needs is not.
    #[error("{0}")]
    NotStarted(String),
    /// The container ended meanwhile.
    #[error("the container has ended")]
    ContainerEnded,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecEnd {
    /// What it returned.
    pub code: Option<u8>,
    /// The signal that ended it.
    pub signal: Option<u8>,
    /// Whether the container ended, and the command with it.
    pub container_ended: bool,
}
