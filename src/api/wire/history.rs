//! The generations of a service, and what is asked of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Edit, Time};
use crate::reconcile::{AsideView, Comparison, Generation, HistoryView, Outcome};

/// The generations of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// Its project.
    pub project: String,
    /// Its name.
    pub service: String,
    /// Which one is in force; null where none is known to be.
    pub present: Option<u32>,
    /// What its file asks for and is not run.
    pub set_aside: Option<SetAside>,
    /// What there is to say of newer images.
    pub update: Option<String>,
    /// Those that are kept, by number.
    pub generations: Vec<ServiceGeneration>,
}

/// A version of a service that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceGeneration {
    /// From 1 on.
    pub number: u32,
    /// When it was asked for last.
    pub time: Time,
    /// Where: `file:line`.
    pub location: String,
    /// Why it came.
    pub why: String,
    /// The image by name.
    pub image: String,
    /// The image's manifest.
    pub image_digest: String,
    /// The hash of what the file asked for.
    pub hash: String,
    /// `under way`, `good`, `failed` or `replaced` (before it was known).
    pub outcome: String,
    /// When that was seen.
    pub outcome_time: Option<Time>,
    /// Why it failed.
    pub failure: Option<String>,
    /// Whether it is in force.
    pub present: bool,
}

/// What a file asks for and is not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SetAside {
    /// In one sentence, with what to do.
    pub message: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Time,
    /// Whether its owner said so.
    pub by_hand: bool,
    /// Which generation is run instead; null where nothing more is replaced.
    pub generation: Option<u32>,
}

/// How two generations of a service differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GenerationDiff {
    /// The one.
    pub from: u32,
    /// The other.
    pub to: u32,
    /// The keys that differ. What may be secret has no values.
    pub edits: Vec<Edit>,
}

/// Which service is to go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackAsk {
    /// Its project.
    pub project: String,
    /// Its name; all services of the project where none is given.
    #[serde(default)]
    pub service: Option<String>,
    /// To which generation; the last good one before the present where none is given.
    #[serde(default)]
    pub generation: Option<u32>,
}

/// Of which service the file's version is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeAsk {
    /// Its project.
    pub project: String,
    /// Its name; all services of the project where none is given.
    #[serde(default)]
    pub service: Option<String>,
}

/// What was decided; it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decided {
    /// In a sentence for each service.
    pub done: Vec<String>,
}

impl History {
    pub(in crate::api) fn new(project: String, service: String, view: &HistoryView) -> Self {
        let one = |g: &Generation| ServiceGeneration::new(g, view.present == Some(g.number));
        Self {
            project,
            service,
            present: view.present,
            set_aside: view.aside.as_ref().map(SetAside::from),
            update: view.update.clone(),
            generations: view.generations.iter().map(one).collect(),
        }
    }
}

impl ServiceGeneration {
    fn new(generation: &Generation, present: bool) -> Self {
        let Generation { number, at, file, line, why, version, image, source: _, outcome } = generation;
        let (word, time, failure) = match outcome {
            Outcome::UnderWay => ("under way", None, None),
            Outcome::Good(at) => ("good", Some(*at), None),
            Outcome::Failed { at, why } => ("failed", Some(*at), Some(why.clone())),
            Outcome::Replaced(at) => ("replaced", Some(*at), None),
        };
        let line = if *line > 0 { format!(":{line}") } else { String::new() };
        Self {
            number: *number,
            time: (*at).into(),
            location: format!("{}{line}", file.display()),
            why: why.clone(),
            image: image.to_string(),
            image_digest: version.digest.to_string(),
            hash: version.hash.to_string(),
            outcome: word.to_owned(),
            outcome_time: time.map(Time::from),
            failure,
            present,
        }
    }
}

impl From<&AsideView> for SetAside {
    fn from(view: &AsideView) -> Self {
        let AsideView { text, why, since, by_hand, generation } = view;
        Self {
            message: text.clone(),
            reason: why.clone(),
            since: (*since).into(),
            by_hand: *by_hand,
            generation: *generation,
        }
    }
}

impl From<&Comparison> for GenerationDiff {
    fn from(comparison: &Comparison) -> Self {
        let Comparison { from, to, edits } = comparison;
        Self { from: *from, to: *to, edits: edits.iter().map(Edit::from).collect() }
    }
}
