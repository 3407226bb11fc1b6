//! `ipam` of a network: which addresses it has.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::node::Node;
use super::super::scope::Scope;
use super::super::source_text::Span;
use crate::model::{AddressPool, Cidr};

const CONFIG: &str = "ipam.config";

pub(super) fn read(ipv4: bool, ipv6: bool, scope: &mut Scope<'_, '_, '_>) -> Vec<AddressPool> {
    if let Some((driver, at)) = scope.word("ipam.driver").filter(|(driver, _)| *driver != "default") {
        let message = format!("addresses from the IPAM driver {driver:?} are not supported");
        scope.stop(at, "ipam.driver", message, "write `driver: default`, or leave it out");
    }
    let mut pools: Vec<AddressPool> = Vec::new();
    for node in scope.given(CONFIG).map(Node::items).unwrap_or_default() {
        let Some(pool) = pool(node, scope) else { continue };
        let (family, on, switch) = match pool.subnet.address {
            IpAddr::V4(_) => ("IPv4", ipv4, "enable_ipv4"),
            IpAddr::V6(_) => ("IPv6", ipv6, "enable_ipv6"),
        };
        if !on {
            let message = format!("the subnet {} has no effect: the network has no {family}", pool.subnet);
            scope.warn(node.at, CONFIG, message, &format!("write `{switch}: true` beside `ipam`"));
            continue;
        }
        pools.push(pool);
    }
    if let Some((one, other)) = overlapping(&pools) {
        let message = format!("the subnets {one} and {other} of one network overlap");
        scope.stop(scope.place(CONFIG), CONFIG, message, "give it subnets that have no address in common");
    }
    pools
}

/// Two subnets with an address in common. A subnet is within another one or apart from it, so that in the order of their
/// first addresses only neighbours need to be compared.
fn overlapping(pools: &[AddressPool]) -> Option<(Cidr, Cidr)> {
    let mut subnets: Vec<Cidr> = pools.iter().map(|pool| pool.subnet).collect();
    subnets.sort_unstable();
    subnets.windows(2).find(|pair| pair[0].overlaps(pair[1])).map(|pair| (pair[0], pair[1]))
}

fn pool(node: &Node, scope: &mut Scope<'_, '_, '_>) -> Option<AddressPool> {
    let part = |name: &str| node.given(name).and_then(|part| Some((part.text()?.trim(), part.at)));
    let part = |name: &str| part(name).filter(|(text, _)| !text.is_empty());
    let Some((text, at)) = part("subnet") else {
        if ["gateway", "ip_range"].iter().any(|name| part(name).is_some()) {
            scope.stop(node.at, CONFIG, "the pool has no subnet", "write `subnet:` beside it");
        }
        return None;
    };
    let subnet = subnet(text, at, scope)?;
    let range = part("ip_range").and_then(|(text, at)| range(text, at, subnet, scope));
    let gateway = part("gateway").and_then(|(text, at)| address("gateway", text, at, subnet, scope));
    let mut kept = BTreeMap::new();
    for (name, value) in node.given("aux_addresses").map(Node::entries).unwrap_or_default() {
        let found = address("auxiliary address", value.text().unwrap_or_default(), value.at, subnet, scope);
        kept.extend(found.map(|found| (name.text.clone(), found)));
    }
    Some(AddressPool { subnet, range, gateway, kept })
}

fn subnet(text: &str, at: Span, scope: &mut Scope<'_, '_, '_>) -> Option<Cidr> {
    let Some(subnet) = Cidr::parse(text) else {
        let hint = "write one such as 10.5.0.0/24 or fd00:1::/64";
        scope.stop(at, CONFIG, format!("{text:?} is not a subnet"), hint);
        return None;
    };
    let network = subnet.network();
    if network != subnet {
        let message = format!("{text} is an address in a subnet; the subnet {network} is taken");
        scope.warn(at, CONFIG, message, &format!("write {network}"));
    }
    if let Some((message, hint)) = unfit(network) {
        scope.stop(at, CONFIG, message, &hint);
    }
    Some(network)
}

