//! `GET /api/v1/jobs`: the services that run at set times. `POST …/jobs/{project}/{service}/run`: one more run, now.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};

use super::commands::ask;
use super::containers::bad_path;
use super::error::ApiError;
use super::wire::Job;
use super::{Command, Doors};
use crate::model::{ProjectName, ServiceName};

pub(super) async fn list(State(doors): State<Doors>) -> Json<Vec<Job>> {
    Json(doors.now().jobs.iter().map(Job::from).collect())
}

pub(super) async fn run(
    State(doors): State<Doors>,
    names: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Job>, ApiError> {
    let Path((project, service)) = names.map_err(bad_path)?;
    let unknown = || ApiError::NoContainer { name: format!("{project}/{service}").chars().take(256).collect() };
    let of_project = ProjectName::parse(&project).map_err(|_| unknown())?;
    let of_service = ServiceName::parse(&service).map_err(|_| unknown())?;
    let asked = ask(&doors, |reply| Command::RunJob { project: of_project, service: of_service, reply }).await?;
    asked.map_err(|message| ApiError::Refused { message })?;
    let view = doors.now();
    let job = view.jobs.iter().find(|job| job.project.as_str() == project && job.service.as_str() == service);
    job.map(|job| Json(Job::from(job))).ok_or_else(unknown)
}
