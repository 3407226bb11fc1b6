//! `POST /api/v1/images/verify`

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::Response;

use super::{ask, job};
use crate::api::Doors;
use crate::api::error::ApiError;
use crate::api::wire::VerifyAsk;

pub(in crate::api) async fn verify(
    State(doors): State<Doors>,
    body: Result<Json<VerifyAsk>, JsonRejection>,
) -> Result<Response, ApiError> {
    let (job, findings) = doors.images.verify(ask::json(body)?)?;
    Ok(job::lines_with(job, findings, None))
}
