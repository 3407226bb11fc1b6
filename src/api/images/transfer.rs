//! `POST /api/v1/images/pull` and `POST /api/v1/images/push`

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::Response;

use super::{ask, job};
use crate::api::Doors;
use crate::api::error::ApiError;
use crate::api::wire::{PullAsk, PushAsk};

pub(in crate::api) async fn pull(
    State(doors): State<Doors>,
    body: Result<Json<PullAsk>, JsonRejection>,
) -> Result<Response, ApiError> {
    Ok(job::lines(doors.images.pull(ask::json(body)?)?, None))
}

pub(in crate::api) async fn push(
    State(doors): State<Doors>,
    body: Result<Json<PushAsk>, JsonRejection>,
) -> Result<Response, ApiError> {
    Ok(job::lines(doors.images.push(ask::json(body)?)?, None))
}
