//! Speaks to registries. oci-client does the tokens; requests are our own on the same HTTP client, because manifests,
//! configurations and error texts must be bounded, `Retry-After` and `Content-Type` be seen, and redirects be counted.
//!
//! No credential goes to another host: they are given to oci-client, which asks the token server the registry names,
//! and reqwest drops `Authorization` when a redirect leads elsewhere. Nothing in here retries, but for one new token.

mod error;
mod http;

use hyper::body::Bytes;
use oci_client::client::ClientProtocol;
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use crate::image::error::{OpenError, line};
use crate::image::hash::digest_like;
use crate::image::manifest::{self, Descriptor};
use crate::image::settings::{Credential, Settings};
use crate::model::{Digest, ImageReference};
pub use error::{RegistryError, Said};
use http::{basic, chain, client_config, endpoint, http_client, retry_after, speaks_plain};

/// Bytes of an error answer that are looked at.
const ERROR_BYTES: usize = 16 << 10;

/// The clients for all registries.
pub(in crate::image) struct Registry {
    http: reqwest::Client,
    tokens_plain: oci_client::Client,
    tokens_tls: oci_client::Client,
    settings: Settings,
}

impl Registry {
    pub(in crate::image) fn new(settings: Settings) -> Result<Self, OpenError> {
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
    pub(in crate::image) fn about<'a>(&'a self, image: &'a ImageReference) -> Session<'a> {
        let plain = speaks_plain(&self.settings, image.registry());
        Session { registry: self, image, plain, login: tokio::sync::RwLock::new(Login::default()) }
    }
}

/// What goes into `Authorization`, and how often it was asked for.
#[derive(Default, Clone)]
struct Login {
    header: Option<String>,
    generation: u32,
}

/// One image's conversation.
pub(in crate::image) struct Session<'a> {
    registry: &'a Registry,
    image: &'a ImageReference,
    plain: bool,
    login: tokio::sync::RwLock<Login>,
}

/// A document with the type its registry gives it.
pub(in crate::image) struct Fetched {
    pub(in crate::image) bytes: Bytes,
    pub(in crate::image) content_type: Option<String>,
    pub(in crate::image) digest: Digest,
}

impl Session<'_> {
    /// The manifest or index that the reference names.
    pub(in crate::image) async fn top(&self) -> Result<Fetched, RegistryError> {
        let name = match (self.image.digest(), self.image.tag()) {
            (Some(digest), _) => digest.as_str(),
            (None, tag) => tag.unwrap_or("latest"),
        };
        self.manifest(name, self.image.digest(), None).await
    }

    /// A manifest that an index names.
    pub(in crate::image) async fn child(&self, of: &Descriptor) -> Result<Fetched, RegistryError> {
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
            (None, None) => Digest::parse(&format!("sha256:{}", crate::image::hash::sha256_hex(&bytes)))
                .map_err(|_| self.unexpected(StatusCode::OK, Said::default()))?,
        };
        self.verify(&digest, size, &bytes)?;
        let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
        Ok(Fetched { bytes, content_type, digest })
    }

    /// A small blob, whole and verified.
    pub(in crate::image) async fn small_blob(
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
    pub(in crate::image) async fn blob(&self, of: &Descriptor) -> Result<Response, RegistryError> {
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
    pub(in crate::image) async fn piece(&self, response: &mut Response) -> Result<Option<Bytes>, RegistryError> {
        response.chunk().await.map_err(|e| self.broken(e))
    }

    pub(in crate::image) fn wrong_size(&self, of: &Descriptor, got: u64) -> RegistryError {
        RegistryError::WrongSize { registry: self.host(), digest: of.digest.clone(), expected: of.size, got }
    }

    pub(in crate::image) fn wrong_digest(&self, expected: &Digest, got: String) -> RegistryError {
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
        let registry = self.registry.settings.registries.get(self.image.registry());
        let known = registry.and_then(|r| r.credential.as_ref());
        let auth = match known {
            Some(Credential::Password { user, password }) => {
                if challenge.trim_start().to_ascii_lowercase().starts_with("basic") {
                    return Ok(Some(basic(user, password)));
                }
                RegistryAuth::Basic(user.clone(), password.clone())
            }
            Some(Credential::RegistryToken(token)) => return Ok(Some(format!("Bearer {token}"))),
            Some(Credential::IdentityToken(_)) | None => RegistryAuth::Anonymous,
        };
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
