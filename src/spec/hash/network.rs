//! `network_mode`, `networks` and `ports` as lines of the canonical text: what the container is given, not how networks are
//! defined. Whoever adds a field is made to say here how it is written.

use std::cmp::Reverse;

use super::Canonical;
use crate::model::{Join, Membership, NetworkMode, Port, ServiceLink};

pub(super) fn mode(mode: &NetworkMode, text: &mut Canonical) {
    match mode {
        NetworkMode::None => {}
        NetworkMode::Host => text.line("network_mode", &["host"]),
        NetworkMode::Service(name) => text.line("network_mode", &["service", name.as_str()]),
        NetworkMode::Container(name) => text.line("network_mode", &["container", name.as_str()]),
        NetworkMode::Networks(membership) => {
            text.line("network_mode", &["networks"]);
            networks(membership, text);
        }
    }
}

fn networks(membership: &Membership, text: &mut Canonical) {
    // What is exposed is told to others; the container itself has nothing of it.
    let Membership { joins, ports, links, expose: _ } = membership;
    joins.iter().for_each(|one| join(one, text));
    let order = by_gateway(joins);
    if !order.is_sorted() {
        let names: Vec<&str> = order.iter().map(|at| joins[*at].network.as_str()).collect();
        text.line("gateways", &names);
    }
    let mut lines: Vec<Vec<String>> = ports.iter().map(port).collect();
    lines.sort_unstable();
    for line in lines {
        text.line("ports", &line.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let mut links: Vec<(&str, &str)> =
        links.iter().map(|ServiceLink { target, alias }| (&**target, &**alias)).collect();
    links.sort_unstable();
    for (target, alias) in links {
        text.line("links", &[target, alias]);
    }
}

/// The joins in the order in which they may have the default route. Only this order counts, not the numbers that make it.
fn by_gateway(joins: &[Join]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..joins.len()).collect();
    order.sort_by_key(|at| Reverse(joins[*at].gateway_priority));
    order
}

/// Lines after the first one belong to the network of the first.
fn join(join: &Join, text: &mut Canonical) {
    let Join { network, aliases, ipv4, ipv6, link_local, mac, interface, gateway_priority: _ } = join;
    text.line("networks", &[network.as_str()]);
    let mut aliases = aliases.clone();
    aliases.sort_unstable();
    text.each("networks.aliases", &aliases);
    text.number("networks.ipv4_address", *ipv4);
    text.number("networks.ipv6_address", *ipv6);
    text.each("networks.link_local_ips", &link_local.iter().map(ToString::to_string).collect::<Vec<_>>());
    text.number("networks.mac_address", *mac);
    text.option("networks.interface_name", interface.as_deref());
}

fn port(port: &Port) -> Vec<String> {
    let Port { address, host, target, protocol, name: _, location: _ } = port;
    let host = host.map_or_else(String::new, |(first, last)| format!("{first}-{last}"));
    let address = address.map_or_else(String::new, |address| address.to_string());
    vec![address, host, target.to_string(), protocol.name().to_owned()]
}

#[cfg(test)]
mod tests {
    use crate::spec::samples::{good, hash};

    const NETWORKS: &str = "networks: {x: , y: , e: {external: true}}\n";

    fn of(lines: &str) -> crate::model::SpecHash {
        let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
        hash(&format!("{NETWORKS}services:\n  a:\n    image: busybox\n{lines}  z: {{image: busybox}}\n"))
    }

    #[test]
    fn what_gives_the_container_nothing_else_is_the_same() {
        for (line, same) in [
            ("", "networks: [default]"),
            ("", "networks: {default: {priority: 5, gw_priority: 7, aliases: []}}"),
            ("", "network_mode: bridge"),
            ("", "ports: []"),
            ("", "expose: [80]"),
            ("networks: [y, x]", "networks: {x: {priority: 9, gw_priority: 3}, y: }"),
            ("networks: {x: {gw_priority: 1}, y: }", "networks: {x: {gw_priority: 9}, y: {gw_priority: 8}}"),
            ("networks: {x: {aliases: [b, a]}}", "networks: {x: {aliases: [a, b, A]}}"),
            ("ports: [80, '81:81']", "ports: [{target: 81, published: 81, name: x}, {target: 80, mode: host}]"),
            ("ports: ['80-81:80-81']", "ports: ['80:80', '81:81/TCP']"),
            ("links: [z]", "links: ['z:z']"),
        ] {
            assert_eq!(of(line), of(same), "{same}");
        }
    }

    #[test]
    fn how_a_network_is_defined_makes_no_other_container() {
        let hash = |body: &str| hash(&format!("services: {{a: {{image: b, networks: [x]}}}}\nnetworks: {{x: {body}}}"));
        for body in [
            "{internal: true}",
            "{driver: macvlan, driver_opts: {parent: eth0}}",
            "{enable_ipv6: true, driver_opts: {mtu: 1400}}",
            "{ipam: {config: [{subnet: 10.5.0.0/24}]}, labels: [a]}",
        ] {
            assert_eq!(hash(body), hash(""), "{body}");
        }
        assert_ne!(hash("{name: far}"), hash(""), "it is another one to join");
    }

    #[test]
    fn what_gives_the_container_something_else_differs_from_all_others() {
        let mut seen = Vec::new();
        for line in [
            "",
            "network_mode: none",
            "network_mode: host",
            "network_mode: service:z",
            "network_mode: container:z",
            "networks: [x]",
            "networks: [e]",
            "networks: [x, y]",
            "networks: {x: , y: {priority: 1}}",
            "networks: {x: , y: {gw_priority: 1}}",
            "networks: {x: {aliases: [b]}}",
            "networks: {x: {aliases: [b, c]}}",
            "networks: {x: {mac_address: '02:42:ac:11:00:02'}}",
            "networks: {x: {interface_name: b}}",
            "networks: {x: {link_local_ips: [169.254.1.1]}}",
            "networks: {x: {ipv4_address: 10.5.0.9}}",
            "networks: {x: {ipv6_address: 'fd00::9'}}",
            "ports: [80]",
            "ports: ['80/udp']",
            "ports: ['80:80']",
            "ports: ['80-90:80']",
            "ports: ['127.0.0.1:80:80']",
            "ports: ['127.0.0.1::80']",
            "ports: [80, 81]",
            "links: [z]",
            "links: ['z:y']",
        ] {
            let hash = of(line);
            assert!(!seen.contains(&hash), "{line}");
            seen.push(hash);
        }
    }

    #[test]
    fn the_canonical_text_of_before_is_that_of_today() {
        let text = "services:\n  a:\n    image: b\n    ports: ['127.0.0.1:8080-8081:80']\n    networks: {default: {aliases: [c]}}\n";
        let service = good(text).project.services.into_values().next().unwrap();
        let text = String::from_utf8(super::super::canonical(&service)).unwrap();
        let lines = [
            "longshore service 1",
            "image 26:docker.io/library/b:latest",
            "network_mode 8:networks",
            "networks 12:shop_default",
            "networks.aliases 1:c",
            "ports 9:127.0.0.1 9:8080-8081 2:80 3:tcp",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }
}
