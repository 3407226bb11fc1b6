//! `GET /api/v1/system/df`

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::Doors;
use super::error::ApiError;
use super::status::bad_query;
use super::wire::DiskUse;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ask {
    /// Also each thing by itself.
    items: bool,
}

pub(super) async fn df(
    State(doors): State<Doors>,
    ask: Result<Query<Ask>, QueryRejection>,
) -> Result<Json<DiskUse>, ApiError> {
    let Query(ask) = ask.map_err(|err| bad_query(&err))?;
    let mut all = doors.images.disk_use(ask.items).await?;
    all.rows.extend(doors.volumes.disk_use(ask.items).await?);
    Ok(Json(all))
}
