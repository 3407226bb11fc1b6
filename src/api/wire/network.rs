//! Networks, links and ports.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Attachment, Driver, Exposure, IpvlanMode, MacvlanMode, Published};
use crate::reconcile::view::{MemberView, NetworkView, PortView};

/// A network that is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Network {
    /// Its id: 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan` or `ipvlan`.
    pub driver: String,
    /// `macvlan_mode` or `ipvlan_mode`.
    pub mode: Option<String>,
    /// Whether nothing outside is reached.
    pub internal: bool,
    /// Its subnets: IPv4 first.
    pub subnets: Vec<String>,
    /// Its gateways.
    pub gateways: Vec<String>,
    /// The bridge, or the parent, on the host.
    pub interface: Option<String>,
    /// The MTU that its file asks for.
    pub mtu: Option<u32>,
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// What is wrong with it; null: it is up.
    pub broken: Option<String>,
    /// Containers that run on it.
    pub containers: Vec<Member>,
}

/// A container on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its addresses, with the length of the prefix.
    pub addresses: Vec<String>,
    /// Its MAC address.
    pub mac: Option<String>,
}

/// A link of a container to a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkLink {
    /// The network's name.
    pub network: String,
    /// The interface's name inside.
    pub interface: String,
    /// Its addresses, with the length of the prefix.
    pub addresses: Vec<String>,
    /// The default gateways, where the way out is through this link.
    pub gateways: Vec<String>,
    /// Its MAC address.
    pub mac: Option<String>,
    /// Its MTU.
    pub mtu: u32,
}

/// A port of the host that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublishedPort {
    /// On which address of the host; null: on all.
    pub address: Option<String>,
    /// The host's port; null: one that is free, once the container runs.
    pub port: Option<u16>,
    /// The last of the host's ports of which it gets one that is free.
    pub last_port: Option<u16>,
    /// The container's port.
    pub target: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Whether other machines can reach it, as far as this machine decides.
    pub outside: bool,
    /// From where it can be reached, in words.
    pub reach: String,
}

/// The ports of a service that is still to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedPorts {
    /// The service: `project/service`.
    pub service: String,
    /// What it will publish.
    pub ports: Vec<PublishedPort>,
}

fn words<T: ToString>(all: &[T]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

impl From<&NetworkView> for Network {
    fn from(view: &NetworkView) -> Self {
        let (driver, mode) = driver(&view.network.driver);
        Self {
            id: view.id.to_string(),
            name: view.network.name.to_string(),
            driver: driver.to_owned(),
            mode: mode.map(str::to_owned),
            internal: view.network.internal,
            subnets: words(&view.subnets),
            gateways: words(&view.gateways),
            interface: view.interface.clone(),
            mtu: view.network.mtu,
            labels: view.network.labels.clone(),
            broken: view.broken.clone(),
            containers: view.members.iter().map(Member::from).collect(),
        }
    }
}

const fn driver(driver: &Driver) -> (&'static str, Option<&'static str>) {
    match driver {
        Driver::Bridge => ("bridge", None),
        Driver::Macvlan { mode, .. } => (
            "macvlan",
            Some(match mode {
                MacvlanMode::Bridge => "bridge",
                MacvlanMode::Vepa => "vepa",
                MacvlanMode::Private => "private",
                MacvlanMode::Passthru => "passthru",
            }),
        ),
        Driver::Ipvlan { mode, .. } => (
            "ipvlan",
            Some(match mode {
                IpvlanMode::L2 => "l2",
                IpvlanMode::L3 => "l3",
                IpvlanMode::L3s => "l3s",
            }),
        ),
    }
}

impl From<&MemberView> for Member {
    fn from(view: &MemberView) -> Self {
        Self {
            id: view.id.to_string(),
            name: view.name.to_string(),
            addresses: words(&view.addresses),
            mac: view.mac.map(|mac| mac.to_string()),
        }
    }
}

impl From<&Attachment> for NetworkLink {
    fn from(link: &Attachment) -> Self {
        Self {
            network: link.name.to_string(),
            interface: link.interface.clone(),
            addresses: words(&link.addresses),
            gateways: words(&link.gateways),
            mac: link.mac.map(|mac| mac.to_string()),
            mtu: link.mtu,
        }
    }
}

impl From<&Published> for PublishedPort {
    fn from(port: &Published) -> Self {
        Self {
            address: port.address.map(|address| address.to_string()),
            port: Some(port.port),
            last_port: None,
            target: port.target,
            protocol: port.protocol.name().to_owned(),
            outside: port.outside(),
            reach: reach(port.outside(), port.address, port.exposure),
        }
    }
}

impl From<&PortView> for PublishedPort {
    fn from(port: &PortView) -> Self {
        Self {
            address: port.address.map(|address| address.to_string()),
            port: port.host.map(|(first, _)| first),
            last_port: port.host.filter(|(first, last)| first != last).map(|(_, last)| last),
            target: port.target,
            protocol: port.protocol.name().to_owned(),
            outside: port.outside(),
            reach: reach(port.outside(), port.address, port.exposure),
        }
    }
}

/// From where a port can be reached, in words.
fn reach(outside: bool, address: Option<IpAddr>, exposure: Exposure) -> String {
    let at = address.filter(|address| !address.is_unspecified()).map_or_else(String::new, |a| format!(" at {a}"));
    match (outside, exposure) {
        (false, _) => "from this machine only".to_owned(),
        (true, Exposure::HostFirewall) => format!("from other machines{at} as far as the host's input rules allow"),
        (true, Exposure::All | Exposure::Loopback) => format!("from other machines{at}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    #[test]
    fn who_reaches_a_port_is_said() {
        let port = |address: Option<&str>, exposure| {
            let address = address.map(|text| text.parse().unwrap());
            let port = Published { address, port: 8080, target: 80, protocol: Protocol::Tcp, exposure };
            let port = PublishedPort::from(&port);
            (port.outside, port.reach)
        };
        let said = |outside: bool, words: &str| (outside, words.to_owned());
        assert_eq!(port(None, Exposure::All), said(true, "from other machines"));
        assert_eq!(port(None, Exposure::Loopback), said(false, "from this machine only"));
        assert_eq!(port(Some("127.0.0.1"), Exposure::All), said(false, "from this machine only"));
        assert_eq!(port(Some("0.0.0.0"), Exposure::All), said(true, "from other machines"));
        assert_eq!(
            port(Some("192.0.2.7"), Exposure::HostFirewall),
            said(true, "from other machines at 192.0.2.7 as far as the host's input rules allow")
        );
    }
}
