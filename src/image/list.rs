//! What images are here.

use std::collections::BTreeMap;

use super::Images;
use super::refs::{Known, Origin};
use crate::model::{Digest, ImageReference, Timestamp};

/// One image with all its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its names; none if a name that it had moved to another image.
    pub names: Vec<ImageReference>,
    /// All references that lead to it: its names and what names left behind, `registry/repository@digest`.
    pub references: Vec<ImageReference>,
    /// Its manifest.
    pub digest: Digest,
    /// What the registry had under the name: the same, or the index it was chosen from.
    pub top: Digest,
    /// The platform that was asked for.
    pub platform: String,
    /// Compressed bytes of its layers.
    pub bytes: u64,
    /// Bytes its layers take on disk, those shared with other images too.
    pub disk_bytes: u64,
    /// When it was made, as it was written.
    pub created: Option<String>,
    /// When it came here last.
    pub pulled_at: Timestamp,
    /// When a container was made from it or removed with it last.
    pub last_used: Option<Timestamp>,
    /// Never collected.
    pub pinned: bool,
    /// How it came here.
    pub origin: Origin,
}

impl Images {
    /// All images that are here, by digest, with all their names. Reads each configuration.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let mut listed = BTreeMap::<Digest, Listed>::new();
        for (name, known) in self.known().iter() {
            let one = listed.entry(known.present.digest.clone()).or_insert_with(|| first(known));
            one.references.push(name.clone());
            if !known.record.untagged {
                one.names.push(name.clone());
            }
            one.pinned |= known.record.pinned;
            one.last_used = one.last_used.max(known.last_used());
            one.pulled_at = one.pulled_at.max(known.present.pulled_at);
            one.origin = one.origin.min(known.record.origin);
        }
        let mut listed: Vec<_> = listed.into_values().collect();
        for one in &mut listed {
            let Ok(config) = self.config(&one.digest) else { continue };
            one.disk_bytes = config.diff_ids.iter().map(|id| self.inner.store.layer_bytes(id)).sum();
            one.created = config.created;
        }
        listed
    }

    /// The references that lead to an image.
    pub(super) fn references(&self, digest: &Digest) -> Vec<(ImageReference, Known)> {
        let all = self.known();
        let same = all.iter().filter(|(_, known)| known.present.digest == *digest);
        same.map(|(name, known)| (name.clone(), known.clone())).collect()
    }
}

fn first(known: &Known) -> Listed {
    let present = known.present.clone();
    Listed {
        names: Vec::new(),
        references: Vec::new(),
        digest: present.digest,
        top: present.top,
        platform: present.platform,
        bytes: present.bytes,
        disk_bytes: 0,
        created: None,
        pulled_at: present.pulled_at,
        last_used: None,
        pinned: false,
        origin: known.record.origin,
    }
}
