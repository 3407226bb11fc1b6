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
//!
//! What is asked of images that are here has a file of its own: [`Images::list`], [`Images::find`], [`Images::inspect`],
//! [`Images::history`], [`Images::tag`], [`Images::remove`], [`Images::usage`]. `refs` keeps the names, `store` the
//! directories, `holds` what running pulls count on.

mod archive;
mod config;
mod credentials;
mod error;
mod feed;
mod find;
mod hash;
mod health;
mod heap;
mod history;
mod holds;
mod inspect;
mod list;
mod login;
mod manifest;
mod names;
mod partial;
mod progress;
mod pull;
mod push;
mod push_error;
mod refresh;
mod refs;
mod registry;
mod remove;
mod repack;
mod repair;
mod resolve;
mod settings;
mod sources;
mod store;
mod stored;
mod unpack;
mod usage;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

pub use crate::untar::TarError;
pub use archive::{ArchiveError, ArchiveFormat, CommitChanges, ImportChanges, Loaded};
pub use config::ImageConfig;
pub use credentials::{CredentialError, HelperError, Kept, PrivateError, read_private};
pub use error::{LayerError, OpenError, PullError, StoreError};
pub use find::{FindError, Found};
pub use history::HistoryEntry;
pub use inspect::{Inspection, LayerFacts};
pub use list::Listed;
pub use login::{LoggedIn, LoginError, registry_name};
pub use manifest::ManifestError;
pub use progress::{LayerProgress, LayerState, Progress, PullWait, Snapshot};
pub use push::Pushed;
pub use push_error::PushError;
pub use refresh::Refreshed;
pub use refs::Origin;
pub use registry::{RegistryError, Said};
pub use remove::Removed;
pub use repair::RepairError;
pub use settings::{Attempts, Credential, Limits, Mirror, Proxy, RegistrySettings, Settings, Timeouts};
pub use stored::Stored;
pub use unpack::stream::StreamError;
pub use usage::{ImageUsage, LayerUsage, Usage};
pub use verify::{Checked, Finding, Part};

use crate::model::{Digest, ImageReference, Platform, Timestamp};
use holds::Holds;
use partial::Partials;
use pull::{InFlight, Pull, Pulled};
use refs::Known;
use registry::Registry;
use store::Store;

/// The images of this machine. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    registry: Registry,
    default_registry: String,
    limits: Arc<Limits>,
    in_flight: InFlight,
    partials: Arc<Partials>,
    holds: Arc<Holds>,
    known: RwLock<BTreeMap<ImageReference, Known>>,
    /// One reference is written at a time, so that disk and memory agree on the order, and none during a sweep.
    recording: Arc<tokio::sync::Mutex<()>>,
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
        heap::few();
        let io = |source| OpenError::Io { path: dir.to_owned(), source };
        let store = Store::open(dir).map_err(io)?;
        let refs::Refs { good: records, broken: mut warnings } = store.refs().map_err(io)?;
        let mut known = BTreeMap::new();
        for (image, record) in records {
            match store.whole(&record) {
                Ok(found) => {
                    known.insert(image, found);
                }
                Err(reason) => warnings.push(format!("{image} is not used and will be pulled again: {reason}")),
            }
        }
        let limits = Arc::new(settings.limits.clone());
        let default_registry = settings.default_registry.clone();
        let registry = Registry::new(settings)?;
        let partials = Arc::new(Partials::open(dir).map_err(io)?);
        Ok(Self {
            inner: Arc::new(Inner {
                store: Arc::new(store),
                registry,
                default_registry,
                limits,
                in_flight: InFlight::default(),
                partials,
                holds: Arc::default(),
                known: RwLock::new(known),
                recording: Arc::default(),
                logins: tokio::sync::Mutex::default(),
                warnings,
            }),
        })
    }

    /// What is pulled where nobody names a platform.
    #[must_use]
    pub fn machine() -> Platform {
        resolve::this_machine()
    }

    /// No longer counts the image as here: what it was made of is damaged. It is pulled again.
    pub fn forget(&self, image: &ImageReference) {
        self.known_mut().remove(image);
    }

    /// What was found broken when the store was opened.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// All images that are here, untagged ones as `registry/repository@digest`. Does not touch the disk.
    #[must_use]
    pub fn present(&self) -> BTreeMap<ImageReference, Present> {
        self.known().iter().map(|(image, known)| (image.clone(), known.present.clone())).collect()
    }

    /// Asks the registry, fetches what is missing and makes `image` name what it names there. Dropping the future
    /// gives up; what is visible is always whole.
    pub async fn pull(
        &self,
        image: &ImageReference,
        platform: Option<&Platform>,
        progress: &Progress,
    ) -> Result<Present, PullError> {
        let machine = resolve::this_machine();
        let wanted = platform.unwrap_or(&machine);
        let pulled = self.fetch(image, wanted, progress).await?;
        self.record(image, wanted, pulled).await.map_err(|e| PullError::store(image, e))
    }

    /// Fetches what is missing of an image. Whether it gets a name is the caller's business.
    async fn fetch(&self, image: &ImageReference, wanted: &Platform, progress: &Progress) -> Result<Pulled, PullError> {
        let Inner { store, registry, limits, in_flight, partials, holds, .. } = &*self.inner;
        let fetched = Pull { store, limits, in_flight, partials, holds, image, wanted, progress }.run(registry).await;
        heap::give_back();
        fetched
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
        config::read(&store.blob(&self.manifest(digest)?.config.digest)?).map_err(|e| self.unreadable(&e))
    }

    /// The manifest of an image that is here.
    fn manifest(&self, digest: &Digest) -> Result<manifest::Manifest, StoreError> {
        let bytes = self.inner.store.blob(digest)?;
        match manifest::read(&bytes, None, &self.inner.limits).map_err(|e| self.unreadable(&e))? {
            manifest::Document::Image(manifest) => Ok(manifest),
            manifest::Document::Index(_) => Err(StoreError::Missing { digest: digest.clone() }),
        }
    }

    fn unreadable(&self, error: &ManifestError) -> StoreError {
        StoreError::Damaged { path: self.inner.store.dir().to_owned(), reason: error.to_string() }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
