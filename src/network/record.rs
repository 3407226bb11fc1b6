//! `DATA/networks/ID.json`: what a network was made from, and the subnets that it got.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{AddressPool, Cidr, Driver, IpvlanMode, Location, MacvlanMode, Network, NetworkId, NetworkName};

/// A network that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    /// What it was made from.
    pub network: Network,
    /// Its subnets with their gateways, as pools: IPv4 first.
    pub pools: Vec<AddressPool>,
    /// The MTU of its links.
    pub mtu: u32,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NetworkRecord {
    /// 1.
    v: u32,
    name: String,
    driver: DriverRecord,
    internal: bool,
    ipv4: bool,
    ipv6: bool,
    /// What the file asks for.
    asked: Vec<PoolRecord>,
    mtu: Option<u32>,
    bridge: Option<String>,
    labels: BTreeMap<String, String>,
    file: PathBuf,
    line: u32,
    column: u32,
    /// What it got.
    pools: Vec<PoolRecord>,
    link_mtu: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DriverRecord {
    Bridge,
    Macvlan { parent: Option<String>, mode: String },
    Ipvlan { parent: Option<String>, mode: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PoolRecord {
    subnet: String,
    range: Option<String>,
    gateway: Option<IpAddr>,
    kept: BTreeMap<String, IpAddr>,
}

impl From<&AddressPool> for PoolRecord {
    fn from(pool: &AddressPool) -> Self {
        let AddressPool { subnet, range, gateway, kept } = pool;
        let range = range.map(|range| range.to_string());
        Self { subnet: subnet.to_string(), range, gateway: *gateway, kept: kept.clone() }
    }
}

impl PoolRecord {
    fn to_model(&self) -> Option<AddressPool> {
        let range = match &self.range {
            Some(range) => Some(Cidr::parse(range)?),
            None => None,
        };
        let subnet = Cidr::parse(&self.subnet)?;
        Some(AddressPool { subnet, range, gateway: self.gateway, kept: self.kept.clone() })
    }
}

impl From<&Made> for NetworkRecord {
    fn from(made: &Made) -> Self {
        let Network { name, driver, internal, ipv4, ipv6, pools, mtu, bridge, labels, location } = &made.network;
        Self {
            v: 1,
            name: name.to_string(),
            driver: match driver {
                Driver::Bridge => DriverRecord::Bridge,
                Driver::Macvlan { parent, mode } => {
                    DriverRecord::Macvlan { parent: parent.clone(), mode: mode.name().to_owned() }
                }
                Driver::Ipvlan { parent, mode } => {
                    DriverRecord::Ipvlan { parent: parent.clone(), mode: mode.name().to_owned() }
                }
            },
            internal: *internal,
            ipv4: *ipv4,
            ipv6: *ipv6,
            asked: pools.iter().map(PoolRecord::from).collect(),
            mtu: *mtu,
            bridge: bridge.clone(),
            labels: labels.clone(),
            file: location.file.clone(),
            line: location.line,
            column: location.column,
            pools: made.pools.iter().map(PoolRecord::from).collect(),
            link_mtu: made.mtu,
        }
    }
}

impl NetworkRecord {
    fn to_model(&self) -> Option<Made> {
        let pools = |pools: &[PoolRecord]| pools.iter().map(PoolRecord::to_model).collect::<Option<Vec<_>>>();
        let network = Network {
            name: NetworkName::parse(&self.name).ok()?,
            driver: match &self.driver {
                DriverRecord::Bridge => Driver::Bridge,
                DriverRecord::Macvlan { parent, mode } => {
                    Driver::Macvlan { parent: parent.clone(), mode: MacvlanMode::parse(mode)? }
                }
                DriverRecord::Ipvlan { parent, mode } => {
                    Driver::Ipvlan { parent: parent.clone(), mode: IpvlanMode::parse(mode)? }
                }
            },
            internal: self.internal,
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            pools: pools(&self.asked)?,
            mtu: self.mtu,
            bridge: self.bridge.clone(),
            labels: self.labels.clone(),
            location: Location::at(&self.file, self.line, self.column),
        };
        Some(Made { network, pools: pools(&self.pools)?, mtu: self.link_mtu })
    }
}

/// The folder of the records.
#[derive(Debug)]
pub(super) struct Records(PathBuf);

impl Records {
    /// Opens the folder, and reads what is there. A record that cannot be used is set aside and told: its network is made anew when
    /// it is needed.
    pub(super) fn open(data_dir: &Path) -> io::Result<(Self, BTreeMap<NetworkId, Made>, Vec<String>)> {
        let folder = data_dir.join("networks");
        fs::create_dir_all(&folder)?;
        let (mut found, mut notes) = (BTreeMap::new(), Vec::new());
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with('.') {
                // A draft that was never finished.
                fs::remove_file(&path)?;
                continue;
            }
            let Some(id) = name.strip_suffix(".json").and_then(NetworkId::from_hex) else { continue };
            let record = serde_json::from_slice::<NetworkRecord>(&fs::read(&path)?).ok();
            match record.filter(|record| record.v == 1).and_then(|record| record.to_model()) {
                Some(made) if NetworkId::derive(&made.network) == id => drop(found.insert(id, made)),
                _ => {
                    fs::rename(&path, path.with_extension("broken"))?;
                    notes.push(format!("{} cannot be used and was set aside; its network is made anew", path.display()));
                }
            }
        }
        Ok((Self(folder), found, notes))
    }

    /// On disk when it returns.
    pub(super) fn write(&self, id: &NetworkId, made: &Made) -> io::Result<()> {
        let json = serde_json::to_vec(&NetworkRecord::from(made)).map_err(io::Error::other)?;
        let (draft, path) = (self.0.join(format!(".{id}.new")), self.path(id));
        let mut file = File::create(&draft)?;
        file.write_all(&json)?;
        file.sync_all()?;
        fs::rename(draft, path)?;
        File::open(&self.0)?.sync_all()
    }

    pub(super) fn remove(&self, id: &NetworkId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, id: &NetworkId) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_broken_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (records, found, notes) = Records::open(folder.path()).unwrap();
        assert!(found.is_empty() && notes.is_empty());
        let pool = AddressPool {
            subnet: Cidr::parse("10.1.0.0/24").unwrap(),
            range: Cidr::parse("10.1.0.128/25"),
            gateway: "10.1.0.1".parse().ok(),
            kept: BTreeMap::from([("printer".to_owned(), "10.1.0.9".parse().unwrap())]),
        };
        let network = Network {
            name: NetworkName::parse("shop_default").unwrap(),
            driver: Driver::Macvlan { parent: Some("eth0".to_owned()), mode: MacvlanMode::Vepa },
            internal: true,
            ipv4: true,
            ipv6: true,
            pools: vec![pool.clone()],
            mtu: Some(1400),
            bridge: None,
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            location: Location::at("shop.yaml", 3, 4),
        };
        let made = Made { network, pools: vec![AddressPool { range: None, ..pool }], mtu: 1400 };
        let id = NetworkId::derive(&made.network);
        records.write(&id, &made).unwrap();
        let bad = folder.path().join("networks").join(format!("{}.json", "a".repeat(64)));
        fs::write(&bad, "{").unwrap();
        let (records, found, notes) = Records::open(folder.path()).unwrap();
        assert_eq!(found, BTreeMap::from([(id.clone(), made)]));
        assert!(notes.len() == 1 && !bad.exists(), "{notes:?}");
        records.remove(&id).unwrap();
        records.remove(&id).unwrap();
        assert!(Records::open(folder.path()).unwrap().1.is_empty());
    }
}
