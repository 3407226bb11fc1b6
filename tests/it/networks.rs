//! Containers in networks: who reaches whom, by name and by address, and what comes back when somebody takes it away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{Town, file, lab, town};

const IPV6: &str = "networks:\n  default:\n    enable_ipv6: true\n";

/// Two projects with three services each. Whoever is in the same project is reached by its name and its addresses, by TCP and UDP, over
/// IPv4 and IPv6; whoever is not is not, and has no name. Every pair is printed: expected and seen.
#[test]
fn services_of_a_project_reach_each_other_and_nobody_else() {
    let town = Town::new();
    let services = [("shop", ["web", "api", "db"]), ("blog", ["web", "app", "db"])];
    for (project, names) in &services {
        let text: Vec<String> = names.iter().map(|name| town.server(name, &[])).collect();
        town.lab.put(&format!("{project}.yaml"), &format!("{}{IPV6}", file(&text)));
    }
    let all: Vec<(&str, &str)> =
        services.iter().flat_map(|(project, names)| names.iter().map(move |name| (*project, *name))).collect();
    let containers: Vec<String> = all.iter().map(|(project, name)| format!("{project}-{name}-1")).collect();
    let mut addresses = BTreeMap::new();
    for container in &containers {
        town.lab.running(container);
        addresses.insert(container.clone(), town.addresses(container));
    }
    let (mut wrong, mut pairs) = (Vec::new(), 0);
    for ((project, _), client) in all.iter().zip(&containers) {
        let mut script = String::from("cd /tmp\n");
        for ((other, service), server) in all.iter().zip(&containers) {
            let (v4, v6) = &addresses[server];
            for protocol in ["tcp", "udp"] {
                for (family, address) in [("4", v4), ("6", v6)] {
                    script.push_str(&format!(
                        "(echo \"{server} {protocol} {family} $(reach ask {protocol} {address} 7000)\") &\n"
                    ));
                }
            }
            if project == other {
                for (kind, address) in [("4", v4), ("6", v6)] {
                    script.push_str(&format!(
                        "(echo \"{server} name {kind} $(reach name {kind} {service} | sed s/^{address}$/right/)\") &\n"
                    ));
                }
            } else {
                script
                    .push_str(&format!("(echo \"{server} name 4 $(reach name 4 {server} | sed s/{v4}/found/)\") &\n"));
            }
        }
        script.push_str("wait\n");
        let seen = town.inside(client, &script);
        for line in seen.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [server, how, family, answer @ ..] = words.as_slice() else { panic!("{line}") };
            let answer = answer.join(" ");
            let same = server.starts_with(&format!("{project}-"));
            let service = server.split('-').nth(1).unwrap();
            let right = match (*how, same) {
                ("name", true) => answer == "right",
                ("name", false) => !answer.contains("found") && !answer.contains("right"),
                (_, true) => answer.starts_with(&format!("{service} ")),
                (_, false) => answer == "connect: Connection timed out" || answer == "receive: Connection timed out",
            };
            let expected = if same { "reached" } else { "not reached" };
            println!("{client} -> {server} {how} IPv{family}: expected {expected}, seen {answer}");
            pairs += 1;
            if !right {
                wrong.push(line.to_owned());
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(pairs, 36 * 4 + 18 * 2 + 18, "not every pair has answered");
    town.finish();
}

/// Who asks, as a shell on the host, in the outside world, or in a container.
fn ask(town: &Town, from: &str, protocol: &str, address: &str, port: u16) -> String {
    let script = format!("reach ask {protocol} {address} {port}");
    match from {
        "host" => town.here(&script),
        "outside" => town.outside(&script),
        container => town.inside(container, &script),
    }
}

/// The address of the first network's gateway, from inside.
fn gateway(town: &Town, container: &str) -> String {
    town.inside(container, "ip route | sed -n 's/^default via \\([0-9.]*\\) .*/\\1/p'")
}

fn publishing(town: &Town) {
    let web = town.server("web", &["ports: ['8080:7000', '8080:7000/udp', '127.0.0.1:8081:7000']"]);
    town.lab.put("shop.yaml", &format!("{}{IPV6}", file(&[web, town.server("api", &[])])));
    town.lab.put("blog.yaml", &format!("{}{IPV6}", file(&[town.server("app", &[])])));
    for container in ["shop-web-1", "shop-api-1", "blog-app-1"] {
        town.lab.running(container);
    }
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let town = Town::new();
    publishing(&town);
    let [v4, v6] = town::HOST;
    for protocol in ["tcp", "udp"] {
        for (from, address) in [
            ("outside", v4),
            ("outside", v6),
            ("host", v4),
            ("host", v6),
            ("host", "127.0.0.1"),
            ("shop-api-1", v4),
            ("shop-web-1", v4),
            ("shop-api-1", v6),
            ("shop-web-1", v6),
            ("blog-app-1", v4),
            ("blog-app-1", v6),
        ] {
            let seen = ask(&town, from, protocol, address, 8080);
            println!("{from} -> {address} {protocol} 8080: {seen}");
            assert!(seen.starts_with("web "), "{from} -> {address} {protocol} 8080: {seen}");
        }
    }
    // The outside world is seen as itself.
    assert_eq!(ask(&town, "outside", "tcp", v4, 8080), format!("web {}", town::OUTSIDE[0]));
    assert_eq!(ask(&town, "outside", "tcp", v6, 8080), format!("web {}", town::OUTSIDE[1]));
    // On loopback only this machine reaches it.
    assert!(ask(&town, "host", "tcp", "127.0.0.1", 8081).starts_with("web "));
    for from in ["outside", "shop-api-1", "blog-app-1"] {
        let seen = ask(&town, from, "tcp", v4, 8081);
        assert!(!seen.starts_with("web "), "{from} reaches a port of loopback: {seen}");
    }
    // What is not published is not reached, also not by a route.
    let (inside, _) = town.addresses("shop-web-1");
    town.outside(&format!("ip route add {inside}/32 via {v4}"));
    let seen = ask(&town, "outside", "tcp", &inside, 7000);
    assert!(seen.contains("timed out"), "a container is reached from outside past its ports: {seen}");
    town.finish();
}

#[test]
fn with_loopback_nobody_outside_reaches_a_published_port() {
    let town = Town::with(&json!({"expose-default": "loopback"}));
    publishing(&town);
    assert!(ask(&town, "host", "tcp", "127.0.0.1", 8080).starts_with("web "));
    let seen = ask(&town, "outside", "tcp", town::HOST[0], 8080);
    assert!(!seen.starts_with("web "), "{seen}");
    let seen = ask(&town, "outside", "tcp", town::HOST[1], 8080);
    assert!(!seen.starts_with("web "), "{seen}");
    town.finish();
}

#[test]
fn with_host_firewall_the_hosts_own_rules_decide() {
    let town = Town::with(&json!({"expose-default": "host-firewall"}));
    publishing(&town);
    let [v4, v6] = town::HOST;
    for (address, protocol) in [(v4, "tcp"), (v6, "tcp"), (v4, "udp"), (v6, "udp")] {
        let seen = ask(&town, "outside", protocol, address, 8080);
        assert!(seen.starts_with("web "), "{address} {protocol}: {seen}");
    }
    // As ufw has it: what is not allowed is dropped on its way in.
    town.here(
        "nft -f - <<E
table inet theirs {
  chain input {
    type filter hook input priority filter; policy drop;
    iifname lo accept
    ct state established,related accept
    meta l4proto ipv6-icmp accept
    iifname \"ls-*\" accept
  }
}
E",
    );
    for (address, protocol) in [(v4, "tcp"), (v6, "tcp"), (v4, "udp"), (v6, "udp")] {
        let seen = ask(&town, "outside", protocol, address, 8080);
        assert!(seen.contains("timed out"), "past the host's own rules: {address} {protocol}: {seen}");
    }
    assert!(ask(&town, "host", "tcp", "127.0.0.1", 8080).starts_with("web "));
    town.here("nft insert rule inet theirs input tcp dport 8080 accept");
    let seen = ask(&town, "outside", "tcp", v4, 8080);
    assert!(seen.starts_with("web "), "{seen}");
    town.here("nft delete table inet theirs");
    town.finish();
}

#[test]
fn containers_do_not_reach_what_is_not_theirs() {
    let town = Town::new();
    let lone = town.server("lone", &["networks: [closed]"]);
    let both = town.server("both", &["networks: [closed, default]"]);
    let open = town.server("open", &["cap_add: [NET_RAW]"]);
    let networks = "networks:\n  closed:\n    internal: true\n";
    town.lab.put("shop.yaml", &format!("{}{networks}", file(&[lone, both, open])));
    for container in ["shop-lone-1", "shop-both-1", "shop-open-1"] {
        town.lab.running(container);
    }
    // Somebody listens in the outside world, on the host's own addresses, and where clouds keep credentials.
    let mut servers = vec![
        town.outside("ip addr add 169.254.169.254/32 dev wire1; reach serve 9000 world >/dev/null 2>&1 & echo $!"),
    ];
    servers.push(
        town.here("ip route add 169.254.169.254/32 via 192.0.2.1; reach serve 9001 host >/dev/null 2>&1 & echo $!"),
    );
    let host = gateway(&town, "shop-open-1");
    let reached = |from: &str, address: &str, port: u16| {
        let seen = ask(&town, from, "tcp", address, port);
        println!("{from} -> {address}:{port}: {seen}");
        ["world ", "host ", "lone ", "both ", "open "].iter().any(|name| seen.starts_with(name))
    };
    let end = Instant::now() + Duration::from_secs(10);
    while !reached("host", town::OUTSIDE[0], 9000) || !reached("host", "127.0.0.1", 9001) {
        assert!(Instant::now() < end, "the servers do not come");
    }
    assert!(reached("host", "169.254.169.254", 9000), "the metadata address is not there at all");
    assert!(reached("shop-open-1", town::OUTSIDE[0], 9000), "no way out");
    assert!(reached("shop-both-1", town::OUTSIDE[0], 9000), "no way out of two networks");
    assert!(!reached("shop-lone-1", town::OUTSIDE[0], 9000), "a way out of an internal network");
    assert!(!reached("shop-open-1", "169.254.169.254", 9000), "the metadata address is reached");
    assert!(reached("shop-open-1", &host, 9001), "host-gateway would not work");
    assert!(!reached("shop-lone-1", town::HOST[0], 9001), "the host is reached from an internal network");
    assert!(!reached("shop-open-1", "127.0.0.1", 9001));
    // Between them only whoever is in both.
    let (lone, _) = town.addresses("shop-lone-1");
    let (open, _) = town.addresses("shop-open-1");
    assert!(reached("shop-both-1", &lone, 7000) && reached("shop-both-1", &open, 7000));
    assert!(!reached("shop-open-1", &lone, 7000) && !reached("shop-lone-1", &open, 7000));
    assert_eq!(town.inside("shop-both-1", "reach name 4 lone; reach name 4 open"), format!("{lone}\n{open}"));
    assert!(!town.inside("shop-open-1", "reach name 4 lone").contains(&lone));
    // On an internal network nothing is asked outside.
    assert_eq!(town.inside("shop-lone-1", "reach name 4 example.com"), "REFUSED");
    // A false source gets nowhere.
    let before = town.here("cat /proc/net/snmp | grep '^Udp:' | tail -1");
    town.inside("shop-open-1", &format!("reach spoof 10.99.99.99 {host} 9001"));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(
        town.here("cat /proc/net/snmp | grep '^Udp:' | tail -1"),
        before,
        "a datagram with a false source arrived"
    );
    town.here(&format!("kill {}", servers.join(" ")));
    town.finish();
}

/// How long it takes until `seen` is true after `break_it`; the time is printed, and is to be less than two seconds.
fn comes_back(what: &str, break_it: impl FnOnce(), mut seen: impl FnMut() -> bool) {
    break_it();
    let begun = Instant::now();
    while !seen() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}: it does not come back");
    }
    println!("{what}: traffic flows again after {} ms", begun.elapsed().as_millis());
}

