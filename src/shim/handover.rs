//! The shim's end: it becomes the follower, keeping its process, its child and a handful of descriptors.
#![expect(unsafe_code, reason = "descriptors are put at fixed numbers, then execve")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

/// What the follower gets, at the numbers it expects (from 3 on).
pub(super) struct Handover {
    /// 3: standard output, or the terminal.
    pub(super) stdout: OwnedFd,
    /// 4.
    pub(super) stderr: Option<OwnedFd>,
    /// 5: the container's folder, with the lock that says that its shim is alive.
    pub(super) folder: OwnedFd,
    /// 6: the log folder.
    pub(super) logs: OwnedFd,
    /// 7: the oom counter.
    pub(super) oom: Option<OwnedFd>,
    /// 8: kept, so that the container's input does not end.
    pub(super) stdin: Option<OwnedFd>,
    /// At any numbers: what keeps the container's ports on the host, and its questions for names. The follower does not know of them.
    pub(super) kept: Vec<OwnedFd>,
}

impl Handover {
    /// Becomes the follower; returns only where that fails.
    pub(super) fn execute(self, follower: &Path, args: &[String]) -> io::Error {
        match self.place().and_then(|()| execute(follower, args)) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn place(self) -> io::Result<()> {
        // First out of the way, then to their places: a place may be taken by another of them.
        let aside = |fd: Option<OwnedFd>| -> io::Result<Option<OwnedFd>> {
            fd.map(|fd| Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 64)?)).transpose()
        };
        let fds = [Some(self.stdout), self.stderr, Some(self.folder), Some(self.logs), self.oom, self.stdin];
        let fds: Vec<Option<OwnedFd>> = fds.into_iter().map(aside).collect::<io::Result<_>>()?;
        let kept = self.kept.into_iter().map(|fd| aside(Some(fd))).collect::<io::Result<Vec<_>>>()?;
        // SAFETY: from 3 on nothing is used any more but `fds` and `kept`, which live above 63; they are only marked, not closed.
        if unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) } < 0 {
            return Err(io::Error::last_os_error());
        }
        for (fd, place) in fds.into_iter().zip(3..) {
            let result = match &fd {
                // SAFETY: the descriptor is valid; what was at the place belongs to nobody who still runs.
                Some(fd) => unsafe { libc::dup2(fd.as_raw_fd(), place) },
                None => 0,
            };
            if result < 0 {
                return Err(io::Error::last_os_error());
            }
            // Closed by execve.
            std::mem::forget(fd);
        }
        for fd in kept.into_iter().flatten() {
            rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty())?;
            std::mem::forget(fd);
        }
        Ok(())
    }
}

fn execute(program: &Path, args: &[String]) -> io::Result<std::convert::Infallible> {
    let text = |t: &str| CString::new(t).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let path = text(&program.to_string_lossy())?;
    let args: Vec<CString> = args.iter().map(|a| text(a)).collect::<io::Result<_>>()?;
    let pointers: Vec<*const libc::c_char> = args.iter().map(|a| a.as_ptr()).chain([std::ptr::null()]).collect();
    let environment = [std::ptr::null()];
    // SAFETY: NUL-terminated texts in arrays that end with a null pointer, all alive during the call.
    unsafe { libc::execve(path.as_ptr(), pointers.as_ptr(), environment.as_ptr()) };
    Err(io::Error::last_os_error())
}
