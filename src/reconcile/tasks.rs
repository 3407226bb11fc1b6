//! One-offs: what somebody asks for once, and how far it is.

use super::reconciler::Reconciler;
use super::view::TaskView;
use crate::model::{
    Action, ContainerId, ContainerName, ContainerState, ProjectName, ServiceName, Slot, TASK_NUMBER, Task, TaskAsk,
};
use crate::plan::{AskedTask, MOST_TASKS};

/// Of ten thousand tokens one is free soon.
const ATTEMPTS: u32 = 64;

impl Reconciler {
    /// Somebody asks for a one-off container of a service. It is made with the next steps.
    pub fn run_task(
        &mut self,
        project: &ProjectName,
        service: &ServiceName,
        ask: &TaskAsk,
    ) -> Result<(ContainerId, ContainerName), String> {
        let by_file = self.desired.projects.get(project).and_then(|p| p.services.get(service));
        let Some(by_file) = by_file else {
            return Err(format!("{project}/{service} is not in force; `longshore status` lists the services that are"));
        };
        if let Some(problem) = self.holds_of(project, by_file).first() {
            return Err(format!("{project}/{service} is held, and so is what is run of it: {problem}"));
        }
        if self.memory.tasks.values().filter(|asked| asked.over.is_none()).count() >= MOST_TASKS {
            return Err(format!("{MOST_TASKS} one-off containers are under way, no more are at the same time"));
        }
        let slot = Slot { project: project.clone(), service: service.clone(), number: TASK_NUMBER };
        let at = self.observed.wall;
        let tokens = (0..ATTEMPTS).map(|attempt| Task { token: Task::token(&slot, at, attempt), keep: ask.keep });
        let named = tokens.filter_map(|task| task.name(&slot).map(|name| (task, name)));
        let mut free = named.filter(|(_, name)| !self.is_taken(name));
        let Some((task, name)) = free.next() else {
            return Err(format!("no name is left for a one-off container of {project}/{service}"));
        };
        drop(free);
        let id = ContainerId::of_task(&slot, &task, at);
        let asked = AskedTask {
            name: name.clone(),
            slot,
            service: by_file.once(ask),
            task,
            detached: ask.detach,
            begun: false,
            status: None,
            failed: None,
            over: None,
            dismissed: false,
            read: false,
        };
        self.memory.tasks.insert(id.clone(), asked);
        Ok((id, name))
    }

    fn is_taken(&self, name: &ContainerName) -> bool {
        self.observed.containers.values().any(|c| c.spec.name == *name)
            || self.memory.tasks.values().any(|asked| asked.name == *name)
    }

    /// Whoever asked knows all about it, or wants no more of it: it is ended where it runs, and removed. By name or id.
    pub fn end_task(&mut self, name: &str) -> Result<(), String> {
        let is_it = |id: &ContainerId, own: &ContainerName| id.as_str() == name || own.as_str() == name;
        let asked = self.memory.tasks.iter_mut().find(|(id, asked)| is_it(id, &asked.name));
        let known = asked.is_some();
        if let Some((_, asked)) = asked {
            asked.dismissed = true;
            asked.read = asked.over.is_some();
        }
        let mut all = self.observed.containers.values().filter(|c| c.spec.purpose.task().is_some());
        match all.find(|c| is_it(&c.spec.id, &c.spec.name)) {
            Some(container) => drop(self.memory.discarded.insert(container.spec.id.clone())),
            None if known => {}
            None => return Err(format!("no container of `longshore run` is called {name:?}")),
        }
        Ok(())
    }

    /// What could not be made or started for a one-off is not tried again.
    pub(super) fn note_failed_task(&mut self, action: &Action, error: &str) {
        if let Action::Create { spec } | Action::Start { spec, .. } = action {
            self.memory.fail_task(&spec.id, error);
        }
    }

    pub(super) fn task_views(&self) -> Vec<TaskView> {
        self.memory.tasks.iter().map(|(id, asked)| self.task_view(id, asked)).collect()
    }

    fn task_view(&self, id: &ContainerId, asked: &AskedTask) -> TaskView {
        let state = self.observed.containers.get(id).map(|c| &c.state);
        let alive = state.is_some_and(ContainerState::alive);
        let waits = self.plan.waiting.iter().find(|wait| wait.slot == asked.slot);
        let waits = waits.filter(|_| !asked.begun && asked.over.is_none());
        TaskView {
            id: id.clone(),
            name: asked.name.clone(),
            waiting: waits.map(|wait| self.wait_reason(&wait.on)),
            running: alive,
            status: asked.status,
            failed: asked.failed.clone(),
            over: asked.over.is_some(),
        }
    }
}
