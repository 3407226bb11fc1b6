use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, MessageType, ResponseCode};

use super::super::zone::{Joined, Member};
use super::*;
use crate::model::{ContainerName, NetworkId, NetworkName, ProjectName, Protocol, ServiceName};

fn id(number: u32) -> ContainerId {
    ContainerId::from_hex(&format!("{number:064x}")).unwrap()
}

/// So many replicas of `web`, which ask as well.
fn zone(replicas: u32) -> Zone {
    let member = |number| Member {
        container: id(number),
        name: ContainerName::parse(&format!("shop-web-{number}")).unwrap(),
        project: ProjectName::parse("shop").unwrap(),
        service: ServiceName::parse("Web").unwrap(),
        links: vec![Joined {
            network: NetworkId::from_hex(&"a".repeat(64)).unwrap(),
            network_name: NetworkName::parse("shop_default").unwrap(),
            v4: Some(Ipv4Addr::from_bits(0x0a00_0000 + number)),
            v6: None,
            aliases: vec!["www.shop.test".to_owned()],
        }],
        ports: vec![(80, Protocol::Tcp, Some("http".to_owned()))],
        service_links: Vec::new(),
        upstreams: Vec::new(),
        named: true,
        internal_only: number == 2,
    };
    Zone::new((1..=replicas).map(member).collect())
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    message
}

