//! Speaks to registries. oci-client does the tokens; requests are our own on the same HTTP client, because manifests,
//! configurations and error texts must be bounded, `Retry-After` and `Content-Type` be seen, and redirects be counted.
//!
//! No credential goes to another host: they are given to oci-client, which asks the token server the registry names,
//! and reqwest drops `Authorization` when a redirect leads elsewhere. Nothing in here retries, but for one new token.

use std::net::IpAddr;
use std::time::Duration;

use hyper::body::Bytes;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use super::error::{OpenError, line};
use super::hash::digest_like;
use super::manifest::{self, Descriptor};
use super::settings::Settings;
use crate::model::{Digest, ImageReference};

/// Redirects from one request.
const REDIRECTS: usize = 10;
/// Bytes of an error answer that are looked at.
const ERROR_BYTES: usize = 16 << 10;

/// Why a registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No connection: refused, unknown host, no route, bad certificate. The source says which.
    #[error("cannot connect to registry {registry}")]
    Connect {
        registry: String,
        #[source]
        source: reqwest::Error,
    },
    /// It is there but silent.
    #[error("registry {registry} stopped answering for {} s", waited.as_secs_f32())]
    Timeout { registry: String, waited: Duration },
    /// Sent from one place to another without end, or from HTTPS to HTTP.
    #[error("registry {registry} redirects more than {REDIRECTS} times, or away from HTTPS")]
    Redirects { registry: String },
    /// The connection broke, or what came is not HTTP.
    #[error("the answer of registry {registry} broke off or is not HTTP")]
    Broken {
        registry: String,
        #[source]
        source: reqwest::Error,
    },
    /// No such image.
    #[error("image {image} does not exist in registry {registry}")]
    Unknown { registry: String, image: String },
    /// The image names content the registry does not have.
    #[error("registry {registry} does not have {digest}, which the image consists of")]
    Incomplete { registry: String, digest: Digest },
    /// A login is needed, or the one there is does not do.
    #[error("registry {registry} refuses access (HTTP {status}){said}; is the name right, and is a login needed?")]
    Denied { registry: String, status: u16, said: Said },
    /// Too many questions.
    #[error("registry {registry} asks to slow down (HTTP 429){said}")]
    TooManyRequests { registry: String, said: Said, retry_after: Option<Duration> },
    /// Its own trouble.
    #[error("registry {registry} fails (HTTP {status}){said}")]
    Unavailable { registry: String, status: u16, said: Said, retry_after: Option<Duration> },
    /// Any other answer.
    #[error("registry {registry} answers with HTTP {status}{said}")]
    Unexpected { registry: String, status: u16, said: Said },
    /// Content that is not what its name says.
    #[error("registry {registry} sent {got} where {expected} was asked for")]
    WrongDigest { registry: String, expected: Digest, got: String },
    /// Content longer or shorter than announced.
    #[error("registry {registry} sent {got} bytes of {digest}, which has {expected}")]
    WrongSize { registry: String, digest: Digest, expected: u64, got: u64 },
    /// Content beyond its limit.
    #[error("registry {registry} sends more than the {limit} bytes allowed for {what}")]
    TooLarge { registry: String, what: &'static str, limit: u64 },
}

/// The registry's own words, made fit for one line; empty where it said nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said(String);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

impl RegistryError {
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
    pub(super) fn permanent(&self) -> bool {
        match self {
            Self::Unknown { .. }
            | Self::Incomplete { .. }
            | Self::Denied { .. }
            | Self::Unexpected { .. }
            | Self::Redirects { .. }
            | Self::TooLarge { .. } => true,
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::TooManyRequests { .. }
            | Self::Unavailable { .. }
            | Self::WrongDigest { .. }
            | Self::WrongSize { .. } => false,
        }
    }
}

/// The clients for all registries.
pub(super) struct Registry {
    http: reqwest::Client,
    tokens_plain: oci_client::Client,
    tokens_tls: oci_client::Client,
    settings: Settings,
}

impl Registry {
    pub(super) fn new(settings: Settings) -> Result<Self, OpenError> {
        // The provider is one for the whole process; another room may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let failed = |e: &dyn std::error::Error| OpenError::Client { reason: chain(e) };
        let client = |protocol| oci_client::Client::try_from(client_config(&settings, protocol));
        Ok(Self {
            http: http_client(&settings).map_err(|e| failed(&e))?,
            tokens_plain: client(ClientProtocol::Http).map_err(|e| failed(&e))?,
            tokens_tls: client(ClientProtocol::Https).map_err(|e| failed(&e))?,
            settings,
        })
    }

