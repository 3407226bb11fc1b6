//! Published ports of real containers, each test in a network namespace of its own: as root, with a root made of Debian's static
//! busybox.

mod network_support;

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use longshore::container::{Runtime, StartNetwork};
use longshore::model::{Attached, ContainerSpec, Exposure, Protocol, Published, UserNamespace};
use longshore::network::ports::{Holder, holder, unheld};
use network_support::{BRIDGE, LIMIT, Place, SERVES, SIZE, apart, attachment, ip, spec};

fn place(runtime: Runtime) -> Place {
    sh(&format!(
        "ip link set lo up; ip link add {BRIDGE} type bridge; ip addr add 10.9.0.1/24 dev {BRIDGE}
         ip link set {BRIDGE} up"
    ));
    Place::new(runtime)
}

async fn start(place: &Place, spec: &ContainerSpec, published: &[Published]) -> Result<(), String> {
    place.create(spec).await;
    let attached = Attached { links: vec![attachment(2)], published: published.into(), ..Attached::default() };
    let network = StartNetwork { attached, ..StartNetwork::default() };
    place.all().start_with(&spec.id, network.into()).await.map_err(|error| error.to_string())
}

/// Waits until it has written so many lines.
async fn lines(place: &Place, spec: &ContainerSpec, count: usize) -> Vec<String> {
    let until = Instant::now() + LIMIT;
    loop {
        let written = place.written(spec).await;
        let lines: Vec<String> = written.lines().map(|line| line.trim().to_owned()).collect();
        if lines.len() >= count {
            return lines;
        }
        assert!(Instant::now() < until, "it wrote {} lines", lines.len());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn sh(script: &str) {
    let done = Command::new("sh").args(["-ec", script]).output().expect("a shell");
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
}

fn published(address: Option<&str>, port: u16, protocol: Protocol, exposure: Exposure) -> Published {
    Published { address: address.map(ip), port, target: 80, protocol, exposure }
}

fn taken(port: u16) -> [bool; 2] {
    [TcpListener::bind(("0.0.0.0", port)).is_err(), UdpSocket::bind(("0.0.0.0", port)).is_err()]
}

/// No process of the container has a socket.
const COUNTS: &str = "ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c socket:; exec sleep 1000";

async fn kept(runtime: Runtime, user: UserNamespace) {
    let place = place(runtime);
    let counts = spec("counts", COUNTS, |service| service.isolation.user = user);
    let ports = [
        published(None, 8000, Protocol::Tcp, Exposure::All),
        published(None, 8000, Protocol::Udp, Exposure::All),
        published(None, 8001, Protocol::Tcp, Exposure::HostFirewall),
    ];
    start(&place, &counts, &ports).await.expect("started");
    assert_eq!(lines(&place, &counts, 1).await, ["0"]);
    assert_eq!((taken(8000), taken(8001)), ([true, true], [true, false]));
    place.all().stop(&counts.id, None, 100).await.expect("stopped");
    assert_eq!(taken(8000), [false, false]);
    // And again at once, although the process that carried a port may still be ending.
    start(&place, &counts, &ports).await.expect("started again");
    assert_eq!(taken(8000), [true, true]);
}

#[test]
fn ports_are_kept_and_no_process_of_the_container_has_them() {
    apart(|| kept(Runtime::Embedded, UserNamespace::Host));
}

#[test]
fn ports_are_kept_for_a_container_with_users_of_its_own() {
    apart(|| kept(Runtime::Embedded, UserNamespace::Auto { size: SIZE }));
}

#[test]
fn ports_are_kept_with_runc() {
    apart(|| kept(Runtime::External("runc".into()), UserNamespace::Host));
}

#[test]
fn a_start_says_who_has_the_port() {
    apart(async || {
        let place = place(Runtime::Embedded);
        let serves = spec("serves", SERVES, |_| {});
        let other = TcpListener::bind("127.0.0.1:8000").expect("free");
        let ports = [published(None, 8000, Protocol::Tcp, Exposure::All)];
        let error = start(&place, &serves, &ports).await.expect_err("taken");
        let words = format!("(process {}); end it, or choose another port", std::process::id());
        assert!(error.contains("port 8000/tcp is taken by ") && error.contains(&words), "{error}");
        drop(other);
        start(&place, &serves, &ports).await.expect("started");
    });
}

fn fetch(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse().expect("an address"), Duration::from_millis(500))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.lines().last().unwrap_or_default().to_owned())
}

