//! Images on disk. The files say everything; there is no other index.
//!
//! | path | what it is |
//! |---|---|
//! | `blobs/<algorithm>/<hex>` | manifests and configurations, byte for byte |
//! | `layers/<hex of diff_id>/diff/` | one layer unpacked, in overlayfs' form |
//! | `layers/<hex of diff_id>/split.zst` | its tar archive without the contents of files: the rest is in `diff/` |
//! | `layers/<hex of diff_id>/meta.json` | what was found while unpacking |
//! | `refs/<hex of the name>.json` | which manifest a reference names |
//! | `ingest/` | what is being made; nothing in it outlives the run |
//!
//! Everything appears by a rename of something already on disk, so a power cut leaves either the old or the new.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::hash::{digest_like, sha256_hex};
use super::unpack::ingest::{Ingest, Occupied, remove_tree};
use super::unpack::layer::Unpacking;
use super::unpack::settle::Settling;
use crate::model::{Digest, ImageReference};

/// A small file of the store is never larger.
const SMALL_FILE: u64 = 64 << 20;

/// The directories.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    contents: Settling,
    names: Settling,
}

/// What `refs/*.json` holds. A format that stays readable for ever.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RefRecord {
    pub(super) reference: String,
    pub(super) manifest: String,
    /// What the registry had under the name: the index, where there is one. A later question is compared with this.
    pub(super) top: String,
    pub(super) config: String,
    pub(super) platform: String,
    pub(super) bytes: u64,
    pub(super) pulled_at_ms: u64,
}

/// All references that were read, and for each broken one a sentence.
#[derive(Debug, Default)]
pub(super) struct Refs {
    pub(super) good: Vec<(ImageReference, RefRecord)>,
    pub(super) broken: Vec<String>,
}

/// What `meta.json` of a layer holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) diff_id: String,
    /// Bytes of its tar archive.
    pub(super) bytes: u64,
    pub(super) opaque_root: bool,
    /// `split.zst` lies beside `diff/`; layers of earlier versions have none.
    #[serde(default)]
    pub(super) split: bool,
    /// The archive can be rebuilt from both.
    #[serde(default)]
    pub(super) rebuildable: bool,
    /// Bytes of its files, in whole blocks; zero where an earlier version did not count.
    #[serde(default)]
    pub(super) disk_bytes: u64,
    /// Members of its archive.
    #[serde(default)]
    pub(super) entries: u64,
}

