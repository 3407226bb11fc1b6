//! Which subnets a network gets.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{AddressError, Pools, Range, Taken, at, edges, ends};
use crate::model::{AddressPool, Cidr, Driver, Network};

/// The subnets of a network: those that it asks for, else a free one of each family that it asks for.
pub fn choose(network: &Network, pools: &Pools, taken: &[Taken]) -> Result<Vec<Range>, AddressError> {
    let mut ranges: Vec<Range> = Vec::new();
    for (wanted, v4, pools) in [(network.ipv4, true, &pools.v4), (network.ipv6, false, &pools.v6)] {
        if !wanted {
            continue;
        }
        let asked: Vec<&AddressPool> =
            network.pools.iter().filter(|pool| pool.subnet.address.is_ipv4() == v4).collect();
        for pool in &asked {
            let range = of_pool(pool)?;
            let other = ranges.iter().find(|other| other.subnet.overlaps(range.subnet));
            if let Some(with) = other.map(|other| other.subnet) {
                let what = "another subnet of the same network".to_owned();
                return Err(AddressError::Overlap { subnet: range.subnet, with, what });
            }
            // The others on the wire of an interface of the host have addresses of the same subnet, and so may the host.
            if network.driver == Driver::Bridge {
                refuse_taken(range.subnet, taken)?;
            }
            ranges.push(range);
        }
        if asked.is_empty() {
            let subnet = free(pools, taken).ok_or_else(|| none_free(v4, pools))?;
            ranges.push(range_of(subnet, None, None, BTreeSet::new())?);
        }
    }
    Ok(ranges)
}

fn of_pool(pool: &AddressPool) -> Result<Range, AddressError> {
    let subnet = pool.subnet.network();
    let inside = |what, address| {
        if subnet.contains(address) { Ok(()) } else { Err(AddressError::Outside { what, address, subnet }) }
    };
    if let Some(range) = pool.range {
        inside("ip_range", range.address)?;
        if range.prefix < subnet.prefix {
            return Err(AddressError::Outside { what: "ip_range", address: range.address, subnet });
        }
    }
    for address in pool.kept.values() {
        inside("aux_addresses:", *address)?;
    }
    if let Some(gateway) = pool.gateway {
        inside("gateway", gateway)?;
    }
    range_of(subnet, pool.range.map(Cidr::network), pool.gateway, pool.kept.values().copied().collect())
}

/// The gateway is the one that is asked for, else the lowest that is not kept.
fn range_of(
    subnet: Cidr,
    range: Option<Cidr>,
    gateway: Option<IpAddr>,
    kept: BTreeSet<IpAddr>,
) -> Result<Range, AddressError> {
    let (first, last) = ends(subnet);
    let edges = edges(subnet);
    let lowest = || (first..=last).map(|n| at(subnet, n)).find(|a| !edges.contains(a) && !kept.contains(a));
    let gateway = gateway.or_else(lowest).ok_or(AddressError::Small(subnet))?;
    if edges.contains(&gateway) {
        return Err(AddressError::Reserved { address: gateway, why: "it is that of the subnet itself" });
    }
    // Some address but the gateway's.
    if last - first + 1 - (edges.len() as u128) < 2 {
        return Err(AddressError::Small(subnet));
    }
    Ok(Range { subnet, range, gateway, kept })
}

fn refuse_taken(subnet: Cidr, taken: &[Taken]) -> Result<(), AddressError> {
    match taken.iter().find(|taken| taken.cidr.overlaps(subnet)) {
        Some(Taken { cidr, what }) => Err(AddressError::Overlap { subnet, with: *cidr, what: what.clone() }),
        None => Ok(()),
    }
}

/// The lowest that is free, of the first pool that has one.
fn free(pools: &[(Cidr, u8)], taken: &[Taken]) -> Option<Cidr> {
    pools.iter().find_map(|(pool, prefix)| free_in(*pool, (*prefix).max(pool.prefix), taken))
}

fn free_in(pool: Cidr, prefix: u8, taken: &[Taken]) -> Option<Cidr> {
    let (mut next, last) = ends(pool);
    loop {
        let subnet = Cidr { address: at(pool, next), prefix };
        let (_, end) = ends(subnet);
        // Beyond the end of whoever is in the way: a wide one is passed over in one step.
        let in_the_way = taken.iter().filter(|taken| taken.cidr.overlaps(subnet)).map(|taken| ends(taken.cidr).1).max();
        match in_the_way {
            None => return Some(subnet),
            Some(other) => next = other.max(end).checked_add(1).filter(|next| *next <= last)?,
        }
    }
}

