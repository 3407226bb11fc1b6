//! What is known of each image from memory alone: for whoever decides what is pulled, kept and removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use super::refs::Known;
use super::store::Store;
use super::{Images, Present, config};
use crate::model::{Digest, ImageReference, Timestamp};

/// An image that is here, and what is noted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What its name stands for.
    pub present: Present,
    /// When a container was made from it or removed with it last.
    pub last_used: Option<Timestamp>,
    /// Never collected.
    pub pinned: bool,
    /// Bytes its layers take on disk, those shared with other images too.
    pub disk_bytes: u64,
}

impl Images {
    /// All images that are here, with what is noted of them. Of each one the sizes of its layers are read once.
    #[must_use]
    pub fn all(&self) -> BTreeMap<ImageReference, Stored> {
        let store = &self.inner.store;
        self.known().iter().map(|(image, known)| (image.clone(), store.stored(known))).collect()
    }

    /// The images of the store in `dir`, without opening it for use: reads only, for a plan without a daemon.
    pub fn peek(dir: &Path) -> io::Result<BTreeMap<ImageReference, Stored>> {
        if !dir.exists() {
            return Ok(BTreeMap::new());
        }
        let store = Store::at(dir);
        let records = store.refs()?.good.into_iter();
        let whole = records.filter_map(|(image, record)| Some((image, store.whole(&record).ok()?)));
        Ok(whole.map(|(image, known)| (image, store.stored(&known))).collect())
    }
}

impl Store {
    fn stored(&self, known: &Known) -> Stored {
        Stored {
            present: known.present.clone(),
            last_used: known.last_used(),
            pinned: known.record.pinned,
            disk_bytes: *known.on_disk.get_or_init(|| self.on_disk(known)),
        }
    }

    /// As counted when the layers were made; of those that an earlier version made, the size of their archive.
    fn on_disk(&self, known: &Known) -> u64 {
        let ids: BTreeSet<Digest> = if known.record.layers.is_empty() {
            let config = self.blob(&known.config).ok().and_then(|bytes| config::read(&bytes).ok());
            config.into_iter().flat_map(|config| config.diff_ids).collect()
        } else {
            known.record.layers.iter().filter_map(|layer| Digest::parse(layer).ok()).collect()
        };
        let bytes = |id: &Digest| {
            let layer = self.layer(id).ok()?;
            Some(if layer.disk_bytes > 0 { layer.disk_bytes } else { layer.bytes })
        };
        ids.iter().filter_map(bytes).sum()
    }
}
