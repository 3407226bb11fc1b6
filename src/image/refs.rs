//! The references: which manifest a name means. `refs/<hex of the name>.json`, one file for each.
//!
//! A name that moves to another manifest leaves the old one an untagged reference, `registry/repository@digest`, so that
//! what runs from it keeps its layers until somebody removes it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::hash::sha256_hex;
use super::pull::Pulled;
use super::store::{Store, json, read_small, sync_dir};
use super::{Images, Present, config, now};
use crate::model::{Digest, ImageReference, Platform, Timestamp};

/// What `refs/*.json` holds. A format that stays readable for ever.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RefRecord {
    pub(super) reference: String,
    pub(super) manifest: String,
    /// What the registry had under the name: the index, where there is one. A later question is compared with this.
    pub(super) top: String,
    pub(super) config: String,
    pub(super) platform: String,
    pub(super) bytes: u64,
    pub(super) pulled_at_ms: u64,
    /// When the registry was asked last whether the name still means this; zero: not since it was pulled.
    #[serde(default)]
    pub(super) checked_at_ms: u64,
    /// The layers' contents, lowest first. Records of old have none: their configuration tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) layers: Vec<String>,
    /// Never collected.
    #[serde(default)]
    pub(super) pinned: bool,
    /// When a container was made from it or removed with it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_used_ms: Option<u64>,
    /// `registry/repository` that are known to hold its blobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) sources: Vec<String>,
    #[serde(default)]
    pub(super) origin: Origin,
    /// No name, only what a name left behind when it moved, or what an archive brought without one.
    #[serde(default)]
    pub(super) untagged: bool,
}

/// How an image came here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// From a registry.
    #[default]
    Pulled,
    /// From an archive.
    Loaded,
    /// Made here: of a root file system, or of a container.
    Imported,
    /// A further name of an image that was here.
    Tagged,
}

/// All references that were read, and for each broken one a sentence.
#[derive(Debug, Default)]
pub(super) struct Refs {
    pub(super) good: Vec<(ImageReference, RefRecord)>,
    pub(super) broken: Vec<String>,
}

/// A reference in memory, whole when it was looked at.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) present: Present,
    pub(super) config: Digest,
    pub(super) record: RefRecord,
    /// When its last use was written down.
    pub(super) use_written: Option<Instant>,
    /// What its layers take on disk, once somebody asked.
    pub(super) on_disk: Arc<OnceLock<u64>>,
}

impl Known {
    pub(super) fn last_used(&self) -> Option<Timestamp> {
        self.record.last_used_ms.map(Timestamp)
    }
}

impl TryFrom<RefRecord> for Known {
    type Error = crate::model::ReferenceError;

    fn try_from(record: RefRecord) -> Result<Self, Self::Error> {
        let present = Present {
            digest: Digest::parse(&record.manifest)?,
            top: Digest::parse(&record.top)?,
            platform: record.platform.clone(),
            bytes: record.bytes,
            pulled_at: Timestamp(record.pulled_at_ms),
            checked_at: Timestamp(record.checked_at_ms.max(record.pulled_at_ms)),
        };
        let config = Digest::parse(&record.config)?;
        Ok(Self { present, config, record, use_written: None, on_disk: Arc::default() })
    }
}

impl Store {
    fn ref_path(&self, image: &ImageReference) -> PathBuf {
        self.dir().join("refs").join(format!("{}.json", sha256_hex(image.to_string().as_bytes())))
    }

    pub(super) fn put_ref(&self, image: &ImageReference, record: &RefRecord) -> Result<(), StoreError> {
        // What it leads to has its name on disk before it has.
        let layers = self.dir().join("layers");
        sync_dir(&layers).map_err(StoreError::io(&layers))?;
        let path = self.ref_path(image);
        self.replace(&path, &json(record, &path)?)
    }

