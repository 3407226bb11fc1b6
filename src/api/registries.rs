//! Logins at registries: `POST /api/v1/registries/login` and `POST /api/v1/registries/logout`.
//!
//! A password passes through here and is not kept: it is in no log, no event and no answer. The TCP door takes it as
//! well, since it is on this machine's loopback only and refuses web pages (see `guard`).

use std::fmt;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;

use super::Doors;
use super::error::ApiError;
use super::wire::{LoggedIn, LoggedOut, LoginAsk, LogoutAsk};

/// What keeps logins.
pub trait RegistryDoor: Send + Sync {
    /// Asks the registry whether it takes the login, and keeps it only then.
    fn login(
        &self,
        registry: String,
        username: String,
        password: Secret,
    ) -> BoxFuture<'_, Result<LoggedIn, LoginRefusal>>;
    /// Forgets a login.
    fn logout(&self, registry: String) -> BoxFuture<'_, Result<LoggedOut, LoginRefusal>>;
}

/// A password on its way. It shows itself nowhere.
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Why a login is not kept or forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginRefusal {
    /// The question makes no sense.
    Invalid(String),
    /// The registry does not take the login.
    Denied(String),
    /// The registry or the login file could not be used.
    Failed(String),
}

impl From<LoginRefusal> for ApiError {
    fn from(refusal: LoginRefusal) -> Self {
        match refusal {
            LoginRefusal::Invalid(message) => Self::BadRequest { message },
            LoginRefusal::Denied(message) => Self::LoginDenied { message },
            LoginRefusal::Failed(message) => Self::LoginFailed { message },
        }
    }
}

/// Logs in.
pub(super) async fn login(State(doors): State<Doors>, body: Bytes) -> Result<Json<LoggedIn>, ApiError> {
    let LoginAsk { registry, username, password } = read(&body)?;
    Ok(Json(doors.registries.login(registry, username, Secret(password)).await?))
}

/// Logs out.
pub(super) async fn logout(State(doors): State<Doors>, body: Bytes) -> Result<Json<LoggedOut>, ApiError> {
    let LogoutAsk { registry } = read(&body)?;
    Ok(Json(doors.registries.logout(registry).await?))
}

/// The parser's own words may quote what was sent; only the place is told.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|err| ApiError::BadRequest {
        message: format!("the body is not what the description says (line {}, column {})", err.line(), err.column()),
    })
}
