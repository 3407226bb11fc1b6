//! The containers of a data directory, without taking them over: reads only, for a plan without a daemon.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::disk::read_record;
use super::link::{EXIT, ExitRecord, START, StartRecord};
use super::process::Process;
use crate::model::{ContainerId, ContainerState, ObservedContainer};

/// What the records say, and whose shim is alive.
pub fn peek(data_dir: &Path) -> io::Result<BTreeMap<ContainerId, ObservedContainer>> {
    let mut containers = BTreeMap::new();
    let folders = match std::fs::read_dir(data_dir.join("containers")) {
        Ok(folders) => folders,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(containers),
        Err(error) => return Err(error),
    };
    for folder in folders {
        let folder = folder?.path();
        if let Ok(found) = read_record(&folder) {
            let state = state(&folder);
            containers.insert(found.spec.id.clone(), ObservedContainer { spec: found.spec, state });
        }
    }
    Ok(containers)
}

fn state(folder: &Path) -> ContainerState {
    let Some(start) = read::<StartRecord>(folder, START) else { return ContainerState::Created };
    if let Some(exit) = read::<ExitRecord>(folder, EXIT).filter(|exit| exit.started_ns == start.started_ns) {
        return ContainerState::Exited { status: exit.status(), started: start.started(), at: exit.at() };
    }
    match Process::open(start.shim.into()) {
        Some(_) => ContainerState::Running { init: start.init.into(), shim: start.shim.into(), since: start.started() },
        None => ContainerState::Orphaned { started: start.started() },
    }
}

fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&std::fs::read(folder.join(name)).ok()?).ok()
}
