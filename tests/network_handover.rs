//! Published ports go from one container to the next under load: nothing is refused, reset or lost. Each test in a network namespace of
//! its own: as root, with a root made of Debian's static busybox.

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod network_support;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use longshore::container::{Runtime, StartGiven, StartNetwork};
use longshore::model::{
    ContainerId, ContainerSpec, Driver, Exposure, Join, Location, Membership, Network, NetworkId, NetworkMode,
    NetworkName, NetworkPlace, Port, Protocol, SpecHash,
};
use longshore::network::addresses::Pools;
use longshore::network::namespace::within;
use longshore::network::{Holder, Networks, Settings};
use network_support::{LIMIT, Place, apart, cidr, spec};

struct World {
    place: Place,
    networks: Networks,
    network: NetworkId,
    exposure: Exposure,
    limit: Duration,
    run: tempfile::TempDir,
}

fn sh(script: &str) {
    let done = Command::new("sh").args(["-ec", script]).output().expect("a shell");
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
}

fn settings(run: &std::path::Path, exposure: Exposure, hold: Duration) -> Settings {
    Settings {
        data_dir: run.join("data"),
        run_dir: run.join("run"),
        exe: env!("CARGO_BIN_EXE_longshore").into(),
        instance: "0a0b0c0d".into(),
        pools: Pools::usual(Some(cidr("fd12:3456:789a::/48"))),
        publish_ip: None,
        exposure,
        blocked: Vec::new(),
        api: None,
        host_gateway: None,
        hold,
    }
}

impl World {
    async fn new(exposure: Exposure) -> Self {
        Self::holding(exposure, LIMIT).await
    }

