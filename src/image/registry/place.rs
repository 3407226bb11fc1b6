//! One place that may have an image's content: the registry of its name, or a mirror. It keeps the token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use hyper::body::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use tokio::time::timeout;

use super::clients::{HostClients, Use};
use super::error::{RegistryError, Said};
use super::http::{basic, retry_after, secret, tls_error, wants_certificate};
use super::token::{self, Challenge, Token};
use crate::image::error::line;
use crate::image::progress::Progress;
use crate::image::settings::{Credential, Settings, Timeouts};
use crate::model::Digest;

/// How long a mirror may keep its first answer to itself: there is another place.
const MIRROR_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an error answer that are looked at.
const ERROR_BYTES: usize = 16 << 10;

/// A request below a repository, which may be sent more than once.
#[derive(Clone)]
pub(in crate::image) struct Ask {
    pub(in crate::image) method: Method,
    /// Below the repository (`blobs/sha256:…`), or a whole address that a `Location` gave.
    pub(in crate::image) path: String,
    pub(in crate::image) headers: HeaderMap,
    pub(in crate::image) body: Payload,
    /// Answers besides 2xx that are no errors.
    pub(in crate::image) also: &'static [StatusCode],
}

/// What a request carries.
#[derive(Clone)]
pub(in crate::image) enum Payload {
    Nothing,
    Bytes(Bytes),
    /// Made anew for each attempt.
    Stream(Arc<dyn Fn() -> Pieces + Send + Sync>),
}

/// Bytes that are made while they are sent.
pub(in crate::image) type Pieces = futures_util::stream::BoxStream<'static, std::io::Result<Bytes>>;

impl Ask {
    pub(in crate::image) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: Payload::Nothing, also: &[] }
    }
    pub(in crate::image) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }
}

/// A registry or a mirror, for one image.
pub(super) struct Place {
    /// As it is written in references and settings.
    pub(super) host: String,
    /// What is wanted of it, for messages.
    image: String,
    repository: String,
    pub(super) plain: bool,
    pub(super) mirror: bool,
    /// Whether it failed in a way that makes another question useless.
    out: AtomicBool,
    /// Whether it ever answered.
    answered: AtomicBool,
    base: Result<Url, ()>,
    /// The registry it stands for, as containerd tells its mirrors.
    stands_for: Option<String>,
    clients: Result<HostClients, String>,
    credential: Result<Option<Credential>, String>,
    scopes: Vec<String>,
    login: tokio::sync::RwLock<Login>,
}

/// The token in use and how often one was asked for.
#[derive(Default, Clone)]
struct Login {
    token: Option<Token>,
    from: Option<Challenge>,
    generation: u32,
}

/// What a place is made of.
pub(super) struct Parts {
    pub(super) host: String,
    pub(super) address: String,
    pub(super) image: String,
    pub(super) repository: String,
    pub(super) plain: bool,
    pub(super) stands_for: Option<String>,
    pub(super) mirror: bool,
    pub(super) clients: Result<HostClients, String>,
    pub(super) credential: Result<Option<Credential>, String>,
    /// Asked for besides what the registry's challenge names.
    pub(super) scopes: Vec<String>,
}

impl Place {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { host, address, image, repository, plain, stands_for, mirror, clients, credential, scopes } = parts;
        let scheme = if plain { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{address}/v2/{repository}/")).map_err(|_| ());
        let (out, answered, login) = Default::default();
        Self {
            host,
            image,
            repository,
            plain,
            mirror,
            out,
            answered,
            base,
            stands_for,
            clients,
            credential,
            scopes,
            login,
        }
    }

    pub(super) fn is_out(&self) -> bool {
        self.out.load(Ordering::Relaxed)
    }
    pub(super) fn leave_out(&self) {
        self.out.store(true, Ordering::Relaxed);
    }

    /// One exchange, with a new token where the old one has run out; the answer is one of success.
    pub(super) async fn send(
        &self,
        ask: &Ask,
        settings: &Settings,
        progress: &Progress,
    ) -> Result<Response, RegistryError> {
        let timeouts = &settings.timeouts;
        let (mut login, mut own) = (self.login(timeouts, progress).await?, false);
        loop {
            let response = self.once(ask, login.token.as_ref().map(|t| &t.header), timeouts, progress).await?;
            if response.status() != StatusCode::UNAUTHORIZED || own {
                return self.good(response, ask.also, timeouts).await;
            }
            // A token may be missing or have run out: one new one, and then the registry's word counts.
            let from = token::challenge(response.headers());
            (login, own) = self.renew(login.generation, from, timeouts, progress).await?;
            if login.token.is_none() {
                return self.good(response, ask.also, timeouts).await;
            }
        }
    }

