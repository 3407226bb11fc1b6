//! Secrets at rest: the host's key, what is encrypted to it, and the secrets that are kept here by name.
//!
//! * `secrets/host.key` is an age identity, made at the first start, for root's eyes only.
//! * `secrets/NAME.age` is a secret that was set by hand, in the age format, so that the `age` program reads it too.
//! * Nothing of a secret is written in clear, and no error shows any of it.
//!
//! This is the only room that names the `age` crate.

mod crypt;
mod key;
mod vault;

pub use crypt::{EncryptError, encrypt_to};
pub use key::{KeyUse, OpenError};
pub use vault::{Kept, Vault, VaultError};

/// A secret may be as large as this.
pub const MAX_BYTES: usize = 1 << 20;
/// What may be kept by name: more than one host has use for.
const MAX_KEPT: usize = 10_000;
const MAX_NAME: usize = 128;

/// Whether a secret may have this name: it is that of a file, and what people write in state files.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    begins && name.len() <= MAX_NAME && name.bytes().all(plain)
}

#[cfg(test)]
mod tests;
