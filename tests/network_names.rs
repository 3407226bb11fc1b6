//! The resolver of containers, in network namespaces of the test's own: one plays the host, with name servers, one each container.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use longshore::model::{ContainerId, ContainerName, NetworkId, NetworkName, ProjectName, Protocol, ServiceName};
use longshore::network::dns::{Joined, Member, Resolver, Settings, Zone, open, redirect, redirected, sockets};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Longer than the resolver tries.
const PATIENCE: Duration = Duration::from_secs(8);

fn id(number: u8) -> ContainerId {
    ContainerId::from_hex(&format!("{number:064x}")).unwrap()
}

/// Container `number` of the service `web`, at 10.7.0.NUMBER.
fn member(number: u8) -> Member {
    Member {
        container: id(number),
        name: ContainerName::parse(&format!("shop-web-{number}")).unwrap(),
        project: ProjectName::parse("shop").unwrap(),
        service: ServiceName::parse("web").unwrap(),
        links: vec![Joined {
            network: NetworkId::from_hex(&"a".repeat(64)).unwrap(),
            network_name: NetworkName::parse("shop_default").unwrap(),
            v4: Some(Ipv4Addr::new(10, 7, 0, number)),
            v6: None,
            aliases: Vec::new(),
        }],
        ports: vec![(80, Protocol::Tcp, None)],
        service_links: Vec::new(),
        upstreams: Vec::new(),
        named: true,
        internal_only: false,
    }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    message
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    let address = |record: &Record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    message.answers.iter().filter_map(address).collect()
}

fn loopback_up() {
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
}

/// Does the work on a thread of its own; the caller's other tasks go on.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || tell.send(work()));
    told.await.expect("the thread panicked")
}

/// The host: a namespace, and a single-threaded runtime that is in it.
fn on_host(test: impl AsyncFnOnce(Host) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        loopback_up();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let resolv_conf = folder.path().join("resolv.conf");
            fs::write(&resolv_conf, "nameserver 127.0.1.1\n").unwrap();
            let resolver = Resolver::new(Settings { resolv_conf: resolv_conf.clone() });
            test(Host { resolver, resolv_conf, _folder: folder }).await;
        });
    });
    thread.join().unwrap();
}

struct Host {
    resolver: Resolver,
    resolv_conf: PathBuf,
    _folder: tempfile::TempDir,
}

impl Host {
    /// A container's namespace, with what the shim and the daemon do in it.
    async fn container(&self, number: u8) -> Container {
        self.container_that(number, true).await
    }
    async fn container_that(&self, number: u8, redirects: bool) -> Container {
        let (place, (udp, tcp)) = aside(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            loopback_up();
            if redirects {
                redirect().unwrap();
            }
            assert_eq!(redirected().unwrap(), redirects);
            (File::open("/proc/thread-self/ns/net").unwrap(), sockets().unwrap())
        })
        .await;
        self.resolver.serve(id(number), udp, tcp).unwrap();
        Container { place: Arc::new(place) }
    }
}

#[derive(Clone)]
struct Container {
    place: Arc<File>,
}

impl Container {
    async fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let place = Arc::clone(&self.place);
        aside(move || {
            setns(&*place, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
        .await
    }
    /// None: no answer came.
    async fn send(&self, bytes: Vec<u8>, patience: Duration) -> Option<Vec<u8>> {
        self.within(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect("127.0.0.11:53").unwrap();
            socket.set_read_timeout(Some(patience)).unwrap();
            socket.send(&bytes).unwrap();
            let mut buffer = vec![0; 65535];
            socket.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec())
        })
        .await
    }
    async fn ask(&self, query: &Message) -> Message {
        let reply = self.send(query.to_vec().unwrap(), PATIENCE).await.expect("an answer");
        checked(query, &reply)
    }
    async fn ask_by_tcp(&self, query: &Message) -> Message {
        let bytes = query.to_vec().unwrap();
        let reply = self
            .within(move || {
                let mut stream = TcpStream::connect("127.0.0.11:53").unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                // In two parts, and two questions on one connection.
                let framed = [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes.as_slice()].concat();
                stream.write_all(&framed[..5]).unwrap();
                std::thread::yield_now();
                stream.write_all(&framed[5..]).unwrap();
                stream.write_all(&framed).unwrap();
                let mut receive = || {
                    let mut len = [0; 2];
                    stream.read_exact(&mut len).unwrap();
                    let mut reply = vec![0; usize::from(u16::from_be_bytes(len))];
                    stream.read_exact(&mut reply).unwrap();
                    reply
                };
                let first = receive();
                assert_eq!(first.len(), receive().len());
                first
            })
            .await;
        checked(query, &reply)
    }
    async fn addresses_of(&self, name: &str) -> Vec<IpAddr> {
        addresses(&self.ask(&query(name, RecordType::A)).await)
    }
    async fn code_of(&self, name: &str) -> ResponseCode {
        self.ask(&query(name, RecordType::A)).await.metadata.response_code
    }
}

