//! What is wrong with networks, and whom it holds.

use crate::model::Problem;
use crate::spec::samples::{good, read_with, refusal, service, shown};

/// Whom a file holds, and why: each `SERVICE LINE:COLUMN MESSAGE`.
fn held(text: &str) -> Vec<String> {
    let project = good(text).project;
    let mut all = Vec::new();
    for service in project.services.values() {
        for hold in &service.holds {
            let at = &hold.problem.location;
            assert!(hold.problem.hint.is_some(), "{}", hold.problem.message);
            all.push(format!("{} {}:{} {}", service.name, at.line, at.column, hold.problem.message));
        }
    }
    all
}

/// Why the service `a` is held on a network with this body; another service is not.
fn of_network(body: &str) -> String {
    let text = format!("services: {{a: {{image: b, networks: [n]}}, z: {{image: b}}}}\nnetworks:\n  n: {body}\n");
    let mut all = held(&text);
    assert_eq!(all.len(), 1, "{body}: {all:?}");
    assert!(good(&text).project.networks.keys().all(|name| name.as_str() == "shop_default"), "{body}");
    all.remove(0)
}

/// Why the service `a` is held that joins the network `n` like this; another service is not.
fn of_join(join: &str) -> String {
    let text = format!(
        "services:\n  a: {{image: b, networks: {{n: {join}}}}}\n  z: {{image: b, networks: [n]}}\nnetworks: {{n: {{ipam: {{config: [{{subnet: 10.5.0.0/24, aux_addresses: {{x: 10.5.0.7}}}}]}}}}}}\n"
    );
    let mut all = held(&text);
    assert_eq!(all.len(), 1, "{join}: {all:?}");
    all.remove(0)
}

fn warned(text: &str) -> Vec<String> {
    let one = |problem: &Problem| format!("{}:{} {}", problem.location.line, problem.location.column, problem.message);
    good(text).warnings.iter().map(one).collect()
}

