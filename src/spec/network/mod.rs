//! Networks: what the file defines beside its services, and what each service asks of them.
//!
//! ```text
//! networks: ──────────────── definitions ─▶ Definitions ──┐
//! network_mode, networks ─── mode, joins ─▶ NetworkMode ──┤
//! ports, expose, links ───── ports, links ─▶ Membership ──┴─ across ─▶ holds, Project.networks
//! ```
//!
//! What is wrong with a definition holds the services that use it, and no other one.

mod across;
mod conflicts;
mod definitions;
mod joins;
mod links;
mod mode;
mod pools;
mod port_text;
mod ports;

pub(super) use across::finish;
pub(super) use definitions::Definitions;
pub(super) use mode::read;

use super::source_text::Span;
use crate::model::{Mac, NetworkName};
use std::net::IpAddr;

/// What the checks between services need beside the model.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The networks that it joins, by their keys in the file.
    networks: Vec<String>,
    /// Where each of its ports stands.
    ports: Vec<Span>,
    /// What nobody else on its network may have.
    own: Vec<(NetworkName, Own, Span)>,
    /// Where it names the one whose network it shares.
    shares: Option<Span>,
}

/// What only one container of a network can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Own {
    Address(IpAddr),
    Mac(Mac),
}

/// One label or several, as a resolver can be asked for: letters, digits, '-' and '_', parts joined by '.'.
fn is_alias(text: &str) -> bool {
    let label = |label: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(good) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

const ALIAS_HINT: &str = "use up to 63 letters, digits, '-' and '_' for each part, and '.' between parts";

/// What the kernel takes for an interface.
fn is_interface(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%');
    (1..=15).contains(&text.len()) && text.bytes().all(good) && !matches!(text, "." | ".." | "lo" | "all" | "default")
}

const INTERFACE_HINT: &str = "use 1 to 15 letters, digits and signs other than '/', ':' and '%'";
