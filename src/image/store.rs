//! Images on disk: the directories, the blobs and the layers. The files say everything; there is no other index.
//!
//! | path | what it is |
//! |---|---|
//! | `blobs/<algorithm>/<hex>` | manifests, configurations and compressed layers that no registry has, byte for byte |
//! | `layers/<hex of diff_id>/diff/` | one layer unpacked, in overlayfs' form |
//! | `layers/<hex of diff_id>/split.zst` | its tar archive without the contents of files: the rest is in `diff/` |
//! | `layers/<hex of diff_id>/meta.json` | what was found while unpacking |
//! | `refs/<hex of the name>.json` | which manifest a reference names: `refs.rs` |
//! | `partial/<algorithm>-<hex>` | the first bytes of a blob whose download broke off |
//! | `ingest/` | what is being made; nothing in it outlives the run |
//! | `trash/` | what is being deleted; the next run goes on with it |
//! | `replaced/<boot id>-<n>` | damaged layers that were replaced; containers may run on them until the machine restarts |
//!
//! Everything appears by a rename of something already on disk, so a power cut leaves either the old or the new.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, RenameFlags};

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::hash::digest_like;
use super::unpack::ingest::{Ingest, Occupied, remove_tree};
use super::unpack::layer::Unpacking;
use super::unpack::settle::Settling;
use crate::model::Digest;

/// A small file of the store is never larger.
const SMALL_FILE: u64 = 64 << 20;

/// The directories.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    /// Layers that were found damaged: not counted as here for the next pull, which replaces them.
    damaged: Mutex<BTreeSet<Digest>>,
    contents: Settling,
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
        for name in ["blobs/sha256", "blobs/sha512", "layers", "refs", "trash", "replaced"] {
            fs::create_dir_all(dir.join(name))?;
        }
        // Big trees take long to delete; the daemon need not wait for it.
        store.discard(&store.ingest_dir())?;
        fs::create_dir_all(store.ingest_dir())?;
        store.discard_replaced()?;
        sync_dir(dir)?;
        store.empty_trash()?;
        Ok(store)
    }

    /// A store that is there already, as it is.
    pub(super) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), damaged: Mutex::default(), contents: Settling::default() }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
    pub(super) fn ingest_dir(&self) -> PathBuf {
        self.dir.join("ingest")
    }
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm()).join(digest.hex())
    }
    pub(super) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join("layers").join(diff_id.hex())
    }
    /// The directory that overlayfs takes for a layer.
    pub(super) fn layer_diff(&self, diff_id: &Digest) -> PathBuf {
        self.layer_path(diff_id).join("diff")
    }

    pub(super) fn has_layer(&self, diff_id: &Digest) -> bool {
        let path = self.layer_path(diff_id);
        path.join("meta.json").is_file() && path.join("diff").is_dir()
    }

    /// Whether a layer need not be fetched: it is there, and nobody found it damaged.
    pub(super) fn is_good(&self, diff_id: &Digest) -> bool {
        self.has_layer(diff_id) && !self.damaged().contains(diff_id)
    }
    /// The next pull fetches the layer although it is there, and puts its own in its place.
    pub(super) fn mark_damaged(&self, diff_id: &Digest) {
        self.damaged().insert(diff_id.clone());
    }
    fn damaged(&self) -> std::sync::MutexGuard<'_, BTreeSet<Digest>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn layer(&self, diff_id: &Digest) -> Result<LayerRecord, StoreError> {
        let path = self.layer_path(diff_id).join("meta.json");
        let bytes = read_small(&path).map_err(StoreError::io(&path))?;
        serde_json::from_slice(&bytes).map_err(|e| StoreError::Damaged { path, reason: e.to_string() })
    }

    pub(super) fn begin_layer(&self) -> io::Result<Ingest> {
        Ingest::make(&self.ingest_dir())
    }

    /// Makes a layer durable and then visible; its new name is durable with the next reference. One that came to be meanwhile is as good.
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
            && !self.is_good(diff_id)
        {
            self.exchange(&ingest, &target).map_err(StoreError::io(&target))?;
        }
        self.damaged().remove(diff_id);
        Ok(())
    }

    /// Puts a layer in the place of a damaged one, in one step. Overlays that stand keep the old tree open and would lose
    /// its files, so it is kept until no mount of this boot can know it.
    fn exchange(&self, ingest: &Ingest, target: &Path) -> io::Result<()> {
        rustix::fs::renameat_with(CWD, ingest.path(), CWD, target, RenameFlags::EXCHANGE)?;
        let replaced = self.dir.join("replaced");
        let boot = boot_id();
        loop {
            let name = replaced.join(format!("{boot}-{}", next_number()));
            match rustix::fs::renameat_with(CWD, ingest.path(), CWD, &name, RenameFlags::NOREPLACE) {
                Err(rustix::io::Errno::EXIST) => {}
                other => return other.map_err(Into::into),
            }
        }
    }

    /// Trees that were replaced before the machine started last are in no mount any more.
    fn discard_replaced(&self) -> io::Result<()> {
        let boot = boot_id();
        for entry in fs::read_dir(self.dir.join("replaced"))? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(&boot) {
                self.discard(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Moves something out of sight, in one step. [`Store::delete`] or the next run takes it away. What is not there is
    /// gone already.
    pub(super) fn discard(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        loop {
            let aside = self.dir.join("trash").join(format!("{}-{}", std::process::id(), next_number()));
            match rustix::fs::renameat_with(CWD, path, CWD, &aside, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(Some(aside)),
                Err(rustix::io::Errno::EXIST) => {}
                Err(rustix::io::Errno::NOENT) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes away what dead runs left, on a thread of its own.
    fn empty_trash(&self) -> io::Result<()> {
        let left: Vec<_> =
            fs::read_dir(self.dir.join("trash"))?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
        if !left.is_empty() {
            std::thread::Builder::new().name("image-trash".into()).spawn(move || delete(&left))?;
        }
        Ok(())
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

    /// The file of a blob that is kept as it is.
    pub(super) fn kept(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.blob_path(digest)).filter(|path| path.is_file())
    }

    /// Stores verified bytes.
    pub(super) fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        if self.blob(digest).is_ok() {
            return Ok(());
        }
        self.replace(&self.blob_path(digest), bytes)
    }

    /// Puts `bytes` at `path`, whole or not at all.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let ingest = self.begin_layer().map_err(StoreError::io(&self.ingest_dir()))?;
        let draft = ingest.path().join("file");
        write_synced(&draft, bytes).map_err(StoreError::io(&draft))?;
        fs::rename(&draft, path).map_err(StoreError::io(path))?;
        let parent = path.parent().unwrap_or(&self.dir);
        sync_dir(parent).map_err(StoreError::io(parent))
    }
}

/// Deletes what was discarded. What stays is taken by the next run.
pub(super) fn delete(trees: &[PathBuf]) {
    for (done, path) in trees.iter().enumerate() {
        match remove_tree(path) {
            Ok(()) => {
                tracing::debug!(path = %path.display(), left = trees.len() - done - 1, "deleted from the image store");
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot be deleted now; it will be tried when the daemon starts again");
            }
        }
    }
}

fn next_number() -> u64 {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

pub(super) fn json(record: &impl Serialize, path: &Path) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec_pretty(record).map_err(|e| StoreError::Damaged { path: path.to_owned(), reason: e.to_string() })
}

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(super) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SMALL_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}
