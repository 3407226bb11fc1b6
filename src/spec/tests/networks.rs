//! What files say of networks, and what the model has of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{
    Ability, Driver, IpvlanMode, MacvlanMode, Membership, Network, NetworkMode, Project, Service, ServiceLink,
};
use crate::spec::samples::{good, service};

fn project(text: &str) -> Project {
    let project = good(text).project;
    for service in project.services.values() {
        assert_eq!(service.holds, [], "{text}");
    }
    project
}

fn named<'p>(project: &'p Project, name: &str) -> &'p Service {
    project.services.values().find(|service| service.name.as_str() == name).expect("the service")
}

fn membership(service: &Service) -> &Membership {
    service.network.membership().unwrap_or_else(|| panic!("{:?}", service.network))
}

/// The names outside of what is joined.
fn joined(service: &Service) -> Vec<&str> {
    membership(service).joins.iter().map(|join| join.network.as_str()).collect()
}

fn made(project: &Project) -> Vec<&str> {
    project.networks.keys().map(|name| name.as_str()).collect()
}

/// The one network of a file, with this body.
fn network(body: &str) -> Network {
    let project = project(&format!("services: {{a: {{image: b, networks: [n]}}}}\nnetworks: {{n: {body}}}"));
    let mut networks = project.networks.into_values();
    let network = networks.next().expect("a network");
    assert!(networks.next().is_none());
    network
}

#[test]
fn who_says_nothing_joins_the_default_network() {
    for line in [
        "",
        "networks:",
        "networks: []",
        "networks: {}",
        "network_mode: ''",
        "network_mode: bridge",
        "network_mode: default",
    ] {
        let project = project(&format!("services:\n  a:\n    image: b\n    {line}\n"));
        assert_eq!(
            (joined(named(&project, "a")), made(&project)),
            (vec!["shop_default"], vec!["shop_default"]),
            "{line}"
        );
        let network = project.networks.values().next().unwrap();
        assert_eq!(
            (&network.driver, network.internal, network.ipv4, network.ipv6),
            (&Driver::Bridge, false, true, false)
        );
        assert_eq!(network.location.to_string(), "shop.yaml");
    }
}

#[test]
fn the_default_network_is_made_where_somebody_joins_it() {
    let text = "services: {a: {image: b, networks: [x]}, c: {image: b, network_mode: none}}\nnetworks: {x: , y: , z: {name: far}}";
    let project = project(text);
    assert_eq!(made(&project), ["far", "shop_x"]);
    assert_eq!(named(&project, "c").network, NetworkMode::None);
}

#[test]
fn the_default_network_is_configured_by_its_own_entry() {
    let text = "services: {a: {image: b}}\nnetworks: {default: {name: lan, internal: true, driver_opts: {mtu: 1400}}}";
    let project = project(text);
    assert_eq!((joined(named(&project, "a")), made(&project)), (vec!["lan"], vec!["lan"]));
    let network = project.networks.values().next().unwrap();
    assert_eq!(
        (network.internal, network.mtu, network.location.to_string().as_str()),
        (true, Some(1400), "shop.yaml:2:12")
    );
    let outside = self::project("services: {a: {image: b}}\nnetworks: {default: {external: true, name: lan}}");
    assert_eq!((joined(named(&outside, "a")), made(&outside)), (vec!["lan"], vec![]));
}

#[test]
fn every_key_of_a_network_is_read() {
    let network = network(
        "{driver: bridge, internal: true, attachable: true, enable_ipv6: true, labels: [a=b],
  ipam: {driver: default, options: {x: y}, config: [
    {subnet: 10.5.0.0/24, gateway: 10.5.0.254, ip_range: 10.5.0.128/25, aux_addresses: {router: 10.5.0.5}},
    {subnet: 'fd00:5::/64', gateway: 'fd00:5::1'}, {}]},
  driver_opts: {com.docker.network.bridge.name: br-shop, com.docker.network.driver.mtu: 9000,
    com.docker.network.bridge.enable_icc: 'true'}}",
    );
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!((network.internal, network.ipv4, network.ipv6), (true, true, true));
    assert_eq!((network.mtu, network.bridge.as_deref()), (Some(9000), Some("br-shop")));
    assert_eq!(network.labels, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    let [four, six] = network.pools.as_slice() else { panic!("{:?}", network.pools) };
    assert_eq!((four.subnet.to_string().as_str(), four.gateway), ("10.5.0.0/24", Some(ip("10.5.0.254"))));
    assert_eq!(four.range.unwrap().to_string(), "10.5.0.128/25");
    assert_eq!(four.kept, BTreeMap::from([("router".to_owned(), ip("10.5.0.5"))]));
    assert_eq!((six.subnet.to_string().as_str(), six.gateway, six.range), ("fd00:5::/64", Some(ip("fd00:5::1")), None));
    assert_eq!(network.location.to_string(), "shop.yaml:2:12");
}

