//! The shim's own network namespace, for a container without a network.
#![expect(unsafe_code, reason = "the flags of an interface are set by ioctl")]

use std::os::fd::AsRawFd as _;
use std::{fs, io};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Brings loopback up, and allows what Docker allows inside: ping and low ports for every user.
pub(super) fn prepare() -> io::Result<()> {
    up(b"lo\0")?;
    let settings = [("ping_group_range", "0 2147483647"), ("ip_unprivileged_port_start", "0")];
    for (name, value) in settings {
        match fs::write(format!("/proc/sys/net/ipv4/{name}"), value) {
            // A kernel without it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

fn up(name: &[u8]) -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all bytes zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request lives during the call, its name ends with NUL.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
