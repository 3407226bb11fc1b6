//! `.env` and `env_file`: lines of `NAME=value`.
//!
//! What is wrong is told by line only. Such a file holds secrets, and its path is chosen by whoever writes the state file.

use std::collections::HashMap;

use super::interpolate::{Lone, interpolate};

/// How values are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// With quotes, escapes, comments and variables.
    Compose,
    /// Everything after the `=` as it is.
    Raw,
}

/// A line of such a file. No value: only a name was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

/// What a file says, and the lines that use a variable without a value. Which one is not told: it may be a piece of a
/// password that holds a dollar sign.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) lines: Vec<Line>,
    pub(super) unset: Vec<u32>,
}

/// What is wrong, and on which line. Never holds anything of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: u32,
    pub(super) message: String,
}

/// Reads a whole file. `outer` answers for variables that the file itself does not set above their use.
pub(super) fn read(bytes: &[u8], format: Format, outer: &dyn Fn(&str) -> Option<String>) -> Result<Lines, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Fault { line: u32::try_from(line).unwrap_or(u32::MAX), message: "it is not UTF-8".to_owned() }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { rest: text, line: 1, outer, set: HashMap::new(), out: Lines::default() };
    while !reader.rest.is_empty() {
        reader.entry(format)?;
    }
    Ok(reader.out)
}

struct Reader<'t> {
    rest: &'t str,
    line: u32,
    outer: &'t dyn Fn(&str) -> Option<String>,
    set: HashMap<String, String>,
    out: Lines,
}

impl<'t> Reader<'t> {
    fn fault(&self, message: &str) -> Fault {
        Fault { line: self.line, message: message.to_owned() }
    }

    /// The rest of the line without its end; the reader stands on the next line.
    fn take_line(&mut self) -> &'t str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        line.strip_suffix('\r').unwrap_or(line)
    }

    fn entry(&mut self, format: Format) -> Result<(), Fault> {
        let here = self.rest.split('\n').next().unwrap_or_default().trim();
        if here.is_empty() || here.starts_with('#') {
            self.take_line();
            return Ok(());
        }
        if here.contains('\0') {
            return Err(self.fault("it holds a NUL byte"));
        }
        let indented = self.rest.trim_start_matches([' ', '\t']);
        let start = indented.strip_prefix("export ").unwrap_or(indented).trim_start_matches([' ', '\t']);
        let end = start.find(|c: char| matches!(c, '=' | ':' | '\n' | '#') || c.is_whitespace()).unwrap_or(start.len());
        let (name, after) = start.split_at(end);
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            return Err(self.fault("the name of a variable is expected, as in NAME=value"));
        }
        let after = after.trim_start_matches([' ', '\t']);
        let value = match after.strip_prefix(['=', ':']) {
            Some(value) => {
                self.rest = value;
                Some(self.value(format)?)
            }
            None => {
                self.only_name(after)?;
                None
            }
        };
        if let Some(value) = &value {
            self.set.insert(name.to_owned(), value.clone());
        }
        self.out.lines.push(Line { name: name.to_owned(), value });
        Ok(())
    }

    fn only_name(&mut self, after: &'t str) -> Result<(), Fault> {
        let rest_of_line = after.split('\n').next().unwrap_or_default().trim();
        if !rest_of_line.is_empty() && !rest_of_line.starts_with('#') {
            return Err(self.fault("an `=` is expected after the name of the variable"));
        }
        self.take_line();
        Ok(())
    }

    fn value(&mut self, format: Format) -> Result<String, Fault> {
        let line = self.line;
        if format == Format::Raw {
            return Ok(self.take_line().to_owned());
        }
        let start = self.rest.trim_start_matches([' ', '\t']);
        if let Some(inner) = start.strip_prefix('\'') {
            let raw = self.quoted(inner, '\'')?;
            return Ok(raw.to_owned());
        }
        if let Some(inner) = start.strip_prefix('"') {
            let raw = self.quoted(inner, '"')?;
            return self.fill(&unescape(raw), line);
        }
        let raw = self.take_line();
        // A `#` begins a comment only after a space: colours and passwords hold it too.
        let end = raw
            .char_indices()
            .find(|(at, c)| *c == '#' && (*at == 0 || raw[..*at].ends_with([' ', '\t'])))
            .map_or(raw.len(), |(at, _)| at);
        self.fill(raw[..end].trim(), line)
    }

    /// The text up to the closing quote, over several lines if need be.
    fn quoted(&mut self, inner: &'t str, quote: char) -> Result<&'t str, Fault> {
        let mut escaped = false;
        let close = inner.char_indices().find(|(_, c)| {
            let closes = *c == quote && !escaped;
            escaped = quote == '"' && *c == '\\' && !escaped;
            closes
        });
        let Some((end, _)) = close else { return Err(self.fault("the quote that begins here is not closed")) };
        let value = &inner[..end];
        let lines = value.matches('\n').count();
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        let after = inner[end..].strip_prefix(quote).unwrap_or_default();
        let tail = after.split('\n').next().unwrap_or_default().trim();
        if !tail.is_empty() && !tail.starts_with('#') {
            return Err(self.fault("only a comment may follow the closing quote"));
        }
        self.rest = after;
        self.take_line();
        Ok(value)
    }

    fn fill(&mut self, text: &str, line: u32) -> Result<String, Fault> {
        if text.contains('\0') {
            return Err(Fault { line, message: "it holds a NUL byte".to_owned() });
        }
        let own = |name: &str| self.set.get(name).cloned().or_else(|| (self.outer)(name));
        let filled = interpolate(text, Lone::Kept, &own)
            .map_err(|_| Fault { line, message: "a variable in its value cannot be filled in".to_owned() })?;
        if !filled.unset.is_empty() {
            self.out.unset.push(line);
        }
        Ok(filled.text)
    }
}

