//! A layer whose compressed form nobody has any more is made into one again: its archive out of the directory and the
//! split record, and that by gzip, always in the same way. The content is what it was, the compressed bytes are others;
//! so a manifest that speaks of them is another one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::PathBuf;
use std::sync::Arc;

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use super::Images;
use super::error::StoreError;
use super::hash::Hasher;
use super::manifest::Descriptor;
use super::store::Store;
use super::unpack::ingest::Ingest;
use super::unpack::rebuild::rebuild;
use crate::model::Digest;

/// The same bytes for the same layer, whoever makes them: no time, no name, no system, and always this effort.
const EFFORT: u32 = 6;
const UNKNOWN_SYSTEM: u8 = 255;

/// A compressed layer that waits to be sent; it goes with the value.
#[derive(Debug)]
pub(super) struct Repacked {
    pub(super) as_now: Descriptor,
    pub(super) path: PathBuf,
    _ingest: Ingest,
}

/// Compresses a layer anew; `was` is the type that its old manifest says. None where its archive cannot be made again.
pub(super) async fn repack(images: &Images, diff_id: &Digest, was: &str) -> Result<Option<Repacked>, StoreError> {
    let (store, diff_id) = (Arc::clone(&images.inner.store), diff_id.clone());
    let docker = was.starts_with("application/vnd.docker.");
    // Whoever no longer waits drops this, and the work ends.
    let waited_for = Arc::new(());
    let watched = Arc::downgrade(&waited_for);
    let done = tokio::task::spawn_blocking(move || work(&store, &diff_id, docker, || watched.strong_count() > 0)).await;
    drop(waited_for);
    done.unwrap_or(Err(StoreError::Lost))
}

fn work(
    store: &Store,
    diff_id: &Digest,
    docker: bool,
    wanted: impl Fn() -> bool,
) -> Result<Option<Repacked>, StoreError> {
    if !store.layer(diff_id)?.rebuildable {
        return Ok(None);
    }
    let layer = store.layer_path(diff_id);
    let ingest = store.begin_layer().map_err(StoreError::io(&store.ingest_dir()))?;
    let path = ingest.path().join("layer");
    let file = File::create_new(&path).map_err(StoreError::io(&path))?;
    let to = Counting { to: BufWriter::new(file), hasher: Hasher::sha256(), bytes: 0 };
    let mut packer = GzBuilder::new().mtime(0).operating_system(UNKNOWN_SYSTEM).write(to, Compression::new(EFFORT));
    let mut from = rebuild(&layer).map_err(StoreError::io(&layer))?;
    let mut hasher = Hasher::like(diff_id);
    let mut piece = vec![0; 128 << 10];
    loop {
        if !wanted() {
            return Err(StoreError::Lost);
        }
        let got = from.read(&mut piece).map_err(StoreError::io(&layer))?;
        if got == 0 {
            break;
        }
        hasher.update(&piece[..got]);
        packer.write_all(&piece[..got]).map_err(StoreError::io(&path))?;
    }
    let got = hasher.finish();
    if got != diff_id.as_str() {
        return Err(StoreError::Damaged { path: layer, reason: format!("its content is {got}; verify the image") });
    }
    let mut done = packer.finish().map_err(StoreError::io(&path))?;
    done.flush().map_err(StoreError::io(&path))?;
    let media_type = match docker {
        true => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        false => "application/vnd.oci.image.layer.v1.tar+gzip",
    };
    let digest = parsed(&done.hasher.finish())?;
    let as_now = Descriptor { media_type: media_type.to_owned(), digest, size: done.bytes };
    Ok(Some(Repacked { as_now, path, _ingest: ingest }))
}

/// The manifest with other layers in the place of some, and its digest. What else it says stays.
pub(super) fn manifest_with(
    bytes: &[u8],
    replaced: &BTreeMap<Digest, Descriptor>,
) -> Result<(Vec<u8>, Digest), StoreError> {
    let mut manifest: Value = serde_json::from_slice(bytes).map_err(|_| StoreError::Lost)?;
    for layer in manifest["layers"].as_array_mut().into_iter().flatten() {
        let was = layer["digest"].as_str().and_then(|text| Digest::parse(text).ok());
        let Some((now, layer)) = was.and_then(|was| replaced.get(&was)).zip(layer.as_object_mut()) else { continue };
        layer.insert("mediaType".into(), json!(now.media_type));
        layer.insert("digest".into(), json!(now.digest.as_str()));
        layer.insert("size".into(), json!(now.size));
        // The old bytes themselves, and where they may be had.
        layer.remove("data");
        layer.remove("urls");
    }
    let bytes = serde_json::to_vec(&manifest).map_err(|_| StoreError::Lost)?;
    let digest = parsed(&format!("sha256:{}", super::hash::sha256_hex(&bytes)))?;
    Ok((bytes, digest))
}

fn parsed(text: &str) -> Result<Digest, StoreError> {
    Digest::parse(text).map_err(|_| StoreError::Lost)
}

struct Counting<W> {
    to: W,
    hasher: Hasher,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let put = self.to.write(bytes)?;
        self.hasher.update(&bytes[..put]);
        self.bytes += put as u64;
        Ok(put)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_layers_change() {
        let of = |c: char| Digest::parse(&format!("sha256:{}", c.to_string().repeat(64))).unwrap();
        let layer = |digest: &Digest, size: u64| json!({"mediaType": "old", "digest": digest.as_str(), "size": size, "data": "QQ==", "annotations": {"a": "b"}});
        let manifest = json!({"schemaVersion": 2, "config": {"digest": of('c').as_str()}, "annotations": {"x": "y"},
            "layers": [layer(&of('a'), 1), layer(&of('b'), 2), layer(&of('a'), 1)]});
        let now = Descriptor { media_type: "new".into(), digest: of('d'), size: 7 };
        let (bytes, digest) = manifest_with(manifest.to_string().as_bytes(), &[(of('a'), now)].into()).unwrap();
        assert_eq!(digest.as_str(), format!("sha256:{}", super::super::hash::sha256_hex(&bytes)));
        let mut expected = manifest;
        for at in [0, 2] {
            expected["layers"][at] =
                json!({"mediaType": "new", "digest": of('d').as_str(), "size": 7, "annotations": {"a": "b"}});
        }
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
    }
}
