//! Commands that are executed in a container that runs.
//!
//! The daemon does not enter containers: that forks, and the daemon has threads. It starts a helper (`longshore runtime exec`),
//! which enters, starts the command, sends back the ends of its streams, and waits for it.
//!
//! ```text
//! place? ─▶ helper ─▶ order ─▶ Failed, or Started with the streams ─▶ signals, sizes ─▶ Ended
//! ```
//! A command lives no longer than whoever asked for it: once [`ExecControl`] is gone (dropped, or the daemon killed), the helper
//! sends its process group SIGHUP, and SIGKILL after a while. One without streams is on its own.

pub mod link;
pub mod socket;
pub mod terminal;

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Containers, launch};
use crate::model::{ContainerId, ContainerState};
pub use link::{ExecAsk, ExecEnd, ExecStreams};
use link::{ExecFailure, ExecOrder, ExecReport};

/// Commands with streams at the same time, in all containers together.
const PLACES: usize = 256;
static ROOM: Semaphore = Semaphore::const_new(PLACES);
/// A helper that says nothing for so long is ended.
const LIMIT: Duration = Duration::from_secs(30);

/// Why a command was not executed.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// There is none.
    #[error("no such container")]
    Unknown,
    /// There is nothing to enter.
    #[error("the container does not run")]
    NotRunning,
    /// Nothing moves in it.
    #[error("the container is paused; `longshore unpause` lets it go on")]
    Paused,
    /// Enough is under way.
    #[error("{PLACES} commands are being executed, no more are at the same time")]
    TooMany,
    /// The container does not have it.
    #[error("{0}")]
    NotFound(String),
    /// It could not be started there.
    #[error("{0}")]
    NotStarted(String),
    /// The helper.
    #[error("{step}")]
    Helper {
        step: &'static str,
        #[source]
        source: io::Error,
    },
}

/// A command that runs.
pub struct Exec {
    /// What it reads; none where it reads nothing.
    pub stdin: Option<Sender>,
    /// What it writes, or its terminal; none where it writes nowhere.
    pub stdout: Option<Receiver>,
    /// Its errors; none with a terminal.
    pub stderr: Option<Receiver>,
    /// To be kept for as long as it is to run.
    pub control: ExecControl,
    /// Its end.
    pub ending: ExecEnding,
}

/// What can be done to it. Dropped, it hangs up.
pub struct ExecControl {
    signals: OwnedWriteHalf,
    terminal: Option<OwnedFd>,
}

impl ExecControl {
    /// Sends its process group a signal, by number.
    pub fn signal(&self, number: u8) -> io::Result<()> {
        self.signals.as_ref().try_write(&[number]).map(drop)
    }

    /// Its terminal has this size from now on. Nothing to do without one.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        self.terminal.as_ref().map_or(Ok(()), |terminal| terminal::resize(terminal, rows, columns))
    }
}

/// How it will have ended.
pub struct ExecEnding {
    reports: BufReader<OwnedReadHalf>,
    /// Reaped when it ends, by the one who started it.
    _helper: Child,
    _place: Option<SemaphorePermit<'static>>,
}

impl ExecEnding {
    /// Waits for it; an error where its helper was killed (the kernel ends the command then).
    pub async fn ended(mut self) -> io::Result<ExecEnd> {
        let mut line = Vec::new();
        self.reports.read_until(b'\n', &mut line).await?;
        match serde_json::from_slice(&line) {
            Ok(ExecReport::Ended(end)) => Ok(end),
            Ok(ExecReport::Started { .. } | ExecReport::Failed(_)) | Err(_) => {
                Err(io::Error::other("the helper of the command was killed"))
            }
        }
    }
}

impl Containers {
    /// Executes a command in a container that runs; done when it runs.
    pub async fn exec(&self, id: &ContainerId, ask: ExecAsk) -> Result<Exec, ExecError> {
        let init = match self.state(id) {
            None => return Err(ExecError::Unknown),
            Some(ContainerState::Running { init, .. }) => init,
            Some(_) => return Err(ExecError::NotRunning),
        };
        if self.paused().contains(id) {
            return Err(ExecError::Paused);
        }
        // One without streams takes a place only while it is started.
        let place = ROOM.try_acquire().map_err(|_| ExecError::TooMany)?;
        let streams = ask.streams;
        // Which program made it does not matter any more.
        let runtime = self.0.settings.runtime.clone();
        let container = launch::order(&self.0, id, launch::Given::of_running(&self.0, id), runtime);
        let order = ExecOrder { container, init: init.into(), ask };
        let (mut helper, mut socket) = self.helper()?;
        let started = tokio::time::timeout(LIMIT, start(&mut socket, &order)).await;
        let received = match started {
            Ok(started) => started?,
            Err(_) => {
                let step = "the helper that enters the container does not answer";
                let _ = helper.start_kill();
                return Err(ExecError::Helper { step, source: io::ErrorKind::TimedOut.into() });
            }
        };
        let place = (streams != ExecStreams::None).then_some(place);
        assemble(streams, received, helper, socket, place)
            .map_err(|source| ExecError::Helper { step: "the streams of the command cannot be used", source })
    }

