//! Secrets that are kept by name. What they hold is in none of these.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretList {
    /// To whom files for this host are encrypted: an age recipient.
    pub recipient: String,
    /// By name.
    pub secrets: Vec<SecretEntry>,
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretEntry {
    /// As state files name it (`external`).
    pub name: String,
    /// When it was set last.
    pub set: Time,
    /// The services that use it: `project/service`.
    #[serde(default)]
    pub used_by: Vec<String>,
}

/// A secret that was set or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretName {
    /// Which.
    pub name: String,
}
