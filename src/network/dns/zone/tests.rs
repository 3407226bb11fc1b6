use super::*;

fn id(digit: char) -> ContainerId {
    ContainerId::from_hex(&digit.to_string().repeat(64)).unwrap()
}

fn joined(network: &str, address: &str, aliases: &[&str]) -> Joined {
    let digit = network.chars().next().unwrap();
    Joined {
        network: NetworkId::from_hex(&digit.to_string().repeat(64)).unwrap(),
        network_name: NetworkName::parse(network).unwrap(),
        v4: address.parse().ok(),
        v6: address.parse().ok(),
        aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
    }
}

fn member(digit: char, name: &str, service: &str, links: Vec<Joined>) -> Member {
    Member {
        container: id(digit),
        name: ContainerName::parse(name).unwrap(),
        project: ProjectName::parse("shop").unwrap(),
        service: ServiceName::parse(service).unwrap(),
        links,
        ports: Vec::new(),
        service_links: Vec::new(),
        upstreams: Vec::new(),
        named: true,
        internal_only: false,
    }
}

/// Two networks, `a_front` and `b_back`: web (both), db-1 and db-2 (back), proxy (front).
fn shop() -> Vec<Member> {
    let mut web = member(
        '1',
        "shop-web-1",
        "web",
        vec![joined("a_front", "10.1.0.2", &["Site"]), joined("b_back", "10.2.0.2", &[])],
    );
    web.service_links = vec![ServiceLink { target: "db".into(), alias: "store".into() }];
    let mut one = member('2', "shop-db-1", "db", vec![joined("b_back", "10.2.0.3", &["data.local"])]);
    one.ports = vec![(5432, Protocol::Tcp, Some("Sql".into())), (53, Protocol::Udp, None)];
    let two =
        Member { ports: one.ports.clone(), ..member('3', "shop-db-2", "db", vec![joined("b_back", "10.2.0.4", &[])]) };
    let mut proxy = member('4', "proxy", "edge", vec![joined("a_front", "10.1.0.9", &["db"])]);
    proxy.links[0].v6 = Some("fd00:1::9".parse().unwrap());
    vec![web, one, two, proxy]
}

fn texts(found: Option<Vec<Found>>) -> Option<String> {
    let text = |one: Found| match one {
        Found::Address(address) => address.to_string(),
        Found::Name(name) => name,
        Found::Service { port, target, addresses } => format!("{target}:{port}{addresses:?}"),
    };
    found.map(|found| found.into_iter().map(text).collect::<Vec<_>>().join(" "))
}

#[test]
fn a_name_means_what_it_means_on_the_networks_of_who_asks() {
    let zone = Zone::new(shop());
    let table = [
        // Two replicas and an alias of the same name, on two networks: those of the first interface first.
        ('1', "db", Kind::A, Some("10.1.0.9 10.2.0.3 10.2.0.4")),
        ('1', "db.b_back", Kind::A, Some("10.2.0.4 10.2.0.3")),
        ('1', "shop-db-2", Kind::A, Some("10.2.0.4")),
        ('1', "site", Kind::A, Some("10.1.0.2")),
        ('1', "web", Kind::A, Some("10.1.0.2 10.2.0.2")),
        ('1', "data.local", Kind::A, Some("10.2.0.3")),
        ('1', "222222222222", Kind::A, Some("10.2.0.3")),
        ('1', "proxy", Kind::Aaaa, Some("fd00:1::9")),
        ('1', "proxy", Kind::Any, Some("10.1.0.9 fd00:1::9")),
        ('1', "shop-db-1", Kind::Aaaa, Some("")),
        ('1', "shop-db-1", Kind::Other, Some("")),
        ('1', "nobody", Kind::A, None),
        ('1', "", Kind::A, None),
        ('1', ".b_back", Kind::A, None),
        ('1', "db.c_other", Kind::A, None),
        // Who is on one network does not see the other.
        ('4', "shop-db-1", Kind::A, None),
        ('4', "db", Kind::A, Some("10.1.0.9")),
        ('4', "web", Kind::A, Some("10.1.0.2")),
        ('4', "db.b_back", Kind::A, None),
        ('2', "proxy", Kind::A, None),
        ('2', "site", Kind::A, None),
        // A name for another is only of who has it.
        ('2', "store", Kind::A, None),
        ('9', "web", Kind::A, None),
        // Addresses.
        ('1', "3.0.2.10.in-addr.arpa", Kind::Ptr, Some("shop-db-1.b_back")),
        ('1', "3.0.2.10.in-addr.arpa", Kind::A, Some("")),
        ('4', "3.0.2.10.in-addr.arpa", Kind::Ptr, None),
        ('1', "8.8.8.8.in-addr.arpa", Kind::Ptr, None),
        ('1', "x.in-addr.arpa", Kind::Ptr, None),
        (
            '1',
            "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa",
            Kind::Ptr,
            Some("proxy.a_front"),
        ),
        ('1', "9.ip6.arpa", Kind::Ptr, None),
        // Ports.
        ('1', "_sql._tcp.shop-db-1", Kind::Srv, Some("shop-db-1:5432[10.2.0.3]")),
        ('1', "_5432._tcp.shop-db-2", Kind::Srv, Some("shop-db-2:5432[10.2.0.4]")),
        ('1', "_5432._udp.shop-db-2", Kind::Srv, Some("")),
        ('1', "_sql._tcp.nobody", Kind::Srv, None),
        ('1', "shop-db-1", Kind::Srv, Some("shop-db-1:5432[10.2.0.3] shop-db-1:53[10.2.0.3]")),
    ];
    for (asking, name, kind, wanted) in table {
        let seen = texts(zone.look_up(&id(asking), name, kind));
        assert_eq!(seen.as_deref(), wanted, "{asking} asks for {name} {kind:?}");
    }
    // The link's name: both replicas, and the alias on the other network, since all are `db` to who has the link.
    let store = texts(zone.look_up(&id('1'), "store", Kind::A)).unwrap();
    assert_eq!(store.split(' ').count(), 3, "{store}");
}

