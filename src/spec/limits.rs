//! `ulimits`.

use std::collections::BTreeMap;

use super::nearest::nearest;
use super::node::{Node, Value};
use super::scope::Scope;
use crate::model::{Limit, LimitRange};

const KEY: &str = "ulimits";

pub(super) fn read(scope: &mut Scope<'_, '_, '_>) -> BTreeMap<Limit, LimitRange> {
    let mut all = BTreeMap::new();
    for (name, node) in scope.given(KEY).map(Node::entries).unwrap_or_default() {
        let Some(limit) = Limit::parse(&name.text) else {
            let near = nearest(&name.text, Limit::ALL.iter().map(|(name, _)| *name));
            let all = Limit::ALL.map(|(name, _)| name).join(", ");
            let hint = near.map_or_else(|| format!("it may be {all}"), |near| format!("did you mean `{near}`?"));
            scope.error(name.at, KEY, format!("{:?} is not a limit", name.text), &hint);
            continue;
        };
        if let Some(range) = range(&name.text, node, scope) {
            all.insert(limit, range);
        }
    }
    all
}

/// One number for both, or each by itself.
fn range(name: &str, node: &Node, scope: &mut Scope<'_, '_, '_>) -> Option<LimitRange> {
    let Value::Map(_) = node.value else {
        let value = value(name, node, scope)?;
        return Some(LimitRange { soft: value, hard: value });
    };
    let (Some(soft), Some(hard)) = (node.given("soft"), node.given("hard")) else {
        let message = format!("the limit {name} needs both `soft` and `hard`");
        scope.error(node.at, KEY, message, "write both, or one number for both");
        return None;
    };
    let at = soft.at;
    let (soft, hard) = (value(name, soft, scope)?, value(name, hard, scope)?);
    if soft > hard {
        let message = format!("the limit {name} has a soft value above its hard one");
        scope.error(at, KEY, message, "the soft value applies, and may be raised up to the hard one");
    }
    Some(LimitRange { soft, hard })
}

/// -1 is unlimited.
fn value(name: &str, node: &Node, scope: &mut Scope<'_, '_, '_>) -> Option<u64> {
    let text = node.text().unwrap_or_default();
    let value = if text == "-1" { Some(u64::MAX) } else { text.parse().ok() };
    if value.is_none() {
        let message = format!("the limit {name} is {text}: expected a number from 0, or -1 for no limit");
        scope.error(node.at, KEY, message, "");
    }
    value
}
