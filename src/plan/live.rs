//! What a container is given as it is: its resources, labels, restart policy, stop settings and pull policy. A change of them makes
//! no other container.
//!
//! Only what a container's record holds is compared: a difference that an update does not end would be one for ever.

use std::ops::ControlFlow;

use super::{Blocked, Planner, WaitingOn};
use crate::model::{Action, ContainerSpec, ObservedContainer, Service, Settings, Slot};

/// Gives the container what the file says by now. It goes on with what else is to be done where there is nothing to give, or where
/// giving it failed and is tried again later: that never stands in the way of a start.
pub(super) fn update(
    planner: &mut Planner<'_>,
    slot: &Slot,
    container: &ObservedContainer,
    service: &Service,
) -> ControlFlow<(), Option<Blocked>> {
    let made = &container.spec.service;
    if Settings::same(made, service) {
        return ControlFlow::Continue(None);
    }
    let changed = Settings::of(made).changes_to(&Settings::of(service));
    let spec = Box::new(ContainerSpec { service: recorded(service), ..container.spec.clone() });
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
fn recorded(service: &Service) -> Service {
    Service { holds: Vec::new(), wishes: Vec::new(), loosenings: Vec::new(), ..service.clone() }
}
