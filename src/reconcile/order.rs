//! What is said of a service that waits for another one.

use super::reconciler::Reconciler;
use super::view::Phase;
use crate::model::{Condition, Dependency, Health};
use crate::plan::{Lacking, WaitingOn};

/// Whether it changes by itself, and nothing else says so.
pub(super) const fn goes_on(why: Lacking) -> bool {
    match why {
        Lacking::Health(Health::Starting | Health::Healthy) | Lacking::End => true,
        // What it waits for waits itself, or is under way.
        Lacking::Start
        | Lacking::StartFailed
        | Lacking::Unknown
        | Lacking::Held
        | Lacking::NotChosen
        | Lacking::Stopped(_)
        | Lacking::Paused
        | Lacking::Health(Health::Unhealthy)
        | Lacking::Check
        | Lacking::Time
        | Lacking::Success(_) => false,
    }
}

pub(super) const fn phase(why: Lacking) -> Phase {
    match why {
        Lacking::Unknown
        | Lacking::Held
        | Lacking::Check
        | Lacking::NotChosen
        | Lacking::Stopped(_)
        | Lacking::Paused => Phase::Held,
        Lacking::StartFailed | Lacking::Success(_) | Lacking::Health(Health::Unhealthy) => Phase::Failing,
        Lacking::Start | Lacking::Health(Health::Starting | Health::Healthy) | Lacking::End | Lacking::Time => {
            Phase::Applying
        }
    }
}

impl Reconciler {
    /// In words, with what the other one waits for in turn.
    pub(super) fn dependency_reason(&self, of: &Dependency, why: Lacking) -> String {
        let first = words(of, why);
        let on = |wait: &&crate::plan::Wait| wait.slot.project == of.project && wait.slot.service == of.service;
        let next = self.plan.waiting.iter().find(on).map(|wait| match &wait.on {
            WaitingOn::Dependency { of, why } => words(of, *why),
            other => self.wait_reason(other),
        });
        match (why, next) {
            (Lacking::Start | Lacking::StartFailed, Some(next)) => format!("{first}; that one waits: {next}"),
            _ => first,
        }
    }
}

fn words(of: &Dependency, why: Lacking) -> String {
    let name = format!("{}/{}", of.project, of.service);
    let far = match of.condition {
        Condition::Started => "started",
        Condition::Healthy => "healthy",
        Condition::Completed => "completed",
    };
    let first = format!("{name} has to be {far} first");
    match why {
        Lacking::Unknown => format!("{first}, and no state file defines it"),
        Lacking::Held => format!("{first}, and it is held: see its problems"),
        Lacking::NotChosen => format!("{first}, and none of its profiles is chosen"),
        Lacking::Stopped(by) => format!("{first}, and {}", by.reason()),
        Lacking::Paused => format!("{first}, and it is paused by hand"),
        Lacking::Start => format!("{first}, and it is not started yet"),
        Lacking::StartFailed => format!("{first}, and it could not be started"),
        Lacking::Health(Health::Unhealthy) => format!("{first}, and it is unhealthy"),
        Lacking::Health(Health::Starting | Health::Healthy) => {
            format!("{first}, and its health check has not passed yet")
        }
        Lacking::Check => {
            format!("{first}, and nothing checks its health; give it a `healthcheck`, or wait for `service_started`")
        }
        Lacking::End => format!("{first}, and it has not ended yet"),
        Lacking::Time => format!("{first}, and it has not run yet: it runs at set times"),
        Lacking::Success(status) => format!("{first}, and it ended with {status} and stays so"),
    }
}
