//! How every error looks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorFacts,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorFacts {
    /// A word for programs, `not_found`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// What can be done about it.
    pub hint: Option<String>,
    /// What a command that fails by it ends with, where that is not 1: 126 or 127, as of a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
}
