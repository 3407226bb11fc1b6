//! Images out of archives.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::feed::{Goes, Waited};
use super::layout::{self, Offered, Part, sha256};
use super::shelf::Shelf;
use super::spool::Spool;
use super::{ArchiveError, blocking, disk, feed, outer, refused};
use crate::image::config;
use crate::image::hash::Hasher;
use crate::image::holds::Hold;
use crate::image::progress::{Gauge, LayerState, Progress};
use crate::image::refs::{Origin, RefRecord, untagged_name};
use crate::image::store::sync_dir;
use crate::image::{Images, Present, now, resolve};
use crate::model::{Digest, ImageReference};

/// An image that came out of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its names; none if the archive says none.
    pub names: Vec<ImageReference>,
    /// What it is.
    pub present: Present,
    /// Its configuration; other engines call this the image's id.
    pub config: Digest,
}

impl Images {
    /// Loads all images of an archive: docker's, or an OCI layout in a tar; plain, gzip or zstd. `name` is for an image
    /// that has none. Images whose reading was complete stay, also when a later one fails.
    pub async fn load(
        &self,
        from: impl Read + Send + 'static,
        name: Option<&ImageReference>,
        progress: Arc<Progress>,
    ) -> Result<Vec<Loaded>, ArchiveError> {
        let (store, limits) = (Arc::clone(&self.inner.store), Arc::clone(&self.inner.limits));
        let spool = blocking(move || {
            let ingest = store.begin_layer().map_err(disk(store.dir()))?;
            let bounds = outer::limits(&limits);
            Spool::fill(ingest, outer::open(from, &bounds).map_err(ArchiveError::Read)?, &limits)
        });
        self.shelved(Shelf::Spool(spool.await?), name, progress).await
    }

    /// Loads all images of a folder: an OCI layout, docker's archive unpacked, or skopeo's `dir`.
    pub async fn load_dir(
        &self,
        dir: &Path,
        name: Option<&ImageReference>,
        progress: Arc<Progress>,
    ) -> Result<Vec<Loaded>, ArchiveError> {
        self.shelved(Shelf::folder(dir)?, name, progress).await
    }

    async fn shelved(
        &self,
        shelf: Shelf,
        name: Option<&ImageReference>,
        progress: Arc<Progress>,
    ) -> Result<Vec<Loaded>, ArchiveError> {
        let (shelf, limits) = (Arc::new(shelf), Arc::clone(&self.inner.limits));
        let behind = Arc::clone(&shelf);
        let mut offered = blocking(move || layout::read(&behind, &resolve::this_machine(), &limits)).await?;
        let mut nameless: Vec<_> = offered.iter_mut().filter(|image| image.names.is_empty()).collect();
        match (name, nameless.as_mut_slice()) {
            (Some(name), [only]) => only.names.push(name.clone()),
            (Some(_), [_, _, ..]) => {
                return refused("it holds several images without a name; load it without one and tag them by digest");
            }
            (Some(_) | None, _) => {}
        }
        let (mut rows, mut turns) = (BTreeMap::new(), Vec::new());
        for layer in offered.iter().flat_map(|image| &image.layers) {
            let size = shelf.open(&layer.name)?.map_or(0, |(_, size)| size);
            // Gauges live as long as somebody holds the turn.
            let turn = self.inner.in_flight.turn(&layer.diff_id);
            rows.insert(layer.diff_id.clone(), (size, Arc::clone(&turn.gauge)));
            turns.push(turn);
        }
        progress.begin(rows.into_iter().map(|(diff_id, (size, gauge))| (diff_id, size, gauge)));
        let mut loaded = Vec::new();
        for image in offered {
            loaded.push(self.take_in(&shelf, image).await?);
        }
        drop(turns);
        Ok(loaded)
    }

