//! `ports` and `expose`, in all their forms.

use crate::model::{Exposed, Membership, NetworkMode, Port, Protocol, Service};
use crate::spec::samples::{good, read_with, refusal, service, shown};

fn membership(service: &Service) -> Membership {
    service.network.membership().cloned().unwrap_or_else(|| panic!("{:?}", service.network))
}

/// `ADDRESS:FIRST-LAST:TARGET/PROTOCOL`, a dash for what is not said.
fn said(port: &Port) -> String {
    let address = port.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
    let host = match port.host {
        None => "-".to_owned(),
        Some((first, last)) if first == last => first.to_string(),
        Some((first, last)) => format!("{first}-{last}"),
    };
    format!("{address} {host} {}/{}", port.target, port.protocol.name())
}

fn ports(line: &str) -> String {
    let service = service(line);
    assert_eq!(service.holds, [], "{line}");
    membership(&service).ports.iter().map(said).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_form_is_read() {
    for (line, expected) in [
        ("ports: ['3000']", "- - 3000/tcp"),
        ("ports: [3000]", "- - 3000/tcp"),
        ("ports: ['3000-3002']", "- - 3000/tcp, - - 3001/tcp, - - 3002/tcp"),
        ("ports: ['8000:8000']", "- 8000 8000/tcp"),
        ("ports: [49100:22]", "- 49100 22/tcp"),
        ("ports: ['9090-9091:8080-8081']", "- 9090 8080/tcp, - 9091 8081/tcp"),
        ("ports: ['8000-9000:80']", "- 8000-9000 80/tcp"),
        ("ports: ['127.0.0.1:8001:8001']", "127.0.0.1 8001 8001/tcp"),
        ("ports: ['127.0.0.1:5000-5001:6000-6001']", "127.0.0.1 5000 6000/tcp, 127.0.0.1 5001 6001/tcp"),
        ("ports: ['127.0.0.1::5000']", "127.0.0.1 - 5000/tcp"),
        ("ports: ['6060:6060/udp']", "- 6060 6060/udp"),
        ("ports: ['6060:6060/UDP', '6060:6060/Tcp', '1/sctp']", "- 6060 6060/udp, - 6060 6060/tcp, - - 1/sctp"),
        ("ports: ['[::1]:80:81']", "::1 80 81/tcp"),
        ("ports: ['::1:80:81']", "::1 80 81/tcp"),
        ("ports: ['[::]::81/udp']", ":: - 81/udp"),
        ("ports: ['0.0.0.0:80:80', '[::]:80:80']", "0.0.0.0 80 80/tcp, :: 80 80/tcp"),
        ("ports: [':80']", "- - 80/tcp"),
        ("ports: ['0:80']", "- - 80/tcp"),
        ("ports: [{target: 80}]", "- - 80/tcp"),
        ("ports: [{target: 80, published: 8080}]", "- 8080 80/tcp"),
        ("ports: [{target: '80', published: '8080', mode: ingress, app_protocol: http, name: web}]", "- 8080 80/tcp"),
        (
            "ports: [{target: 80, published: '8000-8010', host_ip: 127.0.0.1, protocol: UDP}]",
            "127.0.0.1 8000-8010 80/udp",
        ),
        ("ports: [{target: 80, published: '', host_ip: '[::1]', protocol: ''}]", "::1 - 80/tcp"),
        (
            "ports: [{target: 53, published: 53}, {target: 53, published: 53, protocol: udp}]",
            "- 53 53/tcp, - 53 53/udp",
        ),
        ("ports: []", ""),
    ] {
        assert_eq!(ports(line), expected, "{line}");
    }
    let port = membership(&service("ports:\n  - 1\n  - {target: 80, name: web}")).ports.remove(1);
    assert_eq!((port.name.as_deref(), port.location.to_string().as_str()), (Some("web"), "shop.yaml:6:9"));
}

/// Why services are held in a file whose service `a` has this line and whose service `z` has a port, too.
fn held(line: &str) -> Vec<String> {
    let document = good(&format!("services:\n  a:\n    image: b\n    {line}\n  z: {{image: b, ports: ['1234:1']}}\n"));
    let mut all = Vec::new();
    for service in document.project.services.values() {
        for hold in &service.holds {
            let at = &hold.problem.location;
            assert!(hold.problem.hint.is_some(), "{line}");
            all.push(format!("{} {}:{} {}", service.name, at.line, at.column, hold.problem.message));
        }
    }
    all
}

#[test]
fn a_wrong_port_holds_its_service_and_no_other_one() {
    for (line, expected) in [
        ("ports: ['80:http']", "a 4:13 \"http\" is not a port"),
        ("ports: ['http:80']", "a 4:13 \"http\" is not a port"),
        ("ports: ['80:']", "a 4:13 \"\" is not a port"),
        ("ports: ['']", "a 4:13 \"\" is not a port"),
        ("ports: ['80:-80']", "a 4:13 \"\" is not a port"),
        ("ports: ['80 : 80']", "a 4:13 \" 80\" is not a port"),
        ("ports: [80.5]", "a 4:13 \"80.5\" is not a port"),
        ("ports: ['80:0']", "a 4:13 the port 0 is not from 1 to 65535"),
        ("ports: ['65536:80']", "a 4:13 the port 65536 is not from 1 to 65535"),
        ("ports: [70000]", "a 4:13 the port 70000 is not from 1 to 65535"),
        ("ports: ['0-5:80']", "a 4:13 the port 0 is not from 1 to 65535"),
        ("ports: ['90-80:1']", "a 4:13 the range of ports 90-80 ends before it begins"),
        ("ports: ['80-82:80-81']", "a 4:13 3 ports of the host cannot lead to 2 ports of the container"),
        ("ports: ['80:80-81']", "a 4:13 1 port of the host cannot lead to 2 ports of the container"),
        ("ports: ['1.2.3:80:80']", "a 4:13 \"1.2.3\" is not an address"),
        ("ports: ['localhost:80:80']", "a 4:13 \"localhost\" is not an address"),
        ("ports: ['[::1:80:80']", "a 4:13 \"[::1\" is not an address"),
        ("ports: ['80:80/icmp']", "a 4:13 \"icmp\" is not a protocol"),
        ("ports: [{published: 80}]", "a 4:13 the port has no `target`"),
        ("ports: [{target: 80, host_ip: x}]", "a 4:13 \"x\" is not an address"),
        ("ports: [{target: 80, protocol: icmp}]", "a 4:13 \"icmp\" is not a protocol"),
        ("ports: [{target: 80, published: 99999}]", "a 4:13 the port 99999 is not from 1 to 65535"),
        ("ports: ['80:80', '80:80']", "a 4:22 the host's port 80/tcp is published twice"),
        ("ports: ['80:80', {target: 81, published: 80}]", "a 4:22 the host's port 80/tcp is published twice"),
        ("ports: ['80-90:80-90', '85:1']", "a 4:28 the host's port 85/tcp is published twice"),
        ("ports: ['0.0.0.0:80:80', '127.0.0.1:80:81']", "a 4:30 the host's port 80/tcp is published twice"),
        ("expose: [http]", "a 4:14 \"http\" is not a port"),
        ("expose: ['80/icmp']", "a 4:14 \"icmp\" is not a protocol"),
        ("expose: [0]", "a 4:14 the port 0 is not from 1 to 65535"),
    ] {
        assert_eq!(held(line), [expected], "{line}");
    }
    let all = "a file may name at most 65535 ports";
    assert_eq!(held("ports: ['1-65535:1-65535', '1/udp']"), [format!("a 4:32 {all}"), format!("z 5:25 {all}")]);
}

#[test]
fn ports_for_other_services_are_listed_once() {
    let exposed = |port, protocol| Exposed { port, protocol };
    let all = membership(&service("expose: [3000, '8000-8001', '53/udp', 3000]")).expose;
    let tcp = |port| exposed(port, Protocol::Tcp);
    assert_eq!(all, [tcp(3000), tcp(8000), tcp(8001), exposed(53, Protocol::Udp)]);
}

#[test]
fn a_port_of_the_host_is_one_services() {
    let text = "\
services:
  z:
    image: b
    ports: ['8080:80', '127.0.0.1:9090:90']
  a:
    image: b
    ports:
      - '9090:90'
      - '8079-8081:1-3'
  c: {image: b, ports: ['8080:80/udp', '127.0.0.1:9091:90', '8080']}
";
    let services = good(text).project.services;
    let held = |name: &str| {
        let service = services.values().find(|service| service.name.as_str() == name).expect("the service");
        service.holds.iter().map(|hold| hold.problem.clone()).collect::<Vec<_>>()
    };
    assert_eq!(held("z"), [], "it comes first in the file");
    assert_eq!(held("c"), []);
    insta::assert_snapshot!(shown(&held("a")), @r#"
    held: shop.yaml:9:9: the service "z" has the host's port 8080/tcp already
        |
      9 |       - '8079-8081:1-3'
        |         ^^^^^^^^^^^^^^^
      = give one of them another port of the host
    "#);
}

#[test]
fn each_container_needs_a_port_of_its_own() {
    let holds = |line: &str| {
        let holds = service(line).holds;
        holds.iter().map(|hold| hold.problem.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(holds("scale: 2\nports: ['80:80']"), ["2 containers cannot all have the port 80 of the host"]);
    assert_eq!(holds("scale: 3\nports: ['80-81:80']"), ["3 containers cannot all have the ports 80-81 of the host"]);
    for line in ["scale: 2\nports: ['80-81:80']", "scale: 2\nports: [80]", "scale: 0\nports: ['80:80']"] {
        assert_eq!(holds(line), [""; 0], "{line}");
    }
}

#[test]
fn without_a_network_of_its_own_no_port_is_published() {
    let document = good("services: {a: {image: b, network_mode: host, ports: ['80:80']}}");
    assert_eq!(document.project.services.values().next().unwrap().network, NetworkMode::Host);
    insta::assert_snapshot!(shown(&document.warnings), @r"
    warning: shop.yaml:1:46: `services.a.ports` has no effect with `network_mode: host`
        |
      1 | services: {a: {image: b, network_mode: host, ports: ['80:80']}}
        |                                              ^^^^^
      = remove it; the service's ports are the host's
    ");
    let text = "services: {a: {image: b, network_mode: 'service:c', ports: ['80:80']}, c: {image: b}}";
    insta::assert_snapshot!(shown(&read_with(text, &[]).unwrap_err()), @r"
    error: shop.yaml:1:53: `ports` and `network_mode: service:c` exclude each other
        |
      1 | services: {a: {image: b, network_mode: 'service:c', ports: ['80:80']}, c: {image: b}}
        |                                                     ^^^^^
      = write `ports` at the service c, whose network is used
    ");
    for key in ["expose: [80]", "hostname: x", "dns: 1.1.1.1", "extra_hosts: ['a:1.1.1.1']", "links: [a]"] {
        let name = key.split(':').next().unwrap();
        let said = refusal(&format!("{key}\nnetwork_mode: container:x"));
        assert_eq!(said, format!("4:5 `{name}` and `network_mode: container:x` exclude each other"));
    }
    assert_eq!(refusal("ports: [80]\nnetwork_mode: none"), "4:5 `ports` and `network_mode: none` exclude each other");
    assert_eq!(refusal("links: [a]\nnetwork_mode: host"), "4:5 `links` and `network_mode: host` exclude each other");
    assert_eq!(service("ports: []\nhostname: ''\nnetwork_mode: container:x").holds, []);
}
