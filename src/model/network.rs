//! Networks: what a file asks for, and what a container is joined to.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::hash::{hex_sha256, is_hex64};
use super::{Location, NetworkName};

/// 64 hex digits, derived from a network's name and definition: a network that is defined anew is another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(String);

impl NetworkId {
    /// The id of the network that is defined so. Labels and the place in the file make no other one.
    #[must_use]
    pub fn derive(network: &Network) -> Self {
        let Network { name, driver, internal, ipv4, ipv6, pools, mtu, bridge, labels: _, location: _ } = network;
        let text = format!("{driver:?} {internal} {ipv4} {ipv6} {pools:?} {mtu:?} {bridge:?}");
        Self(hex_sha256(&[b"network", name.as_str().as_bytes(), text.as_bytes()]))
    }
    /// An id read back from a record.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        is_hex64(hex).then(|| Self(hex.to_owned()))
    }
    /// 64 lower-case hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The first twelve digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A network as its file asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name outside the project: `PROJECT_NAME`, or what `name:` says.
    pub name: NetworkName,
    /// `driver`.
    pub driver: Driver,
    /// `internal`: nothing outside is reached, and nothing outside reaches it.
    pub internal: bool,
    /// `enable_ipv4`.
    pub ipv4: bool,
    /// `enable_ipv6`.
    pub ipv6: bool,
    /// `ipam.config`; where none is for a family that is asked for, a free subnet is taken.
    pub pools: Vec<AddressPool>,
    /// `driver_opts: com.docker.network.driver.mtu`; none: that of the way out.
    pub mtu: Option<u32>,
    /// `driver_opts: com.docker.network.bridge.name`.
    pub bridge: Option<String>,
    /// `labels`.
    pub labels: BTreeMap<String, String>,
    /// Where it is defined; the file as a whole for a project's default network.
    pub location: Location,
}

/// `driver`. `host` and `none` are not networks: who joins them has that [`super::NetworkMode`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// A bridge on this machine.
    Bridge,
    /// Addresses on the wire of an interface of the host, each with a MAC address of its own.
    Macvlan {
        /// `driver_opts: parent`; none: a network without a wire.
        parent: Option<String>,
        /// `driver_opts: macvlan_mode`.
        mode: MacvlanMode,
    },
    /// Addresses on the wire of an interface of the host, all with its MAC address.
    Ipvlan {
        /// `driver_opts: parent`; none: a network without a wire.
        parent: Option<String>,
        /// `driver_opts: ipvlan_mode`.
        mode: IpvlanMode,
    },
}

/// `macvlan_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Containers reach each other (the usual one).
    Bridge,
    /// Only by the switch outside.
    Vepa,
    /// Not at all.
    Private,
    /// One container has the interface.
    Passthru,
}

/// `ipvlan_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanMode {
    /// Switched (the usual one).
    L2,
    /// Routed.
    L3,
    /// Routed, with the host's packet filter.
    L3s,
}

impl MacvlanMode {
    /// As a file writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Vepa => "vepa",
            Self::Private => "private",
            Self::Passthru => "passthru",
        }
    }
    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Bridge, Self::Vepa, Self::Private, Self::Passthru].into_iter().find(|mode| mode.name() == text)
    }
}

impl IpvlanMode {
    /// As a file writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::L3 => "l3",
            Self::L3s => "l3s",
        }
    }
    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::L2, Self::L3, Self::L3s].into_iter().find(|mode| mode.name() == text)
    }
}

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// How many of its first bits are the network's.
    pub prefix: u8,
}

impl Cidr {
    /// None where the prefix is longer than an address of its kind.
    #[must_use]
    pub const fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix <= most { Some(Self { address, prefix }) } else { None }
    }
    /// Parses `10.0.0.0/24` or `fd00::/64`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Self::new(address.parse().ok()?, prefix.parse().ok()?)
    }
    /// Its network: all other bits zero.
    #[must_use]
    pub fn network(self) -> Self {
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        Self { address, ..self }
    }
    /// Whether the address is in its network.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Self { address, prefix: self.prefix }.network() == self.network()
    }
    /// Whether some address is in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network().address) || other.contains(self.network().address)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// One of `ipam.config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPool {
    /// `subnet`, as a network.
    pub subnet: Cidr,
    /// `ip_range`: containers get their addresses from here.
    pub range: Option<Cidr>,
    /// `gateway`.
    pub gateway: Option<IpAddr>,
    /// `aux_addresses`: kept for others.
    pub kept: BTreeMap<String, IpAddr>,
}

