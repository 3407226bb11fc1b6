//! What is asked for.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoIpVlan,
    InfoKind, InfoMacVlan, InfoPortData, InfoPortKind, InfoVeth, InfoVlan, IpVlanMode, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage, MacVlanMode,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{NetlinkError, SeenLink};
use crate::model::{Cidr, IpvlanMode, Mac, MacvlanMode};

/// One request, with what to say where it is refused.
#[derive(Debug, Clone)]
pub struct Request {
    /// What was not done then.
    what: String,
    pub(super) message: RouteNetlinkMessage,
    pub(super) flags: u16,
    /// What the kernel may answer all the same.
    excused: &'static [i32],
}

impl Request {
    fn new(what: String, message: RouteNetlinkMessage, flags: u16) -> Self {
        Self { what, message, flags, excused: &[] }
    }

    /// It is well, too, where it is there already.
    #[must_use]
    pub fn unless_there(self) -> Self {
        Self { excused: &[libc::EEXIST], ..self }
    }

    /// It is well, too, where what it is about is gone.
    #[must_use]
    pub fn unless_gone(self) -> Self {
        Self { excused: &[libc::ENODEV, libc::EADDRNOTAVAIL, libc::ESRCH], ..self }
    }

    pub(super) fn judge(&self, errno: i32, said: Option<String>) -> Result<(), NetlinkError> {
        if errno == 0 || self.excused.contains(&-errno) {
            return Ok(());
        }
        Err(NetlinkError::Refused { what: self.what.clone(), said, source: io::Error::from_raw_os_error(-errno) })
    }

    fn make(label: &str, attributes: Vec<LinkAttribute>) -> Self {
        let message = RouteNetlinkMessage::NewLink(message(0, attributes));
        Self::new(format!("{label} was not made"), message, NLM_F_CREATE | NLM_F_EXCL)
    }

    fn set(what: String, link: &SeenLink, attributes: Vec<LinkAttribute>) -> Self {
        Self::new(what, RouteNetlinkMessage::SetLink(message(link.index, attributes)), 0)
    }

    /// A bridge without spanning tree.
    #[must_use]
    pub fn make_bridge(label: &str, name: &str, mac: Option<Mac>, mtu: Option<u32>) -> Self {
        let data = vec![InfoBridge::StpState(BridgeStpState::Disabled), InfoBridge::ForwardDelay(0)];
        let kind = kind(InfoKind::Bridge, Some(InfoData::Bridge(data)));
        Self::make(label, [vec![named(name), kind], common(mac, mtu)].concat())
    }