#[test]
fn what_others_take_away_comes_back_and_no_container_is_restarted() {
    let town = Town::new();
    publishing(&town);
    let before = ["shop-web-1", "shop-api-1", "blog-app-1"].map(|name| (name, town.lab.running(name)));
    let bridge = town.here("ip -br link show type bridge | head -1 | cut -d' ' -f1");
    let (web, _) = town.addresses("shop-web-1");
    let port = || town.here("ip -br link | sed -n 's/^\\(lv[0-9a-f]*\\)@.*/\\1/p'");
    let works = |from: &str| ask(&town, from, "tcp", town::HOST[0], 8080).starts_with("web ");
    let inside = || ask(&town, "shop-api-1", "tcp", &web, 7000).starts_with("web ");
    let all = || works("outside") && works("blog-app-1") && inside();
    assert!(all());
    comes_back("nft flush ruleset", || drop(town.here("nft flush ruleset")), all);
    comes_back("ip link del BRIDGE", || drop(town.here(&format!("ip link del {bridge}"))), all);
    for link in port().lines() {
        comes_back("ip link del VETH", || drop(town.here(&format!("ip link del {link}"))), all);
    }
    comes_back("ip_forward=0", || drop(town.here("echo 0 > /proc/sys/net/ipv4/ip_forward")), all);
    comes_back(
        "ip link set BRIDGE down",
        || drop(town.here("for b in $(ip -br link show type bridge | cut -d' ' -f1); do ip link set $b down; done")),
        all,
    );
    comes_back(
        "ip addr flush dev BRIDGE",
        || {
            drop(
                town.here("for b in $(ip -br link show type bridge | cut -d' ' -f1); do ip -4 addr flush dev $b; done"),
            );
        },
        all,
    );
    let table = town.here("nft list tables | grep inet | cut -d' ' -f3");
    comes_back("nft delete table", || drop(town.here(&format!("nft delete table inet {table}"))), all);
    for (name, running) in &before {
        town.lab.still(name, running);
    }
    // Names and the other family, too.
    assert_eq!(town.inside("shop-api-1", "reach name 4 web"), web);
    assert!(ask(&town, "outside", "tcp", town::HOST[1], 8080).starts_with("web "));
    town.finish();
}

