//! Whether what is stored still is what was stored: every byte of every document and layer is read and compared.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Images;
use super::error::StoreError;
use super::hash::Hasher;
use super::refs::{Known, RefRecord};
use super::unpack;
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
    /// Whether [`Images::repair`] made it right; set by the caller.
    pub repaired: bool,
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
        let (images, wanted) = (self.clone(), image.cloned());
        let stop = Stop(Arc::default());
        let stopped = Arc::clone(&stop.0);
        let found = tokio::task::spawn_blocking(move || images.verify_now(wanted.as_ref(), &stopped)).await;
        drop(stop);
        found.unwrap_or(Err(StoreError::Lost))
    }

    fn verify_now(&self, wanted: Option<&ImageReference>, stop: &AtomicBool) -> Result<Vec<Finding>, StoreError> {
        let records = self.records(wanted)?;
        let mut todo: Vec<(ImageReference, Part, Digest)> = Vec::new();
        let mut seen = BTreeSet::new();
        for (name, record) in &records {
            for (part, digest) in self.parts(record) {
                if seen.insert((part, digest.clone())) {
                    todo.push((name.clone(), part, digest));
                }
            }
        }
        let _hold = self.inner.holds.hold(seen.into_iter().map(|(_, digest)| digest));
        let mut findings = Vec::new();
        for (image, part, what) in todo {
            if stop.load(Ordering::Relaxed) {
                return Err(StoreError::Lost);
            }
            if let Err(damage) = self.check(part, &what) {
                tracing::warn!(%image, %what, %damage, "damage in the image store");
                findings.push(Finding { image, what, part, damage, repaired: false });
            }
        }
        Ok(findings)
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

    /// Reads one part; an error is a sentence about the damage.
    pub(super) fn check(&self, part: Part, what: &Digest) -> Result<(), String> {
        let store = &self.inner.store;
        match part {
            Part::Document => store.blob(what).map(|_| ()).map_err(|e| crate::model::sentence(&e)),
            Part::Blob => {
                let got = hashed(what, &store.blob_path(what)).map_err(|e| e.to_string())?;
                if got == what.as_str() { Ok(()) } else { Err(format!("its content is {got}")) }
            }
            Part::Layer if !store.has_layer(what) => Err("it is missing".into()),
            Part::Layer => unpack::check::check(&store.layer_path(what), what).map_err(|damage| damage.to_string()),
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
