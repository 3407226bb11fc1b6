//! `GET /api/v1/containers` and `GET /api/v1/containers/{name}`

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};

use super::error::ApiError;
use super::wire::Container;
use super::{Doors, find};

pub(super) async fn list(State(doors): State<Doors>) -> Json<Vec<Container>> {
    Json(find::containers(&doors.now()).map(Container::from).collect())
}

pub(super) async fn show(
    State(doors): State<Doors>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Container>, ApiError> {
    let Path(name) = name.map_err(bad_path)?;
    let view = doors.now();
    let found = find::container(&view, &name)?;
    let mut container = Container::from(found);
    if let Some(health) = &mut container.health
        && let Some((failing, checks)) = doors.checks.made(&found.id)
    {
        (health.failing, health.checks) = (failing, checks);
    }
    Ok(Json(container))
}

/// Percent escapes that are not UTF-8.
#[expect(clippy::needless_pass_by_value, reason = "the shape map_err asks for")]
pub(super) fn bad_path(err: PathRejection) -> ApiError {
    ApiError::BadRequest { message: err.body_text() }
}
