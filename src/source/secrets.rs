//! What state files may name and is not in their folder: secrets that are kept on this host, and its key.

use std::fmt;

use crate::model::FingerprintKey;
use crate::spec::FileError;

/// The secrets of this host.
pub trait Secrets: fmt::Debug + Send + Sync {
    /// One that is kept by name.
    fn get(&self, name: &str) -> Result<Vec<u8>, FileError>;
    /// What was encrypted to this host. The error says what to do.
    fn decrypt(&self, sealed: &[u8]) -> Result<Vec<u8>, String>;
    /// What contents are told apart by.
    fn fingerprint_key(&self) -> FingerprintKey;
    /// Another number whenever one that is kept by name was set or removed.
    fn changes(&self) -> u64;
}

/// Looks at none of them: every secret is taken to be there, and empty. For checking files on another machine than theirs, or by a user
/// who may not see secrets.
#[derive(Debug, Clone, Copy)]
pub struct Unopened;

impl Secrets for Unopened {
    fn get(&self, _name: &str) -> Result<Vec<u8>, FileError> {
        Ok(Vec::new())
    }
    fn decrypt(&self, _sealed: &[u8]) -> Result<Vec<u8>, String> {
        Ok(Vec::new())
    }
    fn fingerprint_key(&self) -> FingerprintKey {
        FingerprintKey::default()
    }
    fn changes(&self) -> u64 {
        0
    }
}
