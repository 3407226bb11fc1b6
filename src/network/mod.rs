//! Networks: bridges and links, addresses, the packet filter, published ports and names.

pub mod addresses;
pub mod bridge;
pub mod dns;
pub mod forward;
pub mod link;
pub mod namespace;
pub mod netlink;
pub mod nft;
pub mod ports;
pub mod ruleset;
pub mod sysctl;
pub mod watch;
