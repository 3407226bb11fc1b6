//! Logging in and out: the registry is asked first, and only what it takes is kept.

use super::Images;
use super::credentials::{self, CredentialError, Kept};
use super::registry::RegistryError;
use crate::model::ImageReference;

/// Why a login is not kept or forgotten. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// That is not a registry.
    #[error("{text:?} is not a registry; write host or host:port, as in image names")]
    Registry { text: String },
    /// No registry knows such a user.
    #[error("a user and a password are needed, and the user's name holds no colon")]
    User,
    /// The registry does not take it.
    #[error("{registry} does not take the login of {user:?}: the user or the password is wrong; nothing was kept")]
    Denied {
        registry: String,
        user: String,
        #[source]
        source: Box<RegistryError>,
    },
    /// The registry could not be asked.
    #[error("{registry} could not be asked whether it takes the login; nothing was kept")]
    Unreachable {
        registry: String,
        #[source]
        source: Box<RegistryError>,
    },
    /// The login file or the helper.
    #[error(transparent)]
    Store(#[from] CredentialError),
}

/// A login that was taken and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// As in image names.
    pub registry: String,
    /// Where.
    pub kept: Kept,
}

impl Images {
    /// Asks the registry, and keeps the login in the first login file or with its helper.
    pub async fn login(&self, registry: &str, user: &str, password: &str) -> Result<LoggedIn, LoginError> {
        let registry = named(registry)?;
        if user.is_empty() || password.is_empty() || user.contains([':', '\n', '\0']) {
            return Err(LoginError::User);
        }
        let credential = credentials::file::of_pair(user, password);
        let asked = self.inner.registry.check(&registry, credential.clone()).await;
        asked.map_err(|source| refused(&registry, user, source))?;
        let _turn = self.inner.logins.lock().await;
        let kept = credentials::keep(self.inner.registry.settings(), &registry, &credential).await?;
        Ok(LoggedIn { registry, kept })
    }

    /// Forgets the login at a registry; whether there was one. A login in the daemon's configuration stays.
    pub async fn logout(&self, registry: &str) -> Result<bool, LoginError> {
        let registry = named(registry)?;
        let _turn = self.inner.logins.lock().await;
        Ok(credentials::forget(self.inner.registry.settings(), &registry).await?)
    }
}

fn refused(registry: &str, user: &str, source: RegistryError) -> LoginError {
    let (registry, source) = (registry.to_owned(), Box::new(source));
    match *source {
        RegistryError::Denied { .. } => LoginError::Denied { registry, user: user.to_owned(), source },
        _ => LoginError::Unreachable { registry, source },
    }
}

fn named(text: &str) -> Result<String, LoginError> {
    registry_name(text).ok_or_else(|| LoginError::Registry { text: super::error::line(text, 100) })
}

/// A registry's name as image names have it, out of what people write: `https://index.docker.io/v1/` is `docker.io`.
#[must_use]
pub fn registry_name(text: &str) -> Option<String> {
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let bare = bare.strip_suffix("/v1/").or_else(|| bare.strip_suffix("/v2/")).unwrap_or(bare).trim_end_matches('/');
    if ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&bare) {
        return Some("docker.io".to_owned());
    }
    // A host without a dot or a port could not be told from a repository in an image's name.
    let reference = ImageReference::parse(&format!("{bare}/x:y")).ok()?;
    (reference.registry() == bare).then(|| bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::registry_name;

    #[test]
    fn registries_are_named_as_in_images() {
        for (text, name) in [
            ("docker.io", Some("docker.io")),
            ("https://index.docker.io/v1/", Some("docker.io")),
            ("registry.lan:5000", Some("registry.lan:5000")),
            ("https://ghcr.io/", Some("ghcr.io")),
            ("localhost", Some("localhost")),
            ("https://r.example/v2/", Some("r.example")),
            ("web", None),
            ("", None),
            ("a/b", None),
            ("r.example/a", None),
            ("bob:secret@r.example", None),
        ] {
            assert_eq!(registry_name(text).as_deref(), name, "{text}");
        }
    }
}
