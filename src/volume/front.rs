//! The door of the room.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::OwnedMutexGuard;

use super::error::{OpenError, VolumeError, disk};
use super::record::Made;
use super::shelf::{Inner, anonymous, remove_tree};
use super::{mount, walk};
use crate::model::{Timestamp, Volume, VolumeName};

/// The volumes of a data directory.
#[derive(Debug, Clone)]
pub struct Volumes(pub(super) Arc<Inner>);

/// A volume that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What it was made as.
    pub volume: Volume,
    /// When.
    pub created: Timestamp,
    /// What it holds.
    pub path: PathBuf,
    /// Nobody gave it its name.
    pub anonymous: bool,
    /// Whether what its options name is mounted.
    pub mounted: bool,
}

/// What a volume takes on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of whole blocks.
    pub bytes: u64,
    /// Files, folders and whatever else.
    pub files: u64,
}

/// A volume that may be seen in a container. Kept until the start is done: while it is to be filled, a second starter waits.
#[derive(Debug)]
pub struct Ready {
    /// What it holds.
    pub path: PathBuf,
    /// Where its first content is put together, to be renamed to `path` when it is whole. None: it is not filled.
    pub fill: Option<PathBuf>,
    _start: Start,
    _guard: Option<Filling>,
}

/// One of the starts that are under way with a volume.
#[derive(Debug)]
struct Start(Arc<AtomicU64>);

impl Start {
    fn begin(starts: &Arc<AtomicU64>) -> Self {
        starts.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(starts))
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The turn of the one who fills a volume.
#[derive(Debug)]
struct Filling {
    inner: Arc<Inner>,
    name: VolumeName,
    staging: PathBuf,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Drop for Filling {
    /// Notes whether it has content now, and lets the next one in after that.
    fn drop(&mut self) {
        let (inner, name, staging) = (Arc::clone(&self.inner), self.name.clone(), self.staging.clone());
        let turn = self.turn.take();
        let end = move || {
            let _ = remove_tree(&staging);
            // What cannot be noted now is noted by the next start, which finds the content.
            if empty(&inner.data(&name)).is_ok_and(|empty| !empty) {
                let _ = inner.note_used(&name);
            }
            drop(turn);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(end)),
            Err(_) => end(),
        }
    }
}

impl Volumes {
    /// Opens them; what a crash left half-made is cleared away. With warnings about what cannot be used.
    pub fn open(data_dir: &Path) -> Result<(Self, Vec<String>), OpenError> {
        let (inner, warnings) = Inner::open(data_dir)?;
        Ok((Self(Arc::new(inner)), warnings))
    }

    /// The volume, there and mounted: made where it is missing, refused where it exists with other options or is external and missing.
    pub async fn ready(&self, volume: &Volume) -> Result<Ready, VolumeError> {
        let turn = self.0.gate(&volume.name).turn.lock_owned().await;
        let asked = volume.clone();
        self.blocking(&volume.name, move |inner| ready(inner, &asked, turn)).await
    }

    /// All that can be used.
    #[must_use]
    pub fn list(&self) -> Vec<Stored> {
        let points = mount::points().unwrap_or_default();
        self.0.known().values().flatten().map(|made| self.shown(made, &points)).collect()
    }

    /// One of them.
    pub fn stored(&self, name: &VolumeName) -> Result<Stored, VolumeError> {
        Ok(self.shown(&self.0.made(name)?, &mount::points().unwrap_or_default()))
    }

    fn shown(&self, made: &Made, points: &BTreeSet<PathBuf>) -> Stored {
        let path = self.0.data(&made.volume.name);
        let (volume, created, anonymous) = (made.volume.clone(), made.created, made.anonymous);
        Stored { volume, created, mounted: points.contains(&path), path, anonymous }
    }

    /// Whether a name has the form of those that nobody gave.
    #[must_use]
    pub fn anonymous(name: &VolumeName) -> bool {
        anonymous(name)
    }

    /// Makes it; one that exists with the same options is left as it is.
    pub async fn make(&self, volume: &Volume) -> Result<(), VolumeError> {
        let asked = volume.clone();
        self.blocking(&volume.name, move |inner| inner.make(&asked).map(drop)).await
    }

    /// Removes it with all that it holds. `free` is asked at the last moment: no start can come in between.
    pub async fn remove(
        &self,
        name: &VolumeName,
        free: impl Fn() -> Result<(), VolumeError> + Send + 'static,
    ) -> Result<(), VolumeError> {
        let turn = self.0.gate(name).turn.lock_owned().await;
        let of = name.clone();
        self.blocking(name, move |inner| {
            let _turn = turn;
            inner.remove(&of, &free)
        })
        .await
    }

    /// Nobody uses it any more: what its options mounted is unmounted. What cannot be is tried again at the next release.
    pub async fn release(&self, name: &VolumeName) {
        let turn = self.0.gate(name).turn.lock_owned().await;
        let of = name.clone();
        let done = self.blocking(name, move |inner| {
            let _turn = turn;
            // Who starts with it now releases it later.
            let starts = inner.gate(&of).starts.load(Ordering::SeqCst) > 0;
            if starts || inner.made(&of)?.volume.options.is_empty() { Ok(()) } else { inner.unmount(&of) }
        });
        if let Err(error) = done.await {
            tracing::warn!(volume = %name, "a volume that nobody uses stays mounted: {error}");
        }
    }

    /// What it takes on the disk.
    pub async fn usage(&self, name: &VolumeName) -> Result<Usage, VolumeError> {
        let of = name.clone();
        self.blocking(name, move |inner| {
            let (made, path) = (inner.made(&of)?, inner.data(&of));
            if !made.volume.options.is_empty() && !inner.points(&path)?.contains(&path) {
                return Err(VolumeError::NotMounted { name: of });
            }
            let measure = || walk::measure(std::os::fd::AsFd::as_fd(&walk::open(&path)?));
            let (bytes, files) = measure().map_err(disk("measuring a volume", &path))?;
            Ok(Usage { bytes, files })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        name: &VolumeName,
        work: impl FnOnce(&Arc<Inner>) -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let (inner, name) = (Arc::clone(&self.0), name.clone());
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or(Err(VolumeError::Lost { name }))
    }
}

fn ready(inner: &Arc<Inner>, volume: &Volume, turn: OwnedMutexGuard<()>) -> Result<Ready, VolumeError> {
    let (name, path) = (&volume.name, inner.data(&volume.name));
    let start = Start::begin(&inner.gate(name).starts);
    let made = inner.make(volume)?;
    if !made.volume.options.is_empty() {
        inner.mount(&made)?;
        return Ok(Ready { path, fill: None, _start: start, _guard: None });
    }
    if !empty(&path).map_err(disk("looking into a volume", &path))? {
        inner.note_used(name)?;
        return Ok(Ready { path, fill: None, _start: start, _guard: None });
    }
    if made.used {
        return Ok(Ready { path, fill: None, _start: start, _guard: None });
    }
    let staging = inner.folder(name).join(format!(".fill-{}", inner.next()));
    let guard = Filling { inner: Arc::clone(inner), name: name.clone(), staging: staging.clone(), turn: Some(turn) };
    Ok(Ready { path, fill: Some(staging), _start: start, _guard: Some(guard) })
}

pub(super) fn empty(folder: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(folder)?.next().is_none())
}
