//! `POST /api/v1/run`: a container of a service, once, with another command. `GET` and `DELETE …/run/{name}`: how far it is, and away
//! with it.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use tokio::time::timeout;

use super::commands::ask;
use super::containers::bad_path;
use super::error::ApiError;
use super::wire::{RunAsk, RunEnded, RunState};
use super::{Command, Doors, find};
use crate::model::{EnvVar, TaskAsk};
use crate::reconcile::view::{TaskView, View};

/// The status shows it with the next step.
const SHOWN: Duration = Duration::from_secs(10);

pub(super) async fn start(State(doors): State<Doors>, body: Bytes) -> Result<Json<RunState>, ApiError> {
    let RunAsk { service, command, entrypoint, environment, user, working_dir, keep, detach } = read(&body)?;
    let (project, service) = find::service(&doors.now(), &service)?;
    let environment = environment.into_iter().map(variable).collect();
    let wanted = Box::new(TaskAsk { command, entrypoint, environment, user, working_dir, keep, detach });
    let asked = ask(&doors, |reply| Command::RunTask { project, service, ask: wanted, reply }).await?;
    let (id, name) = asked.map_err(|message| ApiError::Refused { message })?;
    let mut view = doors.view.clone();
    let shown = timeout(SHOWN, view.wait_for(|view| view.tasks.iter().any(|task| task.id == id))).await;
    let state = shown.ok().and_then(Result::ok).and_then(|view| task(&view, id.as_str()).map(RunState::from));
    let late = || ApiError::Unavailable { message: format!("{name} is asked for, and the daemon does not go on") };
    state.map(Json).ok_or_else(late)
}

pub(super) async fn show(
    State(doors): State<Doors>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<RunState>, ApiError> {
    let Path(name) = name.map_err(bad_path)?;
    let view = doors.now();
    let unknown = || ApiError::NoContainer { name: name.chars().take(256).collect() };
    task(&view, &name).map(|task| Json(RunState::from(task))).ok_or_else(unknown)
}

pub(super) async fn end(
    State(doors): State<Doors>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<RunEnded>, ApiError> {
    let Path(name) = name.map_err(bad_path)?;
    let asked = ask(&doors, |reply| Command::EndTask { name: name.clone(), reply }).await?;
    asked.map_err(|_| ApiError::NoContainer { name: name.chars().take(256).collect() })?;
    Ok(Json(RunEnded { name }))
}

fn task<'v>(view: &'v View, name: &str) -> Option<&'v TaskView> {
    view.tasks.iter().find(|task| task.id.as_str() == name || task.name.as_str() == name)
}

/// The parser's own words may quote what was sent; only the place is told.
fn read(body: &Bytes) -> Result<RunAsk, ApiError> {
    let bad = |message: String| ApiError::BadRequest { message };
    let ask: RunAsk = serde_json::from_slice(body).map_err(|err| {
        bad(format!("the body is not what the description says (line {}, column {})", err.line(), err.column()))
    })?;
    if ask.service.is_empty() {
        return Err(bad("there is no service".to_owned()));
    }
    let texts = ask.command.iter().chain(&ask.environment).chain(&ask.working_dir).chain(&ask.user);
    if texts.chain(&ask.entrypoint).any(|text| text.contains('\0')) {
        return Err(bad("a NUL cannot be part of a command".to_owned()));
    }
    if ask.environment.iter().any(|variable| variable.is_empty() || variable.starts_with('=')) {
        return Err(bad("a variable has no name".to_owned()));
    }
    if let Some(folder) = ask.working_dir.as_ref().filter(|folder| !folder.starts_with('/')) {
        return Err(bad(format!("the working directory {folder:?} is not absolute")));
    }
    Ok(ask)
}

fn variable(text: String) -> EnvVar {
    match text.split_once('=') {
        Some((name, value)) => EnvVar { name: name.to_owned(), value: Some(value.to_owned()) },
        None => EnvVar { name: text, value: None },
    }
}