#[test]
fn tables_of_others_are_never_touched() {
    let town = Town::new();
    town.here("nft add table inet theirs; nft add chain inet theirs c; nft add rule inet theirs c counter; ip link add theirs0 type bridge");
    publishing(&town);
    let theirs = || town.here("nft list table inet theirs; ip -br link show theirs0 | cut -c1-20");
    let before = theirs();
    town.lab.remove("blog.yaml");
    town.lab.gone("blog-app-1");
    assert_eq!(theirs(), before);
    town.lab.remove("shop.yaml");
    town.lab.gone("shop-web-1");
    assert_eq!(theirs(), before);
    town.here("nft delete table inet theirs; ip link del theirs0");
    town.finish();
}

#[test]
fn the_daemon_finds_everything_again_and_a_restart_keeps_the_address() {
    let mut town = Town::new();
    publishing(&town);
    let before = town.lab.running("shop-web-1");
    let addresses = town.addresses("shop-web-1");
    town.lab.kill();
    // What runs is reached, also while nobody looks after it.
    assert!(ask(&town, "outside", "tcp", town::HOST[0], 8080).starts_with("web "));
    town.lab.start();
    town.lab.still("shop-web-1", &before);
    assert_eq!(town.inside("shop-api-1", "reach name 4 web"), addresses.0);
    // Another one in its place: killed, and started again by its policy.
    let web = town.server("web", &["restart: always", "ports: ['8080:7000']"]);
    town.lab.put("shop.yaml", &format!("{}{IPV6}", file(&[web, town.server("api", &[])])));
    let now = town.lab.replaced("shop-web-1", &before);
    assert_eq!(town.addresses("shop-web-1"), addresses, "a successor has another address");
    town.here(&format!("kill -9 {}", now.pid));
    town.lab.replaced("shop-web-1", &now);
    assert_eq!(town.addresses("shop-web-1"), addresses, "a restart changed the address");
    assert!(ask(&town, "outside", "tcp", town::HOST[0], 8080).starts_with("web "));
    town.finish();
}

