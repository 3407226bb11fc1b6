//! Keys that do not act yet: what each of them means for its service.

use super::check::path;
use super::keys::{Effect, Rule, Shape, Table};
use super::node::{Node, Value};
use super::report::Report;
use super::source_text::Span;
use crate::model::{Hold, Severity};

/// Walks the keys of a service (or of `x-longshore`), adds warnings to the report and returns the holds.
pub(super) fn holds(node: &Node, table: &'static Table, key: &str, report: &mut Report<'_>) -> Vec<Hold> {
    let mut holds = Vec::new();
    for (name, value) in node.entries() {
        let Some(rule) = table.rule(&name.text) else { continue };
        let inner = path(key, &name.text);
        match (rule.effect, &rule.shape) {
            (Effect::Inside, Shape::Object(table)) => holds.extend(self::holds(value, table, &inner, report)),
            (Effect::Holds(why, harmless), _) if !asks_for_nothing(value, harmless) => {
                holds.push(hold(report, name.at, &inner, &unsupported(&inner, why), &remove(rule)));
            }
            (Effect::Warns(means), _) if !asks_for_nothing(value, &[]) => warn(report, name.at, &inner, means),
            _ => {}
        }
    }
    holds
}

/// A reason not to start a service.
pub(super) fn hold(report: &Report<'_>, at: Span, key: &str, message: &str, hint: &str) -> Hold {
    let problem = report.problem(Severity::Held, at, key, message);
    Hold { problem: if hint.is_empty() { problem } else { problem.with_hint(hint) } }
}

/// A key that changes nothing.
pub(super) fn warn(report: &mut Report<'_>, at: Span, key: &str, means: &str) {
    report.warning(at, key, unsupported(key, means));
}

/// The one sentence for all keys that do not act yet.
pub(super) fn unsupported(key: &str, means: &str) -> String {
    format!("`{key}` is not supported yet: {means}")
}

fn remove(rule: &Rule) -> String {
    format!("the service is not started; without `{}` it would be", rule.name)
}

/// The keys of a file that stand beside its services.
pub(super) fn beside_services(root: &Node, table: &'static Table, report: &mut Report<'_>) {
    for (name, value) in root.entries() {
        let effect = table.rule(&name.text).map(|rule| rule.effect);
        if let Some(Effect::Warns(means)) = effect
            && !asks_for_nothing(value, &[])
        {
            warn(report, name.at, &name.text, means);
        }
    }
}

/// Nothing, an empty list, map or text, `false`, or one of the key's own words for "as usual".
fn asks_for_nothing(node: &Node, harmless: &[&str]) -> bool {
    match &node.value {
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        Value::Scalar(_) => {
            node.text().is_none_or(|text| text.is_empty() || node.truth() == Some(false) || harmless.contains(&text))
        }
    }
}