fn none_free(v4: bool, pools: &[(Cidr, u8)]) -> AddressError {
    let words: Vec<String> = pools.iter().map(|(pool, prefix)| format!("{pool} in subnets of /{prefix}")).collect();
    let pools = match words.as_slice() {
        [] => "there are no pools for it".to_owned(),
        words => format!("{} are all in use or overlap routes of this host", words.join(", ")),
    };
    AddressError::NoSubnet { family: if v4 { "IPv4" } else { "IPv6" }, pools }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Location, NetworkName};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    fn cidr(text: &str) -> Cidr {
        Cidr::parse(text).unwrap()
    }

    fn taken(text: &str) -> Taken {
        Taken { cidr: cidr(text), what: "x".into() }
    }

    fn network(pools: &[&str]) -> Network {
        let pool = |text: &&str| AddressPool { subnet: cidr(text), range: None, gateway: None, kept: BTreeMap::new() };
        Network {
            name: NetworkName::parse("shop_default").unwrap(),
            driver: Driver::Bridge,
            internal: false,
            ipv4: true,
            ipv6: true,
            pools: pools.iter().map(pool).collect(),
            mtu: None,
            bridge: None,
            labels: BTreeMap::new(),
            location: Location { file: "compose.yaml".into(), line: 1, column: 1 },
        }
    }

    fn subnets(network: &Network, taken: &[Taken]) -> Result<Vec<String>, AddressError> {
        let pools = Pools::usual(Some(cidr("fd12:3456:789a::/48")));
        Ok(choose(network, &pools, taken)?.iter().map(|range| format!("{} {}", range.subnet, range.gateway)).collect())
    }

    #[test]
    fn a_free_subnet_of_each_family() {
        let v6 = "fd12:3456:789a::/64 fd12:3456:789a::1".to_owned();
        assert_eq!(subnets(&network(&[]), &[]).unwrap(), ["172.20.0.0/24 172.20.0.1".to_owned(), v6.clone()]);
        let some = [taken("172.20.0.0/24"), taken("172.20.1.128/32"), taken("fd12:3456:789a::/64")];
        let next = "fd12:3456:789a:1::/64 fd12:3456:789a:1::1";
        assert_eq!(subnets(&network(&[]), &some).unwrap(), ["172.20.2.0/24 172.20.2.1", next]);
        assert_eq!(
            subnets(&network(&[]), &[taken("172.16.0.0/12")]).unwrap(),
            ["10.200.0.0/24 10.200.0.1".to_owned(), v6]
        );
        let all = ["172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16"].map(taken);
        let error = subnets(&network(&[]), &all).unwrap_err().to_string();
        assert!(error.contains("no IPv4 subnet") && error.contains("172.20.0.0/14 in subnets of /24"), "{error}");
    }

    #[test]
    fn what_is_asked_for_is_given_or_refused_with_the_reason() {
        let ask = network(&["10.5.0.0/16", "fd00::/64"]);
        assert_eq!(subnets(&ask, &[taken("10.4.0.0/16")]).unwrap(), ["10.5.0.0/16 10.5.0.1", "fd00::/64 fd00::1"]);
        let wide = Taken { cidr: cidr("10.0.0.0/8"), what: "a route of this host by wg0".into() };
        let error = subnets(&ask, std::slice::from_ref(&wide)).unwrap_err().to_string();
        assert!(error.contains("10.5.0.0/16 overlaps 10.0.0.0/8 (a route of this host by wg0)"), "{error}");
        let wire = Network { driver: Driver::Macvlan { parent: None, mode: crate::model::MacvlanMode::Bridge }, ..ask };
        assert!(subnets(&wire, &[wide]).is_ok(), "others are on the wire");
        assert!(matches!(subnets(&network(&["10.5.0.0/16", "10.5.6.0/24"]), &[]), Err(AddressError::Overlap { .. })));
        for small in ["10.0.0.0/32", "fd00::/128"] {
            assert_eq!(subnets(&network(&[small]), &[]), Err(AddressError::Small(cidr(small))));
        }
        assert_eq!(subnets(&network(&["10.0.0.0/31"]), &[]).unwrap()[0], "10.0.0.0/31 10.0.0.0");
        let v4_only = Network { ipv6: false, ..network(&["10.5.0.0/16", "fd00::/64"]) };
        assert_eq!(subnets(&v4_only, &[]).unwrap(), ["10.5.0.0/16 10.5.0.1"]);
    }

    #[test]
    fn the_parts_of_a_pool_are_in_it() {
        let mut network = network(&["10.5.0.0/16"]);
        network.ipv6 = false;
        network.pools[0].kept.insert("router".into(), "10.5.0.1".parse().unwrap());
        assert_eq!(subnets(&network, &[]).unwrap(), ["10.5.0.0/16 10.5.0.2"]);
        let wrong = |change: &dyn Fn(&mut AddressPool)| {
            let mut network = network.clone();
            change(&mut network.pools[0]);
            subnets(&network, &[]).unwrap_err().to_string()
        };
        assert!(wrong(&|pool| pool.gateway = "10.6.0.1".parse().ok()).starts_with("gateway 10.6.0.1 is not in"));
        assert!(wrong(&|pool| pool.gateway = "10.5.0.0".parse().ok()).contains("10.5.0.0 cannot"));
        assert!(wrong(&|pool| pool.range = Some(cidr("10.0.0.0/8"))).starts_with("ip_range 10.0.0.0 is not in"));
    }

    proptest! {
        /// What is chosen is in the pool and overlaps nobody; where nothing is chosen, every subnet of the pool is in somebody's way.
        #[test]
        fn what_is_chosen_is_free(others in proptest::collection::vec((0_u32..4096, 18_u8..=32), 0..40)) {
            let base = Ipv4Addr::new(10, 0, 0, 0).to_bits();
            let others: Vec<Taken> = others
                .into_iter()
                .map(|(n, prefix)| Taken { cidr: Cidr { address: Ipv4Addr::from_bits(base + n).into(), prefix }, what: String::new() })
                .collect();
            let pool = Cidr { address: Ipv4Addr::from_bits(base).into(), prefix: 20 };
            let all = (0..16).map(|n| Cidr { address: Ipv4Addr::from_bits(base + n * 256).into(), prefix: 24 });
            let lowest = all.into_iter().find(|subnet| others.iter().all(|other| !other.cidr.overlaps(*subnet)));
            prop_assert_eq!(free(&[(pool, 24)], &others), lowest);
        }
    }
}
