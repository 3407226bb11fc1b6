//! The containers of a data directory, without taking them over: reads only, for a plan without a daemon.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::disk::read_record;
use super::link::{EXIT, ExitRecord, START, StartRecord};
use super::now;
use super::process::Process;
use super::settings::this_boot;
use crate::model::{BootId, ContainerId, ContainerState, ExitStatus, ObservedContainer};

/// What the records say, and whose shim is alive.
pub fn peek(data_dir: &Path) -> io::Result<BTreeMap<ContainerId, ObservedContainer>> {
    let mut containers = BTreeMap::new();
    let folders = match std::fs::read_dir(data_dir.join("containers")) {
        Ok(folders) => folders,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(containers),
        Err(error) => return Err(error),
    };
    let boot = this_boot()?;
    for folder in folders {
        let folder = folder?.path();
        if let Ok(found) = read_record(&folder) {
            let state = state(&folder, &boot);
            containers.insert(found.spec.id.clone(), ObservedContainer { spec: found.spec, state });
        }
    }
    Ok(containers)
}

fn state(folder: &Path, boot: &BootId) -> ContainerState {
    let Some(start) = read::<StartRecord>(folder, START) else { return ContainerState::Created };
    if let Some(exit) = read::<ExitRecord>(folder, EXIT).filter(|exit| exit.started_ns == start.started_ns) {
        return ContainerState::Exited { status: exit.status(), started: start.started(), at: exit.at() };
    }
    let started = start.started();
    if start.boot_id != boot.0 {
        // The numbers of another boot mean nothing.
        return ContainerState::Exited { status: ExitStatus::MachineStopped, started, at: now() };
    }
    match Process::open(start.shim.into()) {
        Ok(None) => ContainerState::Orphaned { started },
        Ok(Some(_)) | Err(_) => {
            ContainerState::Running { init: start.init.into(), shim: start.shim.into(), since: started }
        }
    }
}

fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&std::fs::read(folder.join(name)).ok()?).ok()
}
