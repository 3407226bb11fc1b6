//! One pull: name, manifest, configuration, layers, and last of all the reference.
//!
//! Dropping the future stops it soon: the channels to the unpacking threads close, which ends them and removes what
//! they had begun. A reference is written only when everything it leads to is on disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::config::{self, ImageConfig};
use super::error::{LayerError, PullError, StoreError};
use super::hash::Hasher;
use super::holds::{Hold, Holds};

use super::manifest::{self, Descriptor, Document, Manifest, ManifestError};
use super::progress::Progress;
use super::registry::{Fetched, Registry, RegistryError, Session};

use super::resolve;
use super::settings::Limits;
use super::store::Store;
use super::unpack::layer::{self, Unpacking};
use super::unpack::stream::{Body, PIECES, Piece};

use crate::model::{Digest, ImageReference, Platform};

/// Indexes on the way to an image: one, and one inside it.
const INDEXES: usize = 2;

/// Layers that may be on their way at once, those included that only wait to be on disk.
const UNDER_WAY: usize = 32;

/// What a pull needs of the house.
pub(super) struct Pull<'a> {
    pub(super) store: &'a Arc<Store>,
    pub(super) limits: &'a Arc<Limits>,
    pub(super) in_flight: &'a InFlight,
    pub(super) holds: &'a Arc<Holds>,
    pub(super) image: &'a ImageReference,
    pub(super) wanted: &'a Platform,
    pub(super) progress: &'a Progress,
}

/// A pulled image.
pub(super) struct Pulled {
    pub(super) top: Digest,
    pub(super) manifest: Digest,
    pub(super) config: Digest,
    pub(super) bytes: u64,
    pub(super) layers: Vec<Digest>,
    /// Keeps all of it from being swept until a reference leads to it.
    pub(super) hold: Hold,
}

/// Layers being fetched by anyone. Whoever comes second waits and then finds the layer.
#[derive(Default)]
pub(super) struct InFlight(Mutex<BTreeMap<Digest, Weak<tokio::sync::Mutex<()>>>>);

impl InFlight {
    pub(super) fn turn(&self, diff_id: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = all.get(diff_id).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        all.insert(diff_id.clone(), Arc::downgrade(&turn));
        turn
    }
}

/// An image's documents, verified and belonging together.
struct Plan {
    top: Fetched,
    manifest_bytes: Fetched,
    manifest: Manifest,
    config_bytes: hyper::body::Bytes,
    config: ImageConfig,
}