#[test]
fn a_wrong_network_holds_who_uses_it() {
    let pool = |text: &str| of_network(&format!("{{ipam: {{config: [{{{text}}}]}}}}"));
    for (text, expected) in [
        ("subnet: 10.5.0.0", "a 3:32 \"10.5.0.0\" is not a subnet"),
        ("subnet: 10.5.0.0/33", "a 3:32 \"10.5.0.0/33\" is not a subnet"),
        ("subnet: 10.5.0.0/31", "a 3:32 the subnet 10.5.0.0/31 has no room for a gateway and a container"),
        ("subnet: 10.5.0.0/32", "a 3:32 the subnet 10.5.0.0/32 has no room for a gateway and a container"),
        ("subnet: 0.0.0.0/0", "a 3:32 the subnet 0.0.0.0/0 is all addresses there are"),
        ("subnet: 127.0.0.0/24", "a 3:32 the subnet 127.0.0.0/24 is not for networks of containers"),
        ("subnet: 224.0.0.0/24", "a 3:32 the subnet 224.0.0.0/24 is not for networks of containers"),
        ("gateway: 10.5.0.1", "a 3:23 the pool has no subnet"),
        ("subnet: 10.5.0.0/24, gateway: 10.6.0.1", "a 3:54 the gateway 10.6.0.1 is not in the subnet 10.5.0.0/24"),
        ("subnet: 10.5.0.0/24, gateway: 'fd00::1'", "a 3:54 the gateway fd00::1 is not in the subnet 10.5.0.0/24"),
        ("subnet: 10.5.0.0/24, gateway: x", "a 3:54 the gateway \"x\" is not an address"),
        (
            "subnet: 10.5.0.0/24, gateway: 10.5.0.0",
            "a 3:54 the gateway 10.5.0.0 stands for the subnet 10.5.0.0/24 itself",
        ),
        (
            "subnet: 10.5.0.0/24, ip_range: 10.5.0.0/16",
            "a 3:55 the range 10.5.0.0/16 is not within the subnet 10.5.0.0/24",
        ),
        (
            "subnet: 10.5.0.0/24, ip_range: 10.6.0.0/25",
            "a 3:55 the range 10.6.0.0/25 is not within the subnet 10.5.0.0/24",
        ),
        ("subnet: 10.5.0.0/24, ip_range: x", "a 3:55 \"x\" is not a range of addresses"),
        (
            "subnet: 10.5.0.0/24, aux_addresses: {a: 10.6.0.1}",
            "a 3:64 the auxiliary address 10.6.0.1 is not in the subnet 10.5.0.0/24",
        ),
        (
            "subnet: 10.5.0.0/24}, {subnet: 10.5.0.128/25",
            "a 3:14 the subnets 10.5.0.0/24 and 10.5.0.128/25 of one network overlap",
        ),
    ] {
        assert_eq!(pool(text), expected, "{text}");
    }
    for (body, expected) in [
        ("{driver: overlay}", "a 3:7 the network driver \"overlay\" is not supported"),
        ("{driver: brigde}", "a 3:7 the network driver \"brigde\" is not supported"),
        ("{ipam: {driver: dhcp}}", "a 3:22 addresses from the IPAM driver \"dhcp\" are not supported"),
        ("{enable_ipv4: false}", "a 3:3 the network has neither IPv4 nor IPv6"),
        ("{driver_opts: {mtu: 67}}", "a 3:26 the MTU 67 is not from 68 to 65535, as it must be"),
        ("{driver_opts: {mtu: 65536}}", "a 3:26 the MTU 65536 is not from 68 to 65535, as it must be"),
        ("{driver_opts: {mtu: x}}", "a 3:26 the MTU x is not from 68 to 65535, as it must be"),
        (
            "{enable_ipv6: true, driver_opts: {mtu: 1279}}",
            "a 3:45 the MTU 1279 is not from 1280 to 65535, as it must be with IPv6",
        ),
        (
            "{driver_opts: {com.docker.network.bridge.name: a-name-that-is-too-long}}",
            "a 3:53 \"a-name-that-is-too-long\" cannot be the name of a bridge",
        ),
        ("{driver: macvlan, driver_opts: {parent: a/b}}", "a 3:46 \"a/b\" cannot be the name of an interface"),
        (
            "{driver: macvlan, internal: true, driver_opts: {parent: eth0}}",
            "a 3:62 the network is internal, and eth0 would lead outside",
        ),
        ("{driver: macvlan, driver_opts: {macvlan_mode: x}}", "a 3:52 \"x\" is not a mode of macvlan"),
        ("{driver: ipvlan, driver_opts: {ipvlan_mode: l4}}", "a 3:50 \"l4\" is not a mode of ipvlan"),
        (
            "{driver_opts: {com.docker.network.bridge.enable_icc: 'false'}}",
            "a 3:21 containers of one network are not kept apart from each other (enable_icc: false is not supported yet)",
        ),
        (
            "{driver_opts: {com.docker.network.bridge.host_binding_ipv4: 127.0.0.1}}",
            "a 3:21 an address for all ports of a network is not supported yet (host_binding_ipv4)",
        ),
        (
            "{driver_opts: {com.docker.network.bridge.gateway_mode_ipv4: isolated}}",
            "a 3:21 the gateway mode \"isolated\" is not supported yet",
        ),
    ] {
        assert_eq!(of_network(body), expected, "{body}");
    }
}

