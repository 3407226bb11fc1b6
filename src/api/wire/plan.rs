//! What is being done, and what is still to be done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PlannedPorts, PublishedPort, Time};
use crate::reconcile::view::{StepView, View, WaitView};

/// What stands between the machine and the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The revision of the status this was made from.
    pub revision: u64,
    /// Whether nothing is left to do.
    pub settled: bool,
    /// How much of what.
    pub counts: Counts,
    /// Actions under way.
    pub under_way: Vec<Step>,
    /// What is not yet as it should be, and what it waits for.
    pub waiting: Vec<Wait>,
    /// What services that do not all run yet will publish.
    #[serde(default)]
    pub ports: Vec<PlannedPorts>,
}

/// The plan in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Images being pulled.
    pub pull: usize,
    /// Containers being made.
    pub create: usize,
    /// Containers being started.
    pub start: usize,
    /// Containers being stopped.
    pub stop: usize,
    /// Containers being removed.
    pub remove: usize,
    /// Networks being made, put right or removed.
    #[serde(default)]
    pub networks: usize,
    /// Everything that waits.
    pub waiting: usize,
}

impl Counts {
    fn of(view: &View) -> Self {
        let verb = |verb: &str| view.under_way.iter().filter(|s| s.verb == verb).count();
        Self {
            pull: verb("pull"),
            create: verb("create"),
            start: verb("start"),
            stop: verb("stop"),
            remove: verb("remove"),
            networks: verb("make network") + verb("remove network"),
            waiting: view.waiting.len(),
        }
    }
}

/// An action under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// `pull`, `create`, `start`, `stop`, `remove`, `make network`, …
    pub verb: String,
    /// What it is about.
    pub what: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Time,
}

/// Something that is not yet as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wait {
    /// What waits.
    pub what: String,
    /// For what.
    pub reason: String,
    /// Since when.
    pub since: Time,
    /// When it is looked at again by itself.
    pub until: Option<Time>,
}

impl From<&View> for Plan {
    fn from(view: &View) -> Self {
        Self {
            revision: view.revision,
            settled: view.settled,
            counts: Counts::of(view),
            under_way: view.under_way.iter().map(Step::from).collect(),
            waiting: view.waiting.iter().map(Wait::from).collect(),
            ports: planned_ports(view),
        }
    }
}

fn planned_ports(view: &View) -> Vec<PlannedPorts> {
    let services = view.projects.iter().flat_map(|project| project.services.iter().map(|s| (&project.name, s)));
    let coming = services.filter(|(_, s)| s.running < s.wanted && s.holds.is_empty() && !s.ports.is_empty());
    coming
        .map(|(project, s)| PlannedPorts {
            service: format!("{project}/{}", s.name),
            ports: s.ports.iter().map(PublishedPort::from).collect(),
        })
        .collect()
}

impl From<&StepView> for Step {
    fn from(view: &StepView) -> Self {
        Self {
            verb: view.verb.to_owned(),
            what: view.what.clone(),
            reason: view.reason.clone(),
            since: view.since.into(),
        }
    }
}

impl From<&WaitView> for Wait {
    fn from(view: &WaitView) -> Self {
        Self {
            what: view.what.clone(),
            reason: view.reason.clone(),
            since: view.since.into(),
            until: view.until.map(Time::from),
        }
    }
}