    /// A conversation about one image; it keeps the token.
    pub(super) fn about<'a>(&'a self, image: &'a ImageReference) -> Session<'a> {
        let plain = speaks_plain(&self.settings, image.registry());
        Session { registry: self, image, plain, login: tokio::sync::RwLock::new(Login::default()) }
    }
}

fn client_config(settings: &Settings, protocol: ClientProtocol) -> ClientConfig {
    let pem = |data: &Vec<u8>| Certificate { encoding: CertificateEncoding::Pem, data: data.clone() };
    ClientConfig {
        protocol,
        extra_root_certificates: settings.extra_roots_pem.iter().map(pem).collect(),
        read_timeout: Some(settings.timeouts.progress),
        connect_timeout: Some(settings.timeouts.connect),
        user_agent: AGENT,
        ..ClientConfig::default()
    }
}

const AGENT: &str = concat!("longshore/", env!("CARGO_PKG_VERSION"));

fn http_client(settings: &Settings) -> Result<reqwest::Client, reqwest::Error> {
    let roots = settings.extra_roots_pem.iter().map(|pem| reqwest::Certificate::from_pem(pem));
    let roots = roots.collect::<Result<Vec<_>, _>>()?;
    let mut builder = reqwest::Client::builder()
        .user_agent(AGENT)
        .connect_timeout(settings.timeouts.connect)
        .read_timeout(settings.timeouts.progress)
        .redirect(reqwest::redirect::Policy::custom(follow));
    if !roots.is_empty() {
        builder = builder.tls_certs_merge(roots);
    }
    builder.build()
}

fn follow(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    let downgraded = attempt.url().scheme() == "http" && attempt.previous().iter().any(|u| u.scheme() == "https");
    if attempt.previous().len() > REDIRECTS || downgraded {
        attempt.error("too many redirects, or one away from HTTPS")
    } else {
        attempt.follow()
    }
}

/// Whether a registry is spoken to without TLS.
fn speaks_plain(settings: &Settings, registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    let named = |list: &[String]| list.iter().any(|h| h == registry || h == host);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    named(&settings.insecure_hosts) || loopback && !named(&settings.secure_hosts)
}

/// What goes into `Authorization`, and how often it was asked for.
#[derive(Default, Clone)]
struct Login {
    header: Option<String>,
    generation: u32,
}

/// One image's conversation.
pub(super) struct Session<'a> {
    registry: &'a Registry,
    image: &'a ImageReference,
    plain: bool,
    login: tokio::sync::RwLock<Login>,
}

/// A document with the type its registry gives it.
pub(super) struct Fetched {
    pub(super) bytes: Bytes,
    pub(super) content_type: Option<String>,
    pub(super) digest: Digest,
}

