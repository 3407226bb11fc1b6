//! Whether what is stored still is what was stored: every byte of every document and layer is read and compared.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Images;
use super::error::StoreError;
use super::hash::Hasher;
use super::refs::{Known, RefRecord};
use super::unpack;
use super::unpack::check::Damage;
use crate::model::{Digest, ImageReference};

/// Something that is not as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// An image that it belongs to; others may share it.
    pub image: ImageReference,
    /// What is damaged; of a layer the digest of its content.
    pub what: Digest,
    /// What kind of thing that is.
    pub part: Part,
    /// What is wrong, on one line.
    pub damage: String,
    /// Whether there is nothing to compare it with: it may be whole. [`Images::repair`] gets it anew.
    pub unknown: bool,
}

/// What can be damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A manifest, an index or a configuration.
    Document,
    /// A compressed layer that is kept.
    Blob,
    /// An unpacked layer.
    Layer,
}

/// What whoever waits for a check is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// A part of this image is read next.
    Reads {
        /// Which.
        image: ImageReference,
        /// Bytes of all images that are read.
        done: u64,
        /// Bytes that are to be read.
        total: u64,
    },
    /// Something is not as it was stored.
    Found(Finding),
}

/// Ends the work when nobody waits for it any more.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Images {
    /// Reads one image, or all, and tells what is damaged or missing. Each layer is read once, however many share it.
    pub async fn verify(&self, image: Option<&ImageReference>) -> Result<Vec<Finding>, StoreError> {
        let found = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&found);
        let note = move |checked| {
            if let Checked::Found(finding) = checked {
                notes.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
            }
        };
        let wanted = image.cloned().into_iter().collect();
        self.verify_telling(wanted, note).await?;
        Ok(std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Reads these images, or all where none is named, and tells as it goes, on a thread for blocking work. The names of
    /// the images that were read. Dropping the future ends it after the part that is being read.
    pub async fn verify_telling(
        &self,
        wanted: Vec<ImageReference>,
        tell: impl FnMut(Checked) + Send + 'static,
    ) -> Result<Vec<ImageReference>, StoreError> {
        let images = self.clone();
        let stop = Stop(Arc::default());
        let stopped = Arc::clone(&stop.0);
        let read = tokio::task::spawn_blocking(move || images.verify_now(&wanted, &stopped, tell)).await;
        drop(stop);
        read.unwrap_or(Err(StoreError::Lost))
    }

    fn verify_now(
        &self,
        wanted: &[ImageReference],
        stop: &AtomicBool,
        mut tell: impl FnMut(Checked),
    ) -> Result<Vec<ImageReference>, StoreError> {
        let mut records = Vec::new();
        if wanted.is_empty() {
            records = self.records(None)?;
        }
        for image in wanted {
            records.extend(self.records(Some(image))?);
        }
        let mut todo: Vec<(&ImageReference, Part, Digest)> = Vec::new();
        let mut seen = BTreeSet::new();
        for (name, record) in &records {
            for (part, digest) in self.parts(record) {
                if seen.insert((part, digest.clone())) {
                    todo.push((name, part, digest));
                }
            }
        }
        let _hold = self.inner.holds.hold(seen.into_iter().map(|(_, digest)| digest));
        let total = todo.iter().map(|(_, part, what)| self.size(*part, what)).fold(0, u64::saturating_add);
        let mut done = 0;
        for (image, part, what) in todo {
            if stop.load(Ordering::Relaxed) {
                return Err(StoreError::Lost);
            }
            tell(Checked::Reads { image: image.clone(), done, total });
            done += self.size(part, &what);
            if let Err(damage) = self.check(part, &what) {
                let unknown = damage == Damage::Unknown;
                let damage = damage.to_string();
                tracing::warn!(%image, %what, %damage, "in the image store");
                tell(Checked::Found(Finding { image: image.clone(), what, part, damage, unknown }));
            }
        }
        Ok(records.into_iter().map(|(image, _)| image).collect())
    }

    /// About how many bytes are read for a part; where that is not known, as for what is missing, none.
    fn size(&self, part: Part, what: &Digest) -> u64 {
        let store = &self.inner.store;
        match part {
            Part::Document => 0,
            Part::Blob => std::fs::metadata(store.blob_path(what)).map_or(0, |found| found.len()),
            Part::Layer => store.layer(what).map_or(0, |layer| layer.disk_bytes),
        }
    }

    /// The references on disk: what memory dropped as damaged is looked at as well.
    pub(super) fn records(
        &self,
        wanted: Option<&ImageReference>,
    ) -> Result<Vec<(ImageReference, RefRecord)>, StoreError> {
        let store = &self.inner.store;
        let mut records = store.refs().map_err(StoreError::io(store.dir()))?.good;
        if let Some(wanted) = wanted {
            records.retain(|(name, _)| name == wanted);
            if records.is_empty() {
                return Err(StoreError::Unknown { image: wanted.clone() });
            }
        }
        Ok(records)
    }

    /// What an image is made of, as far as it is known.
    fn parts(&self, record: &RefRecord) -> Vec<(Part, Digest)> {
        let Ok(known) = Known::try_from(record.clone()) else { return Vec::new() };
        let digest = &known.present.digest;
        let documents = [digest, &known.present.top, &known.config];
        let mut parts: Vec<_> = documents.into_iter().map(|d| (Part::Document, d.clone())).collect();
        let manifest = self.manifest(digest);
        let blobs = manifest.iter().flat_map(|manifest| &manifest.layers);
        let kept = blobs.filter(|blob| self.inner.store.blob_path(&blob.digest).exists());
        parts.extend(kept.map(|blob| (Part::Blob, blob.digest.clone())));
        parts.extend(self.layers_of(record).into_iter().map(|diff_id| (Part::Layer, diff_id)));
        parts
    }

    /// The layers of an image, also when its configuration cannot be read.
    pub(super) fn layers_of(&self, record: &RefRecord) -> Vec<Digest> {
        if record.layers.is_empty() {
            let config = Digest::parse(&record.manifest).ok().and_then(|digest| self.config(&digest).ok());
            return config.map(|config| config.diff_ids).unwrap_or_default();
        }
        record.layers.iter().filter_map(|layer| Digest::parse(layer).ok()).collect()
    }

    /// Reads one part.
    pub(super) fn check(&self, part: Part, what: &Digest) -> Result<(), Damage> {
        let store = &self.inner.store;
        match part {
            Part::Document => store.blob(what).map(|_| ()).map_err(|e| Damage::Found(crate::model::sentence(&e))),
            Part::Blob => {
                let got = hashed(what, &store.blob_path(what)).map_err(|e| Damage::Found(e.to_string()))?;
                if got == what.as_str() { Ok(()) } else { Err(Damage::Found(format!("its content is {got}"))) }
            }
            Part::Layer if !store.has_layer(what) => Err(Damage::Found("it is missing".into())),
            Part::Layer => unpack::check::check(&store.layer_path(what), what),
        }
    }
}

fn hashed(like: &Digest, path: &std::path::Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hasher, mut buffer) = (Hasher::like(like), vec![0; 128 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            got => hasher.update(&buffer[..got]),
        }
    }
}