fn checked(query: &Message, reply: &[u8]) -> Message {
    let reply = Message::from_vec(reply).unwrap();
    assert_eq!((reply.metadata.id, &reply.queries), (query.metadata.id, &query.queries));
    // Names are equal whatever their case; the answer's is as asked.
    assert_eq!(reply.queries[0].name.to_ascii(), query.queries[0].name.to_ascii());
    reply
}

/// A name server on the host, which counts what it is asked by each way.
#[derive(Clone, Default)]
struct Upstream {
    udp: Arc<Mutex<HashMap<String, usize>>>,
    tcp: Arc<Mutex<HashMap<String, usize>>>,
}

impl Upstream {
    /// Answers as `answer` says, until the runtime ends; the flag: by TCP.
    async fn at(
        address: &str,
        answer: impl Fn(&str, bool, &mut Message) -> bool + Clone + Send + Sync + 'static,
    ) -> Self {
        let upstream = Self::default();
        let address: SocketAddr = (address.parse::<IpAddr>().unwrap(), 53).into();
        let socket = tokio::net::UdpSocket::bind(address).await.unwrap();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let (this, by_udp) = (upstream.clone(), answer.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (len, peer) = socket.recv_from(&mut buffer).await.unwrap();
                if let Some(reply) = this.reply(&buffer[..len], false, &by_udp) {
                    socket.send_to(&reply, peer).await.unwrap();
                }
            }
        });
        let this = upstream.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut message = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut message).await.unwrap();
                if let Some(reply) = this.reply(&message, true, &answer) {
                    stream.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
                    stream.write_all(&reply).await.unwrap();
                }
            }
        });
        upstream
    }
    fn reply(&self, bytes: &[u8], tcp: bool, answer: &impl Fn(&str, bool, &mut Message) -> bool) -> Option<Vec<u8>> {
        let message = Message::from_vec(bytes).unwrap();
        assert!(message.metadata.recursion_desired);
        let name = message.queries[0].name.to_ascii();
        let counts = if tcp { &self.tcp } else { &self.udp };
        *counts.lock().unwrap().entry(name.clone()).or_default() += 1;
        let mut reply = Message::response(message.metadata.id, message.metadata.op_code);
        reply.add_query(message.queries[0].clone());
        answer(&name, tcp, &mut reply).then(|| reply.to_vec().unwrap())
    }
    fn asked(&self, name: &str) -> (usize, usize) {
        let count = |counts: &Mutex<HashMap<String, usize>>| counts.lock().unwrap().get(name).copied().unwrap_or(0);
        (count(&self.udp), count(&self.tcp))
    }
}

fn put(reply: &mut Message, ttl: u32, address: Ipv4Addr) {
    let name = reply.queries[0].name.clone();
    reply.add_answer(Record::from_rdata(name, ttl, RData::A(A(address))));
}

/// Denies, for so long.
fn deny(reply: &mut Message, ttl: u32) {
    let root = Name::root();
    reply.metadata.response_code = ResponseCode::NXDomain;
    reply.add_authority(Record::from_rdata(
        root.clone(),
        ttl,
        RData::SOA(SOA::new(root.clone(), root, 1, 1, 1, 1, ttl)),
    ));
}

