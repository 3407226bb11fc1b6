//! Digests of bytes that pass by.

use sha2::{Digest as _, Sha256, Sha512};

use crate::model::Digest;

/// A running digest of the algorithm that an expected digest names.
pub(super) enum Hasher {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// The hasher that can confirm `expected`.
    pub(super) fn like(expected: &Digest) -> Self {
        if expected.algorithm() == "sha512" { Self::Sha512(Box::default()) } else { Self::Sha256(Sha256::new()) }
    }
    /// The hasher for what has no digest yet.
    pub(super) fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }
    /// `algorithm:hex` of all that passed.
    pub(super) fn finish(self) -> String {
        match self {
            Self::Sha256(hasher) => format!("sha256:{}", hex(&hasher.finalize())),
            Self::Sha512(hasher) => format!("sha512:{}", hex(&hasher.finalize())),
        }
    }
}

/// The digest of `bytes` in the algorithm of `expected`.
pub(super) fn digest_like(expected: &Digest, bytes: &[u8]) -> String {
    let mut hasher = Hasher::like(expected);
    hasher.update(bytes);
    hasher.finish()
}

/// Hex of the SHA-256 of `bytes`.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
