//! The rules of the packet filter, as one transaction for `nft -j`. Pure.
//!
//! All of them live in one table of the family `inet`, and, for what can only be checked on the wire between containers, in one of the
//! same name in the family `bridge`. Both are replaced as a whole. What differs from container to container is an element of a set or
//! a map, so that a thousand containers cost a packet no more than one.
//!
//! ```text
//! from a container ─▶ bridge `port`: its MAC, its addresses ─▶ `enter`: its network's addresses, no metadata, no loopback
//!                  ─▶ `publish_in`: DNAT of published ports ─┬▶ `between`: networks are kept apart ─▶ `leave`: masquerade
//!                                                            └▶ `host`: what containers reach of this machine
//! from this machine ─▶ `publish_here`: DNAT, also of loopback addresses ─▶ `leave`
//! ```
//! What our rules accept other tables may still drop: an accept ends no more than its own chain. What ours drop is dropped.
//!
//! `[::1]` cannot be published this way: the kernel takes answers to it from loopback only (IPv4 has `route_localnet` for that, IPv6
//! has nothing). See [`forward`](super::forward).

mod bridge;
mod expression;
mod inet;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::{Value, json};

use crate::model::{Cidr, Exposure, Mac, Published};

/// What the rules are made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// The name of our tables.
    pub table: String,
    /// The networks with a bridge.
    pub networks: Vec<RuledNetwork>,
    /// The ports of these bridges that lead to containers. One that is not listed is not checked on the wire.
    pub endpoints: Vec<Endpoint>,
    /// The published ports, each with the addresses of the container that it leads to: the first of each family counts.
    pub published: Vec<(Published, Vec<IpAddr>)>,
    /// What containers do not reach: the metadata services of clouds.
    pub blocked: Vec<Cidr>,
    /// Where the daemon listens, which containers do not reach either.
    pub api: Option<SocketAddr>,
}

/// A network with a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuledNetwork {
    /// The bridge.
    pub interface: String,
    /// Its subnets. No packet with another source comes from it.
    pub subnets: Vec<Cidr>,
    /// Neither to the outside nor from there, nor to this machine.
    pub internal: bool,
    /// Whether what leaves this machine gets its address.
    pub masquerade: bool,
}

/// The host's end of a container's link to a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The interface.
    pub port: String,
    /// The container's MAC address.
    pub mac: Mac,
    /// The container's addresses; the link-local one that follows from its MAC address is added.
    pub addresses: Vec<IpAddr>,
}

/// What the kernel's packet filter knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// Whether the kernel has IPv6. Without it the table is of the family `ip`.
    pub ipv6: bool,
    /// Whether it filters bridges. Without it containers of one network are not kept from taking each other's addresses.
    pub bridge: bool,
}

/// A table of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    /// `inet`, `ip` or `bridge`.
    pub family: &'static str,
    /// Its name.
    pub name: String,
}

/// The tables, and what replaces them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Which tables are there afterwards.
    pub tables: Vec<Table>,
    /// For `nft -j -f -`.
    pub json: Value,
}

impl Rules {
    /// Everything, from nothing.
    #[must_use]
    pub fn transaction(&self, families: Families) -> Transaction {
        let mut tables = vec![inet::table(self, families.ipv6)];
        if families.bridge {
            tables.push(bridge::table(self, families.ipv6));
        }
        let (names, commands): (Vec<Table>, Vec<Vec<Value>>) = tables.into_iter().unzip();
        Transaction { tables: names, json: json!({ "nftables": commands.concat() }) }
    }
}

/// Takes tables away, whether they are there or not.
#[must_use]
pub fn removal(tables: &[Table]) -> Value {
    // Adding what is there does nothing, and deleting what is not there would be an error.
    let commands = tables.iter().flat_map(|table| {
        let table = json!({ "family": table.family, "name": table.name });
        [json!({ "add": { "table": &table } }), json!({ "delete": { "table": &table } })]
    });
    json!({ "nftables": commands.collect::<Vec<_>>() })
}

/// On which addresses of this machine a port is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    /// On all of this family.
    All,
    /// On this one.
    At(IpAddr),
    /// On this one, and only to this machine itself.
    Here(IpAddr),
}

/// For one family; none: not there, or not by rules of ours.
fn answered(published: &Published, ipv6: bool) -> Option<Answered> {
    let any = if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let address = published.address.unwrap_or(any);
    if address.is_ipv6() != ipv6 {
        return None;
    }
    match published.exposure {
        Exposure::HostFirewall => None,
        _ if address.is_loopback() && ipv6 => None,
        _ if address.is_loopback() => Some(Answered::Here(address)),
        Exposure::Loopback if address.is_unspecified() => {
            (!ipv6).then_some(Answered::Here(IpAddr::V4(Ipv4Addr::LOCALHOST)))
        }
        Exposure::Loopback => Some(Answered::Here(address)),
        Exposure::All if address.is_unspecified() => Some(Answered::All),
        Exposure::All => Some(Answered::At(address)),
    }
}

/// The link-local address that the kernel derives from a MAC address (EUI-64).
fn link_local(mac: Mac) -> Ipv6Addr {
    let Mac([a, b, c, d, e, f]) = mac;
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

#[cfg(test)]
mod tests;
