//! What a container asks of networks, as a part of its record.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{RecordError, is_default, valid};
use crate::model::{
    ContainerName, Exposed, Join, Location, Mac, Membership, NetworkMode, NetworkName, Port, Protocol, ServiceLink,
    ServiceName,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum NetworkRecord {
    None,
    Host,
    Networks(MembershipRecord),
    Service(String),
    Container(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MembershipRecord {
    joins: Vec<JoinRecord>,
    #[serde(default, skip_serializing_if = "is_default")]
    ports: Vec<PortRecord>,
    /// The files that ports stand in, by number: mostly one.
    #[serde(default, skip_serializing_if = "is_default")]
    files: Vec<PathBuf>,
    /// Target, alias.
    #[serde(default, skip_serializing_if = "is_default")]
    links: Vec<(String, String)>,
    /// Port, protocol.
    #[serde(default, skip_serializing_if = "is_default")]
    expose: Vec<(u16, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct JoinRecord {
    network: String,
    #[serde(default, skip_serializing_if = "is_default")]
    aliases: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    ipv4: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "is_default")]
    ipv6: Option<Ipv6Addr>,
    #[serde(default, skip_serializing_if = "is_default")]
    link_local: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "is_default")]
    mac: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    interface: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    gateway_priority: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PortRecord {
    #[serde(default, skip_serializing_if = "is_default")]
    address: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "is_default")]
    host: Option<(u16, u16)>,
    target: u16,
    protocol: String,
    #[serde(default, skip_serializing_if = "is_default")]
    name: Option<String>,
    /// Number of the file, line, column.
    at: (usize, u32, u32),
}

impl From<&NetworkMode> for NetworkRecord {
    fn from(mode: &NetworkMode) -> Self {
        match mode {
            NetworkMode::None => Self::None,
            NetworkMode::Host => Self::Host,
            NetworkMode::Networks(membership) => Self::Networks(MembershipRecord::from(&**membership)),
            NetworkMode::Service(name) => Self::Service(name.to_string()),
            NetworkMode::Container(name) => Self::Container(name.to_string()),
        }
    }
}

impl NetworkRecord {
    pub(super) fn to_model(&self) -> Result<NetworkMode, RecordError> {
        Ok(match self {
            Self::None => NetworkMode::None,
            Self::Host => NetworkMode::Host,
            Self::Networks(membership) => NetworkMode::Networks(Box::new(membership.to_model()?)),
            Self::Service(name) => NetworkMode::Service(valid("service", name, |t| ServiceName::parse(t).ok())?),
            Self::Container(name) => {
                NetworkMode::Container(valid("container name", name, |t| ContainerName::parse(t).ok())?)
            }
        })
    }
}

impl From<&Membership> for MembershipRecord {
    fn from(membership: &Membership) -> Self {
        let Membership { joins, ports, links, expose } = membership;
        let mut files = Vec::new();
        let mut numbers: BTreeMap<&PathBuf, usize> = BTreeMap::new();
        let mut number = |file| {
            *numbers.entry(file).or_insert_with(|| {
                files.push(file.clone());
                files.len() - 1
            })
        };
        let ports = ports.iter().map(|port| port_record(port, number(&port.location.file))).collect();
        Self {
            joins: joins.iter().map(JoinRecord::from).collect(),
            ports,
            files,
            links: links.iter().map(|link| (link.target.clone(), link.alias.clone())).collect(),
            expose: expose.iter().map(|one| (one.port, one.protocol.name().to_owned())).collect(),
        }
    }
}

fn port_record(port: &Port, file: usize) -> PortRecord {
    let Port { address, host, target, protocol, name, location } = port;
    PortRecord {
        address: *address,
        host: *host,
        target: *target,
        protocol: protocol.name().to_owned(),
        name: name.clone(),
        at: (file, location.line, location.column),
    }
}

impl MembershipRecord {
    fn to_model(&self) -> Result<Membership, RecordError> {
        let port = |port: &PortRecord| {
            let (file, line, column) = port.at;
            let file = self.files.get(file).cloned().unwrap_or_default();
            Ok(Port {
                address: port.address,
                host: port.host,
                target: port.target,
                protocol: protocol(&port.protocol)?,
                name: port.name.clone(),
                location: Location { file, line, column },
            })
        };
        let exposed = |(port, named): &(u16, String)| Ok(Exposed { port: *port, protocol: protocol(named)? });
        let link = |(target, alias): &(String, String)| ServiceLink { target: target.clone(), alias: alias.clone() };
        Ok(Membership {
            joins: self.joins.iter().map(JoinRecord::to_model).collect::<Result<_, RecordError>>()?,
            ports: self.ports.iter().map(port).collect::<Result<_, RecordError>>()?,
            links: self.links.iter().map(link).collect(),
            expose: self.expose.iter().map(exposed).collect::<Result<_, RecordError>>()?,
        })
    }
}