impl Session<'_> {
    /// The manifest or index that the reference names.
    pub(super) async fn top(&self) -> Result<Fetched, RegistryError> {
        let name = match (self.image.digest(), self.image.tag()) {
            (Some(digest), _) => digest.as_str(),
            (None, tag) => tag.unwrap_or("latest"),
        };
        self.manifest(name, self.image.digest(), None).await
    }

    /// A manifest that an index names.
    pub(super) async fn child(&self, of: &Descriptor) -> Result<Fetched, RegistryError> {
        self.manifest(of.digest.as_str(), Some(&of.digest), Some(of.size)).await
    }

    async fn manifest(
        &self,
        name: &str,
        expected: Option<&Digest>,
        size: Option<u64>,
    ) -> Result<Fetched, RegistryError> {
        let limit = self.registry.settings.limits.manifest_bytes;
        let fetch = async {
            let response = self.get("manifests", name, Some(manifest::ACCEPT)).await?;
            let headers = response.headers().clone();
            Ok((headers, self.bounded(response, "a manifest", limit).await?))
        };
        let (headers, bytes) = self.in_time(fetch).await?;
        let text = |key: &str| headers.get(key).and_then(|v| v.to_str().ok());
        let announced = text("docker-content-digest").and_then(|d| Digest::parse(d).ok());
        let digest = match (expected, announced) {
            (Some(expected), _) => expected.clone(),
            (None, Some(announced)) => announced,
            (None, None) => Digest::parse(&format!("sha256:{}", super::hash::sha256_hex(&bytes)))
                .map_err(|_| self.unexpected(StatusCode::OK, Said::default()))?,
        };
        self.verify(&digest, size, &bytes)?;
        let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
        Ok(Fetched { bytes, content_type, digest })
    }

    /// A small blob, whole and verified.
    pub(super) async fn small_blob(
        &self,
        of: &Descriptor,
        what: &'static str,
        limit: u64,
    ) -> Result<Bytes, RegistryError> {
        if of.size > limit {
            return Err(RegistryError::TooLarge { registry: self.host(), what, limit });
        }
        let bytes = self
            .in_time(async {
                let response = self.blob(of).await?;
                self.bounded(response, what, limit).await
            })
            .await?;
        self.verify(&of.digest, Some(of.size), &bytes)?;
        Ok(bytes)
    }

    /// A blob's answer, its body not read yet.
    pub(super) async fn blob(&self, of: &Descriptor) -> Result<Response, RegistryError> {
        let response = match self.in_time(self.get("blobs", of.digest.as_str(), None)).await {
            Err(RegistryError::Unknown { registry, .. }) => {
                return Err(RegistryError::Incomplete { registry, digest: of.digest.clone() });
            }
            other => other?,
        };
        match response.content_length() {
            Some(length) if length != of.size => Err(self.wrong_size(of, length)),
            Some(_) | None => Ok(response),
        }
    }

    /// The next piece of a blob. reqwest's read timeout bounds the wait.
    pub(super) async fn piece(&self, response: &mut Response) -> Result<Option<Bytes>, RegistryError> {
        response.chunk().await.map_err(|e| self.broken(e))
    }

    pub(super) fn wrong_size(&self, of: &Descriptor, got: u64) -> RegistryError {
        RegistryError::WrongSize { registry: self.host(), digest: of.digest.clone(), expected: of.size, got }
    }

    pub(super) fn wrong_digest(&self, expected: &Digest, got: String) -> RegistryError {
        RegistryError::WrongDigest { registry: self.host(), expected: expected.clone(), got }
    }

    fn verify(&self, digest: &Digest, size: Option<u64>, bytes: &[u8]) -> Result<(), RegistryError> {
        if let Some(expected) = size.filter(|s| *s != bytes.len() as u64) {
            let (registry, digest, got) = (self.host(), digest.clone(), bytes.len() as u64);
            return Err(RegistryError::WrongSize { registry, digest, expected, got });
        }
        let got = digest_like(digest, bytes);
        if got == digest.as_str() { Ok(()) } else { Err(self.wrong_digest(digest, got)) }
    }

    async fn get(&self, kind: &str, name: &str, accept: Option<&str>) -> Result<Response, RegistryError> {
        let scheme = if self.plain { "http" } else { "https" };
        let url = format!("{scheme}://{}/v2/{}/{kind}/{name}", endpoint(self.image), self.image.repository());
        let login = self.login.read().await.clone();
        let response = self.send(&url, accept, login.header.as_deref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.good(response).await;
        }
        // A token may be missing or have run out: one new one, and then the registry's word counts.
        let header = self.renew(login.generation, response.headers()).await?;
        let again = self.send(&url, accept, header.as_deref()).await?;
        self.good(again).await
    }

    async fn send(&self, url: &str, accept: Option<&str>, login: Option<&str>) -> Result<Response, RegistryError> {
        let mut request = self.registry.http.get(url);
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(login) = login {
            request = request.header(AUTHORIZATION, login);
        }
        request.send().await.map_err(|e| self.broken(e))
    }

    /// A new token, unless another layer's download got one meanwhile.
    async fn renew(&self, seen: u32, headers: &HeaderMap) -> Result<Option<String>, RegistryError> {
        let mut login = self.login.write().await;
        if login.generation == seen {
            let challenge = headers.get(WWW_AUTHENTICATE).and_then(|v| v.to_str().ok()).unwrap_or_default();
            login.header = self.ask_for_login(challenge).await?;
            login.generation += 1;
        }
        Ok(login.header.clone())
    }

    async fn ask_for_login(&self, challenge: &str) -> Result<Option<String>, RegistryError> {
        let known = self.registry.settings.credentials.get(self.image.registry());
        if challenge.trim_start().to_ascii_lowercase().starts_with("basic") {
            return Ok(known.map(|c| basic(&c.user, &c.password)));
        }
        let auth = known.map_or(RegistryAuth::Anonymous, |c| RegistryAuth::Basic(c.user.clone(), c.password.clone()));
        let client = if self.plain { &self.registry.tokens_plain } else { &self.registry.tokens_tls };
        let name = Reference::with_tag(
            self.image.registry().to_owned(),
            self.image.repository().to_owned(),
            self.image.tag().unwrap_or("latest").to_owned(),
        );
        let asked =
            timeout(self.registry.settings.timeouts.exchange, client.auth(&name, &auth, RegistryOperation::Pull));
        match asked.await {
            Ok(Ok(token)) => Ok(token.map(|t| format!("Bearer {t}"))),
            Ok(Err(error)) => Err(RegistryError::Denied {
                registry: self.host(),
                status: StatusCode::UNAUTHORIZED.as_u16(),
                said: Said(line(&chain(&error), 300)),
            }),
            Err(_) => Err(self.silent()),
        }
    }

    async fn good(&self, response: Response) -> Result<Response, RegistryError> {
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let retry_after = retry_after(response.headers());
        let said = self.said(response).await;
        let (registry, code) = (self.host(), status.as_u16());
        Err(match status {
            StatusCode::NOT_FOUND => RegistryError::Unknown { registry, image: self.image.to_string() },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Denied { registry, status: code, said },
            StatusCode::TOO_MANY_REQUESTS => RegistryError::TooManyRequests { registry, said, retry_after },
            _ if status.is_server_error() => RegistryError::Unavailable { registry, status: code, said, retry_after },
            _ => self.unexpected(status, said),
        })
    }

    /// The first of the registry's error messages (distribution-spec, "Error Codes"), bounded in every way.
    async fn said(&self, mut response: Response) -> Said {
        let mut body = Vec::new();
        while let Ok(Ok(Some(piece))) = timeout(self.registry.settings.timeouts.progress, response.chunk()).await {
            body.extend_from_slice(&piece[..piece.len().min(ERROR_BYTES - body.len())]);
            if body.len() >= ERROR_BYTES {
                break;
            }
        }
        let parsed: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let message = parsed.as_ref().and_then(|v| v.pointer("/errors/0/message")).and_then(serde_json::Value::as_str);
        Said(message.map(|m| line(m, 200)).unwrap_or_default())
    }

    async fn bounded(&self, mut response: Response, what: &'static str, limit: u64) -> Result<Bytes, RegistryError> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| self.broken(e))? {
            if (body.len() + piece.len()) as u64 > limit {
                return Err(RegistryError::TooLarge { registry: self.host(), what, limit });
            }
            body.extend_from_slice(&piece);
        }
        Ok(Bytes::from(body))
    }

    async fn in_time<T>(&self, exchange: impl Future<Output = Result<T, RegistryError>>) -> Result<T, RegistryError> {
        timeout(self.registry.settings.timeouts.exchange, exchange).await.unwrap_or_else(|_| Err(self.silent()))
    }

    fn silent(&self) -> RegistryError {
        RegistryError::Timeout { registry: self.host(), waited: self.registry.settings.timeouts.exchange }
    }

    fn broken(&self, error: reqwest::Error) -> RegistryError {
        let registry = self.host();
        // The address may hold a signature of a store behind the registry; it has no place in a log.
        let source = error.without_url();
        if source.is_redirect() {
            RegistryError::Redirects { registry }
        } else if source.is_timeout() && source.is_connect() {
            RegistryError::Timeout { registry, waited: self.registry.settings.timeouts.connect }
        } else if source.is_timeout() {
            RegistryError::Timeout { registry, waited: self.registry.settings.timeouts.progress }
        } else if source.is_connect() {
            RegistryError::Connect { registry, source }
        } else {
            RegistryError::Broken { registry, source }
        }
    }

    fn unexpected(&self, status: StatusCode, said: Said) -> RegistryError {
        RegistryError::Unexpected { registry: self.host(), status: status.as_u16(), said }
    }

    fn host(&self) -> String {
        self.image.registry().to_owned()
    }
}

