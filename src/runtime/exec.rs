//! The helper's own life: it has the command started, tells its maker, passes signals on, and waits.
#![expect(unsafe_code, reason = "forks; closes what it does not know")]

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{ForkResult, Pid, dup2_stdin, fork, setsid};
use rustix::process::{PidfdFlags, WaitOptions, WaitStatus, pidfd_open, waitpid};
use serde::de::DeserializeOwned;

use super::inside::{self, Voice, Word};
use super::job::Job;
use super::target::Target;
use crate::container::exec::link::{ExecEnd, ExecFailure, ExecOrder, ExecReport, ExecStreams, LONGEST_ORDER};
use crate::container::exec::socket;

/// Between SIGHUP and SIGKILL, once nobody wants the command any more.
const GRACE: Duration = Duration::from_secs(5);
/// A command that was killed may have been killed with its container; that takes a moment to be seen.
const DYING: Duration = Duration::from_millis(200);

pub(super) fn main() -> ExitCode {
    let Ok(mut daemon) = settle() else { return ExitCode::FAILURE };
    let started = order(&mut daemon).and_then(|order| start(order).map_err(Some));
    let report = match started {
        Ok(Started { command, target, streams, kept }) => {
            let report = ExecReport::Started { pid: command.as_raw() };
            if say(&daemon, &report, &kept).is_err() && streams != ExecStreams::None {
                signal(command, Signal::SIGKILL as i32);
            }
            drop(kept);
            ExecReport::Ended(follow(command, &target, daemon.try_clone().ok(), streams))
        }
        Err(Some(failure)) => ExecReport::Failed(failure),
        // Nobody is left to be told.
        Err(None) => return ExitCode::FAILURE,
    };
    // The daemon may be gone: it was told what it wanted to know.
    let _ = say(&daemon, &report, &[]);
    ExitCode::SUCCESS
}

/// A session of its own, nothing open that it does not know, and nobody may look into it. The socket leaves standard input.
pub(super) fn settle() -> io::Result<UnixStream> {
    // SAFETY: nothing was opened yet; what is above the standard streams was left open by whoever started the daemon.
    if unsafe { libc::close_range(3, u32::MAX, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let daemon = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    setsid()?;
    prctl::set_dumpable(false)?;
    Ok(daemon)
}

/// The order; an error without words where nobody waits for an answer.
fn order(daemon: &mut UnixStream) -> Result<ExecOrder, Option<ExecFailure>> {
    told(daemon).map_err(|words| words.map(ExecFailure::NotStarted))
}

/// Any order; an error without words where nobody waits for an answer.
pub(super) fn told<T: DeserializeOwned>(daemon: &mut UnixStream) -> Result<T, Option<String>> {
    let mut length = [0; 4];
    daemon.read_exact(&mut length).map_err(|_| None)?;
    let length = u32::from_be_bytes(length);
    let bad = |words: String| Some(format!("not an order for a helper: {words}"));
    if length > LONGEST_ORDER {
        return Err(bad(format!("{length} bytes")));
    }
    let mut json = vec![0; length as usize];
    daemon.read_exact(&mut json).map_err(|_| None)?;
    serde_json::from_slice(&json).map_err(|error| bad(error.to_string()))
}

/// A command that runs.
struct Started {
    command: Pid,
    target: Target,
    streams: ExecStreams,
    /// The ends of its streams.
    kept: Vec<OwnedFd>,
}

fn start(order: ExecOrder) -> Result<Started, ExecFailure> {
    let fail = |what: &str, error: &dyn std::fmt::Display| ExecFailure::NotStarted(format!("{what}: {error}"));
    let target = Target::hold(order.init, &order.container.cgroup)?;
    let job = Job::read(order)?;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|e| fail("a socket cannot be made", &e))?;
    // SAFETY: this process has one thread.
    let child = match unsafe { fork() }.map_err(|e| fail("no process can be made", &e))? {
        ForkResult::Child => {
            drop(ours);
            let code = inside::main(&target, &job, &Voice(theirs));
            std::process::exit(i32::from(code != ExitCode::SUCCESS));
        }
        ForkResult::Parent { child } => child,
    };
    drop(theirs);
    let heard = hear(&ours);
    reap(child);
    let failure = match heard {
        // Where it was killed before it had streams, it did not start.
        Ok(Heard { sibling: Some(command), kept, failure: None })
            if job.streams == ExecStreams::None || !kept.is_empty() =>
        {
            return Ok(Started { command, target, streams: job.streams, kept });
        }
        Ok(Heard { sibling, failure, .. }) => {
            sibling.map(reap);
            failure
        }
        Err(error) => Some(fail("the container cannot be heard", &error)),
    };
    if target.ends_within(Duration::ZERO) {
        return Err(ExecFailure::ContainerEnded);
    }
    Err(failure.unwrap_or_else(|| ExecFailure::NotStarted("it was killed while it was started".to_owned())))
}

#[derive(Default)]
struct Heard {
    sibling: Option<Pid>,
    kept: Vec<OwnedFd>,
    failure: Option<ExecFailure>,
}

/// To the end: both have ended, or become something else.
fn hear(socket: &OwnedFd) -> io::Result<Heard> {
    let mut heard = Heard::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (count, descriptors) = match socket::receive(socket, &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            received => received?,
        };
        if count == 0 {
            return Ok(heard);
        }
        match serde_json::from_slice(&buffer[..count])? {
            Word::Sibling(pid) => heard.sibling = Some(Pid::from_raw(pid)),
            Word::Streams => heard.kept = descriptors,
            Word::Failed(failure) => heard.failure = Some(failure),
        }
    }
}

