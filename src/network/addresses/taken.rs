//! What subnets must not overlap.

use std::net::IpAddr;

use crate::model::Cidr;
use crate::network::netlink::{SeenLink, Snapshot};

/// Routes as wide as this are ways out, not places: `0.0.0.0/0`, its two halves, `2000::/3`.
const WAY_OUT: u8 = 3;

/// Addresses that somebody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub cidr: Cidr,
    /// Who: `network shop_default`, `a route of this host by wg0`.
    pub what: String,
}

/// What the host's routes and addresses take, without those of our own interfaces: what those have, their networks have.
#[must_use]
pub fn on_host(host: &Snapshot, ours: impl Fn(&SeenLink) -> bool) -> Vec<Taken> {
    let by = |index: u32| host.links.iter().find(|link| link.index == index);
    let foreign = |index: Option<u32>| index.and_then(by).is_none_or(|link| !ours(link));
    let name = |index: Option<u32>| index.and_then(by).map_or("several interfaces", |link| link.name.as_str());
    let routes = host.routes.iter().filter(|route| foreign(route.index) && route.to.prefix > WAY_OUT);
    let routes = routes.map(|route| Taken {
        cidr: route.to.network(),
        what: format!("a route of this host by {}", name(route.index)),
    });
    let addresses =
        host.addresses.iter().filter(|address| foreign(Some(address.index)) && address.cidr.prefix > WAY_OUT);
    let addresses = addresses.map(|address| Taken {
        cidr: address.cidr.network(),
        what: format!("the address {} of this host on {}", address.cidr.address, name(Some(address.index))),
    });
    routes.chain(addresses).filter(|taken| !is_everywhere(taken.cidr.address)).collect()
}

/// What every machine has for itself says nothing.
fn is_everywhere(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_multicast(),
        IpAddr::V6(address) => address.is_loopback() || address.is_multicast() || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::netlink::{SeenAddress, SeenRoute};

    #[test]
    fn the_hosts_own_places_are_taken_and_its_ways_out_are_not() {
        let link = |index, name: &str| SeenLink { index, name: name.into(), ..SeenLink::default() };
        let cidr = |text: &str| Cidr::parse(text).unwrap();
        let route = |to, index| SeenRoute { to: cidr(to), index, gateway: None, table: 254 };
        let address = |of, index| SeenAddress { index, cidr: cidr(of), failed: false };
        let host = Snapshot {
            links: vec![link(1, "lo"), link(2, "wg0"), link(3, "ls-1")],
            addresses: vec![address("127.0.0.1/8", 1), address("10.8.0.5/32", 2), address("172.20.0.1/24", 3)],
            routes: vec![
                route("0.0.0.0/0", Some(2)),
                route("0.0.0.0/1", Some(2)),
                route("2000::/3", Some(2)),
                route("fe80::/64", Some(2)),
                route("10.0.0.0/8", Some(2)),
                route("172.20.0.0/24", Some(3)),
                route("192.168.0.0/16", None),
            ],
        };
        let taken = on_host(&host, |link| link.name.starts_with("ls-"));
        let words: Vec<String> = taken.iter().map(|taken| format!("{}: {}", taken.cidr, taken.what)).collect();
        assert_eq!(
            words,
            [
                "10.0.0.0/8: a route of this host by wg0",
                "192.168.0.0/16: a route of this host by several interfaces",
                "10.8.0.5/32: the address 10.8.0.5 of this host on wg0",
            ]
        );
    }
}
