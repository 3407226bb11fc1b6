//! The output of containers that are gone: moved away when one is removed, so that it can be asked why it went.
//!
//! ```text
//! DATA/logs/PROJECT/SERVICE/NUMBER/SEQUENCE-ID/   name  log  log.1 …      the highest sequence is the container before
//! ```
//! A removal that was cut off is finished at the next start, and its output is kept then. Bounded for each slot by how many, and in
//! all by bytes: the oldest go first. What cannot be kept is not worth holding up a removal for.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;

use super::disk::read_record;
use super::link::LOGS;
use super::{Containers, walk};
use crate::model::{ContainerSpec, Slot};

/// What is kept at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptLogLimits {
    /// Containers of one slot.
    pub containers: u32,
    /// Bytes in all.
    pub bytes: u64,
}

impl Default for KeptLogLimits {
    fn default() -> Self {
        Self { containers: 3, bytes: 256 << 20 }
    }
}

/// The output of one container that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLog {
    /// What the container was called.
    pub name: String,
    /// Of which project, service and replica.
    pub of: (String, String, u32),
    /// Where it lies.
    pub folder: PathBuf,
    /// How long ago it was kept tells the order.
    pub sequence: u64,
}

/// The folder.
pub(super) struct KeptLogs {
    dir: PathBuf,
    limits: KeptLogLimits,
    /// Bytes that are there, once they were counted. Held while something is kept or removed.
    total: Mutex<Option<u64>>,
}

const NAME: &str = "name";

impl KeptLogs {
    pub(super) fn new(data: &Path, limits: KeptLogLimits) -> Self {
        Self { dir: data.join("logs"), limits, total: Mutex::new(None) }
    }

    /// Keeps the output of a container whose folder this is, and which is about to be deleted.
    pub(super) fn keep(&self, folder: &Path) {
        let Ok(found) = read_record(folder) else { return };
        if let Err(error) = self.try_keep(folder, &found.spec) {
            tracing::warn!(container = %found.spec.name, %error, "its output is not kept");
        }
    }

    fn try_keep(&self, folder: &Path, spec: &ContainerSpec) -> io::Result<()> {
        let logs = folder.join(LOGS);
        // Kept already, by a removal that was cut off.
        let entries = match fs::read_dir(&logs) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let said = entries.flatten().any(|entry| entry.metadata().is_ok_and(|meta| meta.len() > 0));
        if self.limits.containers == 0 || !said {
            return Ok(());
        }
        let mut total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
        let Slot { project, service, number } = &spec.slot;
        let slot = self.dir.join(project.as_str()).join(service.as_str()).join(number.to_string());
        DirBuilder::new().recursive(true).mode(0o700).create(&slot)?;
        let before = list(&slot);
        let next = before.last().map_or(1, |last| last.0 + 1);
        // On a full disk the output is worth more than the name, which the slot tells too.
        if let Err(error) = fs::write(logs.join(NAME), spec.name.as_str()) {
            tracing::debug!(%error, "whose output it was is not noted");
        }
        let bytes = walk::bytes(&logs);
        fs::rename(&logs, slot.join(format!("{next:010}-{}", spec.id)))?;
        let mut sum = total.unwrap_or_else(|| walk::bytes(&self.dir).saturating_sub(bytes)) + bytes;
        let most = usize::try_from(self.limits.containers).unwrap_or(usize::MAX);
        for (_, path) in before.iter().take((before.len() + 1).saturating_sub(most)) {
            sum = sum.saturating_sub(remove(path));
        }
        if sum > self.limits.bytes {
            sum = self.shrink();
        }
        *total = Some(sum);
        Ok(())
    }

    /// Removes the oldest, wherever they are, until no more bytes are left than may be. Gives what is left.
    fn shrink(&self) -> u64 {
        let mut all: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
        for log in self.all() {
            let changed = fs::metadata(&log.folder).and_then(|meta| meta.modified());
            all.push((changed.unwrap_or(std::time::SystemTime::UNIX_EPOCH), log.folder));
        }
        all.sort();
        let mut sum = walk::bytes(&self.dir);
        for (_, folder) in all {
            if sum <= self.limits.bytes {
                break;
            }
            sum = sum.saturating_sub(remove(&folder));
        }
        sum
    }

    /// Everything that is kept.
    fn all(&self) -> Vec<KeptLog> {
        let mut all = Vec::new();
        for project in names(&self.dir) {
            for service in names(&self.dir.join(&project)) {
                all.extend(self.of(&project, &service));
            }
        }
        all
    }

    fn of(&self, project: &str, service: &str) -> Vec<KeptLog> {
        let folder = self.dir.join(project).join(service);
        let mut all = Vec::new();
        for number in names(&folder) {
            let Ok(replica) = number.parse() else { continue };
            for (sequence, folder) in list(&folder.join(number)) {
                let name =
                    fs::read_to_string(folder.join(NAME)).unwrap_or_else(|_| format!("{project}-{service}-{replica}"));
                all.push(KeptLog { name, of: (project.to_owned(), service.to_owned(), replica), folder, sequence });
            }
        }
        all.sort_by_key(|log| (log.of.2, log.sequence));
        all
    }

    fn forget(&self, project: &str, service: &str) {
        let mut total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = remove(&self.dir.join(project).join(service));
        *total = total.map(|sum| sum.saturating_sub(gone));
        // It stays where another service of the project has something in it.
        let _ = fs::remove_dir(self.dir.join(project));
    }
}

impl Containers {
    /// The output of the container that was last in the slot before the present one; of all slots of a service without a number.
    #[must_use]
    pub fn previous_logs(&self, project: &str, service: &str, number: Option<u32>) -> Vec<KeptLog> {
        let mut last: Vec<KeptLog> = Vec::new();
        for log in self.0.folders.kept.of(project, service) {
            if number.is_some_and(|number| number != log.of.2) {
                continue;
            }
            last.retain(|other| other.of != log.of);
            last.push(log);
        }
        last
    }

    /// All output that is kept of containers that are gone, with its bytes. Blocks.
    #[must_use]
    pub fn kept_logs(&self) -> Vec<(KeptLog, u64)> {
        let all = self.0.folders.kept.all();
        all.into_iter().map(|log| (walk::bytes(&log.folder), log)).map(|(bytes, log)| (log, bytes)).collect()
    }

    /// Forgets the output of a service that is gone for long. Blocks.
    pub fn forget_logs(&self, project: &str, service: &str) {
        self.0.folders.kept.forget(project, service);
    }
}

/// What is in a slot, the oldest first.
fn list(slot: &Path) -> Vec<(u64, PathBuf)> {
    let sequence = |name: &String| name.split_once('-').and_then(|(number, _)| number.parse().ok());
    let mut all: Vec<(u64, PathBuf)> =
        names(slot).into_iter().filter_map(|name| Some((sequence(&name)?, slot.join(name)))).collect();
    all.sort();
    all
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Removes it, and gives how many bytes that were.
fn remove(folder: &Path) -> u64 {
    let bytes = walk::bytes(folder);
    match fs::remove_dir_all(folder) {
        Ok(()) => bytes,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(folder = %folder.display(), %error, "output that is too old is not removed");
            }
            0
        }
    }
}
