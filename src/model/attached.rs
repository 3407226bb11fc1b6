//! What a container is joined to, and what the host has of networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Cidr, ContainerId, IpvlanMode, Mac, MacvlanMode, Network, NetworkId, NetworkName, ProcessId, Protocol};

/// Where the network of a container that is to be started comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkPlace {
    /// As its mode says: nothing, or the host's.
    Plain,
    /// These networks are up: one for each [`super::Join`], in its order.
    Networks(Vec<NetworkId>),
    /// That of this container, which runs.
    Of(ContainerId),
}

/// What a container was joined to when it was started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attached {
    /// Its links.
    pub links: Vec<Attachment>,
    /// Its ports on the host.
    pub published: Vec<Published>,
    /// The container whose network it shares, by the process that it was then.
    pub shared: Option<(ContainerId, ProcessId)>,
    /// Whether its slot's ports and names are its own.
    pub turn: Turn,
}

/// Which container of a slot has the ports and the names: of those that run, the one with the highest number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// Not this one: it was started beside another one, or while the ports are held, and they were not handed over to it yet.
    Standby,
    /// Each to whom they are handed over gets the next number.
    Number(u64),
}

impl Default for Turn {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// One link of a container to a network. What is needed to make it, and to make it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// To which.
    pub network: NetworkId,
    /// Its name.
    pub name: NetworkName,
    /// How.
    pub link: Link,
    /// The interface's name inside.
    pub interface: String,
    /// Its MAC address; none where the kernel gives it that of the parent.
    pub mac: Option<Mac>,
    /// Its addresses: IPv4 first, then IPv6, then further ones.
    pub addresses: Vec<Cidr>,
    /// The default gateways; empty where the way out is through another link, or nowhere.
    pub gateways: Vec<IpAddr>,
    /// Its MTU.
    pub mtu: u32,
    /// Whether the network is internal.
    pub internal: bool,
}

impl Attachment {
    /// Its first address of each family.
    #[must_use]
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|cidr| if let IpAddr::V4(address) = cidr.address { Some(address) } else { None })
    }
    /// Its first IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|cidr| if let IpAddr::V6(address) = cidr.address { Some(address) } else { None })
    }
}

/// What kind of link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// A pair: one end in the container, the other a port of a bridge.
    Bridge {
        /// The bridge.
        bridge: String,
        /// The end on the host.
        port: String,
    },
    /// On an interface of the host.
    Macvlan {
        /// Which.
        parent: String,
        /// How.
        mode: MacvlanMode,
    },
    /// On an interface of the host.
    Ipvlan {
        /// Which.
        parent: String,
        /// How.
        mode: IpvlanMode,
    },
}

/// One port of the host that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Published {
    /// On which address; none: all, of both families where the container has both.
    pub address: Option<IpAddr>,
    /// The host's port.
    pub port: u16,
    /// The container's.
    pub target: u16,
    /// Which protocol.
    pub protocol: Protocol,
    /// Who reaches it.
    pub exposure: Exposure,
}

/// From where a published port can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Exposure {
    /// From everywhere (on its address).
    #[default]
    All,
    /// From this machine.
    Loopback,
    /// From where the host's own input rules let it.
    HostFirewall,
}

impl Published {
    /// Whether other machines can reach it, as far as this machine decides. With [`Exposure::HostFirewall`] the host's rules decide
    /// further.
    #[must_use]
    pub fn outside(&self) -> bool {
        self.exposure != Exposure::Loopback && self.address.is_none_or(|address| !address.is_loopback())
    }
}

/// A network of ours, as the host has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedNetwork {
    /// What it was made from.
    pub network: Network,
    /// Its subnets: IPv4 first.
    pub subnets: Vec<Cidr>,
    /// The bridge's addresses in them, or the gateways outside.
    pub gateways: Vec<IpAddr>,
    /// The bridge, or the parent.
    pub interface: Option<String>,
    /// What is wrong with it; none: it is up.
    pub broken: Option<String>,
}