/// Docker Hub answers under another name than the one people write.
fn endpoint(image: &ImageReference) -> &str {
    if image.registry() == "docker.io" { "registry-1.docker.io" } else { image.registry() }
}

/// Seconds only: the form with a date needs a clock that agrees with the registry's.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(24 * 3600)))
}

fn basic(user: &str, password: &str) -> String {
    const TABLE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::from("Basic ");
    for group in format!("{user}:{password}").as_bytes().chunks(3) {
        let word = (0..3).fold(0u32, |w, at| (w << 8) | u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let symbol = char::from(TABLE[(word >> (18 - 6 * at)) as usize & 63]);
            out.push(if at <= group.len() { symbol } else { '=' });
        }
    }
    out
}

/// An error and all below it, where the one above hides what matters.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_plain_unless_it_is_said_to_be_secure() {
        let settings = Settings {
            insecure_hosts: vec!["lab.example".into(), "10.0.0.1:5000".into()],
            secure_hosts: vec!["127.0.0.1:5443".into()],
            ..Settings::default()
        };
        let table = [
            ("localhost:5000", true),
            ("127.0.0.2:5000", true),
            ("[::1]:5000", true),
            ("127.0.0.1:5443", false),
            ("lab.example:8080", true),
            ("10.0.0.1:5000", true),
            ("10.0.0.1", false),
            ("docker.io", false),
            ("localhost.example", false),
        ];
        for (registry, plain) in table {
            assert_eq!(speaks_plain(&settings, registry), plain, "{registry}");
        }
    }

    #[test]
    fn basic_credentials_are_encoded() {
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(basic("a", "b"), "Basic YTpi");
    }
}
