//! Bringing an image to a registry: what is there stays, what another repository there has is mounted, the rest is sent;
//! the manifest comes last, byte for byte as it was pulled, so that the digest is the same.
//!
//! Only the platform that is here is pushed, as with Docker: an index would name images that nobody brings.
//!
//! Compressed layers are not kept where a registry has them, so a layer streams from where it came from to where it goes,
//! verified on its way; neither side's memory or disk holds more of it than a few chunks.
//!
//! A layer that nobody has as it was is compressed anew, see `repack`. The manifest is then another one, and the answer
//! says so; what is here keeps its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Images;
use super::feed::{Feed, Sending, send};
use super::manifest::{self, Descriptor, Document, Manifest};
use super::progress::{Gauge, LayerState, Progress};
use super::push_error::PushError;
use super::registry::{Offer, RegistryError, Session, Upload};
use super::repack::{manifest_with, repack};
use crate::model::{Digest, ImageReference, sentence};

/// Repositories that a token is asked for, to mount from them.
const MOUNTS: usize = 5;

/// An image that is at its registry now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The manifest's digest there.
    pub digest: Digest,
    /// Whether it is the digest that the image has here.
    pub same: bool,
    /// Bytes that the repository had already.
    pub present: u64,
    /// Bytes that the registry took over from another of its repositories.
    pub mounted: u64,
    /// Bytes that were sent.
    pub uploaded: u64,
}

impl Images {
    /// Pushes the image to the registry of its name.
    pub async fn push(&self, image: &ImageReference, progress: &Progress) -> Result<Pushed, PushError> {
        let known = self.known().get(image).map(|known| known.present.digest.clone());
        let known = known.ok_or_else(|| PushError::Absent { image: image.clone() })?;
        let (bytes, manifest) = self.stored(image, &known)?;
        let config = self.config(&known).map_err(|e| PushError::store(image, e))?;
        let layers: BTreeMap<_, _> =
            manifest.layers.iter().map(|layer| layer.digest.clone()).zip(config.diff_ids).collect();
        let held = blobs(&manifest).map(|blob| &blob.digest).chain(layers.values()).chain([&known]);
        let _hold = self.inner.holds.hold(held.cloned());
        let names = self.sources(image, &manifest).await;
        let mut mounts: Vec<String> = Vec::new();
        for name in names.values().flatten().filter(|name| name.registry() == image.registry()) {
            if !mounts.iter().any(|known| known == name.repository()) && mounts.len() < MOUNTS {
                mounts.push(name.repository().to_owned());
            }
        }
        let target = self.inner.registry.writing(image, &mounts, progress).await;
        let sums = Sums::default();
        let push = Push { images: self, image, target: &target, names: &names, layers: &layers, progress, sums };
        let replaced = push.blobs(&manifest).await?;
        let same = replaced.is_empty();
        let media_type = media_type(&bytes, &manifest);
        let (bytes, digest) = match same {
            true => (bytes, known.clone()),
            false => manifest_with(&bytes, &replaced).map_err(|e| PushError::store(image, e))?,
        };
        let name = image.tag().unwrap_or(digest.as_str());
        let put = target.put_manifest(name, &media_type, bytes.into(), &digest).await;
        put.map_err(|source| PushError::registry(image, None, source))?;
        if same {
            self.brought(image, &known).await;
        }
        let sum = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let Sums { present, mounted, uploaded } = &push.sums;
        let (present, mounted, uploaded) = (sum(present), sum(mounted), sum(uploaded));
        Ok(Pushed { digest, same, present, mounted, uploaded })
    }

    fn stored(&self, image: &ImageReference, digest: &Digest) -> Result<(Vec<u8>, Manifest), PushError> {
        let store = |source| PushError::store(image, source);
        let bytes = self.inner.store.blob(digest).map_err(store)?;
        match manifest::read(&bytes, None, &self.inner.limits) {
            Ok(Document::Image(manifest)) => Ok((bytes, manifest)),
            Ok(Document::Index(_)) => Err(store(super::StoreError::Missing { digest: digest.clone() })),
            Err(source) => Err(PushError::Manifest { image: image.clone(), source: Box::new(source) }),
        }
    }
}

pub(super) fn blobs(manifest: &Manifest) -> impl Iterator<Item = &Descriptor> {
    manifest.layers.iter().chain([&manifest.config])
}

