//! Images: from a name in a registry to directories that overlayfs can stack.
//!
//! [`Images`] is the front. [`Images::pull`] fetches, verifies, unpacks and records; [`Images::layers`] and
//! [`Images::config`] answer from the disk. Nothing in here waits for ever or believes what it is sent:
//! every digest and size is compared, every document bounded, and no path of an image is ever followed out of its
//! directory. A pull gets over short troubles by itself; when to pull again after a failed one is the planner's
//! business, and [`PullError::retry_after`] and [`PullError::permanent`] are hints for it.
//!
//! ```text
//! pull ─▶ registry ─▶ manifest, resolve, config (pure) ─▶ stream ─▶ tar, pax ─▶ extract ─▶ tree ─▶ store
//! ```

mod config;
mod credentials;
mod error;
mod feed;
mod hash;
mod login;
mod manifest;
mod partial;
mod progress;
mod pull;
mod push;
mod push_error;
mod refresh;
mod registry;
mod resolve;
mod settings;
mod store;
mod unpack;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

pub use config::ImageConfig;
pub use credentials::{CredentialError, HelperError, Kept, PrivateError, read_private};
pub use error::{LayerError, OpenError, PullError, StoreError};
pub use login::{LoggedIn, LoginError, registry_name};
pub use manifest::ManifestError;
pub use progress::{LayerProgress, LayerState, Progress, PullWait, Snapshot};
pub use push::Pushed;
pub use push_error::PushError;
pub use refresh::Refreshed;
pub use registry::{RegistryError, Said};
pub use settings::{Attempts, Credential, Limits, Mirror, Proxy, RegistrySettings, Settings, Timeouts};
pub use unpack::stream::StreamError;
pub use unpack::tar::TarError;

use crate::model::{Digest, ImageReference, Platform, Timestamp};
use partial::Partials;
use pull::{InFlight, Pull, Pulled};
use registry::Registry;
use store::{RefRecord, Store};

/// The images of this machine. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    registry: Registry,
    limits: Arc<Limits>,
    in_flight: InFlight,
    partials: Arc<Partials>,
    present: RwLock<BTreeMap<ImageReference, Present>>,
    /// One reference is written at a time, so that disk and memory agree on the order.
    recording: tokio::sync::Mutex<()>,
    /// The login file is written by one at a time.
    logins: tokio::sync::Mutex<()>,
    warnings: Vec<String>,
}

/// An image that is here, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// The manifest for its platform; what [`Images::layers`] and [`Images::config`] are asked with.
    pub digest: Digest,
    /// What the registry had under the name: the same, or the index it was chosen from.
    pub top: Digest,
    /// The platform that was asked for when it was pulled.
    pub platform: String,
    /// Compressed bytes of its layers.
    pub bytes: u64,
    /// When it was pulled last.
    pub pulled_at: Timestamp,
    /// When its registry was asked last whether the name still means it.
    pub checked_at: Timestamp,
}