fn reply(zone: &Zone, asking: u32, query: &Message, transport: Transport) -> Message {
    match step(zone, &id(asking), &query.to_vec().unwrap(), transport) {
        Step::Reply(bytes) => {
            let reply = Message::from_vec(&bytes).unwrap();
            assert_eq!(reply.metadata.id, query.metadata.id);
            assert_eq!(reply.metadata.message_type, MessageType::Response);
            assert_eq!(reply.queries, query.queries);
            assert_eq!(reply.edns.is_some(), query.edns.is_some());
            reply
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn known_names_are_answered_and_never_denied() {
    let zone = zone(3);
    for (name, kind, count) in [
        ("web", RecordType::A, 3),
        ("WEB.", RecordType::A, 3),
        ("Web.Shop_Default.", RecordType::A, 3),
        ("www.shop.test", RecordType::A, 3),
        ("shop-web-2", RecordType::A, 1),
        ("shop-web-2", RecordType::AAAA, 0),
        ("shop-web-2", RecordType::MX, 0),
        ("shop-web-2", RecordType::TXT, 0),
        ("shop-web-2", RecordType::HTTPS, 0),
        ("shop-web-2", RecordType::ANY, 1),
        ("2.0.0.10.in-addr.arpa", RecordType::PTR, 1),
        ("_http._tcp.web", RecordType::SRV, 3),
        ("_80._tcp.web", RecordType::SRV, 3),
    ] {
        let reply = reply(&zone, 1, &query(name, kind), Transport::Udp);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{name} {kind}");
        assert_eq!(reply.answers.len(), count, "{name} {kind}");
        assert!(reply.answers.iter().all(|record| record.ttl == TTL));
        assert!(!reply.metadata.truncation && reply.metadata.recursion_available && reply.metadata.recursion_desired);
    }
}

#[test]
fn a_ports_answer_brings_the_addresses_of_its_targets() {
    let reply = reply(&zone(2), 1, &query("_http._tcp.web", RecordType::SRV), Transport::Udp);
    let mut targets = Vec::new();
    for record in &reply.answers {
        let RData::SRV(srv) = &record.data else { panic!("{record}") };
        assert_eq!(srv.port, 80);
        targets.push(srv.target.to_ascii());
    }
    targets.sort();
    assert_eq!(targets, ["shop-web-1.", "shop-web-2."]);
    let mut names: Vec<_> = reply.additionals.iter().map(|record| record.name.to_ascii()).collect();
    names.sort();
    assert_eq!(names, targets);
}

#[test]
fn what_does_not_fit_a_datagram_is_whole_by_tcp_and_for_who_says_more_fits() {
    let zone = zone(100);
    let mut plain = query("web", RecordType::A);
    let cut = reply(&zone, 1, &plain, Transport::Udp);
    assert!(cut.metadata.truncation && cut.answers.len() > 25, "{}", cut.answers.len());
    assert!(cut.to_vec().unwrap().len() <= 512);
    let whole = reply(&zone, 1, &plain, Transport::Tcp);
    assert!(!whole.metadata.truncation && whole.answers.len() == 100);
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    plain.set_edns(edns.clone());
    let cut = reply(&zone, 1, &plain, Transport::Udp);
    assert!(cut.metadata.truncation && cut.answers.len() > 70, "{}", cut.answers.len());
    edns.set_max_payload(4096);
    plain.set_edns(edns);
    assert_eq!(reply(&zone, 1, &plain, Transport::Udp).answers.len(), 100);
}

#[test]
fn unknown_names_are_asked_elsewhere_only_for_who_may() {
    let zone = zone(2);
    let mut unknown = query("example.com", RecordType::A);
    let asked = step(&zone, &id(1), &unknown.to_vec().unwrap(), Transport::Udp);
    assert!(matches!(asked, Step::Forward(question) if question.text().as_deref() == Some("example.com")));
    // 2 is joined to internal networks only, and 9 to none that is known.
    for asking in [2, 9] {
        let reply = reply(&zone, asking, &unknown, Transport::Udp);
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    }
    for kind in [RecordType::AXFR, RecordType::IXFR, RecordType::OPT] {
        let reply = reply(&zone, 1, &query("example.com", kind), Transport::Tcp);
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused, "{kind}");
    }
    unknown.metadata.recursion_desired = false;
    assert_eq!(reply(&zone, 1, &unknown, Transport::Udp).metadata.response_code, ResponseCode::Refused);
    let mut known = query("web", RecordType::A);
    known.metadata.recursion_desired = false;
    assert_eq!(reply(&zone, 2, &known, Transport::Udp).answers.len(), 2);
}

#[test]
fn no_message_makes_it_panic_and_what_it_says_is_always_a_message() {
    let zone = zone(40);
    let mut edns = query("web", RecordType::A);
    edns.set_edns(Edns::new());
    let seeds = [
        query("web", RecordType::A).to_vec().unwrap(),
        query("_http._tcp.web", RecordType::SRV).to_vec().unwrap(),
        query("2.0.0.10.in-addr.arpa", RecordType::PTR).to_vec().unwrap(),
        edns.to_vec().unwrap(),
    ];
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let (mut replies, mut forwards) = (0, 0);
    for round in 0..40_000 {
        // A quarter is noise, the others are questions with a few bytes changed, cut or added.
        let mut bytes = if round % 4 == 0 { vec![0; random(80)] } else { seeds[random(seeds.len())].clone() };
        let changes = if round % 4 == 0 { bytes.len() } else { random(4) };
        for index in 0..changes {
            let at = if round % 4 == 0 { index } else { random(bytes.len()) };
            bytes[at] = u8::try_from(random(256)).unwrap();
        }
        match random(8) {
            0 => bytes.truncate(random(bytes.len() + 1)),
            1 => bytes.extend(vec![0xc0; random(30)]),
            _ => {}
        }
        let transport = if round % 2 == 0 { Transport::Udp } else { Transport::Tcp };
        match step(&zone, &id(1), &bytes, transport) {
            Step::Silent => {}
            Step::Forward(question) => {
                forwards += 1;
                Message::from_vec(&question.asking(1)).unwrap();
            }
            Step::Reply(reply) => {
                replies += 1;
                let reply = Message::from_vec(&reply).unwrap_or_else(|error| panic!("{bytes:?}: {error}"));
                assert_eq!(reply.metadata.id.to_be_bytes(), bytes[..2]);
                assert_eq!(reply.metadata.message_type, MessageType::Response);
            }
        }
    }
    assert!(replies > 5000 && forwards > 1000, "{replies} {forwards}");
}