#[test]
fn a_wrong_join_holds_its_service() {
    for (join, expected) in [
        ("{aliases: ['a b']}", "a 2:42 the alias \"a b\" is not a name"),
        ("{aliases: ['-a']}", "a 2:42 the alias \"-a\" is not a name"),
        ("{aliases: [a..b]}", "a 2:42 the alias \"a..b\" is not a name"),
        ("{ipv4_address: 10.5.0}", "a 2:46 \"10.5.0\" is not an IPv4 address"),
        ("{ipv4_address: 'fd00::1'}", "a 2:46 \"fd00::1\" is not an IPv4 address"),
        ("{ipv4_address: 10.6.0.2}", "a 2:46 the address 10.6.0.2 is in no subnet of the network shop_n (10.5.0.0/24)"),
        ("{ipv4_address: 10.5.0.1}", "a 2:46 the address 10.5.0.1 is the gateway's of the network shop_n"),
        ("{ipv4_address: 10.5.0.7}", "a 2:46 the address 10.5.0.7 of the network shop_n is kept for \"x\""),
        ("{ipv4_address: 10.5.0.255}", "a 2:46 the address 10.5.0.255 stands for the subnet 10.5.0.0/24 itself"),
        ("{ipv6_address: 'fd00::2'}", "a 2:46 the network shop_n has no IPv6, and fd00::2 cannot be in it"),
        ("{link_local_ips: [10.0.0.1]}", "a 2:49 \"10.0.0.1\" is not a link-local address"),
        ("{mac_address: 02:42}", "a 2:45 \"02:42\" is not a MAC address"),
        ("{mac_address: '01:00:5e:00:00:01'}", "a 2:45 \"01:00:5e:00:00:01\" is not a MAC address"),
        ("{interface_name: a/b}", "a 2:48 \"a/b\" cannot be the name of an interface"),
        ("{interface_name: sixteen-bytes-xx}", "a 2:48 \"sixteen-bytes-xx\" cannot be the name of an interface"),
        ("{priority: 1.5}", "a 2:42 `priority` is 1.5: expected a whole number"),
        ("{gw_priority: 1e3}", "a 2:45 `gw_priority` is 1e3: expected a whole number"),
    ] {
        assert_eq!(of_join(join), expected, "{join}");
    }
    let no_subnet = "services: {a: {image: b, networks: {default: {ipv4_address: 10.5.0.9}}}}";
    assert_eq!(
        held(no_subnet),
        [
            "a 1:61 the network shop_default has no IPv4 subnet in the file, and 10.5.0.9 may not be in the one that it gets"
        ]
    );
    let message = |lines: &str| {
        let holds = service(lines).holds;
        assert_eq!(holds.len(), 1, "{lines}: {holds:?}");
        holds[0].problem.message.clone()
    };
    assert_eq!(message("mac_address: x"), "\"x\" is not a MAC address");
    assert_eq!(
        message("scale: 2\nmac_address: '02:42:ac:11:00:02'"),
        "2 containers cannot all have the MAC address 02:42:ac:11:00:02"
    );
    assert_eq!(
        message("mac_address: '02:42:ac:11:00:02'\nnetworks: {default: {mac_address: '02:42:ac:11:00:03'}}"),
        "`mac_address` of the service and of its network shop_default differ"
    );
    assert_eq!(message("links: ['a:a b']"), "\"a b\" is not a name");
    assert_eq!(message("external_links: ['a/b']"), "\"a/b\" is not a name");
    assert_eq!(message("network_mode: a:b"), "\"a:b\" is not a network mode");
    assert_eq!(message("network_mode: 'container:'"), "the container name is empty");
}

#[test]
fn what_only_one_can_have_holds_the_second() {
    let text = "\
services:
  z: {image: b, networks: {n: {ipv4_address: 10.5.0.9, mac_address: '02:00:00:00:00:01'}}}
  a: {image: b, networks: {n: {ipv4_address: 10.5.0.9}}}
  c: {image: b, networks: {n: {mac_address: '02:00:00:00:00:01'}}}
  d: {image: b, networks: {n: {ipv4_address: 10.5.0.10}}}
  e: {image: b, networks: {n: {ipv4_address: 10.5.0.11}}, scale: 2}
networks: {n: {ipam: {config: [{subnet: 10.5.0.0/24}]}}}
";
    assert_eq!(
        held(text),
        [
            "a 3:46 the service \"z\" has the address 10.5.0.9 of the network shop_n already",
            "c 4:45 the service \"z\" has the MAC address 02:00:00:00:00:01 of the network shop_n already",
            "e 6:46 2 containers cannot all have the address 10.5.0.11",
        ]
    );
}

