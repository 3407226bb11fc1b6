//! `GET /api/v1/status`, at once or when it changes.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time::timeout;

use super::error::ApiError;
use super::{Doors, wire};
use crate::reconcile::view::View;

/// How long a client may ask to wait.
const LONGEST: u64 = 300;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// Answer when the revision is greater than this.
    wait: Option<u64>,
    /// Answer after so many seconds at the latest, with what there is.
    timeout: Option<u64>,
}

pub(super) async fn show(
    State(doors): State<Doors>,
    ask: Result<Query<Ask>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(ask) = ask.map_err(|err| bad_query(&err))?;
    let view = match ask.wait {
        Some(revision) => changed(&doors, revision, ask.timeout.unwrap_or(30).min(LONGEST)).await,
        None => doors.now(),
    };
    let tag = format!("\"{}-{}\"", doors.release.started.millis(), view.revision);
    if headers.get(IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response());
    }
    Ok(([(ETAG, tag)], Json(wire::Status::from(&*view))).into_response())
}

/// The first view after `revision`, or the present one when the time is over or the daemon stops.
async fn changed(doors: &Doors, revision: u64, seconds: u64) -> Arc<View> {
    let mut view = doors.view.clone();
    let newer = view.wait_for(|v| v.revision > revision);
    // The result does not matter: whatever ended the wait, the present view is the answer.
    let _ = timeout(Duration::from_secs(seconds), newer).await.map(|found| found.is_ok());
    doors.now()
}

pub(super) fn bad_query(err: &QueryRejection) -> ApiError {
    ApiError::BadRequest { message: err.body_text() }
}
