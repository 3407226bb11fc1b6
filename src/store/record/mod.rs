//! The records, in serde types of their own, and their frame: a version, a nonce, then JSON that is sealed with the host's key, because
//! state files and what they refer to may hold secrets. The seal is a checksum too, and bound to the record's own key.
//!
//! Version 1 was a checksum and JSON in clear; it is read, and written anew as what it is now.
//!
//! A record that was ever released stays readable; `state-schema/records/` holds a sample of each.

mod generations;

use std::path::{Path, PathBuf};

use std::fmt;

use chacha20poly1305::aead::{Aead as _, AeadCore as _, KeyInit as _, OsRng, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::runs::Runs;

pub use generations::{AsideRecord, ChosenRecord, GenerationRecord, Generations, OutcomeRecord, ThenRecord};

const VERSION: u8 = 2;
const NONCE: usize = 24;
/// Before records were sealed.
const IN_CLEAR: u8 = 1;
const CHECKSUM: usize = 8;

/// What records are sealed with.
#[derive(Clone)]
pub struct Seal(XChaCha20Poly1305);

impl Seal {
    /// By a key that nobody else has.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey {
    /// The last good version of a state file, by its path below the state folder.
    Good(PathBuf),
    /// A container's history, by its id.
    History(String),
    /// What a service ran, and may go back to, by its project and name.
    Generations(String, String),
    /// What was asked of a service by hand, by its project and name.
    ByHand(String, String),
    /// A state file as it was, that generations refer to, by the hash of what it held.
    Source(String),
    /// What happened to a service, by its project and name.
    Causes(String, String),
    /// A service that runs at set times, by its project and name.
    Runs(String, String),
    /// What is remembered of the daemon itself.
    Settings,
}

impl RecordKey {
    pub(super) fn bytes(&self) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt as _;
        match self {
            Self::Good(path) => [b"good/", path.as_os_str().as_bytes()].concat(),
            Self::History(id) => [b"history/", id.as_bytes()].concat(),
            Self::Generations(project, service) => format!("generations/{project}/{service}").into_bytes(),
            Self::ByHand(project, service) => format!("by-hand/{project}/{service}").into_bytes(),
            Self::Source(id) => format!("source/{id}").into_bytes(),
            Self::Causes(project, service) => format!("causes/{project}/{service}").into_bytes(),
            Self::Runs(project, service) => format!("runs/{project}/{service}").into_bytes(),
            Self::Settings => b"settings".to_vec(),
        }
    }

    pub(super) fn parse(key: &[u8]) -> Option<Self> {
        use std::os::unix::ffi::OsStrExt as _;
        if key == b"settings" {
            return Some(Self::Settings);
        }
        if let Some(path) = key.strip_prefix(b"good/") {
            return Some(Self::Good(Path::new(std::ffi::OsStr::from_bytes(path)).to_owned()));
        }
        if let Some(of) = key.strip_prefix(b"generations/") {
            let (project, service) = std::str::from_utf8(of).ok()?.split_once('/')?;
            return Some(Self::Generations(project.to_owned(), service.to_owned()));
        }
        if let Some(of) = key.strip_prefix(b"by-hand/") {
            let (project, service) = std::str::from_utf8(of).ok()?.split_once('/')?;
            return Some(Self::ByHand(project.to_owned(), service.to_owned()));
        }
        if let Some(id) = key.strip_prefix(b"source/") {
            return std::str::from_utf8(id).ok().map(|id| Self::Source(id.to_owned()));
        }
        if let Some(of) = key.strip_prefix(b"causes/") {
            let (project, service) = std::str::from_utf8(of).ok()?.split_once('/')?;
            return Some(Self::Causes(project.to_owned(), service.to_owned()));
        }
        if let Some(of) = key.strip_prefix(b"runs/") {
            let (project, service) = std::str::from_utf8(of).ok()?.split_once('/')?;
            return Some(Self::Runs(project.to_owned(), service.to_owned()));
        }
        let id = key.strip_prefix(b"history/")?;
        std::str::from_utf8(id).ok().map(|id| Self::History(id.to_owned()))
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Record {
    /// A state file's last good version, or one that generations refer to.
    Good(Good),
    /// A container's history.
    History(History),
    /// What a service ran, and may go back to.
    Generations(Generations),
    /// What was asked of a service by hand.
    ByHand(ByHand),
    /// What happened to a service.
    Causes(Causes),
    /// A service that runs at set times.
    Runs(Runs),
    /// What is remembered of the daemon itself.
    Settings(Settings),
}

/// A state file as it was when it was last good, with everything it referred to, so that it can be read again as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Good {
    /// The project that it defines.
    pub project: String,
    /// The name it would have by its file or folder.
    pub default_name: String,
    /// Its text.
    pub text: String,
    /// What it referred to.
    pub references: Vec<Reference>,
}

/// A file that a state file refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// As it is referred to.
    pub path: PathBuf,
    /// What it held (in base 16: it may be any bytes); none where it was missing.
    #[serde(with = "hex")]
    pub content: Option<Vec<u8>>,
}

