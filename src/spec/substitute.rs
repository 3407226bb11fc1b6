//! Fills in the variables of a whole tree: in values, never in keys.

use super::interpolate::{Lone, interpolate};
use super::node::{Kind, Node, Scalar, Value};
use super::report::Report;
use super::source_text::Span;
use std::collections::BTreeSet;

/// Text of all values together, with their variables filled in.
const MAX_TEXT: usize = 8 * 1024 * 1024;

/// Fills in the variables below `node`. Own keys (`x-*`) of the file's top level mean nothing to us, so neither do the
/// variables in them; where an anchor brings them into a service they are looked at there.
pub(super) fn substitute(node: &mut Node, lookup: &dyn Fn(&str) -> Option<String>, report: &mut Report<'_>) {
    let mut filler = Filler { lookup, report, named: BTreeSet::new(), used: 0 };
    let Value::Map(entries) = &mut node.value else { return };
    for (key, value) in entries {
        if !key.text.starts_with("x-") || key.text == "x-longshore" {
            filler.fill(value);
        }
    }
}

struct Filler<'f, 'a> {
    lookup: &'f dyn Fn(&str) -> Option<String>,
    report: &'f mut Report<'a>,
    /// Variables without a value: each is told once, at its first use.
    named: BTreeSet<String>,
    used: usize,
}

impl Filler<'_, '_> {
    fn fill(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::List(items) => items.iter_mut().for_each(|item| self.fill(item)),
            Value::Map(entries) => {
                for (key, value) in entries {
                    if key.text.contains('\0') {
                        self.report.error(key.at, "", "this key holds a NUL character");
                    }
                    self.fill(value);
                }
            }
            Value::Scalar(scalar) => self.scalar(scalar, node.at),
        }
    }

    fn scalar(&mut self, scalar: &mut Scalar, at: Span) {
        if scalar.text.contains('\0') {
            self.report.error(at, "", "this value holds a NUL character; nothing on the host can carry it");
            return;
        }
        if !scalar.text.contains('$') || self.used > MAX_TEXT {
            return;
        }
        match interpolate(&scalar.text, Lone::Refused, self.lookup) {
            Err(fault) => {
                let at = self.inside(scalar, at, fault.offset);
                let noted = self.report.error(at, "", fault.message);
                if !fault.hint.is_empty() {
                    noted.hint(fault.hint);
                }
            }
            Ok(filled) => {
                for name in filled.unset {
                    self.unset(name, at);
                }
                self.used += filled.text.len();
                if self.used > MAX_TEXT {
                    self.report.error(
                        at,
                        "",
                        format!("with its variables filled in the file is longer than {MAX_TEXT} bytes"),
                    );
                }
                let plain = scalar.kind != Kind::Quoted;
                *scalar = if plain { Scalar::plain(filled.text) } else { Scalar::quoted(filled.text) };
                // An unset variable gives empty text, which is not the same as writing nothing.
                if scalar.kind == Kind::Null {
                    scalar.kind = Kind::Plain;
                }
            }
        }
    }

    fn unset(&mut self, name: String, at: Span) {
        let message = format!("the variable {name} is not set; it is taken as empty");
        if self.named.insert(name) {
            let hint = "set it in the `.env` file beside the state file, or give a default: ${NAME:-default}";
            self.report.warning(at, "", message).hint(hint);
        }
    }

    /// The place inside a scalar, where the text stands in the file as it is; else the scalar's.
    fn inside(&self, scalar: &Scalar, at: Span, offset: usize) -> Span {
        // Counting characters in a long line, for each of many mistakes, would take minutes.
        let Some(line) = self.report.source.line(at.line).filter(|line| line.len() < 4096) else { return at };
        let start = usize::try_from(at.column).unwrap_or(1).saturating_sub(1);
        let line: String = line.chars().skip(start).collect();
        let quoted = line.strip_prefix(['"', '\'']).is_some_and(|inner| inner.starts_with(&scalar.text));
        if !quoted && !line.starts_with(&scalar.text) {
            return at;
        }
        let shift = u32::try_from(offset + usize::from(quoted)).unwrap_or(0);
        Span { line: at.line, column: at.column.saturating_add(shift), width: at.width.saturating_sub(shift).max(1) }
    }
}