    async fn once(
        &self,
        ask: &Ask,
        login: Option<&HeaderValue>,
        timeouts: &Timeouts,
        progress: &Progress,
    ) -> Result<Response, RegistryError> {
        let url = self.url(&ask.path)?;
        let ours = self.base.as_ref().is_ok_and(|base| base.origin() == url.origin());
        let upload = matches!(ask.body, Payload::Stream(_));
        let client = self.client(if upload { Use::Upload } else { Use::Read })?;
        let mut request = client.request(ask.method.clone(), url).headers(ask.headers.clone());
        if let Some(login) = login.filter(|_| ours) {
            request = request.header(AUTHORIZATION, login.clone());
        }
        progress.request();
        match &ask.body {
            Payload::Nothing => self.answer(request, timeouts).await,
            Payload::Bytes(bytes) => self.answer(request.body(bytes.clone()), timeouts).await,
            Payload::Stream(make) => self.upload(request, make(), timeouts).await,
        }
    }

    async fn answer(&self, request: RequestBuilder, timeouts: &Timeouts) -> Result<Response, RegistryError> {
        let answer = async { request.send().await.map_err(|e| self.broken(e, timeouts)) };
        if !self.mirror || self.answered.load(Ordering::Relaxed) {
            return answer.await;
        }
        let answer = timeout(MIRROR_PATIENCE, answer).await.unwrap_or_else(|_| Err(self.silent(MIRROR_PATIENCE)));
        self.answered.fetch_or(answer.is_ok(), Ordering::Relaxed);
        answer
    }

    /// Sends while the bytes move; a silence on either side ends it.
    async fn upload(
        &self,
        request: RequestBuilder,
        pieces: Pieces,
        timeouts: &Timeouts,
    ) -> Result<Response, RegistryError> {
        let moved = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&moved);
        let counted = pieces.inspect(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let mut answer = std::pin::pin!(request.body(reqwest::Body::wrap_stream(counted)).send());
        loop {
            let before = moved.load(Ordering::Relaxed);
            match timeout(timeouts.progress, &mut answer).await {
                Ok(answer) => return answer.map_err(|e| self.broken(e, timeouts)),
                Err(_) if moved.load(Ordering::Relaxed) == before => return Err(self.silent(timeouts.progress)),
                Err(_) => {}
            }
        }
    }

    /// The address of a path below the repository, or one that a `Location` gave.
    fn url(&self, path: &str) -> Result<Url, RegistryError> {
        let base = self.base.as_ref().map_err(|()| self.setup("its name makes no address"))?;
        let mut url = base.join(path).map_err(|_| self.setup("it gave an address that is none"))?;
        if url.scheme() != base.scheme() && url.scheme() != "https" {
            return Err(RegistryError::Redirects { registry: self.host.clone() });
        }
        if let Some(name) = &self.stands_for {
            url.query_pairs_mut().append_pair("ns", name);
        }
        Ok(url)
    }

    /// Where an answer's `Location` leads; put it into [`Ask::path`].
    pub(super) fn location(&self, response: &Response) -> Result<String, RegistryError> {
        let text = response.headers().get(LOCATION).and_then(|v| v.to_str().ok());
        let found = text.and_then(|text| response.url().join(text).ok());
        found.map(String::from).ok_or_else(|| self.setup("it does not say where to go on"))
    }

    pub(super) fn client(&self, wanted: Use) -> Result<&Client, RegistryError> {
        self.clients.as_ref().map(|c| c.of(wanted)).map_err(|reason| self.setup(reason))
    }

    /// What to ask a token for: what the challenge names, and what we need besides.
    pub(super) fn scopes(&self, named: Option<&str>) -> Vec<String> {
        let named = named.into_iter().flat_map(str::split_whitespace).take(8).map(str::to_owned);
        let mut all: Vec<_> = named.collect();
        if all.is_empty() && !self.repository.is_empty() {
            all.push(format!("repository:{}:pull", self.repository));
        }
        all.extend(self.scopes.iter().cloned());
        all.sort();
        all.dedup();
        all
    }

    async fn login(&self, timeouts: &Timeouts, progress: &Progress) -> Result<Login, RegistryError> {
        let login = self.login.read().await.clone();
        let over = login.token.as_ref().and_then(|t| t.until).is_some_and(|until| until <= Instant::now());
        if !over {
            return Ok(login);
        }
        let (login, _) = self.renew(login.generation, login.from, timeouts, progress).await?;
        Ok(login)
    }

    /// A new token, unless another layer's download got one meanwhile; whether it is ours.
    async fn renew(
        &self,
        seen: u32,
        from: Option<Challenge>,
        timeouts: &Timeouts,
        progress: &Progress,
    ) -> Result<(Login, bool), RegistryError> {
        let mut login = self.login.write().await;
        let ours = login.generation == seen;
        if ours {
            login.token = self.ask_for_login(from.as_ref(), timeouts, progress).await?;
            login.from = from;
            login.generation += 1;
        }
        Ok((login.clone(), ours))
    }