impl Images {
    /// Opens the store in `dir`, made where it is missing. Leftovers of a dead run are removed; a broken entry is
    /// dropped and named in [`Images::warnings`], never a reason to fail.
    pub fn open(dir: &Path, settings: Settings) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: dir.to_owned(), source };
        let store = Store::open(dir).map_err(io)?;
        let store::Refs { good: records, broken: mut warnings } = store.refs().map_err(io)?;
        let mut present = BTreeMap::new();
        for (image, record) in records {
            match whole(&store, &record) {
                Ok(found) => {
                    present.insert(image, found);
                }
                Err(reason) => warnings.push(format!("{image} is not used and will be pulled again: {reason}")),
            }
        }
        let limits = Arc::new(settings.limits.clone());
        let registry = Registry::new(settings)?;
        let partials = Arc::new(Partials::open(dir).map_err(io)?);
        let (store, in_flight) = (Arc::new(store), InFlight::default());
        let (present, recording) = (RwLock::new(present), tokio::sync::Mutex::default());
        let logins = tokio::sync::Mutex::default();
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                registry,
                limits,
                in_flight,
                partials,
                present,
                recording,
                logins,
                warnings,
            }),
        })
    }

    /// The images of the store in `dir`, without opening it for use: reads only, for a plan without a daemon.
    pub fn peek(dir: &Path) -> io::Result<BTreeMap<ImageReference, Present>> {
        if !dir.exists() {
            return Ok(BTreeMap::new());
        }
        let store = Store::at(dir);
        let records = store.refs()?.good;
        Ok(records.into_iter().filter_map(|(image, record)| Some((image, whole(&store, &record).ok()?))).collect())
    }

    /// What is pulled where nobody names a platform.
    #[must_use]
    pub fn machine() -> Platform {
        resolve::this_machine()
    }

    /// No longer counts the image as here: what it was made of is damaged. It is pulled again.
    pub fn forget(&self, image: &ImageReference) {
        self.inner.present.write().unwrap_or_else(PoisonError::into_inner).remove(image);
    }

    /// What was found broken when the store was opened.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// All images that are here. Does not touch the disk.
    #[must_use]
    pub fn present(&self) -> BTreeMap<ImageReference, Present> {
        self.inner.present.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the registry, fetches what is missing and makes `image` name what it names there. Dropping the future
    /// gives up; what is visible is always whole.
    pub async fn pull(
        &self,
        image: &ImageReference,
        platform: Option<&Platform>,
        progress: &Progress,
    ) -> Result<Present, PullError> {
        let Inner { store, registry, limits, in_flight, partials, .. } = &*self.inner;
        let machine = resolve::this_machine();
        let wanted = platform.unwrap_or(&machine);
        let pulled = Pull { store, limits, in_flight, partials, image, wanted, progress }.run(registry).await?;
        self.record(image, wanted, pulled).await.map_err(|e| PullError::store(image, e))
    }

    async fn record(&self, image: &ImageReference, platform: &Platform, pulled: Pulled) -> Result<Present, StoreError> {
        let at = now();
        let record = RefRecord {
            reference: image.to_string(),
            manifest: pulled.manifest.to_string(),
            top: pulled.top.to_string(),
            config: pulled.config.to_string(),
            platform: platform.to_string(),
            bytes: pulled.bytes,
            pulled_at_ms: at.millis(),
            checked_at_ms: at.millis(),
        };
        let present = Present {
            digest: pulled.manifest,
            top: pulled.top,
            platform: record.platform.clone(),
            bytes: pulled.bytes,
            pulled_at: at,
            checked_at: at,
        };
        let _turn = self.inner.recording.lock().await;
        let (store, name) = (Arc::clone(&self.inner.store), image.clone());
        let written = tokio::task::spawn_blocking(move || store.put_ref(&name, &record)).await;
        written.map_err(|_| StoreError::Missing { digest: present.digest.clone() }).flatten()?;
        self.inner.present.write().unwrap_or_else(PoisonError::into_inner).insert(image.clone(), present.clone());
        Ok(present)
    }

    /// The directories of an image's layers, lowest first, for overlayfs' `lowerdir`. Layers below one that hides
    /// everything under it are left out, because overlayfs has no such mark for a root.
    pub fn layers(&self, digest: &Digest) -> Result<Vec<PathBuf>, StoreError> {
        let store = &self.inner.store;
        let mut layers = Vec::new();
        for diff_id in self.config(digest)?.diff_ids {
            if !store.has_layer(&diff_id) {
                return Err(StoreError::Missing { digest: diff_id });
            }
            if store.layer(&diff_id)?.opaque_root {
                layers.clear();
            }
            layers.push(store.layer_diff(&diff_id));
        }
        Ok(layers)
    }

    /// What the image says about its containers.
    pub fn config(&self, digest: &Digest) -> Result<ImageConfig, StoreError> {
        let store = &self.inner.store;
        let damaged = |e: ManifestError| StoreError::Damaged { path: store.dir().to_owned(), reason: e.to_string() };
        let manifest = match manifest::read(&store.blob(digest)?, None, &self.inner.limits).map_err(damaged)? {
            manifest::Document::Image(manifest) => manifest,
            manifest::Document::Index(_) => return Err(StoreError::Missing { digest: digest.clone() }),
        };
        config::read(&store.blob(&manifest.config.digest)?).map_err(damaged)
    }
}

/// Whether all that a reference leads to is there. Layers are only looked for, not read again.
fn whole(store: &Store, record: &RefRecord) -> Result<Present, String> {
    let digest = |text: &str| Digest::parse(text).map_err(|e| e.to_string());
    let (manifest, top) = (digest(&record.manifest)?, digest(&record.top)?);
    store.blob(&manifest).map_err(|e| e.to_string())?;
    let config = store.blob(&digest(&record.config)?).map_err(|e| e.to_string())?;
    let config = config::read(&config).map_err(|e| e.to_string())?;
    match config.diff_ids.iter().find(|id| !store.has_layer(id)) {
        Some(missing) => Err(format!("its layer {} is missing", missing.short())),
        None => Ok(Present {
            digest: manifest,
            top,
            platform: record.platform.clone(),
            bytes: record.bytes,
            pulled_at: Timestamp(record.pulled_at_ms),
            checked_at: Timestamp(record.checked_at_ms.max(record.pulled_at_ms)),
        }),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
