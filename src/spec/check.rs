//! Checks a tree against the tables of keys: unknown keys and wrong kinds of values, at every level.
//!
//! What passes here can be read without asking again what kind of value it is.

use super::duration::{self, Units};
use super::keys::{DEPLOY, FILE, SERVICE, Shape, Table};
use super::nearest::nearest;
use super::node::{Key, Kind, Node, Scalar, Value};
use super::report::Report;
use super::size;

/// Checks one value. `key` is its dotted path.
pub(super) fn check(node: &Node, shape: &Shape, key: &str, report: &mut Report<'_>) {
    match (shape, &node.value) {
        (Shape::Anything, _) => {}
        (Shape::Either(shapes), _) => either(node, shapes, key, report),
        (Shape::List(_) | Shape::Map(_) | Shape::Object(_), Value::Scalar(scalar)) if scalar.kind == Kind::Null => {}
        (Shape::List(inner), Value::List(items)) => {
            for (at, item) in items.iter().enumerate() {
                check(item, inner, &format!("{key}[{at}]"), report);
            }
        }
        (Shape::Map(inner), Value::Map(entries)) => {
            for (name, value) in entries {
                check(value, inner, &path(key, &name.text), report);
            }
        }
        (Shape::Object(table), Value::Map(_)) => keys(node, table, key, report),
        (_, Value::Scalar(scalar)) if fits(shape, scalar) => {}
        _ => mismatch(node, &expected(shape), key, report),
    }
}

/// Checks the keys of a map and what they hold.
fn keys(node: &Node, table: &Table, key: &str, report: &mut Report<'_>) {
    for (name, value) in node.entries() {
        let inner = path(key, &name.text);
        match table.rule(&name.text) {
            Some(rule) => check(value, &rule.shape, &inner, report),
            None if name.text.starts_with("x-") => {}
            None => unknown(name, table, &inner, report),
        }
    }
}

fn unknown(name: &Key, table: &Table, key: &str, report: &mut Report<'_>) {
    let place = if table.name == FILE.name { "a Compose file".to_owned() } else { format!("`{}`", table.name) };
    let shown: String = name.text.chars().take(80).collect();
    let hint = if report.full() { None } else { meant(&name.text, table) };
    let noted = report.error(name.at, key, format!("unknown key {shown:?} in {place}"));
    noted.hint(hint.unwrap_or_else(|| "keys of your own begin with `x-`".to_owned()));
}

/// The nearest key of this map, else the key of another map that it could have slipped out of.
fn meant(word: &str, table: &Table) -> Option<String> {
    let near = |table: &Table| nearest(word, table.rules.iter().map(|rule| rule.name));
    if let Some(near) = near(table) {
        return Some(format!("did you mean `{near}`?"));
    }
    let others = [&SERVICE, &DEPLOY, &FILE].into_iter().filter(|other| other.name != table.name);
    others.into_iter().find_map(|other| {
        let near = near(other)?;
        Some(format!("did you mean `{near}`? it belongs into a `{}`; look at the indentation", other.name))
    })
}

/// A dotted path; what a name may not hold is shown escaped.
pub(super) fn path(key: &str, name: &str) -> String {
    let name: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if key.is_empty() { name } else { format!("{key}.{name}") }
}

/// Goes on with the form that the value is written in, so that a mistake inside the long form is told as such.
fn either(node: &Node, shapes: &[Shape], key: &str, report: &mut Report<'_>) {
    let fitting = shapes.iter().find(|shape| match (&node.value, shape) {
        (Value::List(_), Shape::List(_)) | (Value::Map(_), Shape::Map(_) | Shape::Object(_)) => true,
        (Value::Scalar(scalar), Shape::List(_) | Shape::Map(_) | Shape::Object(_)) => scalar.kind == Kind::Null,
        (_, Shape::Either(inner)) => inner.iter().any(|shape| {
            matches!(
                (&node.value, shape),
                (Value::List(_), Shape::List(_)) | (Value::Map(_), Shape::Map(_) | Shape::Object(_))
            )
        }),
        (Value::Scalar(scalar), shape) => fits(shape, scalar),
        _ => false,
    });
    match fitting {
        Some(shape) => check(node, shape, key, report),
        None => {
            let all: Vec<String> = shapes.iter().map(expected).collect();
            mismatch(node, &all.join(" or "), key, report);
        }
    }
}

