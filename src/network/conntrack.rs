//! Flows of UDP that the kernel remembers with another translation than our rules give them now.
//!
//! The kernel asks the rules of NAT once for each flow, by its first packet, and remembers the answer for as long as packets come. Who
//! sends from one port while our rules are missing, or before the container is there, has an entry without a translation; the rules may
//! be back, the flow is not. Such entries are deleted here, and nothing else: the next packet makes a new one. (TCP mends itself: its
//! connection fails, and the next one is another flow.)
//!
//! Spoken in `nfnetlink` (<linux/netfilter/nfnetlink_conntrack.h>), in the network namespace of the calling thread.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use netlink_packet_core::NlasIterator;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::netlink::Message;
use super::ports::{is_carried, place};
use super::ruleset::Rules;
use crate::model::{Cidr, Protocol};

/// So long all of it may take. What is left then stays until the next time.
const PATIENCE: Duration = Duration::from_secs(5);
/// The kernel puts no more into one datagram.
const DATAGRAM: usize = 64 * 1024;

// <linux/netlink.h>
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const NESTED: u16 = 0x8000;

// <linux/netfilter/nfnetlink.h>, <linux/netfilter/nfnetlink_conntrack.h>
const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
/// `struct nfgenmsg`.
const FAMILY_HEADER: usize = 4;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_SOURCE: u16 = 2;
const PROTOCOL_DESTINATION: u16 = 3;
const UDP: u8 = 17;

/// Where the rules lead a published port of UDP, in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Led {
    /// The address on which it is published; none: all of the family.
    pub on: Option<IpAddr>,
    /// The container's address and port.
    pub to: SocketAddr,
}

/// What tells the flows with a wrong translation from all others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wrong {
    /// Published ports of UDP, by their number.
    pub published: BTreeMap<u16, BTreeSet<Led>>,
    /// Where ports led before and do not lead any more.
    pub ended: BTreeMap<u16, BTreeSet<Led>>,
    /// The subnets of our networks.
    pub subnets: Vec<Cidr>,
    /// Those of them whose packets get this machine's address when they leave it.
    pub masqueraded: Vec<Cidr>,
}

impl Wrong {
    /// By these rules, with those that were in force before them.
    #[must_use]
    pub fn by(rules: &Rules, before: &Self) -> Self {
        let mut published: BTreeMap<u16, BTreeSet<Led>> = BTreeMap::new();
        for (port, to) in rules.published.iter().filter(|(port, _)| port.protocol == Protocol::Udp && !is_carried(port))
        {
            let (on, number, _) = place(port);
            for to in to.iter().filter(|to| on.is_none_or(|on| on.is_ipv4() == to.is_ipv4())) {
                let led = Led { on: on.filter(|on| !on.is_unspecified()), to: SocketAddr::new(*to, port.target) };
                published.entry(number).or_default().insert(led);
            }
        }
        let mut ended = before.published.clone();
        for (number, led) in &mut ended {
            led.retain(|led| !published.get(number).is_some_and(|now| now.contains(led)));
        }
        ended.retain(|_, led| !led.is_empty());
        let subnets = |masqueraded: bool| {
            let networks = rules.networks.iter().filter(move |n| !masqueraded || (n.masquerade && !n.internal));
            networks.flat_map(|network| network.subnets.iter().copied()).collect()
        };
        Self { published, ended, subnets: subnets(false), masqueraded: subnets(true) }
    }

    /// `here`: whether an address is this machine's.
    fn has(&self, flow: &Flow, here: impl Fn(IpAddr) -> bool) -> bool {
        let (asked, answers) = (flow.original.1, flow.reply.0);
        if here(asked.ip()) {
            let all = |ports: &BTreeMap<u16, BTreeSet<Led>>| {
                ports.get(&asked.port()).into_iter().flatten().filter(|led| led.covers(asked.ip())).copied().collect()
            };
            let (now, ended): (Vec<Led>, Vec<Led>) = (all(&self.published), all(&self.ended));
            // One that is published on this address says more than one that is on all.
            let leads = now.iter().find(|led| led.on.is_some()).or(now.first());
            return leads.map_or_else(|| ended.iter().any(|led| led.to == answers), |led| led.to != answers);
        }
        let within = |subnets: &[Cidr], address: IpAddr| subnets.iter().any(|subnet| subnet.contains(address));
        let asks = flow.original.0;
        within(&self.masqueraded, asks.ip())
            && !within(&self.subnets, asked.ip())
            && !asked.ip().is_multicast()
            && flow.reply.1 == asks
    }
}

