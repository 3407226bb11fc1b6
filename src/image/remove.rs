//! Taking images away: first the reference, then what nobody refers to any more.
//!
//! ```text
//! alone: delete the reference, fsync ─▶ mark what the others lead to ─▶ the rest, unless held: rename into trash/
//! then:  delete trash/…                     a crash anywhere leaves what the next sweep or the next start takes away
//! ```
//! Nobody records a reference between mark and rename, and a pull holds what it counts on until its reference stands, so
//! nothing that is needed is ever taken.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Images;
use super::error::StoreError;
use super::refs::{Known, RefRecord};
use super::store::{delete, sync_dir};
use crate::model::{Digest, ImageReference};

/// What was taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that no longer exist, what names left behind among them.
    pub untagged: Vec<ImageReference>,
    /// Layers that nobody referred to any more.
    pub layers: usize,
    /// Bytes on disk that are free again.
    pub freed: u64,
}

/// What is out of sight and waits to be deleted.
#[derive(Default)]
struct Swept {
    removed: Removed,
    trees: Vec<PathBuf>,
}

/// What the references lead to.
#[derive(Default)]
struct Marked {
    layers: BTreeSet<String>,
    blobs: BTreeSet<Digest>,
    /// Why it is not known what all of them lead to.
    unsure: Option<String>,
}

impl Images {
    /// Takes one name away, and what only it led to. Whether a container uses the image is for the caller to know.
    pub async fn remove(&self, image: &ImageReference) -> Result<Removed, StoreError> {
        let image = image.clone();
        self.take(move |images| {
            if !images.inner.store.delete_ref(&image)? {
                return Err(StoreError::Unknown { image });
            }
            images.known_mut().remove(&image);
            Ok(vec![image])
        })
        .await
    }

    /// Takes an image away with all its names.
    pub async fn remove_digest(&self, digest: &Digest) -> Result<Removed, StoreError> {
        let digest = digest.clone();
        self.take(move |images| {
            let names: Vec<_> = images.references(&digest).into_iter().map(|(name, _)| name).collect();
            if names.is_empty() {
                return Err(StoreError::Missing { digest });
            }
            for name in &names {
                images.inner.store.delete_ref(name)?;
                images.known_mut().remove(name);
            }
            Ok(names)
        })
        .await
    }

    /// Takes away layers and blobs that no reference leads to: what a crash, or a pull that failed, left behind.
    pub async fn sweep(&self) -> Result<Removed, StoreError> {
        self.take(|_| Ok(Vec::new())).await
    }

    async fn take(
        &self,
        unname: impl FnOnce(&Self) -> Result<Vec<ImageReference>, StoreError> + Send + 'static,
    ) -> Result<Removed, StoreError> {
        let swept = self.alone(move |images| {
            let untagged = unname(images)?;
            let mut swept = images.sweep_aside()?;
            swept.removed.untagged = untagged;
            Ok(swept)
        });
        let Swept { removed, trees } = swept.await?;
        if trees.is_empty() {
            return Ok(removed);
        }
        // A thread of its own: the daemon does not wait for it when it stops.
        let (done, wait) = tokio::sync::oneshot::channel();
        let deleting = std::thread::Builder::new().name("image-trash".into()).spawn(move || {
            delete(&trees);
            let _ = done.send(());
        });
        deleting.map_err(StoreError::io(self.inner.store.dir()))?;
        let _ = wait.await;
        Ok(removed)
    }

    /// Moves out of sight what nobody refers to; the caller is alone.
    fn sweep_aside(&self) -> Result<Swept, StoreError> {
        let store = &self.inner.store;
        let marked = self.marked().map_err(StoreError::io(store.dir()))?;
        if let Some(reason) = marked.unsure {
            tracing::warn!(%reason, "nothing is swept from the image store, because it is not known what is needed; remove or pull again what is named");
            return Ok(Swept::default());
        }
        let mut swept = Swept::default();
        let layers = store.dir().join("layers");
        for (name, path) in entries(&layers).map_err(StoreError::io(&layers))? {
            let algorithm = if name.len() == 128 { "sha512" } else { "sha256" };
            let Ok(diff_id) = Digest::parse(&format!("{algorithm}:{name}")) else { continue };
            if marked.layers.contains(&name) {
                continue;
            }
            let bytes = store.layer_bytes(&diff_id);
            if self.set_aside(&diff_id, &path, bytes, &mut swept)? {
                swept.removed.layers += 1;
            }
        }
        for algorithm in ["sha256", "sha512"] {
            let blobs = store.dir().join("blobs").join(algorithm);
            for (name, path) in entries(&blobs).map_err(StoreError::io(&blobs))? {
                let Ok(digest) = Digest::parse(&format!("{algorithm}:{name}")) else { continue };
                if !marked.blobs.contains(&digest) {
                    let bytes = path.metadata().map_or(0, |m| m.len());
                    self.set_aside(&digest, &path, bytes, &mut swept)?;
                }
            }
        }
        sync_dir(&layers).map_err(StoreError::io(&layers))?;
        Ok(swept)
    }

    /// True if nobody held it.
    fn set_aside(&self, digest: &Digest, path: &Path, bytes: u64, swept: &mut Swept) -> Result<bool, StoreError> {
        let moved = self.inner.holds.unless_held(digest, || self.inner.store.discard(path));
        let Some(aside) = moved.transpose().map_err(StoreError::io(path))?.flatten() else { return Ok(false) };
        swept.trees.push(aside);
        swept.removed.freed += bytes;
        Ok(true)
    }

    /// What the references on disk lead to, also those that are not whole: containers may run from what is left.
    fn marked(&self) -> io::Result<Marked> {
        let refs = self.inner.store.refs()?;
        let mut marked = Marked { unsure: refs.broken.into_iter().next(), ..Marked::default() };
        for (name, record) in refs.good {
            if let Err(reason) = self.mark(&record, &mut marked) {
                marked.unsure.get_or_insert(format!("{name}: {reason}"));
            }
        }
        Ok(marked)
    }

    fn mark(&self, record: &RefRecord, marked: &mut Marked) -> Result<(), String> {
        let known = Known::try_from(record.clone()).map_err(|e| e.to_string())?;
        let digest = known.present.digest.clone();
        marked.blobs.extend([known.present.digest, known.present.top, known.config]);
        // Kept layers: without the manifest none of them is known, but none can be used either.
        if let Ok(manifest) = self.manifest(&digest) {
            marked.blobs.extend(manifest.layers.into_iter().map(|layer| layer.digest));
        }
        if record.layers.is_empty() {
            let config = self.config(&digest).map_err(|e| e.to_string())?;
            marked.layers.extend(config.diff_ids.iter().map(|id| id.hex().to_owned()));
        }
        for layer in &record.layers {
            marked.layers.insert(Digest::parse(layer).map_err(|e| e.to_string())?.hex().to_owned());
        }
        Ok(())
    }
}

fn entries(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
    };
    fs::read_dir(dir)?.map(entry).collect()
}