#[test]
fn a_replica_that_ended_is_gone_from_the_next_answer_on() {
    on_host(async |host| {
        let container = host.container(1).await;
        // Nobody is known yet: nothing is asked outside either.
        assert_eq!(container.code_of("web").await, ResponseCode::Refused);
        host.resolver.set(Zone::new((1..=3).map(member).collect()));
        let all = ["10.7.0.1", "10.7.0.2", "10.7.0.3"].map(|text| text.parse::<IpAddr>().unwrap());
        let mut first = HashMap::new();
        for _ in 0..9 {
            let mut seen = container.addresses_of("WEB").await;
            *first.entry(seen[0]).or_insert(0) += 1;
            seen.sort();
            assert_eq!(seen, all);
        }
        assert_eq!(first, all.into_iter().map(|address| (address, 3)).collect());
        host.resolver.set(Zone::new(vec![member(1), member(3)]));
        for _ in 0..4 {
            assert!(!container.addresses_of("web").await.contains(&all[1]));
        }
        let none = container.ask(&query("web", RecordType::AAAA)).await;
        assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0));
        let name = container.ask_by_tcp(&query("3.0.7.10.in-addr.arpa.", RecordType::PTR)).await;
        assert_eq!(name.answers[0].data.to_string(), "shop-web-3.shop_default.");
        let ports = container.ask(&query("_80._tcp.web", RecordType::SRV)).await;
        assert_eq!((ports.answers.len(), ports.additionals.len()), (2, 2));
    });
}

#[test]
fn a_kernel_without_rules_has_the_sockets_on_port_53() {
    on_host(async |host| {
        host.resolver.set(Zone::new(vec![member(1)]));
        let container = host.container_that(1, false).await;
        assert_eq!(container.addresses_of("web").await.len(), 1);
        container.ask_by_tcp(&query("web", RecordType::A)).await;
        assert!(host.resolver.serves(&id(1)) && !host.resolver.serves(&id(2)));
        host.resolver.close(&id(1));
        let until = Instant::now() + Duration::from_secs(10);
        while !container.within(|| UdpSocket::bind("127.0.0.11:53").is_ok()).await {
            assert!(Instant::now() < until, "the port is not free again");
            tokio::task::yield_now().await;
        }
        assert!(!host.resolver.serves(&id(1)));
    });
}

#[test]
fn a_container_that_removed_the_rules_gets_them_again() {
    on_host(async |host| {
        host.resolver.set(Zone::new(vec![member(1)]));
        let container = host.container(1).await;
        assert_eq!(container.addresses_of("web").await.len(), 1);
        let again = async || {
            container
                .within(|| {
                    assert!(Command::new("nft").args(["flush", "ruleset"]).status().unwrap().success());
                    assert!(!redirected().unwrap());
                    let opened = open();
                    assert!(redirected().unwrap());
                    opened
                })
                .await
        };
        // Who listens there already is who is to be led to.
        assert_eq!(again().await.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        assert_eq!(container.addresses_of("web").await.len(), 1);
        host.resolver.close(&id(1));
        tokio::task::yield_now().await;
        let (udp, tcp) = again().await.unwrap();
        host.resolver.serve(id(1), udp, tcp).unwrap();
        assert_eq!(container.addresses_of("web").await.len(), 1);
    });
}

#[test]
fn other_names_are_asked_once_and_kept_as_long_as_they_hold() {
    on_host(async |host| {
        host.resolver.set(Zone::new(vec![member(1), member(2)]));
        let upstream = Upstream::at("127.0.1.1", |name, _, reply| {
            match name.to_ascii_lowercase().as_str() {
                "short.test." => put(reply, 2, Ipv4Addr::new(192, 0, 2, 1)),
                "none.test." => deny(reply, 2),
                "now.test." => put(reply, 0, Ipv4Addr::new(192, 0, 2, 9)),
                _ => deny(reply, 0),
            }
            true
        })
        .await;
        let (one, two) = (host.container(1).await, host.container(2).await);
        let started = Instant::now();
        for container in [&one, &two, &one] {
            assert_eq!(container.addresses_of("Short.test").await, [IpAddr::from([192, 0, 2, 1])]);
            assert_eq!(container.code_of("none.test").await, ResponseCode::NXDomain);
            assert_eq!(container.addresses_of("now.test").await.len(), 1);
        }
        assert!(started.elapsed() < Duration::from_secs(2), "too slow to tell");
        assert_eq!(upstream.asked("Short.test.").0 + upstream.asked("short.test.").0, 1);
        assert_eq!(upstream.asked("none.test.").0, 1);
        assert_eq!(upstream.asked("now.test.").0, 3);
        // The TTL counts down: at one second's age one is left.
        let mut ttl = 2;
        while ttl == 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            ttl = two.ask(&query("short.test", RecordType::A)).await.answers[0].ttl;
        }
        assert_eq!(ttl, 1);
        while upstream.asked("none.test.").0 == 1 {
            assert!(started.elapsed() < PATIENCE, "it is kept too long");
            tokio::time::sleep(Duration::from_millis(20)).await;
            one.code_of("none.test").await;
        }
        assert!(started.elapsed() >= Duration::from_secs(2), "it was not kept");
        // One label that nobody has is asked, too, as with Docker.
        assert_eq!(one.code_of("database").await, ResponseCode::NXDomain);
        assert_eq!(upstream.asked("database.").0, 1);
    });
}

