//! The tree of one YAML text: every value with its place, every scalar with the text that was written.
//!
//! Compose reads `1.10`, `0755`, `22:22` and `yes` as text where text is expected, so a scalar keeps its text and only
//! remembers what YAML would take it for.

use super::source_text::Span;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: Span,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A scalar as it was written.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) kind: Kind,
}

/// What YAML 1.2's core schema takes a scalar for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Whole,
    Real,
    /// Written without quotes, and nothing else.
    Plain,
    /// Quoted, or a block.
    Quoted,
}

/// A key and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) at: Span,
    pub(super) text: String,
}

impl Node {
    pub(super) fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::List(_) | Value::Map(_) => None,
        }
    }
    pub(super) fn is_null(&self) -> bool {
        self.scalar().is_some_and(|scalar| scalar.kind == Kind::Null)
    }
    /// The text of a scalar that is not null.
    pub(super) fn text(&self) -> Option<&str> {
        self.scalar().filter(|scalar| scalar.kind != Kind::Null).map(|scalar| scalar.text.as_str())
    }
    /// Elements of a list; empty for anything else.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            Value::Scalar(_) | Value::Map(_) => &[],
        }
    }
    /// Entries of a map; empty for anything else.
    pub(super) fn entries(&self) -> &[(Key, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Scalar(_) | Value::List(_) => &[],
        }
    }
    pub(super) fn entry(&self, name: &str) -> Option<(&Key, &Self)> {
        self.entries().iter().find(|(key, _)| key.text == name).map(|(key, node)| (key, node))
    }
    /// A value of a map that was given and is not null.
    pub(super) fn given(&self, name: &str) -> Option<&Self> {
        self.entry(name).map(|(_, node)| node).filter(|node| !node.is_null())
    }
    /// A scalar that says yes, in any spelling that Compose takes for it.
    pub(super) fn truth(&self) -> Option<bool> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            _ => None,
        }
    }
    /// What it is, for a message.
    pub(super) fn kind_name(&self) -> &'static str {
        match &self.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Scalar(scalar) => match scalar.kind {
                Kind::Null => "nothing",
                Kind::Bool => "a boolean",
                Kind::Whole | Kind::Real => "a number",
                Kind::Plain | Kind::Quoted => "text",
            },
        }
    }
}

impl Scalar {
    /// A scalar without quotes: its kind follows from its text.
    pub(super) fn plain(text: String) -> Self {
        Self { kind: core_schema(&text), text }
    }
    pub(super) const fn quoted(text: String) -> Self {
        Self { text, kind: Kind::Quoted }
    }
}

/// YAML 1.2.2, "10.3.2. Tag Resolution".
fn core_schema(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Kind::Bool,
        _ if is_whole(text) => Kind::Whole,
        _ if is_real(text) => Kind::Real,
        _ => Kind::Plain,
    }
}

fn is_whole(text: &str) -> bool {
    let radix = |prefix: &str, digit: fn(u8) -> bool| {
        text.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(digit))
    };
    let decimal = text.strip_prefix(['-', '+']).unwrap_or(text);
    (!decimal.is_empty() && decimal.bytes().all(|b| b.is_ascii_digit()))
        || radix("0o", |b| matches!(b, b'0'..=b'7'))
        || radix("0x", |b| b.is_ascii_hexdigit())
}

fn is_real(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let named = matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    // Rust also reads "inf" and "nan" as numbers, which YAML does not.
    let digits = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    named || (digits && unsigned.bytes().any(|b| b.is_ascii_digit()) && text.parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_what_yaml_1_2_takes_them_for() {
        for (text, kind) in [
            ("", Kind::Null),
            ("~", Kind::Null),
            ("true", Kind::Bool),
            ("yes", Kind::Plain),
            ("no", Kind::Plain),
            ("0755", Kind::Whole),
            ("0o17", Kind::Whole),
            ("0x1f", Kind::Whole),
            ("1.10", Kind::Real),
            ("1e3", Kind::Real),
            (".inf", Kind::Real),
            ("inf", Kind::Plain),
            ("22:22", Kind::Plain),
            ("1.2.3", Kind::Plain),
            ("-", Kind::Plain),
        ] {
            assert_eq!(core_schema(text), kind, "{text}");
        }
    }
}
