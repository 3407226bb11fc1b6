//! Where the blobs of an image can be had besides this machine.

use std::collections::{BTreeMap, BTreeSet};

use super::Images;
use super::manifest::Manifest;
use super::push::blobs;
use super::refs::RefRecord;
use crate::model::{Digest, ImageReference, sentence};

/// Repositories that one blob is mounted from or fetched from, at most.
const MOST: usize = 5;

impl Images {
    /// For each blob of the manifest the repositories that hold it as far as is known, those of `image` first; the one
    /// that `image` names itself is left out.
    pub(super) async fn sources(
        &self,
        image: &ImageReference,
        manifest: &Manifest,
    ) -> BTreeMap<Digest, Vec<ImageReference>> {
        let wanted: BTreeSet<Digest> = blobs(manifest).map(|blob| blob.digest.clone()).collect();
        let all = self.all_places(image);
        let (images, target) = (self.clone(), image.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let mut sources: BTreeMap<Digest, Vec<ImageReference>> = BTreeMap::new();
            for places in all {
                // What cannot be read is no source; it is told where it is used.
                let digest = places.first().and_then(ImageReference::digest);
                let Some(Ok(manifest)) = digest.map(|digest| images.manifest(digest)) else { continue };
                for blob in blobs(&manifest).filter(|blob| wanted.contains(&blob.digest)) {
                    let found = sources.entry(blob.digest.clone()).or_default();
                    for place in places.iter().filter(|place| !same(place, &target)) {
                        if found.len() < MOST && !found.iter().any(|known| same(known, place)) {
                            found.push(place.clone());
                        }
                    }
                }
            }
            sources
        });
        looked.await.unwrap_or_default()
    }

    /// For each image that is here its places, those of `first` first.
    fn all_places(&self, first: &ImageReference) -> Vec<Vec<ImageReference>> {
        let known = self.known();
        let mut all: Vec<_> = known.iter().collect();
        all.sort_by_key(|(name, _)| *name != first);
        all.into_iter().map(|(name, known)| places(name, &known.record)).collect()
    }

    /// Remembers that the repository of `image` has all of it now. It is a help, no more: that it is not written down is no
    /// error.
    pub(super) async fn brought(&self, image: &ImageReference, digest: &Digest) {
        let (name, digest) = (image.clone(), digest.clone());
        let noted = self.alone(move |images| {
            let known = images.known().get(&name).filter(|known| known.present.digest == digest).cloned();
            let source = repository(&name);
            let Some(mut known) = known.filter(|known| !known.record.sources.contains(&source)) else { return Ok(()) };
            known.record.sources.push(source);
            images.inner.store.put_ref(&name, &known.record)?;
            images.known_mut().insert(name, known);
            Ok(())
        });
        if let Err(error) = noted.await {
            tracing::warn!(%image, error = %sentence(&error), "where it was pushed to is not written down");
        }
    }
}

/// The image at each repository that is known to hold it.
fn places(name: &ImageReference, record: &RefRecord) -> Vec<ImageReference> {
    // Records of old say no source: then it is the name's.
    let of_old = record.sources.is_empty() && record.layers.is_empty();
    let own = of_old.then(|| repository(name));
    let all = record.sources.iter().chain(&own);
    all.filter_map(|place| ImageReference::parse(&format!("{place}@{}", record.manifest)).ok()).collect()
}

fn repository(name: &ImageReference) -> String {
    format!("{}/{}", name.registry(), name.repository())
}

fn same(a: &ImageReference, b: &ImageReference) -> bool {
    a.registry() == b.registry() && a.repository() == b.repository()
}
