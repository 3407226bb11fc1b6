//! The folders of the containers. What is there is whole: folders are made under another name, and leave by way of the trash.
//!
//! A folder whose record cannot be used is never deleted: what it holds may be somebody's only copy. The one exception is a
//! creation that a power cut tore: nothing was reported of it, and it never ran.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::kept_logs::{KeptLogLimits, KeptLogs};
use super::link::{CONTAINER, EXIT, FAILED, FailedRecord, LOGS, NETWORK, START};
use super::record::{ContainerRecord, RecordError, network};
use super::{OpenError, Warning};
use crate::model::{Attached, ContainerId, ContainerSpec, Signal, SpecHash};

/// The follower, built for this machine.
const FOLLOWER: &[u8] = include_bytes!(env!("LONGSHORE_FOLLOWER"));
/// So much of the id names the run folder: the path of a socket below it must stay short.
const SHORT: usize = 32;

/// The two places.
pub(super) struct Folders {
    containers: PathBuf,
    trash: PathBuf,
    broken: PathBuf,
    bin: PathBuf,
    run: PathBuf,
    pub(super) kept: KeptLogs,
}

/// A container that was found on disk.
pub(super) struct Found {
    pub(super) spec: ContainerSpec,
    pub(super) stop_signal: Option<Signal>,
    pub(super) attached: Attached,
}

/// What a folder with a container's name turned out to be.
enum Entry {
    Whole(Box<Found>),
    /// Whatever is wrong may pass, or needs a newer program: not a reason to touch anything.
    Unreadable(RecordFault),
    /// A creation that was cut off before it was reported.
    Torn(RecordFault),
    /// There is no use in it, but perhaps in what it holds.
    Broken(String),
}

/// Why a record was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordFault {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Content(#[from] RecordError),
}

