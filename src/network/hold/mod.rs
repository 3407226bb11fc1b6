//! The role that keeps ports open while a container is replaced: `longshore hold ORDER`.
//!
//! ```text
//! new connection ─▶ rules ─▶ gateway:P, where this process listens and takes nothing: it waits in the kernel
//!   told whom to lead to ─▶ what waits is taken and carried there; new ones are led past us by the rules ─▶ the last one has ended ─▶ end
//!   its time is over     ─▶ what waits, and what comes, is taken and closed
//! ```
//! It listens at the gateway's address in the container's network: outside of this machine nobody is led there but by the rules. Ports that
//! a process carries are not led: their socket itself is what connections wait in, and this process has a copy of it; so it has of all
//! sockets that keep the container's ports.
//!
//! It outlives the daemon, and is found again by the socket on which it is told things, `RUN/hold/ID`. It has no rights and no other
//! descriptors.

mod connect;
mod serve;
mod start;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::model::{Exposure, ProcessId, ProjectName, Protocol, Published, ServiceName, Slot};

pub(super) use connect::{Holder, adopt};
pub(super) use start::{Sockets, start};

/// What the role is told, as one JSON argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HoldOrder {
    held: Held,
    /// The descriptor on which it is told things.
    control: RawFd,
    /// Where that is, to be removed at the end.
    path: PathBuf,
    /// So long connections wait.
    limit_ms: u64,
    /// Descriptors that listen, one for each of `held.ports`.
    led: Vec<RawFd>,
    /// Descriptors that listen, of ports that a process carries.
    carried: Vec<RawFd>,
    /// Further descriptors that keep ports.
    kept: Vec<RawFd>,
}

/// Whose ports are held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// The container's id.
    pub(super) container: String,
    project: String,
    service: String,
    number: u32,
    /// The turn of that container: who has a higher one is led to.
    pub(super) turn: u64,
    /// What is led here.
    pub(super) ports: Vec<HeldPort>,
}

/// A port of TCP that is led to the holder, in one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeldPort {
    address: Option<IpAddr>,
    port: u16,
    loopback: bool,
    /// Where the holder listens.
    pub(super) at: SocketAddr,
}

/// What it says, one line each: who it is to everybody who comes, and then what changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Holds { held: Held, pid: i32, start_ticks: u64, expired: bool, led: bool },
    Expired,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Told {
    /// Where connections lead from now on, for each of its ports; none: nowhere.
    Lead(Vec<Option<SocketAddr>>),
    /// Nobody waits for anything any more.
    End,
}

impl Held {
    pub(super) fn new(container: String, slot: &Slot, turn: u64, ports: Vec<HeldPort>) -> Self {
        let (project, service) = (slot.project.to_string(), slot.service.to_string());
        Self { container, project, service, number: slot.number, turn, ports }
    }

    pub(super) fn slot(&self) -> Option<Slot> {
        let (project, service) = (ProjectName::parse(&self.project).ok()?, ServiceName::parse(&self.service).ok()?);
        Some(Slot { project, service, number: self.number })
    }
}

impl HeldPort {
    pub(super) fn new(published: &Published, at: SocketAddr) -> Self {
        let loopback = published.exposure == Exposure::Loopback;
        Self { address: published.address, port: published.port, loopback, at }
    }

    /// As a port that leads to the holder.
    pub(super) fn published(&self) -> Published {
        let exposure = if self.loopback { Exposure::Loopback } else { Exposure::All };
        Published { address: self.address, port: self.port, target: self.at.port(), protocol: Protocol::Tcp, exposure }
    }

    /// Where it leads once this container has the ports: to an address of the same family, where it has one.
    pub(super) fn leads(&self, published: &[Published], to: &[IpAddr]) -> Option<SocketAddr> {
        let mine = self.published();
        let found = published
            .iter()
            .find(|p| p.protocol == Protocol::Tcp && p.port == mine.port && p.address == mine.address)?;
        let same = to.iter().find(|address| address.is_ipv4() == self.at.is_ipv4());
        same.or(to.first()).map(|address| SocketAddr::new(*address, found.target))
    }
}

/// The role. `args` are those after `hold`.
#[must_use]
pub fn main(args: &[String]) -> ExitCode {
    // Nobody reads what it says beside what is asked for on its socket.
    match args.first().and_then(|order| serde_json::from_str(order).ok()).map(serve::run) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(_)) | None => ExitCode::FAILURE,
    }
}

fn process(pid: i32, start_ticks: u64) -> ProcessId {
    ProcessId { pid, start_ticks }
}
