//! What a container is given as it is: its resources, labels, restart policy, stop settings and pull policy, and what those of its configs
//! and secrets hold that are swapped. A change of them makes no other container.
//!
//! Only what a container's record holds is compared: a difference that an update does not end would be one for ever.

use std::ops::ControlFlow;

use super::{Blocked, Planner, WaitingOn, files};
use crate::model::{Action, ContainerSpec, MountedFile, ObservedContainer, Service, Settings, Slot};

/// Gives the container what the file says by now. It goes on with what else is to be done where there is nothing to give, or where
/// giving it failed and is tried again later: that never stands in the way of a start.
pub(super) fn update(
    planner: &mut Planner<'_>,
    slot: &Slot,
    container: &ObservedContainer,
    service: &Service,
) -> ControlFlow<(), Option<Blocked>> {
    let made = &container.spec.service;
    let asked = files::live(container, service);
    if Settings::same(made, service) && same_files(&made.files, &asked) {
        return ControlFlow::Continue(None);
    }
    let mut changed = Settings::of(made).changes_to(&Settings::of(service));
    changed.extend(asked.iter().filter(|file| !made.files.iter().any(|made| same_file(made, file))).map(|file| {
        let settled = made.files.iter().any(|made| made.target == file.target && made.fingerprint == file.fingerprint);
        format!("{} {}", file.title(), if settled { "is defined otherwise" } else { "changed" })
    }));
    let spec = Box::new(ContainerSpec { service: recorded(service, asked), ..container.spec.clone() });
    match planner.attempt(Some(slot), Action::Update { spec }, changed.join(", ")) {
        Ok(()) => ControlFlow::Break(()),
        Err(blocked) if matches!(blocked.0, WaitingOn::Retry { .. }) => ControlFlow::Continue(Some(blocked)),
        Err(blocked) => {
            planner.wait(slot, blocked.0, blocked.1);
            ControlFlow::Break(())
        }
    }
}

/// What is only told of a service is no part of a container.
fn recorded(service: &Service, files: Vec<MountedFile>) -> Service {
    Service {
        suspended: false,
        holds: Vec::new(),
        wishes: Vec::new(),
        loosenings: Vec::new(),
        files,
        ..service.clone()
    }
}

fn same_files(made: &[MountedFile], asked: &[MountedFile]) -> bool {
    made.len() == asked.len() && made.iter().zip(asked).all(|(made, asked)| same_file(made, asked))
}

/// By all that a record holds.
fn same_file(made: &MountedFile, asked: &MountedFile) -> bool {
    let of = |file: &MountedFile| (file.on_change, file.fingerprint.clone());
    made.target == asked.target && made.name == asked.name && of(made) == of(asked)
}
