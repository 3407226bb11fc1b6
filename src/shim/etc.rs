//! `hosts`, `hostname` and `resolv.conf` of a container.

use std::fs;
use std::path::PathBuf;

use super::{ShimError, doing};
use crate::container::link::Order;
use crate::container::oci;
use crate::model::{ContainerSpec, Names, NetworkMode};

/// Writes them. On the host's network they are copies of the host's, with what the file adds.
pub(super) fn write(order: &Order, spec: &ContainerSpec, host_name: &str) -> Result<PathBuf, ShimError> {
    let etc = order.folder.join("etc");
    fs::create_dir_all(&etc).map_err(doing("making the container's etc"))?;
    let name = oci::host_name(spec, host_name);
    let names = &spec.service.names;
    let (hosts, resolv) = match &spec.service.network {
        NetworkMode::Host => (host_file("/etc/hosts"), host_file("/etc/resolv.conf")),
        _ => {
            let full = names.domain.as_ref().map_or_else(String::new, |domain| format!("{name}.{domain} "));
            let hosts = format!("127.0.0.1\tlocalhost {full}{name}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
            (hosts, String::new())
        }
    };
    let hosts = add_hosts(hosts, names, &spec.service.network).map_err(ShimError::Runtime)?;
    let write = |file: &str, text: &str| fs::write(etc.join(file), text).map_err(doing("writing the container's etc"));
    write("hosts", &hosts)?;
    write("resolv.conf", &change_resolv(&resolv, names))?;
    write("hostname", &format!("{name}\n"))?;
    Ok(etc)
}

fn host_file(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn add_hosts(mut text: String, names: &Names, network: &NetworkMode) -> Result<String, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (name, address) in &names.hosts {
        let address = match (address.as_str(), network) {
            ("host-gateway", NetworkMode::Host) => "127.0.0.1",
            ("host-gateway", _) => {
                return Err(format!(
                    "extra_hosts: {name}: host-gateway: a container without a network does not reach the host; \
                     give an address, or network_mode: host"
                ));
            }
            (address, _) => address,
        };
        text.push_str(&format!("{address}\t{name}\n"));
    }
    Ok(text)
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
    fn names_are_added_to_hosts() {
        let hosts = |address: &str| Names { hosts: vec![("db".into(), address.into())], ..Names::default() };
        let add = |address, network: &NetworkMode| add_hosts("127.0.0.1\tx".into(), &hosts(address), network);
        assert_eq!(add("10.0.0.7", &NetworkMode::None), Ok("127.0.0.1\tx\n10.0.0.7\tdb\n".into()));
        assert_eq!(add("host-gateway", &NetworkMode::Host), Ok("127.0.0.1\tx\n127.0.0.1\tdb\n".into()));
        assert!(add("host-gateway", &NetworkMode::None).is_err_and(|e| e.contains("host-gateway")));
    }
}
