//! The text of one state file, and how a place in it is shown to its owner.
//!
//! Bytes become text here or nowhere: what is too large, not UTF-8 or holds a NUL is refused before any parser sees it.

use std::path::Path;

use crate::model::{Location, Problem};

/// Far above any hand-written file; a bound on everything that is done per byte.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// How much of a line a snippet shows.
const WINDOW: usize = 120;

/// A line in which characters are counted.
const SHORT: usize = 4096;

/// A stretch of the text: a line, a column and a width, counted in characters from 1. The default is "the file as a whole".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Span {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) width: u32,
}

/// One state file as text.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    lines: Vec<&'a str>,
}

impl<'a> Source<'a> {
    /// Checks size and encoding. A byte order mark is dropped.
    pub(super) fn read(path: &'a Path, bytes: &'a [u8]) -> Result<Self, Box<Problem>> {
        if bytes.len() > MAX_BYTES {
            let message =
                format!("the file has {} bytes; a state file may have at most {MAX_BYTES} (1 MiB)", bytes.len());
            let problem = Problem::error(Location::whole(path), message);
            return Err(Box::new(problem.with_hint("split it into several projects, or move data out of it")));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::of_text(path, text),
            Err(error) => {
                let good = &bytes[..error.valid_up_to()];
                let source = Self::split(path, std::str::from_utf8(good).unwrap_or_default());
                let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
                let message = format!(
                    "the file is not UTF-8: byte 0x{byte:02x} at offset {} begins no character",
                    error.valid_up_to()
                );
                Err(source.problem_at_end(message, "save the file as UTF-8"))
            }
        }
    }

    fn of_text(path: &'a Path, text: &'a str) -> Result<Self, Box<Problem>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Some((good, _)) = text.split_once('\0') {
            let source = Self::split(path, good);
            return Err(source.problem_at_end(
                format!("the file holds a NUL byte at offset {}", good.len()),
                "a state file is text; was it written completely?",
            ));
        }
        Ok(Self::split(path, text))
    }

    fn split(path: &'a Path, text: &'a str) -> Self {
        let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
        Self { path, text, lines }
    }

    fn problem_at_end(&self, message: String, hint: &str) -> Box<Problem> {
        let last = self.lines.last().map_or(0, |line| line.chars().count());
        let line = u32::try_from(self.lines.len()).unwrap_or(u32::MAX);
        let span = Span { line, column: u32::try_from(last + 1).unwrap_or(u32::MAX), width: 1 };
        let problem = Problem::error(self.location(span), message);
        Box::new(problem.with_hint(hint).with_snippet(self.snippet(span)))
    }

    /// The place as the model names it.
    pub(super) fn location(&self, at: Span) -> Location {
        Location::at(self.path, at.line, at.column)
    }

    /// A line without its end, by its number from 1.
    pub(super) fn line(&self, number: u32) -> Option<&'a str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.lines.get(index).copied()
    }

    /// The line with a marker below it, as rustc shows it. Empty for a place that is no line of the file.
    ///
    /// A file may be one line of a megabyte with a problem at every tenth byte, so this must not read the whole line: in
    /// ASCII a column is an offset, and a line that is long and not ASCII is not shown.
    pub(super) fn snippet(&self, at: Span) -> String {
        let Some(line) = self.line(at.line) else { return String::new() };
        let column = usize::try_from(at.column).unwrap_or(1).max(1) - 1;
        let from = if column > WINDOW - 20 { column - 40 } else { 0 };
        let start = if line.len() <= SHORT {
            line.char_indices().nth(from).map_or(line.len(), |(start, _)| start)
        } else if line.get(..from + 2 * WINDOW).unwrap_or(line).is_ascii() {
            from
        } else {
            return String::new();
        };
        let rest = line.get(start..).unwrap_or_default();
        let shown: String = rest.chars().take(WINDOW).map(printable).collect();
        let (lead, pad) = if from > 0 { ("…", " ") } else { ("", "") };
        let tail = if rest.chars().nth(WINDOW).is_some() { "…" } else { "" };
        let room = shown.chars().count().saturating_sub(column - from).max(1);
        let width = usize::try_from(at.width).unwrap_or(1).max(1).min(room);
        let number = at.line.to_string();
        let gutter = " ".repeat(number.len());
        let marker = format!("{pad}{}{}", " ".repeat(column - from), "^".repeat(width));
        format!("{gutter} |\n{number} | {lead}{shown}{tail}\n{gutter} | {marker}")
    }
}

/// Control characters could move the reader's cursor; a tab would move the marker.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> Box<Problem> {
        Source::read(Path::new("a.yaml"), bytes).unwrap_err()
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_place() {
        let problem = refused(b"a: 1\nb: \xff\n");
        assert_eq!(problem.location.to_string(), "a.yaml:2:4");
        assert_eq!(problem.message, "the file is not UTF-8: byte 0xff at offset 8 begins no character");
        assert_eq!(refused(b"a: x\0y").location.to_string(), "a.yaml:1:5");
        assert_eq!(refused(&vec![b'#'; MAX_BYTES + 1]).location.to_string(), "a.yaml");
    }

    #[test]
    fn the_marker_stands_below_the_place() {
        let source = Source::read(Path::new("a.yaml"), "\u{feff}é: x\r\nimgae: y\r\n".as_bytes()).unwrap();
        let snippet = source.snippet(Span { line: 2, column: 1, width: 5 });
        assert_eq!(snippet, "  |\n2 | imgae: y\n  | ^^^^^");
        assert_eq!(source.line(1), Some("é: x"));
    }

    #[test]
    fn a_long_line_that_is_not_ascii_is_not_shown() {
        let text = format!("a: {}", "é".repeat(10_000));
        let source = Source::read(Path::new("a.yaml"), text.as_bytes()).unwrap();
        assert_eq!(source.snippet(Span { line: 1, column: 5_000, width: 9 }), "");
    }

    #[test]
    fn long_lines_are_cut() {
        let text = format!("a: {}", "x".repeat(100_000));
        let source = Source::read(Path::new("a.yaml"), text.as_bytes()).unwrap();
        assert!(source.snippet(Span { line: 1, column: 50_000, width: 9 }).len() < 600);
        assert!(source.snippet(Span { line: 1, column: 4, width: 99_999 }).len() < 600);
    }
}
