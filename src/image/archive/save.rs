//! Images into archives: an OCI layout that also holds docker's `manifest.json`, as `docker save` writes since 25.
//!
//! Compressed layers that are kept here go in as they are. Others are made again from their trees, uncompressed: the
//! manifest in the archive then is a new one, with another digest; the image's id (its configuration's digest) stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::layout::sha256;
use super::{ArchiveError, blocking};
use crate::image::Images;
use crate::image::error::StoreError;
use crate::image::hash::Hasher;
use crate::image::holds::Hold;
use crate::image::manifest::malformed;
use crate::image::store::sync_dir;
use crate::model::{Digest, ImageReference};

/// What an archive is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// An OCI layout alone: for podman, skopeo, containerd and docker from 25 on.
    Oci,
    /// An OCI layout with docker's `manifest.json`, for `docker load` of any age.
    Docker,
}

/// All that goes into an archive, known before the first byte is written.
struct Contents {
    blobs: BTreeMap<Digest, Blob>,
    index: Value,
    docker: Value,
    _hold: Hold,
}

enum Blob {
    Bytes(Vec<u8>),
    /// A compressed layer that is kept.
    Kept {
        path: PathBuf,
        size: u64,
    },
    /// A layer that is made again.
    Rebuilt {
        layer: PathBuf,
        size: u64,
    },
}

impl Images {
    /// Writes images into one tar. Nothing is written unless all of them can be.
    pub async fn save(
        &self,
        images: &[ImageReference],
        to: impl Write + Send + 'static,
        format: ArchiveFormat,
    ) -> Result<(), ArchiveError> {
        let (this, names) = (self.clone(), images.to_vec());
        blocking(move || {
            let contents = this.contents(&names)?;
            let mut tar = tar::Builder::new(io::BufWriter::with_capacity(256 << 10, to));
            let put = &mut |name: &str, size: u64, from: &mut dyn Read| -> io::Result<()> {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(size);
                header.set_mode(0o644);
                header.set_mtime(0);
                tar.append_data(&mut header, name, from)
            };
            write_all(&contents, format, put)?;
            tar.into_inner().and_then(|mut to| to.flush()).map_err(ArchiveError::Write)
        })
        .await
    }

    /// Writes images into a folder, as an OCI layout. The folder is made; one that holds something is refused.
    pub async fn save_dir(&self, images: &[ImageReference], dir: &Path) -> Result<(), ArchiveError> {
        let (this, names, dir) = (self.clone(), images.to_vec(), dir.to_owned());
        blocking(move || {
            let contents = this.contents(&names)?;
            fs::create_dir_all(&dir).map_err(ArchiveError::Write)?;
            if fs::read_dir(&dir).map_err(ArchiveError::Write)?.next().is_some() {
                return Err(ArchiveError::NotEmpty { path: dir });
            }
            let put = &mut |name: &str, _: u64, from: &mut dyn Read| -> io::Result<()> {
                let path = dir.join(name);
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                let mut file = File::create_new(&path)?;
                io::copy(from, &mut file)?;
                file.sync_all()
            };
            write_all(&contents, ArchiveFormat::Oci, put)?;
            sync_dir(&dir).map_err(ArchiveError::Write)
        })
        .await
    }

    fn contents(&self, names: &[ImageReference]) -> Result<Contents, ArchiveError> {
        let mut digests = Vec::new();
        for name in names {
            let found = self.known().get(name).map(|known| known.present.digest.clone());
            digests.push(found.ok_or_else(|| ArchiveError::Unknown { image: name.clone() })?);
        }
        let mut held = BTreeSet::new();
        for digest in &digests {
            held.insert(digest.clone());
            let manifest = self.manifest(digest)?;
            held.insert(manifest.config.digest.clone());
            held.extend(manifest.layers.into_iter().map(|layer| layer.digest));
            held.extend(self.config(digest)?.diff_ids);
        }
        let mut contents = Contents {
            blobs: BTreeMap::new(),
            index: json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}),
            docker: json!([]),
            _hold: self.inner.holds.hold(held),
        };
        for (name, digest) in names.iter().zip(&digests) {
            self.add(&mut contents, name, digest)?;
        }
        Ok(contents)
    }

    fn add(&self, contents: &mut Contents, name: &ImageReference, digest: &Digest) -> Result<(), ArchiveError> {
        let store = &self.inner.store;
        let (manifest, config) = (self.manifest(digest)?, self.config(digest)?);
        let original = store.blob(digest)?;
        let (mut descriptors, mut files, mut same) = (Vec::new(), Vec::new(), true);
        for (blob, diff_id) in manifest.layers.iter().zip(&config.diff_ids) {
            let kept = store.blob_path(&blob.digest);
            if let Ok(found) = kept.metadata() {
                descriptors
                    .push(json!({"mediaType": blob.media_type, "digest": blob.digest.as_str(), "size": found.len()}));
                files.push(json!(blob_name(&blob.digest)));
                contents.blobs.insert(blob.digest.clone(), Blob::Kept { path: kept, size: found.len() });
                continue;
            }
            let record = store.layer(diff_id)?;
            if !record.rebuildable {
                return Err(ArchiveError::NotRebuildable { image: name.clone(), diff_id: diff_id.clone() });
            }
            same &= blob.digest == *diff_id;
            descriptors.push(json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff_id.as_str(), "size": record.bytes}));
            files.push(json!(blob_name(diff_id)));
            let rebuilt = Blob::Rebuilt { layer: store.layer_path(diff_id), size: record.bytes };
            contents.blobs.insert(diff_id.clone(), rebuilt);
        }
        let (digest, bytes) = if same {
            (digest.clone(), original)
        } else {
            let bytes = rewritten(&original, descriptors).map_err(|e| self.unreadable(&malformed("manifest", &e)))?;
            (sha256(&bytes)?, bytes)
        };
        let kind = media_type(&bytes);
        let mut entry = json!({"mediaType": kind, "digest": digest.as_str(), "size": bytes.len(),
            "platform": {"architecture": config.platform.architecture, "os": config.platform.os}});
        if let Some(variant) = &config.platform.variant {
            entry["platform"]["variant"] = json!(variant);
        }
        if let Some(tag) = name.tag() {
            entry["annotations"] = json!({"io.containerd.image.name": without_digest(name, tag), "org.opencontainers.image.ref.name": tag});
        }
        let tags: Vec<_> = name.tag().map(|tag| familiar(name, tag)).into_iter().collect();
        let item = json!({"Config": blob_name(&manifest.config.digest), "RepoTags": tags, "Layers": files});
        merge(&mut contents.docker, item);
        push(&mut contents.index["manifests"], entry);
        contents.blobs.insert(manifest.config.digest.clone(), Blob::Bytes(store.blob(&manifest.config.digest)?));
        contents.blobs.insert(digest, Blob::Bytes(bytes));
        Ok(())
    }
}

