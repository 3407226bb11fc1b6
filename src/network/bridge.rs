//! The bridge of a network, and the interface of the host that a network without a bridge is on.
//!
//! What is ours says so (`ifalias`); nothing else is changed or removed. A bridge that was made and not yet marked is known by its MAC
//! address, which is derived from its network.

mod parent;

use super::netlink::{NetlinkError, Request, SeenLink, Snapshot, Socket};
use super::sysctl::{self, SysctlError};
use crate::model::{Cidr, Mac};

pub use parent::{ParentSpec, ensure as ensure_parent, remove as remove_parent};

/// The longest name of an interface.
pub const LONGEST: usize = 15;

/// A bridge as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    /// Its name.
    pub name: String,
    /// What it says of itself: `longshore INSTANCE ID`.
    pub alias: String,
    /// Its MAC address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// The host's addresses on it.
    pub addresses: Vec<Cidr>,
    /// Whether its network has IPv6.
    pub ipv6: bool,
}

/// Why a network has no interface of the host.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// Somebody else's.
    #[error(
        "the interface {name} is there already and is not this network's ({}); remove it, or give the network another name \
         (driver_opts: com.docker.network.bridge.name)",
        if .alias.is_empty() { "it says of nobody whose it is" } else { .alias.as_str() }
    )]
    Foreign {
        /// Its name.
        name: String,
        /// What it says of itself.
        alias: String,
    },
    /// No name of an interface.
    #[error("{0:?} cannot be the name of an interface: it has 1 to 15 characters, no blanks, no slashes and no colons")]
    Name(String),
    /// The parent is not there, and cannot be made.
    #[error("parent: this machine has no interface {0}; ip link lists those that it has")]
    NoParent(String),
    /// The parent is down.
    #[error("parent: the interface {0} is down; bring it up (ip link set {0} up)")]
    Down(String),
    /// This kernel has none of these.
    #[error("this machine's kernel has no {what}{advice}")]
    Lacking {
        /// What.
        what: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A parameter.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// There is no such interface.
    Gone,
    /// There is one, of somebody else.
    Foreign,
    /// It has not our mark.
    Unmarked,
    /// It is down.
    Down,
    /// Another MTU.
    Mtu,
    /// Another MAC address.
    Mac,
    /// An address is missing.
    Address(Cidr),
    /// It is no port of its bridge.
    Loose,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone => f.write_str("is gone"),
            Self::Foreign => f.write_str("belongs to somebody else"),
            Self::Unmarked => f.write_str("is not marked"),
            Self::Down => f.write_str("is down"),
            Self::Mtu => f.write_str("has another MTU"),
            Self::Mac => f.write_str("has another MAC address"),
            Self::Address(cidr) => write!(f, "has lost its address {cidr}"),
            Self::Loose => f.write_str("is no port of its bridge any more"),
        }
    }
}

/// What the host has, as far as bridges and their ports go.
pub fn look(host: &Socket) -> Result<Snapshot, NetlinkError> {
    Ok(Snapshot { links: host.links()?, addresses: host.addresses()?, routes: Vec::new() })
}

/// What is wrong with a bridge.
#[must_use]
pub fn faults(spec: &BridgeSpec, seen: &Snapshot) -> Vec<Fault> {
    let Some(link) = seen.link(&spec.name) else { return vec![Fault::Gone] };
    if !ours(spec, link) {
        return vec![Fault::Foreign];
    }
    let mut faults = Vec::new();
    let mut note = |wrong, fault| {
        if wrong {
            faults.push(fault);
        }
    };
    note(link.alias != spec.alias, Fault::Unmarked);
    note(link.mtu != spec.mtu, Fault::Mtu);
    note(link.mac != Some(spec.mac), Fault::Mac);
    note(!link.up, Fault::Down);
    for address in &spec.addresses {
        note(!seen.has(link, *address), Fault::Address(*address));
    }
    faults
}

/// What is wrong with the host's end of a link.
#[must_use]
pub fn port_fault(port: &str, bridge: &str, seen: &Snapshot) -> Option<Fault> {
    let Some(link) = seen.link(port) else { return Some(Fault::Gone) };
    let bridge = seen.link(bridge).map(|bridge| bridge.index);
    match () {
        () if bridge.is_none() || link.master != bridge => Some(Fault::Loose),
        () if !link.up => Some(Fault::Down),
        () => None,
    }
}

/// Makes the bridge, or puts right what is wrong with it. The calling thread is in the socket's namespace.
pub fn ensure(host: &Socket, spec: &BridgeSpec) -> Result<(), BridgeError> {
    check_name(&spec.name)?;
    let faults = faults(spec, &look(host)?);
    if faults.contains(&Fault::Foreign) {
        return Err(foreign(host, &spec.name)?);
    }
    let fresh = faults.contains(&Fault::Gone);
    if fresh {
        let label = format!("the bridge {}", spec.name);
        let make = Request::make_bridge(&label, &spec.name, Some(spec.mac), Some(spec.mtu));
        host.all(&[make, Request::alias(&spec.name, &spec.alias)]).map_err(|error| match error {
            error if error.is(libc::EOPNOTSUPP) => BridgeError::Lacking { what: "bridges", advice: " (module bridge)" },
            error => error.into(),
        })?;
    }
    sysctl::ipv6(&spec.name, spec.ipv6)?;
    if spec.ipv6 {
        sysctl::trust_no_router(&spec.name)?;
    }
    // With a published port on 127.0.0.1 the host's own connections to it come this way.
    sysctl::route_localnet(&spec.name)?;
    mend(host, spec, fresh)
}