#[test]
fn each_replica_is_first_as_often_as_the_others_though_both_families_are_asked_in_turn() {
    let zone = Zone::new(shop());
    let mut first = HashMap::new();
    for _ in 0..100 {
        let found = texts(zone.look_up(&id('2'), "db", Kind::A)).unwrap();
        *first.entry(found.split(' ').next().unwrap().to_owned()).or_insert(0) += 1;
        assert_eq!(texts(zone.look_up(&id('2'), "db", Kind::Aaaa)).as_deref(), Some(""));
    }
    assert_eq!(first, HashMap::from([("10.2.0.3".to_owned(), 50), ("10.2.0.4".to_owned(), 50)]));
}

#[test]
fn one_srv_record_for_each_replica() {
    let zone = Zone::new(shop());
    let found = zone.look_up(&id('2'), "_sql._tcp.db", Kind::Srv).unwrap();
    assert_eq!(found.len(), 2);
    // From the front nobody called db says that it has ports.
    assert_eq!(zone.look_up(&id('4'), "_sql._tcp.db", Kind::Srv), Some(Vec::new()));
}

#[test]
fn a_name_that_no_wire_can_carry_is_told_as_the_id() {
    let mut members = shop();
    members[1].name = ContainerName::parse(&"n".repeat(100)).unwrap();
    let zone = Zone::new(members);
    let seen = texts(zone.look_up(&id('1'), "3.0.2.10.in-addr.arpa", Kind::Ptr));
    assert_eq!(seen.as_deref(), Some("222222222222.b_back"));
}

/// For `--nocapture`. It is made anew for each container that starts or ends.
#[test]
fn the_zone_of_many_is_made_in_a_moment() {
    let replica = |number: u32| Member {
        container: ContainerId::from_hex(&format!("{number:064x}")).unwrap(),
        ..member('1', &format!("shop-web-{number}"), "web", vec![joined("a_front", "10.1.0.2", &["site"])])
    };
    let members: Vec<Member> = (0..1000).map(replica).collect();
    let begun = std::time::Instant::now();
    let zone = Zone::new(members);
    let took = begun.elapsed();
    println!("a zone of 1000: {took:?}");
    assert_eq!(zone.look_up(&id('1'), "web", Kind::A), None, "who asks is not in it");
    let asking = ContainerId::from_hex(&format!("{:064x}", 7)).unwrap();
    assert_eq!(zone.look_up(&asking, "site", Kind::A).map(|found| found.len()), Some(1000));
    assert!(took < std::time::Duration::from_millis(500), "{took:?}");
}
