//! A service's environment: `env_file`, then `environment` over it; and the other `KEY=value` lists.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::check::path;
use super::dotenv::{self, Format};
use super::node::{Kind, Node, Value};
use super::project::Reader;
use super::source_text::Span;
use crate::model::EnvVar;

/// The resolved environment, each name once, in the file's order.
pub(super) fn read(service: &Node, key: &str, reader: &mut Reader<'_, '_>) -> Vec<EnvVar> {
    let mut all = Environment::default();
    if let Some(files) = service.given("env_file") {
        let key = path(key, "env_file");
        match &files.value {
            Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    env_file(item, &format!("{key}[{at}]"), reader, &mut all);
                }
            }
            Value::Scalar(_) | Value::Map(_) => env_file(files, &key, reader, &mut all),
        }
    }
    if let Some(node) = service.given("environment") {
        let key = path(key, "environment");
        for Pair { name, value, at } in pairs(node) {
            check_name(&name, at, &key, reader);
            let value = value.or_else(|| reader.variable(&name));
            all.set(EnvVar { name, value });
        }
    }
    all.variables
}

/// Labels, annotations: names with text.
pub(super) fn labels(service: &Node, name: &str) -> BTreeMap<String, String> {
    let pairs = service.given(name).map(pairs).unwrap_or_default();
    pairs.into_iter().map(|pair| (pair.name, pair.value.unwrap_or_default())).collect()
}

pub(super) struct Pair {
    pub(super) name: String,
    pub(super) value: Option<String>,
    pub(super) at: Span,
}

/// Both forms: a map, or a list of `NAME=value`.
pub(super) fn pairs(node: &Node) -> Vec<Pair> {
    let of_item = |item: &Node| {
        let text = item.text().unwrap_or_default();
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
        Pair { name: name.to_owned(), value, at: item.at }
    };
    let of_entry = |(key, value): &(super::node::Key, Node)| {
        let value = value.scalar().filter(|scalar| scalar.kind != Kind::Null).map(|scalar| scalar.text.clone());
        Pair { name: key.text.clone(), value, at: key.at }
    };
    match &node.value {
        Value::List(items) => items.iter().map(of_item).collect(),
        Value::Map(entries) => entries.iter().map(of_entry).collect(),
        Value::Scalar(_) => Vec::new(),
    }
}

fn check_name(name: &str, at: Span, key: &str, reader: &mut Reader<'_, '_>) {
    if name.is_empty() || name.contains(['=', '\0']) {
        let message = format!("{name:?} is not a name of a variable; it must not be empty nor hold `=`");
        reader.report.error(at, key, message);
    }
}

/// Variables in the order in which they were first named, each once.
#[derive(Default)]
struct Environment {
    variables: Vec<EnvVar>,
    places: HashMap<String, usize>,
}

impl Environment {
    fn set(&mut self, variable: EnvVar) {
        let next = self.variables.len();
        let place = *self.places.entry(variable.name.clone()).or_insert(next);
        match self.variables.get_mut(place) {
            Some(known) => known.value = variable.value,
            None => self.variables.push(variable),
        }
    }
}

fn env_file(node: &Node, key: &str, reader: &mut Reader<'_, '_>, all: &mut Environment) {
    let name = node.given("path").unwrap_or(node);
    let required = node.given("required").and_then(Node::truth).unwrap_or(true);
    let format = match node.given("format").and_then(Node::text) {
        None | Some("") => Format::Compose,
        Some("raw") => Format::Raw,
        Some(other) => {
            reader
                .report
                .error(node.at, key, format!("the format {other:?} is not known"))
                .hint("the only one is `raw`");
            return;
        }
    };
    let Some(text) = name.text().filter(|text| !text.is_empty()) else {
        reader.report.error(node.at, key, format!("`{key}` names no file"));
        return;
    };
    let Some(bytes) = reader.file(&PathBuf::from(text), required, name.at, key) else { return };
    let outer = |name: &str| reader.variable(name);
    match dotenv::read(&bytes, format, &outer) {
        Err(fault) => {
            let message = format!("the env file {text:?} is not used: line {}: {}", fault.line, fault.message);
            reader.report.error(name.at, key, message);
        }
        Ok(read) => {
            for line in read.unset {
                let message = format!("line {line} of {text:?} uses a variable that is not set; it is taken as empty");
                reader.report.warning(name.at, key, message).hint("a value with a dollar sign needs single quotes");
            }
            for line in read.lines {
                // Only a name: the value comes from `.env`, and without one there the line says nothing.
                if let Some(value) = line.value.or_else(|| reader.variable(&line.name)) {
                    all.set(EnvVar { name: line.name, value: Some(value) });
                }
            }
        }
    }
}
