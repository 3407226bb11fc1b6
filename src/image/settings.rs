//! What an owner may set about images, with defaults that fit a small machine.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How images are fetched and how much they may ask for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The registry that is meant where a person names none.
    pub default_registry: String,
    /// What is set for single registries, by `host` or `host:port`, as it stands in references (`docker.io`).
    pub registries: BTreeMap<String, RegistrySettings>,
    /// Folders in Docker's `certs.d` layout: `<folder>/<host[:port]>/{*.crt, *.cert, *.key}`; all that exist are read.
    pub certs_dirs: Vec<PathBuf>,
    /// Files in the format of `~/.docker/config.json` with logins and credential helpers, read anew for each pull;
    /// the first that knows the registry counts.
    pub login_files: Vec<PathBuf>,
    /// Where credential helpers (`docker-credential-*`) are looked for. None: in `PATH`.
    pub helper_dirs: Option<Vec<PathBuf>>,
    /// Further trusted certificate authorities for all registries, PEM.
    pub extra_roots_pem: Vec<Vec<u8>>,
    /// Proxies. None set: what the environment says (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`).
    pub proxy: Proxy,
    /// How long a silence may last.
    pub timeouts: Timeouts,
    /// How often one request is tried, within one pull.
    pub attempts: Attempts,
    /// How much an image may ask for.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_registry: "docker.io".to_owned(),
            registries: BTreeMap::new(),
            certs_dirs: Vec::new(),
            login_files: Vec::new(),
            helper_dirs: None,
            extra_roots_pem: Vec::new(),
            proxy: Proxy::default(),
            timeouts: Timeouts::default(),
            attempts: Attempts::default(),
            limits: Limits::default(),
        }
    }
}

/// What is set for one registry.
#[derive(Debug, Clone, Default)]
pub struct RegistrySettings {
    /// Plain HTTP. None: only where the host is a loopback address, as in dockerd.
    pub plain_http: Option<bool>,
    /// Asked before the registry itself, in this order.
    pub mirrors: Vec<Mirror>,
    /// Trusted for this registry in addition, PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// What we show of ourselves, PEM: certificate and key in one.
    pub client_pem: Option<Vec<u8>>,
    /// A login set in the configuration; it counts before the login files.
    pub credential: Option<Credential>,
}

/// Another place that holds a registry's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `host` or `host:port`; its own [`RegistrySettings`], logins and certificates count.
    pub host: String,
    /// Comes before the repository: `dockerhub` makes `<host>/v2/dockerhub/library/nginx`. Empty: none.
    pub prefix: String,
    /// Plain HTTP. None: as for any registry of this name.
    pub plain_http: Option<bool>,
}

/// Where requests go through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// For `http://` addresses.
    pub http: Option<String>,
    /// For `https://` addresses.
    pub https: Option<String>,
    /// Hosts, domains and networks that are asked directly, with commas between.
    pub no_proxy: Option<String>,
}

/// What lets us in. Its `Debug` form keeps the secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user and a password or access token.
    Password {
        /// The user.
        user: String,
        /// The password or access token.
        password: String,
    },
    /// A refresh token (`identitytoken` in Docker's file), exchanged for access tokens by OAuth2.
    IdentityToken(String),
    /// An access token, sent as it is (`registrytoken`).
    RegistryToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => {
                f.debug_struct("Password").field("user", user).field("password", &"<redacted>").finish()
            }
            Self::IdentityToken(_) => f.write_str("IdentityToken(<redacted>)"),
            Self::RegistryToken(_) => f.write_str("RegistryToken(<redacted>)"),
        }
    }
}

/// How often one request is tried within a pull, before the pull fails and the planner decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// Attempts in a row without one byte of progress.
    pub fruitless: u32,
    /// Longest wait that a registry may ask for (`Retry-After`) and that is waited out within the pull.
    pub longest_wait: Duration,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { fruitless: 5, longest_wait: Duration::from_secs(30) }
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
        Self { connect: Duration::from_secs(15), progress: Duration::from_secs(20), exchange: Duration::from_secs(120) }
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
    /// Bytes of the path of one entry; Linux itself allows 4095.
    pub path_bytes: usize,
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
            path_bytes: 4095,
            layer_bytes: 64 << 30,
            ratio: 200,
            ratio_free_bytes: 4 << 30,
            xattr_bytes: 1 << 20,
            parallel_layers: 3,
        }
    }
}
