//! Published ports as Docker writes them: `0.0.0.0:8080->80/tcp`, ranges in one.

use crate::api::wire::{Container, PublishedPort};

/// The ports of a container that runs. A port on all addresses is written for both families where the container has both.
pub(super) fn of_container(container: &Container) -> String {
    let addresses = || container.networks.iter().flat_map(|link| &link.addresses);
    let ipv6 = addresses().any(|address| address.contains(':'));
    let ipv4 = !ipv6 || addresses().any(|address| !address.contains(':'));
    let mut all = Vec::new();
    for port in &container.ports {
        for address in hosts(port, ipv4, ipv6) {
            all.push((address, port.clone()));
        }
    }
    written(all)
}

/// The ports that a service is to have.
pub(super) fn planned(ports: &[PublishedPort]) -> String {
    written(ports.iter().flat_map(|port| hosts(port, true, false).into_iter().map(|h| (h, port.clone()))).collect())
}

fn hosts(port: &PublishedPort, ipv4: bool, ipv6: bool) -> Vec<String> {
    let any = |on: bool, outside: &str, inside: &str| {
        on.then(|| if port.outside { outside.to_owned() } else { inside.to_owned() })
    };
    match &port.address {
        Some(address) if address.contains(':') => vec![format!("[{address}]")],
        Some(address) => vec![address.clone()],
        None => any(ipv4, "0.0.0.0", "127.0.0.1").into_iter().chain(any(ipv6, "[::]", "[::1]")).collect(),
    }
}

/// Ports that follow each other on both sides are one range.
fn written(mut all: Vec<(String, PublishedPort)>) -> String {
    all.sort_by(|(a, x), (b, y)| {
        (a.starts_with('['), a, &x.protocol, x.port, x.target).cmp(&(
            b.starts_with('['),
            b,
            &y.protocol,
            y.port,
            y.target,
        ))
    });
    let mut ranges: Vec<(String, PublishedPort, u16)> = Vec::new();
    for (host, port) in all {
        if let Some((before, first, more)) = ranges.last_mut()
            && *before == host
            && follows(first, *more, &port)
        {
            *more += 1;
        } else {
            ranges.push((host, port, 0));
        }
    }
    ranges.iter().map(|(host, port, more)| one(host, port, *more)).collect::<Vec<_>>().join(", ")
}

fn follows(first: &PublishedPort, more: u16, next: &PublishedPort) -> bool {
    let step = |port: u16| port.checked_add(more).and_then(|port| port.checked_add(1));
    let single = first.last_port.is_none() && next.last_port.is_none() && first.port.is_some();
    single
        && first.protocol == next.protocol
        && next.port == first.port.and_then(step)
        && Some(next.target) == step(first.target)
}

fn one(host: &str, port: &PublishedPort, more: u16) -> String {
    let range =
        |first: u16| if more == 0 { first.to_string() } else { format!("{first}-{}", first.saturating_add(more)) };
    let published = match (port.port, port.last_port) {
        (None, _) => "(any)".to_owned(),
        (Some(first), Some(last)) => format!("(one of {first}-{last})"),
        (Some(first), None) => range(first),
    };
    format!("{host}:{published}->{}/{}", range(port.target), port.protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(address: Option<&str>, port: u16, target: u16, protocol: &str) -> PublishedPort {
        PublishedPort {
            address: address.map(str::to_owned),
            port: Some(port),
            last_port: None,
            target,
            protocol: protocol.to_owned(),
            outside: true,
            reach: String::new(),
        }
    }

    #[test]
    fn ports_are_written_as_docker_writes_them() {
        assert_eq!(planned(&[port(None, 8080, 80, "tcp")]), "0.0.0.0:8080->80/tcp");
        assert_eq!(planned(&[port(Some("::1"), 53, 53, "udp")]), "[::1]:53->53/udp");
        let range: Vec<_> = (0..3).map(|n| port(None, 8000 + n, 9000 + n, "tcp")).collect();
        assert_eq!(planned(&range), "0.0.0.0:8000-8002->9000-9002/tcp");
        let apart = [port(None, 8000, 80, "tcp"), port(None, 8001, 80, "tcp"), port(None, 8001, 81, "udp")];
        assert_eq!(planned(&apart), "0.0.0.0:8000->80/tcp, 0.0.0.0:8001->80/tcp, 0.0.0.0:8001->81/udp");
        let inside = PublishedPort { outside: false, ..port(None, 8080, 80, "tcp") };
        assert_eq!(planned(&[inside]), "127.0.0.1:8080->80/tcp");
        let free = PublishedPort { port: None, ..port(None, 0, 80, "tcp") };
        let some = PublishedPort { last_port: Some(9010), ..port(None, 9000, 80, "tcp") };
        assert_eq!(planned(&[free, some]), "0.0.0.0:(any)->80/tcp, 0.0.0.0:(one of 9000-9010)->80/tcp");
        assert_eq!(planned(&[port(None, 65535, 65535, "tcp"), port(None, 0, 0, "tcp")]).matches("->").count(), 2);
    }
}
