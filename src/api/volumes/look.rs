//! What is answered at once: which volumes there are, one more, one less.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use crate::api::containers::bad_path;
use crate::api::error::ApiError;
use crate::api::images::json;
use crate::api::status::bad_query;
use crate::api::wire::{PrunedVolumes, RemovedVolume, VolumeAsk, VolumeEntry, VolumePruneAsk, VolumeSnapshot};
use crate::api::{Doors, commands};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct Ask {
    /// Also how large.
    size: bool,
}

type Asked = Result<Query<Ask>, QueryRejection>;
pub(super) type Name = Result<Path<String>, PathRejection>;

pub(in crate::api) async fn list(State(doors): State<Doors>, ask: Asked) -> Result<Json<Vec<VolumeEntry>>, ApiError> {
    let Query(ask) = ask.map_err(|err| bad_query(&err))?;
    Ok(Json(doors.volumes.list(ask.size).await?))
}

pub(in crate::api) async fn show(
    State(doors): State<Doors>,
    name: Name,
    ask: Asked,
) -> Result<Json<VolumeEntry>, ApiError> {
    let (Path(name), Query(ask)) = (name.map_err(bad_path)?, ask.map_err(|err| bad_query(&err))?);
    Ok(Json(doors.volumes.inspect(name, ask.size).await?))
}

pub(in crate::api) async fn create(
    State(doors): State<Doors>,
    body: Result<Json<VolumeAsk>, JsonRejection>,
) -> Result<Json<VolumeEntry>, ApiError> {
    Ok(Json(doors.volumes.create(json(body)?).await?))
}

pub(in crate::api) async fn remove(State(doors): State<Doors>, name: Name) -> Result<Json<RemovedVolume>, ApiError> {
    let Path(name) = name.map_err(bad_path)?;
    // A file may name it since a moment.
    commands::looked(&doors).await?;
    Ok(Json(doors.volumes.remove(name).await?))
}

pub(in crate::api) async fn prune(
    State(doors): State<Doors>,
    body: Result<Json<VolumePruneAsk>, JsonRejection>,
) -> Result<Json<PrunedVolumes>, ApiError> {
    let ask = json(body)?;
    commands::looked(&doors).await?;
    Ok(Json(doors.volumes.prune(ask).await?))
}

pub(in crate::api) async fn snapshots(
    State(doors): State<Doors>,
    name: Name,
) -> Result<Json<Vec<VolumeSnapshot>>, ApiError> {
    let Path(name) = name.map_err(bad_path)?;
    Ok(Json(doors.volumes.snapshots(Some(name)).await?))
}

pub(in crate::api) async fn all_snapshots(State(doors): State<Doors>) -> Result<Json<Vec<VolumeSnapshot>>, ApiError> {
    Ok(Json(doors.volumes.snapshots(None).await?))
}

pub(in crate::api) async fn remove_snapshot(
    State(doors): State<Doors>,
    names: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<VolumeSnapshot>, ApiError> {
    let Path((volume, name)) = names.map_err(bad_path)?;
    Ok(Json(doors.volumes.remove_snapshot(volume, name).await?))
}
