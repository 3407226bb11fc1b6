//! `POST /api/v1/images/commit`

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::Response;

use super::{ask, job};
use crate::api::error::ApiError;
use crate::api::wire::CommitAsk;
use crate::api::{Doors, find};

pub(in crate::api) async fn commit(
    State(doors): State<Doors>,
    body: Result<Json<CommitAsk>, JsonRejection>,
) -> Result<Response, ApiError> {
    let asked = ask::json(body)?;
    let id = find::replica(&doors.now(), &asked.container, asked.index)?.id.clone();
    Ok(job::lines(doors.images.commit(&id, asked)?, None))
}
