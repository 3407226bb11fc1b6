//! One service while its keys are read: where they stand, and what is said of them.
//!
//! Names of keys may be dotted (`deploy.resources.limits.memory`), below the service.

use std::ops::RangeInclusive;

use super::effects;
use super::node::{Node, Value};
use super::project::Reader;
use super::source_text::Span;
use crate::model::{Ability, Hold, Loosening, Wish};

/// Nobody reads more reasons why one service is not started.
pub(super) const MAX_HOLDS: usize = 20;

pub(super) struct Scope<'s, 'r, 'a> {
    body: &'s Node,
    key: &'s str,
    name_at: Span,
    pub(super) reader: &'s mut Reader<'r, 'a>,
    found: Found,
}

/// What its keys say beside their values.
#[derive(Default)]
pub(super) struct Found {
    pub(super) holds: Vec<Hold>,
    pub(super) loosenings: Vec<Loosening>,
    pub(super) wishes: Vec<Wish>,
}

impl<'s, 'r, 'a> Scope<'s, 'r, 'a> {
    /// `name_at`: where the key stands of which this is the value.
    pub(super) fn new(body: &'s Node, key: &'s str, name_at: Span, reader: &'s mut Reader<'r, 'a>) -> Self {
        Self { body, key, name_at, reader, found: Found::default() }
    }

    /// What was found, in the file's order.
    pub(super) fn finish(self) -> Found {
        let mut found = self.found;
        found.loosenings.sort_by(|a, b| a.location.cmp(&b.location));
        found.wishes.sort_by(|a, b| a.location.cmp(&b.location));
        found
    }

    /// The map whose keys are read.
    pub(super) const fn body(&self) -> &'s Node {
        self.body
    }
    /// Where its name stands.
    pub(super) const fn name_at(&self) -> Span {
        self.name_at
    }
    /// A value that was given and is not null.
    pub(super) fn given(&self, name: &str) -> Option<&'s Node> {
        name.split('.').try_fold(self.body, |node, part| node.given(part))
    }
    /// Where the key stands.
    pub(super) fn place(&self, name: &str) -> Span {
        let (above, last) = name.rsplit_once('.').unwrap_or(("", name));
        let map = if above.is_empty() { Some(self.body) } else { self.given(above) };
        map.and_then(|map| map.entry(last)).map_or(self.body.at, |(key, _)| key.at)
    }
    /// A text that is not empty.
    pub(super) fn word(&self, name: &str) -> Option<(&'s str, Span)> {
        let node = self.given(name)?;
        node.text().filter(|text| !text.is_empty()).map(|text| (text, node.at))
    }
    /// A text, or each of a list of them.
    pub(super) fn texts(&self, name: &str) -> Vec<(&'s str, Span)> {
        let Some(node) = self.given(name) else { return Vec::new() };
        let items = if let Value::List(items) = &node.value { items.as_slice() } else { std::slice::from_ref(node) };
        let text = |item: &'s Node| item.text().filter(|text| !text.is_empty()).map(|text| (text, item.at));
        items.iter().filter_map(text).collect()
    }
    pub(super) fn flag(&self, name: &str) -> bool {
        self.given(name).and_then(Node::truth).unwrap_or(false)
    }
    /// A whole number in a range.
    pub(super) fn whole(&mut self, name: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let (text, at) = self.word(name)?;
        let number = text.parse::<i64>().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let message =
                format!("`{name}` is {text}: expected a whole number from {} to {}", range.start(), range.end());
            self.error(at, name, message, "");
        }
        number
    }

    /// The whole file is not used.
    pub(super) fn error(&mut self, at: Span, name: &str, message: impl Into<String>, hint: &str) {
        let noted = self.reader.report.error(at, &self.full(name), message);
        if !hint.is_empty() {
            noted.hint(hint);
        }
    }
    /// The owner should know.
    pub(super) fn warn(&mut self, at: Span, name: &str, message: impl Into<String>, hint: &str) {
        let noted = self.reader.report.warning(at, &self.full(name), message);
        if !hint.is_empty() {
            noted.hint(hint);
        }
    }
    /// The service is not started.
    pub(super) fn hold(&mut self, at: Span, name: &str, why: &str, hint: &str) {
        let key = self.full(name);
        let hold = effects::hold(self.reader.report, at, &key, &effects::unsupported(&key, why), hint);
        self.found.holds.push(hold);
    }
    /// The service is not started as it is written.
    pub(super) fn stop(&mut self, at: Span, name: &str, message: impl AsRef<str>, hint: &str) {
        if self.found.holds.len() < MAX_HOLDS {
            let hold = effects::hold(self.reader.report, at, &self.full(name), message.as_ref(), hint);
            self.found.holds.push(hold);
        }
    }
    /// The service is less confined than by default.
    pub(super) fn loosen(&mut self, at: Span, name: &str, what: impl Into<String>) {
        let location = self.reader.report.source.location(at);
        self.found.loosenings.push(Loosening { what: what.into(), key: self.full(name), location });
    }
    /// The key needs something of the machine.
    pub(super) fn wish(&mut self, name: &str, ability: Ability) {
        self.ask(name, ability, ability.protects());
    }
    /// The key would like something of the machine, and the service runs without.
    pub(super) fn prefer(&mut self, name: &str, ability: Ability) {
        self.ask(name, ability, false);
    }

    /// What stands at this place needs something of the machine.
    pub(super) fn need(&mut self, at: Span, name: &str, ability: Ability) {
        let location = self.reader.report.source.location(at);
        self.found.wishes.push(Wish { ability, needed: true, key: self.full(name), location });
    }
    /// All of it needs something of the machine.
    pub(super) fn need_itself(&mut self, ability: Ability) {
        let location = self.reader.report.source.location(self.name_at);
        self.found.wishes.push(Wish { ability, needed: true, key: self.key.to_owned(), location });
    }

    fn ask(&mut self, name: &str, ability: Ability, needed: bool) {
        let location = self.reader.report.source.location(self.place(name));
        self.found.wishes.push(Wish { ability, needed, key: self.full(name), location });
    }
    /// The whole path of a key.
    pub(super) fn full(&self, name: &str) -> String {
        format!("{}.{name}", self.key)
    }
}