/// Bytes as base 16.
mod hex {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::ref_option, reason = "serde's `with` hands in a reference to the field")]
    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        let text = bytes.as_ref().map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let pairs = text.as_bytes().chunks(2);
        let bytes = pairs.map(|pair| Some((digit(*pair.first()?)? << 4) | digit(*pair.get(1)?)?)).collect();
        Option::map(bytes, Some).ok_or_else(|| D::Error::custom("it is not base 16"))
    }
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// How often it was started again.
    pub restarts: u32,
    /// How often in a row.
    pub streak: u32,
    /// Why the last thing was done to it.
    pub reason: String,
}

/// What was asked of a service by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByHand {
    /// The hash of the service as its file gave it then; with another one this is over.
    pub hash: String,
    /// When, in milliseconds since 1970.
    pub since_ms: u64,
    /// Nothing of it runs.
    pub stopped: bool,
    /// What of it runs is held still.
    #[serde(default)]
    pub paused: bool,
    /// So many replicas.
    pub replicas: Option<u32>,
    /// So many by the file, then; with another number the replicas are over.
    pub file_replicas: Option<u32>,
    /// How long it has to end by itself, where that was asked for.
    pub grace_ms: Option<u64>,
    /// Runs that are followed by another one.
    pub again: Vec<Again>,
}

/// A run of a container that is followed by another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// The container's id.
    pub container: String,
    /// When the run began, in milliseconds since 1970.
    pub begun_ms: u64,
}

/// What happened to a service, the newest last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Causes {
    /// One for each thing that happened, as often as it did in a row.
    pub causes: Vec<CauseRecord>,
}

/// Something that happened to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseRecord {
    /// When, the first time, in milliseconds since the Unix epoch.
    pub at: u64,
    /// When, the last time.
    pub last: u64,
    /// How often in a row.
    pub times: u32,
    /// What kind of thing, in a word.
    pub what: String,
    /// What it happened to.
    pub subject: String,
    /// In one sentence.
    pub text: String,
    /// Why, where something was done for a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// What changed in the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<EditRecord>,
}

/// A key that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditRecord {
    /// The file.
    pub file: PathBuf,
    /// The line; 0: the file as a whole.
    pub line: u32,
    /// The key.
    pub key: String,
    /// How: `added`, `removed` or `changed`.
    pub change: String,
    /// What was there; none where it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What is there; none where it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

/// What is remembered of the daemon itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The state folder that the last good documents are of.
    pub state_dir: PathBuf,
}

pub(super) fn encode(key: &[u8], record: &Record, seal: &Seal) -> Vec<u8> {
    let json = serde_json::to_vec(record).unwrap_or_else(|e| unreachable!("records have string keys only: {e}"));
    let json = zeroize::Zeroizing::new(json);
    let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
    let sealed = seal.0.encrypt(&nonce, Payload { msg: &json, aad: key });
    let sealed = sealed.unwrap_or_else(|e| unreachable!("a record is shorter than the cipher's 256 GiB: {e}"));
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&sealed);
    bytes
}

/// The record, and whether it is written as it would be now.
pub(super) fn decode(key: &[u8], bytes: &[u8], seal: &Seal) -> Result<(Record, bool), String> {
    let (version, rest) = bytes.split_first().ok_or("it is empty")?;
    match *version {
        VERSION => {
            let (nonce, sealed) = rest.split_at_checked(NONCE).ok_or("it is cut off")?;
            let opened = seal.0.decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: key });
            let json = opened.map_err(|_| "it is damaged, or sealed with another key than this host's".to_owned())?;
            let json = zeroize::Zeroizing::new(json);
            serde_json::from_slice(&json).map(|record| (record, true)).map_err(|e| e.to_string())
        }
        IN_CLEAR => {
            let (sum, json) = rest.split_at_checked(CHECKSUM).ok_or("it is cut off")?;
            if sum != checksum(json) {
                return Err("its checksum is wrong".to_owned());
            }
            serde_json::from_slice(json).map(|record| (record, false)).map_err(|e| e.to_string())
        }
        version => Err(format!("version {version} is not known; it was written by a newer version of Longshore")),
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0_u8; CHECKSUM];
    for (to, from) in sum.iter_mut().zip(Sha256::digest(bytes)) {
        *to = from;
    }
    sum
}
