//! Problems, as a compiler prints them.

use super::out::{Ink, Paint};
use super::words::printable;
use crate::api::wire::{Problem, Severity};

/// One after the other, each with its place, its lines and what to do.
pub(super) fn render(problems: &[Problem], paint: Paint) -> String {
    problems.iter().map(|p| one(p, paint)).collect()
}

/// Whether any of them keeps something from running as its file says.
pub(super) fn stop_something(problems: &[Problem]) -> bool {
    problems.iter().any(|p| p.severity > Severity::Warning)
}

fn one(problem: &Problem, paint: Paint) -> String {
    let ink = match problem.severity {
        Severity::Warning => Ink::Busy,
        Severity::Held | Severity::Error => Ink::Bad,
    };
    let word = paint.ink(ink, problem.severity.as_str());
    let mut text = format!("{word}: {}: {}\n", printable(&problem.place()), printable(&problem.message));
    for line in problem.snippet.iter().flat_map(|s| s.lines()) {
        text.push_str(&format!("  {}\n", printable(line)));
    }
    if let Some(hint) = &problem.hint {
        text.push_str(&format!("  {} {}\n", paint.ink(Ink::Strong, "hint:"), printable(hint)));
    }
    text
}
