//! The kinds of waits and of events.

use crate::model::Action;
use crate::plan::WaitingOn;

/// Waits of the same kind go on; a wait of another kind begins anew.
pub(super) fn wait_kind(on: &WaitingOn) -> String {
    match on {
        WaitingOn::Image(_) => "image",
        WaitingOn::Step(verb) => verb,
        WaitingOn::Predecessor(_) => "predecessor",
        WaitingOn::Retry { verb: "update", .. } => "retry of an update",
        WaitingOn::Retry { verb: "connect", .. } => "retry of a connect",
        WaitingOn::Retry { .. } => "retry",
        WaitingOn::Backoff { .. } => "backoff",
        WaitingOn::Turn => "turn",
        WaitingOn::Owner { .. } => "owner",
        WaitingOn::Held => "held",
        WaitingOn::Stopped(_) => "stopped",
        WaitingOn::Paused => "paused",
        WaitingOn::Refresh { .. } => "refresh",
        WaitingOn::Recreation { .. } => "recreation",
        WaitingOn::NeverPulled(_) => "never",
        WaitingOn::Network { .. } => "network",
        WaitingOn::NoNetwork(_) => "no network",
        WaitingOn::NetworkOf { .. } => "network of another",
        WaitingOn::FirstCheck => "first check",
        WaitingOn::Unhealthy { .. } => "health",
        WaitingOn::Mount { .. } => "mount",
        WaitingOn::Content { .. } => "content",
        WaitingOn::Dependency { .. } => "dependency",
        WaitingOn::Dependents { .. } => "dependents",
        WaitingOn::Time { .. } => "time",
    }
    .to_owned()
}

pub(super) const fn done_kind(action: &Action) -> &'static str {
    match action {
        Action::Pull { .. } => "image.pulled",
        Action::Create { .. } => "container.created",
        Action::Start { .. } => "container.started",
        Action::Update { .. } => "container.updated",
        Action::Stop { .. } => "container.stopped",
        Action::Pause { .. } => "container.paused",
        Action::Unpause { .. } => "container.unpaused",
        Action::Remove { .. } => "container.removed",
        Action::RemoveImage { .. } => "image.removed",
        Action::MakeNetwork { .. } => "network.made",
        Action::RemoveNetwork { .. } => "network.removed",
        Action::Connect { .. } => "container.connected",
        Action::HoldPorts { .. } => "container.ports_held",
        Action::HandOver { .. } => "container.ports_handed_over",
        Action::Guard => "firewall.restored",
    }
}

pub(super) const fn failed_kind(action: &Action) -> &'static str {
    match action {
        Action::Pull { .. } | Action::RemoveImage { .. } => "image.failed",
        Action::Create { .. }
        | Action::Start { .. }
        | Action::Update { .. }
        | Action::Connect { .. }
        | Action::HoldPorts { .. }
        | Action::HandOver { .. }
        | Action::Stop { .. }
        | Action::Pause { .. }
        | Action::Unpause { .. }
        | Action::Remove { .. } => "container.failed",
        Action::MakeNetwork { .. } | Action::RemoveNetwork { .. } => "network.failed",
        Action::Guard => "firewall.failed",
    }
}
