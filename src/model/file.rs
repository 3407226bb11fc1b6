//! Configs and secrets: files with a content that a container is given.

use std::fmt;
use std::sync::Arc;

use super::Signal;

/// One file that a container sees: a config or a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedFile {
    /// Which of the two.
    pub kind: FileKind,
    /// Its name in the file, below `configs:` or `secrets:`.
    pub name: String,
    /// Where in the container: absolute, without `.` and `..`, not `/`.
    pub target: String,
    /// Whose it is in the container; where the file does not say, the user's whose process is started there.
    pub uid: Option<u32>,
    /// Its group, likewise.
    pub gid: Option<u32>,
    /// Permissions, without the bits that give away the owner's rights.
    pub mode: u32,
    /// What becomes of a running container when the content changes.
    pub on_change: OnChange,
    /// Tells one content from another, and nothing else of it.
    pub fingerprint: Fingerprint,
    /// The secret that it is of those that are kept on the host by name (`external`). Not written down with a container.
    pub kept: Option<String>,
    /// What it holds. None in what is known of a container that exists: nobody writes it down.
    pub content: Option<Content>,
}

impl MountedFile {
    /// As it is written down: what it holds is not.
    #[must_use]
    pub fn without_content(&self) -> Self {
        Self { content: None, kept: None, ..self.clone() }
    }
    /// `the config "web"`, for people.
    #[must_use]
    pub fn title(&self) -> String {
        format!("the {} {:?}", self.kind.word(), self.name)
    }
}

/// Config or secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// Anybody in the container may read it.
    Config,
    /// Nobody but who must.
    Secret,
}

impl FileKind {
    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Secret => "secret",
        }
    }
}

/// `x-longshore: on_change`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChange {
    /// The container is made again. The content is part of the service's hash then.
    #[default]
    Recreate,
    /// The container is stopped and started; what it wrote stays.
    Restart,
    /// The file is swapped in the running container, then its main process is sent this.
    Signal(Signal),
    /// The file is swapped in the running container.
    Update,
}

/// A keyed hash of a content, in base 16. Who does not have the host's key cannot try contents against it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Of a content, by the host's key.
    #[must_use]
    pub fn of(key: &FingerprintKey, content: &[u8]) -> Self {
        use hmac::{KeyInit as _, Mac as _};
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&key.0).expect("HMAC takes keys of any length");
        mac.update(content);
        let bytes = mac.finalize().into_bytes();
        Self(bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }
    /// Of a content that nobody knows: no content has it.
    #[must_use]
    pub fn unknown() -> Self {
        Self("0".repeat(32))
    }
    /// As it was written down: 32 digits of base 16.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == 32 && text.bytes().all(digit)).then(|| Self(text.to_owned()))
    }
    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What fingerprints are made with.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct FingerprintKey(pub [u8; 32]);

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What a config or a secret holds. It is shown nowhere, and wiped from memory with its last owner.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(Arc<zeroize::Zeroizing<Vec<u8>>>);

impl Content {
    /// Takes it.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(zeroize::Zeroizing::new(bytes)))
    }
    /// The bytes themselves, for who hands them on.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, Fingerprint, FingerprintKey};

    #[test]
    fn a_fingerprint_depends_on_key_and_content_and_shows_neither() {
        let (one, other) = (FingerprintKey([1; 32]), FingerprintKey([2; 32]));
        let print = Fingerprint::of(&one, b"hunter2");
        assert_eq!(print, Fingerprint::of(&one, b"hunter2"));
        assert_ne!(print, Fingerprint::of(&one, b"hunter3"));
        assert_ne!(print, Fingerprint::of(&other, b"hunter2"));
        assert_eq!(Fingerprint::parse(print.as_str()), Some(print));
        assert_eq!(Fingerprint::parse("x"), None);
        assert_eq!(Fingerprint::parse(Fingerprint::unknown().as_str()), Some(Fingerprint::unknown()));
        assert_eq!(format!("{:?} {one:?}", Content::new(b"hunter2".to_vec())), "… …");
    }
}
