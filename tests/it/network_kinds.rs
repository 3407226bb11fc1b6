//! Other networks than a bridge of IPv4 in the default place, and what containers see of their network inside.

use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use super::support::{Town, file, town, with_both_runtimes};

/// A program that goes on in the background, as its process's number.
struct Beside<'t>(&'t Town, String);

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        self.0.here(&format!("kill {}", self.1));
    }
}

fn beside<'t>(town: &'t Town, outside: bool, command: &str) -> Beside<'t> {
    let script = format!("{command} >/dev/null 2>&1 </dev/null & echo $!");
    let pid = if outside { town.outside(&script) } else { town.here(&script) };
    Beside(town, pid)
}

/// Asks until somebody answers so.
fn answers(what: &str, wanted: &str, mut ask: impl FnMut() -> String) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let seen = ask();
        if seen.starts_with(wanted) {
            return;
        }
        assert!(Instant::now() < end, "{what}: {seen}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const INTERFACES: &str = "tail -n +3 /proc/net/dev | sed 's/:.*//; s/ //g' | sort | tr '\\n' ' '";

#[test]
fn on_the_wire_of_an_interface_the_outside_world_reaches_a_container_directly() {
    let town = Town::new();
    town.outside("ip addr add 198.51.100.1/24 dev wire1");
    let world = beside(&town, true, "reach serve 9000 world");
    let parent = || town.here("ip -d link show wire0 | sed 's/ qlen.*//'; ip -br addr show wire0; ip -br link | wc -l");
    let before = parent();
    let networks = "networks:\n  wire:\n    driver: macvlan\n    driver_opts: {parent: wire0}\n    ipam: {config: [{subnet: 198.51.100.0/24, gateway: 198.51.100.1}]}\n";
    let web = town.server("web", &["networks: {wire: {ipv4_address: 198.51.100.9}}"]);
    let api = town.server("api", &["networks: [wire]"]);
    town.lab.put("shop.yaml", &format!("{}{networks}", file(&[web, api])));
    for container in ["shop-web-1", "shop-api-1"] {
        town.lab.running(container);
    }
    assert_eq!(town.addresses("shop-web-1").0, "198.51.100.9");
    assert_eq!(town.outside("reach ask tcp 198.51.100.9 7000"), "web 198.51.100.1");
    assert_eq!(town.outside("reach ask udp 198.51.100.9 7000"), "web 198.51.100.1");
    // Seen as itself, without anything of the host in between.
    assert_eq!(town.inside("shop-web-1", "reach ask tcp 198.51.100.1 9000"), "world 198.51.100.9");
    assert!(town.inside("shop-api-1", "reach ask tcp $(reach name 4 web) 7000").starts_with("web "));
    assert_eq!(town.here("ip -br link show type bridge; ip -br link | grep '^lv'"), "");
    town.lab.remove("shop.yaml");
    town.lab.gone("shop-web-1");
    answers("the parent as it was", &before, parent);
    drop(world);
    town.finish();
}

#[test]
fn loopback_alone_and_the_hosts_network() {
    let town = Town::new();
    let idle = |name, more: &[&str]| town.service(name, "[work, sleep]", more);
    let services = [
        idle("alone", &["network_mode: none"]),
        idle("shut", &["networks: [shut]"]),
        idle("wide", &["networks: [wide]"]),
        town.server("open", &["network_mode: host"]),
    ];
    let networks = "networks:\n  shut:\n    driver: none\n  wide:\n    driver: host\n";
    town.lab.put("shop.yaml", &format!("{}{networks}", file(&services)));
    for (name, expected) in [("alone", "lo"), ("shut", "lo"), ("wide", "lo wire0"), ("open", "lo wire0")] {
        let container = format!("shop-{name}-1");
        town.lab.running(&container);
        assert_eq!(town.inside(&container, INTERFACES).trim(), expected, "{name}");
        assert!(town.inside(&container, "ip addr show lo").contains("127.0.0.1/8"), "{name}");
    }
    assert_eq!(town.outside(&format!("reach ask tcp {} 7000", town::HOST[0])), format!("open {}", town::OUTSIDE[0]));
    town.finish();
}

#[test]
fn the_files_of_a_container_lead_to_the_host_and_to_name_servers_of_its_own() {
    let town = Town::new();
    let host = beside(&town, false, "reach serve 9001 host");
    let names = beside(&town, true, "reach names 203.0.113.7");
    let more = [
        "extra_hosts: ['gate:host-gateway', 'fixed=203.0.113.9']",
        "dns: [192.0.2.1]",
        "dns_search: [corp.test]",
        "dns_opt: ['timeout:1']",
        "hostname: front",
        "domainname: corp.test",
    ];
    town.lab.put("shop.yaml", &file(&[town.server("web", &more), town.server("api", &[])]));
    town.lab.running("shop-web-1");
    town.lab.running("shop-api-1");
    let inside = |script: &str| town.inside("shop-web-1", script);
    let gateway = inside("ip route | sed -n 's/^default via \\([0-9.]*\\) .*/\\1/p'");
    let hosts = inside("cat /etc/hosts");
    let (own, _) = town.addresses("shop-web-1");
    for line in [format!("{gateway}\tgate"), "203.0.113.9\tfixed".to_owned(), format!("{own}\tfront.corp.test front")] {
        assert!(hosts.lines().any(|seen| seen == line), "{line:?} in {hosts}");
    }
    answers("the host", "host ", || inside("reach ask tcp $(sed -n 's/\\tgate$//p' /etc/hosts) 9001"));
    assert_eq!(inside("cat /etc/hostname; hostname"), "front\nfront");
    let resolv = inside("cat /etc/resolv.conf");
    assert!(resolv.contains("nameserver 127.0.0.11\n") && resolv.contains("search corp.test"), "{resolv}");
    assert!(resolv.contains("options timeout:1"), "{resolv}");
    answers("the name server of `dns`", "203.0.113.7", || inside("reach name 4 far.corp.test"));
    // The C library goes the same way, over `search`.
    assert!(inside("nslookup far 2>&1; ping -c 1 -W 1 far 2>&1 | head -1").contains("203.0.113.7"));
    assert_eq!(inside("reach name 4 api"), town.addresses("shop-api-1").0);
    drop((host, names));
    town.finish();
}

#[test]
fn addresses_of_the_file_and_the_way_out_that_it_prefers() {
    let town = Town::new();
    let networks = "networks:
  near: {ipam: {config: [{subnet: 10.66.0.0/24}]}}
  wide: {ipam: {config: [{subnet: 10.67.0.0/24, gateway: 10.67.0.7}]}}
";
    let fixed = "{ipv4_address: 10.66.0.9, mac_address: '02:42:0a:42:00:09', aliases: [spot]}";
    let web = town.server("web", &[&format!("networks: {{near: {fixed}, wide: {{gw_priority: 10}}}}")]);
    let api = town.server("api", &["networks: {near: {}, wide: {}}"]);
    town.lab.put("shop.yaml", &format!("{}{networks}", file(&[web, api])));
    for container in ["shop-web-1", "shop-api-1"] {
        town.lab.running(container);
    }
    let show = "ip -4 -o addr show dev eth0 | sed 's/ *brd.*//; s/.*inet //'; cat /sys/class/net/eth0/address";
    assert_eq!(town.inside("shop-web-1", show), "10.66.0.9/24\n02:42:0a:42:00:09");
    let way = |container: &str| town.inside(container, "ip route | sed -n 's/^\\(default.*eth[0-9]\\).*/\\1/p'");
    assert_eq!(way("shop-web-1"), "default via 10.67.0.7 dev eth1");
    assert_eq!(way("shop-api-1"), "default via 10.66.0.1 dev eth0");
    assert_eq!(town.inside("shop-api-1", "reach name 4 spot"), "10.66.0.9");
    let world = beside(&town, true, "reach serve 9000 world");
    for container in ["shop-web-1", "shop-api-1"] {
        answers(container, &format!("world {}", town::HOST[0]), || {
            town.inside(container, &format!("reach ask tcp {} 9000", town::OUTSIDE[0]))
        });
    }
    drop(world);
    town.finish();
}

#[test]
fn a_network_of_ipv6_alone() {
    let town = Town::new();
    let networks = "networks:\n  default:\n    enable_ipv4: false\n    enable_ipv6: true\n    ipam: {config: [{subnet: 'fd00:66::/64'}]}\n";
    let web = town.server("web", &["ports: ['8080:7000', '8080:7000/udp']"]);
    town.lab.put("shop.yaml", &format!("{}{networks}", file(&[web, town.server("api", &[])])));
    for container in ["shop-web-1", "shop-api-1"] {
        town.lab.running(container);
    }
    let (none, web) = town.addresses("shop-web-1");
    assert_eq!(none, "");
    assert!(web.starts_with("fd00:66::"), "{web}");
    let inside = |script: &str| town.inside("shop-api-1", script);
    assert_eq!(inside("reach name 6 web"), web);
    assert_eq!(inside("reach name 4 web"), "EMPTY");
    let world = beside(&town, true, "reach serve 9000 world");
    for protocol in ["tcp", "udp"] {
        assert!(inside(&format!("reach ask {protocol} {web} 7000")).starts_with("web fd00:66::"));
        assert_eq!(
            town.outside(&format!("reach ask {protocol} {} 8080", town::HOST[1])),
            format!("web {}", town::OUTSIDE[1])
        );
        answers("the way out", &format!("world {}", town::HOST[1]), || {
            inside(&format!("reach ask {protocol} {} 9000", town::OUTSIDE[1]))
        });
    }
    drop(world);
    town.finish();
}

with_both_runtimes! {
    a_container_with_users_of_its_own_is_in_its_network_like_any_other,
    the_first_question_for_a_name_is_answered,
}

/// The file that says which ids there are is one of the test's own.
pub(crate) fn own_ids() {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("apart");
    let ids = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(ids.path(), "longshore:1000000:1000000\n").expect("written");
    for target in ["/etc/subuid", "/etc/subgid"] {
        mount(Some(ids.path()), target, none, MsFlags::MS_BIND, none).expect("mounted");
    }
}

fn a_container_with_users_of_its_own_is_in_its_network_like_any_other(config: &Value) {
    own_ids();
    let town = Town::with(config);
    let web = town.server("web", &["userns_mode: auto", "ports: ['8080:7000']"]);
    let networks = "networks:\n  default:\n    enable_ipv6: true\n";
    town.lab.put("shop.yaml", &format!("{}{networks}", file(&[web, town.server("api", &[])])));
    let before = town.lab.running("shop-web-1");
    town.lab.running("shop-api-1");
    assert_ne!(town.inside("shop-web-1", "cat /proc/self/uid_map").split_whitespace().nth(1), Some("0"));
    let (v4, v6) = town.addresses("shop-web-1");
    let (api, _) = town.addresses("shop-api-1");
    let all = || {
        assert_eq!(town.inside("shop-api-1", "reach name 4 web; reach name 6 web"), format!("{v4}\n{v6}"));
        assert_eq!(town.inside("shop-web-1", "reach name 4 api"), api);
        for (container, script) in [
            ("shop-api-1", format!("reach ask tcp {v4} 7000")),
            ("shop-api-1", format!("reach ask udp {v6} 7000")),
            ("shop-web-1", format!("reach ask tcp {} 8080", town::HOST[0])),
        ] {
            answers(container, "web ", || town.inside(container, &script));
        }
        assert!(town.inside("shop-web-1", &format!("reach ask tcp {api} 7000")).starts_with("api "));
        let seen = town.outside(&format!("reach ask tcp {} 8080", town::HOST[0]));
        assert_eq!(seen, format!("web {}", town::OUTSIDE[0]));
    };
    all();
    town.here("for l in $(ip -br link | sed -n 's/^\\(lv[0-9a-f]*\\)@.*/\\1/p'); do ip link del $l; done");
    answers("what was taken away", "web ", || town.outside(&format!("reach ask tcp {} 8080", town::HOST[0])));
    answers("what was taken away", "web ", || town.inside("shop-api-1", &format!("reach ask tcp {v6} 7000")));
    all();
    town.lab.still("shop-web-1", &before);
    town.finish();
}

/// A program that asks before it does anything else.
fn the_first_question_for_a_name_is_answered(config: &Value) {
    let town = Town::with(config);
    let eager = |name: &str| town.service(name, &format!("[reach, name, '4', {name}]"), &["restart: 'no'"]);
    let names: Vec<String> = (0..8).map(|number| format!("eager{number}")).collect();
    let services: Vec<String> = names.iter().map(|name| eager(name)).collect();
    town.lab.put("shop.yaml", &file(&services));
    let mut late = Vec::new();
    for name in &names {
        let container = format!("shop-{name}-1");
        town.lab.exited(&container);
        let said = town.lab.output(&container);
        if said.trim().parse::<std::net::Ipv4Addr>().is_err() {
            late.push(format!("{name}: {said}"));
        }
    }
    assert_eq!(late, Vec::<String>::new());
    town.finish();
}
