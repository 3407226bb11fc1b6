//! `network.json`: what a container was joined to at its last start. Written before it starts, it is the lease of its addresses.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::membership::{mac, network_name, protocol};
use super::{RecordError, is_default, valid};
use crate::container::link::ProcessRecord;
use crate::model::{
    Attached, Attachment, Cidr, ContainerId, Exposure, IpvlanMode, Link, MacvlanMode, NetworkId, Published, Turn,
};

/// `network.json`. The first field of every version is `v`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AttachedRecord {
    v: u32,
    links: Vec<AttachmentRecord>,
    #[serde(default, skip_serializing_if = "is_default")]
    published: Vec<PublishedRecord>,
    #[serde(default, skip_serializing_if = "is_default")]
    shared: Option<(String, ProcessRecord)>,
    #[serde(default, skip_serializing_if = "is_default")]
    turn: TurnRecord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TurnRecord {
    Standby,
    Number(u64),
}

impl Default for TurnRecord {
    fn default() -> Self {
        Self::Number(0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AttachmentRecord {
    network: String,
    name: String,
    link: LinkRecord,
    interface: String,
    #[serde(default, skip_serializing_if = "is_default")]
    mac: Option<String>,
    addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    gateways: Vec<IpAddr>,
    mtu: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    internal: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LinkRecord {
    Bridge { bridge: String, port: String },
    Macvlan { parent: String, mode: MacvlanRecord },
    Ipvlan { parent: String, mode: IpvlanRecord },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MacvlanRecord {
    Bridge,
    Vepa,
    Private,
    Passthru,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IpvlanRecord {
    L2,
    L3,
    L3s,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PublishedRecord {
    #[serde(default, skip_serializing_if = "is_default")]
    address: Option<IpAddr>,
    port: u16,
    target: u16,
    protocol: String,
    exposure: ExposureRecord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ExposureRecord {
    All,
    Loopback,
    HostFirewall,
}

/// The version of `network.json` that is written.
const VERSION: u32 = 1;

/// Reads `network.json`.
pub fn parse(json: &[u8]) -> Result<Attached, RecordError> {
    /// Read by itself: a later version may have other fields.
    #[derive(Deserialize)]
    struct Head {
        v: u32,
    }
    let head: Head = serde_json::from_slice(json).map_err(RecordError::Json)?;
    if head.v != VERSION {
        return Err(RecordError::Version(head.v));
    }
    let record: AttachedRecord = serde_json::from_slice(json).map_err(RecordError::Json)?;
    record.to_model()
}

/// `network.json` for what a container got.
#[must_use]
pub fn to_json(attached: &Attached) -> Vec<u8> {
    // Text, numbers and lists of them are always JSON.
    serde_json::to_vec(&AttachedRecord::from(attached)).unwrap_or_default()
}

impl From<&Attached> for AttachedRecord {
    fn from(attached: &Attached) -> Self {
        let Attached { links, published, shared, turn } = attached;
        let record = |one: &Published| PublishedRecord {
            address: one.address,
            port: one.port,
            target: one.target,
            protocol: one.protocol.name().to_owned(),
            exposure: match one.exposure {
                Exposure::All => ExposureRecord::All,
                Exposure::Loopback => ExposureRecord::Loopback,
                Exposure::HostFirewall => ExposureRecord::HostFirewall,
            },
        };
        Self {
            v: VERSION,
            links: links.iter().map(AttachmentRecord::from).collect(),
            published: published.iter().map(record).collect(),
            shared: shared.as_ref().map(|(id, process)| (id.to_string(), ProcessRecord::from(*process))),
            turn: match *turn {
                Turn::Standby => TurnRecord::Standby,
                Turn::Number(number) => TurnRecord::Number(number),
            },
        }
    }
}

impl AttachedRecord {
    fn to_model(&self) -> Result<Attached, RecordError> {
        let published = |one: &PublishedRecord| {
            Ok(Published {
                address: one.address,
                port: one.port,
                target: one.target,
                protocol: protocol(&one.protocol)?,
                exposure: match one.exposure {
                    ExposureRecord::All => Exposure::All,
                    ExposureRecord::Loopback => Exposure::Loopback,
                    ExposureRecord::HostFirewall => Exposure::HostFirewall,
                },
            })
        };
        let shared = |(id, process): &(String, ProcessRecord)| {
            Ok((valid("container id", id, ContainerId::from_hex)?, (*process).into()))
        };
        Ok(Attached {
            links: self.links.iter().map(AttachmentRecord::to_model).collect::<Result<_, RecordError>>()?,
            published: self.published.iter().map(published).collect::<Result<_, RecordError>>()?,
            shared: self.shared.as_ref().map(shared).transpose()?,
            turn: match self.turn {
                TurnRecord::Standby => Turn::Standby,
                TurnRecord::Number(number) => Turn::Number(number),
            },
        })
    }
}

impl From<&Attachment> for AttachmentRecord {
    fn from(attachment: &Attachment) -> Self {
        let Attachment { network, name, link, interface, mac, addresses, gateways, mtu, internal } = attachment;
        Self {
            network: network.to_string(),
            name: name.to_string(),
            link: LinkRecord::from(link),
            interface: interface.clone(),
            mac: mac.map(|mac| mac.to_string()),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            gateways: gateways.clone(),
            mtu: *mtu,
            internal: *internal,
        }
    }
}

impl AttachmentRecord {
    fn to_model(&self) -> Result<Attachment, RecordError> {
        let address = |text: &String| valid("address", text, Cidr::parse);
        Ok(Attachment {
            network: valid("network id", &self.network, NetworkId::from_hex)?,
            name: network_name(&self.name)?,
            link: Link::from(&self.link),
            interface: self.interface.clone(),
            mac: self.mac.as_deref().map(mac).transpose()?,
            addresses: self.addresses.iter().map(address).collect::<Result<_, RecordError>>()?,
            gateways: self.gateways.clone(),
            mtu: self.mtu,
            internal: self.internal,
        })
    }
}

impl From<&Link> for LinkRecord {
    fn from(link: &Link) -> Self {
        match link {
            Link::Bridge { bridge, port } => Self::Bridge { bridge: bridge.clone(), port: port.clone() },
            Link::Macvlan { parent, mode } => {
                let mode = match mode {
                    MacvlanMode::Bridge => MacvlanRecord::Bridge,
                    MacvlanMode::Vepa => MacvlanRecord::Vepa,
                    MacvlanMode::Private => MacvlanRecord::Private,
                    MacvlanMode::Passthru => MacvlanRecord::Passthru,
                };
                Self::Macvlan { parent: parent.clone(), mode }
            }
            Link::Ipvlan { parent, mode } => {
                let mode = match mode {
                    IpvlanMode::L2 => IpvlanRecord::L2,
                    IpvlanMode::L3 => IpvlanRecord::L3,
                    IpvlanMode::L3s => IpvlanRecord::L3s,
                };
                Self::Ipvlan { parent: parent.clone(), mode }
            }
        }
    }
}

impl From<&LinkRecord> for Link {
    fn from(link: &LinkRecord) -> Self {
        match link {
            LinkRecord::Bridge { bridge, port } => Self::Bridge { bridge: bridge.clone(), port: port.clone() },
            LinkRecord::Macvlan { parent, mode } => {
                let mode = match mode {
                    MacvlanRecord::Bridge => MacvlanMode::Bridge,
                    MacvlanRecord::Vepa => MacvlanMode::Vepa,
                    MacvlanRecord::Private => MacvlanMode::Private,
                    MacvlanRecord::Passthru => MacvlanMode::Passthru,
                };
                Self::Macvlan { parent: parent.clone(), mode }
            }
            LinkRecord::Ipvlan { parent, mode } => {
                let mode = match mode {
                    IpvlanRecord::L2 => IpvlanMode::L2,
                    IpvlanRecord::L3 => IpvlanMode::L3,
                    IpvlanRecord::L3s => IpvlanMode::L3s,
                };
                Self::Ipvlan { parent: parent.clone(), mode }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mac, NetworkName, ProcessId, Protocol};

    /// What is in `state-schema/containers/network-v1.json`.
    fn sample() -> Attached {
        let id = |digit: &str| NetworkId::from_hex(&digit.repeat(64)).expect("an id");
        let cidr = |text: &str| Cidr::parse(text).expect("an address");
        let link = |number: u8, link, mac: Option<&str>| Attachment {
            network: id(&number.to_string()),
            name: NetworkName::parse(&format!("shop_{number}")).expect("a name"),
            link,
            interface: format!("eth{number}"),
            mac: mac.and_then(Mac::parse),
            addresses: vec![cidr(&format!("10.9.{number}.2/24"))],
            gateways: Vec::new(),
            mtu: 1500,
            internal: number == 1,
        };
        let bridge = Link::Bridge { bridge: "ls-0123456789".into(), port: "lv0123456789a".into() };
        let mut first = link(0, bridge, Some("02:42:ac:11:00:02"));
        first.addresses.push(cidr("fd00:9::2/64"));
        first.gateways = vec!["10.9.0.1".parse().expect("an address"), "fd00:9::1".parse().expect("an address")];
        let parent = || "eth0".to_owned();
        Attached {
            links: vec![
                first,
                link(1, Link::Macvlan { parent: parent(), mode: MacvlanMode::Passthru }, Some("02:42:ac:11:00:03")),
                link(2, Link::Ipvlan { parent: parent(), mode: IpvlanMode::L3s }, None),
            ],
            published: vec![
                Published {
                    address: None,
                    port: 8080,
                    target: 80,
                    protocol: Protocol::Tcp,
                    exposure: Exposure::HostFirewall,
                },
                Published {
                    address: "127.0.0.1".parse().ok(),
                    port: 53,
                    target: 5353,
                    protocol: Protocol::Udp,
                    exposure: Exposure::Loopback,
                },
            ],
            shared: ContainerId::from_hex(&"c".repeat(64)).map(|id| (id, ProcessId { pid: 42, start_ticks: 7 })),
            turn: Turn::default(),
        }
    }

    #[test]
    fn what_a_container_got_comes_back_from_its_record() {
        let turn = |turn| Attached { turn, ..sample() };
        for attached in [sample(), Attached::default(), turn(Turn::Standby), turn(Turn::Number(7))] {
            assert_eq!(parse(&to_json(&attached)).expect("a record"), attached);
        }
        for mode in [MacvlanMode::Bridge, MacvlanMode::Vepa, MacvlanMode::Private, MacvlanMode::Passthru] {
            let link = Link::Macvlan { parent: "eth0".into(), mode };
            assert_eq!(Link::from(&LinkRecord::from(&link)), link);
        }
        for mode in [IpvlanMode::L2, IpvlanMode::L3, IpvlanMode::L3s] {
            let link = Link::Ipvlan { parent: "eth0".into(), mode };
            assert_eq!(Link::from(&LinkRecord::from(&link)), link);
        }
    }

    #[test]
    fn the_released_record_is_still_read() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("state-schema/containers/network-v1.json");
        if std::env::var_os("UPDATE_SCHEMAS").is_some() && !file.exists() {
            std::fs::write(&file, to_json(&sample())).expect("the folder of samples is in the package");
        }
        assert_eq!(parse(&std::fs::read(file).expect("the sample")).expect("a record"), sample());
    }

    #[test]
    fn records_that_cannot_be_used_are_refused() {
        assert!(matches!(parse(b"{"), Err(RecordError::Json(_))));
        assert!(matches!(parse(br#"{"v":2,"links":7}"#), Err(RecordError::Version(2))), "whatever else it holds");
        assert!(matches!(parse(br#"{"v":1}"#), Err(RecordError::Json(_))));
        let json = String::from_utf8(to_json(&sample())).expect("text");
        for (good, bad) in [("10.9.0.2/24", "10.9.0.2/33"), ("02:42:ac:11:00:02", "x"), ("\"tcp\"", "\"icmp\"")] {
            let changed = json.replacen(good, bad, 1);
            assert!(matches!(parse(changed.as_bytes()), Err(RecordError::Value { .. })), "{bad}");
        }
    }
}