#[test]
fn an_answer_that_a_datagram_cannot_carry_comes_by_tcp() {
    on_host(async |host| {
        host.resolver.set(Zone::new(vec![member(1)]));
        let upstream = Upstream::at("127.0.1.1", |_, tcp, reply| {
            if tcp {
                (0..100).for_each(|number| put(reply, 60, Ipv4Addr::new(192, 0, 2, number)));
            } else {
                reply.metadata.truncation = true;
            }
            true
        })
        .await;
        let container = host.container(1).await;
        let mut asked = query("large.test", RecordType::A);
        let cut = container.ask(&asked).await;
        assert!(cut.metadata.truncation && cut.to_vec().unwrap().len() <= 512 && cut.answers.len() > 20);
        let whole = container.ask_by_tcp(&asked).await;
        assert!(!whole.metadata.truncation && whole.answers.len() == 100);
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        asked.set_edns(edns);
        let whole = container.ask(&asked).await;
        assert_eq!((whole.answers.len(), whole.max_payload()), (100, 1232));
        assert_eq!(upstream.asked("large.test."), (1, 1), "once, and kept");
    });
}

#[test]
fn who_does_not_answer_or_fails_is_followed_by_the_next() {
    on_host(async |host| {
        let mut own = member(2);
        own.upstreams = ["127.0.0.11", "127.0.1.3"].map(|text| text.parse().unwrap()).to_vec();
        host.resolver.set(Zone::new(vec![member(1), own]));
        let silent = Upstream::at("127.0.1.1", |_, _, _| false).await;
        let failing = Upstream::at("127.0.1.2", |_, _, reply| {
            reply.metadata.response_code = ResponseCode::ServFail;
            true
        })
        .await;
        let good = Upstream::at("127.0.1.3", |_, _, reply| {
            put(reply, 0, Ipv4Addr::new(192, 0, 2, 3));
            true
        })
        .await;
        fs::write(
            &host.resolv_conf,
            "nameserver 127.0.1.1\nnameserver 127.0.1.2\nnameserver 127.0.1.3\noptions timeout:1 attempts:1\n",
        )
        .unwrap();
        let (one, two) = (host.container(1).await, host.container(2).await);
        let started = Instant::now();
        assert_eq!(one.addresses_of("a.test").await.len(), 1);
        assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&started.elapsed()));
        assert_eq!(["a.test."; 3].map(|n| (silent.asked(n).0, failing.asked(n).0, good.asked(n).0))[0], (1, 1, 1));
        // Who was silent is asked last from now on.
        let started = Instant::now();
        assert_eq!(one.addresses_of("b.test").await.len(), 1);
        assert!(started.elapsed() < Duration::from_millis(900));
        assert_eq!(silent.asked("b.test.").0, 0);
        // Servers of one's own; our own address is not one.
        assert_eq!(two.addresses_of("c.test").await.len(), 1);
        assert_eq!((failing.asked("c.test.").0, good.asked("c.test.").0), (0, 1));
    });
}

