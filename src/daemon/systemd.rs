//! Telling systemd: ready, a status line, still alive. Does nothing where no one listens (`NOTIFY_SOCKET`).

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot, watch};

use crate::reconcile::Command;
use crate::reconcile::view::View;

/// Tells that the daemon is ready once the first look was acted upon, then that it is alive as long as its loop goes round.
pub(super) async fn tell(mut view: watch::Receiver<Arc<View>>, commands: mpsc::Sender<Command>) {
    if view.wait_for(|view| view.ready).await.is_err() {
        return;
    }
    notify(&[NotifyState::Ready]);
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    loop {
        tokio::time::sleep(period / 2).await;
        if alive(&commands, period / 4).await {
            notify(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("the reconcile loop does not answer; the watchdog is not fed");
        }
    }
}

async fn alive(commands: &mpsc::Sender<Command>, limit: Duration) -> bool {
    let (reply, answer) = oneshot::channel();
    let asked = tokio::time::timeout(limit, async {
        commands.send(Command::Alive(reply)).await.is_ok() && answer.await.is_ok()
    });
    asked.await.unwrap_or(false)
}

pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

pub(super) fn reloading() {
    notify(&[NotifyState::Status("reloading the configuration")]);
}

pub(super) fn reloaded() {
    notify(&[NotifyState::Status("")]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
