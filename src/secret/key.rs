//! The host's key: made once, kept in a file of root's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use hmac::{KeyInit as _, Mac as _};
use zeroize::Zeroizing;

pub(super) const HOST_KEY: &str = "host.key";
const LONGEST_KEY: u64 = 64 << 10;

/// Why the secrets cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}", path.display())]
pub struct OpenError {
    pub(super) what: &'static str,
    pub(super) path: PathBuf,
    #[source]
    pub(super) error: io::Error,
}

/// What a key that follows from the host's is for. Each use has one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// Sealing the records of the database.
    Records,
    /// Telling contents apart.
    Fingerprints,
}

impl KeyUse {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Records => b"longshore records 1",
            Self::Fingerprints => b"longshore fingerprints 1",
        }
    }
}

/// A key for one use; from the host's key, so that nothing more has to be kept.
pub(super) fn derived(identity: &Identity, purpose: KeyUse) -> [u8; 32] {
    let secret = identity.to_string();
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(purpose.label());
    mac.finalize().into_bytes().into()
}

/// Reads the host's key, or makes one; and what the owner should know.
pub(super) fn open(folder: &Path, notes: &mut Vec<String>) -> Result<Identity, OpenError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |error| OpenError { what, path, error }
    };
    let mut builder = fs::DirBuilder::new();
    match builder.mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed("cannot make the folder of secrets", folder)(error));
        }
        _ => {}
    }
    let path = folder.join(HOST_KEY);
    closed(folder, 0o700, notes).map_err(failed("cannot read", folder))?;
    match read(&path) {
        Ok(Some(identity)) => {
            closed(&path, 0o600, notes).map_err(failed("cannot read", &path))?;
            return Ok(identity);
        }
        Ok(None) => {
            let aside = aside(folder);
            fs::rename(&path, &aside).map_err(failed("cannot set aside", &path))?;
            notes.push(format!(
                "the host's key is no age identity and was set aside as {}; secrets that were encrypted to it cannot be read until it is back as {}",
                aside.display(),
                path.display()
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if super::vault::any_kept(folder) {
                notes.push(format!(
                    "the host's key {} is gone and a new one was made; secrets that were encrypted to the old one cannot be read until it is back",
                    path.display()
                ));
            }
        }
        Err(error) => return Err(failed("cannot read the host's key", &path)(error)),
    }
    make(folder, &path).map_err(failed("cannot write the host's key", &path))
}

/// A name that is free.
fn aside(folder: &Path) -> PathBuf {
    let name = |n: u32| folder.join(format!("{HOST_KEY}.broken-{n}"));
    (1..).map(name).find(|path| fs::symlink_metadata(path).is_err()).expect("a folder does not hold every name")
}

/// None: it is there, and holds no key.
fn read(path: &Path) -> io::Result<Option<Identity>> {
    let mut text = Zeroizing::new(Vec::new());
    File::open(path)?.take(LONGEST_KEY).read_to_end(&mut text)?;
    let Ok(text) = std::str::from_utf8(&text) else { return Ok(None) };
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(line.and_then(|line| Identity::from_str(line).ok()))
}

/// Takes from others what they may do with it.
fn closed(path: &Path, mode: u32, notes: &mut Vec<String>) -> io::Result<()> {
    let now = fs::metadata(path)?.permissions().mode() & 0o7777;
    if now & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    notes.push(format!(
        "{} was open to others ({now:04o}) and is {mode:04o} now; if somebody may have read it, make new secrets",
        path.display()
    ));
    Ok(())
}

fn make(folder: &Path, path: &Path) -> io::Result<Identity> {
    let identity = Identity::generate();
    let secret = identity.to_string();
    let text = Zeroizing::new(format!(
        "# The key of this host. Who has it can read its secrets; without it nobody can.\n# recipient: {}\n{}\n",
        identity.to_public(),
        secret.expose_secret()
    ));
    write(folder, path, text.as_bytes())?;
    Ok(identity)
}

/// The whole file or none, on disk when this returns.
pub(super) fn write(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = folder.join(".draft");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&draft, path));
    if written.is_err() && fs::remove_file(&draft).is_err() {
        tracing::debug!(draft = %draft.display(), "the draft stays until the next one");
    }
    written?;
    File::open(folder)?.sync_all()
}
