//! One-off containers of a service: what somebody asks for by `longshore run`, and no file.

use super::hash::hex_sha256;
use super::{ContainerId, ContainerName, EnvVar, Hooks, NetworkMode, RestartPolicy, Service, Slot, Timestamp};

/// The number of the place that all one-off containers of a service have: it is no replica's.
pub const TASK_NUMBER: u32 = 0;

/// What makes a container a one-off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// What tells it from others of its service: the end of its name.
    pub token: String,
    /// Whether it stays once it has ended.
    pub keep: bool,
}

/// What is asked for, over what the service's file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskAsk {
    /// Replaces the command; empty: the service's.
    pub command: Vec<String>,
    /// Replaces the entrypoint; then the command is only what is given here.
    pub entrypoint: Option<String>,
    /// Over the service's variables.
    pub environment: Vec<EnvVar>,
    /// Replaces the user.
    pub user: Option<String>,
    /// Replaces the working directory; absolute.
    pub working_dir: Option<String>,
    /// Whether it stays once it has ended.
    pub keep: bool,
    /// Whether nobody waits for its end.
    pub detach: bool,
}

impl Task {
    /// A token of four digits; `attempt` gives another one where that is taken.
    #[must_use]
    pub fn token(slot: &Slot, at: Timestamp, attempt: u32) -> String {
        let (project, service) = (slot.project.as_str().as_bytes(), slot.service.as_str().as_bytes());
        let hex = hex_sha256(&[b"task", project, service, &at.millis().to_be_bytes(), &attempt.to_be_bytes()]);
        hex[..4].to_owned()
    }

    /// Its name; none where that would be too long.
    #[must_use]
    pub fn name(&self, slot: &Slot) -> Option<ContainerName> {
        ContainerName::parse(&format!("{}-{}-run-{}", slot.project, slot.service, self.token)).ok()
    }
}

impl ContainerId {
    /// The id of a one-off container that was asked for then.
    #[must_use]
    pub fn of_task(slot: &Slot, task: &Task, at: Timestamp) -> Self {
        let (project, service) = (slot.project.as_str().as_bytes(), slot.service.as_str().as_bytes());
        Self::hashed(&[b"task", project, service, task.token.as_bytes(), &at.millis().to_be_bytes()])
    }
}

impl Service {
    /// The service as a one-off container has it: on the same networks and volumes, but with no place there that others might want (no
    /// ports, no fixed address, no further name), and never started again.
    #[must_use]
    pub fn once(&self, ask: &TaskAsk) -> Self {
        let mut service = self.clone();
        service.container_name = None;
        service.schedule = None;
        service.hooks = Hooks::default();
        service.restart = RestartPolicy::No;
        let process = &mut service.process;
        (process.tty, process.stdin_open) = (false, false);
        if let Some(entrypoint) = &ask.entrypoint {
            process.entrypoint = Some(vec![entrypoint.clone()]);
            process.command = None;
        }
        if !ask.command.is_empty() {
            process.command = Some(ask.command.clone());
        }
        for variable in &ask.environment {
            process.environment.retain(|old| old.name != variable.name);
            process.environment.push(variable.clone());
        }
        process.user = ask.user.clone().or_else(|| process.user.take());
        process.working_dir = ask.working_dir.clone().or_else(|| process.working_dir.take());
        if let NetworkMode::Networks(membership) = &mut service.network {
            membership.ports.clear();
            for join in &mut membership.joins {
                join.aliases.clear();
                join.link_local.clear();
                (join.ipv4, join.ipv6, join.mac) = (None, None, None);
            }
        }
        service
    }
}