#[test]
fn a_shared_network_must_be_somebodys() {
    let text = "\
services:
  a: {image: b, network_mode: 'service:gone'}
  c: {image: b, network_mode: 'service:a'}
  d: {image: b, network_mode: 'service:e'}
  e: {image: b, network_mode: 'service:f'}
  f: {image: b, network_mode: 'service:d'}
  g: {image: b, network_mode: 'service:g'}
  h: {image: b, network_mode: 'service:d'}
  i: {image: b, network_mode: 'service:debug'}
  debug: {image: b, profiles: [debug]}
  z: {image: b}
";
    let circle = |names: &str| format!("networks are shared in a circle: {names}");
    assert_eq!(
        held(text),
        [
            "a 2:31 there is no service \"gone\" in the project, whose network is asked for".to_owned(),
            "c 3:31 it shares the network of \"a\", which leads to the service \"gone\", and that is not in the project"
                .to_owned(),
            format!("d 4:31 {}", circle("e -> f -> d -> e")),
            format!("e 5:31 {}", circle("f -> d -> e -> f")),
            format!("f 6:31 {}", circle("d -> e -> f -> d")),
            format!("g 7:31 {}", circle("g -> g")),
            format!("h 8:31 {}", circle("d -> e -> f -> d")),
            "i 9:31 there is no service \"debug\" in the project, whose network is asked for".to_owned(),
        ]
    );
}

#[test]
fn networks_that_cannot_be_there_together_hold_the_later_ones_services() {
    let text = "\
services:
  a: {image: b, networks: [one]}
  c: {image: b, networks: [two]}
  d: {image: b, networks: [three]}
  e: {image: b, networks: [four]}
networks:
  two: {ipam: {config: [{subnet: 10.5.0.0/16}]}}
  one: {ipam: {config: [{subnet: 10.5.7.0/24}]}}
  three: {name: x, driver_opts: {com.docker.network.bridge.name: br0}}
  four: {name: x, driver_opts: {com.docker.network.bridge.name: br0}}
  unused: {ipam: {config: [{subnet: 10.5.0.0/16}]}}
";
    assert_eq!(
        held(text),
        [
            "a 8:3 the subnet 10.5.7.0/24 overlaps 10.5.0.0/16 of the network shop_two",
            "e 10:3 another network of the file has the name x too",
            "e 10:3 the network x has the bridge \"br0\" too",
        ]
    );
}

#[test]
fn what_excludes_another_network_holds() {
    let text =
        "services: {a: {image: b, networks: [n, m]}}\nnetworks: {n: {external: {name: x}}, m: {external: {name: x}}}";
    assert_eq!(held(text), ["a 1:37 the network x is joined twice"]);
    let text = "services: {a: {image: b, networks: [default, h]}}\nnetworks: {h: {driver: host}}";
    assert_eq!(held(text), ["a 1:46 with the network \"h\" no other one can be joined"]);
}

