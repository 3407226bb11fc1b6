//! The generations of a service: what they are, how two of them differ, going back, and trying again.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use super::commands::ask;
use super::containers::bad_path;
use super::error::ApiError;
use super::openapi::{Answer, Ask, Operation, get, of, post};
use super::wire::{Decided, GenerationDiff, History, ResumeAsk, RollbackAsk};
use super::{Command, Doors};
use crate::model::{ProjectName, ServiceName};
use crate::reconcile::Wish;

/// Which two are compared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Two {
    from: u32,
    to: Option<u32>,
}

pub(super) async fn show(
    State(doors): State<Doors>,
    names: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<History>, ApiError> {
    let Path((project, service)) = names.map_err(bad_path)?;
    let (of_project, of_service) = known(&doors, &project, &service)?;
    let view = ask(&doors, |reply| Command::History { project: of_project, service: of_service, reply }).await?;
    Ok(Json(History::new(project, service, &view.unwrap_or_default())))
}

pub(super) async fn compare(
    State(doors): State<Doors>,
    names: Result<Path<(String, String)>, PathRejection>,
    two: Result<Query<Two>, QueryRejection>,
) -> Result<Json<GenerationDiff>, ApiError> {
    let Path((project, service)) = names.map_err(bad_path)?;
    let Query(Two { from, to }) = two.map_err(|error| ApiError::BadRequest { message: error.body_text() })?;
    let (project, service) = known(&doors, &project, &service)?;
    let found = ask(&doors, |reply| Command::Compare { project, service, from, to, reply }).await?;
    found.map(|found| Json(GenerationDiff::from(&found))).map_err(|message| ApiError::Refused { message })
}

pub(super) async fn rollback(
    State(doors): State<Doors>,
    asked: Result<Json<RollbackAsk>, JsonRejection>,
) -> Result<Json<Decided>, ApiError> {
    let Json(RollbackAsk { project, service, generation }) = asked.map_err(|error| bad_body(&error))?;
    decide(&doors, &project, service.as_deref(), Wish::Back(generation)).await
}

pub(super) async fn resume(
    State(doors): State<Doors>,
    asked: Result<Json<ResumeAsk>, JsonRejection>,
) -> Result<Json<Decided>, ApiError> {
    let Json(ResumeAsk { project, service }) = asked.map_err(|error| bad_body(&error))?;
    decide(&doors, &project, service.as_deref(), Wish::Resume).await
}

async fn decide(doors: &Doors, project: &str, service: Option<&str>, wish: Wish) -> Result<Json<Decided>, ApiError> {
    let bad = |message: String| ApiError::BadRequest { message };
    let project = ProjectName::parse(project).map_err(|error| bad(error.to_string()))?;
    let service = service.map(ServiceName::parse).transpose().map_err(|error| bad(error.to_string()))?;
    let answer = ask(doors, |reply| Command::Wish { project, service, wish, reply }).await?;
    answer.map(|done| Json(Decided { done })).map_err(|message| ApiError::Refused { message })
}

fn bad_body(error: &JsonRejection) -> ApiError {
    ApiError::BadRequest { message: error.body_text() }
}

/// A service that a file defines, or of which a container is here.
fn known(doors: &Doors, project: &str, service: &str) -> Result<(ProjectName, ServiceName), ApiError> {
    let unknown = || ApiError::NoContainer { name: format!("{project}/{service}").chars().take(256).collect() };
    let names = ProjectName::parse(project).ok().zip(ServiceName::parse(service).ok()).ok_or_else(unknown)?;
    let view = doors.now();
    let seen = view.projects.iter().find(|p| p.name == names.0).map(|p| p.services.iter().any(|s| s.name == names.1));
    if seen == Some(true) { Ok(names) } else { Err(unknown()) }
}

pub(super) fn of_services() -> Vec<Operation> {
    vec![
        get(
            "/api/v1/services/{project}/{service}/history",
            "The generations of a service: what was asked for, one after the other, and how it went",
            &[],
            Answer::Json(of::<History>),
        ),
        get(
            "/api/v1/services/{project}/{service}/diff",
            "How two generations of a service differ",
            &[("from", "the one's number"), ("to", "the other's number; the one in force where it is left out")],
            Answer::Json(of::<GenerationDiff>),
        ),
    ]
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        post(
            "/api/v1/rollback",
            "Goes back to a generation of a service, or of all services of a project; answers once that is on disk; 409 where there is \
             none to go back to",
            Ask::Json(of::<RollbackAsk>),
            Answer::Json(of::<Decided>),
        ),
        post(
            "/api/v1/resume",
            "Tries again what is set aside; answers once that is on disk; 409 where nothing is",
            Ask::Json(of::<ResumeAsk>),
            Answer::Json(of::<Decided>),
        ),
    ]
}
