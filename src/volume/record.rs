//! `volume.json`: what a volume was made as.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::{Timestamp, Volume, VolumeName};

/// The file's name.
pub(super) const FILE: &str = "volume.json";
const VERSION: u32 = 1;

/// A volume that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub volume: Volume,
    pub created: Timestamp,
    /// Nobody gave it its name.
    pub anonymous: bool,
    /// It was handed out and had content: it is never filled again.
    pub used: bool,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct VolumeRecord {
    v: u32,
    name: String,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    created_ms: u64,
    anonymous: bool,
    used: bool,
}

/// What every version has.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// Reads the record of the volume with this name. The reason says why it cannot be used.
pub(super) fn read(folder: &Path, name: &VolumeName) -> Result<Made, String> {
    let path = folder.join(FILE);
    let shown = path.display();
    let bytes = fs::read(&path).map_err(|error| format!("its record {shown} cannot be read: {error}"))?;
    let broken = |why: &dyn std::fmt::Display| format!("its record {shown} cannot be read: {why}");
    match serde_json::from_slice::<Version>(&bytes) {
        Ok(Version { v: VERSION }) => {}
        Ok(Version { v }) => {
            return Err(format!("its record {shown} is of the version {v}, which a newer Longshore wrote"));
        }
        Err(error) => return Err(broken(&error)),
    }
    let record: VolumeRecord = serde_json::from_slice(&bytes).map_err(|error| broken(&error))?;
    let VolumeRecord { v: _, name: recorded, options, labels, created_ms, anonymous, used } = record;
    if recorded != name.as_str() {
        return Err(broken(&format!("it is that of {recorded:?}")));
    }
    let volume = Volume { name: name.clone(), options, labels, external: false };
    Ok(Made { volume, created: Timestamp::from_millis(created_ms), anonymous, used })
}

/// On disk when it returns.
pub(super) fn write(folder: &Path, made: &Made) -> io::Result<()> {
    let Made { volume: Volume { name, options, labels, external: _ }, created, anonymous, used } = made;
    let record = VolumeRecord {
        v: VERSION,
        name: name.to_string(),
        options: options.clone(),
        labels: labels.clone(),
        created_ms: created.millis(),
        anonymous: *anonymous,
        used: *used,
    };
    durable(folder, FILE, &record)
}

/// Writes a file so that it is there whole or not at all.
pub(super) fn durable(folder: &Path, name: &str, record: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(record).map_err(io::Error::other)?;
    let draft = folder.join(format!(".{name}.new"));
    let mut file = File::create(&draft)?;
    file.write_all(&json)?;
    file.sync_all()?;
    fs::rename(draft, folder.join(name))?;
    File::open(folder)?.sync_all()
}
