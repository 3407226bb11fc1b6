//! The container's ports on the host, taken before anything is made: in the host's network namespace, by sockets that live as long as
//! the follower.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::getpid;

use super::ShimError;
use crate::model::{Attached, Protocol, Published};
use crate::network::forward::{Carried, ForwardOrder};
use crate::network::ports::{is_carried, keep, leads_to};

/// Keeps the ports, and starts the process that carries those that need one. What it gives back must reach the follower; until then
/// it is closed in whatever is executed, so that no process of the container has it. `shims` is the cgroup of shims.
pub(super) fn take(attached: &Attached, shims: Option<&Path>) -> Result<Vec<OwnedFd>, ShimError> {
    let (carried, led): (Vec<&Published>, Vec<&Published>) = attached.published.iter().partition(|p| is_carried(p));
    let led: Vec<Published> = led.into_iter().cloned().collect();
    let kept = keep(&led).map_err(|error| ShimError::Runtime(super::chain(&error)))?;
    if !carried.is_empty() {
        carry(&carried, &leads_to(attached), shims)?;
    }
    Ok(kept)
}

fn carry(published: &[&Published], to: &[IpAddr], shims: Option<&Path>) -> Result<(), ShimError> {
    let mut sockets = Vec::new();
    for port in published.iter().filter(|port| port.protocol != Protocol::Sctp) {
        let bound = crate::network::ports::claim(&[(**port).clone()]);
        for socket in bound.map_err(|error| ShimError::Runtime(super::chain(&error)))? {
            sockets.push((socket, *port));
        }
    }
    start(&sockets, to, shims)
        .map_err(|source| ShimError::Io { what: "starting the process that carries its published ports", source })
}

fn start(sockets: &[(OwnedFd, &Published)], to: &[IpAddr], shims: Option<&Path>) -> io::Result<()> {
    let mut ports = Vec::new();
    for (socket, published) in sockets {
        // Only this one process is executed before they are closed here.
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?;
        let udp = published.protocol == Protocol::Udp;
        ports.push(Carried { socket: socket.as_raw_fd(), udp, to: to.to_vec(), port: published.target });
    }
    let order = ForwardOrder { parent: getpid().as_raw(), shims: shims.map(Path::to_owned), ports };
    let order = serde_json::to_string(&order)?;
    // Not by its name: an update may have put another program there. It ends with us, so nobody has to wait for it; the follower
    // reaps it if it ends first.
    Command::new("/proc/self/exe")
        .args(["forward", &order])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}