    /// With an empty environment: nothing of the daemon's is to reach a container, and a backtrace would only cost time.
    fn helper(&self) -> Result<(Child, UnixStream), ExecError> {
        let fail = |source| ExecError::Helper { step: "the helper that enters the container was not started", source };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(fail)?;
        ours.set_nonblocking(true).map_err(fail)?;
        let mut command = Command::new(self.0.exe.path());
        command.arg0("longshore").args(["runtime", "exec"]).env_clear().current_dir("/");
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(false);
        let helper = command.spawn().map_err(fail)?;
        Ok((helper, UnixStream::from_std(ours).map_err(fail)?))
    }
}

/// Gives the order, and receives the ends of the streams once the command runs.
async fn start(socket: &mut UnixStream, order: &ExecOrder) -> Result<Vec<OwnedFd>, ExecError> {
    let fail = |source| ExecError::Helper { step: "the helper that enters the container ended without a word", source };
    let json = serde_json::to_vec(order).map_err(|e| fail(e.into()))?;
    let length = u32::try_from(json.len()).ok().filter(|length| *length <= link::LONGEST_ORDER);
    let Some(length) = length else {
        return Err(ExecError::NotStarted("the command, its arguments and variables are too long".to_owned()));
    };
    socket.write_all(&length.to_be_bytes()).await.map_err(fail)?;
    socket.write_all(&json).await.map_err(fail)?;
    let (mut said, mut descriptors) = (Vec::new(), Vec::new());
    // Byte by byte at the end of the line: what comes after it is for who waits for the end.
    while said.last() != Some(&b'\n') {
        let mut byte = [0];
        let received = socket.async_io(Interest::READABLE, || socket::receive(&*socket, &mut byte)).await;
        let (count, more) = received.map_err(fail)?;
        if count == 0 {
            return Err(fail(io::ErrorKind::UnexpectedEof.into()));
        }
        said.push(byte[0]);
        descriptors.extend(more);
    }
    match serde_json::from_slice(&said).map_err(|e| fail(e.into()))? {
        ExecReport::Started { .. } => Ok(descriptors),
        ExecReport::Failed(ExecFailure::NotFound(words)) => Err(ExecError::NotFound(words)),
        ExecReport::Failed(ExecFailure::NotStarted(words)) => Err(ExecError::NotStarted(words)),
        ExecReport::Failed(ExecFailure::ContainerEnded) => Err(ExecError::NotRunning),
        ExecReport::Ended(_) => Err(fail(io::ErrorKind::InvalidData.into())),
    }
}

fn assemble(
    streams: ExecStreams,
    received: Vec<OwnedFd>,
    helper: Child,
    socket: UnixStream,
    place: Option<SemaphorePermit<'static>>,
) -> io::Result<Exec> {
    let mut received = received.into_iter();
    let mut next = || received.next().ok_or_else(|| io::Error::other("the helper sent too few descriptors"));
    let (mut stdin, mut stdout, mut stderr, mut terminal) = (None, None, None, None);
    match streams {
        ExecStreams::None => {}
        ExecStreams::Pipes { stdin: wanted } => {
            stdout = Some(Receiver::from_owned_fd(next()?)?);
            stderr = Some(Receiver::from_owned_fd(next()?)?);
            stdin = if wanted { Some(Sender::from_owned_fd(next()?)?) } else { None };
        }
        ExecStreams::Terminal { .. } => {
            let master = next()?;
            // A terminal is read and written as a pipe is; only what these check at first would refuse it. It does not block.
            stdin = Some(Sender::from_owned_fd_unchecked(master.try_clone()?)?);
            stdout = Some(Receiver::from_owned_fd_unchecked(master.try_clone()?)?);
            terminal = Some(master);
        }
    }
    let (reports, signals) = socket.into_split();
    let control = ExecControl { signals, terminal };
    let ending = ExecEnding { reports: BufReader::new(reports), _helper: helper, _place: place };
    Ok(Exec { stdin, stdout, stderr, control, ending })
}
