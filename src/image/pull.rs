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
use super::partial::{Partial, Partials};
use super::progress::{Gauge, LayerState, Progress};
use super::registry::{Download, Fetched, Registry, RegistryError, Session};

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
    pub(super) partials: &'a Arc<Partials>,
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
pub(super) struct InFlight(Mutex<BTreeMap<Digest, Weak<Turn>>>);

/// One layer, for all who want it now.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) lock: Arc<tokio::sync::Mutex<()>>,
    pub(super) gauge: Arc<Gauge>,
}

impl InFlight {
    pub(super) fn turn(&self, diff_id: &Digest) -> Arc<Turn> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = all.get(diff_id).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::<Turn>::default();
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
        let session = registry.about(self.image, self.progress).await;
        let plan = self.documents(&session).await?;
        let documents = [&plan.top.digest, &plan.manifest_bytes.digest, &plan.manifest.config.digest];
        let hold = self.holds.hold(plan.config.diff_ids.iter().chain(documents).cloned());
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
        let layers = &plan.manifest.layers;
        let turns: Vec<_> = plan.config.diff_ids.iter().map(|diff_id| self.in_flight.turn(diff_id)).collect();
        let rows = layers.iter().zip(&turns);
        self.progress.begin(rows.map(|(from, turn)| (from.digest.clone(), from.size, Arc::clone(&turn.gauge))));
        let slots = Arc::new(Semaphore::new(self.limits.parallel_layers.max(1)));
        let all = layers.iter().zip(&plan.config.diff_ids).zip(&turns);
        let fetches: Vec<_> = all.map(|((from, id), turn)| self.layer(session, from, id, turn, &slots)).collect();
        stream::iter(fetches).buffer_unordered(UNDER_WAY).try_collect::<()>().await
    }

    async fn layer(
        &self,
        session: &Session<'_>,
        from: &Descriptor,
        diff_id: &Digest,
        turn: &Turn,
        slots: &Arc<Semaphore>,
    ) -> Result<(), PullError> {
        let _mine = turn.lock.lock().await;
        if self.store.is_good(diff_id) {
            if turn.gauge.state() != LayerState::Done {
                turn.gauge.set(LayerState::Present);
            }
            // A pull that was given up may have ended well and left it.
            self.partials.discard(from).await;
            return Ok(());
        }
        let mut partial = self.partials.take(from).await;
        let mut anew = false;
        loop {
            let tried = self.attempt(session, from, diff_id, &turn.gauge, partial.as_mut(), slots).await;
            let (error, cure) = match tried {
                Ok(()) => break,
                Err(failed) => failed,
            };
            let again = match cure {
                Cure::Nothing => false,
                // Parts of several downloads that make nothing whole: once more, from the start.
                Cure::Anew => !std::mem::replace(&mut anew, true),
                Cure::Elsewhere => true,
            };
            if !again {
                return Err(error);
            }
            if let Some(partial) = &mut partial {
                partial.clear().await;
            }
        }
        turn.gauge.set(LayerState::Done);
        Ok(())
    }

    /// One unpacking of a layer, from its first byte to its last.
    async fn attempt(
        &self,
        session: &Session<'_>,
        from: &Descriptor,
        diff_id: &Digest,
        gauge: &Gauge,
        mut partial: Option<&mut Partial>,
        slots: &Arc<Semaphore>,
    ) -> Result<(), (PullError, Cure)> {
        // Held while bytes move. Who only waits for the disk lets the next one begin.
        let slot = Arc::clone(slots).acquire_owned().await.ok();
        gauge.restart();
        let (sender, receiver) = mpsc::channel(PIECES);
        let (store, limits, promised) = (Arc::clone(self.store), Arc::clone(self.limits), diff_id.clone());
        let unpacking =
            tokio::task::spawn_blocking(move || fill(&store, Body::new(receiver), &promised, &limits, slot));
        let fetched = self.fetch(session, from, gauge, partial.as_deref_mut(), sender).await;
        let unpacked = unpacking.await.unwrap_or(Err(Filled::Layer(LayerError::Lost)));
        if let Some(partial) = partial {
            match (&fetched, &unpacked) {
                (Err((error, _)), _) if !error.is_damage() => partial.keep().await,
                // Wrong bytes, or right ones that are of no use here.
                (Err(_), _) | (Ok(()), Err(_)) => partial.clear().await,
                (Ok(()), Ok(_)) => {}
            }
        }
        let of_registry = |(error, cure)| (self.registry(error), cure);
        let failed = |error| (PullError::layer(self.image, &from.digest, self.store.dir(), error), Cure::Nothing);
        match (fetched, unpacked) {
            // Damage on the way is the cause of whatever nonsense was unpacked.
            (Err(error), Err(Filled::Layer(why))) if why.is_cancelled() => Err(of_registry(error)),
            (Err((error, cure)), _) if error.is_damage() => Err(of_registry((error, cure))),
            (_, Err(Filled::Layer(why))) => Err(failed(why)),
            (_, Err(Filled::Store(why))) => Err((PullError::store(self.image, why), Cure::Nothing)),
            (Err(error), Ok(_)) => Err(of_registry(error)),
            (Ok(()), Ok(_)) => Ok(()),
        }
    }

    /// Passes a blob's bytes on while counting and hashing them: first those an earlier download left, then the rest.
    /// The end is announced only when all was right.
    async fn fetch(
        &self,
        session: &Session<'_>,
        from: &Descriptor,
        gauge: &Gauge,
        mut partial: Option<&mut Partial>,
        sender: mpsc::Sender<Piece>,
    ) -> Result<(), (RegistryError, Cure)> {
        let mut hasher = Hasher::like(&from.digest);
        let mut had = 0;
        if let Some(partial) = partial.as_deref_mut() {
            while let Ok(Some(bytes)) = partial.read().await {
                had += bytes.len() as u64;
                hasher.update(&bytes);
                gauge.add(bytes.len() as u64);
                if sender.send(Piece::Data(bytes)).await.is_err() {
                    return Ok(());
                }
            }
            self.progress.resumed(had);
        }
        let mut download = session.download(from, had);
        loop {
            let bytes = match download.next().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                Err(error) => {
                    let cure = cure(&error, &download);
                    return Err((error, cure));
                }
            };
            hasher.update(&bytes);
            gauge.add(bytes.len() as u64);
            if let Some(partial) = partial.as_deref_mut() {
                partial.write(&bytes).await;
            }
            if sender.send(Piece::Data(bytes)).await.is_err() {
                // The other side gave up and says why.
                return Ok(());
            }
        }
        let digest = hasher.finish();
        if digest != from.digest.as_str() {
            let error = session.wrong_digest(&from.digest, digest);
            let cure = cure(&error, &download);
            return Err((error, cure));
        }
        gauge.set(LayerState::Unpacking);
        if let Some(partial) = partial {
            // Now, so that the layer's flush does not write it to the disk as well.
            partial.remove().await;
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

/// What may help against a layer that came out wrong.
enum Cure {
    Nothing,
    /// Fetching all of it again.
    Anew,
    /// Fetching all of it from places that have not been asked yet.
    Elsewhere,
}

fn cure(error: &RegistryError, download: &Download<'_>) -> Cure {
    if !error.is_damage() {
        Cure::Nothing
    } else if download.blame(error) {
        Cure::Elsewhere
    } else if download.seams() {
        Cure::Anew
    } else {
        Cure::Nothing
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
