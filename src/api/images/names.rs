//! `POST /api/v1/images/tag`, `POST /api/v1/images/remove` and `POST /api/v1/images/pin`

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;

use super::ask::json;
use crate::api::Doors;
use crate::api::error::ApiError;
use crate::api::wire::{PinAsk, Pinned, RemoveAsk, RemovedImage, TagAsk, Tagged};

pub(in crate::api) async fn tag(
    State(doors): State<Doors>,
    body: Result<Json<TagAsk>, JsonRejection>,
) -> Result<Json<Tagged>, ApiError> {
    Ok(Json(doors.images.tag(json(body)?).await?))
}

pub(in crate::api) async fn remove(
    State(doors): State<Doors>,
    body: Result<Json<RemoveAsk>, JsonRejection>,
) -> Result<Json<RemovedImage>, ApiError> {
    Ok(Json(doors.images.remove(json(body)?).await?))
}

pub(in crate::api) async fn pin(
    State(doors): State<Doors>,
    body: Result<Json<PinAsk>, JsonRejection>,
) -> Result<Json<Pinned>, ApiError> {
    Ok(Json(doors.images.pin(json(body)?).await?))
}