#[test]
fn replicas_share_a_name_and_who_has_ended_has_none() {
    let town = Town::new();
    let web = town.server("web", &["scale: 3", "ports: ['8000-8010:7000']", "networks: {default: {aliases: [site]}}"]);
    town.lab.put("shop.yaml", &file(&[web, town.server("api", &["links: ['web:linked']"])]));
    let replicas = ["shop-web-1", "shop-web-2", "shop-web-3"];
    let running = replicas.map(|name| town.lab.running(name));
    let addresses = replicas.map(|name| town.addresses(name).0);
    let ask = |script: &str| town.inside("shop-api-1", script);
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let mut expected = addresses.to_vec();
    expected.sort();
    for name in ["web", "site", "linked", "WEB", "web.shop_default"] {
        assert_eq!(sorted(ask(&format!("reach name 4 {name}"))), expected, "{name}");
    }
    assert_eq!(ask("reach name 4 shop-web-2"), addresses[1]);
    assert_eq!(ask(&format!("reach name 4 {}", &running[1].id[..12])), addresses[1]);
    assert_eq!(ask("reach name 6 web"), "EMPTY");
    let first = |_| ask("reach name 4 web | head -1");
    let firsts: std::collections::BTreeSet<String> = (0..12).map(first).collect();
    assert_eq!(firsts.len(), 3, "the order does not change: {firsts:?}");
    let mut reversed: Vec<&str> = addresses[1].split('.').collect();
    reversed.reverse();
    assert_eq!(ask(&format!("reach name ptr {}.in-addr.arpa", reversed.join("."))), "shop-web-2.shop_default");
    assert_eq!(sorted(ask("reach name srv _7000._tcp.web")), replicas.map(|name| format!("{name}:7000")).to_vec());
    // Each has a port of its own of the range.
    for port in 8000..8003 {
        let seen = town.here(&format!("reach ask tcp 127.0.0.1 {port}"));
        assert!(seen.starts_with("web "), "{port}: {seen}");
    }
    town.here(&format!("kill -9 {}", running[1].pid));
    town.lab.wait_for("its end", |s| (lab::container(s, "shop-web-2")?["state"]["status"] == "exited").then_some(()));
    expected.retain(|address| *address != addresses[1]);
    assert_eq!(sorted(ask("reach name 4 web")), expected, "who has ended is still named");
    town.finish();
}

