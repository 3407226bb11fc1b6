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

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_waits_is_led_to_the_same_port_and_family() {
        let port = |address: Option<&str>, port, target| Published {
            address: address.map(ip),
            port,
            target,
            protocol: Protocol::Tcp,
            exposure: Exposure::All,
        };
        let held = |published: &Published, at: &str| HeldPort::new(published, at.parse().unwrap());
        let old = port(None, 8080, 80);
        let (four, six) = (held(&old, "10.1.0.1:4000"), held(&old, "[fd00::1]:4001"));
        // The next one may listen elsewhere.
        let new = [port(None, 8081, 81), port(None, 8080, 8000)];
        let both = [ip("10.1.0.3"), ip("fd00::3")];
        assert_eq!(four.leads(&new, &both), "10.1.0.3:8000".parse().ok());
        assert_eq!(six.leads(&new, &both), "[fd00::3]:8000".parse().ok());
        assert_eq!(six.leads(&new, &both[..1]), "10.1.0.3:8000".parse().ok());
        for gone in [port(None, 8081, 80), port(Some("127.0.0.1"), 8080, 80)] {
            assert_eq!(four.leads(&[gone], &both), None);
        }
        assert_eq!(four.published(), Published { target: 4000, ..old });
    }

    #[test]
    fn what_is_said_is_understood() {
        let slot = Slot {
            project: ProjectName::parse("shop").unwrap(),
            service: ServiceName::parse("web").unwrap(),
            number: 2,
        };
        let held = Held::new("c".repeat(64), &slot, 3, Vec::new());
        assert_eq!(held.slot(), Some(slot));
        let said = Said::Holds { held, pid: 7, start_ticks: 9, expired: true, led: false };
        assert_eq!(serde_json::from_str::<Said>(&serde_json::to_string(&said).unwrap()).unwrap(), said);
        let told = Told::Lead(vec![None, "10.1.0.3:80".parse().ok()]);
        assert_eq!(serde_json::from_str::<Told>(&serde_json::to_string(&told).unwrap()).unwrap(), told);
        assert_eq!(serde_json::to_string(&Told::End).unwrap(), "\"end\"");
    }
}