#[test]
fn every_driver_is_read() {
    let parent = Some("eth0.10".to_owned());
    for (body, driver) in [
        ("", Driver::Bridge),
        ("{driver: ''}", Driver::Bridge),
        ("{driver: macvlan}", Driver::Macvlan { parent: None, mode: MacvlanMode::Bridge }),
        (
            "{driver: macvlan, driver_opts: {parent: eth0.10, macvlan_mode: passthru}}",
            Driver::Macvlan { parent: parent.clone(), mode: MacvlanMode::Passthru },
        ),
        ("{driver: ipvlan}", Driver::Ipvlan { parent: None, mode: IpvlanMode::L2 }),
        (
            "{driver: ipvlan, driver_opts: {parent: eth0.10, ipvlan_mode: l3s}}",
            Driver::Ipvlan { parent, mode: IpvlanMode::L3s },
        ),
    ] {
        assert_eq!(network(body).driver, driver, "{body}");
    }
}

#[test]
fn the_hosts_network_and_none_are_reached_by_any_name() {
    for (body, mode) in [
        ("{driver: host}", NetworkMode::Host),
        ("{driver: none}", NetworkMode::None),
        ("{external: true, name: host}", NetworkMode::Host),
        ("{external: {name: none}}", NetworkMode::None),
    ] {
        let project = project(&format!("services: {{a: {{image: b, networks: [n]}}}}\nnetworks: {{n: {body}}}"));
        let service = named(&project, "a");
        assert_eq!((&service.network, made(&project).len()), (&mode, 0), "{body}");
        assert_eq!(service.loosenings.len(), usize::from(mode == NetworkMode::Host), "{body}");
        assert_eq!(service.wishes, []);
    }
    let project = project("services: {a: {image: b, networks: [n]}}\nnetworks: {n: {external: true, name: bridge}}");
    assert_eq!((joined(named(&project, "a")), made(&project)), (vec!["shop_default"], vec!["shop_default"]));
}

#[test]
fn external_networks_are_defined_elsewhere() {
    for (body, name) in [
        ("{external: true}", "n"),
        ("{external: true, name: far}", "far"),
        ("{external: {name: far}}", "far"),
        ("{external: {name: far}, name: far}", "far"),
    ] {
        let project = project(&format!("services: {{a: {{image: b, networks: [n]}}}}\nnetworks: {{n: {body}}}"));
        assert_eq!((joined(named(&project, "a")), made(&project)), (vec![name], vec![]), "{body}");
    }
    assert_eq!(joined(named(&project("services: {a: {image: b, network_mode: far}}"), "a")), ["far"]);
}

