//! Why a service is as it is: what changed in its file, what was done for it, and what happened to it.

use std::fmt;
use std::path::PathBuf;

use super::Timestamp;

/// One link of the chain: something that happened to a service, as often as it did in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// When, the first time.
    pub at: Timestamp,
    /// When, the last time.
    pub last: Timestamp,
    /// How often in a row.
    pub times: u32,
    /// What kind of thing.
    pub kind: CauseKind,
    /// What it happened to: a container, an image or a file, by its name.
    pub subject: String,
    /// What happened, in one sentence.
    pub text: String,
    /// Why, where something was done for a reason.
    pub reason: Option<String>,
    /// When it is tried again, or the container started again; none once that happened.
    pub next: Option<Timestamp>,
    /// What changed in the file.
    pub edits: Vec<Edit>,
}

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CauseKind {
    /// Its file, or what that refers to, was changed.
    Edited,
    /// Its file is gone, or does not define it any more.
    Dropped,
    /// Something was asked of it by hand.
    Asked,
    /// A step was done.
    Done,
    /// A step failed.
    Failed,
    /// A container ended by itself.
    Ended,
    /// The name of its image stands for another one.
    Moved,
    /// Its health check failed as often as it may.
    Unhealthy,
    /// Its health check went well again.
    Healthy,
    /// A version was set aside, run again, or taken by itself.
    Version,
}

impl CauseKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Edited,
        Self::Dropped,
        Self::Asked,
        Self::Done,
        Self::Failed,
        Self::Ended,
        Self::Moved,
        Self::Unhealthy,
        Self::Healthy,
        Self::Version,
    ];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Dropped => "dropped",
            Self::Asked => "asked",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Ended => "ended",
            Self::Moved => "moved",
            Self::Unhealthy => "unhealthy",
            Self::Healthy => "healthy",
            Self::Version => "version",
        }
    }

    /// The kind that a word stands for.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One key that changed. What may be secret has no values, only its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The file.
    pub file: PathBuf,
    /// Its line as it is now; 0: the file as a whole.
    pub line: u32,
    /// The key as a dotted path below the service.
    pub key: String,
    /// How.
    pub change: EditChange,
}

/// How a key changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditChange {
    /// It was not there before.
    Added(Option<String>),
    /// It is not there any more.
    Removed(Option<String>),
    /// It has another value.
    Changed {
        /// Before and now; none where the values may be secret or are too long.
        values: Option<(String, String)>,
    },
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        write!(f, "{} ", self.key)?;
        match &self.change {
            EditChange::Added(Some(now)) => write!(f, "added: {now}"),
            EditChange::Added(None) => f.write_str("added"),
            EditChange::Removed(Some(before)) => write!(f, "removed: {before}"),
            EditChange::Removed(None) => f.write_str("removed"),
            EditChange::Changed { values: Some((before, now)) } => write!(f, "{before} → {now}"),
            EditChange::Changed { values: None } => f.write_str("changed"),
        }
    }
}
