//! The whole status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByHand, Container, Image, Network, Problem, PublishedPort, SetAside, Step, Time, Wait};
use crate::reconcile::view::{self, FolderView, HeldView, ProjectView, ServiceView, View};

/// The whole status at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// When it was made.
    pub at: Time,
    /// Counts the changes of the status since the daemon was started.
    pub revision: u64,
    /// Whether the first look at the folder and the host is done and acted upon.
    pub ready: bool,
    /// Whether nothing is left to do: all is applied, and nothing waits but what a problem holds.
    pub settled: bool,
    /// The watched folder.
    pub folder: Folder,
    /// The database.
    pub store: Store,
    /// Projects by name.
    pub projects: Vec<Project>,
    /// Images that are here, being pulled, or not to be had.
    pub images: Vec<Image>,
    /// What is wrong with the state files, the folder, the configuration or the host; errors first.
    pub problems: Vec<Problem>,
    /// Actions under way.
    pub under_way: Vec<Step>,
    /// What is not yet as it should be, and what it waits for.
    pub waiting: Vec<Wait>,
    /// Unsafe or reduced modes that are in force, in words.
    pub loosenings: Vec<String>,
    /// What is to be known of the machine: a firewall of others that drops what is forwarded, say.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Networks by name.
    #[serde(default)]
    pub networks: Vec<Network>,
}

/// The watched folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Folder {
    /// Its path.
    pub path: String,
    /// Why the last good state is held instead of following the folder; null while it is followed.
    pub held: Option<Held>,
    /// How changes are noticed.
    pub watching: String,
}

/// Since when and why something is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// Why, and what to do.
    pub reason: String,
    /// Since when.
    pub since: Time,
    /// Whether a confirmation releases it.
    pub confirmable: bool,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Store {
    /// What happened to it at start, where something did.
    pub note: Option<String>,
}

/// A project's or service's state in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// As the file says, and on disk.
    Applied,
    /// On the way.
    Applying,
    /// Something fails and is tried again.
    Failing,
    /// Held by a problem that its owner must mend.
    Held,
    /// Its file is gone; what it made is being removed.
    Removing,
}

impl Phase {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Applying => "applying",
            Self::Failing => "failing",
            Self::Held => "held",
            Self::Removing => "removing",
        }
    }
}

/// One project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Its state file; null while it is being removed.
    pub file: Option<String>,
    /// Its phase: the worst of its services'.
    pub phase: Phase,
    /// Whether an older version of the file is in force because the present one cannot be used.
    pub last_good: bool,
    /// Its services by name.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its image in full.
    pub image: Option<String>,
    /// Its phase.
    pub phase: Phase,
    /// How many containers are wanted.
    pub wanted: u32,
    /// How many run.
    pub running: u32,
    /// What holds it.
    pub holds: Vec<Problem>,
    /// What in its file makes it less confined than the defaults.
    #[serde(default)]
    pub loosenings: Vec<Loosening>,
    /// What was asked of it by hand, over its file.
    #[serde(default)]
    pub by_hand: Option<ByHand>,
    /// What it waits for.
    pub waiting: Vec<Wait>,
    /// The ports that its file publishes.
    #[serde(default)]
    pub ports: Vec<PublishedPort>,
    /// Which generation is in force.
    #[serde(default)]
    pub generation: Option<u32>,
    /// What its file asks for and is not run.
    #[serde(default)]
    pub set_aside: Option<SetAside>,
    /// What there is to say of newer images.
    #[serde(default)]
    pub update: Option<String>,
    /// Its containers.
    pub containers: Vec<Container>,
}

/// A widening that a file asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Loosening {
    /// What it is, in a sentence.
    pub what: String,
    /// The key, as a dotted path.
    pub key: String,
    /// Where it is asked for: `file:line:column`.
    pub location: String,
}

impl From<&crate::model::Loosening> for Loosening {
    fn from(loosening: &crate::model::Loosening) -> Self {
        let crate::model::Loosening { what, key, location } = loosening;
        Self { what: what.clone(), key: key.clone(), location: location.to_string() }
    }
}

impl From<&View> for Status {
    fn from(view: &View) -> Self {
        Self {
            at: view.at.into(),
            revision: view.revision,
            ready: view.ready,
            settled: view.settled,
            folder: (&view.folder).into(),
            store: Store { note: view.store.note.clone() },
            projects: view.projects.iter().map(Project::from).collect(),
            images: view.images.iter().map(Image::from).collect(),
            problems: view.problems.iter().map(Problem::from).collect(),
            under_way: view.under_way.iter().map(Step::from).collect(),
            waiting: view.waiting.iter().map(Wait::from).collect(),
            loosenings: view.loosenings.clone(),
            notes: view.notes.clone(),
            networks: view.networks.iter().map(Network::from).collect(),
        }
    }
}

impl From<&FolderView> for Folder {
    fn from(view: &FolderView) -> Self {
        Self {
            path: view.path.display().to_string(),
            held: view.held.as_ref().map(Held::from),
            watching: view.watching.clone(),
        }
    }
}

impl From<&HeldView> for Held {
    fn from(view: &HeldView) -> Self {
        Self { reason: view.reason.clone(), since: view.since.into(), confirmable: view.confirmable }
    }
}

impl From<view::Phase> for Phase {
    fn from(phase: view::Phase) -> Self {
        match phase {
            view::Phase::Applied => Self::Applied,
            view::Phase::Applying => Self::Applying,
            view::Phase::Failing => Self::Failing,
            view::Phase::Held => Self::Held,
            view::Phase::Removing => Self::Removing,
        }
    }
}

impl From<&ProjectView> for Project {
    fn from(view: &ProjectView) -> Self {
        Self {
            name: view.name.to_string(),
            file: view.file.as_ref().map(|f| f.display().to_string()),
            phase: view.phase.into(),
            last_good: view.last_good,
            services: view.services.iter().map(Service::from).collect(),
        }
    }
}

impl From<&ServiceView> for Service {
    fn from(view: &ServiceView) -> Self {
        Self {
            name: view.name.to_string(),
            image: view.image.as_ref().map(ToString::to_string),
            phase: view.phase.into(),
            wanted: view.wanted,
            running: view.running,
            holds: view.holds.iter().map(Problem::from).collect(),
            loosenings: view.loosenings.iter().map(Loosening::from).collect(),
            by_hand: view.by_hand.as_ref().map(ByHand::from),
            waiting: view.waiting.iter().map(Wait::from).collect(),
            ports: view.ports.iter().map(PublishedPort::from).collect(),
            generation: view.generation,
            set_aside: view.aside.as_ref().map(SetAside::from),
            update: view.update.clone(),
            containers: view.containers.iter().map(Container::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Status;

    /// Writes the schema anew with `UPDATE_SCHEMAS=1`.
    #[test]
    fn the_schema_on_disk_is_the_one_in_force() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("state-schema/status.schema.json");
        let schema = serde_json::to_string_pretty(&schemars::schema_for!(Status)).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::write(&path, &schema).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == schema, "state-schema/status.schema.json is out of date: run with UPDATE_SCHEMAS=1");
    }
}
