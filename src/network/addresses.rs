//! Which subnet a network gets, and which address a container. Pure.
//!
//! Subnets are small ones out of wide pools: there are many of them, and each is in nobody's way but that of a few addresses. What is
//! taken (by the host's routes and addresses, by other networks) is handed in, with words for it.

mod subnets;
mod taken;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sha2::{Digest as _, Sha256};

use crate::model::{Cidr, Mac};

pub use subnets::choose;
pub use taken::{Taken, on_host};

/// From where subnets are taken: wide ones, each with the length of the prefix of a subnet of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pools {
    /// IPv4.
    pub v4: Vec<(Cidr, u8)>,
    /// IPv6.
    pub v6: Vec<(Cidr, u8)>,
}

impl Pools {
    /// The usual ones: 3200 IPv4 subnets of 253 containers each.
    ///
    /// First a part of 172.16.0.0/12, which the fewest use, beside that which other engines begin with (172.17 to 172.19); then a high
    /// part of 10.0.0.0/8, then one of 192.168.0.0/16, where offices, VPNs and homes are. 100.64.0.0/10 is others' altogether.
    ///
    /// IPv6 subnets are of this machine's own prefix (RFC 4193), if it has one.
    #[must_use]
    pub fn usual(unique_local: Option<Cidr>) -> Self {
        let pool = |a, b, c, prefix| {
            let address = IpAddr::V4(Ipv4Addr::new(a, b, c, 0));
            (Cidr { address, prefix }, 24)
        };
        Self {
            v4: vec![pool(172, 20, 0, 14), pool(10, 200, 0, 13), pool(192, 168, 128, 17)],
            v6: unique_local.map(|prefix| (prefix.network(), 64)).into_iter().collect(),
        }
    }

    /// A prefix of RFC 4193, derived from what tells this machine from others (RFC 4193 asks for chance; an id that was made by
    /// chance is as good, and lasts).
    #[must_use]
    pub fn unique_local(machine: &[u8]) -> Cidr {
        let hash = hash(&[b"unique local", machine]);
        let mut octets = [0; 16];
        octets[0] = 0xfd;
        octets[1..6].copy_from_slice(&hash[..5]);
        Cidr { address: IpAddr::V6(Ipv6Addr::from(octets)), prefix: 48 }
    }
}

/// A subnet of a network, as it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The subnet.
    pub subnet: Cidr,
    /// Where containers get their addresses from; none: all of it.
    pub range: Option<Cidr>,
    /// The host's address in it, or the gateway outside.
    pub gateway: IpAddr,
    /// Kept for others.
    pub kept: BTreeSet<IpAddr>,
}

/// Why there is no subnet, or no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// What the file asks for is in use.
    #[error("subnet {subnet} overlaps {with} ({what}); give the network another subnet")]
    Overlap {
        /// What is asked for.
        subnet: Cidr,
        /// With what.
        with: Cidr,
        /// Whose it is.
        what: String,
    },
    /// All pools are used up.
    #[error(
        "no {family} subnet is free for the network: {pools}; give the network a subnet (ipam), or the configuration further address pools"
    )]
    NoSubnet {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// Where was looked.
        pools: String,
    },
    /// There is no room in it.
    #[error("subnet {0} has no room for a gateway and a container; ask for a wider one")]
    Small(Cidr),
    /// It is not in the subnet.
    #[error("{what} {address} is not in the subnet {subnet}")]
    Outside {
        /// `gateway`, `ip_range` …
        what: &'static str,
        /// Which.
        address: IpAddr,
        /// The subnet.
        subnet: Cidr,
    },
    /// It is in the subnet, but for something else.
    #[error("the address {address} cannot be a container's: {why}")]
    Reserved {
        /// Which.
        address: IpAddr,
        /// For what.
        why: &'static str,
    },
    /// Somebody has it.
    #[error("the address {0} is in use by another container")]
    Used(IpAddr),
    /// All are used.
    #[error("all {count} addresses for containers in {range} are in use; ask for a wider subnet (ipam)")]
    Full {
        /// Where.
        range: Cidr,
        /// How many there are.
        count: u128,
    },
}

