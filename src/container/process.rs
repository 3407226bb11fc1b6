//! Processes that cannot be mistaken for others: a pidfd, taken only where the start time is right.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::model::ProcessId;

/// How often a process is looked at that cannot be waited for.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// When a process started, in clock ticks since boot.
pub fn start_ticks(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold blanks and brackets; the fields after it begin with the third.
    let ticks = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(19)?.parse().ok());
    ticks.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// A process that is held by descriptor.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// The process, if it still is this one and has not ended. An error says nothing about it: it may be alive.
    pub fn open(id: ProcessId) -> io::Result<Option<Self>> {
        let Some(pid) = Pid::from_raw(id.pid) else { return Ok(None) };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Read after the descriptor was taken: the number cannot pass to another process unnoticed.
        let process = Self(fd);
        let same = match start_ticks(id.pid) {
            Ok(ticks) => ticks == id.start_ticks,
            Err(_) if process.ended_within(Duration::ZERO) => false,
            Err(error) => return Err(error),
        };
        Ok((same && !process.ended_within(Duration::ZERO)).then_some(process))
    }

    /// Waits until it has ended (it may still be a zombie).
    #[must_use]
    pub fn ended_within(&self, limit: Duration) -> bool {
        let until = std::time::Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            let time = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], time) {
                Ok(0) if left.is_zero() => return false,
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Waits until it has ended, without a thread. Within a tokio runtime.
    pub async fn ended(&self) {
        loop {
            match self.readable().await {
                Ok(()) => return,
                // No descriptor is left for waiting, so it is looked at now and then.
                Err(_) if self.ended_within(Duration::ZERO) => return,
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    async fn readable(&self) -> io::Result<()> {
        #[expect(deprecated, reason = "its successor is unsafe; an `OwnedFd` that moves in keeps what it asks for")]
        let fd = AsyncFd::with_interest(self.0.try_clone()?, Interest::READABLE)?;
        fd.readable().await.map(drop)
    }

    /// Sends a signal; a process that is gone does not mind.
    pub fn signal(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            let _ = pidfd_send_signal(&self.0, signal);
        } else {
            send_realtime(&self.0, number);
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[expect(unsafe_code, reason = "the safe call has no real-time signals")]
fn send_realtime(fd: &OwnedFd, number: i32) {
    use std::os::fd::AsRawFd as _;
    // SAFETY: a valid descriptor, and no pointer but null.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), number, std::ptr::null::<u8>(), 0) };
}