    /// Connections wait so long.
    async fn holding(exposure: Exposure, limit: Duration) -> Self {
        sh("ip link set lo up; ip link add up0 type veth peer name up1; ip link set up1 up; ip addr add 192.0.2.2/24 dev up0; ip link set up0 up
            ip addr add 2001:db8::2/64 dev up0 nodad");
        let run = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(run.path().join("data")).expect("made");
        let network = Network {
            name: NetworkName::parse("shop_default").expect("a name"),
            driver: Driver::Bridge,
            internal: false,
            ipv4: true,
            ipv6: true,
            pools: Vec::new(),
            mtu: Some(1500),
            bridge: None,
            labels: BTreeMap::new(),
            location: Location::whole("compose.yaml"),
        };
        let (networks, notes) = Networks::open(settings(run.path(), exposure, limit), Vec::new()).await.expect("opens");
        assert!(notes.is_empty(), "{notes:?}");
        networks.make(&network).await.expect("made");
        let network = NetworkId::derive(&network);
        Self { place: Place::new(Runtime::Embedded), networks, network, exposure, limit, run }
    }

    async fn start(&self, spec: &ContainerSpec) {
        self.place.create(spec).await;
        let networks = NetworkPlace::Networks(vec![self.network.clone()]);
        let attached = self.networks.attach(spec, &networks, None).await.expect("attached");
        let keepers = self.networks.keepers(&spec.id);
        let network = StartNetwork { attached, resolver: true, keepers, ..StartNetwork::default() };
        self.place.all().start_with(&spec.id, StartGiven::from(network)).await.expect("started");
        self.networks.started(&spec.id, self.place.all().init(&spec.id).expect("it runs"));
    }

    async fn hand_over(&self, spec: &ContainerSpec) {
        self.networks.accepts(&spec.id).await.expect("it runs");
        let attached = self.networks.next_turn(&spec.id).expect("it runs");
        if let Some(attached) = &attached {
            self.place.all().note_attached(&spec.id, attached.clone()).await.expect("written");
        }
        self.networks.hand_over(&spec.id, attached).await.expect("handed over");
    }

    async fn stop(&self, spec: &ContainerSpec) {
        // Requests under way end.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.place.all().stop(&spec.id, None, 50).await.expect("stopped");
        self.networks.ended(&spec.id);
    }

    async fn remove(&self, spec: &ContainerSpec) {
        self.place.all().remove(&spec.id).await.expect("removed");
        self.networks.forget(&spec.id);
    }

    /// What a daemon that was killed and started again does.
    async fn reopen(&mut self) {
        self.place.reopen();
        let containers = self.place.all();
        let holders = containers.observe().into_iter().map(|(id, container)| Holder {
            attached: containers.attached(&id).expect("known"),
            init: containers.init(&id),
            spec: container.spec,
        });
        let holders = holders.collect();
        let (networks, _) =
            Networks::open(settings(self.run.path(), self.exposure, self.limit), holders).await.expect("opens");
        networks.guard().await.expect("in force");
        self.networks = networks;
    }

    /// In the container's network, for as long as this process runs.
    fn answer_datagrams(&self, spec: &ContainerSpec, answer: &'static str) {
        let init = self.place.all().init(&spec.id).expect("it runs");
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", init.pid)).expect("its namespace");
        let socket = within(&namespace, || UdpSocket::bind("0.0.0.0:80")).expect("entered").expect("free");
        std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok((_, client)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(answer.as_bytes(), client);
            }
        });
    }

    /// The process that held ports ends when nobody waits any more.
    async fn nobody_holds(&self) {
        let (folder, until) = (self.run.path().join("run/hold"), Instant::now() + LIMIT);
        while std::fs::read_dir(&folder).expect("the folder").next().is_some() {
            assert!(Instant::now() < until, "the process that held ports stays");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Who is on standby, and whose ports are held.
    fn turned(&self) -> (Vec<ContainerId>, Vec<ContainerId>) {
        let seen = self.networks.observe();
        (seen.standby.into_iter().collect(), seen.held.into_iter().collect())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A holder ends with its slot; one that a failed test left is told by its own place.
        let held = std::fs::read_dir(self.run.path().join("run/hold")).into_iter().flatten().flatten();
        for path in held.map(|entry| entry.path()) {
            if let Ok(mut holder) = std::os::unix::net::UnixStream::connect(path) {
                let _ = holder.write_all(b"\"end\"\n");
                let _ = holder.read_to_end(&mut Vec::new());
            }
        }
    }
}

fn port(address: Option<&str>, host: u16, protocol: Protocol) -> Port {
    Port {
        address: address.map(|text| text.parse().expect("an address")),
        host: Some((host, host)),
        target: 80,
        protocol,
        name: None,
        location: Location::whole("compose.yaml"),
    }
}

/// A container of the service web that answers `served-VERSION`, `late` seconds after its start.
fn web(version: &str, late: &str, ports: &[Port]) -> ContainerSpec {
    let script = format!("sleep {late}; echo served-{version} > /tmp/index.html; exec httpd -f -p 80 -h /tmp");
    let join = Join {
        network: NetworkName::parse("shop_default").expect("a name"),
        aliases: Vec::new(),
        ipv4: None,
        ipv6: None,
        link_local: Vec::new(),
        mac: None,
        interface: None,
        gateway_priority: 0,
    };
    let membership = Membership { joins: vec![join], ports: ports.to_vec(), ..Membership::default() };
    spec("web", &script, |service| {
        service.network = NetworkMode::Networks(Box::new(membership));
        service.hash = SpecHash::of(version.as_bytes());
    })
}

/// What came of all requests.
#[derive(Debug, Default)]
struct Seen {
    answered: BTreeMap<String, usize>,
    failed: Vec<String>,
    slowest: Duration,
}

/// Asks from several threads, a new connection for each request.
struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(addresses: &[&str]) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let threads = addresses.iter().map(|address| {
            let (stop, seen, address) = (Arc::clone(&stop), Arc::clone(&seen), address.parse().expect("an address"));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Its backlog is short: who comes too often would wait for that.
                    std::thread::sleep(Duration::from_millis(2));
                    let begun = Instant::now();
                    let answer = ask(address);
                    let mut seen = seen.lock().expect("no panic");
                    seen.slowest = seen.slowest.max(begun.elapsed());
                    match answer {
                        Ok(body) if body.starts_with("served-") => *seen.answered.entry(body).or_default() += 1,
                        Ok(body) => seen.failed.push(format!("{address}: wrong body {body:?}")),
                        Err(error) => seen.failed.push(format!("{address}: {error} after {:?}", begun.elapsed())),
                    }
                }
            })
        });
        Self { threads: threads.collect(), stop, seen }
    }

    /// Until so many more were answered so.
    async fn answered(&self, body: &str, more: usize) {
        let count = || self.seen.lock().expect("no panic").answered.get(body).copied().unwrap_or_default();
        let (before, until) = (count(), Instant::now() + LIMIT);
        while count() < before + more {
            assert!(Instant::now() < until, "{body} is not answered: {:?}", self.seen.lock());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            tokio::task::spawn_blocking(move || thread.join().expect("no panic")).await.expect("joined");
        }
        std::mem::take(&mut *self.seen.lock().expect("no panic"))
    }
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.lines().last().unwrap_or_default().to_owned())
}

fn all_ports() -> Vec<Port> {
    vec![
        port(None, 8000, Protocol::Tcp),
        port(Some("127.0.0.1"), 8001, Protocol::Tcp),
        port(Some("::1"), 8002, Protocol::Tcp),
        port(Some("2001:db8::2"), 8003, Protocol::Tcp),
        port(None, 8000, Protocol::Udp),
    ]
}

const EVERYWHERE: [&str; 6] =
    ["127.0.0.1:8000", "192.0.2.2:8000", "[2001:db8::2]:8000", "127.0.0.1:8001", "[::1]:8002", "[2001:db8::2]:8003"];