/// Several names of one image are one item for docker.
fn merge(items: &mut Value, item: Value) {
    let known = items.as_array_mut().and_then(|all| {
        all.iter_mut().find(|known| known["Config"] == item["Config"] && known["Layers"] == item["Layers"])
    });
    match (known, item["RepoTags"].as_array()) {
        (Some(known), Some(tags)) => tags.iter().for_each(|tag| push(&mut known["RepoTags"], tag.clone())),
        _ => push(items, item),
    }
}

fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}

/// The manifest with other layers; what else it says stays.
fn rewritten(original: &[u8], layers: Vec<Value>) -> serde_json::Result<Vec<u8>> {
    let mut manifest: Value = serde_json::from_slice(original)?;
    manifest["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
    manifest["config"]["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
    manifest["layers"] = Value::Array(layers);
    serde_json::to_vec(&manifest)
}

fn media_type(manifest: &[u8]) -> String {
    let read: Value = serde_json::from_slice(manifest).unwrap_or_default();
    read["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json").to_owned()
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn without_digest(name: &ImageReference, tag: &str) -> String {
    format!("{}/{}:{tag}", name.registry(), name.repository())
}

/// The short form that docker shows.
fn familiar(name: &ImageReference, tag: &str) -> String {
    let full = without_digest(name, tag);
    let short = full.strip_prefix("docker.io/library/").or_else(|| full.strip_prefix("docker.io/"));
    short.map_or_else(|| full.clone(), ToOwned::to_owned)
}

type Put<'p> = &'p mut dyn FnMut(&str, u64, &mut dyn Read) -> io::Result<()>;

fn write_all(contents: &Contents, format: ArchiveFormat, put: Put<'_>) -> Result<(), ArchiveError> {
    let small = |name: &str, bytes: &[u8], put: Put<'_>| {
        put(name, bytes.len() as u64, &mut &*bytes).map_err(ArchiveError::Write)
    };
    small("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, put)?;
    for (digest, blob) in &contents.blobs {
        let name = blob_name(digest);
        match blob {
            Blob::Bytes(bytes) => small(&name, bytes, put)?,
            Blob::Kept { path, size } => {
                let file = File::open(path).map_err(StoreError::io(path))?;
                checked(&name, digest, *size, file, path, put)?;
            }
            Blob::Rebuilt { layer, size } => {
                let rebuilt = crate::image::unpack::rebuild::rebuild(layer).map_err(StoreError::io(layer))?;
                checked(&name, digest, *size, rebuilt, layer, put)?;
            }
        }
    }
    if format == ArchiveFormat::Docker {
        small("manifest.json", contents.docker.to_string().as_bytes(), put)?;
    }
    small("index.json", contents.index.to_string().as_bytes(), put)
}

/// Writes a part while comparing it with its digest. What was damaged on this disk does not go out as if it were whole.
fn checked(
    name: &str,
    digest: &Digest,
    size: u64,
    from: impl Read,
    path: &Path,
    put: Put<'_>,
) -> Result<(), ArchiveError> {
    let mut from = Hashing { from: from.take(size), hasher: Hasher::like(digest), bytes: 0 };
    put(name, size, &mut from).map_err(ArchiveError::Write)?;
    let (bytes, got) = (from.bytes, from.hasher.finish());
    if bytes == size && got == digest.as_str() {
        return Ok(());
    }
    let reason = format!("it has {bytes} bytes of {size} and the content {got}; verify the image");
    Err(ArchiveError::Store(StoreError::Damaged { path: path.to_owned(), reason }))
}

struct Hashing<R> {
    from: R,
    hasher: Hasher,
    bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.from.read(buffer)?;
        self.hasher.update(&buffer[..got]);
        self.bytes += got as u64;
        Ok(got)
    }
}
