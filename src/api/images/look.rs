//! `GET /api/v1/images`, `GET /api/v1/images/inspect` and `GET /api/v1/images/history`

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;

use crate::api::Doors;
use crate::api::error::ApiError;
use crate::api::status::bad_query;
use crate::api::wire::{HistoryEntry, ImageDetails, ImageEntry};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Ask {
    /// A name, a digest or the beginning of one.
    name: String,
}

type Asked = Result<Query<Ask>, QueryRejection>;

pub(in crate::api) async fn list(State(doors): State<Doors>) -> Result<Json<Vec<ImageEntry>>, ApiError> {
    Ok(Json(doors.images.list().await?))
}

pub(in crate::api) async fn inspect(State(doors): State<Doors>, ask: Asked) -> Result<Json<ImageDetails>, ApiError> {
    let Query(ask) = ask.map_err(|err| bad_query(&err))?;
    Ok(Json(doors.images.inspect(ask.name).await?))
}

pub(in crate::api) async fn history(
    State(doors): State<Doors>,
    ask: Asked,
) -> Result<Json<Vec<HistoryEntry>>, ApiError> {
    let Query(ask) = ask.map_err(|err| bad_query(&err))?;
    Ok(Json(doors.images.history(ask.name).await?))
}