/// Why a subnet cannot be a network's.
fn unfit(subnet: Cidr) -> Option<(String, String)> {
    let most = if subnet.address.is_ipv4() { 30 } else { 126 };
    let private = || "take one of the private ranges, such as 10.5.0.0/24 or fd00:1::/64".to_owned();
    if subnet.prefix == 0 {
        return Some((format!("the subnet {subnet} is all addresses there are"), private()));
    }
    if subnet.prefix > most {
        let hint = format!("write a prefix of up to /{most}, such as /24 (IPv4) or /64 (IPv6)");
        return Some((format!("the subnet {subnet} has no room for a gateway and a container"), hint));
    }
    (!usable(subnet.address)).then(|| (format!("the subnet {subnet} is not for networks of containers"), private()))
}

/// Neither loopback nor multicast nor of this host alone.
fn usable(address: IpAddr) -> bool {
    let this = match address {
        IpAddr::V4(address) => address.octets()[0] == 0 || address.octets()[0] >= 240,
        IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
    };
    !this && !address.is_loopback() && !address.is_multicast()
}

fn range(text: &str, at: Span, subnet: Cidr, scope: &mut Scope<'_, '_, '_>) -> Option<Cidr> {
    let Some(range) = Cidr::parse(text) else {
        scope.stop(at, CONFIG, format!("{text:?} is not a range of addresses"), "write one such as 10.5.0.128/25");
        return None;
    };
    let range = range.network();
    if !subnet.contains(range.address) || range.prefix < subnet.prefix {
        let message = format!("the range {range} is not within the subnet {subnet}");
        scope.stop(at, CONFIG, message, "write a part of the subnet");
    }
    Some(range)
}

fn address(what: &str, text: &str, at: Span, subnet: Cidr, scope: &mut Scope<'_, '_, '_>) -> Option<IpAddr> {
    let Ok(address) = text.parse::<IpAddr>() else {
        scope.stop(at, CONFIG, format!("the {what} {text:?} is not an address"), "write one of the subnet");
        return None;
    };
    if !subnet.contains(address) {
        let message = format!("the {what} {address} is not in the subnet {subnet}");
        scope.stop(at, CONFIG, message, "write one of the subnet");
    } else if !is_host(subnet, address) {
        let message = format!("the {what} {address} stands for the subnet {subnet} itself");
        scope.stop(at, CONFIG, message, "write another one of the subnet");
    }
    Some(address)
}

/// Whether the address can be one host's: neither the subnet's own nor that of all.
pub(super) fn is_host(subnet: Cidr, address: IpAddr) -> bool {
    let last = match (subnet.network().address, address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => {
            let host = u32::MAX.checked_shr(u32::from(subnet.prefix)).unwrap_or(0);
            first.to_bits() | host == address.to_bits()
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => false,
    };
    subnet.network().address != address && !last
}

/// What the gateway is where the file does not say: the first address, unless it is kept for others.
pub(super) fn first_host(pool: &AddressPool) -> Option<IpAddr> {
    let first: IpAddr = match pool.subnet.network().address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits().checked_add(1)?).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits().checked_add(1)?).into(),
    };
    (!pool.kept.values().any(|kept| *kept == first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_address_of_a_subnet_are_no_hosts() {
        let host = |subnet: &str, address: &str| is_host(Cidr::parse(subnet).unwrap(), address.parse().unwrap());
        assert!(host("10.5.0.0/24", "10.5.0.1") && host("10.5.0.0/24", "10.5.0.254"));
        assert!(!host("10.5.0.0/24", "10.5.0.0") && !host("10.5.0.0/24", "10.5.0.255"));
        assert!(host("10.5.0.0/16", "10.5.0.255") && !host("0.0.0.0/0", "255.255.255.255"));
        assert!(host("fd00::/64", "fd00::ffff:ffff:ffff:ffff") && !host("fd00::/64", "fd00::"));
    }

    #[test]
    fn subnets_that_overlap_are_found_in_any_order() {
        let pools = |subnets: &[&str]| {
            let pool = |text: &&str| AddressPool {
                subnet: Cidr::parse(text).unwrap(),
                range: None,
                gateway: None,
                kept: BTreeMap::new(),
            };
            overlapping(&subnets.iter().map(pool).collect::<Vec<_>>())
        };
        assert_eq!(pools(&["10.1.0.0/24", "10.0.0.0/24", "fd00::/64", "10.0.1.0/24"]), None);
        assert!(pools(&["10.9.0.0/16", "10.0.0.0/24", "10.0.0.0/8"]).is_some());
        assert!(pools(&["fd00::/64", "10.0.0.0/24", "fd00::/64"]).is_some());
    }
}