/// The address of a container in a subnet: the wanted one, else the first of the preferred ones that is free (those that it or its
/// predecessor had), else the lowest that is free.
pub fn address(
    range: &Range,
    wanted: Option<IpAddr>,
    preferred: &[IpAddr],
    used: &BTreeSet<IpAddr>,
) -> Result<IpAddr, AddressError> {
    if let Some(wanted) = wanted {
        return match reserved(range, wanted) {
            Some(error) => Err(error),
            None if used.contains(&wanted) => Err(AddressError::Used(wanted)),
            None => Ok(wanted),
        };
    }
    let from = range.range.unwrap_or(range.subnet).network();
    let free =
        |address: &IpAddr| from.contains(*address) && reserved(range, *address).is_none() && !used.contains(address);
    if let Some(address) = preferred.iter().find(|address| free(address)) {
        return Ok(*address);
    }
    let (first, last) = ends(from);
    let mut next = Some(first);
    while let Some(number) = next.filter(|number| *number <= last) {
        let address = at(from, number);
        if free(&address) {
            return Ok(address);
        }
        next = number.checked_add(1);
    }
    let reserved = [range.gateway].into_iter().chain(range.kept.iter().copied());
    let reserved: BTreeSet<IpAddr> = reserved.chain(edges(range.subnet)).filter(|a| from.contains(*a)).collect();
    Err(AddressError::Full {
        range: from,
        count: (last - first).saturating_add(1).saturating_sub(reserved.len() as u128),
    })
}

/// Why an address of a subnet can be nobody's.
fn reserved(range: &Range, address: IpAddr) -> Option<AddressError> {
    let subnet = range.subnet;
    if !subnet.contains(address) {
        return Some(AddressError::Outside { what: "the address", address, subnet });
    }
    let why = match () {
        () if address == range.gateway => "it is the gateway's",
        () if range.kept.contains(&address) => "it is kept for others (aux_addresses)",
        () if edges(subnet).contains(&address) => "it is that of the subnet itself",
        () => return None,
    };
    Some(AddressError::Reserved { address, why })
}

/// The addresses of a subnet that mean all of it.
fn edges(subnet: Cidr) -> Vec<IpAddr> {
    let (first, last) = ends(subnet);
    match subnet.address {
        // Two are a link of two ends (RFC 3021, RFC 6164).
        IpAddr::V4(_) if subnet.prefix < 31 => vec![at(subnet, first), at(subnet, last)],
        IpAddr::V6(_) if subnet.prefix < 127 => vec![at(subnet, first)],
        IpAddr::V4(_) | IpAddr::V6(_) => Vec::new(),
    }
}

/// The first and the last address as numbers.
fn ends(subnet: Cidr) -> (u128, u128) {
    let (first, bits) = match subnet.network().address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let rest = u128::MAX.checked_shr(128 - (bits - u32::from(subnet.prefix))).unwrap_or(0);
    (first, first | rest)
}

