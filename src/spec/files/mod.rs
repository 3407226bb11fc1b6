//! Configs and secrets: what the file defines beside its services, and which of them each service sees as files.
//!
//! ```text
//! configs, secrets: of the file ─ definitions ─▶ Definitions ─ content (Files) ─┐
//! configs, secrets: of a service ─ mounted ─▶ source, target, owner, mode ──────┴─▶ Service.files
//! x-longshore ─ on_change ──────────────────────────┘
//! ```
//!
//! A content is read when the first service asks for it, and shared. No message holds a byte of one.

mod content;
mod definitions;
mod literals;
mod mounted;
mod on_change;

pub(super) use definitions::Definitions;
pub(super) use literals::warn as warn_of_literals;
pub(super) use mounted::read;

use crate::model::FileKind;

/// Far more than a file of settings needs; Docker's limit for secrets is half of it.
const MAX_BYTES: usize = 1 << 20;

/// The key that both kinds have, in the file and in a service.
const fn key(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Config => "configs",
        FileKind::Secret => "secrets",
    }
}
