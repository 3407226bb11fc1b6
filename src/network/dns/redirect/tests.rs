//! Each in a network namespace of its own.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use super::*;

/// Does the work in a new network namespace with a loopback interface that is up.
fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        work()
    });
    thread.join().unwrap()
}

fn ruleset() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_rules_are_what_nft_would_have_made() {
    let (none, once, twice, seen) = apart(|| {
        assert!(!redirected().unwrap());
        let none = ruleset();
        redirect().unwrap();
        let once = ruleset();
        redirect().unwrap();
        (none, once, ruleset(), redirected().unwrap())
    });
    assert_eq!(none, "");
    assert_eq!(once, twice);
    assert!(seen);
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let wanted = format!(
        "table ip longshore_names {{
            chain asked {{
                type filter hook output priority raw; policy accept;
                ip daddr 127.0.0.11 udp dport 53 udp dport set {PORT}
                ip daddr 127.0.0.11 tcp dport 53 tcp dport set {PORT}
            }}
            chain answered {{
                type filter hook output priority filter; policy accept;
                ip saddr 127.0.0.11 udp sport {PORT} udp sport set 53
                ip saddr 127.0.0.11 tcp sport {PORT} tcp sport set 53
            }}
        }}"
    );
    assert_eq!(words(&once), words(&wanted), "{once}");
}

/// One question and one answer of each protocol through port 53 to who listens on the high one.
fn talk() {
    let limit = Some(Duration::from_secs(5));
    let server = UdpSocket::bind((ADDRESS, PORT)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect((ADDRESS, NAMES)).unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(limit).unwrap();
    }
    let mut buffer = [0; 16];
    for text in [b"ask".as_slice(), b"again"] {
        client.send(text).unwrap();
        let (len, peer) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], text);
        server.send_to(text, peer).unwrap();
        let len = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], text);
    }
    let listener = TcpListener::bind((ADDRESS, PORT)).unwrap();
    let mut client = TcpStream::connect((ADDRESS, NAMES)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(&[7; 100_000]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = Vec::new();
    server.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 100_000);
    assert_eq!(client.peer_addr().unwrap().port(), NAMES);
}

#[test]
fn who_asks_port_53_is_heard_on_the_high_port_though_another_has_port_53() {
    apart(|| {
        redirect().unwrap();
        let own = UdpSocket::bind("0.0.0.0:53").unwrap();
        own.set_nonblocking(true).unwrap();
        talk();
        assert!(own.recv(&mut [0; 16]).is_err());
    });
}

#[test]
fn rules_of_the_container_that_track_connections_do_not_cut_the_answer() {
    apart(|| {
        redirect().unwrap();
        let rules = "table inet own {
            chain in {
                type filter hook input priority 0; policy drop;
                ct state established accept
                ct state new meta l4proto { tcp, udp } th dport { 53, 61053 } accept
            }
            chain out {
                type nat hook postrouting priority 100;
                snat ip to 127.0.0.9
            }
        }";
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success());
        talk();
    });
}

#[test]
fn a_namespace_that_belongs_to_other_users_gets_the_rules_from_the_hosts_root() {
    let mut holder = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", "ip link set lo up; echo up; read end"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    holder.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    let place = std::fs::File::open(format!("/proc/{}/ns/net", holder.id())).unwrap();
    let thread = std::thread::spawn(move || {
        nix::sched::setns(place, CloneFlags::CLONE_NEWNET).unwrap();
        redirect().unwrap();
        talk();
    });
    thread.join().unwrap();
    drop(holder.stdin.take());
    holder.wait().unwrap();
}