async fn ended(pid: i32) {
    let until = Instant::now() + LIMIT;
    while fs::exists(format!("/proc/{pid}")).expect("proc") {
        assert!(Instant::now() < until, "it stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn where_the_hosts_rules_decide_a_process_carries_the_port() {
    apart(async || {
        let place = place(Runtime::Embedded);
        let serves = spec("serves", &format!("echo ready; {SERVES}"), |_| {});
        let ports = [
            published(None, 8000, Protocol::Tcp, Exposure::HostFirewall),
            published(Some("::1"), 8001, Protocol::Tcp, Exposure::All),
        ];
        start(&place, &serves, &ports).await.expect("started");
        lines(&place, &serves, 1).await;
        let until = Instant::now() + LIMIT;
        while fetch("127.0.0.1:8000").is_err() {
            assert!(Instant::now() < until, "nobody answers");
        }
        for address in ["127.0.0.1:8000", "10.9.0.1:8000", "[::1]:8000", "[::1]:8001"] {
            assert_eq!(fetch(address).expect("answered"), "served", "{address}");
        }
        sh("nft 'add table inet mine; add chain inet mine i { type filter hook input priority 0; }
            add rule inet mine i tcp dport 8000 drop'");
        assert_eq!(fetch("127.0.0.1:8000").expect_err("the host's rules").kind(), ErrorKind::TimedOut);
        sh("nft delete table inet mine");
        let Some(Holder::Program { name, pid }) = holder(&(None, 8000, Protocol::Tcp)) else { panic!("nobody has it") };
        assert_eq!(name, "longshore-ports");
        let memory = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory");
        let pss = memory.lines().find_map(|line| line.strip_prefix("Pss:")).expect("Pss").trim();
        println!("the process that carries ports: Pss {pss}");
        let private = memory.lines().filter(|line| line.starts_with("Private_")).collect::<Vec<_>>();
        println!("{private:?}");
        for fd in fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors") {
            let to = fs::read_link(fd.expect("one").path()).expect("a link").to_string_lossy().into_owned();
            let own = ["/dev/null", "socket:", "anon_inode:"].iter().any(|start| to.starts_with(start));
            assert!(own, "it has {to}");
        }
        // Should it die alone, that is seen.
        assert!(unheld(&ports).is_empty());
        sh(&format!("kill -9 {pid}; while [ -e /proc/{pid}/fd/0 ]; do :; done"));
        assert_eq!(unheld(&ports), ports);
        place.all().stop(&serves.id, None, 100).await.expect("stopped");

        // It ends with the container, and where that did not start.
        start(&place, &serves, &ports).await.expect("started again");
        let Some(Holder::Program { pid, .. }) = holder(&(None, 8000, Protocol::Tcp)) else { panic!("nobody has it") };
        place.all().stop(&serves.id, None, 100).await.expect("stopped");
        ended(pid).await;
        assert_eq!((taken(8000), taken(8001)), ([false, false], [false, false]));
        let broken = spec("broken", "", |service| service.process.command = Some(vec!["/nowhere".into()]));
        let started = Instant::now();
        start(&place, &broken, &ports).await.expect_err("no such command");
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        let until = Instant::now() + LIMIT;
        while taken(8000) != [false, false] {
            assert!(Instant::now() < until, "it stays");
        }
    });
}
