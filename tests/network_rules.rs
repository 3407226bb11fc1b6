//! The rules of the packet filter by real connections, in network namespaces of the test's own. They live as long as a descriptor of
//! this process, so that nothing is left however it ends.
//!
//! ```text
//! outside ── up0 host ── ls-a ── a1, a2 (the public network)
//!                     ├─ ls-b ── b1     (another one)
//!                     └─ ls-i ── i1, i2 (an internal one)
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use longshore::model::{Cidr, Exposure, Mac, Protocol, Published};
use longshore::network::nft::{Drift, Nft, Owner};
use longshore::network::ruleset::{Endpoint, RuledNetwork, Rules};
use nix::sched::{CloneFlags, setns, unshare};
use std::os::fd::AsRawFd as _;

const TABLE: &str = "longshore_test";
/// So long an answer is waited for that should not come.
const SILENCE: Duration = Duration::from_millis(500);

/// A network namespace.
struct Place(File);

impl Place {
    fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            Self(File::open("/proc/thread-self/ns/net").unwrap())
        });
        let place = made.join().unwrap();
        place.sh("ip link set lo up");
        place
    }

    /// On a thread that is inside.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter).join()).unwrap()
    }

    fn sh(&self, script: &str) {
        let done = self.run(|| Command::new("sh").args(["-ec", script]).output().unwrap());
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// As `ip link … netns` wants it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Answers everybody on this port, over both protocols and families, with this name and who asked.
    fn answer(&self, name: &'static str, port: u16) {
        self.run(|| {
            let listener = TcpListener::bind(("::", port)).unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok(mut stream) = stream else { return };
                    let peer = stream.peer_addr().unwrap().ip().to_canonical();
                    let _ = write!(stream, "{name} {peer}");
                }
            });
            // One for each address: a common one would answer from whichever is nearest.
            let listed = Command::new("ip").args(["-o", "addr"]).output().unwrap().stdout;
            let listed = String::from_utf8(listed).unwrap();
            let addresses = listed.lines().filter(|line| !line.contains("scope link"));
            let addresses = addresses.map(|line| line.split_whitespace().nth(3).unwrap().split('/').next().unwrap());
            for address in addresses {
                let socket = UdpSocket::bind((address, port)).unwrap();
                std::thread::spawn(move || {
                    let mut bytes = [0; 64];
                    while let Ok((_, peer)) = socket.recv_from(&mut bytes) {
                        let _ = socket.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer);
                    }
                });
            }
        });
    }

    /// What is answered there; none: nothing.
    fn ask(&self, protocol: Protocol, to: SocketAddr) -> Option<String> {
        self.run(|| match protocol {
            Protocol::Tcp => {
                let mut stream = TcpStream::connect_timeout(&to, SILENCE).ok()?;
                stream.set_read_timeout(Some(SILENCE)).unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).ok()?;
                Some(text)
            }
            _ => {
                let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
                udp(&UdpSocket::bind((any, 0)).unwrap(), to)
            }
        })
    }
}