/// The type that the manifest says, or the one that fits its parts.
fn media_type(bytes: &[u8], manifest: &Manifest) -> String {
    let said: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let said = said.as_ref().and_then(|v| v.get("mediaType")).and_then(serde_json::Value::as_str);
    let fits = if manifest.config.media_type.starts_with("application/vnd.docker.") {
        "application/vnd.docker.distribution.manifest.v2+json"
    } else {
        "application/vnd.oci.image.manifest.v1+json"
    };
    said.filter(|said| !said.is_empty()).unwrap_or(fits).to_owned()
}

#[derive(Default)]
struct Sums {
    present: AtomicU64,
    mounted: AtomicU64,
    uploaded: AtomicU64,
}

/// One push at work.
struct Push<'a> {
    images: &'a Images,
    image: &'a ImageReference,
    target: &'a Session<'a>,
    /// Where blobs can be had.
    names: &'a BTreeMap<Digest, Vec<ImageReference>>,
    /// The content of each layer.
    layers: &'a BTreeMap<Digest, Digest>,
    progress: &'a Progress,
    sums: Sums,
}

impl Push<'_> {
    /// Layers and configuration, a few at a time; what is there instead of those that nobody has any more. The first
    /// error drops the others.
    async fn blobs(&self, manifest: &Manifest) -> Result<BTreeMap<Digest, Descriptor>, PushError> {
        let mut seen = BTreeSet::new();
        let all: Vec<_> = blobs(manifest).filter(|blob| seen.insert(&blob.digest)).collect();
        let rows: Vec<_> = all.iter().map(|blob| (*blob, Arc::<Gauge>::default())).collect();
        self.progress.begin(rows.iter().map(|(blob, gauge)| (blob.digest.clone(), blob.size, Arc::clone(gauge))));
        let jobs: Vec<_> = rows.iter().map(|(blob, gauge)| self.blob(blob, gauge)).collect();
        let at_once = self.images.inner.limits.parallel_layers.max(1);
        let done: Vec<_> = stream::iter(jobs).buffered(at_once).try_collect().await?;
        let replaced = rows.iter().zip(done).filter_map(|((blob, _), now)| Some((blob.digest.clone(), now?)));
        Ok(replaced.collect())
    }

    async fn blob(&self, of: &Descriptor, gauge: &Gauge) -> Result<Option<Descriptor>, PushError> {
        if self.target.has(of).await.map_err(|e| self.failed(of, e))? {
            gauge.set(LayerState::Present);
            self.sums.present.fetch_add(of.size, Ordering::Relaxed);
            return Ok(None);
        }
        gauge.set(LayerState::Fetching);
        let begun = match self.mount(of).await {
            Some(Offer::Mounted) => {
                gauge.set(LayerState::Done);
                self.sums.mounted.fetch_add(of.size, Ordering::Relaxed);
                return Ok(None);
            }
            Some(Offer::Wanted(upload)) => Some(upload),
            None => None,
        };
        let replaced = match self.deliver(of, gauge, begun).await? {
            None => {
                self.sums.uploaded.fetch_add(of.size, Ordering::Relaxed);
                None
            }
            Some(why) => Some(self.anew(of, gauge, why).await?),
        };
        gauge.set(LayerState::Done);
        Ok(replaced)
    }

    /// Nobody has the layer as it was, for the reason `why`: its content goes in another compression.
    async fn anew(&self, of: &Descriptor, gauge: &Gauge, why: String) -> Result<Descriptor, PushError> {
        let lost = |why| PushError::NoSource { image: Box::new(self.image.clone()), digest: of.digest.clone(), why };
        let Some(diff_id) = self.layers.get(&of.digest) else { return Err(lost(why)) };
        self.progress.note(format!("{} is compressed anew: {why}", of.digest.short()));
        let packed = repack(self.images, diff_id, &of.media_type).await;
        let packed = packed.map_err(|source| PushError::pack(self.image, &of.digest, source))?;
        let Some(packed) = packed else { return Err(lost(why)) };
        let now = &packed.as_now;
        if self.target.has(now).await.map_err(|e| self.failed(of, e))? {
            self.sums.present.fetch_add(now.size, Ordering::Relaxed);
        } else if let Some(why) = self.from(now, gauge, &mut None, || Feed::file(&packed.path)).await? {
            return Err(lost(why));
        } else {
            self.sums.uploaded.fetch_add(now.size, Ordering::Relaxed);
        }
        Ok(now.clone())
    }

    /// Tries to have the blob taken over from another repository. An upload that was begun instead is used.
    async fn mount(&self, of: &Descriptor) -> Option<Offer<'_>> {
        let mut begun = None;
        let registry = self.image.registry();
        for name in self.names.get(&of.digest).into_iter().flatten().filter(|name| name.registry() == registry) {
            match self.target.offer(&of.digest, Some(name.repository())).await {
                Ok(Offer::Mounted) => {
                    self.give_up(begun).await;
                    return Some(Offer::Mounted);
                }
                Ok(Offer::Wanted(upload)) => {
                    self.give_up(begun.replace(upload)).await;
                }
                // We may not read that one; the registry says so by any of its errors.
                Err(_) => {}
            }
        }
        begun.map(Offer::Wanted)
    }

    async fn give_up(&self, upload: Option<Upload<'_>>) {
        if let Some(upload) = upload {
            upload.abandon().await;
        }
    }

    /// Sends the blob from the nearest place that has it; why it did not go, where none has.
    async fn deliver<'s>(
        &'s self,
        of: &Descriptor,
        gauge: &Gauge,
        begun: Option<Upload<'s>>,
    ) -> Result<Option<String>, PushError> {
        let mut begun = begun;
        let mut why = Vec::new();
        let store = &self.images.inner.store;
        if let Some(path) = store.kept(&of.digest) {
            let open = || async { Feed::file(&path).await };
            match self.from(of, gauge, &mut begun, open).await? {
                None => return Ok(None),
                Some(error) => why.push(error),
            }
        }
        // Not compressed: the archive itself.
        if self.layers.get(&of.digest) == Some(&of.digest) && store.layer(&of.digest).is_ok_and(|l| l.rebuildable) {
            let layer = store.layer_path(&of.digest);
            let open = || async { Ok(Feed::rebuilt(&layer)) };
            match self.from(of, gauge, &mut begun, open).await? {
                None => return Ok(None),
                Some(error) => why.push(error),
            }
        }
        for name in self.names.get(&of.digest).into_iter().flatten() {
            let progress = Progress::default();
            let source = self.images.inner.registry.about(name, &progress).await;
            let open = || async { Ok(Feed::Remote(source.download(of, 0))) };
            match self.from(of, gauge, &mut begun, open).await? {
                None => return Ok(None),
                Some(error) => why.push(error),
            }
        }
        self.give_up(begun).await;
        if why.is_empty() {
            why.push("it did not come from a registry".to_owned());
        }
        Ok(Some(why.join("; ")))
    }

    /// Sends the blob from one source; what went wrong there, if it did. The target's errors end the push.
    async fn from<'s, 'f, F>(
        &'s self,
        of: &Descriptor,
        gauge: &Gauge,
        begun: &mut Option<Upload<'s>>,
        open: impl Fn() -> F,
    ) -> Result<Option<String>, PushError>
    where
        F: Future<Output = std::io::Result<Feed<'f>>>,
    {
        let (mut whole, mut lost) = (false, 0);
        loop {
            let upload = match begun.take() {
                Some(upload) => upload,
                None => match self.target.offer(&of.digest, None).await.map_err(|e| self.failed(of, e))? {
                    Offer::Mounted => return Ok(None),
                    Offer::Wanted(upload) => upload,
                },
            };
            gauge.restart();
            let mut feed = match open().await {
                Ok(feed) => feed,
                Err(error) => {
                    *begun = Some(upload);
                    return Ok(Some(error.to_string()));
                }
            };
            match send(upload, &mut feed, of, gauge, whole).await {
                Sending::Done => return Ok(None),
                Sending::Source(why) => return Ok(Some(why)),
                Sending::Whole if !whole => whole = true,
                Sending::Whole => return Err(self.failed(of, self.target.unusable())),
                Sending::Lost(error) => {
                    lost += 1;
                    tracing::debug!(digest = %of.digest, error = %sentence(&error), "an upload begins anew");
                    if lost >= self.images.inner.registry.settings().attempts.fruitless {
                        return Err(self.failed(of, error));
                    }
                }
                Sending::Target(error) => return Err(self.failed(of, error)),
            }
        }
    }

    fn failed(&self, of: &Descriptor, source: RegistryError) -> PushError {
        PushError::registry(self.image, Some(&of.digest), source)
    }
}
