//! A process that does one thing that may hang for ever: mount(2) and umount(2) on a server that is gone. It is ended after a limit;
//! one that cannot be ended is abandoned.
#![expect(unsafe_code, reason = "fork, and system calls in the child")]

use std::ffi::{CString, c_void};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// What it does.
#[derive(Debug)]
pub(super) enum Call {
    /// mount(2).
    Mount { device: CString, at: CString, kind: CString, flags: u64, data: CString },
    /// umount2(2): what is mounted there is seen no more, and ends when its last user does.
    Unmount { at: CString },
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// All was done.
    Done,
    /// The call with this number failed; those before it were done.
    Failed(usize, Errno),
    /// It took too long, and was ended.
    Late,
    /// It took too long, and cannot be ended. The process, to be waited for.
    Stuck(Abandoned),
}

/// A process that does not end.
#[derive(Debug)]
pub(super) struct Abandoned(libc::pid_t);

impl Abandoned {
    /// Returns when it has ended after all.
    pub(super) fn wait(self) {
        reap(self.0);
    }
}

/// How long one that was killed may take to end.
const DYING: Duration = Duration::from_secs(1);

/// Does these calls one after another in a process of their own.
pub(super) fn run(calls: &[Call], limit: Duration) -> io::Result<Ended> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let out = write.as_raw_fd();
    // SAFETY: the child makes system calls only, on memory that was made before, and ends without returning.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => child(calls, out),
        pid if pid < 0 => return Err(io::Error::last_os_error()),
        _ => drop(write),
    }
    if readable(&read, limit) {
        let told = told(&read);
        reap(pid);
        return told;
    }
    // SAFETY: it is our child and was not waited for: the number is its own.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    if readable(&read, DYING) {
        reap(pid);
        return Ok(Ended::Late);
    }
    Ok(Ended::Stuck(Abandoned(pid)))
}

/// Keeps nothing of the daemon open: it may outlive it.
fn child(calls: &[Call], out: i32) -> ! {
    let end = u32::try_from(out).unwrap_or(0);
    // SAFETY: system calls that a child of a process with threads may make; the texts end in NUL.
    unsafe {
        if end > 0 {
            libc::syscall(libc::SYS_close_range, 0, end - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, end + 1, u32::MAX, 0);
        let mut report = [u32::MAX, 0];
        for (number, call) in (0u32..).zip(calls) {
            let result = match call {
                Call::Mount { device, at, kind, flags, data } => {
                    let data: *const c_void = if data.is_empty() { std::ptr::null() } else { data.as_ptr().cast() };
                    libc::mount(device.as_ptr(), at.as_ptr(), kind.as_ptr(), *flags, data)
                }
                Call::Unmount { at } => libc::umount2(at.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW),
            };
            if result != 0 {
                report = [number, u32::try_from(*libc::__errno_location()).unwrap_or(0)];
                break;
            }
        }
        libc::write(out, report.as_ptr().cast(), size_of_val(&report));
        libc::_exit(0)
    }
}

/// What the child said; one that ended without a word was ended by somebody.
fn told(read: &OwnedFd) -> io::Result<Ended> {
    let mut report = [0; 8];
    if rustix::io::retry_on_intr(|| rustix::io::read(read, &mut report))? < report.len() {
        return Err(io::Error::other("the process that does it was ended"));
    }
    let [a, b, c, d, e, f, g, h] = report;
    let (number, errno) = (u32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h]));
    Ok(match number {
        u32::MAX => Ended::Done,
        number => Ended::Failed(usize::try_from(number).unwrap_or(usize::MAX), Errno::from_raw_os_error(errno)),
    })
}

/// Whether there is a word, or an end, within this time.
fn readable(read: &OwnedFd, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(read.as_fd(), PollFlags::POLLIN)], left) {
            Ok(ready) => return ready > 0,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

fn reap(pid: libc::pid_t) {
    loop {
        // SAFETY: our own child; how it ended is not asked.
        let waited = unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        if waited >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}
