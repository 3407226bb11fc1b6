use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::model::{Cidr, Link, Location, NetworkId, NetworkName};

/// In a network namespace of its own, with loopback up.
fn alone(work: impl FnOnce() + Send + 'static) {
    let inside = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        work();
    });
    inside.join().unwrap();
}

const DEFAULTS: Defaults = Defaults { address: None, exposure: Exposure::All };

fn port(address: Option<&str>, host: Option<(u16, u16)>, protocol: Protocol) -> Port {
    Port {
        address: address.map(|text| text.parse().unwrap()),
        host,
        target: 80,
        protocol,
        name: None,
        location: Location { file: "compose.yaml".into(), line: 1, column: 1 },
    }
}

fn tcp(address: Option<&str>, first: u16, last: u16) -> Port {
    port(address, Some((first, last)), Protocol::Tcp)
}

fn numbers(asked: &[Port], ours: &BTreeMap<Place, String>, previous: &[Published]) -> Result<Vec<u16>, PortError> {
    Ok(choose(asked, DEFAULTS, ours, previous, &[])?.into_iter().map(|published| published.port).collect())
}

fn published(address: Option<&str>, port: u16, protocol: Protocol, exposure: Exposure) -> Published {
    Published { address: address.map(|text| text.parse().unwrap()), port, target: 80, protocol, exposure }
}

#[test]
fn of_a_range_the_lowest_that_is_free_is_taken_and_what_was_had_is_kept() {
    alone(|| {
        let none = BTreeMap::new();
        let _other = TcpListener::bind("127.0.0.1:8000").unwrap();
        let ours = BTreeMap::from([((None, 8001, Protocol::Tcp), "web".to_owned())]);
        assert_eq!(numbers(&[tcp(None, 8000, 8009), tcp(None, 8000, 8009)], &ours, &[]).unwrap(), [8002, 8003]);
        let before = [published(None, 8007, Protocol::Tcp, Exposure::All)];
        assert_eq!(numbers(&[tcp(None, 8000, 8009)], &none, &before).unwrap(), [8007]);
        assert_eq!(numbers(&[tcp(None, 8000, 8005)], &none, &before).unwrap(), [8001], "out of the range");
        let free = numbers(&[port(None, None, Protocol::Udp)], &none, &[]).unwrap();
        assert_eq!(free, [ephemeral().0]);
        let before = [published(None, 40_000, Protocol::Udp, Exposure::All)];
        assert_eq!(numbers(&[port(None, None, Protocol::Udp)], &none, &before).unwrap(), [40_000]);
        let full = numbers(&[tcp(None, 8000, 8001)], &ours, &[]).unwrap_err();
        assert!(matches!(full, PortError::Range { first: 8000, last: 8001, .. }), "{full}");
    });
}

#[test]
fn who_has_a_port_is_named() {
    alone(|| {
        let name = std::fs::read_to_string("/proc/self/comm").unwrap();
        let (tcp_other, udp_other) =
            (TcpListener::bind("127.0.0.1:8000").unwrap(), UdpSocket::bind("[::]:8000").unwrap());
        let ours = BTreeMap::from([((Some("127.0.0.2".parse().unwrap()), 9000, Protocol::Tcp), "web".to_owned())]);
        let said = |asked: &[Port]| choose(asked, DEFAULTS, &ours, &[], &[]).unwrap_err().to_string();
        for (asked, place) in [
            (tcp(None, 8000, 8000), "8000/tcp"),
            (tcp(Some("127.0.0.1"), 8000, 8000), "127.0.0.1:8000/tcp"),
            (tcp(Some("0.0.0.0"), 8000, 8000), "0.0.0.0:8000/tcp"),
            (port(Some("127.0.0.1"), Some((8000, 8000)), Protocol::Udp), "127.0.0.1:8000/udp"),
            (port(Some("::1"), Some((8000, 8000)), Protocol::Udp), "[::1]:8000/udp"),
        ] {
            let wanted = format!(
                "port {place} is taken by {} (process {}); end it, or choose another port",
                name.trim(),
                std::process::id()
            );
            assert_eq!(said(&[asked]), wanted);
        }
        assert!(choose(&[tcp(Some("127.0.0.2"), 8000, 8000)], DEFAULTS, &ours, &[], &[]).is_ok(), "another address");
        assert!(choose(&[tcp(Some("::1"), 8000, 8000)], DEFAULTS, &ours, &[], &[]).is_ok(), "another family");
        assert_eq!(said(&[tcp(None, 9000, 9000)]), "port 9000/tcp is taken by web; give one of them another port");
        assert_eq!(
            said(&[tcp(None, 7000, 7000), tcp(Some("127.0.0.1"), 7000, 7000)]),
            "port 127.0.0.1:7000/tcp is asked for twice by this service"
        );
        assert!(said(&[tcp(Some("192.0.2.1"), 8000, 8000)]).contains("does not have that address"));
        drop((tcp_other, udp_other));
        assert!(choose(&[tcp(None, 8000, 8000)], DEFAULTS, &ours, &[], &[]).is_ok());
    });
}

