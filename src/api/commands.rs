//! What the one who decides is asked: `POST /api/v1/confirm` and `POST /api/v1/look`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::error::ApiError;
use super::wire::{Confirmed, Looked};
use super::{Command, Doors};

/// The reconciler answers between two steps; a step that takes longer than this is a fault worth saying.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lets a held mass delete go on.
pub(super) async fn confirm(State(doors): State<Doors>) -> Result<Json<Confirmed>, ApiError> {
    let answer = ask(&doors, |reply| Command::Confirm { reply }).await?;
    answer.map(|()| Json(Confirmed { confirmed: true })).map_err(|message| ApiError::Refused { message })
}

/// Looks at the folder now; answers once what was seen is acted upon.
pub(super) async fn look(State(doors): State<Doors>) -> Result<Json<Looked>, ApiError> {
    looked(&doors).await?;
    Ok(Json(Looked { looked: true }))
}

/// The view says what the files say now.
pub(super) async fn looked(doors: &Doors) -> Result<(), ApiError> {
    ask(doors, |reply| Command::Look { reply }).await
}

pub(super) async fn ask<T>(doors: &Doors, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, ApiError> {
    let (reply, answer) = oneshot::channel();
    doors.commands.try_send(command(reply)).map_err(|err| match err {
        TrySendError::Full(_) => unavailable("too many requests are waiting"),
        TrySendError::Closed(_) => unavailable("the daemon is stopping"),
    })?;
    match timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(unavailable("the daemon is stopping")),
        Err(_) => Err(unavailable("the daemon did not answer in time")),
    }
}

fn unavailable(message: &str) -> ApiError {
    ApiError::Unavailable { message: message.to_owned() }
}
