//! The role that carries connections to published ports: `longshore forward ORDER`.
//!
//! For ports about which the host's own input rules decide (`host-firewall`), and for `[::1]`, which the packet filter cannot lead away.
//! Connections end here, in the host's network namespace, and new ones go to the container; so the host's rules see them as they see
//! those of any other server. The container sees the bridge's address as the one who asks.
//!
//! The shim binds the sockets (so it knows whether they could be had) and starts this process before it makes namespaces. It is
//! single-threaded, has no descriptors but these sockets and those of its connections, and dies with the shim's process, which becomes
//! the follower. Should it die alone, the sockets are closed with it: who looks at the ports sees that nobody has them
//! ([`unheld`](super::ports::unheld)), and the daemon starts another one, which ends with the container's init.

mod again;
mod tcp;
mod turn;
mod udp;

use std::ffi::CString;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::namespace;
use super::ports::CARRIER;
use crate::model::ProcessId;

pub(super) use again::again;
pub(super) use turn::{begin, carriers, pause};

/// What the role is told, as one JSON argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardOrder {
    /// With whom it ends.
    pub with: With,
    /// The cgroup of shims, to which it goes.
    pub shims: Option<PathBuf>,
    /// The ports.
    pub ports: Vec<Carried>,
    /// It is another one's turn: it takes nothing until it is told to.
    #[serde(default)]
    pub paused: bool,
    /// It can be told whose turn it is; one that an earlier version started would end by that.
    #[serde(default)]
    pub obeys: bool,
}

/// With whom the role ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum With {
    /// Who starts it: this process.
    Parent(i32),
    /// A container's init, whatever becomes of who starts it.
    Init {
        /// Its process.
        pid: i32,
        /// When it began.
        start_ticks: u64,
    },
}

/// One port that is carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The descriptor that it inherits: for TCP a socket that listens, for UDP one that is bound.
    pub socket: RawFd,
    /// Whether it is UDP.
    pub udp: bool,
    /// Where it leads: an address of each family at most.
    pub to: Vec<IpAddr>,
    /// The container's port.
    pub port: u16,
}

impl Carried {
    /// The address that is of the asker's own family, where there is one.
    fn target(&self, asker: IpAddr) -> Option<SocketAddr> {
        let ipv4 = asker.to_canonical().is_ipv4();
        let same = self.to.iter().find(|address| address.is_ipv4() == ipv4);
        same.or(self.to.first()).map(|address| SocketAddr::new(*address, self.port))
    }
}

/// The role. `args` are those after `forward`.
#[must_use]
pub fn main(args: &[String]) -> ExitCode {
    // Nobody reads what it says: the shim watches no more once the container runs.
    match args.first().and_then(|order| serde_json::from_str(order).ok()).map(run) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(_)) | None => ExitCode::FAILURE,
    }
}

fn run(order: ForwardOrder) -> io::Result<()> {
    if let With::Parent(parent) = order.with {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != Pid::from_raw(parent) {
            // It died before it would have been told.
            return Ok(());
        }
    }
    // What a port's holder is called; it was executed by another name.
    nix::sys::prctl::set_name(&CString::new(CARRIER)?)?;
    if let Some(shims) = &order.shims {
        // Where it fails the unit's own KillMode spares us.
        let _ = fs::write(shims.join("cgroup.procs"), "0");
    }
    close_others(order.ports.iter().map(|carried| carried.socket).collect());
    let init = match order.with {
        With::Parent(_) => None,
        With::Init { pid, start_ticks } => match namespace::pidfd(ProcessId { pid, start_ticks })? {
            Some(init) => Some(init),
            None => return Ok(()),
        },
    };
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    // Everybody outside speaks to it; it needs nothing more than its sockets.
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let turn = turn::watched(order.paused)?;
        let mut tasks = tokio::task::JoinSet::new();
        for carried in order.ports {
            let turn = turn.clone();
            let socket = inherit(carried.socket);
            if carried.udp {
                let port = udp::Port::new(socket)?;
                tasks.spawn_local(udp::carry(port, carried, turn));
            } else {
                let listener = std::net::TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                tasks.spawn_local(tcp::carry(tokio::net::TcpListener::from_std(listener)?, carried, turn));
            }
        }
        let carried = async { while tasks.join_next().await.is_some() {} };
        // Whichever ends first, nothing is left to do.
        tokio::select! {
            () = carried => Ok(()),
            ended = ended(init) => ended,
        }
    })
}

/// Until the process has ended; where there is none, for ever.
async fn ended(process: Option<OwnedFd>) -> io::Result<()> {
    let Some(process) = process else { return std::future::pending().await };
    #[expect(deprecated, reason = "its successor is unsafe; a descriptor that moves in keeps what it asks for")]
    let process = AsyncFd::with_interest(process, Interest::READABLE)?;
    process.readable().await.map(drop)
}

/// Whatever the daemon was started with and did not close.
#[expect(unsafe_code, reason = "descriptors that this process inherits are only numbers")]
pub(super) fn close_others(mut sockets: Vec<RawFd>) {
    sockets.sort_unstable();
    let mut first = 3;
    for socket in sockets.into_iter().chain([RawFd::MAX]) {
        if first < socket {
            // SAFETY: nothing in this process has a descriptor of its own yet; those of the order are left out.
            unsafe { libc::close_range(first.unsigned_abs(), (socket - 1).unsigned_abs(), 0) };
        }
        first = socket.saturating_add(1);
    }
}

#[expect(unsafe_code, reason = "a descriptor that this process inherits is a number in its arguments")]
pub(super) fn inherit(socket: RawFd) -> OwnedFd {
    // SAFETY: who starts this role leaves the descriptor open for it, each number once; nothing else here has it.
    unsafe { OwnedFd::from_raw_fd(socket) }
}

#[cfg(test)]
mod tests;
