//! The age format.

use std::str::FromStr as _;

use age::x25519::{Identity, Recipient};
use zeroize::Zeroizing;

use super::MAX_BYTES;

/// As bytes, and as text.
const BEGINNINGS: [&[u8]; 2] = [b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----"];

/// Why something cannot be encrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncryptError {
    /// It names nobody.
    #[error(
        "{0:?} is no age recipient; it begins with age1 and has 62 letters, as `longshore secret recipient` shows it"
    )]
    NotARecipient(String),
    /// More than may be given to a container.
    #[error("a secret may hold {} KiB", MAX_BYTES >> 10)]
    TooLarge,
    /// The crate refused.
    #[error("it cannot be encrypted: {0}")]
    Failed(String),
}

/// Encrypts to a recipient (`age1…`), as text that git shows well.
pub fn encrypt_to(recipient: &str, secret: &[u8]) -> Result<String, EncryptError> {
    if secret.len() > MAX_BYTES {
        return Err(EncryptError::TooLarge);
    }
    let parsed = Recipient::from_str(recipient).map_err(|_| EncryptError::NotARecipient(recipient.to_owned()))?;
    age::encrypt_and_armor(&parsed, secret).map_err(|error| EncryptError::Failed(error.to_string()))
}

/// Decrypts what was encrypted to `identity`, as text or as bytes. The error says what to do, and shows nothing of it.
pub(super) fn decrypt(identity: &Identity, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let bound = MAX_BYTES * 2;
    if sealed.len() > bound {
        return Err(format!("is larger than {} KiB", bound >> 10));
    }
    let us = || identity.to_public();
    let foreign = || format!("is not in the age format; `longshore secret encrypt` makes it, or `age -r {}`", us());
    if !BEGINNINGS.iter().any(|beginning| sealed.trim_ascii_start().starts_with(beginning)) {
        return Err(foreign());
    }
    match age::decrypt(identity, sealed) {
        Ok(secret) => Ok(Zeroizing::new(secret)),
        Err(age::DecryptError::NoMatchingKeys) => {
            Err(format!("is encrypted to another key, not to this host's; encrypt it to {}", us()))
        }
        Err(age::DecryptError::InvalidHeader | age::DecryptError::UnknownFormat) => Err(foreign()),
        // What it holds was changed or cut off after it was encrypted.
        Err(_) => Err(format!("is damaged: it does not decrypt; encrypt it again to {}", us())),
    }
}
