//! Why a command ends without its answer.

use std::io;
use std::path::PathBuf;

use crate::api::wire::ErrorFacts;

/// Why a command ends without its answer. Printed once, as `longshore: …`.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(
        "no daemon answers at {}: is `longshore daemon` running?\n  another socket is named by --socket PATH or LONGSHORE_SOCKET",
        path.display()
    )]
    NoDaemon { path: PathBuf },
    #[error("nobody listens at {}: the daemon that made it has ended; start it with `longshore daemon`", path.display())]
    NobodyListens { path: PathBuf },
    #[error("you may not connect to {}: it is open to {who}", path.display())]
    NotAllowed { path: PathBuf, who: String },
    #[error("cannot connect to {}: {err}", path.display())]
    Connect { path: PathBuf, err: io::Error },
    #[error("the daemon at {} did not answer within {seconds} s", path.display())]
    Silent { path: PathBuf, seconds: u64 },
    #[error("the daemon closed the connection: {err}")]
    Broken { err: hyper::Error },
    #[error("what answers at {} does not speak as a Longshore daemon: {why}", path.display())]
    Strange { path: PathBuf, why: String },
    #[error("{}{}", facts.message, facts.hint.as_ref().map_or_else(String::new, |h| format!("\n  {h}")))]
    Refused { facts: ErrorFacts },
    #[error("{0}")]
    Said(String),
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

impl Failure {
    /// What the program ends with.
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { facts: ErrorFacts { exit_code: Some(code), .. } } => *code,
            _ => 1,
        }
    }

    /// Whether the reader of the output went away, as `head` does: no error, and nobody to tell.
    pub(super) fn reader_left(&self) -> bool {
        matches!(self, Self::Output(err) if err.kind() == io::ErrorKind::BrokenPipe)
    }
}
