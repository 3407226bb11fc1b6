//! What is wrong with an input, where, and what its owner can do.

use std::fmt;
use std::path::PathBuf;

/// A place in a file. Lines and columns count from 1; 0 means "the file as a whole".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The file, as the user would name it.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Location {
    /// The file as a whole.
    #[must_use]
    pub fn whole(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), line: 0, column: 0 }
    }
    /// A position in the file.
    #[must_use]
    pub fn at(file: impl Into<PathBuf>, line: u32, column: u32) -> Self {
        Self { file: file.into(), line, column }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}", self.file.display())
        } else {
            write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
        }
    }
}

/// How much a problem stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is stopped; the owner should know.
    Warning,
    /// One service is held: it is not started or changed until this is mended.
    Held,
    /// The whole file is not used; its last good state stays in force.
    Error,
}

/// One thing wrong with one input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// How much it stops.
    pub severity: Severity,
    /// Where it is.
    pub location: Location,
    /// The key concerned, as a dotted path (`services.web.ports`), where there is one.
    pub key: Option<String>,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What the owner can do about it.
    pub hint: Option<String>,
    /// The lines concerned with a marker below them, ready to print.
    pub snippet: Option<String>,
}

impl Problem {
    /// A problem of the given severity with no key, hint or snippet.
    #[must_use]
    pub fn new(severity: Severity, location: Location, message: impl Into<String>) -> Self {
        Self { severity, location, key: None, message: message.into(), hint: None, snippet: None }
    }
    /// An error: the file is not used.
    #[must_use]
    pub fn error(location: Location, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, location, message)
    }
    /// A warning: nothing is stopped.
    #[must_use]
    pub fn warning(location: Location, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, location, message)
    }
    /// Adds what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Adds the key concerned.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
    /// Adds the source lines.
    #[must_use]
    pub fn with_snippet(mut self, snippet: impl Into<String>) -> Self {
        self.snippet = Some(snippet.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}
