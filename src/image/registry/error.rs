//! What a registry can do to us, in words for the owner of an image.

use std::time::Duration;

use super::http::REDIRECTS;
use crate::model::Digest;

/// Why a registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No connection: refused, unknown host, no route, bad certificate. The source says which.
    #[error("cannot connect to registry {registry}")]
    Connect {
        registry: String,
        #[source]
        source: reqwest::Error,
    },
    /// It is there but silent.
    #[error("registry {registry} stopped answering for {} s", waited.as_secs_f32())]
    Timeout { registry: String, waited: Duration },
    /// Sent from one place to another without end, or from HTTPS to HTTP.
    #[error("registry {registry} redirects more than {REDIRECTS} times, or away from HTTPS")]
    Redirects { registry: String },
    /// The connection broke, or what came is not HTTP.
    #[error("the answer of registry {registry} broke off or is not HTTP")]
    Broken {
        registry: String,
        #[source]
        source: reqwest::Error,
    },
    /// No such image.
    #[error("image {image} does not exist in registry {registry}")]
    Unknown { registry: String, image: String },
    /// The image names content the registry does not have.
    #[error("registry {registry} does not have {digest}, which the image consists of")]
    Incomplete { registry: String, digest: Digest },
    /// A login is needed, or the one there is does not do.
    #[error("registry {registry} refuses access (HTTP {status}){said}; is the name right, and is a login needed?")]
    Denied { registry: String, status: u16, said: Said },
    /// Too many questions.
    #[error("registry {registry} asks to slow down (HTTP 429){said}")]
    TooManyRequests { registry: String, said: Said, retry_after: Option<Duration> },
    /// Its own trouble.
    #[error("registry {registry} fails (HTTP {status}){said}")]
    Unavailable { registry: String, status: u16, said: Said, retry_after: Option<Duration> },
    /// Any other answer.
    #[error("registry {registry} answers with HTTP {status}{said}")]
    Unexpected { registry: String, status: u16, said: Said },
    /// Content that is not what its name says.
    #[error("registry {registry} sent {got} where {expected} was asked for")]
    WrongDigest { registry: String, expected: Digest, got: String },
    /// Content longer or shorter than announced.
    #[error("registry {registry} sent {got} bytes of {digest}, which has {expected}")]
    WrongSize { registry: String, digest: Digest, expected: u64, got: u64 },
    /// Content beyond its limit.
    #[error("registry {registry} sends more than the {limit} bytes allowed for {what}")]
    TooLarge { registry: String, what: &'static str, limit: u64 },
}

/// The registry's own words, made fit for one line; empty where it said nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said(pub(in crate::image) String);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

impl RegistryError {
    pub(in crate::image) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
    pub(in crate::image) fn permanent(&self) -> bool {
        match self {
            Self::Unknown { .. }
            | Self::Incomplete { .. }
            | Self::Denied { .. }
            | Self::Unexpected { .. }
            | Self::Redirects { .. }
            | Self::TooLarge { .. } => true,
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::TooManyRequests { .. }
            | Self::Unavailable { .. }
            | Self::WrongDigest { .. }
            | Self::WrongSize { .. } => false,
        }
    }
}
