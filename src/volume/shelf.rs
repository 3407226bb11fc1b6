//! The folders of volumes: opened, made, removed. Everything here blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use super::copy::settle;
use super::error::{OpenError, VolumeError, disk};
use super::mount::{self, Stuck};
use super::options;
use super::record::{self, Made};
use crate::model::{Timestamp, Volume, VolumeName};

/// What keeps two from doing what must not be done at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate {
    /// Starts that may fill it, one after another.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    /// Read by who copies from it, written by who swaps or removes it.
    pub content: Arc<RwLock<()>>,
    /// Starts that were told where it is and have not come to their end: what they were told must stay true.
    pub starts: Arc<AtomicU64>,
}

/// Whether nobody needs a volume as it is; asked where no start can come in between.
pub(super) type Free<'a> = &'a dyn Fn() -> Result<(), VolumeError>;

impl Gate {
    pub(super) fn free(&self, name: &VolumeName, free: Free<'_>) -> Result<(), VolumeError> {
        if self.starts.load(Ordering::SeqCst) > 0 {
            return Err(VolumeError::Busy { name: name.clone() });
        }
        free()
    }
}

#[derive(Debug)]
pub(super) struct Inner {
    pub volumes: PathBuf,
    pub snapshots: PathBuf,
    pub stuck: Stuck,
    known: Mutex<BTreeMap<VolumeName, Result<Made, String>>>,
    gates: Mutex<BTreeMap<VolumeName, Gate>>,
    number: AtomicU64,
}

