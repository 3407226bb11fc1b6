//! The rules for configs and secrets: with what a container is started, and what is done when one that runs has another content by now.
//!
//! What a container is known by holds their places and owners, and the content where a changed one makes another container. Their contents
//! are in the state files alone: what a container was started with cannot be given again once its file says something else.

use super::{Planner, WaitingOn};
use crate::model::{ContainerSpec, ContainerState, MountedFile, ObservedContainer, OnChange, Service};

/// What a container is started with: its files, with what the state file says they hold by now.
pub(super) fn given(planner: &Planner<'_>, spec: &ContainerSpec) -> Result<Vec<MountedFile>, WaitingOn> {
    let project = planner.facts.desired.projects.get(&spec.slot.project);
    let defined = project.and_then(|project| project.services.get(&spec.slot.service));
    let one = |file: &MountedFile| {
        let same = |other: &&MountedFile| other.target == file.target && other.content.is_some();
        let Some(found) = defined.into_iter().flat_map(|service| &service.files).find(same) else {
            return Err(WaitingOn::Content { kind: file.kind, name: file.name.clone() });
        };
        // As it was made, but for what may change on a container as it is.
        Ok(MountedFile {
            name: found.name.clone(),
            on_change: found.on_change,
            fingerprint: found.fingerprint.clone(),
            content: found.content.clone(),
            ..file.clone()
        })
    };
    spec.service.files.iter().map(one).collect()
}

/// Why a container is started again, and stopped before where it runs: one of its files has another content, and is not to be swapped.
/// One that has ended is started too, as another container would be.
pub(super) fn restarts(container: &ObservedContainer, service: &Service) -> Option<String> {
    if !matches!(container.state, ContainerState::Running { .. } | ContainerState::Exited { .. }) {
        return None;
    }
    let made = &container.spec.service.files;
    let changed = service.files.iter().find(|file| !swapped(file.on_change) && content_changed(made, file));
    changed.map(|file| format!("{} changed", file.title()))
}

/// What a container's files are to be while it goes on as it is.
pub(super) fn live(container: &ObservedContainer, service: &Service) -> Vec<MountedFile> {
    let made = &container.spec.service.files;
    let running = matches!(container.state, ContainerState::Running { .. });
    let one = |file: &MountedFile| match made.iter().find(|made| made.target == file.target) {
        // What it holds is given with the next start.
        Some(made) if !running || !swapped(file.on_change) => {
            MountedFile { fingerprint: made.fingerprint.clone(), ..file.without_content() }
        }
        Some(_) | None => file.clone(),
    };
    service.files.iter().map(one).collect()
}

const fn swapped(on_change: OnChange) -> bool {
    matches!(on_change, OnChange::Signal(_) | OnChange::Update)
}

fn content_changed(made: &[MountedFile], file: &MountedFile) -> bool {
    made.iter().any(|made| made.target == file.target && made.fingerprint != file.fingerprint)
}
