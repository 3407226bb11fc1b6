//! What the kernel shows. Read attribute by attribute: those that we do not know, or whose form changed, are passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NlaBuffer, NlasIterator};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{NetlinkError, Socket};
use crate::model::{Cidr, Mac};

const NEW_LINK: u16 = libc::RTM_NEWLINK;
const NEW_ADDRESS: u16 = libc::RTM_NEWADDR;
const NEW_ROUTE: u16 = libc::RTM_NEWROUTE;
const INET: u8 = libc::AF_INET as u8;
const INET6: u8 = libc::AF_INET6 as u8;
const KIND: u16 = 1;
const DATA: u16 = 2;
const VLAN_ID: u16 = 1;
const LINK_NAMESPACE: u16 = 37;
const CLONED: u32 = 0x200;

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeenLink {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it says of itself to people (`ifalias`); empty: nothing.
    pub alias: String,
    /// `bridge`, `veth` …; empty: a device.
    pub kind: String,
    /// Its MAC address.
    pub mac: Option<Mac>,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it was brought up.
    pub up: bool,
    /// Whether it can carry: its other end is up, too.
    pub running: bool,
    /// The bridge whose port it is.
    pub master: Option<u32>,
    /// The interface that it is on, or its other end; in another namespace where `elsewhere`.
    pub parent: Option<u32>,
    /// Whether that is in another namespace.
    pub elsewhere: bool,
    /// The tag of a VLAN.
    pub vlan: Option<u16>,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeenAddress {
    /// The interface.
    pub index: u32,
    /// The address.
    pub cidr: Cidr,
    /// Whether it cannot be used: somebody else has it.
    pub failed: bool,
}

/// A route to somewhere, of any table but the local one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeenRoute {
    /// Where to.
    pub to: Cidr,
    /// By which interface; none: several, or nowhere.
    pub index: Option<u32>,
    /// Through whom.
    pub gateway: Option<IpAddr>,
    /// The table.
    pub table: u32,
}

/// Everything in a namespace.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Its interfaces.
    pub links: Vec<SeenLink>,
    /// Their addresses.
    pub addresses: Vec<SeenAddress>,
    /// Its routes.
    pub routes: Vec<SeenRoute>,
}

impl Snapshot {
    /// An interface by its name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&SeenLink> {
        self.links.iter().find(|link| link.name == name)
    }
    /// Whether the interface has the address.
    #[must_use]
    pub fn has(&self, link: &SeenLink, cidr: Cidr) -> bool {
        self.addresses.iter().any(|address| address.index == link.index && address.cidr == cidr && !address.failed)
    }
}

impl Socket {
    /// All interfaces.
    pub fn links(&self) -> Result<Vec<SeenLink>, NetlinkError> {
        let mut ask = LinkMessage::default();
        ask.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        self.dump("the interfaces were not read", &RouteNetlinkMessage::GetLink(ask), read_link)
    }

    /// An interface by its name.
    pub fn link(&self, name: &str) -> Result<Option<SeenLink>, NetlinkError> {
        let mut ask = LinkMessage::default();
        ask.attributes.push(LinkAttribute::IfName(name.to_owned()));
        ask.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        self.get(&format!("the interface {name} was not read"), RouteNetlinkMessage::GetLink(ask), read_link)
    }

    /// All addresses.
    pub fn addresses(&self) -> Result<Vec<SeenAddress>, NetlinkError> {
        let ask = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.dump("the addresses were not read", &ask, read_address)
    }

    /// All routes of all tables but the local one, without those that are not meant for anywhere (multicast, broadcast).
    pub fn routes(&self) -> Result<Vec<SeenRoute>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut ask = RouteMessage::default();
            ask.header.address_family = family;
            routes.extend(self.dump("the routes were not read", &RouteNetlinkMessage::GetRoute(ask), read_route)?);
        }
        Ok(routes)
    }

    /// All of that.
    pub fn snapshot(&self) -> Result<Snapshot, NetlinkError> {
        Ok(Snapshot { links: self.links()?, addresses: self.addresses()?, routes: self.routes()? })
    }
}