    /// A pair: `near` here, the other end in a namespace, which needs not be this one's.
    #[must_use]
    pub fn make_pair(
        label: &str,
        near: &str,
        (far, namespace): (&str, BorrowedFd<'_>),
        mac: Option<Mac>,
        mtu: u32,
    ) -> Self {
        let there = vec![named(far), LinkAttribute::NetNsFd(namespace.as_raw_fd())];
        let peer = message(0, [there, common(mac, Some(mtu))].concat());
        let kind = kind(InfoKind::Veth, Some(InfoData::Veth(InfoVeth::Peer(peer))));
        Self::make(label, [vec![named(near), kind], common(None, Some(mtu))].concat())
    }

    /// An interface on another one's wire, in a namespace.
    #[must_use]
    pub fn make_macvlan(
        label: &str,
        parent: &SeenLink,
        mode: MacvlanMode,
        (name, namespace): (&str, BorrowedFd<'_>),
        mac: Option<Mac>,
        mtu: u32,
    ) -> Self {
        let mode = match mode {
            MacvlanMode::Bridge => MacVlanMode::Bridge,
            MacvlanMode::Vepa => MacVlanMode::Vepa,
            MacvlanMode::Private => MacVlanMode::Private,
            MacvlanMode::Passthru => MacVlanMode::Passthrough,
        };
        let kind = kind(InfoKind::MacVlan, Some(InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)])));
        let there =
            vec![named(name), LinkAttribute::NetNsFd(namespace.as_raw_fd()), LinkAttribute::Link(parent.index), kind];
        Self::make(label, [there, common(mac, Some(mtu))].concat())
    }

    /// An interface with another one's MAC address, in a namespace.
    #[must_use]
    pub fn make_ipvlan(
        label: &str,
        parent: &SeenLink,
        mode: IpvlanMode,
        (name, namespace): (&str, BorrowedFd<'_>),
        mtu: u32,
    ) -> Self {
        let mode = match mode {
            IpvlanMode::L2 => IpVlanMode::L2,
            IpvlanMode::L3 => IpVlanMode::L3,
            IpvlanMode::L3s => IpVlanMode::L3S,
        };
        let kind = kind(InfoKind::IpVlan, Some(InfoData::IpVlan(vec![InfoIpVlan::Mode(mode)])));
        let there =
            vec![named(name), LinkAttribute::NetNsFd(namespace.as_raw_fd()), LinkAttribute::Link(parent.index), kind];
        Self::make(label, [there, common(None, Some(mtu))].concat())
    }

    /// A tagged VLAN of an interface.
    #[must_use]
    pub fn make_vlan(label: &str, name: &str, parent: &SeenLink, id: u16) -> Self {
        let kind = kind(InfoKind::Vlan, Some(InfoData::Vlan(vec![InfoVlan::Id(id)])));
        Self::make(label, vec![named(name), LinkAttribute::Link(parent.index), kind])
    }

    /// An interface without a wire.
    #[must_use]
    pub fn make_dummy(label: &str, name: &str) -> Self {
        Self::make(label, vec![named(name), kind(InfoKind::Dummy, None)])
    }

    /// Removes an interface by its name.
    #[must_use]
    pub fn remove(label: &str, name: &str) -> Self {
        let message = RouteNetlinkMessage::DelLink(message(0, vec![named(name)]));
        Self::new(format!("{label} was not removed"), message, 0)
    }

    /// What an interface says of itself to people.
    #[must_use]
    pub fn alias(name: &str, alias: &str) -> Self {
        let attributes = vec![named(name), LinkAttribute::IfAlias(alias.to_owned())];
        Self::new(format!("{name} was not marked"), RouteNetlinkMessage::SetLink(message(0, attributes)), 0)
    }

    /// Brings it up.
    #[must_use]
    pub fn up(link: &SeenLink) -> Self {
        let mut message = message(link.index, Vec::new());
        (message.header.flags, message.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
        Self::new(format!("{} was not brought up", link.name), RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Makes it a port of a bridge and brings it up. It gets no IPv6 address of its own: nobody is to reach this machine by it.
    ///
    /// A packet may leave by the port that it came from: where the packet filter sees what is bridged, as it does by default on many
    /// machines (`net.bridge.bridge-nf-call-iptables`), a container that asks for its own published port is led back to itself.
    #[must_use]
    pub fn port(name: &str, bridge: &SeenLink) -> [Self; 3] {
        let silent = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let attributes = vec![named(name), LinkAttribute::AfSpecUnspec(vec![silent])];
        let silent = RouteNetlinkMessage::SetLink(message(0, attributes));
        let mut port = message(0, vec![named(name), LinkAttribute::Controller(bridge.index)]);
        (port.header.flags, port.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
        let hairpin = InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]);
        let info = vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(hairpin)];
        let hairpin = RouteNetlinkMessage::NewLink(message(0, vec![named(name), LinkAttribute::LinkInfo(info)]));
        let what = format!("{name} was not made a port of {}", bridge.name);
        [
            // A kernel without IPv6 does not know of it.
            Self { excused: &[libc::EAFNOSUPPORT, libc::EOPNOTSUPP], ..Self::new(what.clone(), silent, 0) },
            Self::new(what.clone(), RouteNetlinkMessage::SetLink(port), 0),
            Self::new(what, hairpin, 0),
        ]
    }

    /// Sets the MTU.
    #[must_use]
    pub fn mtu(link: &SeenLink, mtu: u32) -> Self {
        Self::set(format!("the MTU of {} was not set to {mtu}", link.name), link, vec![LinkAttribute::Mtu(mtu)])
    }

    /// Sets the MAC address.
    #[must_use]
    pub fn mac(link: &SeenLink, mac: Mac) -> Self {
        let attributes = vec![LinkAttribute::Address(mac.0.to_vec())];
        Self::set(format!("the MAC address of {} was not set to {mac}", link.name), link, attributes)
    }

    /// Gives an interface an address. Nobody else is asked whether he has it.
    #[must_use]
    pub fn address(link: &SeenLink, cidr: Cidr) -> Self {
        let what = format!("the address {cidr} was not given to {}", link.name);
        let mut message = address(link, cidr);
        message.attributes.push(AddressAttribute::Local(cidr.address));
        match cidr.address {
            IpAddr::V4(address) if cidr.prefix < 31 => {
                let hosts = u32::MAX.checked_shr(u32::from(cidr.prefix)).unwrap_or(0);
                message.attributes.push(AddressAttribute::Broadcast((address.to_bits() | hosts).into()));
            }
            IpAddr::V4(_) => {}
            IpAddr::V6(_) => message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad)),
        }
        Self::new(what, RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Takes an address from an interface.
    #[must_use]
    pub fn remove_address(link: &SeenLink, cidr: Cidr) -> Self {
        let mut message = address(link, cidr);
        message.attributes.push(AddressAttribute::Local(cidr.address));
        let what = format!("the address {cidr} was not taken from {}", link.name);
        Self::new(what, RouteNetlinkMessage::DelAddress(message), 0)
    }

    /// The way out by an interface: through a gateway, or to whoever answers there where that is unspecified.
    #[must_use]
    pub fn default_route(link: &SeenLink, gateway: IpAddr) -> Self {
        let mut message = RouteMessage::default();
        message.header.address_family = family(gateway);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Oif(link.index));
        if gateway.is_unspecified() {
            if gateway.is_ipv4() {
                message.header.scope = RouteScope::Link;
            }
        } else {
            // It may be outside of the subnet.
            message.header.flags = RouteFlags::Onlink;
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
        }
        let what = format!("the default route through {gateway} ({}) was not made", link.name);
        Self::new(what, RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }
}

fn message(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    message
}

fn named(name: &str) -> LinkAttribute {
    LinkAttribute::IfName(name.to_owned())
}

fn kind(kind: InfoKind, data: Option<InfoData>) -> LinkAttribute {
    LinkAttribute::LinkInfo([Some(LinkInfo::Kind(kind)), data.map(LinkInfo::Data)].into_iter().flatten().collect())
}

fn common(mac: Option<Mac>, mtu: Option<u32>) -> Vec<LinkAttribute> {
    let mac = mac.map(|mac| LinkAttribute::Address(mac.0.to_vec()));
    mac.into_iter().chain(mtu.map(LinkAttribute::Mtu)).collect()
}

fn address(link: &SeenLink, cidr: Cidr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(cidr.address);
    message.header.prefix_len = cidr.prefix;
    message.header.index = link.index;
    message.header.scope = match cidr.address {
        IpAddr::V4(address) if address.is_link_local() => AddressScope::Link,
        IpAddr::V4(_) | IpAddr::V6(_) => AddressScope::Universe,
    };
    message.attributes.push(AddressAttribute::Address(cidr.address));
    message
}

const fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