#[test]
fn what_compose_refuses_is_refused() {
    let told = |text: &str| {
        let problems = read_with(text, &[]).expect_err(text);
        assert_eq!(problems.len(), 1, "{}", shown(&problems));
        format!("{}:{} {}", problems[0].location.line, problems[0].location.column, problems[0].message)
    };
    let network = |body: &str| told(&format!("services: {{a: {{image: b}}}}\nnetworks: {{n: {body}}}"));
    for (body, expected) in [
        ("{external: true, driver: bridge}", "2:32 `driver` and `external` exclude each other"),
        ("{external: {name: a}, name: b}", "2:43 the network has two names outside: \"a\" and \"b\""),
        (
            "{name: a/b}",
            "2:22 the network name \"a/b\" may hold only letters, digits, '.', '-' and '_', and must begin with a letter or a digit",
        ),
    ] {
        assert_eq!(network(body), expected, "{body}");
    }
    assert_eq!(refusal("links: [gone]"), "4:13 there is no service \"gone\" in the file");
    assert_eq!(refusal("networks: [default, default]"), "4:25 the network \"default\" is named twice");
    let text = "services: {a: {image: b, networks: [fron]}}\nnetworks: {front: }";
    insta::assert_snapshot!(shown(&read_with(text, &[]).unwrap_err()), @r#"
    error: shop.yaml:1:37: the network "fron" is not defined in the file
        |
      1 | services: {a: {image: b, networks: [fron]}}
        |                                     ^^^^
      = did you mean `front`? networks are defined below `networks:` of the file
    "#);
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let network =
        |body: &str| warned(&format!("services: {{a: {{image: b, networks: [n]}}}}\nnetworks: {{n: {body}}}"));
    for (body, expected) in [
        (
            "{ipam: {config: [{subnet: 10.5.0.7/24}]}}",
            "2:41 10.5.0.7/24 is an address in a subnet; the subnet 10.5.0.0/24 is taken",
        ),
        (
            "{ipam: {config: [{subnet: 'fd00::/64'}]}}",
            "2:32 the subnet fd00::/64 has no effect: the network has no IPv6",
        ),
        (
            "{enable_ipv4: false, enable_ipv6: true, ipam: {config: [{subnet: 10.5.0.0/24}]}}",
            "2:71 the subnet 10.5.0.0/24 has no effect: the network has no IPv4",
        ),
        ("{driver_opts: {x: y}}", "2:30 the network option \"x\" has no effect"),
        ("{driver_opts: {parent: eth0}}", "2:30 the network option \"parent\" has no effect"),
    ] {
        assert_eq!(network(body), [expected], "{body}");
    }
    assert_eq!(network("{enable_ipv6: true}"), [""; 0]);
    assert_eq!(
        warned("services: {a: {image: b, networks: {default: {driver_opts: {x: y}}}}}"),
        ["1:60 the options of a link have no effect"]
    );
    assert_eq!(
        warned("services: {a: {image: b}}\nnetworks: {n: {name: far, ipam: {config: [{subnet: x}]}}}"),
        ["2:52 the network is not made: \"x\" is not a subnet"]
    );
    assert_eq!(
        warned("services: {a: {image: b, network_mode: none, mac_address: '02:00:00:00:00:01'}}"),
        ["1:46 `services.a.mac_address` has no effect with `network_mode: none`"]
    );
}

#[test]
fn large_files_are_answered_quickly() {
    let started = std::time::Instant::now();
    let networks: String = (0..900).map(|n| format!("n{n}: {{ipam: {{config: [{{subnet: 10.0.0.0/8}}]}}}},")).collect();
    let names: String = (0..900).map(|n| format!("n{n},")).collect();
    let services: String = (0..200).map(|n| format!("s{n}: {{image: b, networks: [{names}]}},")).collect();
    let document = good(&format!("services: {{{services}}}\nnetworks: {{{networks}}}"));
    assert!(document.project.services.values().all(|service| service.holds.len() == 20));
    let aliases = "'-',".repeat(100_000);
    let text = format!("services: {{a: {{image: b, networks: {{default: {{aliases: [{aliases}]}}}}}}}}");
    assert_eq!(good(&text).project.services.values().next().unwrap().holds.len(), 20);
    let chain: String = (0..1000).map(|n| format!("s{n}: {{image: b, network_mode: 'service:s{}'}},", n + 1)).collect();
    assert_eq!(held(&format!("services: {{{chain}}}")).len(), 1000);
    let unknown = "x1,y2,z3,".repeat(30_000);
    assert!(read_with(&format!("services: {{a: {{image: b, networks: [{unknown}]}}}}"), &[]).is_err());
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}
