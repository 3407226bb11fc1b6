//! The hash that says whether two services mean the same.

use std::fmt;
use std::fmt::Write as _;

/// SHA-256 over a canonical text of everything that makes a container what it is, including the content of referenced files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpecHash(String);

impl SpecHash {
    /// Hashes a canonical text.
    #[must_use]
    pub fn of(canonical: &[u8]) -> Self {
        Self(hex_sha256(&[canonical]))
    }
    /// A hash read back from a record: 64 lower-case hex digits.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        is_hex64(hex).then(|| Self(hex.to_owned()))
    }
    /// 64 lower-case hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SpecHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// SHA-256 of the parts, each preceded by its length so that no two lists of parts give the same bytes.
pub(super) fn hex_sha256(parts: &[&[u8]]) -> String {
    use sha2::{Digest as _, Sha256};
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut hex = String::with_capacity(64);
    for byte in hasher.finalize() {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