impl Folders {
    pub(super) fn open(data: &Path, run: &Path, kept: KeptLogLimits) -> Result<Self, OpenError> {
        let folders = Self {
            containers: data.join("containers"),
            trash: data.join("trash"),
            broken: data.join("broken"),
            bin: data.join("bin"),
            run: run.join("c"),
            kept: KeptLogs::new(data, kept),
        };
        for path in [&folders.containers, &folders.trash, &folders.bin, &folders.run] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| OpenError::Folder { path: path.clone(), source })?;
        }
        Ok(folders)
    }

    pub(super) fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers.join(id.as_str())
    }

    pub(super) fn run(&self, id: &ContainerId) -> PathBuf {
        self.run.join(&id.as_str()[..SHORT])
    }

    /// Whether there is anything in the container's place; when in doubt there is.
    pub(super) fn holds(&self, id: &ContainerId) -> bool {
        !matches!(fs::symlink_metadata(self.container(id)), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Reads every record; finishes removals; clears away our own drafts, and sets aside what cannot be used.
    pub(super) fn scan(
        &self,
        populated: impl Fn(&ContainerId) -> bool,
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<Found>, OpenError> {
        for path in list(&self.trash)? {
            // Ordinary: the daemon ended in the middle of a removal.
            self.kept.keep(&path);
            if fs::remove_dir_all(&path).is_err() {
                warnings.push(clear(&path, "is left of a removal"));
            }
        }
        let mut found = Vec::new();
        for path in list(&self.containers)? {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
            let Some(id) = ContainerId::from_hex(name) else {
                warnings.push(match name.strip_prefix('.').and_then(ContainerId::from_hex) {
                    Some(_) => clear(&path, "was never finished"),
                    None => left(&path, "is not a container's"),
                });
                continue;
            };
            match entry(&path, &id) {
                Entry::Whole(container) => found.push(*container),
                Entry::Unreadable(RecordFault::Content(RecordError::Version(version))) => {
                    return Err(OpenError::Newer { path: path.join(CONTAINER), version });
                }
                Entry::Unreadable(fault) => {
                    warnings.push(left(&path, &format!("has a record that cannot be read ({fault})")));
                }
                Entry::Torn(_) | Entry::Broken(_) if populated(&id) => {
                    warnings.push(left(&path, "has no record that can be used, but its container runs"));
                }
                Entry::Torn(fault) => warnings.push(clear(&path, &format!("was cut off while it was made ({fault})"))),
                Entry::Broken(why) => warnings.push(self.set_aside(&path, &id, &why)),
            }
        }
        // With those that were left alone: their run folders may be in use.
        let kept = list(&self.containers)?;
        for path in list(&self.run)? {
            let name = |p: &Path| p.file_name().and_then(|n| n.to_str()).map(str::to_owned).unwrap_or_default();
            if !kept.iter().any(|folder| name(folder).get(..SHORT) == Some(&name(&path))) {
                warnings.push(clear(&path, "belongs to no container"));
            }
        }
        Ok(found)
    }

    /// Renames it to the first free name below `broken`: somebody may look at it there, and its place is free again.
    fn set_aside(&self, path: &Path, id: &ContainerId, why: &str) -> Warning {
        let free = (0_u32..).map(|n| match n {
            0 => self.broken.join(id.as_str()),
            n => self.broken.join(format!("{id}-{n}")),
        });
        let aside = || -> io::Result<PathBuf> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.broken)?;
            let to = free.take(1000).find(|to| fs::symlink_metadata(to).is_err());
            let to = to.ok_or_else(|| io::Error::other("too many of them are there already"))?;
            fs::rename(path, &to)?;
            sync(&self.broken)?;
            sync(&self.containers)?;
            Ok(to)
        };
        let outcome = match aside() {
            Ok(to) => format!("was moved to {}: take from there what is of use, then delete it", to.display()),
            Err(error) => format!("could not be moved to {}: {error}", self.broken.display()),
        };
        Warning(format!("{} {why} and {outcome}", path.display()))
    }

    /// Makes the folder with its record, all or nothing, on disk when it returns.
    pub(super) fn create(&self, id: &ContainerId, record: &ContainerRecord) -> io::Result<()> {
        let draft = self.containers.join(format!(".{id}"));
        remove_if_there(&draft)?;
        fs::DirBuilder::new().mode(0o700).create(&draft)?;
        // The root's own folder is what `/` looks like inside.
        for (name, mode) in [(LOGS, 0o700), ("upper", 0o755), ("work", 0o700)] {
            fs::DirBuilder::new().mode(mode).create(draft.join(name))?;
        }
        fs::write(draft.join(CONTAINER), serde_json::to_vec(record)?)?;
        fs::rename(&draft, self.container(id))
    }

    /// Another record for the same container: readers see the old one or the new one, and the new one lasts.
    pub(super) fn update(&self, spec: &ContainerSpec) -> io::Result<()> {
        let folder = self.container(&spec.id);
        let record = ContainerRecord::parse(&fs::read(folder.join(CONTAINER))?).map_err(io::Error::other)?;
        let record = ContainerRecord::new(spec, record.layers, record.image_defaults);
        let draft = folder.join(format!(".{CONTAINER}.new"));
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(&record)?)?;
        file.sync_all()?;
        fs::rename(draft, folder.join(CONTAINER))?;
        File::open(&folder)?.sync_all()
    }

    /// Clears the records of the last start, and makes an empty run folder.
    pub(super) fn prepare_start(&self, id: &ContainerId) -> io::Result<()> {
        for name in [FAILED, START] {
            match fs::remove_file(self.container(id).join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.remove_run(id)?;
        fs::DirBuilder::new().mode(0o700).create(self.run(id))
    }

    /// What it is joined to from now on. Made to last with the start.
    pub(super) fn write_network(&self, id: &ContainerId, attached: &Attached) -> io::Result<()> {
        let folder = self.container(id);
        let draft = folder.join(format!(".{NETWORK}.new"));
        fs::write(&draft, network::to_json(attached))?;
        fs::rename(draft, folder.join(NETWORK))
    }

    /// The container's record and the shim's are made to last, while the container runs already: nothing is reported before.
    /// A power cut before this leaves no folder, or one whose record is torn and which is cleared away.
    pub(super) fn sync_start(&self, id: &ContainerId) -> io::Result<()> {
        let folder = self.container(id);
        File::open(folder.join(CONTAINER))?.sync_all()?;
        // The start is not there any more where the container has ended meanwhile and was started by nobody else.
        for name in [START, NETWORK] {
            match File::open(folder.join(name)) {
                Ok(file) => file.sync_all()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        sync(&folder)?;
        sync(&self.containers)
    }

    pub(super) fn write_failed(&self, id: &ContainerId, record: &FailedRecord) -> io::Result<()> {
        let folder = self.container(id);
        let draft = folder.join(".failed.new");
        write_synced(&draft, record)?;
        fs::rename(draft, folder.join(FAILED))
    }

    /// A record's bytes. One that is there and cannot be read is an error: it must never be taken for one that is not.
    pub(super) fn read(&self, id: &ContainerId, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.container(id).join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    pub(super) fn remove_run(&self, id: &ContainerId) -> io::Result<()> {
        remove_if_there(&self.run(id))
    }

    /// Renames it away first: from then on it is gone, whatever happens to the rest.
    pub(super) fn remove(&self, id: &ContainerId) -> io::Result<()> {
        let trash = self.trash.join(id.as_str());
        remove_if_there(&trash)?;
        match fs::rename(self.container(id), &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => done?,
        }
        sync(&self.containers)?;
        self.kept.keep(&trash);
        remove_if_there(&trash)
    }

    /// The follower as a file, which all containers share (and so its pages).
    pub(super) fn write_follower(&self) -> Result<PathBuf, OpenError> {
        let hash = SpecHash::of(FOLLOWER);
        let folder = self.bin.join(&hash.as_str()[..16]);
        let path = folder.join("longshore-follower");
        let write = || -> io::Result<()> {
            if fs::read(&path).is_ok_and(|bytes| bytes == FOLLOWER) {
                return Ok(());
            }
            fs::create_dir_all(&folder)?;
            let draft = folder.join(format!(".{}", std::process::id()));
            let mut file = File::options().create(true).write(true).truncate(true).mode(0o755).open(&draft)?;
            file.write_all(FOLLOWER)?;
            file.sync_all()?;
            fs::rename(draft, &path)
        };
        write().map_err(|source| OpenError::Folder { path: path.clone(), source })?;
        path.canonicalize().map_err(|source| OpenError::Folder { path: path.clone(), source })
    }
}

/// Decides what a folder is.
fn entry(folder: &Path, id: &ContainerId) -> Entry {
    let fault = match read_record(folder) {
        Ok(found) if found.spec.id == *id => return Entry::Whole(Box::new(found)),
        Ok(_) => return Entry::Broken("holds the record of another container".to_owned()),
        Err(fault) => fault,
    };
    // Looked for by these names; where that fails it is taken to have run.
    let ran = [START, EXIT, FAILED].iter().any(|name| folder.join(name).try_exists().unwrap_or(true));
    match &fault {
        RecordFault::Io(error) if error.kind() != io::ErrorKind::NotFound => Entry::Unreadable(fault),
        RecordFault::Content(RecordError::Version(version)) if *version > ContainerRecord::VERSION => {
            Entry::Unreadable(fault)
        }
        RecordFault::Content(RecordError::Json(error)) if !ran && !error.is_data() => Entry::Torn(fault),
        RecordFault::Io(_) if !ran => Entry::Torn(fault),
        RecordFault::Io(_) | RecordFault::Content(_) => {
            Entry::Broken(format!("has no record that can be read ({fault})"))
        }
    }
}

fn list(path: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let fail = |source| OpenError::Folder { path: path.to_owned(), source };
    fs::read_dir(path).map_err(fail)?.map(|e| Ok(e.map_err(fail)?.path())).collect()
}

fn clear(path: &Path, why: &str) -> Warning {
    let outcome =
        fs::remove_dir_all(path).map_or_else(|e| format!("could not be removed: {e}"), |()| "was removed".to_owned());
    Warning(format!("{} {why} and {outcome}", path.display()))
}

fn left(path: &Path, why: &str) -> Warning {
    Warning(format!("{} {why} and was left alone", path.display()))
}

pub(super) fn read_record(folder: &Path) -> Result<Found, RecordFault> {
    let record = ContainerRecord::parse(&fs::read(folder.join(CONTAINER))?)?;
    let stop_signal = record.image_defaults.stop_signal.as_deref().and_then(Signal::parse);
    Ok(Found { spec: record.spec.to_model()?, stop_signal, attached: read_network(folder)? })
}

/// One that was cut off while it was written is none: nobody was told of that start.
fn read_network(folder: &Path) -> Result<Attached, RecordFault> {
    let json = match fs::read(folder.join(NETWORK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Attached::default()),
        read => read?,
    };
    match network::parse(&json) {
        Err(RecordError::Version(version)) => Err(RecordError::Version(version).into()),
        parsed => Ok(parsed.unwrap_or_default()),
    }
}

fn write_synced(path: &Path, record: &impl Serialize) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