fn attributes(body: &[u8], header: usize) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(body.get(header..).unwrap_or_default()).flatten()
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into());
    four().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into()))
}

pub(in crate::network) fn read_link(kind: u16, body: &[u8]) -> Option<SeenLink> {
    if kind != NEW_LINK || body.first() != Some(&0) {
        return None;
    }
    let flags = number(body.get(8..)?)?;
    let mut link = SeenLink {
        index: number(body.get(4..)?)?,
        up: flags & libc::IFF_UP as u32 != 0,
        running: flags & libc::IFF_RUNNING as u32 != 0,
        ..SeenLink::default()
    };
    for attribute in attributes(body, 16) {
        let value = attribute.value();
        match attribute.kind() {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_IFALIAS => link.alias = text(value),
            libc::IFLA_ADDRESS => link.mac = <[u8; 6]>::try_from(value).ok().map(Mac),
            libc::IFLA_MTU => link.mtu = number(value).unwrap_or(0),
            libc::IFLA_MASTER => link.master = number(value),
            libc::IFLA_LINK => link.parent = number(value).filter(|index| *index != 0),
            LINK_NAMESPACE => link.elsewhere = true,
            libc::IFLA_LINKINFO => {
                for info in attributes(value, 0) {
                    match info.kind() {
                        KIND => link.kind = text(info.value()),
                        DATA if link.kind == "vlan" => {
                            let id = attributes(info.value(), 0).find(|data| data.kind() == VLAN_ID);
                            link.vlan = id.and_then(|id| Some(u16::from_ne_bytes(id.value().try_into().ok()?)));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(link)
}

pub(in crate::network) fn read_address(kind: u16, body: &[u8]) -> Option<SeenAddress> {
    if kind != NEW_ADDRESS || !matches!(body.first(), Some(&INET | &INET6)) {
        return None;
    }
    let (prefix, index) = (*body.get(1)?, number(body.get(4..)?)?);
    let mut flags = u32::from(*body.get(2)?);
    let (mut address, mut local) = (None, None);
    for attribute in attributes(body, 8) {
        match attribute.kind() {
            libc::IFA_ADDRESS => address = ip(attribute.value()),
            // That of this side, where the other is a peer.
            libc::IFA_LOCAL => local = ip(attribute.value()),
            libc::IFA_FLAGS => flags = number(attribute.value())?,
            _ => {}
        }
    }
    let cidr = Cidr::new(local.or(address)?, prefix)?;
    Some(SeenAddress { index, cidr, failed: flags & libc::IFA_F_DADFAILED != 0 })
}

pub(in crate::network) fn read_route(kind: u16, body: &[u8]) -> Option<SeenRoute> {
    let family = *body.first()?;
    if kind != NEW_ROUTE || !matches!(family, INET | INET6) {
        return None;
    }
    let (prefix, table, kind) = (*body.get(1)?, *body.get(4)?, *body.get(7)?);
    let somewhere = [libc::RTN_UNICAST, libc::RTN_BLACKHOLE, libc::RTN_UNREACHABLE, libc::RTN_PROHIBIT];
    if !somewhere.contains(&kind) || number(body.get(8..)?)? & CLONED != 0 {
        return None;
    }
    let nowhere = if family == INET { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut route = SeenRoute { to: Cidr::new(nowhere, prefix)?, index: None, gateway: None, table: u32::from(table) };
    for attribute in attributes(body, 12) {
        let value = attribute.value();
        match attribute.kind() {
            libc::RTA_DST => route.to = Cidr::new(ip(value)?, prefix)?,
            libc::RTA_OIF => route.index = number(value),
            libc::RTA_GATEWAY => route.gateway = ip(value),
            libc::RTA_TABLE => route.table = number(value)?,
            _ => {}
        }
    }
    (route.table != u32::from(libc::RT_TABLE_LOCAL)).then_some(route)
}
