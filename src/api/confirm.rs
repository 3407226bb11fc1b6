//! `POST /api/v1/confirm`: lets a held mass delete go on.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::error::ApiError;
use super::wire::Confirmed;
use super::{Command, Doors};

/// The reconciler answers between two steps; a step that takes longer than this is a fault worth saying.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn confirm(State(doors): State<Doors>) -> Result<Json<Confirmed>, ApiError> {
    let (reply, answer) = oneshot::channel();
    doors.commands.try_send(Command::Confirm { reply }).map_err(|err| match err {
        TrySendError::Full(_) => unavailable("too many requests are waiting"),
        TrySendError::Closed(_) => unavailable("the daemon is stopping"),
    })?;
    match timeout(PATIENCE, answer).await {
        Ok(Ok(Ok(()))) => Ok(Json(Confirmed { confirmed: true })),
        Ok(Ok(Err(message))) => Err(ApiError::Refused { message }),
        Ok(Err(_)) => Err(unavailable("the daemon is stopping")),
        Err(_) => Err(unavailable("the daemon did not take the confirmation in time")),
    }
}

fn unavailable(message: &str) -> ApiError {
    ApiError::Unavailable { message: message.to_owned() }
}
