//! Signals: stop, reload, dump.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::config::{Config, Flags};
use super::{systemd, trace};
use crate::reconcile::Command;

/// The signals that the daemon listens to.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    dump: Signal,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            dump: signal(SignalKind::user_defined1())?,
        })
    }

    /// Returns when the daemon is to stop; answers the other signals meanwhile.
    pub(super) async fn until_stop(
        &mut self,
        config: &Config,
        flags: &Flags,
        level: &trace::Level,
        commands: &mpsc::Sender<Command>,
    ) {
        let mut config = config.clone();
        loop {
            // Each arm only waits for a signal; none is lost when another one comes first.
            let command = tokio::select! {
                _ = self.terminate.recv() => return tracing::info!("SIGTERM: the daemon stops; containers run on"),
                _ = self.interrupt.recv() => return tracing::info!("SIGINT: the daemon stops; containers run on"),
                _ = self.dump.recv() => Command::Dump,
                _ = self.hangup.recv() => {
                    reload(&mut config, flags, level);
                    Command::Look(None)
                }
            };
            if commands.send(command).await.is_err() {
                return;
            }
        }
    }

    /// A second request to stop does not wait.
    pub(super) async fn again(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Takes over what can change while the daemon runs, and says what cannot.
fn reload(config: &mut Config, flags: &Flags, level: &trace::Level) {
    systemd::reloading();
    match Config::load(flags) {
        Ok(new) => {
            level.debug(new.debug);
            let rest = config.needs_restart(&new);
            if rest.is_empty() {
                tracing::info!("SIGHUP: the configuration was read again");
            } else {
                tracing::warn!(
                    keys = rest.join(", "),
                    "SIGHUP: the configuration was read again; these need a restart"
                );
            }
            config.debug = new.debug;
        }
        Err(problems) => {
            for problem in problems {
                tracing::error!(%problem, "SIGHUP: the configuration stays as it was");
            }
        }
    }
    systemd::reloaded();
}
