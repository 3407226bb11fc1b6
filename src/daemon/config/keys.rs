//! From text to the file's type, with unknown keys told by their place and the nearest known one.

use std::path::Path;

use serde_json::Value;

use super::{ConfigFile, place};
use crate::model::{Location, Problem};
use crate::spec::nearest;

pub(super) fn parse(path: &Path, text: &str) -> Result<ConfigFile, Vec<Problem>> {
    let at = |error: &serde_json::Error| {
        let (line, column) = (u32::try_from(error.line()).unwrap_or(0), u32::try_from(error.column()).unwrap_or(0));
        Location::at(path, line, column)
    };
    let value: Value = serde_json::from_str(text).map_err(|e| {
        vec![Problem::error(at(&e), format!("it is not JSON: {e}")).with_hint("check commas and quotes")]
    })?;
    let schema = super::schema();
    let mut unknown = Unknown { path, text, root: &schema, way: Vec::new(), problems: Vec::new() };
    unknown.look(&value, &schema);
    if !unknown.problems.is_empty() {
        return Err(unknown.problems);
    }
    serde_json::from_str(text).map_err(|e| vec![Problem::error(at(&e), e.to_string())])
}

/// Compares the keys with the schema's, so that there is one list of keys.
struct Unknown<'t> {
    path: &'t Path,
    text: &'t str,
    root: &'t Value,
    /// The keys that lead to where we are.
    way: Vec<String>,
    problems: Vec<Problem>,
}

impl<'t> Unknown<'t> {
    fn look(&mut self, value: &Value, schema: &'t Value) {
        let schema = match schema.get("$ref").and_then(|r| r.as_str()).and_then(|r| r.strip_prefix('#')) {
            Some(pointer) => self.root.pointer(pointer).unwrap_or(schema),
            None => schema,
        };
        let Some(map) = value.as_object() else { return };
        let known = schema.get("properties").and_then(Value::as_object);
        // A map whose keys are the owner's has one schema for all of them.
        let any = schema.get("additionalProperties").filter(|s| s.is_object());
        if known.is_none() && any.is_none() {
            return;
        }
        for (key, inner) in map {
            self.way.push(key.clone());
            match known.and_then(|known| known.get(key)).or(any) {
                Some(schema) => self.look(inner, schema),
                None => self.unknown(key, known.into_iter().flatten().map(|(key, _)| key)),
            }
            self.way.pop();
        }
    }

    fn unknown<'k>(&mut self, key: &str, known: impl Iterator<Item = &'k String>) {
        let words: Vec<String> = known.map(|k| k.replace('-', "_")).collect();
        let nearest = nearest(key, words.iter().map(String::as_str)).map(|word| word.replace('_', "-"));
        let hint = nearest.map_or_else(|| "see the README for all keys".to_owned(), |n| format!("did you mean {n}?"));
        let message = format!("the key {} is not known", self.way.join("."));
        let place = place::locate(self.path, self.text, &self.way);
        self.problems.push(Problem::error(place, message).with_hint(hint));
    }
}