#[test]
fn a_network_is_shared_with_another_service() {
    let town = Town::new();
    let web = town.server("web", &["restart: always", "ports: ['8080:7000']"]);
    let side = town.service("side", "[work, sleep]", &["network_mode: 'service:web'"]);
    let other = town.service("other", "[work, sleep]", &["network_mode: 'container:shop-web-1'"]);
    town.lab.put("shop.yaml", &file(&[web, side, other]));
    let web = town.lab.running("shop-web-1");
    let side_before = town.lab.running("shop-side-1");
    town.lab.running("shop-other-1");
    for name in ["shop-side-1", "shop-other-1"] {
        assert!(town.inside(name, "reach ask tcp 127.0.0.1 7000").starts_with("web "));
        assert_eq!(
            town.inside(name, "cat /etc/resolv.conf /etc/hosts"),
            town.inside("shop-web-1", "cat /etc/resolv.conf /etc/hosts")
        );
    }
    // When it is started anew, who shares its network follows.
    town.here(&format!("kill -9 {}", web.pid));
    town.lab.replaced("shop-web-1", &web);
    let now = town.lab.replaced("shop-side-1", &side_before);
    town.lab.running("shop-other-1");
    assert_ne!(now.pid, side_before.pid);
    assert!(town.inside("shop-side-1", "reach ask tcp 127.0.0.1 7000").starts_with("web "));
    town.finish();
}

#[test]
fn an_external_network_joins_projects() {
    let town = Town::new();
    let networks = "networks:\n  common:\n    external: true\n";
    town.lab.put("blog.yaml", &format!("{}{networks}", file(&[town.server("app", &["networks: [common]"])])));
    let missing = town.lab.wait_for("the reason", |s| {
        let text = s.to_string();
        text.contains("common is external").then_some(text)
    });
    assert!(missing.contains("define"), "{missing}");
    let defined = "networks:\n  mine:\n    name: common\n";
    town.lab.put("shop.yaml", &format!("{}{defined}", file(&[town.server("web", &["networks: [mine]"])])));
    town.lab.running("shop-web-1");
    town.lab.running("blog-app-1");
    assert!(town.inside("blog-app-1", "reach ask tcp $(reach name 4 web) 7000").starts_with("web "));
    // The definition goes: who is joined stays joined.
    town.lab.remove("blog.yaml");
    town.lab.gone("blog-app-1");
    town.finish();
}

