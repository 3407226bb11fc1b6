//! Secrets that are kept by name: `GET /api/v1/secrets`, `PUT` and `DELETE /api/v1/secrets/{name}`. What they hold goes in and never comes
//! out.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use super::containers::bad_path;
use super::error::ApiError;
use super::openapi::{Answer as Described, Ask, Operation, get, of};
use super::status::bad_query;
use super::wire::{SecretList, SecretName};
use super::{Answer, Doors, Refusal, RefusalKind, commands};

/// What keeps secrets.
pub trait SecretDoor: Send + Sync {
    /// Their names, and to whom files for this host are encrypted.
    fn list(&self) -> Answer<'_, SecretList>;
    /// Keeps one, encrypted; one of this name is replaced.
    fn set(&self, name: String, secret: Bytes) -> Answer<'_, SecretName>;
    /// Forgets one.
    fn remove(&self, name: String) -> Answer<'_, SecretName>;
}

type Name = Result<Path<String>, PathRejection>;

pub(super) async fn list(State(doors): State<Doors>) -> Result<Json<SecretList>, ApiError> {
    let mut list = doors.secrets.list().await?;
    let now = doors.now();
    for secret in &mut list.secrets {
        secret.used_by = now.secrets.get(&secret.name).into_iter().flatten().cloned().collect();
    }
    Ok(Json(list))
}

pub(super) async fn set(
    State(doors): State<Doors>,
    name: Name,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<SecretName>, ApiError> {
    let Path(name) = name.map_err(bad_path)?;
    let secret = body.map_err(|error| ApiError::BadRequest { message: error.body_text() })?;
    let set = doors.secrets.set(name, secret).await?;
    // It is kept whatever becomes of the look; the next one sees it too.
    if let Err(error) = commands::looked(&doors).await {
        tracing::debug!(%error, "a secret was set, and nobody looked at once");
    }
    Ok(Json(set))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Remove {
    /// Although services use it.
    force: bool,
}

pub(super) async fn remove(
    State(doors): State<Doors>,
    name: Name,
    ask: Result<Query<Remove>, QueryRejection>,
) -> Result<Json<SecretName>, ApiError> {
    let (Path(name), Query(ask)) = (name.map_err(bad_path)?, ask.map_err(|err| bad_query(&err))?);
    if !ask.force {
        // A file may name it since a moment.
        commands::looked(&doors).await?;
        if let Some(users) = doors.now().secrets.get(&name) {
            let users: Vec<&str> = users.iter().map(String::as_str).collect();
            return Err(in_use(&name, &users).into());
        }
    }
    let removed = doors.secrets.remove(name).await?;
    if let Err(error) = commands::looked(&doors).await {
        tracing::debug!(%error, "a secret was removed, and nobody looked at once");
    }
    Ok(Json(removed))
}

fn in_use(name: &str, users: &[&str]) -> Refusal {
    let message = format!("the secret {name:?} is used by {}", users.join(", "));
    let hint = "take it out of their files first; with `--force` it goes all the same, and they are held".to_owned();
    Refusal { hint: Some(hint), ..Refusal::new(RefusalKind::InUse, message) }
}

pub(super) fn operations() -> Vec<Operation> {
    const ONE: &str = "/api/v1/secrets/{name}";
    vec![
        get(
            "/api/v1/secrets",
            "The names of the secrets that are kept here, and the age recipient of this host",
            &[],
            Described::Json(of::<SecretList>),
        ),
        Operation {
            method: "put",
            ask: Ask::Bytes("application/octet-stream"),
            ..get(
                ONE,
                "Keeps a secret, encrypted to this host's key; one of this name is replaced. Answers once the files were looked at",
                &[],
                Described::Json(of::<SecretName>),
            )
        },
        Operation {
            method: "delete",
            ..get(
                ONE,
                "Forgets a secret; 409 where a service uses it. With force containers that have it keep it until they are started again",
                &[("force", "`true`: although services use it")],
                Described::Json(of::<SecretName>),
            )
        },
    ]
}
