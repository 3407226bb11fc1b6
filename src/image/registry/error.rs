//! What a registry can do to us, in words for the owner of an image.

use std::time::Duration;

use super::clients::REDIRECTS;
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
    /// Its certificate, or ours, is not accepted.
    #[error(
        "registry {registry} cannot be spoken to by TLS; where its certificate is of an authority of your own, put that into certs.d/{registry}/ca.crt"
    )]
    Tls {
        registry: String,
        #[source]
        source: reqwest::Error,
    },
    /// It wants to see a certificate of ours, or does not accept the one that it saw.
    #[error(
        "registry {registry} wants another client certificate than it was shown, or one at all: set client-cert-file and client-key-file for it, or put client.cert and client.key into certs.d/{registry}/"
    )]
    ClientCertificate {
        registry: String,
        #[source]
        source: reqwest::Error,
    },
    /// What is set for it on this machine does not do, or it asks for what is not done.
    #[error("registry {registry} cannot be asked: {reason}")]
    Setup { registry: String, reason: String },
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
    /// Content that ended before its end.
    #[error("registry {registry} sent only {got} of the {expected} bytes of {digest}")]
    Early { registry: String, digest: Digest, expected: u64, got: u64 },
    /// Another part than the one that was asked for.
    #[error("registry {registry} was asked for {digest} from byte {from} on and sent another part ({said})")]
    WrongRange { registry: String, digest: Digest, from: u64, said: Said },
    /// Neither the mirrors nor the registry itself.
    #[error("no mirror helped ({})", mirrors.join("; "))]
    Nowhere {
        mirrors: Vec<String>,
        #[source]
        own: Box<RegistryError>,
    },
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
            Self::Nowhere { own, .. } => own.retry_after(),
            _ => None,
        }
    }
    /// Whether the same question will get the same answer until someone changes something.
    pub(in crate::image) fn permanent(&self) -> bool {
        match self {
            Self::Unknown { .. }
            | Self::Incomplete { .. }
            | Self::Denied { .. }
            | Self::Unexpected { .. }
            | Self::Redirects { .. }
            | Self::Setup { .. }
            | Self::TooLarge { .. } => true,
            Self::Nowhere { own, .. } => own.permanent(),
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::ClientCertificate { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::TooManyRequests { .. }
            | Self::Unavailable { .. }
            | Self::Early { .. }
            | Self::WrongRange { .. }
            | Self::WrongDigest { .. }
            | Self::WrongSize { .. } => false,
        }
    }
    /// Whether it may be otherwise a moment later, so that another attempt within the pull makes sense.
    pub(super) fn passing(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::TooManyRequests { .. }
            | Self::Unavailable { .. }
            | Self::Early { .. } => true,
            Self::Unknown { .. }
            | Self::Incomplete { .. }
            | Self::Denied { .. }
            | Self::Unexpected { .. }
            | Self::Redirects { .. }
            | Self::Setup { .. }
            | Self::TooLarge { .. }
            | Self::Tls { .. }
            | Self::ClientCertificate { .. }
            | Self::Nowhere { .. }
            | Self::WrongRange { .. }
            | Self::WrongDigest { .. }
            | Self::WrongSize { .. } => false,
        }
    }
    /// Whether the content itself is wrong: another place, or another download, may have the right one.
    pub(in crate::image) fn is_damage(&self) -> bool {
        match self {
            Self::WrongDigest { .. } | Self::WrongSize { .. } | Self::WrongRange { .. } => true,
            Self::Nowhere { own, .. } => own.is_damage(),
            _ => false,
        }
    }
}