#[test]
fn a_changed_network_is_made_anew_and_its_containers_start_again() {
    let town = Town::new();
    let of = |more: &str| format!("{}networks:\n  default:\n    {more}\n", file(&[town.server("web", &[])]));
    town.lab.put("shop.yaml", &of("ipam: {config: [{subnet: 10.77.0.0/24, gateway: 10.77.0.254}]}"));
    let before = town.lab.running("shop-web-1");
    assert_eq!(town.addresses("shop-web-1").0, "10.77.0.1");
    assert_eq!(gateway(&town, "shop-web-1"), "10.77.0.254");
    // The same subnet, and something else: the old one has to go first.
    town.lab.put("shop.yaml", &of("{driver_opts: {com.docker.network.driver.mtu: '1400'}, ipam: {config: [{subnet: 10.77.0.0/24, gateway: 10.77.0.254}]}}"));
    let now = town.lab.replaced("shop-web-1", &before);
    assert_eq!(now.id, before.id, "it was made again");
    assert!(town.inside("shop-web-1", "ip link show eth0").contains("mtu 1400"));
    town.lab.put("shop.yaml", &of("ipam: {config: [{subnet: 10.78.0.0/24}]}"));
    town.lab.replaced("shop-web-1", &now);
    assert_eq!(town.addresses("shop-web-1").0, "10.78.0.2");
    town.finish();
}

#[test]
fn what_cannot_be_had_holds_one_service_and_says_why() {
    let town = Town::new();
    let foreign = town.here("ip link add busy0 type bridge; ip addr add 10.55.0.1/24 dev busy0; ip link set busy0 up; reach serve 9005 foreign >/dev/null 2>&1 & echo $!");
    let end = Instant::now() + Duration::from_secs(10);
    while !town.here("reach ask tcp 127.0.0.1 9005").starts_with("foreign ") {
        assert!(Instant::now() < end, "the server does not come");
    }
    let clash = town.server("clash", &["networks: [busy]"]);
    let taken = town.server("taken", &["ports: ['9005:7000']"]);
    let fine = town.server("fine", &["ports: ['9006:7000']"]);
    let networks = "networks:\n  busy:\n    ipam: {config: [{subnet: 10.55.0.0/16}]}\n";
    town.lab.put("shop.yaml", &format!("{}{networks}", file(&[clash, taken, fine])));
    town.lab
        .wait_for("the third", |s| (lab::container(s, "shop-fine-1")?["state"]["status"] == "running").then_some(()));
    let said = |words: &[&str]| {
        town.lab.wait_for(&format!("{words:?}"), |s| {
            let text = s.to_string();
            words.iter().all(|word| text.contains(word)).then_some(())
        });
    };
    said(&["10.55.0.0/16", "busy0"]);
    said(&["9005", "reach"]);
    // A port that another service has.
    town.lab.put("blog.yaml", &file(&[town.server("web", &["ports: ['9006:7000']"])]));
    said(&["9006", "shop-fine-1"]);
    assert!(town.here("reach ask tcp 127.0.0.1 9006").starts_with("fine "));
    // What is freed is taken.
    town.here(&format!("kill {foreign}"));
    town.here("ip link del busy0");
    town.lab.wait_for("the others", |s| (town::running(s, "shop") == 3).then_some(()));
    // The port is ours: nobody else gets it.
    let seen = town.here("timeout 2 reach serve 9005 x");
    assert!(seen.contains("bind: Address already in use"), "{seen}");
    town.finish();
}

/// Datagrams every 100 ms from one port; the answers go to a file.
struct Stream {
    pid: String,
    answers: std::path::PathBuf,
}

impl Stream {
    /// `shell` runs a script where they come from.
    fn new(town: &Town, shell: impl FnOnce(&str) -> String, to: (&str, u16), from: u16) -> Self {
        let answers = town.lab.dir.join(format!("stream-{from}"));
        let pid = shell(&format!("reach stream {} {} {from} >{} 2>&1 & echo $!", to.0, to.1, answers.display()));
        Self { pid, answers }
    }

    fn count(&self) -> usize {
        std::fs::read_to_string(&self.answers).unwrap_or_default().lines().count()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let pid = self.pid.parse().map(nix::unistd::Pid::from_raw).expect("a pid");
        let killed = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        assert!(killed.is_ok() || std::thread::panicking(), "it ended by itself");
    }
}

