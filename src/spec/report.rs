//! Collects what is wrong with one file, so that its owner sees all of it at once.

use std::collections::BTreeSet;

use super::source_text::{Source, Span};
use crate::model::{Location, Problem, Severity};

/// Nobody reads more; the rest is counted.
const MAX_PROBLEMS: usize = 100;

/// The problems of one file, in the order in which they were met.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) source: &'a Source<'a>,
    problems: Vec<Problem>,
    /// What an anchor defines is looked at once for each alias, and would be told as often.
    seen: BTreeSet<(Location, String)>,
    left_out: usize,
    failed: bool,
}

/// A problem that was just added and may still be given a hint.
pub(super) struct Noted<'r>(Option<&'r mut Problem>);

impl Noted<'_> {
    /// Says what the owner can do.
    pub(super) fn hint(self, hint: impl Into<String>) {
        if let Some(problem) = self.0 {
            problem.hint = Some(hint.into());
        }
    }
}

impl<'a> Report<'a> {
    pub(super) const fn new(source: &'a Source<'a>) -> Self {
        Self { source, problems: Vec::new(), seen: BTreeSet::new(), left_out: 0, failed: false }
    }

    /// Whether further problems are only counted. To explain ninety thousand unknown keys would take seconds.
    pub(super) fn full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    /// The file as a whole will not be used.
    pub(super) fn error(&mut self, at: Span, key: &str, message: impl Into<String>) -> Noted<'_> {
        if self.full() {
            self.failed = true;
            self.left_out += 1;
            return Noted(None);
        }
        let problem = self.problem(Severity::Error, at, key, message);
        self.add(problem)
    }

    /// The owner should know.
    pub(super) fn warning(&mut self, at: Span, key: &str, message: impl Into<String>) -> Noted<'_> {
        if self.full() {
            self.left_out += 1;
            return Noted(None);
        }
        let problem = self.problem(Severity::Warning, at, key, message);
        self.add(problem)
    }

    /// Like [`Self::warning`], where the line itself must not be shown.
    pub(super) fn warning_without_line(&mut self, at: Span, key: &str, message: impl Into<String>) -> Noted<'_> {
        if self.full() {
            self.left_out += 1;
            return Noted(None);
        }
        let problem = Problem::new(Severity::Warning, self.source.location(at), message).with_key(key);
        self.add(problem)
    }

    /// A problem with its place and snippet that is not added: a hold belongs to its service.
    pub(super) fn problem(&self, severity: Severity, at: Span, key: &str, message: impl Into<String>) -> Problem {
        let mut problem = Problem::new(severity, self.source.location(at), message);
        if !key.is_empty() {
            problem = problem.with_key(key);
        }
        let snippet = self.source.snippet(at);
        if snippet.is_empty() { problem } else { problem.with_snippet(snippet) }
    }

    /// Adds a problem that was made elsewhere (in a `.env` file).
    pub(super) fn add(&mut self, problem: Problem) -> Noted<'_> {
        self.failed |= problem.severity == Severity::Error;
        if !self.seen.insert((problem.location.clone(), problem.message.clone())) {
            return Noted(None);
        }
        // An error that is not shown still counts; the first hundred are shown in full.
        if self.full() {
            self.left_out += 1;
            return Noted(None);
        }
        self.problems.push(problem);
        Noted(self.problems.last_mut())
    }

    /// Whether the file as a whole must not be used.
    pub(super) const fn failed(&self) -> bool {
        self.failed
    }

    /// The errors of a file that is not used, or the warnings of one that is.
    pub(super) fn finish(mut self) -> Result<Vec<Problem>, Vec<Problem>> {
        if self.left_out > 0 {
            let severity = if self.failed { Severity::Error } else { Severity::Warning };
            let message = format!("{} more problems are not shown", self.left_out);
            self.problems.push(Problem::new(severity, Location::whole(self.source.path), message));
        }
        if self.failed {
            self.problems.retain(|problem| problem.severity == Severity::Error);
            return Err(self.problems);
        }
        Ok(self.problems)
    }
}
