//! `POST /api/v1/containers/{name}/exec`: a command in a container, with its streams on the same connection.
//!
//! ```text
//! ask ─▶ which container ─▶ it runs ─▶ 101, frames both ways ─▶ exit      detached: 200
//!                             └─▶ 4xx with the exit code to use
//! ```

mod door;
mod session;

use axum::Json;
use axum::body::{Bytes, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::containers::bad_path;
use super::error::ApiError;
use super::wire::frame::PROTOCOL;
use super::wire::{ExecAsk, ExecStarted};
use super::{Doors, find};
use crate::reconcile::view::{ContainerStateView, ContainerView};
pub use door::{ExecControl, ExecDoor, ExecEnd, ExecRefusal, ExecSession};

/// The guard's own limit is what counts.
const BODY: usize = 16 * 1024 * 1024;

pub(super) async fn start(
    State(doors): State<Doors>,
    name: Result<Path<String>, PathRejection>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(bad_path)?;
    let upgrades = asks_for_frames(request.headers());
    let upgrade = hyper::upgrade::on(&mut request);
    let body = to_bytes(request.into_body(), BODY).await;
    let ask = read(&body.map_err(|err| ApiError::BadRequest { message: format!("the body cannot be read: {err}") })?)?;
    if !ask.detach && !upgrades {
        return Err(ApiError::NoUpgrade);
    }
    let container = find::replica(&doors.now(), &name, ask.index)?.clone();
    runs(&container)?;
    let detach = ask.detach;
    let session =
        doors.execs.exec(&container.id, ask).await.map_err(|refusal| refusal.of(&container.name.to_string()))?;
    let container = container.name.to_string();
    if detach {
        return Ok(Json(ExecStarted { container }).into_response());
    }
    tokio::spawn(async move {
        // Dropped where the client is gone already: the command is hung up.
        if let Ok(upgraded) = upgrade.await {
            session::run(upgraded, session, &container).await;
        }
    });
    let headers = [(CONNECTION, "Upgrade"), (UPGRADE, PROTOCOL)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

fn asks_for_frames(headers: &HeaderMap) -> bool {
    let says = |name, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    says(CONNECTION, "upgrade") && says(UPGRADE, PROTOCOL)
}

/// The parser's own words may quote what was sent; only the place is told.
fn read(body: &Bytes) -> Result<ExecAsk, ApiError> {
    let bad = |message: String| ApiError::BadRequest { message };
    let ask: ExecAsk = serde_json::from_slice(body).map_err(|err| {
        bad(format!("the body is not what the description says (line {}, column {})", err.line(), err.column()))
    })?;
    let nul = |text: &String| text.contains('\0');
    if ask.command.is_empty() {
        return Err(bad("there is no command".to_owned()));
    }
    if ask.command.iter().chain(&ask.environment).chain(&ask.working_dir).chain(&ask.user).any(nul) {
        return Err(bad("a NUL cannot be part of a command".to_owned()));
    }
    if ask.environment.iter().any(|variable| variable.is_empty() || variable.starts_with('=')) {
        return Err(bad("a variable has no name".to_owned()));
    }
    if let Some(folder) = ask.working_dir.as_ref().filter(|folder| !folder.starts_with('/')) {
        return Err(bad(format!("the working directory {folder:?} is not absolute")));
    }
    if ask.detach && (ask.stdin || ask.terminal.is_some()) {
        return Err(bad("a detached command has neither input nor terminal".to_owned()));
    }
    Ok(ask)
}

fn runs(container: &ContainerView) -> Result<(), ApiError> {
    let state = match &container.state {
        ContainerStateView::Running { .. } => return Ok(()),
        ContainerStateView::Created => "it was not started yet".to_owned(),
        ContainerStateView::Exited { status, .. } => status.to_string(),
        ContainerStateView::StartFailed { error, .. } => format!("it could not be started: {error}"),
        ContainerStateView::Orphaned => "its shim is gone".to_owned(),
    };
    Err(ApiError::NotRunning { name: container.name.to_string(), state: Some(state) })
}
