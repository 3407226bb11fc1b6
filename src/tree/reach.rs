//! Our own descriptors, opened anew by their numbers.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, statx};

/// Our own `/proc/self/fd`, opened before anything else can take the place of `/proc`.
pub(crate) struct Reach(OwnedFd);

impl Reach {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(CWD, "/proc/self/fd", flags, Mode::empty())?))
    }

    /// The very same file, with other rights.
    pub(crate) fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
        let number = fd.as_raw_fd().to_string();
        Ok(rustix::fs::openat(&self.0, number, flags | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Where the kernel says it is, seen from our root.
    pub(crate) fn path(&self, fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.0, fd.as_raw_fd().to_string(), Vec::new())?.into_bytes())
    }
}

/// The number of the mount that a file is in; zero where the kernel does not tell (before 5.8).
pub(crate) fn mount_of(fd: impl AsFd) -> io::Result<u64> {
    let seen = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(if seen.stx_mask & StatxFlags::MNT_ID.bits() == 0 { 0 } else { seen.stx_mnt_id })
}
