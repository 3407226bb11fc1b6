//! `GET /api/v1/networks` and `GET /api/v1/networks/{name}`

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};

use super::containers::bad_path;
use super::error::ApiError;
use super::wire::Network;
use super::{Doors, find};

pub(super) async fn list(State(doors): State<Doors>) -> Json<Vec<Network>> {
    Json(doors.now().networks.iter().map(Network::from).collect())
}

pub(super) async fn show(
    State(doors): State<Doors>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Network>, ApiError> {
    let Path(name) = name.map_err(bad_path)?;
    find::network(&doors.now(), &name).map(|network| Json(network.into()))
}
