//! The keys about networks and published ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Networks of containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct NetworksFile {
    /// Where networks whose file names no subnet get one: the first free one of these, in this order. None is taken that a route of this machine or another network overlaps. Default: /24 out of 172.20.0.0/14 and 10.128.0.0/10, /64 out of a range fd…/48 of this machine's own
    pub pools: Vec<PoolFile>,
    /// Addresses (or subnets) that containers do not reach. Default: those where clouds give credentials to their machines, 169.254.169.254 and fd00:ec2::254
    pub block: Vec<String>,
    /// The address that `host-gateway` means in `extra_hosts`. Default: the gateway of the container's first network
    pub host_gateway: Option<IpAddr>,
}

impl Default for NetworksFile {
    fn default() -> Self {
        let blocked = [
            IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
        ];
        Self { pools: Vec::new(), block: blocked.map(|address| address.to_string()).into(), host_gateway: None }
    }
}

/// A range that subnets are taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PoolFile {
    /// The range: 10.0.0.0/16 or fd12:3456:789a::/48.
    pub base: String,
    /// The length of the prefix of each subnet: 24.
    pub size: u8,
}

/// Who reaches a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExposeFile {
    /// Everybody, as with Docker: past the host's own firewall.
    #[default]
    All,
    /// This machine.
    Loopback,
    /// Whom the host's own firewall lets in.
    HostFirewall,
}
