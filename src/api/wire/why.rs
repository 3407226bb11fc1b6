//! Why a service is as it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Phase, SetAside, Time, Wait};
use crate::model;
use crate::reconcile::view::ServiceView;

/// From this many ends of the same kind in a row on it is a crash loop.
const LOOP: u32 = 3;

/// The last things that happened to a service, with their causes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    /// Its project.
    pub project: String,
    /// Its name.
    pub service: String,
    /// How it is now; none where no file defines it and no container of it is here.
    pub phase: Option<Phase>,
    /// Containers of it that end again and again.
    pub crash_loops: Vec<CrashLoop>,
    /// What it waits for now.
    pub waiting: Vec<Wait>,
    /// What its file asks for and is not run.
    #[serde(default)]
    pub set_aside: Option<SetAside>,
    /// What there is to say of newer images.
    #[serde(default)]
    pub update: Option<String>,
    /// What happened, the newest last.
    pub causes: Vec<Cause>,
}

/// A container that ends the same way soon after each start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CrashLoop {
    /// Its name.
    pub container: String,
    /// How often in a row.
    pub times: u32,
    /// How it ends.
    pub cause: String,
    /// When it ended first.
    pub since: Time,
    /// When it ended last.
    pub last: Time,
    /// When it is started again; none where it runs now, or stays ended.
    pub next_attempt: Option<Time>,
}

/// Something that happened to a service, as often as it did in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// When, the first time.
    pub time: Time,
    /// When, the last time.
    pub last: Time,
    /// How often in a row.
    pub times: u32,
    /// `edited`, `dropped` (no file defines it any more), `asked` (by hand), `done`, `failed`, `ended`, `moved` (the name of its image),
    /// `unhealthy` (and what its check said), `healthy` (again) or `version` (what was decided of its versions).
    pub kind: String,
    /// What it happened to: a container, an image or a file.
    pub subject: String,
    /// In one sentence.
    pub message: String,
    /// Why, where something was done for a reason.
    pub reason: Option<String>,
    /// When it is tried again.
    pub next_attempt: Option<Time>,
    /// The keys that changed.
    pub edits: Vec<Edit>,
}

/// A key that changed. What may be secret has no values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Edit {
    /// The file.
    pub file: String,
    /// Its line as it was then; none: the file as a whole.
    pub line: Option<u32>,
    /// The key, as a dotted path below the service.
    pub key: String,
    /// `added`, `removed` or `changed`.
    pub change: String,
    /// The value before, where it is told.
    pub before: Option<String>,
    /// The value now, where it is told.
    pub now: Option<String>,
    /// All of it on one line.
    pub text: String,
}

impl Why {
    /// With what is known, and how it is now.
    pub(in crate::api) fn new(
        project: String,
        service: String,
        causes: &[model::Cause],
        seen: Option<&ServiceView>,
    ) -> Self {
        let waiting = seen.map(|view| view.waiting.iter().map(Wait::from).collect()).unwrap_or_default();
        let crash_loops = causes.iter().rev().filter_map(|cause| crash_loop(cause, causes)).collect();
        let causes = causes.iter().map(Cause::from).collect();
        let set_aside = seen.and_then(|view| view.aside.as_ref()).map(SetAside::from);
        let (phase, update) = (seen.map(|view| view.phase.into()), seen.and_then(|view| view.update.clone()));
        Self { project, service, phase, crash_loops, waiting, set_aside, update, causes }
    }
}

/// The last thing that is known of a container is that it ended, many times.
fn crash_loop(cause: &model::Cause, all: &[model::Cause]) -> Option<CrashLoop> {
    let last = all.iter().rev().find(|other| other.subject == cause.subject);
    let ends = cause.kind == model::CauseKind::Ended && cause.times >= LOOP && last == Some(cause);
    ends.then(|| CrashLoop {
        container: cause.subject.clone(),
        times: cause.times,
        cause: cause.text.clone(),
        since: cause.at.into(),
        last: cause.last.into(),
        next_attempt: cause.next.map(Time::from),
    })
}

impl From<&model::Cause> for Cause {
    fn from(cause: &model::Cause) -> Self {
        Self {
            time: cause.at.into(),
            last: cause.last.into(),
            times: cause.times,
            kind: cause.kind.as_str().to_owned(),
            subject: cause.subject.clone(),
            message: cause.text.clone(),
            reason: cause.reason.clone(),
            next_attempt: cause.next.map(Time::from),
            edits: cause.edits.iter().map(Edit::from).collect(),
        }
    }
}

impl From<&model::Edit> for Edit {
    fn from(edit: &model::Edit) -> Self {
        let (change, before, now) = match &edit.change {
            model::EditChange::Added(now) => ("added", None, now.clone()),
            model::EditChange::Removed(before) => ("removed", before.clone(), None),
            model::EditChange::Changed { values: None } => ("changed", None, None),
            model::EditChange::Changed { values: Some((before, now)) } => {
                ("changed", Some(before.clone()), Some(now.clone()))
            }
        };
        Self {
            file: edit.file.display().to_string(),
            line: (edit.line > 0).then_some(edit.line),
            key: edit.key.clone(),
            change: change.to_owned(),
            before,
            now,
            text: edit.to_string(),
        }
    }
}
