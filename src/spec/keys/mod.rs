//! Every key of the Compose specification: what it may hold, and what it does here.
//!
//! There is one list of keys. Reading, warnings, holds and the JSON Schema all come from the tables below, so that a key
//! cannot be accepted in one place and unknown in another. A key that begins to act changes its [`Effect`], nothing else.

mod deploy;
mod extension;
mod parts;
mod service;
mod top;

pub(super) use deploy::{DEPLOY, RESTART_POLICY};
pub(super) use extension::LONGSHORE;
use extension::{IDMAP, ON_CHANGE};
pub(super) use service::SERVICE;
pub(super) use top::FILE;

/// The keys that a map may hold. `x-*` may stand in every one.
#[derive(Debug)]
pub(super) struct Table {
    /// What the map is, for messages and as its name in the schema.
    pub(super) name: &'static str,
    pub(super) rules: &'static [Rule],
}

/// One key.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) effect: Effect,
    pub(super) about: &'static str,
}

/// What a value may be. Where a list or a map may stand, so may nothing.
#[derive(Debug)]
pub(super) enum Shape {
    /// Text, also without quotes and also a number, as it was written.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    Flag,
    Whole,
    Number,
    Duration,
    /// Bytes: `512m`.
    Size,
    /// Any scalar, also nothing.
    Scalar,
    List(&'static Shape),
    /// Keys of the owner's choice.
    Map(&'static Shape),
    Object(&'static Table),
    Either(&'static [Shape]),
    Anything,
}

/// What a key does here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Effect {
    /// It is read and acted upon.
    Acts,
    /// It means nothing by its specification.
    Nothing,
    /// Decided by the key around it.
    Part,
    /// Decided by the keys inside it.
    Inside,
    /// Not supported yet; the service runs without it. What that means.
    Warns(&'static str),
    /// Not supported yet; the service must not run without it. Why; and the values that ask for nothing.
    Holds(&'static str, &'static [&'static str]),
}

impl Table {
    pub(super) fn rule(&self, name: &str) -> Option<&'static Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }
}

const fn rule(name: &'static str, shape: Shape, effect: Effect, about: &'static str) -> Rule {
    Rule { name, shape, effect, about }
}

/// A key inside another one that decides.
const fn part(name: &'static str, shape: Shape) -> Rule {
    Rule { name, shape, effect: Effect::Part, about: "" }
}

const TEXTS: Shape = Shape::List(&Shape::Text);
const TEXT_OR_TEXTS: Shape = Shape::Either(&[Shape::Text, TEXTS]);
/// `KEY: value` or `- KEY=value`.
const PAIRS: Shape = Shape::Either(&[Shape::Map(&Shape::Scalar), TEXTS]);
const OPTIONS: Shape = Shape::Map(&Shape::Scalar);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_has_a_key_twice() {
        for table in [&FILE, &SERVICE, &DEPLOY, &LONGSHORE] {
            for (at, rule) in table.rules.iter().enumerate() {
                assert!(table.rules[..at].iter().all(|other| other.name != rule.name), "{}", rule.name);
            }
        }
    }
}