impl Inner {
    pub(super) fn open(data_dir: &Path) -> Result<(Self, Vec<String>), OpenError> {
        let failed = |source| OpenError { path: data_dir.join("volumes"), source };
        let (volumes, snapshots) = (data_dir.join("volumes"), data_dir.join("snapshots"));
        for folder in [&volumes.join(".trash"), &snapshots] {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let volumes = fs::canonicalize(volumes).map_err(failed)?;
        let snapshots = fs::canonicalize(snapshots).map_err(failed)?;
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let inner = Self {
            volumes,
            snapshots,
            stuck: Stuck::default(),
            known: Mutex::default(),
            gates: Mutex::default(),
            number: AtomicU64::new(u64::try_from(seed & u128::from(u64::MAX)).unwrap_or(0)),
        };
        let mut warnings = Vec::new();
        for (name, path) in entries(&inner.volumes).map_err(failed)? {
            if name.starts_with(".new-") {
                inner.discard(&path, &mut warnings);
            } else if let Ok(name) = VolumeName::parse(&name) {
                let made = record::read(&path, &name);
                if let Err(why) = &made {
                    warnings.push(format!("the volume {name} is left alone and not used: {why}"));
                }
                inner.clear(&path, &mut warnings);
                inner.known().insert(name, made);
            }
        }
        for (_, path) in entries(&inner.snapshots).map_err(failed)? {
            inner.clear(&path, &mut warnings);
        }
        for (_, path) in entries(&inner.volumes.join(".trash")).map_err(failed)? {
            if let Err(error) = remove_tree(&path) {
                warnings.push(format!("{} cannot be removed: {error}", path.display()));
            }
        }
        Ok((inner, warnings))
    }

    /// Takes away what a crash left half-made.
    fn clear(&self, folder: &Path, warnings: &mut Vec<String>) {
        for (name, path) in entries(folder).unwrap_or_default() {
            if [".fill-", ".import-", ".restore-", ".new-"].iter().any(|begin| name.starts_with(begin)) {
                self.discard(&path, warnings);
            }
        }
    }

    fn discard(&self, path: &Path, warnings: &mut Vec<String>) {
        if let Err(error) = fs::rename(path, self.volumes.join(".trash").join(self.next())) {
            warnings.push(format!("{} cannot be cleared away: {error}", path.display()));
        }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, BTreeMap<VolumeName, Result<Made, String>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn gate(&self, name: &VolumeName) -> Gate {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).entry(name.clone()).or_default().clone()
    }

    /// A number that no name here has.
    pub(super) fn next(&self) -> String {
        self.number.fetch_add(1, Ordering::Relaxed).to_string()
    }

    pub(super) fn folder(&self, name: &VolumeName) -> PathBuf {
        self.volumes.join(name.as_str())
    }

    pub(super) fn data(&self, name: &VolumeName) -> PathBuf {
        self.folder(name).join("_data")
    }

    /// The volume as it exists.
    pub(super) fn made(&self, name: &VolumeName) -> Result<Made, VolumeError> {
        match self.known().get(name) {
            None => Err(VolumeError::Absent { name: name.clone() }),
            Some(Err(why)) => Err(VolumeError::Unusable { name: name.clone(), why: why.clone() }),
            Some(Ok(made)) => Ok(made.clone()),
        }
    }

    /// Its folder, where no options mount anything.
    pub(super) fn plain(&self, name: &VolumeName, what: &'static str) -> Result<Made, VolumeError> {
        let made = self.made(name)?;
        if made.volume.options.is_empty() {
            return Ok(made);
        }
        let options = options::words(&made.volume.options);
        Err(VolumeError::Mounts { name: name.clone(), options, what })
    }

    /// Makes it where it is missing.
    pub(super) fn make(&self, volume: &Volume) -> Result<Made, VolumeError> {
        let name = &volume.name;
        options::read(&volume.options).map_err(|why| VolumeError::Option { name: name.clone(), why })?;
        let mut known = self.known();
        match known.get(name) {
            Some(Err(why)) => return Err(VolumeError::Unusable { name: name.clone(), why: why.clone() }),
            Some(Ok(made)) if volume.external || made.volume.options == volume.options => return Ok(made.clone()),
            Some(Ok(made)) => {
                let (has, asked) = (options::words(&made.volume.options), options::words(&volume.options));
                return Err(VolumeError::Differs { name: name.clone(), has, asked });
            }
            None if volume.external => return Err(VolumeError::External { name: name.clone() }),
            None => {}
        }
        let made = Made { volume: volume.clone(), created: now(), anonymous: anonymous(name), used: false };
        let draft = self.volumes.join(format!(".new-{}", self.next()));
        let write = || {
            fs::create_dir(&draft)?;
            fs::create_dir(draft.join("_data"))?;
            record::write(&draft, &made)?;
            fs::rename(&draft, self.folder(name))?;
            File::open(&self.volumes)?.sync_all()
        };
        if let Err(error) = write() {
            let _ = fs::remove_dir_all(&draft);
            return Err(disk("making a volume", &self.folder(name))(error));
        }
        known.insert(name.clone(), Ok(made.clone()));
        Ok(made)
    }

    /// Makes one that holds something from the beginning, and is never filled from an image: whole, or not at all. `fill` makes the
    /// folder that it is given.
    pub(super) fn make_filled(
        &self,
        volume: &Volume,
        fill: &mut dyn FnMut(&Path) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        let name = &volume.name;
        let made = Made { volume: volume.clone(), created: now(), anonymous: anonymous(name), used: true };
        let draft = self.volumes.join(format!(".new-{}", self.next()));
        let failed = disk("making a volume", &self.folder(name));
        let mut write = || {
            fs::create_dir(&draft).map_err(&failed)?;
            fill(&draft.join("_data"))?;
            record::write(&draft, &made).map_err(&failed)?;
            settle(&draft).map_err(&failed)?;
            let mut known = self.known();
            if known.contains_key(name) {
                return Err(VolumeError::Busy { name: name.clone() });
            }
            fs::rename(&draft, self.folder(name)).map_err(&failed)?;
            known.insert(name.clone(), Ok(made.clone()));
            File::open(&self.volumes).and_then(|volumes| volumes.sync_all()).map_err(&failed)
        };
        write().inspect_err(|_| {
            let _ = remove_tree(&draft);
        })
    }

    /// From now on it is never filled.
    pub(super) fn note_used(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let mut known = self.known();
        let Some(Ok(made)) = known.get_mut(name) else { return Ok(()) };
        if !made.used {
            let used = Made { used: true, ..made.clone() };
            record::write(&self.folder(name), &used).map_err(disk("writing a volume's record", &self.folder(name)))?;
            *made = used;
        }
        Ok(())
    }

    /// Mounts what its options name, where it is not; whether it was mounted now.
    pub(super) fn mount(&self, made: &Made) -> Result<bool, VolumeError> {
        let (name, at) = (&made.volume.name, self.data(&made.volume.name));
        let asked =
            options::read(&made.volume.options).map_err(|why| VolumeError::Option { name: name.clone(), why })?;
        let Some(asked) = asked else { return Ok(false) };
        if self.points(&at)?.contains(&at) {
            return Ok(false);
        }
        let failed = |source| VolumeError::Mount { name: name.clone(), source };
        mount::mount(asked, &at, mount::LIMIT, &self.stuck).map_err(failed)?;
        Ok(true)
    }

    pub(super) fn unmount(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let failed = |source| VolumeError::Mount { name: name.clone(), source };
        mount::unmount(&self.data(name), mount::LIMIT, &self.stuck).map_err(failed)
    }

    pub(super) fn points(&self, at: &Path) -> Result<BTreeSet<PathBuf>, VolumeError> {
        mount::points().map_err(disk("reading the mounts", at))
    }

    pub(super) fn remove(&self, name: &VolumeName, free: Free<'_>) -> Result<(), VolumeError> {
        let gate = self.gate(name);
        let Ok(_alone) = gate.content.try_write() else { return Err(VolumeError::Busy { name: name.clone() }) };
        self.made(name)?;
        gate.free(name, free)?;
        self.unmount(name)?;
        let (folder, trash) = (self.folder(name), self.volumes.join(".trash").join(self.next()));
        let failed = disk("removing a volume", &folder);
        if mount::anything_below(&folder).map_err(&failed)? {
            return Err(failed(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "something is mounted in it; unmount it first",
            )));
        }
        fs::rename(&folder, &trash).and_then(|()| File::open(&self.volumes)?.sync_all()).map_err(&failed)?;
        self.known().remove(name);
        remove_tree(&trash).map_err(disk("removing what a volume held", &trash))
    }
}

/// The form of names that nobody gave.
pub(super) fn anonymous(name: &VolumeName) -> bool {
    name.as_str().len() == 64 && name.as_str().bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Timestamp::from_millis(u64::try_from(since).unwrap_or(0))
}

/// What is in a folder, in the order of names; names that are no text belong to nobody here.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Never what is mounted below.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    if mount::anything_below(path)? {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "something is mounted in it"));
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
