//! What the daemon hands in: commands in containers, with streams.

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::api::error::ApiError;
use crate::api::wire::ExecAsk;
use crate::model::ContainerId;

/// Where commands are executed.
pub trait ExecDoor: Send + Sync {
    /// Executes a command; done when it runs.
    fn exec(&self, id: &ContainerId, ask: ExecAsk) -> BoxFuture<'static, Result<ExecSession, ExecRefusal>>;
}

/// A command that runs.
pub struct ExecSession {
    /// What it reads; none where it reads nothing.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// What it writes, or its terminal.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Its errors.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Dropped, the command is hung up.
    pub control: Box<dyn ExecControl>,
    /// Its end, or why that is not known.
    pub ended: BoxFuture<'static, Result<ExecEnd, String>>,
}

/// What can be done to a command that runs. One that has ended does not mind.
pub trait ExecControl: Send + Sync {
    /// Sends it a signal, by number.
    fn signal(&self, number: u8);
    /// Its terminal has another size.
    fn resize(&self, rows: u16, columns: u16);
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecEnd {
    /// The code a shell would show.
    pub code: u8,
    /// The signal that ended it.
    pub signal: Option<u8>,
    /// Whether its container ended, and it with it.
    pub container_ended: bool,
}

/// Why a command is not executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecRefusal {
    /// There is no such container any more, or it does not run.
    NotRunning,
    /// Enough is under way.
    TooMany(String),
    /// The container has no such command.
    NotFound(String),
    /// It could not be started there.
    NotStarted(String),
    /// Something of the daemon's own.
    Failed(String),
}

impl ExecRefusal {
    pub(super) fn of(self, container: &str) -> ApiError {
        match self {
            Self::NotRunning => ApiError::NotRunning { name: container.to_owned(), state: None },
            Self::TooMany(message) => ApiError::Unavailable { message },
            Self::NotFound(message) => ApiError::NotExecuted { message, exit_code: 127 },
            Self::NotStarted(message) => ApiError::NotExecuted { message, exit_code: 126 },
            Self::Failed(message) => ApiError::Failed { message },
        }
    }
}
