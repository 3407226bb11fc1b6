//! One check: a command in the container, or a connection that a helper makes in its network. Neither takes longer than it may, and
//! of what is said only the beginning is kept.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::{Instant, timeout, timeout_at};

use super::link::{ProbeOrder, ProbeReport};
use crate::container::Containers;
use crate::container::exec::{Exec, ExecAsk, ExecEnd, ExecError, ExecStreams};
use crate::container::record::HealthCheckRecord;
use crate::model::{Check, ContainerId, HealthCheck, HealthTest, ProcessId};

/// So much of what a check says is kept.
pub(super) const LONGEST_OUTPUT: usize = 4 * 1024;
/// Who was killed is gone in a moment.
const DYING: Duration = Duration::from_secs(2);
/// What it wrote last is read for so long; who left something running that holds the pipe is not waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);
const LONGEST_REPORT: u64 = 64 * 1024;
/// As Docker tells of a check that took too long.
const TOO_LONG: i32 = -1;

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) code: i32,
    pub(super) output: String,
}

impl Outcome {
    fn failed(output: impl Into<String>) -> Self {
        Self { code: 1, output: output.into() }
    }
}

/// Makes a check. None: the container has ended or is held still, or it was not made for want of room.
pub(super) async fn run(all: &Containers, id: &ContainerId, init: ProcessId, check: &Check) -> Option<Outcome> {
    let limit = Duration::from_millis(check.times.timeout_ms);
    // Who is held still cannot answer.
    if all.paused().contains(id) {
        return None;
    }
    match &check.test {
        HealthTest::Nothing => None,
        HealthTest::Command(words) => command(all, id, words.clone(), limit).await,
        HealthTest::Shell(line) => {
            let words = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
            command(all, id, words, limit).await
        }
        HealthTest::Probe(_) => probe(all, id, init, &check.test, limit).await,
    }
}

async fn command(all: &Containers, id: &ContainerId, command: Vec<String>, limit: Duration) -> Option<Outcome> {
    let until = Instant::now() + limit;
    let streams = ExecStreams::Pipes { stdin: false };
    let ask = ExecAsk { command, environment: Vec::new(), working_dir: None, user: None, privileged: false, streams };
    let exec = match timeout_at(until, all.exec(id, ask)).await {
        Ok(Ok(exec)) => exec,
        Ok(Err(ExecError::Unknown | ExecError::NotRunning | ExecError::TooMany | ExecError::Paused)) => return None,
        Ok(Err(error @ ExecError::NotFound(_))) => return Some(Outcome { code: 127, output: error.to_string() }),
        Ok(Err(error @ (ExecError::NotStarted(_) | ExecError::Helper { .. }))) => {
            return Some(Outcome { code: 126, output: crate::model::sentence(&error) });
        }
        Err(_) => return Some(too_long(limit, "")),
    };
    let Exec { stdin: _, stdout, stderr, control, ending } = exec;
    let said = Mutex::new(Vec::new());
    let mut reading = std::pin::pin!(async { tokio::join!(listen(stdout, &said), listen(stderr, &said)) });
    let mut ending = std::pin::pin!(ending.ended());
    let (mut silent, mut late) = (false, false);
    let ended = loop {
        // Both stay where they are until they are through.
        tokio::select! {
            ended = &mut ending => break Some(ended),
            _ = &mut reading, if !silent => silent = true,
            () = tokio::time::sleep_until(until), if !late => {
                late = true;
                // An error only says that it is over.
                let _ = control.signal(9);
            }
            () = tokio::time::sleep_until(until + DYING), if late => break None,
        }
    };
    if !silent {
        // What is not read by then is not kept.
        let _ = timeout(LAST_WORDS, &mut reading).await;
    }
    drop(control);
    let output = words(&said.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    match ended {
        Some(Ok(ExecEnd { container_ended: true, .. })) => None,
        _ if late => Some(too_long(limit, &output)),
        Some(Ok(end)) => Some(Outcome { code: code(end), output }),
        Some(Err(error)) => Some(Outcome::failed(error.to_string())),
        None => Some(too_long(limit, &output)),
    }
}

fn code(end: ExecEnd) -> i32 {
    match (end.code, end.signal) {
        (Some(code), _) => code.into(),
        (None, Some(signal)) => 128 + i32::from(signal),
        (None, None) => 1,
    }
}

fn too_long(limit: Duration, output: &str) -> Outcome {
    let note = format!("it took longer than {} ms and was ended", limit.as_millis());
    let output = if output.is_empty() { note } else { format!("{note}: {output}") };
    Outcome { code: TOO_LONG, output }
}

/// To its end; what is beyond the beginning is read and forgotten, so that whoever writes it does not wait.
async fn listen(stream: Option<impl AsyncRead + Unpin>, said: &Mutex<Vec<u8>>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = [0; 4096];
    loop {
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        let mut said = said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let room = LONGEST_OUTPUT.saturating_sub(said.len());
        said.extend_from_slice(&buffer[..count.min(room)]);
    }
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_OUTPUT)]).trim_end().to_owned()
}

async fn probe(
    all: &Containers,
    id: &ContainerId,
    init: ProcessId,
    test: &HealthTest,
    limit: Duration,
) -> Option<Outcome> {
    let check = HealthCheck { test: Some(test.clone()), ..HealthCheck::default() };
    let order = ProbeOrder {
        init: init.into(),
        cgroup: all.0.cgroups.path(id),
        check: HealthCheckRecord::from(&check),
        limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
    };
    // The helper keeps the limit itself, and says more; this is for one that does not.
    match timeout(limit + DYING, ask(all, &order)).await {
        Ok(Ok(ProbeReport::Passed(output))) => Some(Outcome { code: 0, output: words(output.as_bytes()) }),
        Ok(Ok(ProbeReport::Failed(output))) => Some(Outcome::failed(words(output.as_bytes()))),
        Ok(Ok(ProbeReport::ContainerEnded)) => None,
        Ok(Err(error)) => Some(Outcome::failed(format!("the helper that connects to it failed: {error}"))),
        Err(_) => Some(too_long(limit, "")),
    }
}

async fn ask(all: &Containers, order: &ProbeOrder) -> io::Result<ProbeReport> {
    let json = serde_json::to_vec(order)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = Command::new(all.0.exe.path());
    command.arg0("longshore").args(["runtime", "probe"]).env_clear().current_dir("/");
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child = command.spawn()?;
    // The other end is the child's alone.
    drop(command);
    let mut socket = UnixStream::from_std(ours)?;
    socket.write_all(&length.to_be_bytes()).await?;
    socket.write_all(&json).await?;
    let mut said = Vec::new();
    (&mut socket).take(LONGEST_REPORT).read_to_end(&mut said).await?;
    child.wait().await?;
    serde_json::from_slice(&said).map_err(io::Error::from)
}
