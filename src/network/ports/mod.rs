//! Ports of the host: which are free, who has them, and keeping them.
//!
//! A published port belongs to a socket that is bound and never listens: the packet filter leads the connections away before they come
//! to it, and any other program that wants the port is told that it is taken, as we are where another was first. What the host's own
//! input rules decide about ([`Exposure::HostFirewall`]) is listened to, by [`forward`](super::forward).

mod copies;
mod socket;
mod taken;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::model::{Attached, Attachment, Exposure, Port, Protocol, Published};
pub use copies::Copies;
pub use taken::{Holder, holder};

/// Of a container with more ports than this each is tried, but none is kept: a descriptor for each would be too many.
pub const MOST_KEPT: usize = 256;
/// So long a process of ours may take to end, once its container has.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(5);
/// What a process that carries ports is called.
pub(super) const CARRIER: &str = "longshore-ports";
/// Where the kernel does not say which ports it hands out.
const EPHEMERAL: (u16, u16) = (32768, 60999);

/// What is as configured where a file does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// `publish_default_ip`; none: all addresses.
    pub address: Option<IpAddr>,
    /// `expose-default`.
    pub exposure: Exposure,
}

/// A port on the host: address (none: all), number, protocol.
pub type Place = (Option<IpAddr>, u16, Protocol);

/// Why a port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Another container of ours.
    #[error("port {} is taken by {owner}; give one of them another port", Shown(.place))]
    Ours {
        /// Which.
        place: Place,
        /// Whose it is.
        owner: String,
    },
    /// The same file asks for it twice.
    #[error("port {} is asked for twice by this service", Shown(.place))]
    Twice {
        /// Which.
        place: Place,
    },
    /// A program.
    #[error("port {} is taken by {program} (process {pid}); end it, or choose another port", Shown(.place))]
    Program {
        /// Which.
        place: Place,
        /// Its name.
        program: String,
        /// Its process.
        pid: i32,
    },
    /// Connections that are not forgotten yet.
    #[error("port {} still has closing connections of who had it before; it is free within a minute", Shown(.place))]
    Closing {
        /// Which.
        place: Place,
    },
    /// Nobody can be found.
    #[error("port {} is taken, by the kernel or by a program that cannot be seen from here (ss -lnp may tell)", Shown(.place))]
    Unknown {
        /// Which.
        place: Place,
    },
    /// Not allowed.
    #[error("port {} needs a right that the daemon does not have: run it as root, or allow it (sysctl net.ipv4.ip_unprivileged_port_start)", Shown(.place))]
    Denied {
        /// Which.
        place: Place,
    },
    /// Not an address of this machine.
    #[error("port {}: this machine does not have that address (now); it is tried again when its addresses change", Shown(.place))]
    NoAddress {
        /// Which.
        place: Place,
    },
    /// The kernel has no such family or protocol.
    #[error("port {}: this kernel does not have {}", Shown(.place), if .place.2 == Protocol::Sctp { "SCTP" } else { "IPv6" })]
    NoFamily {
        /// Which.
        place: Place,
    },
    /// A whole range.
    #[error("none of the ports {first}-{last} is free")]
    Range {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
        /// Why the first is not.
        #[source]
        source: Box<PortError>,
    },
    /// Something else.
    #[error("port {} cannot be had", Shown(.place))]
    Io {
        /// Which.
        place: Place,
        /// Why.
        #[source]
        source: io::Error,
    },
}

struct Shown<'a>(&'a Place);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, port, protocol) = self.0;
        match address {
            None => write!(f, "{port}/{}", protocol.name()),
            Some(IpAddr::V4(address)) => write!(f, "{address}:{port}/{}", protocol.name()),
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{port}/{}", protocol.name()),
        }
    }
}

/// Chooses the host's port for each that is asked for, and tries it in the network namespace of the calling thread. `ours` are those of
/// other containers, with their names; `previous` is what this container had before, which it keeps where that may be; `kept` are those
/// that are kept for its slot, and so cannot be had by anybody else.
pub fn choose(
    asked: &[Port],
    defaults: Defaults,
    ours: &BTreeMap<Place, String>,
    previous: &[Published],
    kept: &[Place],
) -> Result<Vec<Published>, PortError> {
    let mut chosen: Vec<Published> = Vec::new();
    for port in asked {
        let wanted = |number| Published {
            address: port.address.or(defaults.address),
            port: number,
            target: port.target,
            protocol: port.protocol,
            exposure: exposure(port, defaults),
        };
        let (first, last) = port.host.unwrap_or_else(ephemeral);
        let before = previous.iter().filter(|old| **old == wanted(old.port) && (first..=last).contains(&old.port));
        let mut reason = None;
        let patience = if first == last || !previous.is_empty() { PATIENCE } else { Duration::ZERO };
        let found = before.map(|old| old.port).chain(first..=last).map(wanted).find(|candidate| {
            match free(candidate, ours, &chosen, (kept, patience)) {
                Ok(()) => true,
                Err(error) => {
                    reason.get_or_insert(error);
                    false
                }
            }
        });
        match (found, reason) {
            (Some(published), _) => chosen.push(published),
            (None, Some(reason)) if first == last => return Err(reason),
            (None, Some(reason)) => return Err(PortError::Range { first, last, source: Box::new(reason) }),
            // An empty range; its reader refuses it.
            (None, None) => {}
        }
    }
    Ok(chosen)
}