fn udp(socket: &UdpSocket, to: SocketAddr) -> Option<String> {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket.connect(to).ok()?;
    socket.send(b"who").ok()?;
    let mut bytes = [0; 64];
    let count = socket.recv(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

/// The whole of the drawing above.
struct World {
    host: Place,
    outside: Place,
    containers: BTreeMap<&'static str, Place>,
    rules: Rules,
    nft: Nft,
    _alone: MutexGuard<'static, ()>,
}

/// name, network, number
const CONTAINERS: [(&str, &str, u8); 5] =
    [("a1", "a", 2), ("a2", "a", 3), ("b1", "b", 2), ("i1", "i", 2), ("i2", "i", 3)];
const NETWORKS: [(&str, u8); 3] = [("a", 1), ("b", 2), ("i", 3)];

fn number(network: &str) -> u8 {
    NETWORKS.iter().find(|(name, _)| *name == network).unwrap().1
}

fn mac(network: &str, n: u8) -> Mac {
    Mac([2, 0, 0, 0, number(network), n])
}

fn address(family: u8, network: &str, n: u8) -> IpAddr {
    let net = number(network);
    if family == 4 { format!("10.{net}.0.{n}") } else { format!("fd0{net}::{n}") }.parse().unwrap()
}

impl World {
    fn new() -> Self {
        // Two of them at once would only make the waiting for silence less certain.
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (host, outside) = (Place::new(), Place::new());
        host.sh(&format!(
            "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
             echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
             ip link add up0 type veth peer name out0 netns {}
             ip addr add 192.0.2.1/24 dev up0; ip addr add 2001:db8::1/64 dev up0 nodad; ip link set up0 up
             ip route add default via 192.0.2.9; ip route add default via 2001:db8::9",
            outside.path()
        ));
        // It knows the way to containers, as a neighbour who wants to could.
        outside.sh("ip addr add 192.0.2.9/24 dev out0; ip addr add 2001:db8::9/64 dev out0 nodad; ip link set out0 up
             ip addr add 169.254.169.254/32 dev lo; ip addr add fd00:ec2::254/128 dev lo nodad
             ip route add 10.0.0.0/8 via 192.0.2.1; ip route add fd00::/12 via 2001:db8::1");
        for (name, net) in NETWORKS {
            host.sh(&format!(
                "ip link add ls-{name} type bridge; ip addr add 10.{net}.0.1/24 dev ls-{name}
                 ip addr add fd0{net}::1/64 dev ls-{name} nodad; ip link set ls-{name} up
                 echo 1 >/proc/sys/net/ipv4/conf/ls-{name}/route_localnet"
            ));
        }
        let mut containers = BTreeMap::new();
        for (name, network, n) in CONTAINERS {
            let place = Place::new();
            let (net, mac) = (number(network), mac(network, n));
            host.sh(&format!(
                "ip link add lv{name} type veth peer name eth0 address {mac} netns {}
                 ip link set lv{name} master ls-{network} up
                 ip link set lv{name} type bridge_slave hairpin on",
                place.path()
            ));
            place.sh(&format!(
                "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
                 ip addr add 10.{net}.0.{n}/24 dev eth0; ip addr add fd0{net}::{n}/64 dev eth0 nodad
                 ip link set eth0 up; ip route add default via 10.{net}.0.1; ip route add default via fd0{net}::1"
            ));
            place.answer(name, 80);
            containers.insert(name, place);
        }
        host.answer("host", 7000);
        host.answer("api", 2375);
        outside.answer("outside", 80);
        let nft = host.run(|| wait(Nft::find())).unwrap();
        assert!(nft.families().ipv6 && nft.families().bridge, "the tests' kernel has both");
        Self { host, outside, containers, rules: rules(), nft, _alone: alone }
    }

    fn apply(&mut self) {
        let transaction = self.rules.transaction(self.nft.families());
        self.host.run(|| wait(self.nft.apply(&transaction))).unwrap();
    }

    fn check(&mut self) -> Option<Drift> {
        self.host.run(|| wait(self.nft.check())).unwrap()
    }

    fn place(&self, name: &str) -> &Place {
        match name {
            "host" => &self.host,
            "outside" => &self.outside,
            name => &self.containers[name],
        }
    }

    /// All at once, so that silence is waited for once.
    fn expect(&self, cases: &[(&'static str, Protocol, String, Option<&'static str>)]) {
        let seen: Vec<Option<String>> = std::thread::scope(|scope| {
            let ask = |(from, protocol, to, _): &(&'static str, Protocol, String, Option<&'static str>)| {
                let (place, protocol, to) = (self.place(from), *protocol, to.parse().unwrap());
                scope.spawn(move || place.ask(protocol, to))
            };
            let asked: Vec<_> = cases.iter().map(ask).collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut wrong = Vec::new();
        for ((from, protocol, to, expected), seen) in cases.iter().zip(seen) {
            let same = match (expected, &seen) {
                (None, None) => true,
                // Only who answers, or also who was seen to ask.
                (Some(expected), Some(seen)) => {
                    seen == expected || (!expected.contains(' ') && seen.starts_with(&format!("{expected} ")))
                }
                _ => false,
            };
            if !same {
                wrong.push(format!("{from} -> {} {to}: expected {expected:?}, seen {seen:?}", protocol.name()));
            }
        }
        assert!(wrong.is_empty(), "of {} cases these are wrong:\n{}", cases.len(), wrong.join("\n"));
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn rules() -> Rules {
    let networks = NETWORKS.map(|(name, net)| RuledNetwork {
        interface: format!("ls-{name}"),
        subnets: [format!("10.{net}.0.0/24"), format!("fd0{net}::/64")].map(|c| Cidr::parse(&c).unwrap()).into(),
        internal: name == "i",
        masquerade: true,
    });
    let endpoints = CONTAINERS.map(|(name, network, n)| Endpoint {
        port: format!("lv{name}"),
        mac: mac(network, n),
        addresses: vec![address(4, network, n), address(6, network, n)],
    });
    let ports: [(Option<&str>, u16, Exposure, &str); 8] = [
        (None, 8080, Exposure::All, "a"),
        (Some("192.0.2.1"), 8081, Exposure::All, "a"),
        (Some("2001:db8::1"), 8081, Exposure::All, "a"),
        (Some("127.0.0.1"), 8082, Exposure::All, "a"),
        (None, 8083, Exposure::Loopback, "a"),
        (None, 8084, Exposure::HostFirewall, "a"),
        (None, 8085, Exposure::All, "b"),
        (None, 8086, Exposure::All, "i"),
    ];
    let published = ports.into_iter().flat_map(|(on, port, exposure, network)| {
        [Protocol::Tcp, Protocol::Udp].map(|protocol| {
            let address_on = on.map(|text| text.parse().unwrap());
            let published = Published { address: address_on, port, target: 80, protocol, exposure };
            (published, vec![address(4, network, 2), address(6, network, 2)])
        })
    });
    Rules {
        table: TABLE.into(),
        networks: networks.into(),
        endpoints: endpoints.into(),
        published: published.collect(),
        blocked: ["169.254.169.254/32", "fd00:ec2::254/128"].map(|text| Cidr::parse(text).unwrap()).into(),
        api: Some("[::]:2375".parse().unwrap()),
    }
}

const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

type Case = (&'static str, Protocol, String, Option<&'static str>);

/// For both protocols.
fn cases(table: &[(&'static str, &str, Option<&'static str>)]) -> Vec<Case> {
    table
        .iter()
        .flat_map(|(from, to, expected)| BOTH.map(|protocol| (*from, protocol, (*to).to_owned(), *expected)))
        .collect()
}

#[test]
fn who_reaches_whom() {
    let mut world = World::new();
    // Without rules everybody reaches everybody: the silence below is theirs.
    world.expect(&cases(&[
        ("outside", "10.1.0.2:80", Some("a1")),
        ("outside", "[fd01::2]:80", Some("a1")),
        ("a1", "10.2.0.2:80", Some("b1")),
        ("a1", "[fd02::2]:80", Some("b1")),
        ("i1", "10.1.0.2:80", Some("a1")),
        ("i1", "10.3.0.1:7000", Some("host")),
        ("i1", "[fd03::1]:7000", Some("host")),
        ("a1", "192.0.2.1:2375", Some("api")),
        ("a1", "169.254.169.254:80", Some("outside")),
        ("a1", "[fd00:ec2::254]:80", Some("outside")),
    ]));
    world.apply();
    world.expect(&cases(&[
        // One network.
        ("a1", "10.1.0.3:80", Some("a2 10.1.0.2")),
        ("a1", "[fd01::3]:80", Some("a2 fd01::2")),
        ("i1", "10.3.0.3:80", Some("i2 10.3.0.2")),
        ("i1", "[fd03::3]:80", Some("i2 fd03::2")),
        // Another one.
        ("a1", "10.2.0.2:80", None),
        ("a1", "[fd02::2]:80", None),
        ("b1", "10.1.0.2:80", None),
        ("b1", "[fd01::2]:80", None),
        ("a1", "10.3.0.2:80", None),
        ("a1", "[fd03::2]:80", None),
        ("i1", "10.1.0.2:80", None),
        ("i1", "[fd01::2]:80", None),
        // The outside.
        ("a1", "192.0.2.9:80", Some("outside 192.0.2.1")),
        ("a1", "[2001:db8::9]:80", Some("outside 2001:db8::1")),
        ("i1", "192.0.2.9:80", None),
        ("i1", "[2001:db8::9]:80", None),
        ("outside", "10.1.0.2:80", None),
        ("outside", "[fd01::2]:80", None),
        ("outside", "10.3.0.2:80", None),
        ("outside", "[fd03::2]:80", None),
        // The machine.
        ("a1", "10.1.0.1:7000", Some("host")),
        ("a1", "[fd01::1]:7000", Some("host")),
        ("a1", "192.0.2.1:7000", Some("host")),
        ("i1", "10.3.0.1:7000", None),
        ("i1", "[fd03::1]:7000", None),
        ("i1", "192.0.2.1:7000", None),
        ("host", "10.1.0.2:80", Some("a1 10.1.0.1")),
        ("host", "[fd01::2]:80", Some("a1 fd01::1")),
        ("host", "10.3.0.2:80", Some("i1 10.3.0.1")),
        ("host", "[fd03::2]:80", Some("i1 fd03::1")),
        // The services of the cloud.
        ("a1", "169.254.169.254:80", None),
        ("a1", "[fd00:ec2::254]:80", None),
        ("host", "169.254.169.254:80", Some("outside")),
        ("host", "[fd00:ec2::254]:80", Some("outside")),
    ]));
    // The daemon.
    world.expect(&[
        ("a1", Protocol::Tcp, "192.0.2.1:2375".into(), None),
        ("a1", Protocol::Tcp, "10.1.0.1:2375".into(), None),
        ("a1", Protocol::Tcp, "[fd01::1]:2375".into(), None),
        ("outside", Protocol::Tcp, "192.0.2.1:2375".into(), Some("api")),
        ("host", Protocol::Tcp, "127.0.0.1:2375".into(), Some("api")),
    ]);
}

#[test]
fn published_ports_are_reached_from_where_they_are_exposed() {
    let mut world = World::new();
    world.apply();
    world.expect(&cases(&[
        // On all addresses: from outside with the asker's own address, from everywhere else.
        ("outside", "192.0.2.1:8080", Some("a1 192.0.2.9")),
        ("outside", "[2001:db8::1]:8080", Some("a1 2001:db8::9")),
        ("host", "192.0.2.1:8080", Some("a1")),
        ("host", "[2001:db8::1]:8080", Some("a1")),
        ("host", "127.0.0.1:8080", Some("a1 10.1.0.1")),
        ("host", "127.0.0.7:8080", Some("a1 10.1.0.1")),
        ("host", "10.2.0.1:8080", Some("a1")),
        ("a2", "192.0.2.1:8080", Some("a1 10.1.0.1")),
        ("a2", "[2001:db8::1]:8080", Some("a1 fd01::1")),
        ("a2", "10.1.0.1:8080", Some("a1 10.1.0.1")),
        ("a1", "192.0.2.1:8080", Some("a1 10.1.0.1")),
        ("a1", "[2001:db8::1]:8080", Some("a1 fd01::1")),
        ("b1", "192.0.2.1:8080", Some("a1 10.2.0.2")),
        ("b1", "[2001:db8::1]:8080", Some("a1 fd02::2")),
        ("b1", "10.2.0.1:8080", Some("a1 10.2.0.2")),
        ("a1", "10.1.0.1:8085", Some("b1 10.1.0.2")),
        // Out of an internal network nothing leads, and none leads in.
        ("i1", "192.0.2.1:8080", None),
        ("i1", "[2001:db8::1]:8080", None),
        ("outside", "192.0.2.1:8086", None),
        ("outside", "[2001:db8::1]:8086", None),
        ("a1", "192.0.2.1:8086", None),
        ("i2", "10.3.0.1:8086", Some("i1 10.3.0.1")),
        ("host", "127.0.0.1:8086", Some("i1 10.3.0.1")),
        // On one address.
        ("outside", "192.0.2.1:8081", Some("a1 192.0.2.9")),
        ("outside", "[2001:db8::1]:8081", Some("a1 2001:db8::9")),
        ("host", "192.0.2.1:8081", Some("a1")),
        ("a1", "192.0.2.1:8081", Some("a1")),
        ("a1", "10.1.0.1:8081", None),
        ("host", "127.0.0.1:8081", None),
        ("host", "10.1.0.1:8081", None),
        // On loopback, by its address or by its exposure.
        ("host", "127.0.0.1:8082", Some("a1 10.1.0.1")),
        ("host", "192.0.2.1:8082", None),
        ("outside", "192.0.2.1:8082", None),
        ("a1", "10.1.0.1:8082", None),
        ("host", "127.0.0.1:8083", Some("a1 10.1.0.1")),
        ("host", "192.0.2.1:8083", None),
        ("outside", "192.0.2.1:8083", None),
        ("outside", "[2001:db8::1]:8083", None),
        ("a2", "10.1.0.1:8083", None),
        ("b1", "[2001:db8::1]:8083", None),
        // Not by rules.
        ("outside", "192.0.2.1:8084", None),
        ("host", "127.0.0.1:8084", None),
    ]));
}

#[test]
fn loopback_of_this_machine_is_not_reached_by_who_sends_there() {
    let mut world = World::new();
    world.host.sh("echo 1 >/proc/sys/net/ipv4/conf/up0/route_localnet");
    let published =
        Published { address: None, port: 8090, target: 90, protocol: Protocol::Udp, exposure: Exposure::All };
    world.rules.published.push((published, vec![address(4, "a", 2)]));
    // They send it to the wire instead of keeping it, as a program with a raw socket could.
    for (name, gateway, device) in [("a2", "10.1.0.1", "eth0"), ("outside", "192.0.2.1", "out0")] {
        world.place(name).sh(&format!(
            "ip route del local 127.0.0.0/8 dev lo table local; ip route del local 127.0.0.1 dev lo table local
             ip route add 127.0.0.0/8 via {gateway} dev {device}"
        ));
    }
    // Whether what one sends arrives at the socket of the other: answers from such an address would not be taken.
    let host = world.host.run(|| UdpSocket::bind("127.0.0.1:7009")).unwrap();
    let a1 = world.place("a1").run(|| UdpSocket::bind("10.1.0.2:90")).unwrap();
    let arrives = |world: &World, from: &str, to: &str, at: &UdpSocket| {
        at.set_read_timeout(Some(SILENCE)).unwrap();
        world.place(from).run(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", to)).unwrap();
        at.recv(&mut [0; 8]).is_ok()
    };
    assert!(arrives(&world, "a2", "127.0.0.1:7009", &host), "without rules");
    world.apply();
    assert!(!arrives(&world, "a2", "127.0.0.1:7009", &host));
    assert!(!arrives(&world, "a2", "127.0.0.1:8090", &a1));
    assert!(arrives(&world, "outside", "192.0.2.1:8090", &a1));
    assert!(arrives(&world, "outside", "127.0.0.1:7009", &host), "who lets that in has a reason");
    assert!(!arrives(&world, "outside", "127.0.0.1:8090", &a1), "but to no container");
}

#[test]
fn nobody_takes_an_address_that_is_not_theirs() {
    let mut world = World::new();
    world.place("a2").sh("ip addr add 10.1.0.77/24 dev eth0; ip addr add fd01::77/64 dev eth0 nodad");
    let from = |world: &World, source: &str, to: &str| {
        let (source, to): (IpAddr, SocketAddr) = (source.parse().unwrap(), to.parse().unwrap());
        world.place("a2").run(|| {
            let socket = UdpSocket::bind((source, 0)).unwrap();
            udp(&socket, to)
        })
    };
    let known = |world: &World| {
        world.host.sh("ip neigh flush dev ls-a");
        ["10.1.0.77", "fd01::77"].map(|address| {
            world.host.ask(Protocol::Udp, SocketAddr::new(address.parse().unwrap(), 80));
            let shown = world.host.run(|| Command::new("ip").args(["neigh", "show", address]).output().unwrap().stdout);
            String::from_utf8_lossy(&shown).contains("lladdr")
        })
    };
    let asked = [("10.1.0.77", "10.1.0.2:80"), ("fd01::77", "[fd01::2]:80"), ("10.1.0.77", "192.0.2.9:80")];
    for (source, to) in &asked[..2] {
        assert_eq!(from(&world, source, to), Some(format!("a1 {source}")), "without rules");
    }
    world.apply();
    for (source, to) in asked {
        assert_eq!(from(&world, source, to), None, "{source} -> {to}");
    }
    assert_eq!(from(&world, "10.1.0.3", "10.1.0.2:80").as_deref(), Some("a1 10.1.0.3"));
    assert_eq!(from(&world, "fd01::3", "[fd01::2]:80").as_deref(), Some("a1 fd01::3"));
    // Who asks for the address on the wire gets no answer either.
    assert_eq!(known(&world), [false, false]);
    world.host.run(|| wait(world.nft.remove(TABLE))).unwrap();
    assert_eq!(known(&world), [true, true], "without rules");
    world.apply();
    // Another MAC address.
    let mac = "ip link set eth0 down; ip link set eth0 address 02:00:00:00:09:09; ip link set eth0 up";
    world.place("b1").sh(&format!("{mac}; ip route add default via 10.2.0.1"));
    assert_eq!(world.place("b1").ask(Protocol::Tcp, "192.0.2.9:80".parse().unwrap()), None);
    world.rules.endpoints.retain(|endpoint| endpoint.port != "lvb1");
    world.apply();
    // Both sides may still wait for what was dropped before, or know the old address.
    world.host.sh("ip neigh flush dev ls-b");
    let ask = || world.place("b1").ask(Protocol::Tcp, "192.0.2.9:80".parse().unwrap());
    let seen = (0..10).find_map(|_| ask());
    assert_eq!(seen.as_deref(), Some("outside 192.0.2.1"), "a port that is not known is not checked");
}

#[test]
fn every_change_of_our_tables_is_seen_and_none_of_others() {
    let mut world = World::new();
    assert_eq!(world.check(), Some(Drift::Unknown));
    let changes: &[(&str, bool)] = &[
        ("nft flush ruleset", true),
        ("nft delete table bridge longshore_test", true),
        ("nft flush chain inet longshore_test between", true),
        ("nft 'delete element inet longshore_test bridges { ls-a }'", true),
        ("nft 'add element inet longshore_test bridges { ls-z }'", true),
        ("nft 'delete element inet longshore_test ports4 { 6 . 8080 }'", true),
        ("nft 'add rule inet longshore_test host accept'", true),
        ("nft 'add chain inet longshore_test host { policy drop; }'", true),
        ("nft 'add table inet other; add chain inet other c { type filter hook input priority 0; }'", false),
        ("true", false),
    ];
    for (change, drift) in changes {
        world.apply();
        assert_eq!(world.check(), None, "before {change}");
        world.host.sh(change);
        let seen = world.check();
        assert_eq!(seen.is_some(), *drift, "{change}: {seen:?}");
        assert_eq!(world.check(), seen, "asked again after {change}");
    }
    // Ours go, others' stay.
    world.host.run(|| wait(world.nft.remove(TABLE))).unwrap();
    world.host.run(|| wait(world.nft.remove(TABLE))).unwrap();
    let left = world.host.run(|| Command::new("nft").args(["list", "tables"]).output().unwrap().stdout);
    assert_eq!(String::from_utf8_lossy(&left).trim(), "table inet other");
}

#[test]
fn a_failed_transaction_changes_nothing() {
    let mut world = World::new();
    world.apply();
    let good = world.rules.transaction(world.nft.families());
    let mut bad = good;
    bad.json["nftables"].as_array_mut().unwrap().push(serde_json::json!({ "add": { "rule": {
        "family": "inet", "table": TABLE, "chain": "nowhere", "expr": [{ "accept": null }]
    } } }));
    let error = world.host.run(|| wait(world.nft.apply(&bad))).unwrap_err().to_string();
    assert!(error.contains("nft refused the rules") && error.contains("No such file"), "{error}");
    world.expect(&cases(&[("outside", "192.0.2.1:8080", Some("a1")), ("outside", "10.1.0.2:80", None)]));
}

#[test]
fn who_drops_what_we_let_through_is_named() {
    let mut world = World::new();
    world.apply();
    let names = ["ls-a".to_owned(), "ls-b".to_owned()];
    let look = |world: &World| world.host.run(|| wait(world.nft.blocked_by(&names))).unwrap();
    assert_eq!(look(&world), None);
    world.host.sh("iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -I FORWARD -j DOCKER-USER");
    let barrier = look(&world).unwrap();
    assert_eq!(barrier.owner, Owner::Docker);
    world.expect(&cases(&[("a1", "192.0.2.9:80", None)]));
    // What it says helps.
    let words = barrier.to_string();
    let remedy = words.split_once("let it pass: ").unwrap().1;
    world.host.sh(remedy);
    assert_eq!(look(&world), None, "{remedy}");
    world.expect(&cases(&[("a1", "192.0.2.9:80", Some("outside")), ("outside", "192.0.2.1:8080", Some("a1"))]));
    world
        .host
        .sh("nft 'add table inet mine; add chain inet mine f { type filter hook forward priority 5; policy drop; }'");
    let barrier = look(&world).unwrap();
    assert_eq!(barrier.owner, Owner::Other);
    world.host.sh(barrier.to_string().split_once("let it pass: ").unwrap().1);
    assert_eq!(look(&world), None);
    world.expect(&cases(&[("a1", "192.0.2.9:80", Some("outside")), ("outside", "192.0.2.1:8080", Some("a1"))]));
}

#[test]
fn a_thousand_containers_are_one_quick_transaction() {
    let mut world = World::new();
    for containers in [10, 100, 1000] {
        world.rules = many(containers);
        let started = Instant::now();
        world.apply();
        let took = started.elapsed();
        println!("{containers} containers with a port each: {took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    let started = Instant::now();
    assert_eq!(world.check(), None);
    println!("a look at rules that nobody changed: {:?}", started.elapsed());
    world.host.sh("nft add table inet other");
    let started = Instant::now();
    assert_eq!(world.check(), None);
    println!("a look after somebody else's change: {:?}", started.elapsed());
}

#[test]
fn while_rules_are_replaced_nothing_is_lost() {
    let mut world = World::new();
    // The more there is, the longer the kernel is at it.
    let ours = std::mem::replace(&mut world.rules, many(500));
    world.rules.endpoints.extend(ours.endpoints);
    world.rules.published.extend(ours.published);
    world.apply();
    let transaction = world.rules.transaction(world.nft.families());
    let done = std::sync::atomic::AtomicBool::new(false);
    let (asked, lost) = std::thread::scope(|scope| {
        let ask = |to: &'static str| {
            let (place, done) = (&world.containers["a1"], &done);
            move || {
                place.run(|| {
                    let to: SocketAddr = to.parse().unwrap();
                    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
                    // The links have only just come up.
                    assert!((0..20).any(|_| udp(&socket, to).is_some()), "{to} does not answer at all");
                    let (mut asked, mut lost) = (0, 0);
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        asked += 1;
                        lost += usize::from(udp(&socket, to).is_none());
                    }
                    (asked, lost)
                })
            }
        };
        let asking = ["192.0.2.9:80", "[2001:db8::9]:80"].map(|to| scope.spawn(ask(to)));
        let nft = &mut world.nft;
        let applied = world.host.run(|| (0..40).try_for_each(|_| wait(nft.apply(&transaction))));
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        applied.unwrap();
        asking.into_iter().map(|thread| thread.join().unwrap()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    println!("{asked} questions while the rules were replaced 40 times: {lost} without an answer");
    assert!(asked > 100, "{asked}");
    assert_eq!(lost, 0, "of {asked}");
}

fn many(containers: u16) -> Rules {
    let mut rules = rules();
    let numbers = || (0..containers).map(|n| (n, n.to_be_bytes()));
    let v4 = |[a, b]: [u8; 2]| format!("10.1.{}.{b}", a + 8).parse::<IpAddr>().unwrap();
    rules.endpoints = numbers()
        .map(|(n, bytes)| Endpoint {
            port: format!("lv{n:011x}"),
            mac: Mac([2, 0, 0, 1, bytes[0], bytes[1]]),
            addresses: vec![v4(bytes), format!("fd01::1:{n:x}").parse().unwrap()],
        })
        .collect();
    let port = |(n, bytes)| {
        let published =
            Published { address: None, port: 10_000 + n, target: 80, protocol: Protocol::Tcp, exposure: Exposure::All };
        (published, vec![v4(bytes), format!("fd01::1:{n:x}").parse().unwrap()])
    };
    rules.published = numbers().map(port).collect();
    rules
}

#[test]
fn a_missing_program_is_named() {
    let world = World::new();
    let error = world.host.run(|| wait(Nft::with("/nowhere/nft".into()))).unwrap_err();
    assert!(
        matches!(&error, longshore::network::nft::NftError::Call { source, .. } if source.kind() == ErrorKind::NotFound)
    );
}