impl Store {
    /// Makes what is missing and removes what a dead run left.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let store = Self::at(dir);
        fs::create_dir_all(dir)?;
        // Layers hold set-uid programs of strangers: nobody but the daemon may reach them here.
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        for name in ["blobs/sha256", "blobs/sha512", "layers", "refs"] {
            fs::create_dir_all(dir.join(name))?;
        }
        remove_tree(&store.ingest_dir())?;
        fs::create_dir_all(store.ingest_dir())?;
        sync_dir(dir)?;
        Ok(store)
    }

    /// A store that is there already, as it is.
    pub(super) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), contents: Settling::default(), names: Settling::default() }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
    fn ingest_dir(&self) -> PathBuf {
        self.dir.join("ingest")
    }
    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm()).join(digest.hex())
    }
    fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join("layers").join(diff_id.hex())
    }
    fn ref_path(&self, image: &ImageReference) -> PathBuf {
        self.dir.join("refs").join(format!("{}.json", sha256_hex(image.to_string().as_bytes())))
    }

    /// The directory that overlayfs takes for a layer.
    pub(super) fn layer_diff(&self, diff_id: &Digest) -> PathBuf {
        self.layer_path(diff_id).join("diff")
    }

    pub(super) fn has_layer(&self, diff_id: &Digest) -> bool {
        let path = self.layer_path(diff_id);
        path.join("meta.json").is_file() && path.join("diff").is_dir()
    }

    pub(super) fn layer(&self, diff_id: &Digest) -> Result<LayerRecord, StoreError> {
        let path = self.layer_path(diff_id).join("meta.json");
        let bytes = read_small(&path).map_err(StoreError::io(&path))?;
        serde_json::from_slice(&bytes).map_err(|e| StoreError::Damaged { path, reason: e.to_string() })
    }

    pub(super) fn begin_layer(&self) -> io::Result<Ingest> {
        Ingest::make(&self.ingest_dir())
    }

    /// Makes a settled layer visible. One that came to be meanwhile is as good.
    pub(super) fn commit_layer(&self, ingest: Ingest, diff_id: &Digest, done: &Unpacking) -> Result<(), StoreError> {
        let record = LayerRecord {
            diff_id: diff_id.to_string(),
            bytes: done.bytes,
            opaque_root: done.facts.opaque_root,
            split: done.rebuildable,
            rebuildable: done.rebuildable,
            disk_bytes: done.facts.disk_bytes,
            entries: done.facts.entries,
        };
        let meta = ingest.path().join("meta.json");
        fs::write(&meta, json(&record, &meta)?).map_err(StoreError::io(&meta))?;
        // One syncfs for whole layers is far cheaper than an fsync for each file.
        let flush = || Ok(rustix::fs::syncfs(File::open(&self.dir)?)?);
        self.contents.settle(flush).map_err(StoreError::io(ingest.path()))?;
        let target = self.layer_path(diff_id);
        // A pull that was given up may still end well beside us, so what stands there is looked at only when it is in
        // the way; without its record it is not a layer.
        if let Err(Occupied(ingest)) = ingest.keep_as(&target).map_err(StoreError::io(&target))?
            && !self.has_layer(diff_id)
        {
            remove_tree(&target).map_err(StoreError::io(&target))?;
            let _ = ingest.keep_as(&target).map_err(StoreError::io(&target))?;
        }
        let layers = self.dir.join("layers");
        self.names.settle(|| sync_dir(&layers)).map_err(StoreError::io(&layers))
    }

    /// Reads a blob and checks that it still is what its name says.
    pub(super) fn blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        let bytes = match read_small(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { digest: digest.clone() });
            }
            other => other.map_err(StoreError::io(&path))?,
        };
        let got = digest_like(digest, &bytes);
        if got == digest.as_str() {
            return Ok(bytes);
        }
        Err(StoreError::Damaged { path, reason: format!("its content is {got}") })
    }

    /// Stores verified bytes.
    pub(super) fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        if self.blob(digest).is_ok() {
            return Ok(());
        }
        self.replace(&self.blob_path(digest), bytes)
    }

    pub(super) fn put_ref(&self, image: &ImageReference, record: &RefRecord) -> Result<(), StoreError> {
        let path = self.ref_path(image);
        self.replace(&path, &json(record, &path)?)
    }

    /// Reads all references; a broken one never hides the others.
    pub(super) fn refs(&self) -> io::Result<Refs> {
        let mut refs = Refs::default();
        for entry in fs::read_dir(self.dir.join("refs"))? {
            let path = entry?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            match self.read_ref(&path) {
                Ok(found) => refs.good.push(found),
                Err(reason) => refs.broken.push(format!("{} is not used: {reason}", path.display())),
            }
        }
        Ok(refs)
    }

    fn read_ref(&self, path: &Path) -> Result<(ImageReference, RefRecord), String> {
        let bytes = read_small(path).map_err(|e| e.to_string())?;
        let record: RefRecord = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        let image = ImageReference::parse(&record.reference).map_err(|e| e.to_string())?;
        if self.ref_path(&image) != path {
            return Err("it speaks of another image than its name".into());
        }
        Ok((image, record))
    }

    /// Puts `bytes` at `path`, whole or not at all.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let ingest = self.begin_layer().map_err(StoreError::io(&self.ingest_dir()))?;
        let draft = ingest.path().join("file");
        write_synced(&draft, bytes).map_err(StoreError::io(&draft))?;
        fs::rename(&draft, path).map_err(StoreError::io(path))?;
        let parent = path.parent().unwrap_or(&self.dir);
        sync_dir(parent).map_err(StoreError::io(parent))
    }
}

fn json(record: &impl Serialize, path: &Path) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec_pretty(record).map_err(|e| StoreError::Damaged { path: path.to_owned(), reason: e.to_string() })
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SMALL_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}
