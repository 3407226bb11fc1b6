//! Commands that are executed in containers.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A command to be executed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecAsk {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// `NAME=value` each, beside the container's own; `NAME` takes one away.
    #[serde(default)]
    pub environment: Vec<String>,
    /// As whom, `name|uid[:group|gid]`, looked up in the container; where it is left out, as the container's own command.
    #[serde(default)]
    pub user: Option<String>,
    /// Where, absolute; where it is left out, where the container's own command began.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// With all capabilities and without seccomp.
    #[serde(default)]
    pub privileged: bool,
    /// Whether something will be sent to its standard input.
    #[serde(default)]
    pub stdin: bool,
    /// With a terminal of this size.
    #[serde(default)]
    pub terminal: Option<TerminalSize>,
    /// On its own: no streams, the answer comes once it runs.
    #[serde(default)]
    pub detach: bool,
    /// Which replica of a service; where it is left out, the first one that runs.
    #[serde(default)]
    pub index: Option<u32>,
}

impl fmt::Debug for ExecAsk {
    /// Without the variables: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecAsk").field("command", &self.command).field("user", &self.user).finish_non_exhaustive()
    }
}

/// How many characters fit into a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Its height.
    pub rows: u16,
    /// Its width.
    pub columns: u16,
}

/// A command runs on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecStarted {
    /// The name of the container.
    pub container: String,
}

/// How a command ended: the payload of the `exit` frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecExit {
    /// The code a shell would show: 128 and the signal's number where a signal ended it.
    pub code: u8,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
    /// Why, where that was not its own doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
