//! The secrets of this host, for who reads state files.

use std::sync::Arc;

use crate::model::FingerprintKey;
use crate::secret::{KeyUse, Vault, VaultError};
use crate::source::Secrets;
use crate::spec::FileError;

/// The vault, as the source asks for it.
#[derive(Debug, Clone)]
pub(super) struct HostSecrets(pub(super) Arc<Vault>);

impl Secrets for HostSecrets {
    fn get(&self, name: &str) -> Result<Vec<u8>, FileError> {
        match self.0.get(name) {
            Ok(secret) => Ok(secret.to_vec()),
            // What cannot be the name of a secret is the name of none.
            Err(VaultError::Missing(_) | VaultError::Name(_)) => Err(FileError::Missing),
            Err(VaultError::Sealed { why, .. }) => Err(FileError::Io(format!("it {why}"))),
            Err(VaultError::Io { error, .. }) => Err(FileError::Io(error.to_string())),
            Err(error) => Err(FileError::Io(error.to_string())),
        }
    }

    fn decrypt(&self, sealed: &[u8]) -> Result<Vec<u8>, String> {
        self.0.decrypt(sealed).map(|secret| secret.to_vec())
    }

    fn fingerprint_key(&self) -> FingerprintKey {
        FingerprintKey(self.0.key(KeyUse::Fingerprints))
    }

    fn changes(&self) -> u64 {
        self.0.changes()
    }
}