    async fn take_in(&self, shelf: &Arc<Shelf>, image: Offered) -> Result<Loaded, ArchiveError> {
        let blobs = image.layers.iter().filter_map(|layer| layer.blob.as_ref()).map(|blob| &blob.digest);
        let diff_ids = image.layers.iter().map(|layer| &layer.diff_id);
        let documents = image.documents.iter().map(|(digest, _)| digest).chain([&image.config.0]);
        let hold = self.inner.holds.hold(diff_ids.chain(blobs).chain(documents).cloned());
        let layers: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        // The others end soon after one failed, and are waited for: nothing is written any more when the error is told.
        let waited = Waited(Goes::default());
        let parts: Vec<_> = image.layers.into_iter().map(|part| self.layer_in(shelf, part, &waited.0)).collect();
        let at_once = self.inner.limits.parallel_layers.max(1);
        let done: Vec<_> = stream::iter(parts).buffered(at_once).collect().await;
        let bytes = first_error(done)?;
        let images = self.clone();
        blocking(move || images.finish_load(image.names, image.documents, image.config, &layers, &bytes, hold)).await
    }

    /// Unpacks one layer unless it is here; the bytes it had.
    async fn layer_in(&self, shelf: &Arc<Shelf>, part: Part, goes: &Goes) -> Result<u64, ArchiveError> {
        let turn = self.inner.in_flight.turn(&part.diff_id);
        let mine = Arc::clone(&turn.lock).lock_owned().await;
        let (images, shelf, own) = (self.clone(), Arc::clone(shelf), goes.clone());
        let done = blocking(move || {
            let done = images.layer_now(&shelf, &part, &turn.gauge, &own);
            drop(mine);
            done
        });
        done.await.inspect_err(|_| goes.stop())
    }

    fn layer_now(&self, shelf: &Shelf, part: &Part, gauge: &Gauge, goes: &Goes) -> Result<u64, ArchiveError> {
        let store = &self.inner.store;
        goes.check().map_err(ArchiveError::Read)?;
        let Some((file, _)) = shelf.open(&part.name)? else {
            return Err(ArchiveError::Missing { what: part.name.clone() });
        };
        if store.is_good(&part.diff_id) {
            if gauge.state() != LayerState::Done {
                gauge.set(LayerState::Present);
            }
        } else {
            let ingest = store.begin_layer().map_err(disk(store.dir()))?;
            gauge.restart();
            let done = feed::unpack(file, part.blob.as_ref(), &ingest, &part.diff_id, &self.inner.limits, gauge, goes)?;
            store.commit_layer(ingest, &part.diff_id, &done)?;
            gauge.set(LayerState::Done);
        }
        match &part.blob {
            Some(blob) if blob.digest != part.diff_id => self.keep(shelf, &part.name, &blob.digest),
            // The archive itself is made again from the layer.
            Some(_) | None => Ok(()),
        }?;
        Ok(store.layer(&part.diff_id)?.bytes)
    }

    /// Keeps a compressed layer: no registry may have it, and the manifest speaks of it.
    fn keep(&self, shelf: &Shelf, name: &str, digest: &Digest) -> Result<(), ArchiveError> {
        let store = &self.inner.store;
        let target = store.blob_path(digest);
        let Some((mut file, _)) = shelf.open(name)? else { return Ok(()) };
        if target.is_file() {
            return Ok(());
        }
        let disk = disk(store.dir());
        let ingest = store.begin_layer().map_err(&disk)?;
        let draft = ingest.path().join("file");
        let mut copy = Copying { to: fs::File::create_new(&draft).map_err(&disk)?, hasher: Hasher::like(digest) };
        io::copy(&mut file, &mut copy).map_err(&disk)?;
        let got = copy.hasher.finish();
        if got != digest.as_str() {
            return Err(ArchiveError::WrongDigest { digest: digest.clone(), got });
        }
        copy.to.sync_all().map_err(&disk)?;
        fs::rename(&draft, &target).map_err(&disk)?;
        target.parent().map_or(Ok(()), sync_dir).map_err(&disk)
    }

