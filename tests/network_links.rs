//! Containers on networks, each test in a network namespace of its own: as root, with a root made of Debian's static busybox.

mod network_support;

use std::time::{Duration, Instant};

use longshore::container::{Runtime, StartNetwork};
use longshore::model::{
    Attached, Attachment, ContainerSpec, ContainerState, Link, Mac, NetworkMode, ProcessId, Service, UserNamespace,
};
use longshore::network::bridge::{self, BridgeSpec, Fault};
use longshore::network::netlink::{Request, Socket};
use longshore::network::{link, namespace};
use network_support::{BRIDGE, LIMIT, Place, SERVES, SIZE, apart, cidr, ip, spec};

/// The host's side, with the bridge that containers are joined to.
fn host() -> Socket {
    let host = Socket::open().expect("netlink");
    bridge::ensure(&host, &bridge()).expect("a bridge");
    host
}

async fn run(place: &Place, spec: &ContainerSpec, network: StartNetwork) {
    place.create(spec).await;
    place.all().start_with(&spec.id, network.into()).await.expect("started");
}

/// What it wrote, once it has ended.
async fn said(place: &Place, spec: &ContainerSpec) -> String {
    let mut changed = place.all().changed();
    let wait = async {
        while !matches!(place.all().observe()[&spec.id].state, ContainerState::Exited { .. }) {
            changed.changed().await.expect("open");
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("it ends");
    place.written(spec).await
}

fn init(place: &Place, spec: &ContainerSpec) -> ProcessId {
    place.all().init(&spec.id).expect("it runs")
}

/// Waits until the host's end of its link is gone.
async fn unplugged(host: &Socket, attachment: &Attachment) {
    let Link::Bridge { bridge, port } = &attachment.link else { panic!("a bridge") };
    let until = Instant::now() + LIMIT;
    while bridge::port_fault(port, bridge, &bridge::look(host).expect("seen")) != Some(Fault::Gone) {
        assert!(Instant::now() < until, "the host's end of the link stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn bridge() -> BridgeSpec {
    BridgeSpec {
        name: BRIDGE.into(),
        alias: "longshore i id".into(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1400,
        addresses: vec![cidr("10.9.0.1/24"), cidr("fd00::1/64")],
        ipv6: true,
    }
}

/// With an address of each family.
fn attachment(number: u8) -> Attachment {
    let mut attachment = network_support::attachment(number);
    attachment.addresses.push(cidr(&format!("fd00::{number}/64")));
    attachment.gateways.push(ip("fd00::1"));
    Attachment { mtu: 1400, ..attachment }
}

fn joined(number: u8) -> StartNetwork {
    let attached = Attached { links: vec![attachment(number)], ..Attached::default() };
    StartNetwork { attached, resolver: true, host_gateway: Some(ip("10.9.0.1")), keepers: Vec::new() }
}

const LOOKS: &str = "wget -qO- http://10.9.0.2/; wget -qO- 'http://[fd00::2]/';
    ip -o addr show eth0 | grep -o 'inet.*global'; ip route; ip -6 route | grep default
    cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu; ls /sys/class/net; hostname
    cat /etc/hosts; grep -v search /etc/resolv.conf";

async fn two_containers(runtime: Runtime, user: UserNamespace) {
    // runc cannot set a domain's name in a user namespace.
    let domain = user == UserNamespace::Host || runtime == Runtime::Embedded;
    let (domain, full) = if domain { (Some("lan".to_owned()), "own.lan own") } else { (None, "own") };
    let (host, mut place) = (host(), Place::new(runtime));
    let own = |service: &mut Service| {
        service.isolation.user = user;
        service.hostname = Some("own".into());
        service.names.domain.clone_from(&domain);
        service.names.hosts = vec![("gate".into(), "host-gateway".into())];
    };
    let (serves, looks) = (spec("serves", SERVES, own), spec("looks", LOOKS, own));
    run(&place, &serves, joined(2)).await;
    run(&place, &looks, joined(3)).await;
    let text = said(&place, &looks).await;
    let expected = format!(
        "served\nserved\n\
        inet 10.9.0.3/24 brd 10.9.0.255 scope global\ninet6 fd00::3/64 scope global\n\
        default via 10.9.0.1 dev eth0 onlink \n10.9.0.0/24 dev eth0 scope link  src 10.9.0.3 \n\
        default via fd00::1 dev eth0  metric 1024 onlink \n\
        02:00:00:00:01:03\n1400\neth0\nlo\nown\n\
        127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
        10.9.0.3\t{full}\nfd00::3\t{full}\n10.9.0.1\tgate\n\
        nameserver 127.0.0.11\noptions "
    );
    assert!(text.starts_with(&expected) && text.contains("ndots:"), "{text}\ninstead of\n{expected}");
    unplugged(&host, &attachment(3)).await;

    // Whoever shares its network sees it, has its names, and does not own it.
    let script = "ip -o addr show eth0 | grep -o 'inet .*global'; wget -qO- http://127.0.0.1/; hostname
        ls /sys/class/net; grep -c 'own$' /etc/hosts; ip link set eth0 down 2>/dev/null || echo refused";
    let shares = spec("shares", script, |service| {
        service.isolation.user = user;
        service.network = NetworkMode::Container(serves.name.clone());
    });
    let shared = Some((serves.id.clone(), init(&place, &serves)));
    let attached = Attached { shared, ..Attached::default() };
    run(&place, &shares, StartNetwork { attached: attached.clone(), ..StartNetwork::default() }).await;
    let text = said(&place, &shares).await;
    let expected = "inet 10.9.0.2/24 brd 10.9.0.255 scope global\nserved\nown\neth0\nlo\n2\nrefused\n";
    assert_eq!(text, expected);

    // A daemon that comes back knows what they have; a start after the other has ended says so.
    place.reopen();
    assert_eq!(place.all().attached(&serves.id), Some(joined(2).attached));
    assert_eq!(place.all().attached(&shares.id), Some(attached.clone()));
    place.all().stop(&serves.id, None, 100).await.expect("stopped");
    let again = place.all().start_with(&shares.id, StartNetwork { attached, ..StartNetwork::default() }.into()).await;
    assert!(again.is_err_and(|error| error.to_string().contains("whose network it shares")));
    // At once, although the kernel may still be clearing away the last link.
    place.all().start_with(&serves.id, joined(2).into()).await.expect("started again");
    let again = spec("again", "wget -qO- http://10.9.0.2/", own);
    run(&place, &again, joined(4)).await;
    assert_eq!(said(&place, &again).await, "served\n");
}

#[test]
fn two_containers_reach_each_other() {
    apart(|| two_containers(Runtime::Embedded, UserNamespace::Host));
}

#[test]
fn two_containers_with_users_of_their_own_reach_each_other() {
    apart(|| two_containers(Runtime::Embedded, UserNamespace::Auto { size: SIZE }));
}

#[test]
fn two_containers_reach_each_other_with_runc() {
    apart(|| two_containers(Runtime::External("runc".into()), UserNamespace::Host));
}

#[test]
fn two_containers_with_users_of_their_own_reach_each_other_with_runc() {
    apart(|| two_containers(Runtime::External("runc".into()), UserNamespace::Auto { size: SIZE }));
}

#[test]
fn what_a_container_that_runs_has_lost_is_given_back() {
    apart(async || {
        let (host, place) = (host(), Place::new(Runtime::Embedded));
        let serves = spec("serves", SERVES, |_| {});
        run(&place, &serves, joined(2)).await;
        host.one(Request::remove("the bridge", &bridge().name)).expect("removed");
        bridge::ensure(&host, &bridge()).expect("a bridge");
        let inside = namespace::of_process(init(&place, &serves)).expect("entered").expect("it runs");
        let wrong = link::reconnect(&inside, &[attachment(2)]).expect("put right");
        assert_eq!(wrong, [(attachment(2), link::LinkFault::Port(Fault::Loose))]);
        let looks = spec("looks", "wget -qO- http://10.9.0.2/", |_| {});
        run(&place, &looks, joined(3)).await;
        assert_eq!(said(&place, &looks).await, "served\n");
    });
}

#[test]
fn a_network_that_is_not_up_is_said() {
    apart(async || {
        let (host, place) = (host(), Place::new(Runtime::Embedded));
        host.one(Request::remove("the bridge", &bridge().name)).expect("removed");
        let serves = spec("serves", SERVES, |_| {});
        place.create(&serves).await;
        let error = place.all().start_with(&serves.id, joined(2).into()).await.expect_err("no bridge").to_string();
        assert!(error.contains("network shop_default: its interface ls-0123456789 is not there"), "{error}");
        assert_eq!(place.all().attached(&serves.id), Some(joined(2).attached), "its addresses stay its own");
    });
}
