//! The role is started by the daemon, for a container that runs and whose first one is gone.
#![expect(unsafe_code, reason = "work between fork and exec")]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Stdio;

use super::{Carried, ForwardOrder, With};
use crate::model::{ProcessId, Protocol, Published};

/// Starts it with the sockets of these ports, each in its place. It outlives the daemon, and ends with this init. Within a tokio
/// runtime, which reaps it.
pub(in crate::network) fn again(
    exe: &std::path::Path,
    sockets: Vec<OwnedFd>,
    published: &[Published],
    to: &[IpAddr],
    init: ProcessId,
    paused: bool,
) -> io::Result<()> {
    let carried = |(socket, published): (&OwnedFd, &Published)| Carried {
        socket: socket.as_raw_fd(),
        udp: published.protocol == Protocol::Udp,
        to: to.to_vec(),
        port: published.target,
    };
    let ports = sockets.iter().zip(published).map(carried).collect();
    let with = With::Init { pid: init.pid, start_ticks: init.start_ticks };
    let order = serde_json::to_string(&ForwardOrder { with, shims: None, ports, paused, obeys: true })?;
    let mut command = std::process::Command::new(exe);
    command.args(["forward", &order]).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut command = tokio::process::Command::from(command);
    // What a terminal sends to the daemon is not for it.
    command.process_group(0);
    // In the child, so that nothing else that is started meanwhile inherits them.
    let inherit = move || {
        sockets.iter().try_for_each(|socket| Ok(rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?))
    };
    // SAFETY: one system call for each descriptor, which the closure owns; nothing is allocated.
    unsafe { command.pre_exec(inherit) };
    command.spawn().map(drop)
}
