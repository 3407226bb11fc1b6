//! A terminal's pair: made inside of a container, from its own devpts, and nothing that the container could have put in its place.
#![expect(unsafe_code, reason = "terminals are made and sized by ioctl")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2};

/// `DEVPTS_SUPER_MAGIC`
const DEVPTS: i64 = 0x1cd1;

/// Opens the caller's `/dev/pts/ptmx`: its two ends, the first for whoever speaks to the command.
pub fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let master = openat2(CWD, "/dev/pts/ptmx", flags, Mode::empty(), resolve)?;
    let (stat, system) = (fstat(&master)?, fstatfs(&master)?);
    if system.f_type != DEVPTS || (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) != (5, 2) {
        return Err(io::Error::other("/dev/pts/ptmx of the container makes no terminals"));
    }
    let locked: libc::c_int = 0;
    // SAFETY: the number lives during the call.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: takes a number. By descriptor: no path could lead elsewhere.
    let slave = check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the kernel just gave it to us.
    Ok((master, unsafe { OwnedFd::from_raw_fd(slave) }))
}

/// How many characters fit. Whoever runs in it gets SIGWINCH where that is new.
pub fn resize(terminal: &impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the size lives during the call.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// Makes it the terminal of the caller's session.
pub fn control(terminal: &impl AsFd) -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
