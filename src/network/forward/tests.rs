use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::*;
use crate::model::{Exposure, Protocol, Published};
use crate::network::ports::claim;

/// Carries a port of this host, chosen by the kernel, to one that the test answers; the thread ends with the test.
fn carry(protocol: Protocol, port: u16) -> u16 {
    let published = Published { address: None, port: 0, target: port, protocol, exposure: Exposure::HostFirewall };
    let socket = claim(&[published]).unwrap().remove(0);
    let name: nix::sys::socket::SockaddrStorage =
        nix::sys::socket::getsockname(std::os::fd::AsRawFd::as_raw_fd(&socket)).unwrap();
    let on = name.as_sockaddr_in6().map(|v6| v6.port()).or(name.as_sockaddr_in().map(|v4| v4.port())).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let to = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let carried = Carried { socket: -1, udp: protocol == Protocol::Udp, to, port };
        let (_always, turn) = tokio::sync::watch::channel(true);
        tokio::task::LocalSet::new().block_on(&runtime, async {
            if carried.udp {
                udp::carry(udp::Port::new(socket).unwrap(), carried, turn).await;
            } else {
                let listener = TcpListener::from(socket);
                listener.set_nonblocking(true).unwrap();
                tcp::carry(tokio::net::TcpListener::from_std(listener).unwrap(), carried, turn).await;
            }
        });
    });
    on
}

#[test]
fn a_connection_is_carried_both_ways_and_each_side_ends_for_itself() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = carry(Protocol::Tcp, server.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            // Nothing is answered before the asker has ended, and it is more than any buffer holds.
            let mut text = Vec::new();
            stream.read_to_end(&mut text).unwrap();
            stream.write_all(&text).unwrap();
        }
    });
    let sent: Vec<u8> = (0..8_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    for to in ["127.0.0.1", "::1"] {
        let mut client = TcpStream::connect((to, port)).unwrap();
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert!(got == sent, "{} bytes of {} by {to}", got.len(), sent.len());
    }
}

#[test]
fn a_container_that_does_not_listen_is_a_connection_reset() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = carry(Protocol::Tcp, unused);
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn datagrams_are_answered_from_the_address_that_was_asked() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = carry(Protocol::Udp, server.local_addr().unwrap().port());
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((count, client)) = server.recv_from(&mut bytes) {
            // An answer may be more than one.
            server.send_to(&bytes[..count], client).unwrap();
            server.send_to(b"more", client).unwrap();
        }
    });
    for (any, to) in
        [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "127.0.0.2"), ("::1", "::1"), ("127.0.0.1", "127.0.0.2")]
    {
        let client = UdpSocket::bind((any, 0)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // A connected socket takes nothing from elsewhere.
        client.connect((to, port)).unwrap();
        for text in [&b"one"[..], b"two"] {
            client.send(text).unwrap();
            let mut bytes = [0; 64];
            let count = client.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..count], text, "by {to}");
            let count = client.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..count], b"more");
        }
    }
}

#[test]
fn the_asker_is_led_to_the_address_of_its_family() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let both = Carried { socket: 3, udp: false, to: vec![ip("10.0.0.2"), ip("fd00::2")], port: 80 };
    for (asker, to) in [("192.0.2.1", "10.0.0.2"), ("::ffff:192.0.2.1", "10.0.0.2"), ("2001:db8::1", "fd00::2")] {
        assert_eq!(both.target(ip(asker)), Some(SocketAddr::new(ip(to), 80)));
    }
    let four = Carried { to: vec![ip("10.0.0.2")], ..both };
    assert_eq!(four.target(ip("::1")), Some(SocketAddr::new(ip("10.0.0.2"), 80)));
}
