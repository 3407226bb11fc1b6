//! What `check` and `plan` are given by the rooms that read files and plan, where no daemon is asked.

use std::path::PathBuf;

use crate::model::{Loosening, Problem, ProjectName, ServiceName, Settings, SpecHash};

/// What was found in a folder or a file.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// The projects that could be read.
    pub projects: Vec<CheckedProject>,
    /// Whether a whole folder was read: what it does not name would be removed.
    pub whole_folder: bool,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What would change on this machine, where that was asked for and could be known.
    pub changes: Option<Vec<Change>>,
}

/// A project that could be read.
#[derive(Debug, Clone)]
pub struct CheckedProject {
    /// Its name.
    pub name: ProjectName,
    /// The file that defines it.
    pub file: PathBuf,
    /// Its services.
    pub services: Vec<CheckedService>,
}

/// A service of it.
#[derive(Debug, Clone)]
pub struct CheckedService {
    /// Its name.
    pub name: ServiceName,
    /// What its containers are known by.
    pub hash: SpecHash,
    /// How many there would be; none for one that would be held.
    pub replicas: u32,
    /// What its containers are given as they are.
    pub settings: Settings,
    /// What makes it less confined than the defaults.
    pub loosenings: Vec<Loosening>,
}

/// One thing that would be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `pull`, `create`, `start`, `stop`, `remove`.
    pub verb: String,
    /// What it is about.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// What would be done if the daemon were started now.
#[derive(Debug, Clone, Default)]
pub struct PlanReport {
    /// First steps.
    pub changes: Vec<Change>,
    /// What waits, each with its reason.
    pub waiting: Vec<(String, String)>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Why no plan could be made.
    pub failure: Option<String>,
}
