//! The secrets of this host, for who reads state files and for the front doors.

use std::sync::Arc;

use axum::body::Bytes;
use futures_util::FutureExt as _;

use crate::api::wire::{SecretEntry, SecretList, SecretName};
use crate::api::{Answer, Refusal, RefusalKind, SecretDoor};
use crate::model::{FingerprintKey, Timestamp, sentence};
use crate::secret::{Kept, KeyUse, Vault, VaultError};
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

impl SecretDoor for HostSecrets {
    fn list(&self) -> Answer<'_, SecretList> {
        self.work(|vault| {
            let kept = vault.list().map_err(|error| Refusal::new(RefusalKind::Failed, sentence(&error)))?;
            let entry =
                |kept: Kept| SecretEntry { name: kept.name, set: Timestamp(kept.set).into(), used_by: Vec::new() };
            Ok(SecretList { recipient: vault.recipient(), secrets: kept.into_iter().map(entry).collect() })
        })
    }

    fn set(&self, name: String, secret: Bytes) -> Answer<'_, SecretName> {
        self.work(move |vault| {
            vault.set(&name, &secret).map_err(|error| refusal(&error))?;
            tracing::info!(name, "a secret was set");
            Ok(SecretName { name })
        })
    }

    fn remove(&self, name: String) -> Answer<'_, SecretName> {
        self.work(move |vault| {
            vault.remove(&name).map_err(|error| refusal(&error))?;
            tracing::info!(name, "a secret was removed");
            Ok(SecretName { name })
        })
    }
}

impl HostSecrets {
    /// On a thread that may wait for the disk.
    fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Vault) -> Result<T, Refusal> + Send + 'static,
    ) -> Answer<'_, T> {
        let vault = Arc::clone(&self.0);
        async move {
            let done = tokio::task::spawn_blocking(move || work(&vault)).await;
            done.unwrap_or_else(|error| Err(Refusal::new(RefusalKind::Failed, error.to_string())))
        }
        .boxed()
    }
}

fn refusal(error: &VaultError) -> Refusal {
    let kind = match error {
        VaultError::Name(_) | VaultError::Encrypt(_) | VaultError::TooMany => RefusalKind::Invalid,
        VaultError::Missing(_) => RefusalKind::NoSecret,
        VaultError::Sealed { .. } | VaultError::Io { .. } => RefusalKind::Failed,
    };
    Refusal::new(kind, sentence(error))
}
