//! What a container is, by its records and by who is alive.

use std::time::{Duration, Instant};

use super::link::{EXIT, ExitRecord, FAILED, FailedRecord, START, StartRecord};
use super::process::Process;
use super::{Inner, now};
use crate::model::{BootId, ContainerId, ContainerState, ExitStatus, Timestamp};

/// A container whose shim was killed is killed by the kernel at the same time; it takes a moment.
const DYING: Duration = Duration::from_millis(500);

/// The state now.
pub(super) fn look(inner: &Inner, id: &ContainerId) -> ContainerState {
    let read = |name| inner.folders.read(id, name);
    let start: Option<StartRecord> = read(START).and_then(|json| serde_json::from_slice(&json).ok());
    let exit = || -> Option<ExitRecord> { serde_json::from_slice(&read(EXIT)?).ok() };
    let Some(start) = start else {
        if let Some(exit) = exit() {
            return exited(&exit);
        }
        let failed: Option<FailedRecord> = read(FAILED).and_then(|json| serde_json::from_slice(&json).ok());
        return failed.map_or(ContainerState::Created, |failed| ContainerState::StartFailed {
            error: failed.error,
            at: Timestamp::from_millis(failed.at_ms),
        });
    };
    let this_run = |exit: &ExitRecord| exit.started_ns == start.started_ns;
    if let Some(exit) = exit().filter(this_run) {
        return exited(&exit);
    }
    let same_boot = BootId(start.boot_id.clone()) == inner.settings.boot_id;
    // One that cannot be looked at is taken to be alive: a second one beside it would do more harm than a late notice.
    if same_boot && !matches!(Process::open(start.shim.into()), Ok(None)) {
        return ContainerState::Running { init: start.init.into(), shim: start.shim.into(), since: start.started() };
    }
    // It may have written its record between our first look and its end.
    if let Some(exit) = exit().filter(this_run) {
        return exited(&exit);
    }
    let started = start.started();
    if same_boot && inner.cgroups.populated(id) {
        return ContainerState::Orphaned { started };
    }
    let status = if same_boot { ExitStatus::ShimLost } else { ExitStatus::MachineStopped };
    ContainerState::Exited { status, started, at: now() }
}

/// The state once its shim has ended. One that dies with its shim is not called an orphan.
pub(super) fn look_when_ended(inner: &Inner, id: &ContainerId) -> ContainerState {
    let until = Instant::now() + DYING;
    loop {
        match look(inner, id) {
            ContainerState::Orphaned { .. } if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            state => return state,
        }
    }
}

fn exited(exit: &ExitRecord) -> ContainerState {
    let started = Timestamp::from_millis(exit.started_ns / 1_000_000);
    ContainerState::Exited { status: exit.status(), started, at: exit.at() }
}
