//! Who has which name. Pure.
//!
//! A name means something only to who asks: it is looked for on the networks that the asking container is joined to, in the order of
//! its interfaces.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::{
    ContainerId, ContainerName, NetworkId, NetworkName, ProjectName, Protocol, ServiceLink, ServiceName,
};

/// A container that runs and is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id; it is found by it and by its first twelve digits.
    pub container: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// Its project.
    pub project: ProjectName,
    /// Its service; all replicas have this name.
    pub service: ServiceName,
    /// The networks that it is joined to, in the order of its interfaces.
    pub links: Vec<Joined>,
    /// The ports that it says it has: told to who asks for SRV records.
    pub ports: Vec<(u16, Protocol, Option<String>)>,
    /// Names that only it has for others.
    pub service_links: Vec<ServiceLink>,
    /// `dns`: whom unknown names are asked; empty: the host's servers.
    pub upstreams: Vec<IpAddr>,
    /// Whether others find it. Who only runs beside the one that has the names of its slot asks, and is not found.
    pub named: bool,
    /// Whether it is joined to internal networks only: then nobody outside is asked for it, since a question carries data.
    pub internal_only: bool,
}

/// One network that a container is joined to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Which.
    pub network: NetworkId,
    /// Its name: who asks for `NAME.NETWORK` means this network.
    pub network_name: NetworkName,
    /// Its address there.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address there.
    pub v6: Option<Ipv6Addr>,
    /// Further names there.
    pub aliases: Vec<String>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// All addresses.
    Any,
    /// The name of an address.
    Ptr,
    /// Ports.
    Srv,
    /// What containers do not have.
    Other,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// An address.
    Address(IpAddr),
    /// The name of an address.
    Name(String),
    /// A port of a replica, and its addresses.
    Service {
        /// The port.
        port: u16,
        /// The container's name.
        target: String,
        /// The container's addresses.
        addresses: Vec<IpAddr>,
    },
}

/// All that run.
#[derive(Debug, Default)]
pub struct Zone {
    members: Vec<Member>,
    asking: HashMap<ContainerId, usize>,
    names: HashMap<NetworkId, HashMap<String, Entry>>,
    addresses: HashMap<IpAddr, Vec<Seat>>,
}

/// All who have one name on one network.
#[derive(Debug, Default)]
struct Entry {
    seats: Vec<Seat>,
    /// How often it was asked for IPv4 addresses, IPv6 addresses, and others. Counted apart: who asks for both in turn would else get
    /// the same one first each time.
    asked: [AtomicUsize; 3],
}

/// One link of one member, by their places in the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seat {
    member: usize,
    link: usize,
}