fn fits(shape: &Shape, scalar: &Scalar) -> bool {
    let text = scalar.text.as_str();
    match shape {
        Shape::Anything | Shape::Scalar => true,
        _ if scalar.kind == Kind::Null => false,
        Shape::Text => scalar.kind != Kind::Bool,
        Shape::Word(words) => words.contains(&text),
        Shape::Flag => truth_word(text),
        Shape::Whole => text.parse::<i64>().is_ok(),
        Shape::Number => text.parse::<f64>().is_ok_and(f64::is_finite),
        Shape::Duration => duration::millis(text, Units::Clock).is_some(),
        Shape::Size => size::bytes(text).is_some(),
        Shape::List(_) | Shape::Map(_) | Shape::Object(_) => false,
        Shape::Either(shapes) => shapes.iter().any(|shape| fits(shape, scalar)),
    }
}

fn truth_word(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n")
}

/// What a shape expects, for a message.
fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Text => "text".to_owned(),
        Shape::Word(words) => format!("one of {}", words.join(", ")),
        Shape::Flag => "true or false".to_owned(),
        Shape::Whole => "a whole number".to_owned(),
        Shape::Number => "a number".to_owned(),
        Shape::Duration => "a duration such as 1m30s".to_owned(),
        Shape::Size => "a size such as 512m".to_owned(),
        Shape::Scalar => "text, a number or a boolean".to_owned(),
        Shape::List(_) => "a list".to_owned(),
        Shape::Map(_) | Shape::Object(_) => "a map".to_owned(),
        Shape::Either(shapes) => shapes.iter().map(expected).collect::<Vec<_>>().join(" or "),
        Shape::Anything => "anything".to_owned(),
    }
}

fn mismatch(node: &Node, expected: &str, key: &str, report: &mut Report<'_>) {
    let found = match node.scalar() {
        Some(scalar) if scalar.kind != Kind::Null => {
            let text: String = scalar.text.chars().take(60).collect();
            format!("{} {text:?}", node.kind_name())
        }
        _ => node.kind_name().to_owned(),
    };
    let noted = report.error(node.at, key, format!("`{key}`: expected {expected}, found {found}"));
    match node.scalar().map(|scalar| scalar.kind) {
        Some(Kind::Bool) if expected.starts_with("text") => noted.hint("put it in quotes to make it text"),
        Some(Kind::Null) => noted.hint("give it a value or remove the key"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_fit_by_what_they_say_and_not_by_how_they_are_quoted() {
        let plain = |text: &str| Scalar::plain(text.to_owned());
        for (shape, good, bad) in [
            (&Shape::Text, &["a", "1.10", "yes"][..], &["true", "", "~"][..]),
            (&Shape::Flag, &["true", "no", "Off"], &["1", "maybe", ""]),
            (&Shape::Whole, &["3", "-1"], &["1.5", "99999999999999999999", "x"]),
            (&Shape::Number, &["0.5", "2"], &["nan", "x", "inf"]),
            (&Shape::Size, &["64m", "1.5gb", "-1", "2048", "1 GB"], &["m", "5x", ""]),
            (&Shape::Duration, &["1m30s"], &["10", "soon"]),
        ] {
            assert!(good.iter().all(|text| fits(shape, &plain(text))), "{shape:?}");
            assert!(bad.iter().all(|text| !fits(shape, &plain(text))), "{shape:?}");
        }
    }
}
