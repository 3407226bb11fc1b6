//! Compose text to model.
//!
//! [`parse`] is pure: the text comes in, and what it refers to is read through [`Files`]. It owns what a state file may say;
//! `source` decides which files there are and what becomes of a project whose file is refused.
//!
//! ```text
//! bytes ─ source_text ─▶ text ─ tree ─▶ Node ─ substitute ─▶ Node ─ check(keys) ─▶ project ─▶ Document
//!                                              ▲ .env                     │             ▲ env_file
//!                                              dotenv, interpolate        ▼
//!                                                                       report ─▶ problems with place, snippet and hint
//! ```
//!
//! Three things can be wrong with a key. It breaks the specification: an error, and the file as a whole is not used. It
//! asks for protection, data or reach that cannot be given yet: its service is held. It asks for comfort that cannot be
//! given yet: a warning. No key is dropped in silence. All of this is in the tables in `keys`, which also make the JSON
//! Schema.
//!
//! Invariants: nothing here touches the disk, the clock or the process environment; no input makes it panic, overflow the
//! stack or use memory beyond a small multiple of the limits of `source_text` and `tree`; no message holds a byte of any
//! file but the state file's own lines.

mod blkio;
mod check;
mod data;
mod devices;
mod dotenv;
mod duration;
mod edits;
mod effects;
mod environment;
mod files;
mod hash;
mod health;
mod hooks;
mod interpolate;
mod isolation;
mod keys;
mod limits;
mod list;
mod names;
mod nearest;
mod network;
mod node;
mod order;
mod policy;
mod process;
mod profiles;
mod project;
mod report;
mod resources;
#[cfg(test)]
mod samples;
mod schedule;
mod schema;
mod scope;
mod security;
mod service;
mod size;
mod source_text;
mod substitute;
mod sysctls;
mod taking;
#[cfg(test)]
mod tests;
mod tmpfs;
mod tree;
mod tree_errors;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::model::{FingerprintKey, Problem, Project};

pub use duration::calendar_millis;
pub use edits::{Version, acts, edits, line};
pub use hash::of as hash;
pub use list::{KeyRole, ListedKey, keys};
pub use nearest::nearest;
pub use schema::schema;

/// One state file as it was read, with everything it may refer to.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The file as its owner names it, relative to the state directory.
    pub path: &'a Path,
    /// Its content.
    pub text: &'a [u8],
    /// The project's name where the file gives none: the file's or folder's name, not yet made fit.
    pub default_name: &'a str,
    /// Where images are pulled from whose references name no registry: `docker.io` where nobody says otherwise.
    pub default_registry: &'a str,
    /// Profiles that are chosen whatever the file chooses; `*` is all.
    pub profiles: &'a [String],
    /// Reads what it refers to.
    pub files: &'a dyn Files,
    /// What the contents of configs and secrets are told apart by.
    pub key: FingerprintKey,
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("path", &self.path)
            .field("default_name", &self.default_name)
            .finish_non_exhaustive()
    }
}

/// Reads the files that a state file refers to. Every file that is looked for passes through here, also when the state file
/// is refused in the end, so that an implementor can notice when one of them appears.
pub trait Files {
    /// The content of a file, named relative to the state file's folder (or absolute, as the file has it).
    fn read(&self, relative: &Path) -> Result<Vec<u8>, FileError>;

    /// Like [`Self::read`], for a file that holds a secret; and whether others than its owner may read it.
    fn read_secret(&self, relative: &Path) -> Result<(Vec<u8>, bool), FileError> {
        self.read(relative).map(|bytes| (bytes, false))
    }

    /// A secret that is kept outside of the state folder (`external`).
    fn external_secret(&self, name: &str) -> Result<Vec<u8>, FileError> {
        let _ = name;
        Err(FileError::Missing)
    }

    /// What a file holds that is encrypted to this host (age). The error says what to do.
    fn decrypt(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let _ = bytes;
        Err("secrets are encrypted to a host, and here is none to decrypt them".to_owned())
    }
}

/// Why a file that a state file refers to was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// There is none.
    #[error("it does not exist")]
    Missing,
    /// Larger than the reader's limit.
    #[error("it is too large")]
    TooLarge,
    /// A folder, a device, a pipe or a socket.
    #[error("it is not a regular file")]
    NotRegular,
    /// It leads out of the folders that may be read.
    #[error("it lies outside the state file's folder")]
    Outside,
    /// The host refused.
    #[error("it cannot be read: {0}")]
    Io(String),
}

/// What a state file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The project, with the services that are to run. A service that must not be started carries its holds.
    pub project: Project,
    /// What its owner should know, but for the holds. Nothing here stops anything.
    pub warnings: Vec<Problem>,
    /// Every file that was looked for, as it was asked of [`Files`], also those that do not exist.
    pub references: Vec<PathBuf>,
}

/// Reads one state file. `Err`: the file as a whole is not used; all that is wrong with it, each with its place.
pub fn parse(input: &Input<'_>) -> Result<Document, Vec<Problem>> {
    project::read(input)
}