/// Passes signals on until the command ends. When `daemon` ends, it is hung up; one without streams does not mind.
fn follow(command: Pid, target: &Target, daemon: Option<UnixStream>, streams: ExecStreams) -> ExecEnd {
    let mut daemon = daemon.filter(|_| streams != ExecStreams::None);
    let mut kill_at = None;
    // Ours, and not waited for yet: the number cannot be another's.
    let held =
        rustix::process::Pid::from_raw(command.as_raw()).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    while let Some(held) = &held {
        let left = kill_at.map(|at: Instant| at.saturating_duration_since(Instant::now()));
        let time = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO));
        let mut polled = vec![PollFd::new(held.as_fd(), PollFlags::POLLIN)];
        polled.extend(daemon.as_ref().map(|daemon| PollFd::new(daemon.as_fd(), PollFlags::POLLIN)));
        match poll(&mut polled, time) {
            Err(Errno::EINTR) => continue,
            Err(_) => break,
            Ok(_) => {}
        }
        let ready = |at: usize| polled.get(at).and_then(PollFd::any).unwrap_or(false);
        let (ended, spoken) = (ready(0), ready(1));
        if ended {
            break;
        }
        if spoken && daemon.as_mut().is_none_or(|daemon| !pass_on(daemon, command)) {
            daemon = None;
            signal(command, Signal::SIGHUP as i32);
            kill_at = Some(Instant::now() + GRACE);
        }
        if kill_at.is_some_and(|at| at <= Instant::now()) {
            signal(command, Signal::SIGKILL as i32);
            kill_at = None;
        }
    }
    let status = reap(command);
    let number = |number: Option<i32>| number.and_then(|number| u8::try_from(number).ok());
    let code = number(status.and_then(|status| status.exit_status()));
    let signal = number(status.and_then(|status| status.terminating_signal()));
    let container_ended = signal == Some(9) && target.ends_within(DYING);
    ExecEnd { code, signal, container_ended }
}

/// One signal of the daemon's; `false`: it is gone.
fn pass_on(daemon: &mut UnixStream, command: Pid) -> bool {
    let mut number = [0];
    match daemon.read(&mut number) {
        Ok(0) => false,
        Ok(_) => {
            signal(command, number[0].into());
            true
        }
        Err(error) => error.kind() == io::ErrorKind::Interrupted,
    }
}

/// To the whole group, which the command leads.
fn signal(command: Pid, number: i32) {
    if command.as_raw() > 1 {
        // SAFETY: takes numbers; the command was not waited for, so the number is its own. One that is gone does not mind.
        unsafe { libc::kill(-command.as_raw(), number) };
    }
}

/// Waits for a child of ours; none where it is none.
fn reap(pid: Pid) -> Option<WaitStatus> {
    loop {
        match waitpid(rustix::process::Pid::from_raw(pid.as_raw()), WaitOptions::empty()) {
            Ok(Some((_, status))) if status.exited() || status.signaled() => return Some(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

fn say(daemon: &UnixStream, report: &ExecReport, descriptors: &[OwnedFd]) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    if descriptors.is_empty() {
        return (&*daemon).write_all(&line);
    }
    socket::send(daemon, &line, descriptors)
}
