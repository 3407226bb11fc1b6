//! How every refusal looks: a status code and JSON with a code, a sentence and a hint.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::wire::{ErrorBody, ErrorFacts};
use super::{Refusal, RefusalKind};

/// Why a request is not answered with what it asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiError {
    #[error("there is nothing at {path}")]
    NoRoute { path: String },
    #[error("{path} does not answer to this method")]
    Method { path: String },
    #[error("no container or service is called {name:?}")]
    NoContainer { name: String },
    #[error("no service, project or container is called {name:?}{}", nearest.as_ref().map_or_else(String::new, |n| format!("; did you mean {n}?")))]
    NoService { name: String, nearest: Option<String> },
    #[error("{message}")]
    NotSo { message: String, hint: Option<String> },
    #[error("no network is called {name:?}")]
    NoNetwork { name: String },
    #[error("{name:?} has no container{}", index.map_or_else(String::new, |n| format!(" with the number {n}")))]
    NoReplica { name: String, index: Option<u32> },
    #[error("{name:?} could be {}", candidates.join(", "))]
    Ambiguous { name: String, candidates: Vec<String> },
    #[error("{message}")]
    NoFile { message: String },
    #[error("{message}")]
    BadRequest { message: String },
    #[error("the request's body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("this port answers only to its own loopback address, not to {host:?}")]
    ForeignHost { host: String },
    #[error("requests from web pages of {origin:?} are not answered")]
    ForeignOrigin { origin: String },
    #[error("{message}")]
    Refused { message: String },
    #[error("container {name:?} does not run{}", state.as_ref().map_or_else(String::new, |s| format!(": {s}")))]
    NotRunning { name: String, state: Option<String> },
    #[error("{message}")]
    NotExecuted { message: String, exit_code: u8 },
    #[error("this answers with a stream, which the request did not ask for")]
    NoUpgrade,
    #[error("{message}")]
    Failed { message: String },
    #[error("{message}")]
    Unavailable { message: String },
    #[error("{message}")]
    LoginDenied { message: String },
    #[error("{message}")]
    LoginFailed { message: String },
    #[error("{}", .0.message)]
    Work(Refusal),
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Work(refusal)
    }
}

impl ApiError {
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoRoute { .. } => (StatusCode::NOT_FOUND, "not_found"),
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::NoContainer { .. } => (StatusCode::NOT_FOUND, "no_such_container"),
            Self::NoService { .. } => (StatusCode::NOT_FOUND, "no_such_service"),
            Self::NotSo { .. } => (StatusCode::CONFLICT, "refused"),
            Self::NoReplica { .. } => (StatusCode::NOT_FOUND, "no_such_container"),
            Self::NoFile { .. } => (StatusCode::NOT_FOUND, "no_such_file"),
            Self::NoNetwork { .. } => (StatusCode::NOT_FOUND, "no_such_network"),
            Self::Ambiguous { .. } => (StatusCode::CONFLICT, "ambiguous"),
            Self::BadRequest { .. } => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::ForeignHost { .. } => (StatusCode::FORBIDDEN, "foreign_host"),
            Self::ForeignOrigin { .. } => (StatusCode::FORBIDDEN, "foreign_origin"),
            Self::Refused { .. } => (StatusCode::CONFLICT, "refused"),
            Self::NotRunning { .. } => (StatusCode::CONFLICT, "not_running"),
            Self::NotExecuted { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "not_executed"),
            Self::NoUpgrade => (StatusCode::UPGRADE_REQUIRED, "upgrade_required"),
            Self::Failed { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
            Self::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::LoginDenied { .. } => (StatusCode::FORBIDDEN, "login_denied"),
            Self::LoginFailed { .. } => (StatusCode::BAD_GATEWAY, "login_failed"),
            Self::Work(refusal) => match refusal.kind {
                RefusalKind::Unknown => (StatusCode::NOT_FOUND, "no_such_image"),
                RefusalKind::NoVolume => (StatusCode::NOT_FOUND, "no_such_volume"),
                RefusalKind::NoSecret => (StatusCode::NOT_FOUND, "no_such_secret"),
                RefusalKind::NoSnapshot => (StatusCode::NOT_FOUND, "no_such_snapshot"),
                RefusalKind::Exists => (StatusCode::CONFLICT, "exists"),
                RefusalKind::Busy => (StatusCode::CONFLICT, "busy"),
                RefusalKind::Ambiguous => (StatusCode::CONFLICT, "ambiguous"),
                RefusalKind::InUse => (StatusCode::CONFLICT, "in_use"),
                RefusalKind::Invalid => (StatusCode::BAD_REQUEST, "bad_request"),
                RefusalKind::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
            },
        }
    }
    fn hint(&self) -> Option<&str> {
        match self {
            Self::NoRoute { .. } => Some("GET /api/v1/openapi.json lists what there is"),
            Self::NoContainer { .. } => Some("GET /api/v1/containers lists them; services are written project/service"),
            Self::NoService { .. } => Some("`longshore status` lists them; services are written project/service"),
            Self::NotSo { hint, .. } => hint.as_deref(),
            Self::NoNetwork { .. } => Some("GET /api/v1/networks lists them; `longshore network ls` prints them"),
            Self::Ambiguous { .. } => Some("write the full name, more digits of the id, or project/service"),
            Self::ForeignHost { .. } => Some("use 127.0.0.1, [::1] or localhost with the port it listens on"),
            Self::NotRunning { .. } => Some("`longshore ps -a` shows what became of it"),
            Self::NoUpgrade => {
                Some("send `Connection: Upgrade` and `Upgrade: longshore-exec`, or ask with \"detach\": true")
            }
            Self::Work(refusal) => refusal.hint.as_deref(),
            Self::NoReplica { .. } => Some("`longshore ps -a` lists the containers"),
            Self::Method { .. }
            | Self::NoFile { .. }
            | Self::BadRequest { .. }
            | Self::TooLarge { .. }
            | Self::ForeignOrigin { .. }
            | Self::Refused { .. }
            | Self::NotExecuted { .. }
            | Self::Failed { .. }
            | Self::Unavailable { .. }
            | Self::LoginDenied { .. }
            | Self::LoginFailed { .. } => None,
        }
    }
    /// The body alone, for streams that fail in the middle.
    pub(super) fn body(&self) -> ErrorBody {
        let facts = ErrorFacts {
            code: self.kind().1.to_owned(),
            message: self.to_string(),
            hint: self.hint().map(str::to_owned),
            exit_code: match self {
                Self::NotExecuted { exit_code, .. } => Some(*exit_code),
                _ => None,
            },
        };
        ErrorBody { error: facts }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.kind().0, axum::Json(self.body())).into_response()
    }
}