#[test]
fn udp_flows_that_began_without_rules_are_led_right_once_they_are_there() {
    const PORTS: [u16; 5] = [4000, 4001, 4002, 4003, 4004];
    let mut town = Town::new();
    let [v4, v6] = town::HOST;
    // Somebody else's rules, by which the kernel remembers flows while ours are missing.
    let counters: String = PORTS.iter().map(|port| format!("udp sport {port} ct state new counter\n")).collect();
    let theirs =
        format!("table inet theirs {{\n chain c {{\n type filter hook prerouting priority 0\n {counters} }}\n}}");
    town.here(&format!("nft -f - <<E\n{theirs}\nE"));
    let begun = |town: &Town, port: u16| {
        let end = Instant::now() + lab::LIMIT;
        let counter = || town.here(&format!("nft list table inet theirs | grep 'sport {port} '"));
        while !counter().contains("counter packets") || counter().contains("packets 0 ") {
            assert!(Instant::now() < end, "no datagram from {port}: {}", counter());
        }
    };
    // Before there is a container.
    let outside = |town: &Town, to: &str, from: u16| Stream::new(town, |script| town.outside(script), (to, 8080), from);
    let streams = [(v4, PORTS[0]), (v6, PORTS[1])].map(|(to, from)| outside(&town, to, from));
    PORTS[..2].iter().for_each(|port| begun(&town, *port));
    publishing(&town);
    comes_back("the container", || {}, || streams.iter().all(|stream| stream.count() > 0));
    // All rules are taken away while datagrams come.
    let counts = streams.each_ref().map(Stream::count);
    let flush = || drop(town.here(&format!("nft -f - <<E\nflush ruleset\n{theirs}\nE")));
    let flushed = Instant::now();
    comes_back("nft flush ruleset", flush, || {
        let back = town.here("nft list tables").contains("longshore");
        back && streams.iter().zip(&counts).all(|(stream, count)| stream.count() > count + 5)
    });
    assert!(flushed.elapsed() < Duration::from_secs(2), "it took {:?}", flushed.elapsed());
    // While nobody looks after the rules, also from inside.
    let web = town.lab.running("shop-web-1").pid;
    let world = town.outside("reach serve 9000 world >/dev/null 2>&1 & echo $!");
    town.lab.kill();
    town.here("nft list tables | grep longshore | while read line; do nft delete $line; done");
    let inside = |script: &str| town.here(&format!("nsenter -t {web} -n sh -c '{script}'"));
    let streams = [
        outside(&town, v4, PORTS[2]),
        outside(&town, v6, PORTS[3]),
        Stream::new(&town, inside, (town::OUTSIDE[0], 9000), PORTS[4]),
    ];
    PORTS[2..].iter().for_each(|port| begun(&town, *port));
    assert!(streams.iter().all(|stream| stream.count() == 0), "it works without rules");
    town.lab.start();
    comes_back("the daemon", || {}, || streams.iter().all(|stream| stream.count() > 0));
    drop(streams);
    town.here(&format!("kill {world}"));
    town.here("nft delete table inet theirs");
    town.finish();
}

/// The processes that carry ports on this machine.
fn carriers(town: &Town) -> Vec<String> {
    let all = town.here(
        "for p in $(grep -lx longshore-ports /proc/[0-9]*/comm 2>/dev/null | cut -d/ -f3); do [ \"$(readlink /proc/$p/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ] && echo $p; done",
    );
    all.lines().map(str::to_owned).collect()
}

#[test]
fn ports_are_carried_again_when_somebody_ends_who_carries_them() {
    let mut town = Town::with(&json!({"expose-default": "host-firewall"}));
    let web = town.server("web", &["restart: always", "ports: ['8080:7000', '8080:7000/udp', '127.0.0.1:8081:7000']"]);
    town.lab.put("shop.yaml", &file(&[web]));
    let before = town.lab.running("shop-web-1");
    let reached = |town: &Town| {
        ["tcp", "udp"].iter().all(|protocol| ask(town, "outside", protocol, town::HOST[0], 8080).starts_with("web "))
            && ask(town, "host", "tcp", "127.0.0.1", 8081).starts_with("web ")
    };
    assert!(reached(&town));
    let first = carriers(&town);
    assert_eq!(first.len(), 1);
    comes_back("who carries ports is killed", || drop(town.here(&format!("kill -9 {}", first[0]))), || reached(&town));
    let log = town.lab.log();
    for port in ["8080/tcp", "8080/udp", "127.0.0.1:8081/tcp"] {
        assert!(log.contains(&format!("put right: its port {port} is carried again")), "{port}: {log}");
    }
    let second = carriers(&town);
    assert!(second.len() == 1 && second != first, "{first:?}, {second:?}");
    town.lab.still("shop-web-1", &before);
    // It does not need the daemon.
    town.lab.kill();
    assert!(reached(&town));
    town.lab.start();
    assert!(reached(&town));
    assert_eq!(carriers(&town), second);
    // It ends with the container, whose next start has one of its own.
    town.here(&format!("kill -9 {}", before.pid));
    town.lab.replaced("shop-web-1", &before);
    assert!(reached(&town));
    let third = carriers(&town);
    assert!(third.len() == 1 && third != second, "{second:?}, {third:?}");
    town.here(&format!("kill -9 {}", third[0]));
    comes_back("who carries ports is killed again", || {}, || reached(&town));
    town.lab.remove("shop.yaml");
    town.lab.gone("shop-web-1");
    let end = Instant::now() + lab::LIMIT;
    while !carriers(&town).is_empty() {
        assert!(Instant::now() < end, "it outlives its container");
    }
    town.finish();
}

