//! `POST /api/v1/images/prune`

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;

use super::ask::json;
use crate::api::Doors;
use crate::api::error::ApiError;
use crate::api::wire::{PruneAsk, Pruned};

pub(in crate::api) async fn prune(
    State(doors): State<Doors>,
    body: Result<Json<PruneAsk>, JsonRejection>,
) -> Result<Json<Pruned>, ApiError> {
    Ok(Json(doors.images.prune(json(body)?).await?))
}
