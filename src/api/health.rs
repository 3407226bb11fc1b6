//! `GET /healthz`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::Doors;
use super::wire::Health;

pub(super) async fn show(State(doors): State<Doors>) -> (StatusCode, Json<Health>) {
    let view = doors.now();
    let reason = (!view.ready).then(|| "the first look at the folder and the host is not done yet".to_owned());
    let code = if view.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Health { ready: view.ready, settled: view.settled, revision: view.revision, reason }))
}