/// Nobody else can take one of the ports, now.
fn taken() {
    for port in [8000, 8001] {
        assert!(TcpListener::bind(("127.0.0.1", port)).is_err(), "{port} is free");
    }
    assert!(UdpSocket::bind(("0.0.0.0", 8000)).is_err(), "8000/udp is free");
    assert!(TcpListener::bind("[::1]:8002").is_err() && TcpListener::bind("[2001:db8::2]:8003").is_err());
}

async fn start_first(exposure: Exposure) {
    let world = World::new(exposure).await;
    let (old, new) = (web("old", "0", &all_ports()), web("new", "0.3", &all_ports()));
    world.start(&old).await;
    world.networks.accepts(&old.id).await.expect("it runs");
    let load = Load::on(&EVERYWHERE);
    load.answered("served-old", 100).await;
    world.start(&new).await;
    assert_eq!(world.turned(), (vec![new.id.clone()], vec![]));
    load.answered("served-old", 50).await;
    world.hand_over(&new).await;
    assert_eq!(world.turned(), (vec![old.id.clone()], vec![]), "the old one has them no more");
    taken();
    world.stop(&old).await;
    taken();
    world.remove(&old).await;
    load.answered("served-new", 200).await;
    taken();
    let seen = load.end().await;
    println!("start-first, {exposure:?}: {:?}, slowest {:?}", seen.answered, seen.slowest);
    assert!(seen.failed.is_empty(), "{:?}", seen.failed);
    // Who has them now is replaced in turn, and the one before is as any.
    world.start(&old).await;
    assert_eq!(world.turned(), (vec![old.id.clone()], vec![]));
    world.hand_over(&old).await;
    assert_eq!(ask("127.0.0.1:8000".parse().expect("an address")).expect("answered"), "served-old");
}

#[test]
fn the_next_container_takes_over_while_both_run() {
    apart(|| start_first(Exposure::All));
}

#[test]
fn processes_that_carry_ports_take_turns() {
    apart(|| start_first(Exposure::HostFirewall));
}

async fn stop_first(exposure: Exposure) {
    let world = World::new(exposure).await;
    let (old, new) = (web("old", "0", &all_ports()), web("new", "0.5", &all_ports()));
    world.start(&old).await;
    world.networks.accepts(&old.id).await.expect("it runs");
    let load = Load::on(&EVERYWHERE);
    load.answered("served-old", 100).await;
    world.networks.hold(&old.id).await.expect("held");
    assert_eq!(world.turned(), (vec![], vec![old.id.clone()]));
    world.stop(&old).await;
    taken();
    world.start(&new).await;
    assert_eq!(world.turned(), (vec![new.id.clone()], vec![old.id.clone()]));
    world.hand_over(&new).await;
    assert_eq!(world.turned(), (vec![], vec![]));
    world.remove(&old).await;
    load.answered("served-new", 200).await;
    taken();
    let seen = load.end().await;
    println!("stop-first with held ports, {exposure:?}: {:?}, slowest {:?}", seen.answered, seen.slowest);
    assert!(seen.failed.is_empty(), "{:?}", seen.failed);
    assert!(seen.slowest > Duration::from_millis(500), "nobody waited");
    world.nobody_holds().await;
}

#[test]
fn connections_wait_while_the_next_container_starts() {
    apart(|| stop_first(Exposure::All));
}

#[test]
fn connections_wait_where_the_hosts_rules_decide() {
    apart(|| stop_first(Exposure::HostFirewall));
}

async fn held_for_too_long(exposure: Exposure) {
    let world = World::holding(exposure, Duration::from_secs(1)).await;
    let (old, new) = (web("old", "0", &all_ports()), web("new", "0", &all_ports()));
    world.start(&old).await;
    world.networks.accepts(&old.id).await.expect("it runs");
    let begun = Instant::now();
    world.networks.hold(&old.id).await.expect("held");
    // Who carries ports is told by a signal.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let asks = EVERYWHERE.map(|address| {
        let asked = move || ask(address.parse().expect("an address"));
        (address, tokio::task::spawn_blocking(asked))
    });
    for (address, asked) in asks {
        let answer = asked.await.expect("no panic");
        assert!(answer.is_err() || answer.as_deref().is_ok_and(str::is_empty), "{address}: {answer:?}");
    }
    assert!(begun.elapsed() > Duration::from_secs(1), "nobody waited");
    world.stop(&old).await;
    assert_eq!(world.turned(), (vec![], vec![old.id.clone()]));
    let notes = world.networks.notes();
    assert!(notes.iter().any(|note| note.contains("the ports of shop/web/1 were held for 1 s")), "{notes:?}");
    // It is never too late for the next one.
    world.start(&new).await;
    world.hand_over(&new).await;
    for address in EVERYWHERE {
        assert_eq!(ask(address.parse().expect("an address")).expect(address), "served-new");
    }
    assert!(world.networks.notes().is_empty());
    world.nobody_holds().await;
    // Where the slot is gone nobody waits for anything.
    world.networks.hold(&new.id).await.expect("held");
    for spec in [&old, &new] {
        world.remove(spec).await;
    }
    world.nobody_holds().await;
    assert!(TcpListener::bind(("127.0.0.1", 8000)).is_ok(), "it is kept for nobody");
}

