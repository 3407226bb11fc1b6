//! What a container that runs has lost, and giving it back.

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};

use super::{LinkError, connect, set_up};
use crate::model::{Attachment, Cidr, Link};
use crate::network::bridge::{self, Fault};
use crate::network::namespace;
use crate::network::netlink::{Request, Snapshot, Socket};

/// What is wrong with a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkFault {
    /// The container's end is not there, or another one has its name.
    Gone,
    /// The container's end is down.
    Down,
    /// An address is missing inside.
    Address(Cidr),
    /// The container has no way out.
    NoRoute,
    /// The host's end.
    Port(Fault),
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the interface was gone"),
            Self::Down => f.write_str("the interface was down"),
            Self::Address(cidr) => write!(f, "the address {cidr} was gone"),
            Self::NoRoute => f.write_str("the default route was gone"),
            Self::Port(fault) => write!(f, "its end on the host {fault}"),
        }
    }
}

/// Compares. A container that made itself another way out keeps it.
#[must_use]
pub fn faults(attachment: &Attachment, host: &Snapshot, inside: &Snapshot) -> Vec<LinkFault> {
    let mut faults = Vec::new();
    if let Link::Bridge { bridge, port } = &attachment.link
        && let Some(fault) = bridge::port_fault(port, bridge, host)
    {
        faults.push(LinkFault::Port(fault));
    }
    let Some(link) = inside.link(&attachment.interface).filter(|link| link.elsewhere || link.parent.is_some()) else {
        faults.push(LinkFault::Gone);
        return faults;
    };
    if !link.up {
        faults.push(LinkFault::Down);
    }
    let missing = attachment.addresses.iter().filter(|cidr| !inside.has(link, **cidr));
    faults.extend(missing.map(|cidr| LinkFault::Address(*cidr)));
    let has_way_out = |v4: bool| {
        // Some programs cover everything in two halves.
        inside.routes.iter().any(|route| route.to.prefix <= 1 && route.to.address.is_ipv4() == v4)
    };
    if attachment.gateways.iter().any(|gateway| !has_way_out(gateway.is_ipv4())) {
        faults.push(LinkFault::NoRoute);
    }
    faults
}

/// Puts the links of a container that runs right, and gives what was wrong. Blocks. The calling thread is in the host's namespace.
pub fn reconnect(namespace: &OwnedFd, attachments: &[Attachment]) -> Result<Vec<(Attachment, LinkFault)>, LinkError> {
    let host = Socket::open()?;
    namespace::within(namespace, move || {
        let inside = Socket::open()?;
        let mut wrong = Vec::new();
        for attachment in attachments {
            let found = mend(&host, &inside, namespace, attachment)?;
            wrong.extend(found.into_iter().map(|fault| (attachment.clone(), fault)));
        }
        Ok(wrong)
    })?
}

fn mend(
    host: &Socket,
    inside: &Socket,
    namespace: &OwnedFd,
    attachment: &Attachment,
) -> Result<Vec<LinkFault>, LinkError> {
    let fail = LinkError::of(attachment);
    let (there, here) = (bridge::look(host).map_err(&fail)?, inside.snapshot().map_err(&fail)?);
    let found = faults(attachment, &there, &here);
    if found.is_empty() {
        return Ok(found);
    }
    let both_ends = found.contains(&LinkFault::Gone) || found.contains(&LinkFault::Port(Fault::Gone));
    if both_ends {
        let label = format!("the interface {}", attachment.interface);
        inside.one(Request::remove(&label, &attachment.interface).unless_gone()).map_err(&fail)?;
        connect(host, inside, namespace.as_fd(), attachment)?;
    } else {
        plug(host, attachment)?;
        if let Some(link) = here.link(&attachment.interface)
            && found.iter().any(|fault| !matches!(fault, LinkFault::Port(_)))
        {
            // Of the ways out only one that is missing: the container may have another one.
            let missing = found.contains(&LinkFault::NoRoute);
            let gateways = if missing { attachment.gateways.clone() } else { Vec::new() };
            set_up(inside, link, &Attachment { gateways, ..attachment.clone() })?;
        }
    }
    let _ = super::announce(inside, attachment);
    Ok(found)
}