#[test]
fn another_resolv_conf_is_followed_within_a_second() {
    on_host(async |host| {
        host.resolver.set(Zone::new(vec![member(1)]));
        for number in [1, 2] {
            Upstream::at(&format!("127.0.1.{number}"), move |_, _, reply| {
                put(reply, 3600, Ipv4Addr::new(192, 0, 2, number));
                true
            })
            .await;
        }
        let container = host.container(1).await;
        assert_eq!(container.addresses_of("a.test").await, [IpAddr::from([192, 0, 2, 1])]);
        let other = host.resolv_conf.with_extension("other");
        fs::write(&other, "nameserver 127.0.1.2\n").unwrap();
        fs::rename(&other, &host.resolv_conf).unwrap();
        let changed = Instant::now();
        while container.addresses_of("a.test").await != [IpAddr::from([192, 0, 2, 2])] {
            assert!(changed.elapsed() < Duration::from_millis(1500));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        fs::remove_file(&host.resolv_conf).unwrap();
        let changed = Instant::now();
        while container.code_of("a.test").await != ResponseCode::ServFail {
            assert!(changed.elapsed() < Duration::from_millis(1500));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn a_name_server_in_a_container_that_asks_us_back_makes_no_circle() {
    on_host(async |host| {
        host.resolver.set(Zone::new(vec![member(1), member(2)]));
        let (one, two) = (host.container(1).await, host.container(2).await);
        // What the host asks is container 2, by a port that is published at 127.0.1.1: it asks 127.0.0.11 what it is asked.
        let socket = tokio::net::UdpSocket::bind("127.0.1.1:53").await.unwrap();
        let (count, back) = (Arc::new(Mutex::new(0)), two.clone());
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (len, _) = socket.recv_from(&mut buffer).await.unwrap();
                *counted.lock().unwrap() += 1;
                let (back, bytes) = (back.clone(), buffer[..len].to_vec());
                tokio::spawn(async move { back.send(bytes, PATIENCE).await });
            }
        });
        let started = Instant::now();
        assert_eq!(one.code_of("circle.test").await, ResponseCode::ServFail);
        assert!(started.elapsed() < Duration::from_secs(5));
        let count = *count.lock().unwrap();
        assert!(count <= 2, "asked {count} times: the attempts of one question");
        // The address of who asks is not asked at all.
        fs::write(&host.resolv_conf, "nameserver 10.7.0.2\n").unwrap();
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let asked = Instant::now();
            assert_eq!(two.code_of("self.test").await, ResponseCode::ServFail);
            if asked.elapsed() < Duration::from_millis(100) {
                return;
            }
        }
        panic!("its own address is asked");
    });
}

#[test]
fn one_that_asks_without_end_starves_nobody_and_the_same_question_is_asked_once() {
    on_host(async |host| {
        let mut other = member(2);
        other.upstreams = vec!["127.0.1.2".parse().unwrap()];
        host.resolver.set(Zone::new(vec![member(1), other]));
        let silent = Upstream::at("127.0.1.1", |_, _, _| false).await;
        Upstream::at("127.0.1.2", |_, _, reply| {
            put(reply, 0, Ipv4Addr::new(192, 0, 2, 2));
            true
        })
        .await;
        let (one, two) = (host.container(1).await, host.container(2).await);
        let flood = one.clone();
        let refused = flood.within(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect("127.0.0.11:53").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            for number in 0..300 {
                let name = if number < 100 { "same.test".to_owned() } else { format!("n{number}.test") };
                socket.send(&query(&name, RecordType::A).to_vec().unwrap()).unwrap();
            }
            let mut buffer = [0; 512];
            let mut refused = 0;
            while refused < 300 && socket.recv(&mut buffer).is_ok() {
                refused += 1;
            }
            refused
        });
        let asked = async {
            let started = Instant::now();
            assert_eq!(two.addresses_of("quick.test").await.len(), 1);
            assert_eq!(one.addresses_of("web").await.len(), 2);
            assert!(started.elapsed() < Duration::from_secs(1));
        };
        let (refused, ()) = tokio::join!(refused, asked);
        assert_eq!(refused, 300 - 256, "what is more than may be under way is refused at once");
        assert_eq!(silent.asked("same.test.").0, 1);
    });
}