#[test]
fn what_is_held_for_too_long_is_closed() {
    apart(|| held_for_too_long(Exposure::All));
}

#[test]
fn what_is_held_for_too_long_is_closed_where_the_hosts_rules_decide() {
    apart(|| held_for_too_long(Exposure::HostFirewall));
}

#[test]
fn a_daemon_that_is_killed_at_any_step_goes_on() {
    apart(async || {
        let mut world = World::new(Exposure::All).await;
        let (old, new) = (web("old", "0", &all_ports()), web("new", "0.2", &all_ports()));
        world.start(&old).await;
        world.networks.accepts(&old.id).await.expect("it runs");
        let load = Load::on(&EVERYWHERE);
        load.answered("served-old", 50).await;
        world.networks.hold(&old.id).await.expect("held");
        world.reopen().await;
        assert_eq!(world.turned(), (vec![], vec![old.id.clone()]), "it is held on");
        world.stop(&old).await;
        world.reopen().await;
        world.start(&new).await;
        world.reopen().await;
        assert_eq!(world.turned(), (vec![new.id.clone()], vec![old.id.clone()]));
        // Killed once it was written down, and nothing else was done.
        world.networks.accepts(&new.id).await.expect("it runs");
        let attached = world.networks.next_turn(&new.id).expect("it runs").expect("it has them not");
        world.place.all().note_attached(&new.id, attached).await.expect("written");
        world.reopen().await;
        assert_eq!(world.turned(), (vec![], vec![]));
        load.answered("served-new", 100).await;
        let seen = load.end().await;
        println!("killed: {:?}, slowest {:?}", seen.answered, seen.slowest);
        assert!(seen.failed.is_empty(), "{:?}", seen.failed);
    });
}

#[test]
fn datagrams_and_names_go_over_too() {
    apart(async || {
        let world = World::new(Exposure::All).await;
        let ports = [port(None, 8053, Protocol::Udp)];
        let (old, new) = (web("old", "0", &ports), web("new", "0", &ports));
        let mut client = web("client", "0", &[]);
        client.slot.service = longshore::model::ServiceName::parse("client").expect("a name");
        let script = "while :; do busybox nslookup -type=a web | grep Address: | busybox tail -n 1; sleep 0.05; done";
        client.service.process.command = Some(vec!["/bin/sh".into(), "-c".into(), script.into()]);
        world.start(&old).await;
        world.answer_datagrams(&old, "served-old");
        world.start(&client).await;
        let client_lines = async |found: &ContainerSpec| {
            let attached = world.place.all().attached(&found.id).expect("known");
            let last = format!("Address: {}", attached.links[0].ipv4().expect("an address"));
            let until = Instant::now() + LIMIT;
            loop {
                let written = world.place.written(&client).await;
                let lines: Vec<String> = written.lines().map(|line| line.trim().to_owned()).collect();
                if lines.iter().rev().take(5).filter(|line| **line == last).count() == 5 {
                    return lines;
                }
                assert!(Instant::now() < until, "{last} does not come: {lines:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let socket = UdpSocket::bind("192.0.2.2:4000").expect("free");
        socket.connect("192.0.2.2:8053").expect("a route");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        // From one socket: what the kernel remembers of it leads to whom it led before.
        let asked = async |expected: &str| {
            let until = Instant::now() + LIMIT;
            loop {
                let mut bytes = [0; 64];
                let _ = socket.send(b"who");
                match socket.recv(&mut bytes) {
                    Ok(count) if bytes[..count] == *format!("served-{expected}").as_bytes() => return,
                    _ => assert!(Instant::now() < until, "{expected} does not answer"),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        asked("old").await;
        client_lines(&old).await;
        world.start(&new).await;
        world.answer_datagrams(&new, "served-new");
        world.networks.accepts(&new.id).await.expect("it runs");
        tokio::time::sleep(Duration::from_millis(500)).await;
        asked("old").await;
        let before = client_lines(&old).await;
        let other = before.iter().find(|line| **line != before[before.len() - 1]);
        assert_eq!(other, None, "who is on standby is found by name");
        world.hand_over(&new).await;
        asked("new").await;
        client_lines(&new).await;
    });
}
