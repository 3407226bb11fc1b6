//! What the images take on disk.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Images;
use super::error::StoreError;
use super::store::Store;
use crate::model::{Digest, ImageReference};

/// What the image store takes on disk, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Each image once.
    pub images: Vec<ImageUsage>,
    /// Each layer once, those that no image refers to among them.
    pub layers: Vec<LayerUsage>,
    /// Manifests, configurations, compressed layers that are kept.
    pub blobs: u64,
    /// Compressed layers that were fetched in part.
    pub partial: u64,
    /// What is being made, being deleted, or replaced.
    pub other: u64,
}

/// What one image takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// Its names.
    pub names: Vec<ImageReference>,
    /// Its manifest.
    pub digest: Digest,
    /// Layers of no other image: what its removal frees.
    pub own: u64,
    /// Layers it shares.
    pub shared: u64,
}

/// What one layer takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerUsage {
    /// Its content.
    pub diff_id: Digest,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Images that it belongs to.
    pub images: usize,
}

impl Usage {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.layers.iter().map(|layer| layer.disk_bytes).sum::<u64>() + self.blobs + self.partial + self.other
    }
    /// What a sweep frees.
    #[must_use]
    pub fn unreferenced(&self) -> u64 {
        self.layers.iter().filter(|layer| layer.images == 0).map(|layer| layer.disk_bytes).sum()
    }
}

impl Images {
    /// What the images take. Blocks: the blobs are looked at, and layers of old are walked through once.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let store = &self.inner.store;
        let mut layers = BTreeMap::new();
        let dir = store.dir().join("layers");
        for entry in fs::read_dir(&dir).map_err(StoreError::io(&dir))? {
            let name = entry.map_err(StoreError::io(&dir))?.file_name().to_string_lossy().into_owned();
            let algorithm = if name.len() == 128 { "sha512" } else { "sha256" };
            if let Ok(diff_id) = Digest::parse(&format!("{algorithm}:{name}")) {
                let disk_bytes = store.layer_bytes(&diff_id);
                layers.insert(diff_id.clone(), LayerUsage { diff_id, disk_bytes, images: 0 });
            }
        }
        let listed = self.list();
        let mut made_of = Vec::new();
        for image in listed {
            let mut ids = self.config(&image.digest).map(|config| config.diff_ids).unwrap_or_default();
            ids.sort();
            ids.dedup();
            for id in &ids {
                if let Some(layer) = layers.get_mut(id) {
                    layer.images += 1;
                }
            }
            made_of.push((image, ids));
        }
        let sum = |ids: &[Digest], own: bool| {
            let these = ids.iter().filter_map(|id| layers.get(id)).filter(|layer| (layer.images == 1) == own);
            these.map(|layer| layer.disk_bytes).sum()
        };
        let images = made_of
            .into_iter()
            .map(|(image, ids)| ImageUsage {
                own: sum(&ids, true),
                shared: sum(&ids, false),
                names: image.names,
                digest: image.digest,
            })
            .collect();
        let below = |name: &str| tree_bytes(&store.dir().join(name));
        Ok(Usage {
            images,
            layers: layers.into_values().collect(),
            blobs: below("blobs"),
            partial: below("partial"),
            other: ["ingest", "trash", "replaced"].into_iter().map(below).sum(),
        })
    }
}

impl Store {
    /// What a layer takes on disk: as it was counted when it was made, or by a walk.
    pub(super) fn layer_bytes(&self, diff_id: &Digest) -> u64 {
        match self.layer(diff_id) {
            Ok(record) if record.disk_bytes > 0 => record.disk_bytes,
            Ok(_) | Err(_) => tree_bytes(&self.layer_path(diff_id)),
        }
    }
}

/// Bytes on disk of a directory and all below it, each hard link once. What cannot be looked at does not count.
pub(super) fn tree_bytes(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut linked = std::collections::BTreeSet::new();
    let mut ahead = vec![path.to_owned()];
    while let Some(dir) = ahead.pop() {
        let one = |entry: io::Result<fs::DirEntry>| entry.and_then(|e| Ok((e.path(), e.metadata()?))).ok();
        let entries: Vec<(PathBuf, fs::Metadata)> =
            fs::read_dir(&dir).map(|all| all.filter_map(one).collect()).unwrap_or_default();
        for (path, found) in entries {
            if found.is_dir() {
                ahead.push(path);
            } else if found.nlink() > 1 && !linked.insert((found.dev(), found.ino())) {
                continue;
            }
            bytes += found.blocks() * 512;
        }
    }
    bytes
}