impl Pull<'_> {
    pub(super) async fn run(&self, registry: &Registry) -> Result<Pulled, PullError> {
        let session = registry.about(self.image);
        let plan = self.documents(&session).await?;
        let documents = [&plan.top.digest, &plan.manifest_bytes.digest, &plan.manifest.config.digest];
        let hold = self.holds.hold(plan.config.diff_ids.iter().chain(documents).cloned());
        self.progress.begin(plan.manifest.layers.iter().map(|l| l.size).fold(0, u64::saturating_add));
        self.layers(&session, &plan).await?;
        let bytes = plan.manifest.layers.iter().map(|l| l.size).fold(0, u64::saturating_add);
        let blobs = [
            (plan.top.digest.clone(), plan.top.bytes),
            (plan.manifest_bytes.digest.clone(), plan.manifest_bytes.bytes),
            (plan.manifest.config.digest.clone(), plan.config_bytes),
        ];
        let store = Arc::clone(self.store);
        let stored = tokio::task::spawn_blocking(move || {
            blobs.iter().try_for_each(|(digest, bytes)| store.put_blob(digest, bytes))
        });
        let lost = |_| StoreError::Missing { digest: plan.manifest_bytes.digest.clone() };
        stored.await.map_err(lost).flatten().map_err(|e| PullError::store(self.image, e))?;
        Ok(Pulled {
            top: plan.top.digest,
            manifest: plan.manifest_bytes.digest,
            config: plan.manifest.config.digest,
            bytes,
            layers: plan.config.diff_ids,
            hold,
        })
    }

    async fn documents(&self, session: &Session<'_>) -> Result<Plan, PullError> {
        let top = session.top().await.map_err(|e| self.registry(e))?;
        let mut current =
            Fetched { bytes: top.bytes.clone(), content_type: top.content_type.clone(), digest: top.digest.clone() };
        let mut indexes = 0;
        let manifest = loop {
            let read = manifest::read(&current.bytes, current.content_type.as_deref(), self.limits);
            match read.map_err(|e| self.unusable(e))? {
                Document::Image(manifest) => break manifest,
                Document::Index(_) if indexes == INDEXES => {
                    return Err(self.unusable(ManifestError::Refused { reason: "its indexes are nested".into() }));
                }
                Document::Index(entries) => {
                    indexes += 1;
                    let target = resolve::choose(&entries, self.wanted).map_err(|e| self.unusable(e))?;
                    current = session.child(target).await.map_err(|e| self.registry(e))?;
                }
            }
        };
        let limit = self.limits.config_bytes;
        let config_bytes = session.small_blob(&manifest.config, "a configuration", limit).await;
        let config_bytes = config_bytes.map_err(|e| self.registry(e))?;
        let config = self.checked_config(&config_bytes, &manifest).map_err(|e| self.unusable(e))?;
        Ok(Plan { top, manifest_bytes: current, manifest, config_bytes, config })
    }

    fn checked_config(&self, bytes: &[u8], manifest: &Manifest) -> Result<ImageConfig, ManifestError> {
        let config = config::read(bytes)?;
        config::belongs(&config, manifest)?;
        if resolve::fits(&config.platform, self.wanted) {
            return Ok(config);
        }
        Err(ManifestError::Platform { wanted: self.wanted.clone(), available: vec![config.platform.to_string()] })
    }

    /// Fetches what is missing, a few at a time. The first error drops the others.
    async fn layers(&self, session: &Session<'_>, plan: &Plan) -> Result<(), PullError> {
        let pairs = plan.manifest.layers.iter().zip(&plan.config.diff_ids);
        let slots = Arc::new(Semaphore::new(self.limits.parallel_layers.max(1)));
        let fetches: Vec<_> = pairs.map(|(from, diff_id)| self.layer(session, from, diff_id, &slots)).collect();
        stream::iter(fetches).buffer_unordered(UNDER_WAY).try_collect::<()>().await
    }

    async fn layer(
        &self,
        session: &Session<'_>,
        from: &Descriptor,
        diff_id: &Digest,
        slots: &Arc<Semaphore>,
    ) -> Result<(), PullError> {
        let turn = self.in_flight.turn(diff_id);
        let _mine = turn.lock().await;
        if self.store.is_good(diff_id) {
            self.progress.add(from.size);
            return Ok(());
        }
        // Held while bytes move. Who only waits for the disk lets the next one begin.
        let slot = Arc::clone(slots).acquire_owned().await.ok();
        let failed = |error| PullError::layer(self.image, &from.digest, self.store.dir(), error);
        let (sender, receiver) = mpsc::channel(PIECES);
        let (store, limits, promised) = (Arc::clone(self.store), Arc::clone(self.limits), diff_id.clone());
        let unpacking =
            tokio::task::spawn_blocking(move || fill(&store, Body::new(receiver), &promised, &limits, slot));
        let fetched = self.fetch(session, from, sender).await;
        let unpacked = unpacking.await.unwrap_or(Err(Filled::Layer(LayerError::Lost)));
        match (fetched, unpacked) {
            // Damage on the way is the cause of whatever nonsense was unpacked.
            (Err(error), Err(Filled::Layer(why))) if why.is_cancelled() => Err(self.registry(error)),
            (Err(error @ (RegistryError::WrongDigest { .. } | RegistryError::WrongSize { .. })), _) => {
                Err(self.registry(error))
            }
            (_, Err(Filled::Layer(why))) => Err(failed(why)),
            (_, Err(Filled::Store(why))) => Err(PullError::store(self.image, why)),
            (Err(error), Ok(_)) => Err(self.registry(error)),
            (Ok(()), Ok(_)) => Ok(()),
        }
    }

    /// Passes a blob's bytes on while counting and hashing them. The end is announced only when all was right.
    async fn fetch(
        &self,
        session: &Session<'_>,
        from: &Descriptor,
        sender: mpsc::Sender<Piece>,
    ) -> Result<(), RegistryError> {
        let mut response = session.blob(from).await?;
        let mut hasher = Hasher::like(&from.digest);
        let mut got = 0u64;
        while let Some(bytes) = session.piece(&mut response).await? {
            got += bytes.len() as u64;
            if got > from.size {
                return Err(session.wrong_size(from, got));
            }
            hasher.update(&bytes);
            self.progress.add(bytes.len() as u64);
            if sender.send(Piece::Data(bytes)).await.is_err() {
                // The other side gave up and says why.
                return Ok(());
            }
        }
        if got != from.size {
            return Err(session.wrong_size(from, got));
        }
        let digest = hasher.finish();
        if digest != from.digest.as_str() {
            return Err(session.wrong_digest(&from.digest, digest));
        }
        let _ = sender.send(Piece::End).await;
        Ok(())
    }

    fn registry(&self, source: RegistryError) -> PullError {
        PullError::Registry { image: self.image.clone(), source: Box::new(source) }
    }
    fn unusable(&self, source: ManifestError) -> PullError {
        PullError::Manifest { image: self.image.clone(), source: Box::new(source) }
    }
}

enum Filled {
    Layer(LayerError),
    Store(StoreError),
}

/// The blocking half of a layer: unpack, settle, make visible.
fn fill(
    store: &Store,
    body: Body,
    diff_id: &Digest,
    limits: &Limits,
    slot: Option<OwnedSemaphorePermit>,
) -> Result<Unpacking, Filled> {
    let begun = store.begin_layer();
    let disk = |source| Filled::Layer(LayerError::Disk { path: store.dir().to_owned(), source });
    let ingest = begun.map_err(disk)?;
    let done = layer::unpack(body, &ingest, diff_id, limits).map_err(Filled::Layer)?;
    drop(slot);
    store.commit_layer(ingest, diff_id, &done).map_err(Filled::Store)?;
    Ok(done)
}
