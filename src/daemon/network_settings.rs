//! The settings of networks, from the configuration.

use std::net::IpAddr;
use std::time::Duration;

use super::config::{Config, ExposeFile};
use crate::model::{Cidr, Exposure};
use crate::network::Settings;
use crate::network::addresses::Pools;

/// Longer than most who ask wait for an answer.
const HOLD: Duration = Duration::from_secs(60);

pub(super) fn settings(config: &Config, instance: &str) -> Settings {
    let file = &config.file;
    Settings {
        data_dir: config.data_dir.clone(),
        run_dir: config.run_dir.clone(),
        // Not by its name: an update may have put another program there.
        exe: "/proc/self/exe".into(),
        instance: instance.to_owned(),
        pools: pools(config),
        publish_ip: file.publish_default_ip,
        exposure: exposure(file.expose_default),
        blocked: file.networks.block.iter().filter_map(|text| blocked(text)).collect(),
        api: file.tcp,
        host_gateway: file.networks.host_gateway,
        hold: HOLD,
    }
}

pub(super) const fn exposure(file: ExposeFile) -> Exposure {
    match file {
        ExposeFile::All => Exposure::All,
        ExposeFile::Loopback => Exposure::Loopback,
        ExposeFile::HostFirewall => Exposure::HostFirewall,
    }
}

/// Those of the file; where it has none of a family, ours.
fn pools(config: &Config) -> Pools {
    let given = config.file.networks.pools.iter().filter_map(|pool| Some((Cidr::parse(&pool.base)?, pool.size)));
    let (v4, v6): (Vec<_>, Vec<_>) = given.partition(|(base, _)| base.address.is_ipv4());
    let usual = Pools::usual(Some(Pools::unique_local(&machine())));
    Pools { v4: if v4.is_empty() { usual.v4 } else { v4 }, v6: if v6.is_empty() { usual.v6 } else { v6 } }
}

/// An address is a range of one.
fn blocked(text: &str) -> Option<Cidr> {
    let one = |address: IpAddr| Cidr::new(address, if address.is_ipv4() { 32 } else { 128 });
    Cidr::parse(text).or_else(|| text.parse().ok().and_then(one))
}

/// What tells this machine from others, and stays.
fn machine() -> Vec<u8> {
    let id = ["/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/random/boot_id"];
    id.iter().find_map(|path| std::fs::read(path).ok().filter(|id| !id.is_empty())).unwrap_or_default()
}
