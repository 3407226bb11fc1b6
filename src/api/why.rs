//! `GET /api/v1/services/{project}/{service}/why`: what happened to a service, and why.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};

use super::commands::ask;
use super::containers::bad_path;
use super::error::ApiError;
use super::wire::Why;
use super::{Command, Doors};
use crate::model::{ProjectName, ServiceName};

pub(super) async fn show(
    State(doors): State<Doors>,
    names: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Why>, ApiError> {
    let Path((project, service)) = names.map_err(bad_path)?;
    let unknown = || ApiError::NoContainer { name: format!("{project}/{service}").chars().take(256).collect() };
    let (Ok(of_project), Ok(of_service)) = (ProjectName::parse(&project), ServiceName::parse(&service)) else {
        return Err(unknown());
    };
    let causes = ask(&doors, |reply| Command::Why { project: of_project, service: of_service, reply }).await?;
    let view = doors.now();
    let seen = view.projects.iter().find(|p| p.name.as_str() == project);
    let seen = seen.and_then(|p| p.services.iter().find(|s| s.name.as_str() == service));
    if causes.is_none() && seen.is_none() {
        return Err(unknown());
    }
    let causes = causes.unwrap_or_default();
    Ok(Json(Why::new(project, service, &causes, seen)))
}
