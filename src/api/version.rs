//! `GET /api/v1/version`

use axum::Json;
use axum::extract::State;

use super::Doors;
use super::wire::Version;

pub(super) async fn show(State(doors): State<Doors>) -> Json<Version> {
    let release = doors.release;
    Json(Version {
        version: release.version,
        commit: release.commit,
        api: "v1".to_owned(),
        pid: release.pid,
        started: release.started.into(),
    })
}
