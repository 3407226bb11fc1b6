//! Which images an archive holds: an OCI layout, docker's archive, or what skopeo calls `dir`.
//!
//! An archive with both an OCI index and docker's `manifest.json` is read by the index, which keeps the digests.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::shelf::Shelf;
use super::spool::clean;
use super::{ArchiveError, refused};
use crate::image::config::{self, ImageConfig};
use crate::image::error::{line, shown};
use crate::image::hash::sha256_hex;
use crate::image::manifest::{self, Descriptor, Document, IndexEntry, Manifest, ManifestError, malformed};
use crate::image::resolve;
use crate::image::settings::Limits;
use crate::model::{Digest, ImageReference, Platform};

/// Indexes below `index.json`.
const INDEXES: usize = 2;
/// Images of one archive.
const IMAGES: usize = 1000;

/// An image of an archive; its documents are verified, its layers not yet.
pub(super) struct Offered {
    pub(super) names: Vec<ImageReference>,
    /// The manifest and all indexes above it. Docker's archives have none: it is made when the layers are known.
    pub(super) documents: Vec<(Digest, Vec<u8>)>,
    pub(super) config: (Digest, Vec<u8>),
    pub(super) layers: Vec<Part>,
}

/// A layer of an archive.
pub(super) struct Part {
    /// Its name in the archive.
    pub(super) name: String,
    /// What the manifest says of it, where there is one.
    pub(super) blob: Option<Descriptor>,
    pub(super) diff_id: Digest,
}

#[derive(Deserialize)]
struct RawIndex {
    manifests: Vec<RawEntry>,
}

#[derive(Deserialize)]
struct RawEntry {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawItem {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// The images of the archive.
pub(super) fn read(shelf: &Shelf, wanted: &Platform, limits: &Limits) -> Result<Vec<Offered>, ArchiveError> {
    if let Some(index) = shelf.read("index.json", limits.manifest_bytes)? {
        return layout(shelf, &index, wanted, limits);
    }
    match shelf.read("manifest.json", limits.config_bytes)? {
        Some(bytes) if bytes.trim_ascii_start().starts_with(b"[") => docker(shelf, &bytes, limits),
        Some(bytes) => skopeo(shelf, bytes, limits).map(|one| vec![one]),
        None if shelf.open("repositories")?.is_some() => {
            refused("it was written by a docker older than 1.10; save it again with a newer one")
        }
        None => Err(ArchiveError::Missing { what: "index.json and manifest.json: it is no image archive".into() }),
    }
}

/// How blobs are called in an archive.
struct Blobs<'a> {
    shelf: &'a Shelf,
    /// `dir` has them under their bare digits.
    bare: bool,
}

impl Blobs<'_> {
    fn name(&self, digest: &Digest) -> String {
        if self.bare { digest.hex().to_owned() } else { format!("blobs/{}/{}", digest.algorithm(), digest.hex()) }
    }
    fn has(&self, digest: &Digest) -> bool {
        self.shelf.open(&self.name(digest)).is_ok_and(|found| found.is_some())
    }
    fn document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        self.shelf.document(&self.name(digest), digest, limit)
    }
}

fn layout(shelf: &Shelf, index: &[u8], wanted: &Platform, limits: &Limits) -> Result<Vec<Offered>, ArchiveError> {
    let Document::Index(entries) = manifest::read(index, None, limits)? else {
        return refused("its index.json is a manifest");
    };
    let raw: RawIndex = serde_json::from_slice(index).map_err(|e| malformed("index.json", &e))?;
    let blobs = Blobs { shelf, bare: false };
    // Entries of one name are one image for several platforms; each one without a name stands for itself, unless it is
    // for another platform.
    let mut groups: Vec<(Option<String>, Vec<IndexEntry>)> = Vec::new();
    for (entry, raw) in entries.into_iter().zip(raw.manifests) {
        let name = name_of(&raw.annotations.unwrap_or_default());
        match groups.iter_mut().find(|(known, _)| *known == name && (name.is_some() || entry.platform.is_some())) {
            Some((_, group)) => group.push(entry),
            None => groups.push((name, vec![entry])),
        }
    }
    if groups.len() > IMAGES {
        return refused(format!("it holds more than {IMAGES} images"));
    }
    let mut images: Vec<Offered> = Vec::new();
    for (name, entries) in groups {
        let name = name.as_deref().map_or(Ok(None), full_name)?;
        let mut image = chosen(&blobs, &entries, wanted, limits)?;
        image.names.extend(name);
        // docker save has an entry for each name of an image.
        match images.iter_mut().find(|known| known.documents == image.documents) {
            Some(known) => known.names.extend(image.names),
            None => images.push(image),
        }
    }
    if images.is_empty() {
        Err(ArchiveError::Missing { what: "images: its index.json is empty".into() })
    } else {
        Ok(images)
    }
}

/// The full name, if the archive says one. A tag alone names nothing.
fn name_of(annotations: &BTreeMap<String, String>) -> Option<String> {
    let full = annotations.get("io.containerd.image.name");
    let short = annotations.get("org.opencontainers.image.ref.name").filter(|name| name.contains(['/', ':']));
    full.or(short).cloned()
}

fn full_name(text: &str) -> Result<Option<ImageReference>, ArchiveError> {
    if text.starts_with("<none>") {
        return Ok(None);
    }
    ImageReference::parse(text).map(Some).or_else(|e| refused(format!("it names an image {:?}: {e}", line(text, 200))))
}