/// A number as an address of the subnet's family.
fn at(subnet: Cidr, number: u128) -> IpAddr {
    match subnet.address {
        IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

/// A MAC address that only these have: locally administered, the same each time.
#[must_use]
pub fn mac(of: &[&[u8]]) -> Mac {
    let hash = hash(&[&[b"mac".as_slice()], of].concat());
    let mut bytes = [0; 6];
    bytes.copy_from_slice(&hash[..6]);
    bytes[0] = bytes[0] & !1 | 2;
    Mac(bytes)
}

/// The name of an interface that only these have: a beginning, and hexadecimal digits up to the length that a name may have.
#[must_use]
pub fn interface(beginning: &str, digits: usize, of: &[&[u8]]) -> String {
    let hash = hash(&[&[b"interface".as_slice()], of].concat());
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{beginning}{}", &hex[..digits.min(hex.len())])
}

fn hash(parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        Cidr::parse(text).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn range(subnet: &str) -> Range {
        let subnet = cidr(subnet);
        let (first, _) = ends(subnet);
        Range { subnet, range: None, gateway: at(subnet, first + 1), kept: BTreeSet::new() }
    }

    #[test]
    fn the_lowest_free_address_is_given() {
        let range = range("10.0.0.0/29");
        let mut used = BTreeSet::new();
        let mut given = Vec::new();
        while let Ok(next) = address(&range, None, &[], &used) {
            used.insert(next);
            given.push(next.to_string());
        }
        assert_eq!(given, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!(address(&range, None, &[], &used), Err(AddressError::Full { range: range.subnet, count: 5 }));
        used.remove(&ip("10.0.0.4"));
        assert_eq!(address(&range, None, &[], &used), Ok(ip("10.0.0.4")));
    }

    #[test]
    fn one_comes_back_to_its_own() {
        let range = Range { range: Some(cidr("10.0.0.128/25")), ..range("10.0.0.0/24") };
        let used = BTreeSet::from([ip("10.0.0.200")]);
        let give = |preferred: &[IpAddr]| address(&range, None, preferred, &used).unwrap();
        assert_eq!(give(&[ip("10.0.0.200"), ip("10.0.0.201")]), ip("10.0.0.201"));
        assert_eq!(give(&[ip("10.0.0.200"), ip("10.9.0.1"), ip("10.0.0.255")]), ip("10.0.0.128"));
    }

    #[test]
    fn a_wanted_address_is_given_or_refused_with_the_reason() {
        let mut range = range("10.0.0.0/24");
        range.kept.insert(ip("10.0.0.9"));
        let used = BTreeSet::from([ip("10.0.0.8")]);
        let ask = |wanted: &str| address(&range, Some(ip(wanted)), &[], &used).map_err(|error| error.to_string());
        assert_eq!(ask("10.0.0.7"), Ok(ip("10.0.0.7")));
        for (wanted, words) in [
            ("10.0.1.7", "not in the subnet 10.0.0.0/24"),
            ("fd00::1", "not in the subnet"),
            ("10.0.0.1", "gateway"),
            ("10.0.0.0", "subnet itself"),
            ("10.0.0.255", "subnet itself"),
            ("10.0.0.8", "in use"),
            ("10.0.0.9", "aux_addresses"),
        ] {
            assert!(ask(wanted).is_err_and(|error| error.contains(words) && error.contains(wanted)), "{wanted}");
        }
    }

    #[test]
    fn ipv6_has_no_broadcast_and_no_end() {
        let range = range("fd00::/64");
        assert_eq!(address(&range, None, &[], &BTreeSet::new()), Ok(ip("fd00::2")));
        assert_eq!(
            address(&range, Some(ip("fd00::ffff:ffff:ffff:ffff")), &[], &BTreeSet::new()),
            Ok(ip("fd00::ffff:ffff:ffff:ffff"))
        );
        let all =
            Range { subnet: cidr("::/0"), range: Some(cidr("ffff::/16")), gateway: ip("::1"), kept: BTreeSet::new() };
        assert_eq!(address(&all, None, &[], &BTreeSet::new()), Ok(ip("ffff::")));
        let last = Range { range: Some(cidr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128")), ..all };
        let used = BTreeSet::from([ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]);
        assert!(matches!(address(&last, None, &[], &used), Err(AddressError::Full { count: 1, .. })));
    }

    #[test]
    fn names_are_ours_and_last() {
        let one = mac(&[b"container", b"network"]);
        assert_eq!(one, mac(&[b"container", b"network"]));
        assert_ne!(one, mac(&[b"containern", b"etwork"]));
        assert_eq!(one.0[0] & 3, 2);
        assert_eq!(interface("ls-", 10, &[b"i"]).len(), 13);
        assert_eq!(Pools::unique_local(b"m").address.to_string()[..2], *"fd");
    }

    proptest! {
        /// Whatever is used and kept: an address that is given is in its range, free and nobody's; and where none is given, none is left.
        #[test]
        fn what_is_given_is_free(
            prefix in 24_u8..=31,
            part in 0_u8..=4,
            gateway in 0_u32..256,
            used in proptest::collection::btree_set(0_u32..256, 0..256),
            kept in proptest::collection::btree_set(0_u32..256, 0..8),
        ) {
            let base = Ipv4Addr::new(10, 1, 2, 0).to_bits();
            let subnet = Cidr { address: Ipv4Addr::from_bits(base).into(), prefix };
            let size = 1_u32 << (32 - prefix);
            let number = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(base + n % size));
            let inner = Cidr { address: number(gateway / 2), prefix: (prefix + part).min(32) };
            let range = Range {
                subnet,
                range: (part > 0).then_some(inner.network()),
                gateway: number(gateway),
                kept: kept.into_iter().map(number).collect(),
            };
            let used: BTreeSet<IpAddr> = used.into_iter().map(number).collect();
            let from = range.range.unwrap_or(subnet);
            let edge = |n: u32| prefix < 31 && (n == 0 || n == size - 1);
            let free: Vec<IpAddr> = (0..size)
                .filter(|n| !edge(*n))
                .map(number)
                .filter(|a| from.contains(*a) && *a != range.gateway && !range.kept.contains(a) && !used.contains(a))
                .collect();
            match address(&range, None, &[], &used) {
                Ok(given) => prop_assert_eq!(Some(&given), free.first()),
                Err(AddressError::Full { count, .. }) => {
                    prop_assert!(free.is_empty());
                    let all = (0..size).filter(|n| !edge(*n)).map(number);
                    let all = all.filter(|a| from.contains(*a) && *a != range.gateway && !range.kept.contains(a));
                    prop_assert_eq!(count, all.count() as u128);
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }
}
