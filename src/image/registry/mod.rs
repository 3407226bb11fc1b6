//! Speaks to registries, on one HTTP client for each: mirrors, tokens, certificates, proxies, attempts and bounds are
//! done once in here, for pulls and pushes alike.
//!
//! ```text
//! Session ─▶ Place (mirror, …, registry) ─▶ token ─▶ clients (TLS, proxy)
//!    └─▶ Download: a blob, over as many answers as it takes        attempts: when to ask again
//! ```
//! No credential goes to another host: a login is sent to the registry it was made for and to the token server that
//! this registry names, and reqwest drops `Authorization` when a redirect leads elsewhere.

mod attempts;
mod check;
mod clients;
mod download;
mod error;
mod http;
mod place;
mod session;
mod tags;
#[cfg(test)]
mod tests;
mod token;
mod upload;

use std::sync::Arc;

use super::credentials;
use super::error::OpenError;
use super::progress::Progress;
use super::settings::{Mirror, Settings};
use crate::model::{ImageReference, sentence};
use clients::{Clients, HostClients};
pub(in crate::image) use download::Download;
pub use error::{RegistryError, Said};
use http::{address, speaks_plain};
use place::{Parts, Place};
pub(in crate::image) use place::{Payload, Pieces};
pub(in crate::image) use session::{Fetched, Session};
pub(in crate::image) use upload::{Offer, Sent, Upload};

/// All registries.
pub(in crate::image) struct Registry {
    settings: Arc<Settings>,
    clients: Arc<Clients>,
}

impl Registry {
    /// Checks what is set for all; what is set for one registry shows when it is asked.
    pub(in crate::image) fn new(settings: Settings) -> Result<Self, OpenError> {
        for pem in &settings.extra_roots_pem {
            clients::certificates(pem).map_err(|reason| OpenError::Client { reason })?;
        }
        Ok(Self { settings: Arc::new(settings), clients: Arc::default() })
    }

    /// A conversation about one image, to read it: its mirrors are asked first.
    pub(in crate::image) async fn about<'a>(&'a self, image: &ImageReference, progress: &'a Progress) -> Session<'a> {
        let mirrors = self.settings.registries.get(image.registry()).map(|r| r.mirrors.as_slice()).unwrap_or_default();
        let mut places = Vec::new();
        for mirror in mirrors {
            places.push(self.mirror(image, mirror).await);
        }
        let own = self.own(image, Vec::new()).await;
        Session::new(&self.settings, progress, image.clone(), places, own)
    }

    /// A conversation with an image's registry alone, to write; `from` are repositories there whose blobs may be mounted.
    pub(in crate::image) async fn writing<'a>(
        &'a self,
        image: &ImageReference,
        from: &[String],
        progress: &'a Progress,
    ) -> Session<'a> {
        let mut scopes = vec![format!("repository:{}:pull,push", image.repository())];
        scopes.extend(from.iter().map(|repository| format!("repository:{repository}:pull")));
        let own = self.own(image, scopes).await;
        Session::new(&self.settings, progress, image.clone(), Vec::new(), own)
    }

    async fn own(&self, image: &ImageReference, scopes: Vec<String>) -> Place {
        let host = image.registry();
        let (plain, address) = (speaks_plain(&self.settings, host), address(host).to_owned());
        let repository = image.repository().to_owned();
        self.place(image, host, plain, |parts| Parts { address, repository, scopes, ..parts }).await
    }

    async fn mirror(&self, image: &ImageReference, mirror: &Mirror) -> Place {
        let plain = mirror.plain_http.unwrap_or_else(|| speaks_plain(&self.settings, &mirror.host));
        let prefix = mirror.prefix.trim_matches('/');
        let repository =
            if prefix.is_empty() { image.repository().to_owned() } else { format!("{prefix}/{}", image.repository()) };
        let stands_for = (mirror.host != image.registry()).then(|| image.registry().to_owned());
        let make = |parts| Parts { repository, stands_for, mirror: true, ..parts };
        self.place(image, &mirror.host, plain, make).await
    }

    pub(in crate::image) fn settings(&self) -> &Settings {
        &self.settings
    }

    async fn place(&self, image: &ImageReference, host: &str, plain: bool, make: impl FnOnce(Parts) -> Parts) -> Place {
        let mut parts = make(Parts {
            host: host.to_owned(),
            address: host.to_owned(),
            image: image.to_string(),
            repository: String::new(),
            plain,
            stands_for: None,
            mirror: false,
            clients: self.clients(host, plain).await,
            credential: Ok(None),
            scopes: Vec::new(),
        });
        let found = credentials::find(&self.settings, host, &parts.repository).await;
        // A login that cannot be read matters only where one is asked for.
        parts.credential = found.map_err(|error| sentence(&error));
        Place::new(parts)
    }

    async fn clients(&self, host: &str, plain: bool) -> Result<HostClients, String> {
        let (clients, settings, name) = (Arc::clone(&self.clients), Arc::clone(&self.settings), host.to_owned());
        // Reads certificates and sets up TLS.
        let made = tokio::task::spawn_blocking(move || clients.of(&settings, &name, plain)).await;
        made.unwrap_or_else(|_| Err("its certificates cannot be read".into()))
    }
}
