//! Logins at registries.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A login to be checked with its registry and kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginAsk {
    /// As in image names: `docker.io`, `registry.lan:5000`.
    pub registry: String,
    /// The user.
    pub username: String,
    /// The password or access token.
    pub password: String,
}

impl fmt::Debug for LoginAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, username, password: _ } = self;
        f.debug_struct("LoginAsk").field("registry", registry).field("username", username).finish_non_exhaustive()
    }
}

/// A login to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogoutAsk {
    /// As in image names.
    pub registry: String,
}

/// A login was taken by its registry, and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoggedIn {
    /// The registry as image names have it.
    pub registry: String,
    /// The credential helper that keeps it.
    pub helper: Option<String>,
    /// The file that keeps it, unencrypted.
    pub file: Option<String>,
}

/// What became of a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoggedOut {
    /// The registry as image names have it.
    pub registry: String,
    /// Whether there was a login.
    pub known: bool,
}
