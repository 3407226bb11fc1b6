//! The JSON Schema of a state file, made from the same tables that read it.
//!
//! It is for editors: it knows keys and kinds of values. What needs the whole file (names, references, images) is checked
//! by reading it. Every place that may hold a variable also takes text.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::keys::{Effect, FILE, Rule, Shape, Table};

/// The schema of a whole state file (JSON Schema 2020-12).
#[must_use]
pub fn schema() -> Value {
    let mut definitions = Definitions::default();
    let root = definitions.object(&FILE);
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("Longshore state file"));
    schema.insert("description".to_owned(), json!("A Compose file. Keys that do not act yet say so."));
    if let Value::Object(root) = root {
        schema.extend(root);
    }
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("$defs".to_owned(), definitions.finish());
    Value::Object(schema)
}

/// One definition for each table, in the order of their names.
#[derive(Default)]
struct Definitions(BTreeMap<&'static str, Value>);

impl Definitions {
    fn finish(self) -> Value {
        Value::Object(self.0.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect())
    }

    fn object(&mut self, table: &'static Table) -> Value {
        let properties: Map<String, Value> =
            table.rules.iter().map(|rule| (rule.name.to_owned(), self.property(rule))).collect();
        json!({
            "type": ["object", "null"],
            "properties": properties,
            "patternProperties": { "^x-": true },
            "additionalProperties": false,
        })
    }

    fn reference(&mut self, table: &'static Table) -> Value {
        if !self.0.contains_key(table.name) {
            // Taken before it is filled, so that a table that holds itself would end here.
            self.0.insert(table.name, Value::Null);
            let schema = self.object(table);
            self.0.insert(table.name, schema);
        }
        json!({ "$ref": format!("#/$defs/{}", table.name) })
    }

    fn property(&mut self, rule: &Rule) -> Value {
        let about = match rule.effect {
            Effect::Warns(means) => format!("{} Not supported yet: {means}.", rule.about),
            Effect::Holds(why, _) => format!("{} Not supported yet, the service is held: {why}.", rule.about),
            Effect::Acts | Effect::Nothing | Effect::Part | Effect::Inside => rule.about.to_owned(),
        };
        let shape = self.shape(&rule.shape);
        match shape {
            Value::Object(mut map) if !about.is_empty() => {
                map.insert("description".to_owned(), Value::String(about));
                Value::Object(map)
            }
            Value::Bool(true) if !about.is_empty() => json!({ "description": about }),
            other => other,
        }
    }

    fn shape(&mut self, shape: &Shape) -> Value {
        match shape {
            Shape::Anything => Value::Bool(true),
            Shape::Text => json!({ "type": ["string", "number"] }),
            Shape::Word(words) => json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": "\\$" }] }),
            Shape::Flag => json!({ "type": ["boolean", "string"] }),
            Shape::Whole => json!({ "type": ["integer", "string"] }),
            Shape::Number | Shape::Size => json!({ "type": ["number", "string"] }),
            Shape::Duration => json!({ "type": ["string", "integer"] }),
            Shape::Scalar => json!({ "type": ["string", "number", "boolean", "null"] }),
            Shape::List(inner) => json!({ "type": ["array", "null"], "items": self.shape(inner) }),
            Shape::Map(inner) => json!({ "type": ["object", "null"], "additionalProperties": self.shape(inner) }),
            Shape::Object(table) => self.reference(table),
            Shape::Either(shapes) => {
                let all: Vec<Value> = shapes.iter().map(|shape| self.shape(shape)).collect();
                json!({ "anyOf": all })
            }
        }
    }
}