impl Led {
    fn covers(&self, address: IpAddr) -> bool {
        self.on.map_or(self.to.is_ipv4() == address.is_ipv4(), |on| on == address)
    }
}

/// Deletes the flows that are wrong; how many. A kernel that cannot be asked has none, or keeps them.
pub fn forget(wrong: &Wrong) -> io::Result<usize> {
    if wrong.published.is_empty() && wrong.ended.is_empty() && wrong.masqueraded.is_empty() {
        return Ok(0);
    }
    let until = Instant::now() + PATIENCE;
    let own = super::netlink::Socket::open()?.addresses().map_err(io::Error::other)?;
    let own: BTreeSet<IpAddr> = own.into_iter().map(|seen| seen.cidr.address).collect();
    let here = |address: IpAddr| address.is_loopback() || own.contains(&address);
    let mut count = 0;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).unwrap_or_default();
        match forget_family(family, until, |flow| wrong.has(flow, here)) {
            Ok(forgotten) => count += forgotten,
            Err(error) if is_unsupported(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

fn forget_family(family: u8, until: Instant, wrong: impl Fn(&Flow) -> bool) -> io::Result<usize> {
    let socket = Socket::open()?;
    socket.send(GET, DUMP, family, &[])?;
    let mut found = Vec::new();
    socket.answers(until, |kind, body| {
        if kind == NEW {
            found.extend(read(body).filter(&wrong));
        }
    })?;
    let mut count = 0;
    for flow in found {
        socket.send(DELETE, ACK, family, &flow.key)?;
        match socket.answers(until, |_, _| {}) {
            Ok(()) => count += 1,
            // It has ended by itself, or is another one by now.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// What a kernel says that was built without it, or has no IPv6.
fn is_unsupported(error: &io::Error) -> bool {
    let codes = [libc::EOPNOTSUPP, libc::EPROTONOSUPPORT, libc::EINVAL, libc::EAFNOSUPPORT];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Source and destination.
type Tuple = (SocketAddr, SocketAddr);

/// An entry of UDP.
#[derive(Debug, PartialEq, Eq)]
struct Flow {
    /// As the first packet had them.
    original: Tuple,
    /// As those of an answer have them, before they are translated back.
    reply: Tuple,
    /// By what it is deleted: attributes as the kernel gave them.
    key: Vec<u8>,
}

/// None: not UDP, or in a zone, where somebody else keeps flows of his own.
fn read(body: &[u8]) -> Option<Flow> {
    let (mut original, mut reply, mut key) = (None, None, Vec::new());
    for attribute in NlasIterator::new(body.get(FAMILY_HEADER..)?) {
        let attribute = attribute.ok()?;
        match attribute.kind() {
            TUPLE_ORIGINAL => {
                original = Some(tuple(attribute.value())?);
                put(&mut key, TUPLE_ORIGINAL | NESTED, attribute.value());
            }
            TUPLE_REPLY => reply = Some(tuple(attribute.value())?),
            // Without it a flow that has taken its place would be deleted.
            ID => put(&mut key, ID, attribute.value()),
            ZONE => return None,
            _ => {}
        }
    }
    Some(Flow { original: original?, reply: reply?, key })
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let (mut addresses, mut ports) = ((None, None), (None, None));
    for part in NlasIterator::new(bytes) {
        let part = part.ok()?;
        for attribute in NlasIterator::new(part.value()) {
            let attribute = attribute.ok()?;
            let (value, port) = (attribute.value(), || Some(u16::from_be_bytes(attribute.value().try_into().ok()?)));
            match (part.kind(), attribute.kind()) {
                // Of IPv4, of IPv6.
                (TUPLE_IP, 1 | 3) => addresses.0 = Some(address(value)?),
                (TUPLE_IP, 2 | 4) => addresses.1 = Some(address(value)?),
                (TUPLE_PROTOCOL, PROTOCOL_NUMBER) if value != [UDP] => return None,
                (TUPLE_PROTOCOL, PROTOCOL_SOURCE) => ports.0 = Some(port()?),
                (TUPLE_PROTOCOL, PROTOCOL_DESTINATION) => ports.1 = Some(port()?),
                _ => {}
            }
        }
    }
    Some((SocketAddr::new(addresses.0?, ports.0?), SocketAddr::new(addresses.1?, ports.1?)))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into());
    v4().or_else(|| Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()))
}

fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    bytes.extend(len.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

struct Socket(netlink_sys::Socket);

impl Socket {
    fn open() -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        let patience = TimeVal::milliseconds(i64::try_from(PATIENCE.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        Ok(Self(socket))
    }

    fn send(&self, kind: u16, flags: u16, family: u8, attributes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(16 + FAMILY_HEADER + attributes.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::from(len.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((REQUEST | flags).to_ne_bytes());
        // One question at a time: neither is numbered.
        bytes.extend([0; 8]);
        bytes.extend([family, 0, 0, 0]);
        bytes.extend(attributes);
        self.0.send(&bytes, 0).map(drop)
    }

    /// Hands out what comes, up to the end of a dump or the word about a request.
    fn answers(&self, until: Instant, mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(DATAGRAM);
        loop {
            if Instant::now() > until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            bytes.clear();
            match self.0.recv(&mut bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            for message in Message::all(&bytes) {
                let code = || message.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                match message.kind {
                    DONE | ERROR if code() == 0 => return Ok(()),
                    DONE | ERROR => return Err(io::Error::from_raw_os_error(-code())),
                    kind => take(kind, message.body),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::process::Command;

    use super::*;
    use crate::model::{Exposure, Published};
    use crate::network::netlink::tests::apart;
    use crate::network::ruleset::RuledNetwork;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn flow(original: (&str, &str), reply: (&str, &str)) -> Flow {
        Flow { original: (at(original.0), at(original.1)), reply: (at(reply.0), at(reply.1)), key: Vec::new() }
    }

    fn rules(published: &[(Option<&str>, u16, &[&str])]) -> Rules {
        let network = |subnet: &str, internal| RuledNetwork {
            interface: "b".into(),
            subnets: vec![Cidr::parse(subnet).unwrap()],
            internal,
            masquerade: !internal,
        };
        let port = |(on, port, to): &(Option<&str>, u16, &[&str])| {
            let address = on.map(|on| on.parse().unwrap());
            let published =
                Published { address, port: *port, target: 53, protocol: Protocol::Udp, exposure: Exposure::All };
            (published, to.iter().map(|to| to.parse().unwrap()).collect())
        };
        Rules {
            networks: vec![network("10.1.0.0/24", false), network("10.2.0.0/24", true)],
            published: published.iter().map(port).collect(),
            ..Rules::default()
        }
    }

    #[test]
    fn only_what_is_translated_wrongly_is_wrong() {
        let before = Wrong::by(&rules(&[(None, 5353, &["10.1.0.9"]), (None, 99, &["10.1.0.9"])]), &Wrong::default());
        let now = rules(&[(None, 5353, &["10.1.0.2", "fd00::2"]), (Some("192.0.2.3"), 5353, &["10.1.0.3"])]);
        let wrong = Wrong::by(&now, &before);
        let here = |address: IpAddr| ["192.0.2.2", "192.0.2.3", "2001:db8::2"].contains(&&*address.to_string());
        let client = "198.51.100.1:4000";
        for (expected, original, reply, what) in [
            (true, (client, "192.0.2.2:5353"), ("192.0.2.2:5353", client), "not led at all"),
            (true, (client, "192.0.2.2:5353"), ("10.1.0.9:53", client), "led to where it led before"),
            (true, (client, "192.0.2.2:5353"), ("10.1.0.2:54", client), "led to another port"),
            (false, (client, "192.0.2.2:5353"), ("10.1.0.2:53", client), "right"),
            (false, (client, "192.0.2.3:5353"), ("10.1.0.3:53", client), "right, on its own address"),
            (true, (client, "192.0.2.3:5353"), ("10.1.0.2:53", client), "led as the other address"),
            (false, (client, "192.0.2.9:5353"), ("192.0.2.9:5353", client), "another machine's"),
            (false, (client, "192.0.2.2:53"), ("192.0.2.2:53", client), "another port"),
            (true, (client, "192.0.2.2:99"), ("10.1.0.9:53", client), "a port that leads nowhere any more"),
            (false, (client, "192.0.2.2:99"), ("10.1.0.8:53", client), "led by somebody else"),
            (
                true,
                ("[2001:db8::1]:1", "[2001:db8::2]:5353"),
                ("[2001:db8::2]:5353", "[2001:db8::1]:1"),
                "not led, IPv6",
            ),
            (false, ("[2001:db8::1]:1", "[2001:db8::2]:5353"), ("[fd00::2]:53", "[2001:db8::1]:1"), "right, IPv6"),
            (true, ("10.1.0.2:7", "8.8.8.8:53"), ("8.8.8.8:53", "10.1.0.2:7"), "not masqueraded"),
            (false, ("10.1.0.2:7", "8.8.8.8:53"), ("8.8.8.8:53", "192.0.2.2:7"), "masqueraded"),
            (false, ("10.2.0.2:7", "8.8.8.8:53"), ("8.8.8.8:53", "10.2.0.2:7"), "of an internal network"),
            (false, ("10.1.0.2:7", "10.1.0.3:53"), ("10.1.0.3:53", "10.1.0.2:7"), "within the network"),
            (false, ("10.1.0.2:7", "192.0.2.2:53"), ("192.0.2.2:53", "10.1.0.2:7"), "to this machine"),
            (false, ("10.1.0.2:7", "224.0.0.251:5353"), ("224.0.0.251:5353", "10.1.0.2:7"), "to many"),
            (false, ("10.9.0.2:7", "8.8.8.8:53"), ("8.8.8.8:53", "10.9.0.2:7"), "somebody else's"),
        ] {
            assert_eq!(wrong.has(&flow(original, reply), here), expected, "{what}");
        }
    }

    /// What Linux 6.18 gave for a datagram from 127.0.0.1:40000 to 127.0.0.1:5353, without what is not read.
    #[test]
    fn an_entry_is_read() {
        let part = |kind: u16, value: &[u8]| {
            let mut bytes = Vec::new();
            put(&mut bytes, kind, value);
            bytes
        };
        let tuple = |protocol: u8, from: u16, to: u16| {
            let ip = [part(1, &[127, 0, 0, 1]), part(2, &[127, 0, 0, 1])].concat();
            let ports = [part(1, &[protocol]), part(2, &from.to_be_bytes()), part(3, &to.to_be_bytes())].concat();
            [part(TUPLE_IP | NESTED, &ip), part(TUPLE_PROTOCOL | NESTED, &ports)].concat()
        };
        let entry = |protocol| {
            let original = part(TUPLE_ORIGINAL | NESTED, &tuple(protocol, 40_000, 5353));
            let reply = part(TUPLE_REPLY | NESTED, &tuple(protocol, 5353, 40_000));
            [vec![2, 0, 0, 0], original, reply, part(3, &[0, 0, 1, 0x88]), part(ID, &[1, 2, 3, 4])].concat()
        };
        let read_back = read(&entry(UDP)).unwrap();
        assert_eq!(read_back.original, (at("127.0.0.1:40000"), at("127.0.0.1:5353")));
        assert_eq!(read_back.reply, (at("127.0.0.1:5353"), at("127.0.0.1:40000")));
        let key = [part(TUPLE_ORIGINAL | NESTED, &tuple(UDP, 40_000, 5353)), part(ID, &[1, 2, 3, 4])].concat();
        assert_eq!(read_back.key, key);
        assert_eq!(read(&entry(6)), None, "TCP");
        assert_eq!(read(&[entry(UDP), part(ZONE, &[0, 1])].concat()), None, "in a zone");
        for cut in 0..entry(UDP).len() {
            assert!(read(&entry(UDP)[..cut]).is_none_or(|flow| flow.key.len() <= key.len()), "{cut}");
        }
    }

    #[test]
    fn the_kernel_forgets_what_is_wrong_and_nothing_else() {
        apart(|| {
            let nft = "table inet theirs { chain c { type filter hook input priority 0; ct state new accept; }; }";
            for command in [vec!["ip", "link", "set", "lo", "up"], vec!["nft", nft]] {
                assert!(Command::new(command[0]).args(&command[1..]).status().unwrap().success(), "{command:?}");
            }
            let servers = ["127.0.0.1:5353", "[::1]:5353", "127.0.0.1:5354"].map(|on| UdpSocket::bind(on).unwrap());
            for server in &servers {
                let to = server.local_addr().unwrap();
                let client = UdpSocket::bind((to.ip(), 0)).unwrap();
                client.send_to(b"?", to).unwrap();
            }
            let known = || {
                let mut found = Vec::new();
                for family in [2, 10] {
                    let socket = Socket::open().unwrap();
                    socket.send(GET, DUMP, family, &[]).unwrap();
                    let until = Instant::now() + PATIENCE;
                    socket.answers(until, |_, body| found.extend(read(body).map(|flow| flow.original.1))).unwrap();
                }
                found.sort();
                found
            };
            assert_eq!(known(), [at("127.0.0.1:5353"), at("127.0.0.1:5354"), at("[::1]:5353")]);
            let wrong = Wrong::by(&rules(&[(None, 5353, &["10.1.0.2", "fd00::2"])]), &Wrong::default());
            assert_eq!(forget(&wrong).unwrap(), 2);
            assert_eq!(known(), [at("127.0.0.1:5354")]);
            assert_eq!(forget(&wrong).unwrap(), 0);
        });
    }
}
