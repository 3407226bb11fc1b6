//! What an owner may set about images, with defaults that fit a small machine.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How images are fetched and how much they may ask for.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Registries (`host` or `host:port`) spoken to in plain HTTP. Loopback registries always are, as in dockerd.
    pub insecure_hosts: Vec<String>,
    /// Loopback registries that do speak TLS.
    pub secure_hosts: Vec<String>,
    /// Further trusted certificate authorities, PEM.
    pub extra_roots_pem: Vec<Vec<u8>>,
    /// User and password by registry.
    pub credentials: BTreeMap<String, Credential>,
    /// How long a silence may last.
    pub timeouts: Timeouts,
    /// How much an image may ask for.
    pub limits: Limits,
}

/// A user and a password. Its `Debug` form keeps the secret.
#[derive(Clone)]
pub struct Credential {
    /// The user.
    pub user: String,
    /// The password or access token.
    pub password: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("user", &self.user).field("password", &"<redacted>").finish()
    }
}

/// Limits on waiting. None of them limits the length of a download that moves.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// Between two pieces of an answer.
    pub progress: Duration,
    /// For a whole small exchange: a manifest, a configuration, a token.
    pub exchange: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(15), progress: Duration::from_secs(30), exchange: Duration::from_secs(120) }
    }
}

/// Limits on what an image may ask for. Beyond them it is refused, whatever it is.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a manifest or index.
    pub manifest_bytes: u64,
    /// Bytes of an image configuration.
    pub config_bytes: u64,
    /// Layers of one image.
    pub layers: usize,
    /// Entries of one layer.
    pub entries: u64,
    /// Bytes of one layer after decompression.
    pub layer_bytes: u64,
    /// Decompressed bytes for each compressed one, looked at after `ratio_free_bytes`.
    pub ratio: u64,
    /// Decompressed bytes for which the ratio does not count; small layers of zeros are harmless.
    pub ratio_free_bytes: u64,
    /// Bytes of the extended attributes of one entry.
    pub xattr_bytes: usize,
    /// Layers fetched at once for one image.
    pub parallel_layers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 << 20,
            config_bytes: 8 << 20,
            layers: 127,
            entries: 2_000_000,
            layer_bytes: 64 << 30,
            ratio: 200,
            ratio_free_bytes: 4 << 30,
            xattr_bytes: 1 << 20,
            parallel_layers: 3,
        }
    }
}
