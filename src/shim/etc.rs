//! `hosts`, `hostname` and `resolv.conf` of a container.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{ShimError, doing};
use crate::container::link::Order;
use crate::container::oci;
use crate::model::{Attachment, ContainerSpec, Names, NetworkMode};
use crate::network::dns;

const LOCAL: &str = "::1\tlocalhost ip6-localhost ip6-loopback\n";

/// Writes them. On a network that it shares they are copies of those there, with what the file adds.
pub(super) fn write(
    order: &Order,
    spec: &ContainerSpec,
    links: &[Attachment],
    outer_name: &str,
) -> Result<PathBuf, ShimError> {
    let etc = order.folder.join("etc");
    fs::create_dir_all(&etc).map_err(doing("making the container's etc"))?;
    let name = oci::host_name(spec, outer_name);
    let names = &spec.service.names;
    let network = &spec.service.network;
    let others = match network {
        NetworkMode::Host => Some(Path::new("/etc")),
        NetworkMode::Service(_) | NetworkMode::Container(_) => order.network.etc.as_deref(),
        NetworkMode::None | NetworkMode::Networks(_) => None,
    };
    let hosts = others.map_or_else(|| own_hosts(name, names.domain.as_deref(), links), |etc| text(&etc.join("hosts")));
    let hosts = add_hosts(hosts, names, network, order.network.host_gateway).map_err(ShimError::Runtime)?;
    let resolv = match others {
        Some(etc) => change_resolv(&text(&etc.join("resolv.conf")), names),
        None if order.network.resolver => own_resolv(&text(Path::new("/etc/resolv.conf")), names),
        None => change_resolv("", names),
    };
    let write = |file: &str, text: &str| fs::write(etc.join(file), text).map_err(doing("writing the container's etc"));
    write("hosts", &hosts)?;
    write("resolv.conf", &resolv)?;
    write("hostname", &format!("{name}\n"))?;
    Ok(etc)
}

fn text(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Its own name stands for its addresses, those of the first network first; without any, for itself.
fn own_hosts(name: &str, domain: Option<&str>, links: &[Attachment]) -> String {
    let names = domain.map_or_else(|| name.to_owned(), |domain| format!("{name}.{domain} {name}"));
    if links.is_empty() {
        return format!("127.0.0.1\tlocalhost {names}\n{LOCAL}");
    }
    let mut text = format!("127.0.0.1\tlocalhost\n{LOCAL}");
    for link in links {
        let (v4, v6) = (link.ipv4().map(IpAddr::V4), link.ipv6().map(IpAddr::V6));
        for address in v4.into_iter().chain(v6) {
            text.push_str(&format!("{address}\t{names}\n"));
        }
    }
    text
}

fn add_hosts(
    mut text: String,
    names: &Names,
    network: &NetworkMode,
    gateway: Option<IpAddr>,
) -> Result<String, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (name, address) in &names.hosts {
        let address = match (address.as_str(), network, gateway) {
            ("host-gateway", NetworkMode::Host, _) => "127.0.0.1".to_owned(),
            ("host-gateway", _, Some(gateway)) => gateway.to_string(),
            ("host-gateway", _, None) => {
                return Err(format!(
                    "extra_hosts: {name}: host-gateway: this container's network does not lead to the host; \
                     give an address, or another network"
                ));
            }
            (address, _, _) => address.to_owned(),
        };
        text.push_str(&format!("{address}\t{name}\n"));
    }
    Ok(text)
}

/// Our resolver knows the containers' names and asks the others by itself (also those of `dns`). Where to search comes from the host,
/// unless the file says.
fn own_resolv(host: &str, names: &Names) -> String {
    // The last line of a kind counts; `domain` is a search with one place.
    let of_host = |kinds: &[&str]| -> Vec<String> {
        let mut lines = host.lines().rev().map(|line| line.split_ascii_whitespace().map(str::to_owned));
        let found =
            lines.find_map(|mut words| words.next().filter(|word| kinds.contains(&word.as_str())).map(|_| words));
        found.into_iter().flatten().collect()
    };
    let search = if names.search.is_empty() { of_host(&["search", "domain"]) } else { names.search.clone() };
    let mut options = if names.options.is_empty() { of_host(&["options"]) } else { names.options.clone() };
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        // Names of containers have no dots: they are asked for as they are at first.
        options.push("ndots:0".to_owned());
    }
    let names = Names { servers: vec![dns::ADDRESS.to_string()], search, options, ..Names::default() };
    change_resolv("", &names)
}

