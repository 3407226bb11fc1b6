//! Logins: where they are found, and how they are kept.
//!
//! The registry's own setting counts first, then the login files in their order: for each, the helper of the registry,
//! the logins in the file (the longest path that fits), the helper for all. Files are read anew for each pull; nothing is
//! remembered for longer. A file that is missing says nothing; one that others can read is refused.

pub(super) mod file;
mod helper;
mod private;
mod write;

use std::path::PathBuf;

use serde_json::{Map, Value};

pub use helper::HelperError;
pub use private::{PrivateError, read_private};
pub use write::Kept;
pub(super) use write::{forget, keep};

use super::settings::{Credential, Settings};
use file::Entry;
use helper::Helper;

/// Why logins cannot be read or kept. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// Its content.
    #[error("the login file {} cannot be used: {reason}", path.display())]
    Format { path: PathBuf, reason: String },
    /// A helper.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// It cannot be written.
    #[error("cannot write the login file {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// There is none to write to.
    #[error("no login file is configured; set login-files in the configuration")]
    NoFile,
}

/// The login for a repository of a registry, if there is one.
pub(super) async fn find(
    settings: &Settings,
    registry: &str,
    repository: &str,
) -> Result<Option<Credential>, CredentialError> {
    if let Some(set) = settings.registries.get(registry).and_then(|set| set.credential.clone()) {
        return Ok(Some(set));
    }
    for path in &settings.login_files {
        let Some(content) = read(path)? else { continue };
        let said = file::entry(&content, registry, repository);
        let found = match said.map_err(|reason| CredentialError::Format { path: path.clone(), reason })? {
            Entry::Credential(credential) => Some(credential),
            Entry::Helper { name, server } => {
                let own = helper(settings, &name).get(&server).await?;
                match own {
                    Some(credential) => Some(credential),
                    None => in_file(&content, registry, repository),
                }
            }
            Entry::None => None,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// A login in the file itself, where its helper knows none.
fn in_file(content: &Map<String, Value>, registry: &str, repository: &str) -> Option<Credential> {
    let only: Map<String, Value> =
        content.get("auths").map(|auths| ("auths".to_owned(), auths.clone())).into_iter().collect();
    match file::entry(&only, registry, repository) {
        Ok(Entry::Credential(credential)) => Some(credential),
        Ok(Entry::Helper { .. } | Entry::None) | Err(_) => None,
    }
}

fn helper<'a>(settings: &'a Settings, name: &'a str) -> Helper<'a> {
    Helper { name, dirs: settings.helper_dirs.as_deref(), patience: helper::PATIENCE }
}

/// A login file's content; none where there is no file, or an empty one.
fn read(path: &std::path::Path) -> Result<Option<Map<String, Value>>, CredentialError> {
    let Some(bytes) = read_private(path)? else { return Ok(None) };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Some(Map::new()));
    }
    // The parser's words hold places, but could quote a value of the wrong type.
    let broken = |error: serde_json::Error| CredentialError::Format {
        path: path.to_owned(),
        reason: format!("it is not JSON (line {}, column {})", error.line(), error.column()),
    };
    match serde_json::from_slice(&bytes).map_err(broken)? {
        Value::Object(map) => Ok(Some(map)),
        _ => Err(CredentialError::Format { path: path.to_owned(), reason: "it is not a JSON object".to_owned() }),
    }
}