    async fn ask_for_login(
        &self,
        challenge: Option<&Challenge>,
        timeouts: &Timeouts,
        progress: &Progress,
    ) -> Result<Option<Token>, RegistryError> {
        let credential = self.credential.as_ref().map_err(|reason| self.setup(reason))?.as_ref();
        let fixed = |text: String| secret(&text).map(|header| Token { header, until: None });
        match (challenge, credential) {
            (_, Some(Credential::RegistryToken(token))) => Ok(fixed(format!("Bearer {token}"))),
            (Some(Challenge::Bearer(bearer)), credential) => {
                token::ask(self, bearer, credential, timeouts, progress).await.map(Some)
            }
            (Some(Challenge::Basic), Some(Credential::Password { user, password })) => Ok(fixed(basic(user, password))),
            (Some(Challenge::Basic), Some(Credential::IdentityToken(_)) | None) | (None, _) => Ok(None),
        }
    }

    /// An answer of success, or what went wrong.
    pub(super) async fn good(
        &self,
        response: Response,
        also: &[StatusCode],
        timeouts: &Timeouts,
    ) -> Result<Response, RegistryError> {
        let status = response.status();
        if status.is_success() || also.contains(&status) {
            return Ok(response);
        }
        let retry_after = retry_after(response.headers());
        let said = said(response, timeouts.progress).await;
        let (registry, code) = (self.host.clone(), status.as_u16());
        Err(match status {
            StatusCode::NOT_FOUND => RegistryError::Unknown { registry, image: self.image.clone() },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Denied { registry, status: code, said },
            StatusCode::TOO_MANY_REQUESTS => RegistryError::TooManyRequests { registry, said, retry_after },
            StatusCode::NOT_IMPLEMENTED => RegistryError::Unexpected { registry, status: code, said },
            _ if status.is_server_error() => RegistryError::Unavailable { registry, status: code, said, retry_after },
            _ => RegistryError::Unexpected { registry, status: code, said },
        })
    }

    /// A whole small body.
    pub(super) async fn bounded(
        &self,
        mut response: Response,
        what: &'static str,
        limit: u64,
        timeouts: &Timeouts,
    ) -> Result<Bytes, RegistryError> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| self.broken(e, timeouts))? {
            if (body.len() + piece.len()) as u64 > limit {
                return Err(RegistryError::TooLarge { registry: self.host.clone(), what, limit });
            }
            body.extend_from_slice(&piece);
        }
        Ok(Bytes::from(body))
    }

    pub(super) fn broken(&self, error: reqwest::Error, timeouts: &Timeouts) -> RegistryError {
        let registry = self.host.clone();
        // The address may hold a signature of a store behind the registry; it has no place in a log.
        let source = error.without_url();
        let tls = tls_error(&source);
        // The other side looks at our certificate when we think that the connection stands.
        if tls.is_some_and(wants_certificate) {
            RegistryError::ClientCertificate { registry, source }
        } else if source.is_redirect() {
            RegistryError::Redirects { registry }
        } else if source.is_timeout() && source.is_connect() {
            self.silent(timeouts.connect)
        } else if source.is_timeout() {
            self.silent(timeouts.progress)
        } else if source.is_connect() && tls.is_some() {
            RegistryError::Tls { registry, source }
        } else if source.is_connect() {
            RegistryError::Connect { registry, source }
        } else {
            RegistryError::Broken { registry, source }
        }
    }

    pub(super) fn silent(&self, waited: Duration) -> RegistryError {
        RegistryError::Timeout { registry: self.host.clone(), waited }
    }
    fn setup(&self, reason: &str) -> RegistryError {
        RegistryError::Setup { registry: self.host.clone(), reason: line(reason, 300) }
    }
    pub(super) fn wrong_size(&self, digest: &Digest, expected: u64, got: u64) -> RegistryError {
        RegistryError::WrongSize { registry: self.host.clone(), digest: digest.clone(), expected, got }
    }
    pub(super) fn wrong_digest(&self, expected: &Digest, got: String) -> RegistryError {
        RegistryError::WrongDigest { registry: self.host.clone(), expected: expected.clone(), got }
    }
}

/// The first error message of a registry (distribution-spec, "Error Codes") or a token server, bounded in every way.
async fn said(mut response: Response, patience: Duration) -> Said {
    let mut body = Vec::new();
    while let Ok(Ok(Some(piece))) = timeout(patience, response.chunk()).await {
        body.extend_from_slice(&piece[..piece.len().min(ERROR_BYTES - body.len())]);
        if body.len() >= ERROR_BYTES {
            break;
        }
    }
    let parsed: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let keys = ["/errors/0/message", "/error_description", "/details", "/error"];
    let mut texts = keys.iter().filter_map(|key| parsed.as_ref()?.pointer(key)?.as_str());
    Said(texts.find(|t| !t.is_empty()).map(|m| line(m, 200)).unwrap_or_default())
}
