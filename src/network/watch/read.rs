//! What an event is about.

use std::collections::HashSet;

use netlink_packet_core::NlasIterator;

use super::Changed;
use crate::network::netlink::{Message, SeenAddress, SeenLink, SeenRoute, read_address, read_link, read_route};

/// The beginning of the names of our tables.
const TABLES: &[u8] = b"longshore_";
/// `RTM_NEWNETCONF`.
const NETCONF: u16 = 80;
/// `NETCONFA_IFINDEX`, `NETCONFA_FORWARDING`.
const INTERFACE: u16 = 1;
const FORWARDING: u16 = 2;
/// `NETCONFA_IFINDEX_ALL`.
const ALL: i32 = -1;
/// `NFT_MSG_NEWGEN`: the end of a transaction.
const GENERATION: u16 = 15;
/// More than this is not remembered.
const MOST: usize = 16_384;

/// Remembers what is there, so that it is not heard again.
#[derive(Default)]
pub(super) struct Reader {
    addresses: HashSet<SeenAddress>,
    routes: HashSet<SeenRoute>,
}

impl Reader {
    /// Of rtnetlink.
    pub(super) fn route(&mut self, bytes: &[u8]) -> Changed {
        let mut changed = Changed::default();
        for message in Message::all(bytes) {
            let (kind, body) = (message.kind, message.body);
            match kind {
                libc::RTM_NEWLINK | libc::RTM_DELLINK => {
                    changed.links |= read_link(libc::RTM_NEWLINK, body).is_some_and(|link| concerns_us(&link));
                }
                libc::RTM_NEWADDR => {
                    changed.links |= read_address(kind, body).is_some_and(|address| note(&mut self.addresses, address));
                }
                libc::RTM_DELADDR => {
                    changed.links |= read_address(libc::RTM_NEWADDR, body)
                        .inspect(|address| {
                            self.addresses.remove(address);
                        })
                        .is_some();
                }
                libc::RTM_NEWROUTE => {
                    changed.routes |= read_route(kind, body).is_some_and(|route| note(&mut self.routes, route));
                }
                libc::RTM_DELROUTE => {
                    changed.routes |= read_route(libc::RTM_NEWROUTE, body)
                        .inspect(|route| {
                            self.routes.remove(route);
                        })
                        .is_some();
                }
                NETCONF => changed.forwarding |= forwarding(body),
                _ => {}
            }
        }
        changed
    }

    /// Of nfnetlink: every message of a table names it first.
    pub(super) fn rules(&mut self, bytes: &[u8]) -> Changed {
        let ours = Message::all(bytes).any(|message| {
            let name = |body| NlasIterator::new(body).flatten().find(|attribute| attribute.kind() == 1);
            message.kind & 0xff != GENERATION
                && message.body.get(4..).and_then(name).is_some_and(|name| name.value().starts_with(TABLES))
        });
        Changed { rules: ours, ..Changed::default() }
    }
}

/// Whether it was not there.
fn note<T: Eq + std::hash::Hash>(known: &mut HashSet<T>, one: T) -> bool {
    if known.len() >= MOST {
        known.clear();
    }
    known.insert(one)
}

/// Ours, or one that may be a parent or the way out. The many that come and go are other engines' pairs.
fn concerns_us(link: &SeenLink) -> bool {
    link.kind != "veth" || link.name.starts_with("lv") || !link.alias.is_empty()
}

/// Every new interface says whether it does; a change is what all are told.
fn forwarding(body: &[u8]) -> bool {
    let value = |wanted| {
        let attributes = body.get(4..).map(NlasIterator::new)?;
        let found = attributes.flatten().find(|attribute| attribute.kind() == wanted)?;
        Some(i32::from_ne_bytes(found.value().try_into().ok()?))
    };
    value(FORWARDING).is_some() && value(INTERFACE) == Some(ALL)
}
