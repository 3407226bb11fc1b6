//! The rules for one-off containers: what somebody asked for once, and no file.
//!
//! ```text
//! asked ─▶ Create ─▶ Start ─▶ running ─▶ ended ─▶ whoever waits knows how ─▶ Remove        (kept: it stays)
//! ```
//! What was asked for is in memory only: where the daemon is killed before the start, whoever asked is told so by the connection that
//! breaks, and nothing is run. Once started, the container's own record says what it is: it is never started again, and removed when
//! it has ended, whatever is lost in between.

use super::slot::{container_spec, retire, start, supervise, surplus};
use super::{Desired, Memory, Observed, Planner, images};
use crate::model::{
    Action, ContainerId, ContainerName, ContainerSpec, ContainerState, ExitStatus, ImageReference, ObservedContainer,
    Purpose, RestartPolicy, Service, Slot, StopPolicy, Task, Timestamp,
};

/// Whoever waits has this long to read how it ended and what it said.
pub(super) const READ_MS: u64 = 60_000;
/// No more are under way at once.
pub const MOST_TASKS: usize = 256;

/// A one-off that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedTask {
    /// Its name.
    pub name: ContainerName,
    /// Its place.
    pub slot: Slot,
    /// What it is made of.
    pub service: Service,
    /// What tells it from others.
    pub task: Task,
    /// Whether nobody waits for its end.
    pub detached: bool,
    /// Whether its command ran.
    pub begun: bool,
    /// How it ended.
    pub status: Option<ExitStatus>,
    /// Why it was not run.
    pub failed: Option<String>,
    /// Since when it is over.
    pub over: Option<Timestamp>,
    /// Whether it is to end and to go.
    pub dismissed: bool,
    /// Whether whoever asked was told all about its end.
    pub read: bool,
}

impl Memory {
    /// Takes in how far one-offs are, and forgets those that nobody will ask about any more.
    pub fn notice_tasks(&mut self, desired: &Desired, observed: &Observed, now: Timestamp) {
        for (id, asked) in &mut self.tasks {
            let container = observed.containers.get(id);
            match container.map(|c| &c.state) {
                Some(ContainerState::Running { .. } | ContainerState::Orphaned { .. }) => asked.begun = true,
                Some(ContainerState::Exited { status, .. }) => {
                    asked.begun = true;
                    asked.status = Some(*status);
                }
                Some(ContainerState::Created | ContainerState::StartFailed { .. }) | None => {}
            }
            let known = desired.kept.contains(&asked.slot.project)
                || desired
                    .projects
                    .get(&asked.slot.project)
                    .is_some_and(|p| p.services.contains_key(&asked.slot.service));
            if !asked.begun && asked.failed.is_none() {
                let gone = (!known).then(|| "its service is no longer in the file".to_owned());
                asked.failed = gone.or_else(|| asked.dismissed.then(|| "it was called off".to_owned()));
            }
            let over = asked.failed.is_some() || asked.status.is_some() || (asked.begun && container.is_none());
            if over && asked.over.is_none() {
                asked.over = Some(now);
            }
        }
        self.tasks.retain(|id, asked| {
            let done = asked.over.is_some_and(|over| asked.read || now.since(over) >= READ_MS);
            !done || observed.containers.contains_key(id)
        });
        self.discarded.retain(|id| observed.containers.contains_key(id));
    }

    /// A one-off could not be made or started: that is not tried again.
    pub fn fail_task(&mut self, id: &ContainerId, error: &str) {
        if let Some(asked) = self.tasks.get_mut(id).filter(|asked| !asked.begun) {
            asked.failed.get_or_insert_with(|| error.to_owned());
        }
    }
}

pub(super) fn plan(planner: &mut Planner<'_>) {
    let facts = planner.facts;
    for container in facts.observed.containers.values() {
        if let Some(task) = container.spec.purpose.task() {
            look_after(planner, container, task);
        }
    }
    for (id, asked) in &facts.memory.tasks {
        if !asked.begun && asked.failed.is_none() && !facts.observed.containers.contains_key(id) {
            create(planner, id, asked);
        }
    }
    let over = facts.memory.tasks.values().filter_map(|asked| asked.over);
    if let Some(at) = over.map(|over| over.plus_ms(READ_MS)).filter(|at| *at > facts.now).min() {
        planner.plan.wake(at);
    }
}

fn create(planner: &mut Planner<'_>, id: &ContainerId, asked: &AskedTask) {
    let AskedTask { slot, service, .. } = asked;
    let Some(image) = &service.image else { return };
    let image: &ImageReference = image;
    let digest = images::resolved(planner, slot, service, image).cloned();
    let (Some(digest), Some(mounted)) = (digest, images::mounted(planner, slot, service)) else { return };
    let purpose = Purpose::Task(asked.task.clone());
    let made = container_spec(id.clone(), slot, service, image, &digest);
    let spec = Box::new(ContainerSpec { name: asked.name.clone(), mounted, purpose, ..made });
    planner.step(slot, Action::Create { spec }, "it was asked for once".to_owned());
}

fn look_after(planner: &mut Planner<'_>, container: &ObservedContainer, task: &Task) {
    let (id, slot) = (&container.spec.id, &container.spec.slot);
    if surplus(planner, slot) {
        return retire(planner, slot, container, "its service is no longer in the file");
    }
    let memory = planner.facts.memory;
    let asked = memory.tasks.get(id);
    let dismissed = memory.discarded.contains(id) || asked.is_some_and(|asked| asked.dismissed);
    match &container.state {
        ContainerState::Created | ContainerState::StartFailed { .. } => match asked {
            Some(asked) if asked.failed.is_none() && !asked.begun => {
                start(planner, slot, container, "it was asked for once".to_owned());
            }
            Some(_) | None => retire(planner, slot, container, "it was not started, and is not any more"),
        },
        ContainerState::Running { .. } if dismissed => {
            let StopPolicy { signal, grace_ms } = container.spec.service.stop;
            planner.step(slot, Action::Stop { id: id.clone(), signal, grace_ms }, "it was called off".to_owned());
        }
        ContainerState::Running { .. } | ContainerState::Orphaned { .. } => {
            supervise(planner, slot, container, RestartPolicy::No);
        }
        ContainerState::Exited { .. } => {
            let waited_for = asked.is_some_and(|asked| !asked.detached && waits(asked, planner.facts.now));
            if !waited_for && (dismissed || !task.keep) {
                retire(planner, slot, container, "it was asked for once, and has ended");
            }
        }
    }
}

/// Whether somebody may still read what it said.
fn waits(asked: &AskedTask, now: Timestamp) -> bool {
    !asked.read && asked.over.is_none_or(|over| now.since(over) < READ_MS)
}