impl From<&Join> for JoinRecord {
    fn from(join: &Join) -> Self {
        let Join { network, aliases, ipv4, ipv6, link_local, mac, interface, gateway_priority } = join;
        Self {
            network: network.to_string(),
            aliases: aliases.clone(),
            ipv4: *ipv4,
            ipv6: *ipv6,
            link_local: link_local.clone(),
            mac: mac.map(|mac| mac.to_string()),
            interface: interface.clone(),
            gateway_priority: *gateway_priority,
        }
    }
}

impl JoinRecord {
    fn to_model(&self) -> Result<Join, RecordError> {
        Ok(Join {
            network: network_name(&self.network)?,
            aliases: self.aliases.clone(),
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            link_local: self.link_local.clone(),
            mac: self.mac.as_deref().map(mac).transpose()?,
            interface: self.interface.clone(),
            gateway_priority: self.gateway_priority,
        })
    }
}

pub(super) fn network_name(text: &str) -> Result<NetworkName, RecordError> {
    valid("network name", text, |t| NetworkName::parse(t).ok())
}

pub(super) fn mac(text: &str) -> Result<Mac, RecordError> {
    valid("MAC address", text, Mac::parse)
}

pub(super) fn protocol(text: &str) -> Result<Protocol, RecordError> {
    valid("protocol", text, Protocol::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_comes_back_from_its_record() {
        let network = |name: &str| NetworkName::parse(name).expect("a name");
        let plain = Join {
            network: network("shop_default"),
            aliases: Vec::new(),
            ipv4: None,
            ipv6: None,
            link_local: Vec::new(),
            mac: None,
            interface: None,
            gateway_priority: 0,
        };
        let full = Join {
            network: network("shop_back"),
            aliases: vec!["db".into()],
            ipv4: Some(Ipv4Addr::new(10, 5, 0, 9)),
            ipv6: Some(Ipv6Addr::LOCALHOST),
            link_local: vec!["169.254.3.4".parse().expect("an address")],
            mac: Mac::parse("02:42:ac:11:00:02"),
            interface: Some("back0".into()),
            gateway_priority: -3,
        };
        let port = |address: Option<&str>, host, file: &str| Port {
            address: address.map(|text| text.parse().expect("an address")),
            host,
            target: 80,
            protocol: Protocol::Udp,
            name: Some("web".into()),
            location: Location::at(file, 7, 9),
        };
        let membership = Membership {
            joins: vec![plain.clone(), full],
            ports: vec![
                port(Some("::1"), Some((8000, 8010)), "shop.yaml"),
                port(None, None, "shop.yaml"),
                port(None, None, "b.yaml"),
            ],
            links: vec![ServiceLink { target: "db".into(), alias: "store".into() }],
            expose: vec![Exposed { port: 9, protocol: Protocol::Sctp }],
        };
        let bare = Membership { joins: vec![plain], ..Membership::default() };
        for (mode, start) in [
            (NetworkMode::None, "\"none\""),
            (NetworkMode::Host, "\"host\""),
            (NetworkMode::Service(ServiceName::parse("db").expect("a name")), r#"{"service":"db"}"#),
            (NetworkMode::Container(ContainerName::parse("x-db-1").expect("a name")), r#"{"container":"x-db-1"}"#),
            (NetworkMode::Networks(Box::new(bare)), r#"{"networks":{"joins":[{"network":"shop_default"}]}}"#),
            (NetworkMode::Networks(Box::new(membership)), r#"{"networks":{"#),
        ] {
            let json = serde_json::to_string(&NetworkRecord::from(&mode)).expect("JSON");
            assert!(json.starts_with(start), "{json}");
            let back: NetworkRecord = serde_json::from_str(&json).expect("a record");
            assert_eq!(back.to_model().expect("valid"), mode);
        }
    }

    #[test]
    fn values_that_are_none_are_refused() {
        for json in [
            r#"{"networks":{"joins":[{"network":"../x"}]}}"#,
            r#"{"networks":{"joins":[{"network":"x","mac":"01:00:00:00:00:00"}]}}"#,
            r#"{"networks":{"joins":[],"ports":[{"target":80,"protocol":"icmp","at":[0,0,0]}]}}"#,
            r#"{"service":"../x"}"#,
        ] {
            let record: NetworkRecord = serde_json::from_str(json).expect(json);
            assert!(matches!(record.to_model(), Err(RecordError::Value { .. })), "{json}");
        }
    }
}
