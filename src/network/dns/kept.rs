//! The sockets of a container that its follower keeps.
//!
//! The shim opens them before the container runs, so that the first question waits for us and is not lost; the follower keeps them, so
//! that a question waits also while no daemon is there. Whoever serves them has copies.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use nix::sys::socket::{SockType, getsockopt, sockopt};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::redirect::{ADDRESS, PORT};

/// Copies of those that the parent of this process has. None: it has none, or is just moving them.
pub fn kept(init: i32) -> io::Result<Option<(UdpSocket, TcpListener)>> {
    let keeper = parent(init)?;
    let pid = Pid::from_raw(keeper).ok_or(io::ErrorKind::NotFound)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    // Still its parent, so it was when it was opened.
    if parent(init)? != keeper {
        return Ok(None);
    }
    let (mut udp, mut tcp) = (None, None);
    for entry in fs::read_dir(format!("/proc/{keeper}/fd"))? {
        let entry = entry?;
        let is_socket = fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()).filter(|_| is_socket) else {
            continue;
        };
        let socket = match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            Ok(socket) => UdpSocket::from(socket),
            // The shim is just becoming the follower, and has put it at another number.
            Err(Errno::BADF) => continue,
            Err(error) => return Err(error.into()),
        };
        let ours = |at: SocketAddr| at.ip() == ADDRESS && (at.port() == PORT || at.port() == 53);
        if !socket.local_addr().is_ok_and(ours) {
            continue;
        }
        match getsockopt(&socket, sockopt::SockType)? {
            SockType::Stream => tcp = Some(TcpListener::from(OwnedFd::from(socket))),
            _ => udp = Some(socket),
        }
    }
    Ok(udp.zip(tcp))
}

fn parent(process: i32) -> io::Result<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name may hold blanks and brackets; the fields after it begin with the third.
    let parent = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(1)?.parse().ok());
    parent.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