fn plug(host: &Socket, attachment: &Attachment) -> Result<(), LinkError> {
    let Link::Bridge { bridge, port } = &attachment.link else { return Ok(()) };
    let fail = LinkError::of(attachment);
    let bridge = host
        .link(bridge)
        .map_err(&fail)?
        .ok_or_else(|| LinkError::NoNetwork { network: attachment.name.clone(), interface: bridge.clone() })?;
    host.all(&Request::port(port, &bridge)).map_err(&fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mac, MacvlanMode, NetworkId, NetworkName};
    use crate::network::bridge::{BridgeSpec, ensure, look};
    use crate::network::link::{LinkError, announce};
    use crate::network::netlink::tests::apart;
    use crate::network::sysctl;

    fn cidr(text: &str) -> Cidr {
        Cidr::parse(text).unwrap()
    }

    fn bridge() -> BridgeSpec {
        BridgeSpec {
            name: "ls-0123456789".into(),
            alias: "longshore i id".into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu: 1400,
            addresses: vec![cidr("10.9.0.1/24"), cidr("fd00::1/64")],
            ipv6: true,
        }
    }

    fn attachment(number: u8) -> Attachment {
        Attachment {
            network: NetworkId::from_hex(&"a".repeat(64)).unwrap(),
            name: NetworkName::parse("shop_default").unwrap(),
            link: Link::Bridge { bridge: bridge().name, port: format!("lv{number:011x}") },
            interface: "eth0".into(),
            mac: Some(Mac([2, 0, 0, 0, 1, number])),
            addresses: vec![cidr(&format!("10.9.0.{number}/24")), cidr(&format!("fd00::{number}/64"))],
            gateways: vec!["10.9.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            mtu: 1400,
            internal: false,
        }
    }

    fn join(host: &OwnedFd, inside: &OwnedFd, attachment: &Attachment) -> Result<(), LinkError> {
        let host = namespace::within(host, || Socket::open().unwrap()).unwrap();
        let done =
            namespace::within(inside, move || connect(&host, &Socket::open().unwrap(), inside.as_fd(), attachment));
        done.unwrap()
    }

    fn inside(namespace: &OwnedFd) -> Snapshot {
        namespace::within(namespace, || Socket::open().unwrap().snapshot().unwrap()).unwrap()
    }

    fn reach(from: &OwnedFd, to: &str) -> bool {
        let to: std::net::SocketAddr = to.parse().unwrap();
        let limit = std::time::Duration::from_secs(2);
        namespace::within(from, || std::net::TcpStream::connect_timeout(&to, limit).is_ok()).unwrap()
    }

    #[test]
    fn two_containers_reach_each_other_and_what_is_lost_comes_back() {
        let host = apart(|| namespace::own().unwrap());
        let [one, other] = [0, 1].map(|_| apart(|| namespace::own().unwrap()));
        namespace::within(&host, || ensure(&Socket::open().unwrap(), &bridge()).unwrap()).unwrap();
        let [first, second] = [2, 3].map(attachment);
        join(&host, &one, &first).unwrap();
        join(&host, &other, &second).unwrap();
        // Again, as after a start that was cut off.
        namespace::within(&one, || Socket::open().unwrap().one(Request::remove("eth0", "eth0")).unwrap()).unwrap();
        join(&host, &one, &first).unwrap();
        let seen = namespace::within(&host, || look(&Socket::open().unwrap()).unwrap()).unwrap();
        assert_eq!(faults(&first, &seen, &inside(&one)), []);
        let eth0 = inside(&one).link("eth0").cloned().unwrap();
        assert_eq!((eth0.mac, eth0.mtu, eth0.up), (first.mac, 1400, true));
        let port = seen.link("lv00000000002").unwrap();
        assert!(seen.addresses.iter().all(|address| address.index != port.index), "nobody reaches the host by a port");
        let _listening = namespace::within(&other, || {
            ["10.9.0.3:80", "[fd00::3]:80"].map(|at| std::net::TcpListener::bind(at).unwrap())
        });
        assert!(reach(&one, "10.9.0.3:80") && reach(&one, "[fd00::3]:80"));

        let mend = || namespace::within(&host, || reconnect(&one, std::slice::from_ref(&first)).unwrap()).unwrap();
        let lost = |wrong: Vec<(Attachment, LinkFault)>| wrong.into_iter().map(|(_, fault)| fault).collect::<Vec<_>>();
        assert_eq!(lost(mend()), []);
        let on =
            |namespace: &OwnedFd, name: &str, ask: &(dyn Fn(&crate::network::netlink::SeenLink) -> Request + Sync)| {
                namespace::within(namespace, || {
                    let socket = Socket::open().unwrap();
                    let link = socket.link(name).unwrap().unwrap();
                    socket.one(ask(&link)).unwrap();
                })
                .unwrap();
            };
        // With its last IPv4 address goes the route, too.
        on(&one, "eth0", &|link| Request::remove_address(link, cidr("10.9.0.2/24")));
        assert_eq!(lost(mend()), [LinkFault::Address(cidr("10.9.0.2/24")), LinkFault::NoRoute]);
        assert!(reach(&one, "10.9.0.3:80"));
        on(&host, "lv00000000002", &|link| Request::remove("port", &link.name));
        assert_eq!(lost(mend()), [LinkFault::Port(Fault::Gone), LinkFault::Gone]);
        assert!(reach(&one, "10.9.0.3:80") && reach(&one, "[fd00::3]:80"));
        on(&host, &bridge().name, &|link| Request::remove("bridge", &link.name));
        assert!(matches!(
            namespace::within(&host, || reconnect(&one, std::slice::from_ref(&first))).unwrap(),
            Err(LinkError::NoNetwork { .. })
        ));
        namespace::within(&host, || ensure(&Socket::open().unwrap(), &bridge()).unwrap()).unwrap();
        assert_eq!(lost(mend()), [LinkFault::Port(Fault::Loose)]);
        namespace::within(&host, || reconnect(&other, std::slice::from_ref(&second)).unwrap()).unwrap();
        assert!(reach(&one, "10.9.0.3:80") && reach(&one, "[fd00::3]:80"));
        assert_eq!(lost(mend()), []);
    }

    #[test]
    fn who_takes_over_an_address_is_found_at_once() {
        let host = apart(|| namespace::own().unwrap());
        namespace::within(&host, || ensure(&Socket::open().unwrap(), &bridge()).unwrap()).unwrap();
        let one = apart(|| namespace::own().unwrap());
        join(&host, &one, &attachment(2)).unwrap();
        let listen = || ["10.9.0.3:80", "[fd00::3]:80"].map(|at| std::net::TcpListener::bind(at).unwrap());
        for mac in [7, 8] {
            let other = apart(|| namespace::own().unwrap());
            let attachment = Attachment { mac: Some(Mac([2, 0, 0, 0, 1, mac])), ..attachment(3) };
            join(&host, &other, &attachment).unwrap();
            let _listening = namespace::within(&other, listen).unwrap();
            // The bridge carries for a new port a moment after it was plugged.
            while mac == 7 && !reach(&one, "10.9.0.3:80") {}
            std::thread::sleep(std::time::Duration::from_millis(100));
            namespace::within(&other, || announce(&Socket::open().unwrap(), &attachment).unwrap()).unwrap();
            assert!(reach(&one, "10.9.0.3:80") && reach(&one, "[fd00::3]:80"), "{mac}");
        }
    }

    #[test]
    fn nothing_is_left_when_the_namespace_goes() {
        let host = apart(|| namespace::own().unwrap());
        namespace::within(&host, || ensure(&Socket::open().unwrap(), &bridge()).unwrap()).unwrap();
        let one = apart(|| namespace::own().unwrap());
        join(&host, &one, &attachment(2)).unwrap();
        let ports = || {
            let links = namespace::within(&host, || Socket::open().unwrap().links().unwrap()).unwrap();
            links.into_iter().filter(|link| link.name.starts_with("lv")).count()
        };
        assert_eq!(ports(), 1);
        drop(one);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while ports() > 0 && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(ports(), 0);
    }

    #[test]
    fn without_ipv6_there_is_none_inside() {
        let host = apart(|| namespace::own().unwrap());
        namespace::within(&host, || ensure(&Socket::open().unwrap(), &bridge()).unwrap()).unwrap();
        let one = apart(|| namespace::own().unwrap());
        let mut attachment = attachment(2);
        (attachment.addresses, attachment.gateways) = (vec![cidr("10.9.0.2/24")], Vec::new());
        join(&host, &one, &attachment).unwrap();
        assert!(!namespace::within(&one, || sysctl::has_ipv6("eth0")).unwrap());
        let inside = inside(&one);
        assert!(inside.routes.iter().all(|route| route.to.prefix > 0), "no way out was asked for");
        assert!(inside.addresses.iter().all(|address| address.cidr.address.is_ipv4()));
    }

    #[test]
    fn on_the_wire_of_an_interface_of_the_host() {
        let host = apart(|| namespace::own().unwrap());
        namespace::within(&host, || ensure(&Socket::open().unwrap(), &bridge()).unwrap()).unwrap();
        let [one, other] = [0, 1].map(|_| apart(|| namespace::own().unwrap()));
        let [first, second] = [2, 3].map(|number| Attachment {
            link: Link::Macvlan { parent: bridge().name, mode: MacvlanMode::Bridge },
            gateways: vec!["0.0.0.0".parse().unwrap()],
            ..attachment(number)
        });
        join(&host, &one, &first).unwrap();
        join(&host, &other, &second).unwrap();
        let seen = inside(&one);
        let eth0 = seen.link("eth0").unwrap();
        assert_eq!((eth0.kind.as_str(), eth0.mac), ("macvlan", first.mac));
        assert!(seen.routes.iter().any(|route| route.to.prefix == 0 && route.index == Some(eth0.index)));
        assert_eq!(faults(&first, &seen, &seen), []);
        let gone =
            Attachment { link: Link::Macvlan { parent: "no".into(), mode: MacvlanMode::Bridge }, ..attachment(4) };
        assert!(matches!(join(&host, &one, &gone), Err(LinkError::NoNetwork { .. })));
    }

    /// For `--nocapture`.
    #[test]
    fn links_are_made_in_a_moment() {
        const COUNT: u8 = 100;
        let host = apart(|| namespace::own().unwrap());
        let socket = namespace::within(&host, || {
            let socket = Socket::open().unwrap();
            ensure(&socket, &bridge()).unwrap();
            socket
        });
        let socket = std::sync::Mutex::new(socket.unwrap());
        let namespaces: Vec<OwnedFd> = (0..COUNT).map(|_| apart(|| namespace::own().unwrap())).collect();
        let mut all = [std::time::Duration::ZERO; 2];
        for (number, inside) in namespaces.iter().enumerate() {
            let attachment = attachment(u8::try_from(number + 2).unwrap());
            let (socket, all) = (&socket, &mut all);
            let (took, used) = std::thread::scope(|scope| {
                let work = || {
                    nix::sched::setns(inside, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                    let used = || {
                        let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
                        std::time::Duration::from(nix::time::clock_gettime(clock).unwrap())
                    };
                    let (begin, before) = (std::time::Instant::now(), used());
                    connect(&socket.lock().unwrap(), &Socket::open().unwrap(), inside.as_fd(), &attachment).unwrap();
                    (begin.elapsed(), used() - before)
                };
                scope.spawn(work).join().unwrap()
            });
            all[0] += took;
            all[1] += used;
        }
        println!("one link: {:?}, {:?} of a processor", all[0] / COUNT.into(), all[1] / COUNT.into());
        assert!(all[1] / COUNT.into() < std::time::Duration::from_millis(20), "{all:?}");
    }
}
