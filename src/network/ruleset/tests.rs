use super::*;
use crate::model::Protocol;

fn published(address: Option<&str>, exposure: Exposure) -> Published {
    let address = address.map(|text| text.parse().unwrap());
    Published { address, port: 8080, target: 80, protocol: Protocol::Tcp, exposure }
}

fn at(address: &str) -> IpAddr {
    address.parse().unwrap()
}

#[test]
fn a_port_is_answered_where_its_address_and_its_exposure_say() {
    type Row = (Option<&'static str>, Exposure, Option<Answered>, Option<Answered>);
    let table: &[Row] = &[
        (None, Exposure::All, Some(Answered::All), Some(Answered::All)),
        (Some("0.0.0.0"), Exposure::All, Some(Answered::All), None),
        (Some("::"), Exposure::All, None, Some(Answered::All)),
        (Some("192.0.2.1"), Exposure::All, Some(Answered::At(at("192.0.2.1"))), None),
        (Some("2001:db8::1"), Exposure::All, None, Some(Answered::At(at("2001:db8::1")))),
        (Some("127.0.0.5"), Exposure::All, Some(Answered::Here(at("127.0.0.5"))), None),
        (Some("::1"), Exposure::All, None, None),
        (None, Exposure::Loopback, Some(Answered::Here(at("127.0.0.1"))), None),
        (Some("192.0.2.1"), Exposure::Loopback, Some(Answered::Here(at("192.0.2.1"))), None),
        (None, Exposure::HostFirewall, None, None),
        (Some("192.0.2.1"), Exposure::HostFirewall, None, None),
    ];
    for (address, exposure, v4, v6) in table {
        let published = published(*address, *exposure);
        assert_eq!(answered(&published, false), *v4, "{published:?}");
        assert_eq!(answered(&published, true), *v6, "{published:?}");
    }
}

#[test]
fn the_link_local_address_follows_from_the_mac_address() {
    // RFC 4291, appendix A.
    let mac = Mac::parse("34:56:78:9a:bc:de").unwrap();
    assert_eq!(link_local(mac), "fe80::3656:78ff:fe9a:bcde".parse::<Ipv6Addr>().unwrap());
}

#[test]
fn the_number_of_rules_does_not_grow_with_the_containers() {
    let rules = |containers: u8| {
        let endpoint = |n: u8| Endpoint {
            port: format!("lv{n}"),
            mac: Mac([2, 0, 0, 0, 0, n]),
            addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))],
        };
        let port = |n: u8| (Published { port: u16::from(n), ..published(None, Exposure::All) }, vec![at("10.0.0.2")]);
        Rules {
            table: "t".into(),
            endpoints: (1..=containers).map(endpoint).collect(),
            published: (1..=containers).map(port).collect(),
            ..Rules::default()
        }
    };
    let count = |containers| {
        let json = rules(containers).transaction(Families { ipv6: true, bridge: true }).json;
        json["nftables"].as_array().unwrap().len()
    };
    assert_eq!(count(1), count(200));
}

#[test]
fn of_two_ports_that_are_the_same_the_first_counts() {
    let rules = Rules {
        table: "t".into(),
        published: vec![
            (published(None, Exposure::All), vec![at("10.0.0.2")]),
            (published(None, Exposure::All), vec![at("10.0.0.3")]),
        ],
        ..Rules::default()
    };
    let text = rules.transaction(Families { ipv6: false, bridge: false }).json.to_string();
    assert!(text.contains("10.0.0.2") && !text.contains("10.0.0.3"), "{text}");
}

#[test]
fn without_ipv6_nothing_of_it_is_said() {
    let rules = Rules {
        table: "t".into(),
        networks: vec![RuledNetwork {
            interface: "ls-a".into(),
            subnets: vec![Cidr::parse("10.0.0.0/24").unwrap(), Cidr::parse("fd00::/64").unwrap()],
            internal: true,
            masquerade: true,
        }],
        published: vec![(published(None, Exposure::All), vec![at("10.0.0.2"), at("fd00::2")])],
        blocked: vec![Cidr::parse("fd00:ec2::254/128").unwrap()],
        api: Some("[::1]:80".parse().unwrap()),
        ..Rules::default()
    };
    let transaction = rules.transaction(Families { ipv6: false, bridge: false });
    assert_eq!(transaction.tables, [Table { family: "ip", name: "t".into() }]);
    let text = transaction.json.to_string();
    for word in ["inet\"", "ip6", "ipv6", "icmpv6", "fd00", "::1"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
}
