//! What a container is, by its records and by who is alive.

use std::io;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::cgroup::Cgroups;
use super::disk::Folders;
use super::link::{EXIT, ExitRecord, FAILED, FailedRecord, START, StartRecord};
use super::process::Process;
use super::{Inner, now};
use crate::model::{BootId, ContainerId, ContainerState, ExitStatus, Timestamp};

/// A container whose shim was killed is killed by the kernel at the same time; it takes a moment.
const DYING: Duration = Duration::from_millis(500);

/// The state now. An error where a record is there and cannot be read: who is alive is then unknown.
pub(super) fn look(inner: &Inner, id: &ContainerId) -> io::Result<ContainerState> {
    let Some(start) = read::<StartRecord>(inner, id, START)? else {
        if let Some(exit) = read(inner, id, EXIT)? {
            return Ok(exited(&exit));
        }
        let failed: Option<FailedRecord> = read(inner, id, FAILED)?;
        return Ok(failed.map_or(ContainerState::Created, |failed| ContainerState::StartFailed {
            error: failed.error,
            at: Timestamp::from_millis(failed.at_ms),
        }));
    };
    let exit = || -> io::Result<Option<ExitRecord>> {
        Ok(read(inner, id, EXIT)?.filter(|exit: &ExitRecord| exit.started_ns == start.started_ns))
    };
    if let Some(exit) = exit()? {
        return Ok(exited(&exit));
    }
    let same_boot = BootId(start.boot_id.clone()) == inner.settings.boot_id;
    // One that cannot be looked at is taken to be alive: a second one beside it would do more harm than a late notice.
    if same_boot && !matches!(Process::open(start.shim.into()), Ok(None)) {
        return Ok(ContainerState::Running {
            init: start.init.into(),
            shim: start.shim.into(),
            since: start.started(),
        });
    }
    // It may have written its record between our first look and its end.
    if let Some(exit) = exit()? {
        return Ok(exited(&exit));
    }
    let started = start.started();
    if same_boot && inner.cgroups.populated(id) {
        return Ok(ContainerState::Orphaned { started });
    }
    let status = if same_boot { ExitStatus::ShimLost } else { ExitStatus::MachineStopped };
    Ok(ContainerState::Exited { status, started, at: now() })
}

/// Whether anything of a container runs whose record may be of no use; when in doubt it does. Its cgroup may be below a parent that
/// only the record knew: so its shim is asked for, too.
pub(super) fn runs(cgroups: &Cgroups, folders: &Folders, boot: &BootId, id: &ContainerId) -> bool {
    let record = || folders.read(id, START).ok().flatten();
    let start = || record().and_then(|json| serde_json::from_slice::<StartRecord>(&json).ok());
    let shim = |start: StartRecord| start.boot_id == boot.0 && !matches!(Process::open(start.shim.into()), Ok(None));
    cgroups.populated(id) || start().is_some_and(shim)
}

/// A record; one that is there and means nothing is none, it was cut off while it was written.
fn read<T: DeserializeOwned>(inner: &Inner, id: &ContainerId, name: &str) -> io::Result<Option<T>> {
    Ok(inner.folders.read(id, name)?.and_then(|json| serde_json::from_slice(&json).ok()))
}

/// The state once its shim has ended. One that dies with its shim is not called an orphan.
pub(super) fn look_when_ended(inner: &Inner, id: &ContainerId) -> io::Result<ContainerState> {
    let until = Instant::now() + DYING;
    loop {
        match look(inner, id) {
            Ok(ContainerState::Orphaned { .. }) | Err(_) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            state => return state,
        }
    }
}

fn exited(exit: &ExitRecord) -> ContainerState {
    let started = Timestamp::from_millis(exit.started_ns / 1_000_000);
    ContainerState::Exited { status: exit.status(), started, at: exit.at() }
}
