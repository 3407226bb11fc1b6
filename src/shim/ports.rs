//! The container's ports on the host, taken before anything is made: in the host's network namespace, by sockets that live as long as
//! the follower.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use super::ShimError;
use crate::model::{Attached, ProcessId, Protocol, Published, Turn};
use crate::network::forward::{Carried, ForwardOrder, With};
use crate::network::ports::{Copies, PortError, is_carried, leads_to};

/// What keeps the ports.
#[derive(Default)]
pub(super) struct Kept {
    sockets: Vec<OwnedFd>,
    /// The process that carries some of them.
    carrier: Option<Pid>,
}

impl Kept {
    /// For the follower, with whom the process ends.
    pub(super) fn hand_over(mut self) -> Vec<OwnedFd> {
        self.carrier = None;
        std::mem::take(&mut self.sockets)
    }
}

impl Drop for Kept {
    /// The start failed: the shim reaps all its children before it says so.
    fn drop(&mut self) {
        if let Some(carrier) = self.carrier {
            let _ = kill(carrier, Signal::SIGKILL);
        }
    }
}

/// Keeps the ports, and starts the process that carries those that need one. Until it is handed over
/// it is closed in whatever is executed, so that no process of the container has it. `shims` is the cgroup of shims; `keepers` are who
/// keeps them for its slot until now.
pub(super) fn take(attached: &Attached, keepers: &[ProcessId], shims: Option<&Path>) -> Result<Kept, ShimError> {
    let refused = |error: PortError| ShimError::Runtime(super::chain(&error));
    // Without copies the ports are tried as any: then the error says who has them.
    let copies = Copies::of(keepers, &attached.published).unwrap_or_default();
    let (carried, led): (Vec<&Published>, Vec<&Published>) = attached.published.iter().partition(|p| is_carried(p));
    let led: Vec<Published> = led.into_iter().cloned().collect();
    let sockets = copies.keep(&led).map_err(refused)?;
    let mut carries = Vec::new();
    for port in carried.into_iter().filter(|port| port.protocol != Protocol::Sctp) {
        carries.extend(copies.carry_one(port).map_err(refused)?.map(|socket| (socket, port)));
    }
    let carrier = if carries.is_empty() { None } else { Some(carry(&carries, attached, shims)?) };
    Ok(Kept { sockets, carrier })
}

fn carry(sockets: &[(OwnedFd, &Published)], attached: &Attached, shims: Option<&Path>) -> Result<Pid, ShimError> {
    start(sockets, &leads_to(attached), attached.turn == Turn::Standby, shims)
        .map_err(|source| ShimError::Io { what: "starting the process that carries its published ports", source })
}

fn start(sockets: &[(OwnedFd, &Published)], to: &[IpAddr], paused: bool, shims: Option<&Path>) -> io::Result<Pid> {
    let mut ports = Vec::new();
    for (socket, published) in sockets {
        // Only this one process is executed before they are closed here.
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?;
        let udp = published.protocol == Protocol::Udp;
        ports.push(Carried { socket: socket.as_raw_fd(), udp, to: to.to_vec(), port: published.target });
    }
    let (with, shims) = (With::Parent(getpid().as_raw()), shims.map(Path::to_owned));
    let order = ForwardOrder { with, shims, ports, paused, obeys: true };
    let order = serde_json::to_string(&order)?;
    // Not by its name: an update may have put another program there. It ends with us, so nobody has to wait for it; the follower
    // reaps it if it ends first.
    let carrier = Command::new("/proc/self/exe")
        .args(["forward", &order])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Pid::from_raw(carrier.id().cast_signed()))
}
