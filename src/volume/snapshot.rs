//! Copies of volumes, kept beside them, and put back whole.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::copy::{copy, settle};
use super::error::{VolumeError, disk};
use super::front::Volumes;
use super::record::durable;
use super::shelf::{entries, now, remove_tree};
use crate::model::{Timestamp, VolumeName};

const FILE: &str = "snapshot.json";

/// A copy of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Of which.
    pub volume: VolumeName,
    /// Its own name.
    pub name: String,
    /// When it was begun.
    pub created: Timestamp,
    /// What it takes on the disk, where blocks are not shared.
    pub bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct SnapshotRecord {
    v: u32,
    created_ms: u64,
    bytes: u64,
}

impl Volumes {
    /// Copies what a volume holds now. Blocks; `progress` hears of bytes done and bytes in all.
    pub fn snapshot(
        &self,
        name: &VolumeName,
        called: &str,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Snapshot, VolumeError> {
        let inner = &self.0;
        inner.plain(name, "copy it where that comes from")?;
        let place = self.snapshot_folder(name, called)?;
        if place.exists() {
            return Err(VolumeError::SnapshotExists { name: name.clone(), called: called.to_owned() });
        }
        let gate = inner.gate(name);
        let Ok(_shared) = gate.content.try_read() else { return Err(VolumeError::Busy { name: name.clone() }) };
        inner.made(name)?;
        let created = now();
        let folder = inner.snapshots.join(name.as_str());
        let draft = folder.join(format!(".new-{}", inner.next()));
        let write = || {
            fs::create_dir_all(draft.join("_data"))?;
            let bytes = copy(&inner.data(name), &draft.join("_data"), progress)?;
            durable(&draft, FILE, &SnapshotRecord { v: 1, created_ms: created.millis(), bytes })?;
            settle(&draft)?;
            renameat_with(CWD, &draft, CWD, &place, RenameFlags::NOREPLACE)?;
            File::open(&folder)?.sync_all()?;
            File::open(&inner.snapshots)?.sync_all()?;
            Ok(bytes)
        };
        let bytes = write().map_err(|error: io::Error| {
            let _ = remove_tree(&draft);
            // Where it was the first one; a folder that holds others stays.
            let _ = fs::remove_dir(&folder);
            match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    VolumeError::SnapshotExists { name: name.clone(), called: called.to_owned() }
                }
                _ => disk("copying a volume", &folder)(error),
            }
        })?;
        Ok(Snapshot { volume: name.clone(), name: called.to_owned(), created, bytes })
    }

    /// Puts a copy in the place of what the volume holds: a crash leaves the one or the other. A volume that was removed is made.
    /// `free` is asked where no start can come in between.
    pub fn restore(
        &self,
        name: &VolumeName,
        from: &str,
        free: &dyn Fn() -> Result<(), VolumeError>,
        progress: &dyn Fn(u64, u64),
    ) -> Result<(), VolumeError> {
        let inner = &self.0;
        let source = self.snapshot_folder(name, from)?.join("_data");
        if !source.is_dir() {
            return Err(VolumeError::NoSnapshot { name: name.clone(), called: from.to_owned() });
        }
        let failed = disk("copying a snapshot back", &inner.folder(name));
        inner.replace(name, (".restore", "nothing is put back into it"), free, &mut |to| {
            fs::create_dir(to).and_then(|()| copy(&source, to, progress)).map(drop).map_err(&failed)
        })
    }

    /// All copies.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let mut found = Vec::new();
        for (volume, folder) in entries(&self.0.snapshots).unwrap_or_default() {
            let Ok(volume) = VolumeName::parse(&volume) else { continue };
            for (name, path) in entries(&folder).unwrap_or_default() {
                let record = fs::read(path.join(FILE)).ok().and_then(|json| serde_json::from_slice(&json).ok());
                if let (false, Some(SnapshotRecord { v: 1, created_ms, bytes })) = (name.starts_with('.'), record) {
                    let created = Timestamp::from_millis(created_ms);
                    found.push(Snapshot { volume: volume.clone(), name, created, bytes });
                }
            }
        }
        found
    }

    /// Removes a copy.
    pub fn remove_snapshot(&self, volume: &VolumeName, name: &str) -> Result<(), VolumeError> {
        let place = self.snapshot_folder(volume, name)?;
        let trash = self.0.volumes.join(".trash").join(self.0.next());
        let folder = self.0.snapshots.join(volume.as_str());
        match fs::rename(&place, &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(VolumeError::NoSnapshot { name: volume.clone(), called: name.to_owned() });
            }
            done => done.and_then(|()| File::open(&folder)?.sync_all()).map_err(disk("removing a snapshot", &place))?,
        }
        // The last one takes the folder with it.
        let _ = fs::remove_dir(&folder);
        remove_tree(&trash).map_err(disk("removing a snapshot", &trash))
    }

    fn snapshot_folder(&self, volume: &VolumeName, called: &str) -> Result<PathBuf, VolumeError> {
        // The same letters as a volume's: it cannot lead out of the folder.
        let checked = VolumeName::parse(called).map_err(|_| VolumeError::SnapshotName { text: called.to_owned() })?;
        Ok(self.0.snapshots.join(volume.as_str()).join(checked.as_str()))
    }
}