/// Escapes of a double-quoted value. `\$` becomes `$$`, which interpolation reads as a dollar.
fn unescape(raw: &str) -> String {
    let mut out = String::new();
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c == '\r' {
            continue;
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('$') => out.push_str("$$"),
            Some(quoted @ ('"' | '\\')) => out.push(quoted),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, Option<String>)> {
        let outer = |name: &str| (name == "OUTER").then(|| "o".to_owned());
        read(text.as_bytes(), Format::Compose, &outer).unwrap().lines.into_iter().map(|l| (l.name, l.value)).collect()
    }

    #[test]
    fn values_are_read_as_compose_reads_them() {
        for (text, value) in [
            ("A=b", "b"),
            ("export A=b", "b"),
            ("  A = b c  ", "b c"),
            ("A=b # note", "b"),
            ("A=b#c", "b#c"),
            ("A=#c", ""),
            ("A=", ""),
            ("A='$x \\n # y' # note", "$x \\n # y"),
            ("A=\"x\\ny\\t\\\"q\\\" \\$z\"", "x\ny\t\"q\" $z"),
            ("A=\"one\ntwo\"", "one\ntwo"),
            ("A='one\ntwo'", "one\ntwo"),
            ("A=$OUTER/${NONE:-d}", "o/d"),
            ("A=pa$1$", "pa$1$"),
            ("A: b", "b"),
            ("A=b\r\n", "b"),
            ("\u{feff}A=b", "b"),
            ("A=a=b", "a=b"),
        ] {
            assert_eq!(pairs(text), [("A".to_owned(), Some(value.to_owned()))], "{text:?}");
        }
    }

    #[test]
    fn earlier_lines_are_seen_by_later_ones() {
        let read = pairs("# top\n\nA=1\nB=${A}2\nC\n");
        let expected = [("A", Some("1")), ("B", Some("12")), ("C", None)];
        assert_eq!(read, expected.map(|(n, v)| (n.to_owned(), v.map(str::to_owned))));
    }

    #[test]
    fn a_raw_file_is_taken_literally() {
        let lines = read(b"A='x' $Y # z\n", Format::Raw, &|_| None).unwrap().lines;
        assert_eq!(lines[0].value.as_deref(), Some("'x' $Y # z"));
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_never_by_content() {
        for (text, line) in [
            (&b"A=1\nroot:$6$secret:1:\nsecret words\n"[..], 3),
            (b"A=1\n=secret", 2),
            (b"A='secret\n\n", 1),
            (b"A=1\nB=\"secret\" more", 2),
            (b"A=1\nB=\xffsecret", 2),
            (b"A=secret\0", 1),
            (b"A=${secret", 1),
            (b"A=${B:?secret}", 1),
        ] {
            let fault = read(text, Format::Compose, &|_| None).unwrap_err();
            assert_eq!(fault.line, line, "{text:?}");
            assert!(!fault.message.contains("secret"), "{}", fault.message);
        }
    }

    #[test]
    fn variables_that_double_each_other_are_bounded() {
        let mut text = "A0=xxxxxxxxxxxxxxxx\n".to_owned();
        for n in 1..40 {
            text.push_str(&format!("A{n}=$A{0}$A{0}\n", n - 1));
        }
        assert!(read(text.as_bytes(), Format::Compose, &|_| None).is_err());
    }
}
