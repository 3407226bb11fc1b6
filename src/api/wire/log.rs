//! One line of a container's output.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// One line of output. Exactly one of `text` and `base64` is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogRecord {
    /// When it was read from the container, to the nanosecond.
    pub time: Time,
    /// The name of the container.
    pub container: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Counts the container's records.
    pub sequence: u64,
    /// The line without its end, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
    /// The line without its end in base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base64: Option<String>,
    /// Whether the line goes on in the next record of this stream.
    pub partial: bool,
    /// Whether the stream ended here, with no newline. Left out where it is not so.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub unterminated: bool,
}
