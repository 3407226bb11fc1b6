//! The links of a container: made from the host's side, set up from inside.
//!
//! A link is made whole or not at all, by a thread that is in the container's namespace and holds a socket of the host's. It belongs to
//! the container's namespace and is gone with it. What a container that runs has lost is found by comparing ([`faults`]) and put right.

mod announce;
mod reconnect;

use std::os::fd::BorrowedFd;

use super::bridge::BridgeError;
use super::netlink::{NetlinkError, Request, SeenLink, Socket};
use super::sysctl::{self, SysctlError};
use crate::model::{Attachment, Link, NetworkName};

pub use announce::announce;
pub use reconnect::{LinkFault, faults, reconnect};

/// Why a container has not its link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The network is not up.
    #[error("network {network}: its interface {interface} is not there; it is made again when the daemon looks next")]
    NoNetwork {
        /// The network.
        network: NetworkName,
        /// The bridge or the parent.
        interface: String,
    },
    /// This kernel has none of these.
    #[error("network {network}: this machine's kernel has no {what}")]
    Lacking {
        /// The network.
        network: NetworkName,
        /// What.
        what: &'static str,
    },
    /// The kernel refused.
    #[error("network {network}")]
    Netlink {
        /// The network.
        network: NetworkName,
        /// What it refused.
        #[source]
        source: NetlinkError,
    },
    /// A parameter.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The host's side.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The namespace, or a socket in it.
    #[error("the container's network namespace cannot be used")]
    Namespace(#[from] std::io::Error),
}

impl LinkError {
    fn of(attachment: &Attachment) -> impl Fn(NetlinkError) -> Self {
        let network = attachment.name.clone();
        move |source| Self::Netlink { network: network.clone(), source }
    }
}

/// Makes one link of a container and sets it up. The calling thread is in the container's namespace, which `inside` is a socket of, and
/// which `namespace` is.
pub fn connect(
    host: &Socket,
    inside: &Socket,
    namespace: BorrowedFd<'_>,
    attachment: &Attachment,
) -> Result<(), LinkError> {
    make(host, namespace, attachment)?;
    let link = inside.link(&attachment.interface).map_err(LinkError::of(attachment))?;
    let link = link.ok_or_else(|| LinkError::NoNetwork {
        network: attachment.name.clone(),
        interface: attachment.interface.clone(),
    })?;
    set_up(inside, &link, attachment)
}

fn make(host: &Socket, namespace: BorrowedFd<'_>, attachment: &Attachment) -> Result<(), LinkError> {
    let Attachment { name, link, interface, mac, mtu, .. } = attachment;
    let seen = |on: &str| -> Result<SeenLink, LinkError> {
        host.link(on)
            .map_err(LinkError::of(attachment))?
            .ok_or_else(|| LinkError::NoNetwork { network: name.clone(), interface: on.to_owned() })
    };
    let label = format!("the interface {interface}");
    let there = (interface.as_str(), namespace);
    let (requests, what) = match link {
        Link::Bridge { bridge, port } => {
            let [silent, plugged, hairpin] = Request::port(port, &seen(bridge)?);
            // The kernel takes a moment to clear away what an earlier run had.
            let left = Request::remove(&format!("the interface {port} of an earlier run"), port).unless_gone();
            (
                vec![left, Request::make_pair(&label, port, there, *mac, *mtu), silent, plugged, hairpin],
                "veth pairs (module veth)",
            )
        }
        Link::Macvlan { parent, mode } => {
            (vec![Request::make_macvlan(&label, &seen(parent)?, *mode, there, *mac, *mtu)], "macvlan (module macvlan)")
        }
        Link::Ipvlan { parent, mode } => {
            (vec![Request::make_ipvlan(&label, &seen(parent)?, *mode, there, *mtu)], "ipvlan (module ipvlan)")
        }
    };
    host.all(&requests).map_err(|error| {
        if error.is(libc::EOPNOTSUPP) {
            return LinkError::Lacking { network: name.clone(), what };
        }
        LinkError::of(attachment)(error)
    })
}

/// From inside: addresses, up, the way out.
fn set_up(inside: &Socket, link: &SeenLink, attachment: &Attachment) -> Result<(), LinkError> {
    let ipv6 = attachment.ipv6().is_some();
    sysctl::ipv6(&attachment.interface, ipv6)?;
    if ipv6 && matches!(attachment.link, Link::Bridge { .. }) {
        sysctl::trust_no_router(&attachment.interface)?;
    }
    let addresses = attachment.addresses.iter().map(|cidr| Request::address(link, *cidr).unless_there());
    let routes = attachment.gateways.iter().map(|gateway| Request::default_route(link, *gateway));
    let requests: Vec<Request> = [Request::up(link)].into_iter().chain(addresses).chain(routes).collect();
    inside.all(&requests).map_err(LinkError::of(attachment))
}