/// Each kind of line that the file gives takes the place of the host's.
fn change_resolv(text: &str, names: &Names) -> String {
    let given = [
        ("nameserver", !names.servers.is_empty()),
        ("search", !names.search.is_empty()),
        ("domain", !names.search.is_empty()),
        ("options", !names.options.is_empty()),
    ];
    let ours = |line: &str| {
        let word = line.split_ascii_whitespace().next().unwrap_or("");
        given.iter().any(|(name, given)| *given && *name == word)
    };
    let mut lines: Vec<String> = text.lines().filter(|line| !ours(line)).map(str::to_owned).collect();
    lines.extend(names.servers.iter().map(|server| format!("nameserver {server}")));
    // A single dot means: none.
    let search: Vec<&str> = names.search.iter().map(String::as_str).filter(|domain| *domain != ".").collect();
    if !search.is_empty() {
        lines.push(format!("search {}", search.join(" ")));
    }
    if !names.options.is_empty() {
        lines.push(format!("options {}", names.options.join(" ")));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cidr, Link, NetworkId, NetworkName};

    #[test]
    fn what_the_file_gives_takes_the_place_of_the_hosts() {
        let texts = |t: &[&str]| t.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let host = "# by hand\nnameserver 10.0.0.1\nsearch lan\noptions ndots:1";
        assert_eq!(change_resolv(host, &Names::default()), format!("{host}\n"));
        let names = Names { servers: texts(&["1.1.1.1", "::1"]), search: texts(&["."]), ..Names::default() };
        assert_eq!(change_resolv(host, &names), "# by hand\noptions ndots:1\nnameserver 1.1.1.1\nnameserver ::1\n");
        let names = Names { search: texts(&["a", "b"]), options: texts(&["ndots:5"]), ..Names::default() };
        assert_eq!(change_resolv("", &names), "search a b\noptions ndots:5\n");
    }

    #[test]
    fn on_networks_our_resolver_is_asked() {
        let host = "# by hand\nnameserver 10.0.0.1\ndomain old\nsearch lan home\noptions edns0 trust-ad\n";
        let own = |names: Names| own_resolv(host, &names);
        let ours = "nameserver 127.0.0.11\n";
        let texts = |t: &[&str]| t.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!(own(Names::default()), format!("{ours}search lan home\noptions edns0 trust-ad ndots:0\n"));
        let names = Names {
            servers: texts(&["1.1.1.1"]),
            search: texts(&["."]),
            options: texts(&["ndots:5"]),
            ..Names::default()
        };
        assert_eq!(own(names), format!("{ours}options ndots:5\n"));
        assert_eq!(own_resolv("", &Names::default()), format!("{ours}options ndots:0\n"));
    }

    #[test]
    fn names_are_added_to_hosts() {
        let hosts = |address: &str| Names { hosts: vec![("db".into(), address.into())], ..Names::default() };
        let gateway = "10.9.0.1".parse().ok();
        let add = |address, network: &NetworkMode, gateway| {
            add_hosts("127.0.0.1\tx".into(), &hosts(address), network, gateway)
        };
        assert_eq!(add("10.0.0.7", &NetworkMode::None, None), Ok("127.0.0.1\tx\n10.0.0.7\tdb\n".into()));
        assert_eq!(add("host-gateway", &NetworkMode::Host, gateway), Ok("127.0.0.1\tx\n127.0.0.1\tdb\n".into()));
        assert_eq!(add("host-gateway", &NetworkMode::None, gateway), Ok("127.0.0.1\tx\n10.9.0.1\tdb\n".into()));
        assert!(add("host-gateway", &NetworkMode::None, None).is_err_and(|e| e.contains("host-gateway")));
    }

    #[test]
    fn its_name_stands_for_its_addresses() {
        let link = |addresses: &[&str]| Attachment {
            network: NetworkId::from_hex(&"a".repeat(64)).expect("an id"),
            name: NetworkName::parse("shop_default").expect("a name"),
            link: Link::Bridge { bridge: "b".into(), port: "p".into() },
            interface: "eth0".into(),
            mac: None,
            addresses: addresses.iter().filter_map(|text| Cidr::parse(text)).collect(),
            gateways: Vec::new(),
            mtu: 1500,
            internal: false,
        };
        let links = [link(&["10.9.0.2/24", "fd00::2/64", "169.254.7.7/16"]), link(&["10.8.0.2/24"])];
        let local = format!("127.0.0.1\tlocalhost\n{LOCAL}");
        let own = "10.9.0.2\tweb.lan web\nfd00::2\tweb.lan web\n10.8.0.2\tweb.lan web\n";
        assert_eq!(own_hosts("web", Some("lan"), &links), format!("{local}{own}"));
        assert_eq!(own_hosts("web", None, &[]), format!("127.0.0.1\tlocalhost web\n{LOCAL}"));
    }
}
