//! The secrets that are kept here by name.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use age::x25519::Identity;
use zeroize::Zeroizing;

use super::crypt::{EncryptError, decrypt};
use super::key::{self, KeyUse, OpenError};
use super::{MAX_BYTES, MAX_KEPT, MAX_NAME, is_name};

const FOLDER: &str = "secrets";

/// The open secrets of this host.
pub struct Vault {
    folder: PathBuf,
    identity: Identity,
    /// Counts what was set and removed.
    changes: AtomicU64,
    /// Who writes.
    writing: Mutex<()>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.folder.display())
    }
}

/// A secret that is kept here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// When it was set last, in ms since 1970.
    pub set: u64,
}

/// Why a secret is not set, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Not a name.
    #[error(
        "{0:?} is no name for a secret; use up to {MAX_NAME} letters, digits, '.', '_' and '-', beginning with a letter, a digit or '_'"
    )]
    Name(String),
    /// Nobody set it.
    #[error("there is no secret {0:?} here; `longshore secret ls` lists those that are")]
    Missing(String),
    /// Too many of them.
    #[error("{MAX_KEPT} secrets are kept here already; remove some with `longshore secret rm`")]
    TooMany,
    /// Too large, for one.
    #[error(transparent)]
    Encrypt(#[from] EncryptError),
    /// It is there and does not decrypt; why, and what to do.
    #[error("the secret {name:?} {why}")]
    Sealed {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
    /// The disk.
    #[error("the secret {name:?} cannot be {done}")]
    Io {
        /// Which.
        name: String,
        /// What was to be done with it.
        done: &'static str,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

impl Vault {
    /// Opens the secrets of a data directory, and makes the host's key where there is none. What the owner should know comes with it.
    pub fn open(data_dir: &Path) -> Result<(Self, Vec<String>), OpenError> {
        let folder = data_dir.join(FOLDER);
        let mut notes = Vec::new();
        let identity = key::open(&folder, &mut notes)?;
        Ok((Self { folder, identity, changes: AtomicU64::new(0), writing: Mutex::new(()) }, notes))
    }

    /// To whom secrets for this host are encrypted.
    #[must_use]
    pub fn recipient(&self) -> String {
        self.identity.to_public().to_string()
    }

    /// A key for a use of its own.
    #[must_use]
    pub fn key(&self, purpose: KeyUse) -> [u8; 32] {
        key::derived(&self.identity, purpose)
    }

    /// How often something was set or removed since it was opened.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// What was encrypted to this host. The error says what to do.
    pub fn decrypt(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        decrypt(&self.identity, sealed)
    }

    /// A secret by its name.
    pub fn get(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let path = self.path(name)?;
        let mut sealed = Vec::new();
        let read = File::open(path).and_then(|file| file.take(4 * MAX_BYTES as u64).read_to_end(&mut sealed));
        read.map_err(|error| failed(name, "read", error))?;
        self.decrypt(&sealed).map_err(|why| VaultError::Sealed { name: name.to_owned(), why })
    }

    /// Keeps a secret; one of this name is replaced, in whole or not at all. It is on disk when this returns.
    pub fn set(&self, name: &str, secret: &[u8]) -> Result<(), VaultError> {
        let path = self.path(name)?;
        if secret.len() > MAX_BYTES {
            return Err(EncryptError::TooLarge.into());
        }
        let sealed = age::encrypt(&self.identity.to_public(), secret);
        let sealed = sealed.map_err(|error| EncryptError::Failed(error.to_string()))?;
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if fs::symlink_metadata(&path).is_err() && names(&self.folder).map_or(0, |names| names.len()) >= MAX_KEPT {
            return Err(VaultError::TooMany);
        }
        let written = key::write(&self.folder, &path, &sealed).map_err(|error| failed(name, "written", error));
        // Also where it failed: it may be there.
        self.changes.fetch_add(1, Ordering::AcqRel);
        written
    }

    /// Forgets a secret.
    pub fn remove(&self, name: &str) -> Result<(), VaultError> {
        let path = self.path(name)?;
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = fs::remove_file(path).and_then(|()| File::open(&self.folder)?.sync_all());
        self.changes.fetch_add(1, Ordering::AcqRel);
        removed.map_err(|error| failed(name, "removed", error))
    }

    /// All of them, by name.
    pub fn list(&self) -> io::Result<Vec<Kept>> {
        let mut kept: Vec<Kept> = names(&self.folder)?
            .into_iter()
            .filter_map(|name| {
                let set = fs::metadata(self.folder.join(format!("{name}.age"))).and_then(|about| about.modified());
                Some(Kept { name, set: millis(set.ok()?) })
            })
            .collect();
        kept.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(kept)
    }

    fn path(&self, name: &str) -> Result<PathBuf, VaultError> {
        if is_name(name) { Ok(self.folder.join(format!("{name}.age"))) } else { Err(VaultError::Name(name.to_owned())) }
    }
}

fn failed(name: &str, done: &'static str, error: io::Error) -> VaultError {
    let name = name.to_owned();
    if error.kind() == io::ErrorKind::NotFound {
        VaultError::Missing(name)
    } else {
        VaultError::Io { name, done, error }
    }
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        names.extend(
            name.to_str().and_then(|name| name.strip_suffix(".age")).filter(|name| is_name(name)).map(str::to_owned),
        );
    }
    Ok(names)
}

/// Whether secrets are kept in this folder. One that cannot be listed is taken to hold some.
pub(super) fn any_kept(folder: &Path) -> bool {
    names(folder).map_or(true, |names| !names.is_empty())
}

fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
