//! A conversation about one image: with its mirrors first, then with its registry.

use futures_util::future::BoxFuture;
use hyper::body::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response};
use tokio::time::timeout;

use super::attempts::Tries;
use super::download::Download;
use super::error::RegistryError;
use super::place::{Ask, Place};
use crate::image::error::line;
use crate::image::hash::{digest_like, sha256_hex};
use crate::image::manifest::{self, Descriptor};
use crate::image::progress::Progress;
use crate::image::settings::Settings;
use crate::model::{Digest, ImageReference, sentence};

/// One image's conversation. It keeps the tokens and remembers which mirrors are of no use.
pub(in crate::image) struct Session<'a> {
    settings: &'a Settings,
    progress: &'a Progress,
    image: ImageReference,
    mirrors: Vec<Place>,
    own: Place,
    notes: std::sync::Mutex<Vec<String>>,
}

/// A document with the type its registry gives it.
pub(in crate::image) struct Fetched {
    pub(in crate::image) bytes: Bytes,
    pub(in crate::image) content_type: Option<String>,
    pub(in crate::image) digest: Digest,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        progress: &'a Progress,
        image: ImageReference,
        mirrors: Vec<Place>,
        own: Place,
    ) -> Self {
        Self { settings, progress, image, mirrors, own, notes: std::sync::Mutex::default() }
    }

    /// The manifest or index that the reference names.
    pub(in crate::image) async fn top(&self) -> Result<Fetched, RegistryError> {
        self.manifest(self.name(), self.image.digest(), None).await
    }

    /// A manifest that an index names.
    pub(in crate::image) async fn child(&self, of: &Descriptor) -> Result<Fetched, RegistryError> {
        self.manifest(of.digest.as_str(), Some(&of.digest), Some(of.size)).await
    }

    /// What the reference names now, without fetching it; none where nobody tells.
    pub(in crate::image) async fn digest(&self) -> Result<Option<Digest>, RegistryError> {
        let mut ask = Ask::new(Method::HEAD, format!("manifests/{}", self.name()));
        ask.headers.insert(ACCEPT, HeaderValue::from_static(manifest::ACCEPT));
        let ask = &ask;
        let told = self.each(|place| {
            Box::pin(async move {
                let response = place.send(ask, self.settings, self.progress).await?;
                let text = response.headers().get("docker-content-digest").and_then(|v| v.to_str().ok());
                Ok(text.and_then(|text| Digest::parse(text).ok()))
            })
        });
        match told.await {
            // Some registries know no HEAD, and its answer has no body to say more; the question itself will.
            Err(error) if error.permanent() => Ok(None),
            other => other,
        }
    }

    /// A small blob, whole and verified.
    pub(in crate::image) async fn small_blob(
        &self,
        of: &Descriptor,
        what: &'static str,
        limit: u64,
    ) -> Result<Bytes, RegistryError> {
        if of.size > limit {
            return Err(RegistryError::TooLarge { registry: self.own.host.clone(), what, limit });
        }
        loop {
            let mut download = self.download(of, 0);
            let read = async {
                let mut bytes = Vec::new();
                while let Some(piece) = download.next().await? {
                    bytes.extend_from_slice(&piece);
                }
                Ok(bytes)
            };
            let patience = self.settings.timeouts.exchange.saturating_mul(self.settings.attempts.fruitless.max(1));
            let bytes: Vec<u8> = timeout(patience, read).await.unwrap_or_else(|_| Err(self.own.silent(patience)))?;
            let got = digest_like(&of.digest, &bytes);
            if got == of.digest.as_str() {
                return Ok(Bytes::from(bytes));
            }
            let error = self.wrong_digest(&of.digest, got);
            if !download.blame(&error) {
                return Err(self.all(error));
            }
        }
    }

    /// A blob from byte `at` on.
    pub(in crate::image) fn download(&'a self, of: &'a Descriptor, at: u64) -> Download<'a> {
        Download::new(self, of, at)
    }

    pub(in crate::image) fn wrong_digest(&self, expected: &Digest, got: String) -> RegistryError {
        self.own.wrong_digest(expected, got)
    }

    /// Any request to the registry itself, with its login and as many attempts as the settings allow. The answer is 2xx
    /// or in [`Ask::also`].
    pub(in crate::image) async fn request(&self, ask: &Ask) -> Result<Response, RegistryError> {
        let mut tries = self.tries();
        loop {
            match self.own.send(ask, self.settings, self.progress).await {
                Ok(response) => {
                    self.progress.from(&self.own.host);
                    return Ok(response);
                }
                Err(error) => tries.again(error).await?,
            }
        }
    }

    /// One request to the registry itself, sent once: for what must not simply be sent again.
    pub(super) async fn once(&self, ask: &Ask) -> Result<Response, RegistryError> {
        self.own.send(ask, self.settings, self.progress).await
    }
    /// The registry itself.
    pub(super) fn host(&self) -> &str {
        &self.own.host
    }

    /// Where an answer's `Location` leads; put it into [`Ask::path`].
    pub(in crate::image) fn location(&self, response: &Response) -> Result<String, RegistryError> {
        self.own.location(response)
    }

    pub(super) fn settings(&self) -> &'a Settings {
        self.settings
    }
    pub(super) fn progress(&self) -> &'a Progress {
        self.progress
    }
    pub(super) fn tries(&self) -> Tries<'a> {
        Tries::new(self.settings.attempts, self.progress)
    }
    /// Mirrors first; the registry itself is the last.
    pub(super) fn place(&self, at: usize) -> &Place {
        self.mirrors.get(at).unwrap_or(&self.own)
    }

    /// Remembers that a mirror did not help, and whether it is to be asked anything more.
    pub(super) fn pass_over(&self, place: &Place, error: &RegistryError, for_good: bool) {
        if for_good {
            place.leave_out();
        }
        let note = line(&format!("mirror {}: {}", place.host, sentence(error)), 300);
        tracing::info!(image = %self.image, %note, "a mirror is passed over");
        let mut notes = self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !notes.contains(&note) {
            notes.push(note.clone());
        }
        self.progress.note(note);
    }

    /// The registry's own error, with what the mirrors said before.
    pub(super) fn all(&self, own: RegistryError) -> RegistryError {
        let mirrors = self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if mirrors.is_empty() { own } else { RegistryError::Nowhere { mirrors, own: Box::new(own) } }
    }

    /// The first answer of a place that gives one; the registry itself is asked last, and again where there is sense in it.
    pub(super) async fn each<'s, T>(
        &'s self,
        work: impl Fn(&'s Place) -> BoxFuture<'s, Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let limit = self.settings.timeouts.exchange;
        let in_time = async |place: &'s Place| {
            let done = timeout(limit, work(place)).await.unwrap_or_else(|_| Err(place.silent(limit)));
            if done.is_ok() {
                self.progress.from(&place.host);
            }
            done
        };
        for mirror in self.mirrors.iter().filter(|m| !m.is_out()) {
            match in_time(mirror).await {
                Ok(done) => return Ok(done),
                Err(error) => self.pass_over(mirror, &error, !matches!(error, RegistryError::Unknown { .. })),
            }
        }
        let mut tries = self.tries();
        loop {
            match in_time(&self.own).await {
                Ok(done) => return Ok(done),
                Err(error) => tries.again(error).await.map_err(|e| self.all(e))?,
            }
        }
    }

    async fn manifest(
        &self,
        name: &str,
        expected: Option<&Digest>,
        size: Option<u64>,
    ) -> Result<Fetched, RegistryError> {
        let mut ask = Ask::get(format!("manifests/{name}"));
        ask.headers.insert(ACCEPT, HeaderValue::from_static(manifest::ACCEPT));
        let ask = &ask;
        let fetch = self.each(|place| Box::pin(self.manifest_from(place, ask, expected, size)));
        fetch.await
    }

    async fn manifest_from(
        &self,
        place: &Place,
        ask: &Ask,
        expected: Option<&Digest>,
        size: Option<u64>,
    ) -> Result<Fetched, RegistryError> {
        let response = place.send(ask, self.settings, self.progress).await?;
        let headers = response.headers().clone();
        let limit = self.settings.limits.manifest_bytes;
        let bytes = place.bounded(response, "a manifest", limit, &self.settings.timeouts).await?;
        let text = |key: &str| headers.get(key).and_then(|v| v.to_str().ok());
        let announced = text("docker-content-digest").and_then(|d| Digest::parse(d).ok());
        let digest = match expected.cloned().or(announced) {
            Some(digest) => digest,
            None => Digest::parse(&format!("sha256:{}", sha256_hex(&bytes))).map_err(|_| RegistryError::Setup {
                registry: place.host.clone(),
                reason: "its manifest has no digest".into(),
            })?,
        };
        if let Some(expected) = size.filter(|s| *s != bytes.len() as u64) {
            return Err(place.wrong_size(&digest, expected, bytes.len() as u64));
        }
        let got = digest_like(&digest, &bytes);
        if got != digest.as_str() {
            return Err(place.wrong_digest(&digest, got));
        }
        let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
        Ok(Fetched { bytes, content_type, digest })
    }

    fn name(&self) -> &str {
        match self.image.digest() {
            Some(digest) => digest.as_str(),
            None => self.image.tag().unwrap_or("latest"),
        }
    }
}
