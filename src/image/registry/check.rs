//! Whether a registry takes a login: its `/v2/` is asked, and the token server that it names.

use tokio::time::timeout;

use super::place::{Ask, Parts, Place};
use super::{Registry, RegistryError, address, speaks_plain};
use crate::image::progress::Progress;
use crate::image::settings::Credential;

impl Registry {
    /// Asks once, as `credential`. A registry that lets everybody in takes every login, as with Docker's client.
    pub(in crate::image) async fn check(&self, registry: &str, credential: Credential) -> Result<(), RegistryError> {
        let plain = speaks_plain(&self.settings, registry);
        let clients = self.clients(registry, plain).await;
        let place = Place::new(Parts {
            host: registry.to_owned(),
            address: address(registry).to_owned(),
            image: registry.to_owned(),
            repository: String::new(),
            plain,
            stands_for: None,
            mirror: false,
            clients,
            credential: Ok(Some(credential)),
            scopes: Vec::new(),
        });
        let (progress, limit) = (Progress::default(), self.settings.timeouts.exchange);
        let asked = timeout(limit, place.send(&Ask::get("/v2/"), &self.settings, &progress)).await;
        asked.unwrap_or_else(|_| Err(place.silent(limit))).map(drop)
    }
}