#[test]
fn closing_connections_are_not_in_the_way() {
    alone(|| {
        let listener = TcpListener::bind("127.0.0.1:8000").unwrap();
        let client = std::net::TcpStream::connect("127.0.0.1:8000").unwrap();
        // Who closes first keeps it.
        drop(listener.accept().unwrap());
        drop((client, listener));
        let place = (None, 8000, Protocol::Tcp);
        assert_eq!(holder(&place), Some(Holder::Closing));
        let kept = claim(&[published(None, 8000, Protocol::Tcp, Exposure::All)]).unwrap();
        assert_eq!(kept.len(), 1);
    });
}

#[test]
fn what_is_kept_nobody_else_gets() {
    alone(|| {
        let both = [Protocol::Tcp, Protocol::Udp].map(|protocol| published(None, 8000, protocol, Exposure::All));
        let loopback =
            [Protocol::Tcp, Protocol::Udp].map(|protocol| published(None, 8001, protocol, Exposure::Loopback));
        let kept = Copies::default().keep(&[both, loopback].concat()).unwrap();
        let taken = |address: &str| TcpListener::bind(address).is_err() && UdpSocket::bind(address).is_err();
        // std's listeners say SO_REUSEADDR, as most servers do.
        for address in ["0.0.0.0:8000", "127.0.0.1:8000", "[::]:8000", "[::1]:8000", "127.0.0.1:8001", "0.0.0.0:8001"] {
            assert!(taken(address), "{address}");
        }
        assert!(!taken("127.0.0.2:8001"));
        // And nothing answers.
        let refused = std::net::TcpStream::connect("[::1]:8000").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        drop(kept);
        // A program that another test is just starting may have copies until it begins.
        let until = Instant::now() + Duration::from_secs(5);
        while taken("0.0.0.0:8000") {
            assert!(Instant::now() < until, "still taken");
        }
    });
}

#[test]
fn of_very_many_ports_none_is_kept() {
    alone(|| {
        let many: Vec<Published> =
            (0..=256).map(|n| published(None, 20_000 + n, Protocol::Tcp, Exposure::All)).collect();
        assert_eq!(Copies::default().keep(&many[1..]).unwrap().len(), MOST_KEPT);
        assert!(Copies::default().keep(&many).unwrap().is_empty());
        let _other = TcpListener::bind("0.0.0.0:20256").unwrap();
        assert!(matches!(Copies::default().keep(&many), Err(PortError::Program { .. })), "each is tried");
    });
}

#[test]
fn an_address_in_the_file_says_more_than_the_default_exposure() {
    alone(|| {
        let at = |address: Option<&str>, exposure| {
            let defaults = Defaults { exposure, ..DEFAULTS };
            choose(&[tcp(address, 8000, 8000)], defaults, &BTreeMap::new(), &[], &[]).unwrap()[0].exposure
        };
        assert_eq!(at(None, Exposure::Loopback), Exposure::Loopback);
        assert_eq!(at(Some("0.0.0.0"), Exposure::Loopback), Exposure::All);
        assert_eq!(at(Some("0.0.0.0"), Exposure::HostFirewall), Exposure::HostFirewall);
    });
}

#[test]
fn ports_lead_to_the_link_with_the_way_out() {
    let link = |address: &str, gateways: &[&str]| Attachment {
        network: NetworkId::from_hex(&"0".repeat(64)).unwrap(),
        name: NetworkName::parse("n").unwrap(),
        link: Link::Bridge { bridge: "b".into(), port: "p".into() },
        interface: "eth0".into(),
        mac: None,
        addresses: vec![Cidr::parse(address).unwrap()],
        gateways: gateways.iter().map(|text| text.parse().unwrap()).collect(),
        mtu: 1500,
        internal: false,
    };
    let attached = |links: Vec<Attachment>| Attached { links, ..Attached::default() };
    let [one, two] = [link("10.0.0.2/24", &[]), link("10.0.1.2/24", &["10.0.1.1"])];
    assert_eq!(leads_to(&attached(vec![one.clone(), two])), [IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2))]);
    let six = link("fd00::2/64", &[]);
    assert_eq!(leads_to(&attached(vec![six, one])), ["10.0.0.2", "fd00::2"].map(|a| a.parse::<IpAddr>().unwrap()));
}

#[test]
fn a_port_that_nobody_carries_is_seen() {
    alone(|| {
        let carried = |port, protocol| published(None, port, protocol, Exposure::HostFirewall);
        let all = [
            carried(8000, Protocol::Tcp),
            carried(8001, Protocol::Udp),
            carried(8002, Protocol::Sctp),
            published(None, 8003, Protocol::Tcp, Exposure::All),
        ];
        let sockets = claim(&all[..2]).unwrap();
        assert_eq!(unheld(&all), []);
        drop(sockets);
        assert_eq!(unheld(&all), all[..2]);
        assert_eq!(name(&all[1]), "8001/udp");
    });
}