impl Zone {
    /// The zone of these containers.
    #[must_use]
    pub fn new(members: Vec<Member>) -> Self {
        let mut zone = Self::default();
        for (index, member) in members.iter().enumerate() {
            zone.asking.insert(member.container.clone(), index);
            for (link, joined) in member.links.iter().enumerate().filter(|_| member.named) {
                let seat = Seat { member: index, link };
                let names = zone.names.entry(joined.network.clone()).or_default();
                let own = [
                    member.service.as_str(),
                    member.name.as_str(),
                    member.container.as_str(),
                    member.container.short(),
                ];
                for name in own.into_iter().chain(joined.aliases.iter().map(String::as_str)) {
                    let seats = &mut names.entry(name.to_ascii_lowercase()).or_default().seats;
                    // Those of one link come one after the other.
                    if seats.last() != Some(&seat) {
                        seats.push(seat);
                    }
                }
                for address in joined.all() {
                    zone.addresses.entry(address).or_default().push(seat);
                }
            }
        }
        zone.members = members;
        zone
    }
    /// Who asks, if it runs.
    #[must_use]
    pub fn member(&self, asking: &ContainerId) -> Option<&Member> {
        self.asking.get(asking).map(|index| &self.members[*index])
    }
    /// What a name means to who asks. None: nobody has it. Empty: who has it has nothing of that kind.
    ///
    /// The name is in lower case, without a dot at its end.
    #[must_use]
    pub fn look_up(&self, asking: &ContainerId, name: &str, kind: Kind) -> Option<Vec<Found>> {
        let asking = self.member(asking)?;
        if let Some(address) = reversed(name) {
            return self.name_of(asking, address, kind);
        }
        if kind == Kind::Srv
            && let Some((port, protocol, name)) = service_name(name)
        {
            let found = self.find(asking, name, kind);
            return (!found.is_empty()).then(|| self.ports(asking, &found, Some((port, protocol))));
        }
        let found = self.find(asking, name, kind);
        if found.is_empty() {
            return None;
        }
        Some(match kind {
            Kind::Srv => self.ports(asking, &found, None),
            Kind::A | Kind::Aaaa | Kind::Any => self.addresses(&found, kind),
            Kind::Ptr | Kind::Other => Vec::new(),
        })
    }
    /// Who has the name, on the first network of the asking container first.
    fn find(&self, asking: &Member, name: &str, kind: Kind) -> Vec<Seat> {
        // A name of one's own for another goes before what the other names say, as with Docker.
        let linked = asking.service_links.iter().filter(|link| link.alias.eq_ignore_ascii_case(name));
        let mut found: Vec<_> =
            linked.flat_map(|link| self.on_networks(asking, &link.target.to_ascii_lowercase(), kind)).collect();
        if found.is_empty() {
            found = self.on_networks(asking, name, kind);
        }
        if found.is_empty() {
            found = asking.links.iter().flat_map(|joined| self.on_named(joined, name, kind)).collect();
        }
        found
    }
    fn on_networks(&self, asking: &Member, name: &str, kind: Kind) -> Vec<Seat> {
        asking.links.iter().flat_map(|joined| self.on(&joined.network, name, kind)).collect()
    }
    /// `NAME.NETWORK`.
    fn on_named(&self, joined: &Joined, name: &str, kind: Kind) -> Vec<Seat> {
        let network = joined.network_name.as_str();
        let Some(dot) = name.len().checked_sub(network.len() + 1) else { return Vec::new() };
        match (name.get(..dot), name.get(dot..=dot), name.get(dot + 1..)) {
            (Some(name), Some("."), Some(end)) if end.eq_ignore_ascii_case(network) => {
                self.on(&joined.network, name, kind)
            }
            _ => Vec::new(),
        }
    }
    /// All who have the name on one network, each time beginning with the next one.
    fn on(&self, network: &NetworkId, name: &str, kind: Kind) -> Vec<Seat> {
        let Some(entry) = self.names.get(network).and_then(|names| names.get(name)) else { return Vec::new() };
        let counter = match kind {
            Kind::A => 0,
            Kind::Aaaa => 1,
            Kind::Any | Kind::Ptr | Kind::Srv | Kind::Other => 2,
        };
        let mut seats = entry.seats.clone();
        let first = entry.asked[counter].fetch_add(1, Ordering::Relaxed) % seats.len().max(1);
        seats.rotate_left(first);
        seats
    }
    fn addresses(&self, seats: &[Seat], kind: Kind) -> Vec<Found> {
        let all = seats.iter().flat_map(|seat| self.joined(*seat).all());
        all.filter(|address| match kind {
            Kind::A => address.is_ipv4(),
            Kind::Aaaa => address.is_ipv6(),
            Kind::Any | Kind::Ptr | Kind::Srv | Kind::Other => true,
        })
        .map(Found::Address)
        .collect()
    }
    /// One for each port of each replica, or only for the port that is asked for by its number or name.
    fn ports(&self, asking: &Member, seats: &[Seat], only: Option<(&str, &str)>) -> Vec<Found> {
        let mut replicas: Vec<usize> = Vec::new();
        for seat in seats {
            if !replicas.contains(&seat.member) {
                replicas.push(seat.member);
            }
        }
        let mut found = Vec::new();
        for index in replicas {
            let member = &self.members[index];
            for (port, protocol, name) in &member.ports {
                let asked = only.is_none_or(|(text, wanted)| {
                    let named = name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(text));
                    wanted == protocol.name() && (named || text.parse() == Ok(*port))
                });
                if asked {
                    let shared = member.links.iter().filter(|link| asking.joins(&link.network));
                    let addresses = shared.flat_map(Joined::all).collect();
                    found.push(Found::Service { port: *port, target: member.host_name(), addresses });
                }
            }
        }
        found
    }
    /// `CONTAINER.NETWORK` of each whose address it is, on the networks of the asking container.
    fn name_of(&self, asking: &Member, address: IpAddr, kind: Kind) -> Option<Vec<Found>> {
        let seats = self.addresses.get(&address)?.iter().filter(|seat| asking.joins(&self.joined(**seat).network));
        let names: Vec<_> = seats
            .map(|seat| {
                let name = self.members[seat.member].host_name();
                Found::Name(format!("{name}.{}", self.joined(*seat).network_name))
            })
            .collect();
        if names.is_empty() {
            return None;
        }
        Some(if matches!(kind, Kind::Ptr | Kind::Any) { names } else { Vec::new() })
    }
    fn joined(&self, seat: Seat) -> &Joined {
        &self.members[seat.member].links[seat.link]
    }
}

impl Member {
    /// Whether the address is one of its own.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.links.iter().flat_map(Joined::all).any(|own| own == address)
    }
    fn joins(&self, network: &NetworkId) -> bool {
        self.links.iter().any(|link| link.network == *network)
    }
    /// Its name, or its id where a part of the name is longer than a name's part may be on the wire.
    fn host_name(&self) -> String {
        let name = self.name.as_str();
        let fits = name.split('.').all(|part| !part.is_empty() && part.len() <= 63) && name.len() <= 120;
        if fits { name.to_owned() } else { self.container.short().to_owned() }
    }
}

impl Joined {
    fn all(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

/// `_PORT._PROTOCOL.NAME`.
fn service_name(name: &str) -> Option<(&str, &str, &str)> {
    let (port, rest) = name.strip_prefix('_')?.split_once("._")?;
    let (protocol, name) = rest.split_once('.')?;
    Some((port, protocol, name))
}

/// The address of `4.3.2.1.in-addr.arpa` or of the 32 nibbles of `ip6.arpa`.
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut parts: Vec<_> = digits.split('.').collect();
        parts.reverse();
        return parts.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut bits = 0u128;
    let mut count = 0;
    for part in digits.rsplit('.') {
        let digit = u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 1)?;
        bits = bits << 4 | u128::from(digit);
        count += 1;
    }
    (count == 32).then(|| IpAddr::V6(Ipv6Addr::from_bits(bits)))
}

#[cfg(test)]
mod tests;
