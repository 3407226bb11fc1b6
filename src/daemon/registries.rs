//! Logins, for the front doors: the API's trait on the image room.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::api::wire::{LoggedIn, LoggedOut};
use crate::api::{LoginRefusal, RegistryDoor, Secret};
use crate::image::{Images, Kept, LoginError};
use crate::model::sentence;

/// The logins of this daemon.
pub(super) struct Registries(pub(super) Images);

impl RegistryDoor for Registries {
    fn login(
        &self,
        registry: String,
        username: String,
        password: Secret,
    ) -> BoxFuture<'_, Result<LoggedIn, LoginRefusal>> {
        async move {
            let done = self.0.login(&registry, &username, &password.0).await.map_err(|error| refusal(&error))?;
            let (helper, file) = match done.kept {
                Kept::Helper(name) => (Some(name), None),
                Kept::File(path) => (None, Some(path.display().to_string())),
            };
            tracing::info!(registry = done.registry, "a login is kept");
            Ok(LoggedIn { registry: done.registry, helper, file })
        }
        .boxed()
    }

    fn logout(&self, registry: String) -> BoxFuture<'_, Result<LoggedOut, LoginRefusal>> {
        async move {
            let known = self.0.logout(&registry).await.map_err(|error| refusal(&error))?;
            Ok(LoggedOut { registry: crate::image::registry_name(&registry).unwrap_or(registry), known })
        }
        .boxed()
    }
}

fn refusal(error: &LoginError) -> LoginRefusal {
    let message = sentence(error);
    match error {
        LoginError::Registry { .. } | LoginError::User => LoginRefusal::Invalid(message),
        LoginError::Denied { .. } => LoginRefusal::Denied(message),
        LoginError::Unreachable { .. } | LoginError::Store(_) => LoginRefusal::Failed(message),
    }
}