/// Goes from an index to the manifest for a platform.
fn chosen(blobs: &Blobs, entries: &[IndexEntry], wanted: &Platform, limits: &Limits) -> Result<Offered, ArchiveError> {
    let mut documents = Vec::new();
    let mut entries = entries.to_vec();
    loop {
        let target = choose(blobs, &entries, wanted)?;
        let bytes = blobs.document(&target.digest, limits.manifest_bytes)?;
        let kind = (!target.media_type.is_empty()).then_some(target.media_type.as_str());
        let read = manifest::read(&bytes, kind, limits)?;
        documents.push((target.digest.clone(), bytes));
        match read {
            Document::Image(manifest) => return with_layers(blobs, documents, &manifest, limits),
            Document::Index(_) if documents.len() > INDEXES => return refused("its indexes are nested"),
            Document::Index(inner) => entries = inner,
        }
    }
}

/// What the archive has of an index, and of that the best; where there is only one it need not fit.
fn choose(blobs: &Blobs, entries: &[IndexEntry], wanted: &Platform) -> Result<Descriptor, ArchiveError> {
    let here: Vec<_> = entries.iter().filter(|e| blobs.has(&e.target.digest)).cloned().collect();
    let real = |e: &&IndexEntry| e.platform.as_ref().is_none_or(|p| p.os != "unknown");
    match (resolve::choose(&here, wanted), here.iter().filter(real).collect::<Vec<_>>().as_slice()) {
        (Ok(target), _) => Ok(target.clone()),
        (Err(_), [only]) => Ok(only.target.clone()),
        (Err(_), []) if !entries.is_empty() => {
            Err(ArchiveError::Missing { what: format!("the manifest {}", entries[0].target.digest) })
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn with_layers(
    blobs: &Blobs,
    documents: Vec<(Digest, Vec<u8>)>,
    manifest: &Manifest,
    limits: &Limits,
) -> Result<Offered, ArchiveError> {
    let bytes = blobs.document(&manifest.config.digest, limits.config_bytes)?;
    let config = config::read(&bytes)?;
    config::belongs(&config, manifest)?;
    let pairs = manifest.layers.iter().zip(config.diff_ids);
    let layers: Vec<_> = pairs
        .map(|(blob, diff_id)| Part { name: blobs.name(&blob.digest), blob: Some(blob.clone()), diff_id })
        .collect();
    all_there(blobs.shelf, &layers)?;
    Ok(Offered { names: Vec::new(), documents, config: (manifest.config.digest.clone(), bytes), layers })
}

fn skopeo(shelf: &Shelf, bytes: Vec<u8>, limits: &Limits) -> Result<Offered, ArchiveError> {
    let Document::Image(manifest) = manifest::read(&bytes, None, limits)? else {
        return refused("its manifest.json is an index; copy one platform of the image");
    };
    let digest = sha256(&bytes)?;
    with_layers(&Blobs { shelf, bare: true }, vec![(digest, bytes)], &manifest, limits)
}

fn docker(shelf: &Shelf, bytes: &[u8], limits: &Limits) -> Result<Vec<Offered>, ArchiveError> {
    let items: Vec<RawItem> = serde_json::from_slice(bytes).map_err(|e| malformed("manifest.json", &e))?;
    if items.is_empty() || items.len() > IMAGES {
        return refused(format!("its manifest.json holds {} images; 1 to {IMAGES} are allowed", items.len()));
    }
    items.into_iter().map(|item| one_of_docker(shelf, item, limits)).collect()
}

fn one_of_docker(shelf: &Shelf, item: RawItem, limits: &Limits) -> Result<Offered, ArchiveError> {
    let name = clean(item.config.as_bytes())?;
    let Some(bytes) = shelf.read(&name, limits.config_bytes)? else {
        return Err(ArchiveError::Missing { what: shown(name.as_bytes()) });
    };
    let digest = sha256(&bytes)?;
    // Named after its content: `<hex>.json`, or `blobs/sha256/<hex>`.
    let stem = name.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    if let Ok(named) = Digest::parse(&format!("sha256:{stem}"))
        && named != digest
    {
        return Err(ArchiveError::WrongDigest { digest: named, got: digest.to_string() });
    }
    let ImageConfig { diff_ids, .. } = config::read(&bytes)?;
    let files = item.layers.unwrap_or_default();
    if files.len() != diff_ids.len() || files.len() > limits.layers {
        return refused(format!(
            "its manifest.json has {} layers, the image's configuration {}; at most {} are allowed",
            files.len(),
            diff_ids.len(),
            limits.layers
        ));
    }
    let part = |(file, diff_id): (String, Digest)| Ok(Part { name: clean(file.as_bytes())?, blob: None, diff_id });
    let layers = files.into_iter().zip(diff_ids).map(part).collect::<Result<Vec<_>, ArchiveError>>()?;
    all_there(shelf, &layers)?;
    let mut names = Vec::new();
    for text in item.repo_tags.unwrap_or_default() {
        names.extend(full_name(&text)?);
    }
    Ok(Offered { names, documents: Vec::new(), config: (digest, bytes), layers })
}

/// Looked at before anything is unpacked.
fn all_there(shelf: &Shelf, layers: &[Part]) -> Result<(), ArchiveError> {
    for layer in layers {
        if shelf.open(&layer.name)?.is_none() {
            return Err(ArchiveError::Missing { what: format!("the layer {}", shown(layer.name.as_bytes())) });
        }
    }
    Ok(())
}

pub(super) fn sha256(bytes: &[u8]) -> Result<Digest, ManifestError> {
    Digest::parse(&format!("sha256:{}", sha256_hex(bytes))).or_else(|e| manifest::refused(e.to_string()))
}