/// An address in the file says more than a default.
fn exposure(port: &Port, defaults: Defaults) -> Exposure {
    match defaults.exposure {
        Exposure::Loopback if port.address.is_some() => Exposure::All,
        exposure => exposure,
    }
}

fn free(
    wanted: &Published,
    ours: &BTreeMap<Place, String>,
    chosen: &[Published],
    (kept, patience): (&[Place], Duration),
) -> Result<(), PortError> {
    let place = place(wanted);
    if chosen.iter().any(|other| conflict(&place, &self::place(other))) {
        return Err(PortError::Twice { place });
    }
    if let Some((_, owner)) = ours.iter().find(|(other, _)| conflict(&place, other)) {
        return Err(PortError::Ours { place, owner: owner.clone() });
    }
    if kept.iter().any(|kept| conflict(&place, kept)) {
        return Ok(());
    }
    match claim_one(wanted, patience) {
        Err(PortError::NoFamily { place: (.., Protocol::Sctp) }) => Ok(()),
        claimed => claimed.map(drop),
    }
}

/// Where a port is on the host.
#[must_use]
pub fn place(published: &Published) -> Place {
    (socket::address(published), published.port, published.protocol)
}

/// Whether only one of them can be had.
#[must_use]
pub fn conflict(one: &Place, other: &Place) -> bool {
    let ((a, port, protocol), (b, other_port, other_protocol)) = (one, other);
    let over = |a: IpAddr, b: IpAddr| a == b || (a.is_unspecified() && a.is_ipv4() == b.is_ipv4());
    let same = match (a, b) {
        (None, _) | (_, None) => true,
        (Some(a), Some(b)) => over(*a, *b) || over(*b, *a),
    };
    port == other_port && protocol == other_protocol && same
}

/// The sockets that keep these ports, in the network namespace of the calling thread; closed by `execve` unless told otherwise. Where
/// the port is carried by [`forward`](super::forward), a TCP socket listens.
pub fn claim(published: &[Published]) -> Result<Vec<OwnedFd>, PortError> {
    published.iter().map(|one| claim_one(one, PATIENCE)).collect()
}

/// The last holder may be a process of ours that is just ending: that is waited for.
fn claim_one(published: &Published, patience: Duration) -> Result<OwnedFd, PortError> {
    let until = Instant::now() + patience;
    loop {
        match try_claim(published) {
            Err(PortError::Unknown { .. }) if Instant::now() < until => {}
            Err(PortError::Program { program, .. }) if program == CARRIER && Instant::now() < until => {}
            claimed => return claimed,
        }
        std::thread::sleep(PAUSE);
    }
}

fn try_claim(published: &Published) -> Result<OwnedFd, PortError> {
    let place = place(published);
    match socket::bound(published, false) {
        // Its connections are not in the way of a listener, which says so by this option; we say so only then, because whoever says
        // so may share the port.
        Err(Errno::ADDRINUSE) => match holder(&place) {
            Some(Holder::Closing) => {
                socket::bound(published, true).map_err(|error| refused(place, error, || PortError::Closing { place }))
            }
            Some(Holder::Program { name, pid }) => Err(PortError::Program { place, program: name, pid }),
            None => Err(PortError::Unknown { place }),
        },
        bound => bound.map_err(|error| refused(place, error, || PortError::Unknown { place })),
    }
}

fn refused(place: Place, error: Errno, taken: impl FnOnce() -> PortError) -> PortError {
    match error {
        Errno::ADDRINUSE => taken(),
        Errno::ACCESS | Errno::PERM => PortError::Denied { place },
        Errno::ADDRNOTAVAIL => PortError::NoAddress { place },
        Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT => PortError::NoFamily { place },
        error => PortError::Io { place, source: error.into() },
    }
}

fn ephemeral() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).unwrap_or(EPHEMERAL)
}

/// Whether it is carried by a process: where the host's rules decide, and on `[::1]`, which the packet filter cannot lead away.
#[must_use]
pub fn is_carried(published: &Published) -> bool {
    published.exposure == Exposure::HostFirewall || published.address == Some(IpAddr::V6(Ipv6Addr::LOCALHOST))
}

/// Those that a process carries, and that nobody has now: it is gone. In the network namespace of the calling thread.
#[must_use]
pub fn unheld(published: &[Published]) -> Vec<Published> {
    // Nobody carries SCTP.
    let carried = published.iter().filter(|published| is_carried(published) && published.protocol != Protocol::Sctp);
    carried.filter(|published| !taken::is_held(&place(published))).cloned().collect()
}

/// A port of the host, in words.
pub(super) fn name(published: &Published) -> String {
    Shown(&place(published)).to_string()
}

/// The addresses of a container that its published ports lead to: one of each family at most, those of the link with the way out
/// first, because it answers through that one.
#[must_use]
pub fn leads_to(attached: &Attached) -> Vec<IpAddr> {
    let of = |ipv6: bool| {
        let address = move |link: &Attachment| {
            link.addresses.iter().map(|cidr| cidr.address).find(|address| address.is_ipv6() == ipv6)
        };
        let out = |link: &&Attachment| link.gateways.iter().any(|gateway| gateway.is_ipv6() == ipv6);
        let links = || attached.links.iter();
        links().filter(out).find_map(address).or_else(|| links().find_map(address))
    };
    [of(false), of(true)].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