fn mend(host: &Socket, spec: &BridgeSpec, fresh: bool) -> Result<(), BridgeError> {
    let seen = look(host)?;
    let Some(link) = seen.link(&spec.name) else { return Err(BridgeError::NoParent(spec.name.clone())) };
    let requests = faults(spec, &seen).into_iter().filter_map(|fault| match fault {
        Fault::Unmarked => Some(Request::alias(&spec.name, &spec.alias)),
        Fault::Mtu => Some(Request::mtu(link, spec.mtu)),
        Fault::Mac => Some(Request::mac(link, spec.mac)),
        Fault::Down => Some(Request::up(link)),
        Fault::Address(cidr) => Some(Request::address(link, cidr).unless_there()),
        Fault::Gone | Fault::Foreign | Fault::Loose => None,
    });
    let mut requests: Vec<Request> = requests.collect();
    if fresh {
        // One that was only made with an MTU follows its ports: with the last of them it would go back to 1500.
        requests.push(Request::mtu(link, spec.mtu));
    }
    Ok(host.all(&requests)?)
}

/// Removes the bridge, if it is this network's. One that is gone is well.
pub fn remove(host: &Socket, spec: &BridgeSpec) -> Result<(), BridgeError> {
    match host.link(&spec.name)? {
        Some(link) if ours(spec, &link) => {
            Ok(host.one(Request::remove(&format!("the bridge {}", spec.name), &spec.name).unless_gone())?)
        }
        Some(_) | None => Ok(()),
    }
}

fn ours(spec: &BridgeSpec, link: &SeenLink) -> bool {
    link.kind == "bridge" && (link.alias == spec.alias || link.alias.is_empty() && link.mac == Some(spec.mac))
}

fn foreign(host: &Socket, name: &str) -> Result<BridgeError, NetlinkError> {
    let alias = host.link(name)?.map(|link| link.alias).unwrap_or_default();
    Ok(BridgeError::Foreign { name: name.to_owned(), alias })
}

fn check_name(name: &str) -> Result<(), BridgeError> {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '/' | ':');
    if (1..=LONGEST).contains(&name.len()) && ![".", ".."].contains(&name) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(BridgeError::Name(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::netlink::tests::apart;

    fn spec() -> BridgeSpec {
        let cidr = |text: &str| Cidr::parse(text).unwrap();
        BridgeSpec {
            name: "ls-0123456789".into(),
            alias: "longshore i id".into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu: 1400,
            addresses: vec![cidr("10.9.0.1/24"), cidr("fd00::1/64")],
            ipv6: true,
        }
    }

    #[test]
    fn a_bridge_is_made_and_put_right() {
        apart(|| {
            let host = Socket::open().unwrap();
            let spec = spec();
            assert_eq!(faults(&spec, &look(&host).unwrap()), [Fault::Gone]);
            ensure(&host, &spec).unwrap();
            assert_eq!(faults(&spec, &look(&host).unwrap()), []);
            assert!(sysctl::routes_localnet(&spec.name) && sysctl::has_ipv6(&spec.name));
            let link = host.link(&spec.name).unwrap().unwrap();
            let wrong = [
                Request::remove_address(&link, spec.addresses[0]),
                Request::remove_address(&link, spec.addresses[1]),
                Request::mtu(&link, 1300),
                Request::alias(&spec.name, ""),
            ];
            host.all(&wrong).unwrap();
            let [v4, v6] = [0, 1].map(|n| Fault::Address(spec.addresses[n]));
            assert_eq!(faults(&spec, &look(&host).unwrap()), [Fault::Unmarked, Fault::Mtu, v4, v6]);
            ensure(&host, &spec).unwrap();
            assert_eq!(faults(&spec, &look(&host).unwrap()), []);
            assert_eq!(host.link(&spec.name).unwrap().unwrap().index, link.index, "it is the same one");
            remove(&host, &spec).unwrap();
            remove(&host, &spec).unwrap();
            assert_eq!(faults(&spec, &look(&host).unwrap()), [Fault::Gone]);
        });
    }

    #[test]
    fn without_ipv6_it_has_none() {
        apart(|| {
            let host = Socket::open().unwrap();
            let mut spec = spec();
            spec.ipv6 = false;
            spec.addresses.pop();
            ensure(&host, &spec).unwrap();
            assert!(!sysctl::has_ipv6(&spec.name));
            let link = host.link(&spec.name).unwrap().unwrap();
            assert!(host.addresses().unwrap().iter().all(|a| a.index != link.index || a.cidr.address.is_ipv4()));
        });
    }

    #[test]
    fn somebody_elses_is_left_alone() {
        apart(|| {
            let host = Socket::open().unwrap();
            let spec = spec();
            host.one(Request::make_bridge("b", &spec.name, None, None)).unwrap();
            let before = host.link(&spec.name).unwrap();
            assert!(matches!(ensure(&host, &spec), Err(BridgeError::Foreign { .. })));
            remove(&host, &spec).unwrap();
            assert_eq!(host.link(&spec.name).unwrap(), before);
            assert!(matches!(ensure(&host, &BridgeSpec { name: "a b".into(), ..spec }), Err(BridgeError::Name(_))));
        });
    }
}
