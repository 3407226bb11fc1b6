//! Commands in containers, from the container room to the API.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::api::wire::ExecAsk;
use crate::api::{ExecControl, ExecDoor, ExecEnd, ExecRefusal, ExecSession};
use crate::container::{self, ExecError, ExecStreams};
use crate::host::LinuxHost;
use crate::model::{ContainerId, ExitStatus};

/// Executes where the host has its containers.
pub(super) struct Execs {
    host: Arc<LinuxHost>,
}

impl Execs {
    pub(super) fn new(host: Arc<LinuxHost>) -> Self {
        Self { host }
    }
}

impl ExecDoor for Execs {
    fn exec(&self, id: &ContainerId, ask: ExecAsk) -> BoxFuture<'static, Result<ExecSession, ExecRefusal>> {
        let (host, id) = (Arc::clone(&self.host), id.clone());
        Box::pin(async move {
            let (command, privileged) = (ask.command.first().cloned().unwrap_or_default(), ask.privileged);
            let exec = host.exec(&id, asked(ask)).await.map_err(refused)?;
            tracing::info!(container = id.short(), command, privileged, "a command is executed");
            Ok(session(exec))
        })
    }
}

fn asked(ask: ExecAsk) -> container::ExecAsk {
    let ExecAsk { command, environment, user, working_dir, privileged, stdin, terminal, detach, index: _ } = ask;
    let streams = match (detach, terminal) {
        (true, _) => ExecStreams::None,
        (false, None) => ExecStreams::Pipes { stdin },
        (false, Some(size)) => ExecStreams::Terminal { rows: size.rows, columns: size.columns },
    };
    container::ExecAsk { command, environment, working_dir, user, privileged, streams }
}

fn session(exec: container::Exec) -> ExecSession {
    let container::Exec { stdin, stdout, stderr, control, ending } = exec;
    ExecSession {
        stdin: stdin.map(|stdin| Box::new(stdin) as _),
        stdout: stdout.map(|stdout| Box::new(stdout) as _),
        stderr: stderr.map(|stderr| Box::new(stderr) as _),
        control: Box::new(Control(control)),
        ended: Box::pin(async move { ending.ended().await.map(ended).map_err(|error| error.to_string()) }),
    }
}

fn ended(end: container::exec::ExecEnd) -> ExecEnd {
    let status = match (end.code, end.signal) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal(signal),
        (None, None) => ExitStatus::ShimLost,
    };
    ExecEnd { code: status.code(), signal: end.signal, container_ended: end.container_ended }
}

struct Control(container::exec::ExecControl);

impl ExecControl for Control {
    fn signal(&self, number: u8) {
        // The helper is gone, and the command with it; its end is on the way.
        if let Err(error) = self.0.signal(number) {
            tracing::debug!(%error, "a signal for a command was not passed on");
        }
    }
    fn resize(&self, rows: u16, columns: u16) {
        if let Err(error) = self.0.resize(rows, columns) {
            tracing::debug!(%error, "the terminal of a command keeps its size");
        }
    }
}

fn refused(error: ExecError) -> ExecRefusal {
    match error {
        ExecError::Unknown | ExecError::NotRunning => ExecRefusal::NotRunning,
        ExecError::Paused => ExecRefusal::NotStarted(error.to_string()),
        ExecError::TooMany => ExecRefusal::TooMany(error.to_string()),
        ExecError::NotFound(words) => ExecRefusal::NotFound(words),
        ExecError::NotStarted(words) => ExecRefusal::NotStarted(words),
        ExecError::Helper { step, source } => ExecRefusal::Failed(format!("{step}: {source}")),
    }
}