    /// Deletes a reference; true if there was one.
    pub(super) fn delete_ref(&self, image: &ImageReference) -> Result<bool, StoreError> {
        let path = self.ref_path(image);
        match fs::remove_file(&path) {
            Ok(()) => {
                let refs = self.dir().join("refs");
                sync_dir(&refs).map_err(StoreError::io(&refs)).map(|()| true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io(&path)(error)),
        }
    }

    /// Reads all references; a broken one never hides the others.
    pub(super) fn refs(&self) -> io::Result<Refs> {
        let mut refs = Refs::default();
        for entry in fs::read_dir(self.dir().join("refs"))? {
            let path = entry?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            match self.read_ref(&path) {
                Ok(found) => refs.good.push(found),
                Err(reason) => refs.broken.push(format!("{} is not used: {reason}", path.display())),
            }
        }
        Ok(refs)
    }

    fn read_ref(&self, path: &Path) -> Result<(ImageReference, RefRecord), String> {
        let bytes = read_small(path).map_err(|e| e.to_string())?;
        let record: RefRecord = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        let image = ImageReference::parse(&record.reference).map_err(|e| e.to_string())?;
        if self.ref_path(&image) != path {
            return Err("it speaks of another image than its name".into());
        }
        Ok((image, record))
    }

    /// Whether all that a reference leads to is there. Layers are only looked for, not read again.
    pub(super) fn whole(&self, record: &RefRecord) -> Result<Known, String> {
        let known = Known::try_from(record.clone()).map_err(|e| e.to_string())?;
        self.blob(&known.present.digest).map_err(|e| e.to_string())?;
        let config = self.blob(&known.config).map_err(|e| e.to_string())?;
        let config = config::read(&config).map_err(|e| e.to_string())?;
        match config.diff_ids.iter().find(|id| !self.has_layer(id)) {
            Some(missing) => Err(format!("its layer {} is missing", missing.short())),
            None => Ok(known),
        }
    }
}

impl Images {
    pub(super) fn known(&self) -> RwLockReadGuard<'_, BTreeMap<ImageReference, Known>> {
        self.inner.known.read().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn known_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<ImageReference, Known>> {
        self.inner.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the references while nobody else does. It is done to its end, also when nobody waits for it.
    pub(super) async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = Arc::clone(&self.inner.recording).lock_owned().await;
        let images = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&images);
            drop(turn);
            done
        });
        done.await.unwrap_or(Err(StoreError::Lost))
    }

    /// Makes `image` name what was pulled.
    pub(super) async fn record(
        &self,
        image: &ImageReference,
        platform: &Platform,
        pulled: Pulled,
    ) -> Result<Present, StoreError> {
        let Pulled { top, manifest, config, bytes, layers, hold } = pulled;
        let at = now().millis();
        let record = RefRecord {
            reference: image.to_string(),
            manifest: manifest.to_string(),
            top: top.to_string(),
            config: config.to_string(),
            platform: platform.to_string(),
            bytes,
            pulled_at_ms: at,
            checked_at_ms: at,
            layers: layers.iter().map(ToString::to_string).collect(),
            pinned: false,
            last_used_ms: None,
            sources: vec![format!("{}/{}", image.registry(), image.repository())],
            origin: Origin::Pulled,
            untagged: false,
        };
        let image = image.clone();
        self.alone(move |images| {
            let present = images.put(&image, record);
            drop(hold);
            present
        })
        .await
    }

    /// Makes `image` name what the record says; the caller is alone.
    pub(super) fn put(&self, image: &ImageReference, mut record: RefRecord) -> Result<Present, StoreError> {
        let store = &self.inner.store;
        let path = store.ref_path(image);
        // What is on disk counts: memory forgets what is damaged, and containers may run from it all the same.
        let before = store.read_ref(&path).ok().map(|(_, before)| before);
        if let Some(before) = &before {
            record.pinned |= before.pinned;
            if before.manifest == record.manifest {
                record.last_used_ms = record.last_used_ms.max(before.last_used_ms);
                join(&mut record.sources, &before.sources);
            } else {
                self.leave_untagged(image, before)?;
            }
        }
        let damaged = |e: crate::model::ReferenceError| StoreError::Damaged { path, reason: e.to_string() };
        let known = Known::try_from(record).map_err(damaged)?;
        store.put_ref(image, &known.record)?;
        let present = known.present.clone();
        self.known_mut().insert(image.clone(), known);
        self.forget_untagged(image, &present.digest)?;
        Ok(present)
    }

    /// Keeps what `image` named until now, unless it has another name.
    fn leave_untagged(&self, image: &ImageReference, before: &RefRecord) -> Result<(), StoreError> {
        let named =
            |(other, known): (&ImageReference, &Known)| other != image && known.record.manifest == before.manifest;
        if self.known().iter().any(named) {
            return Ok(());
        }
        let Some(name) = untagged_name(image.registry(), image.repository(), &before.manifest) else { return Ok(()) };
        let record = RefRecord { reference: name.to_string(), untagged: true, pinned: false, ..before.clone() };
        self.inner.store.put_ref(&name, &record)?;
        if let Ok(known) = self.inner.store.whole(&record) {
            self.known_mut().insert(name, known);
        }
        Ok(())
    }

    /// What has a name again needs no untagged reference.
    fn forget_untagged(&self, named: &ImageReference, digest: &Digest) -> Result<(), StoreError> {
        let spare: Vec<_> = self
            .known()
            .iter()
            .filter(|(name, known)| *name != named && known.record.untagged && known.present.digest == *digest)
            .map(|(name, _)| name.clone())
            .collect();
        if self.known().get(named).is_none_or(|known| known.record.untagged) {
            return Ok(());
        }
        for name in spare {
            self.inner.store.delete_ref(&name)?;
            self.known_mut().remove(&name);
        }
        Ok(())
    }
}

/// What an image without a name is called on disk.
pub(super) fn untagged_name(registry: &str, repository: &str, manifest: &str) -> Option<ImageReference> {
    ImageReference::parse(&format!("{registry}/{repository}@{manifest}")).ok()
}

fn join(sources: &mut Vec<String>, more: &[String]) {
    for source in more {
        if !sources.contains(source) {
            sources.push(source.clone());
        }
    }
}