/// Whoever starts asks at once, and is answered; and of many that start and end together nobody is forgotten.
#[test]
fn of_many_at_once_each_has_its_name_its_rules_and_an_answer_to_its_first_question() {
    let town = Town::new();
    let ask = "[sh, -c, 'reach name 4 ask; exec work sleep']";
    let asks = town.service("ask", ask, &["scale: 24", "restart: 'no'", "stop_grace_period: 0s"]);
    let ends = town.service("ends", "['true']", &["scale: 24", "restart: 'no'"]);
    town.lab.put("shop.yaml", &file(&[asks, ends]));
    town.lab.wait_for("all", |s| (s["settled"] == true && town::running(s, "shop") == 24).then_some(()));
    for number in 1..=24 {
        let name = format!("shop-ask-{number}");
        let said = town.lab.says(&name, "\n");
        let first = said.lines().next().unwrap_or_default();
        assert!(first.starts_with("172."), "the first question of {name}: {said}");
        assert!(town.inside(&name, "reach name 4 ask").lines().count() == 24, "{name} does not know all");
    }
    let macs = town.here("nft list tables | sed -n 's/^table bridge //p' | xargs -I_ nft list set bridge _ macs");
    assert_eq!(macs.matches("\"lv").count(), 24, "{macs}");
    town.finish();
}

/// The routes of a VPN for everything are ways out, not places; and ranges that are blocked may lie within each other.
#[test]
fn a_way_out_in_two_halves_takes_no_subnet() {
    let blocked = json!({"networks": {"block": ["169.254.169.254", "169.254.0.0/16", "10.0.0.0/8", "10.1.0.0/16"]}});
    let town = Town::with(&blocked);
    town.here("ip route add 0.0.0.0/1 via 192.0.2.1; ip route add 128.0.0.0/1 via 192.0.2.1; ip route add 172.20.0.0/16 via 192.0.2.1");
    town.lab.put("shop.yaml", &file(&[town.server("web", &["ports: ['8080:7000']"])]));
    town.lab.running("shop-web-1");
    assert_eq!(town.addresses("shop-web-1").0, "172.21.0.2", "the subnet is one that a route has");
    assert!(ask(&town, "outside", "tcp", town::HOST[0], 8080).starts_with("web "));
    // A route that comes later is told.
    town.here("ip route add 172.21.0.0/25 via 192.0.2.1");
    town.lab.wait_for("a note", |s| s["notes"].to_string().contains("172.21.0.0/25").then_some(()));
    town.here("ip route del 172.20.0.0/16; ip route del 172.21.0.0/25");
    town.finish();
}

/// Networks that nothing happens to cost nothing.
#[test]
fn a_daemon_with_networks_idles() {
    let town = Town::new();
    let web = town.service("web", "[work, sleep]", &["ports: ['8080:80']", "stop_grace_period: 0s"]);
    town.lab.put("shop.yaml", &file(&[web]));
    town.lab.running("shop-web-1");
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", town.lab.daemon_pid())).unwrap();
        let fields: Vec<u64> = stat.rsplit(") ").next().unwrap().split(' ').map(|n| n.parse().unwrap_or(0)).collect();
        fields[11] + fields[12]
    };
    std::thread::sleep(Duration::from_secs(1));
    let before = (ticks(), town.lab.status()["revision"].as_u64());
    std::thread::sleep(Duration::from_secs(3));
    let after = (ticks(), town.lab.status()["revision"].as_u64());
    assert!(after.0 - before.0 < 20, "an idle daemon used {} ticks in 3 s", after.0 - before.0);
    assert_eq!(after.1, before.1, "something changes without end");
    town.finish();
}
