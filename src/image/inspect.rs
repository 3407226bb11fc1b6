//! All that is known of one image.

use super::error::StoreError;
use super::refs::Origin;
use super::{ImageConfig, Images};
use crate::model::{Digest, ImageReference, Timestamp};

/// One image in full.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// Its names.
    pub names: Vec<ImageReference>,
    /// Its manifest.
    pub digest: Digest,
    /// What the registry had under the name: the same, or the index it was chosen from.
    pub top: Digest,
    /// Its configuration; other engines call this the image's id.
    pub config_digest: Digest,
    /// The platform that was asked for.
    pub platform: String,
    /// What it says about its containers.
    pub config: ImageConfig,
    /// The manifest, as it was sent.
    pub manifest: String,
    /// The configuration, as it was sent.
    pub config_json: String,
    /// Its layers, lowest first.
    pub layers: Vec<LayerFacts>,
    /// `registry/repository` that are known to hold its blobs.
    pub sources: Vec<String>,
    /// When it came here last.
    pub pulled_at: Timestamp,
    /// When a container was made from it or removed with it last.
    pub last_used: Option<Timestamp>,
    /// Never collected.
    pub pinned: bool,
    /// How it came here.
    pub origin: Origin,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFacts {
    /// The blob that a registry sends.
    pub digest: Digest,
    /// The blob's type.
    pub media_type: String,
    /// The blob's bytes.
    pub size: u64,
    /// The content of its archive.
    pub diff_id: Digest,
    /// Bytes of its archive.
    pub bytes: u64,
    /// Bytes it takes on disk.
    pub disk_bytes: u64,
    /// Whether the blob is kept here as well.
    pub kept: bool,
}

impl Images {
    /// All that is known of the image with this manifest.
    pub fn inspect(&self, digest: &Digest) -> Result<Inspection, StoreError> {
        let references = self.references(digest);
        let Some((_, first)) = references.first() else { return Err(StoreError::Missing { digest: digest.clone() }) };
        let store = &self.inner.store;
        let (manifest, config) = (self.manifest(digest)?, self.config(digest)?);
        let mut layers = Vec::new();
        for (blob, diff_id) in manifest.layers.into_iter().zip(&config.diff_ids) {
            layers.push(LayerFacts {
                bytes: store.layer(diff_id).map_or(0, |record| record.bytes),
                disk_bytes: store.layer_bytes(diff_id),
                kept: store.blob_path(&blob.digest).is_file(),
                digest: blob.digest,
                media_type: blob.media_type,
                size: blob.size,
                diff_id: diff_id.clone(),
            });
        }
        let mut sources: Vec<_> = references.iter().flat_map(|(_, known)| known.record.sources.clone()).collect();
        sources.sort();
        sources.dedup();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Inspection {
            names: references.iter().filter(|(_, k)| !k.record.untagged).map(|(name, _)| name.clone()).collect(),
            digest: digest.clone(),
            top: first.present.top.clone(),
            config_digest: first.config.clone(),
            platform: first.present.platform.clone(),
            manifest: text(store.blob(digest)?),
            config_json: text(store.blob(&first.config)?),
            config,
            layers,
            sources,
            pulled_at: references.iter().map(|(_, k)| k.present.pulled_at).max().unwrap_or(first.present.pulled_at),
            last_used: references.iter().filter_map(|(_, k)| k.last_used()).max(),
            pinned: references.iter().any(|(_, k)| k.record.pinned),
            origin: references.iter().map(|(_, k)| k.record.origin).min().unwrap_or_default(),
        })
    }
}