    fn finish_load(
        &self,
        names: Vec<ImageReference>,
        mut documents: Vec<(Digest, Vec<u8>)>,
        (config, config_bytes): (Digest, Vec<u8>),
        layers: &[Digest],
        bytes: &[u64],
        hold: Hold,
    ) -> Result<Loaded, ArchiveError> {
        if documents.is_empty() {
            let made = plain_manifest(&config, config_bytes.len(), layers, bytes);
            documents.push((sha256(&made)?, made));
        }
        let read = config::read(&config_bytes)?;
        let (Some((top, _)), Some((manifest, _))) = (documents.first(), documents.last()) else {
            return refused("it has no manifest");
        };
        let machine = resolve::this_machine();
        let platform = if resolve::fits(&read.platform, &machine) { &machine } else { &read.platform };
        let record = RefRecord {
            reference: String::new(),
            manifest: manifest.to_string(),
            top: top.to_string(),
            config: config.to_string(),
            platform: platform.to_string(),
            bytes: bytes.iter().sum(),
            pulled_at_ms: now().millis(),
            checked_at_ms: 0,
            layers: layers.iter().map(ToString::to_string).collect(),
            pinned: false,
            last_used_ms: None,
            sources: Vec::new(),
            origin: Origin::Loaded,
            untagged: false,
        };
        self.store_loaded(names, &documents, (config, &config_bytes), record, hold)
    }

    /// Stores the documents and then the names.
    pub(super) fn store_loaded(
        &self,
        names: Vec<ImageReference>,
        documents: &[(Digest, Vec<u8>)],
        (config, config_bytes): (Digest, &[u8]),
        record: RefRecord,
        hold: Hold,
    ) -> Result<Loaded, ArchiveError> {
        let store = &self.inner.store;
        store.put_blob(&config, config_bytes)?;
        for (digest, bytes) in documents {
            store.put_blob(digest, bytes)?;
        }
        let _turn = self.inner.recording.blocking_lock();
        let mut present = None;
        for name in &names {
            present = Some(self.put(name, RefRecord { reference: name.to_string(), ..record.clone() })?);
        }
        // What has a name already needs none.
        let present = present.or_else(|| {
            let known = self.known();
            known.values().find(|known| known.record.manifest == record.manifest).map(|known| known.present.clone())
        });
        let present = match (present, untagged_name("localhost", "loaded", &record.manifest)) {
            (Some(present), _) => present,
            (None, Some(name)) => {
                self.put(&name, RefRecord { reference: name.to_string(), untagged: true, ..record })?
            }
            (None, None) => return refused("its digest names nothing"),
        };
        drop(hold);
        Ok(Loaded { names, present, config })
    }
}

/// All results, or the error that made the others end.
fn first_error(done: Vec<Result<u64, ArchiveError>>) -> Result<Vec<u64>, ArchiveError> {
    let (good, bad): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
    let follows = |e: &ArchiveError| e.is_cancelled();
    let mut errors: Vec<_> = bad.into_iter().filter_map(Result::err).collect();
    let at = errors.iter().position(|e| !follows(e)).unwrap_or(0);
    if errors.is_empty() { good.into_iter().collect() } else { Err(errors.swap_remove(at)) }
}

struct Copying {
    to: fs::File,
    hasher: Hasher,
}

impl io::Write for Copying {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let put = self.to.write(bytes)?;
        self.hasher.update(&bytes[..put]);
        Ok(put)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A manifest of layers that are not compressed: a layer's digest is its content's.
pub(super) fn plain_manifest(config: &Digest, config_bytes: usize, layers: &[Digest], bytes: &[u64]) -> Vec<u8> {
    let layer = |(digest, size): (&Digest, &u64)| serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest.as_str(), "size": size});
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.as_str(), "size": config_bytes},
        "layers": layers.iter().zip(bytes).map(layer).collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes()
}
