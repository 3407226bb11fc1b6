//! `GET /api/v1/plan`

use axum::Json;
use axum::extract::State;

use super::{Doors, wire};

pub(super) async fn show(State(doors): State<Doors>) -> Json<wire::Plan> {
    Json(wire::Plan::from(&*doors.now()))
}
