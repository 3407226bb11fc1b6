//! What is wrong, and where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;

/// How much a problem stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is stopped.
    Warning,
    /// One service is held until this is mended.
    Held,
    /// The whole file is not used; its last good state stays in force.
    Error,
}

impl Severity {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Held => "held",
            Self::Error => "error",
        }
    }
}

impl From<model::Severity> for Severity {
    fn from(severity: model::Severity) -> Self {
        match severity {
            model::Severity::Warning => Self::Warning,
            model::Severity::Held => Self::Held,
            model::Severity::Error => Self::Error,
        }
    }
}

/// One thing wrong with one input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// How much it stops.
    pub severity: Severity,
    /// The file.
    pub file: String,
    /// The line, from 1; none for the file as a whole.
    pub line: Option<u32>,
    /// The column in characters, from 1.
    pub column: Option<u32>,
    /// The key concerned, as a dotted path.
    pub key: Option<String>,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What can be done about it.
    pub hint: Option<String>,
    /// The lines concerned with a marker below them.
    pub snippet: Option<String>,
}

impl Problem {
    /// `file:line:column`, or the file alone.
    #[must_use]
    pub fn place(&self) -> String {
        match (self.line, self.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", self.file),
            _ => self.file.clone(),
        }
    }
}

impl From<&model::Problem> for Problem {
    fn from(problem: &model::Problem) -> Self {
        let at = &problem.location;
        Self {
            severity: problem.severity.into(),
            file: at.file.display().to_string(),
            line: (at.line > 0).then_some(at.line),
            column: (at.line > 0).then_some(at.column),
            key: problem.key.clone(),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
            snippet: problem.snippet.clone(),
        }
    }
}