#[test]
fn every_key_of_a_join_is_read() {
    let text = "\
services:
  a:
    image: b
    mac_address: 02-42-AC-11-00-09
    networks:
      back:
        aliases: [db, DB, store.local, my_db]
        ipv4_address: 10.5.0.9
        ipv6_address: fd00:5::9
        link_local_ips: [169.254.7.1, 'fe80::7']
        interface_name: back0
        gw_priority: -1
      front: {priority: 100, gw_priority: 5}
      extra: {mac_address: '02:42:ac:11:00:07'}
networks:
  back: {enable_ipv6: true, ipam: {config: [{subnet: 10.5.0.0/24}, {subnet: 'fd00:5::/64'}]}}
  front:
  extra:
";
    let project = project(text);
    let service = named(&project, "a");
    assert_eq!(joined(service), ["shop_front", "shop_back", "shop_extra"]);
    let [front, back, extra] = membership(service).joins.as_slice() else { panic!("three") };
    let mac = |join: &crate::model::Join| join.mac.map(|mac| mac.to_string());
    assert_eq!(mac(front).as_deref(), Some("02:42:ac:11:00:09"), "that of the service");
    assert_eq!((mac(back), mac(extra).as_deref()), (None, Some("02:42:ac:11:00:07")));
    assert_eq!(back.aliases, ["db", "store.local", "my_db"]);
    assert_eq!(back.ipv4, Some(Ipv4Addr::new(10, 5, 0, 9)));
    assert_eq!(back.ipv6, Some(Ipv6Addr::new(0xfd00, 5, 0, 0, 0, 0, 0, 9)));
    assert_eq!(back.link_local.len(), 2);
    assert_eq!((back.interface.as_deref(), back.gateway_priority, front.gateway_priority), (Some("back0"), -1, 5));
    let list = self::project("services: {a: {image: b, networks: [z, default, a]}}\nnetworks: {a: , z: }");
    assert_eq!(joined(named(&list, "a")), ["shop_a", "shop_default", "shop_z"], "by their names");
}

#[test]
fn other_names_are_read() {
    let text = "\
services:
  a: {image: b, links: [c, 'c:store'], external_links: [far-db-1, 'far-db-1:db']}
  c: {image: b}
";
    let project = project(text);
    let said = |link: &ServiceLink| format!("{}={}", link.alias, link.target);
    let links: Vec<_> = membership(named(&project, "a")).links.iter().map(said).collect();
    assert_eq!(links, ["c=c", "store=c", "far-db-1=far-db-1", "db=far-db-1"]);
}

#[test]
fn the_network_of_another_container_is_shared() {
    let text = "\
services:
  a: {image: b, network_mode: 'service:c'}
  c: {image: b, network_mode: 'service:d', scale: 2}
  d: {image: b, scale: 3}
  e: {image: b, network_mode: 'container:far'}
  f: {image: b, network_mode: 'service:g'}
  g: {image: b, network_mode: host}
";
    let project = project(text);
    assert!(matches!(&named(&project, "a").network, NetworkMode::Service(name) if name.as_str() == "c"));
    assert!(matches!(&named(&project, "e").network, NetworkMode::Container(name) if name.as_str() == "far"));
    assert_eq!(named(&project, "a").wishes, []);
    let loosened = &named(&project, "f").loosenings;
    assert_eq!(
        loosened[0].what,
        "it uses the host's network through the service g: interfaces, ports and abstract sockets"
    );
    assert_eq!(loosened[0].location.to_string(), "shop.yaml:6:31");
}

#[test]
fn what_is_needed_of_the_machine_is_told_where_it_is_asked_for() {
    let told = |lines: &str, networks: &str| {
        let text = format!("services:\n  a:\n    image: b\n    {lines}\nnetworks: {networks}");
        let project = project(&text);
        let wishes = named(&project, "a").wishes.clone();
        assert!(wishes.iter().all(|wish| wish.needed));
        let one =
            |w: &crate::model::Wish| format!("{:?} {} {}:{}", w.ability, w.key, w.location.line, w.location.column);
        wishes.iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(told("", "{}"), ["Networks services.a 2:3"]);
    assert_eq!(told("ports: [80]", "{}"), ["Networks services.a.ports 4:5"]);
    assert_eq!(told("networks: [x]", "{x: }"), ["Networks services.a.networks 4:5"]);
    assert_eq!(
        told("networks: [x]", "{x: {enable_ipv6: true}}"),
        ["Networks services.a.networks 4:5", "Ipv6 services.a.networks 4:16"]
    );
    assert_eq!(told("", "{default: {enable_ipv6: true}}"), ["Ipv6 services.a 2:3", "Networks services.a 2:3"]);
    assert_eq!(told("network_mode: none", "{}"), [""; 0]);
    assert!(!service("network_mode: host").wishes.iter().any(|wish| wish.ability == Ability::Networks));
}
