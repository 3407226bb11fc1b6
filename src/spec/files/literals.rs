//! Passwords that are written into `environment`: every process of the container, its inspection and the repository shows them.

use super::super::environment::{Pair, pairs};
use super::super::scope::Scope;

const WORDS: [&str; 12] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "APIKEY",
    "API_KEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
    "SECRET_KEY",
    "ENCRYPTION_KEY",
    "SECRET_KEY_BASE",
];
/// So many are named.
const NAMED: usize = 5;

/// One warning for a service that has such values in the state file itself.
pub(in crate::spec) fn warn(scope: &mut Scope<'_, '_, '_>) {
    const KEY: &str = "environment";
    let Some(node) = scope.given(KEY) else { return };
    let all = pairs(node);
    let written: Vec<&Pair> = all.iter().filter(|pair| looks_secret(pair) && !filled_in(pair, scope)).collect();
    let Some(first) = written.first() else { return };
    let mut names: Vec<&str> = written.iter().take(NAMED).map(|pair| pair.name.as_str()).collect();
    let more = written.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.dedup();
    let what = if written.len() == 1 { "a value that looks like a secret" } else { "values that look like secrets" };
    let message = format!("{what}, in clear: {}{more}", names.join(", "));
    let hint = "use `secrets` (many images read NAME_FILE), or a variable of the `.env` file: NAME: $NAME";
    let (key, at) = (scope.full(KEY), first.at);
    scope.reader.report.warning_without_line(at, &key, message).hint(hint);
}

fn looks_secret(pair: &Pair) -> bool {
    let name = pair.name.to_ascii_uppercase();
    let word = WORDS
        .iter()
        .any(|word| name.strip_suffix(word).is_some_and(|before| before.is_empty() || before.ends_with('_')));
    let value = pair.value.as_deref().unwrap_or_default();
    let says =
        !matches!(value.to_ascii_lowercase().as_str(), "" | "true" | "false" | "yes" | "no" | "on" | "off" | "0" | "1");
    word && says && !value.starts_with('/')
}

fn filled_in(pair: &Pair, scope: &Scope<'_, '_, '_>) -> bool {
    scope.reader.report.source.line(pair.at.line).is_some_and(|line| line.contains('$'))
}