/// A MAC address (EUI-48).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Parses `02:42:ac:11:65:43`, also with `-`. Not a group address, not all zero.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let separator = if text.contains(':') { ':' } else { '-' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        (parts.next().is_none() && bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What a service asks of networks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// The networks, in the order of the container's interfaces; at least one.
    pub joins: Vec<Join>,
    /// `ports`.
    pub ports: Vec<Port>,
    /// `links` and `external_links`.
    pub links: Vec<ServiceLink>,
    /// `expose`: told to who asks for SRV records, else without effect.
    pub expose: Vec<Exposed>,
}

/// One network that a service joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Its name outside the project. An external one may be defined by any project.
    pub network: NetworkName,
    /// Names beside the service's and the container's.
    pub aliases: Vec<String>,
    /// `ipv4_address`.
    pub ipv4: Option<Ipv4Addr>,
    /// `ipv6_address`.
    pub ipv6: Option<Ipv6Addr>,
    /// `link_local_ips`.
    pub link_local: Vec<IpAddr>,
    /// `mac_address`.
    pub mac: Option<Mac>,
    /// `interface_name`; none: `ethN`.
    pub interface: Option<String>,
    /// `gw_priority`: the default route goes through the network with the highest; of equal ones the first.
    pub gateway_priority: i64,
}

/// One of `links` or `external_links`: another name for who has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLink {
    /// Whose: a service of the project, or a container.
    pub target: String,
    /// The name that this container has for it.
    pub alias: String,
}

/// `tcp`, `udp` or `sctp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| protocol.name() == text)
    }
}

/// One port that a service publishes. A range in the file is several, except where a container gets any one of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// `host_ip`; none: as configured.
    pub address: Option<IpAddr>,
    /// The host's ports of which it gets a free one, the lowest first: mostly one; none: any that is free.
    pub host: Option<(u16, u16)>,
    /// The container's port.
    pub target: u16,
    /// Which protocol.
    pub protocol: Protocol,
    /// `name`.
    pub name: Option<String>,
    /// Where it stands.
    pub location: Location,
}

/// One of `expose`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposed {
    /// The container's port.
    pub port: u16,
    /// Which protocol.
    pub protocol: Protocol,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_read_and_compared() {
        let cidr = |text: &str| Cidr::parse(text).unwrap();
        assert_eq!(cidr("10.1.2.3/24").network(), cidr("10.1.2.0/24"));
        assert_eq!(cidr("10.1.2.3/0").network(), cidr("0.0.0.0/0"));
        assert_eq!(cidr("fd00::1:2/64").network().to_string(), "fd00::/64");
        assert!(
            cidr("10.0.0.0/8").overlaps(cidr("10.200.0.0/16")) && cidr("10.200.0.0/16").overlaps(cidr("10.0.0.0/8"))
        );
        assert!(!cidr("10.0.0.0/24").overlaps(cidr("10.0.1.0/24")));
        assert!(!cidr("0.0.0.0/0").contains(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert!(cidr("10.0.0.0/24").contains(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 255))));
        for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "x/8", "fd00::/129", "10.0.0.256/8"] {
            assert_eq!(Cidr::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn mac_addresses_are_read() {
        assert_eq!(Mac::parse("02:42:AC:11:65:43").map(|m| m.to_string()), Some("02:42:ac:11:65:43".to_owned()));
        assert_eq!(Mac::parse("02-42-ac-11-65-43"), Mac::parse("02:42:ac:11:65:43"));
        for bad in [
            "",
            "02:42:ac:11:65",
            "02:42:ac:11:65:43:00",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "2:42:ac:11:65:43",
            "+2:42:ac:11:65:43",
        ] {
            assert_eq!(Mac::parse(bad), None, "{bad}");
        }
    }
}
