//! YAML text to [`Node`]s: anchors, aliases and merge keys applied, within a budget.
//!
//! The event parser is serde-saphyr's own. Its serde front would turn `1.10` into a number and drop tags and the places of
//! keys; here all of them matter. The stack of open collections is a `Vec` and its depth is bounded, so that no text can
//! overflow the thread's stack: not while it is read, nor while the tree is walked or dropped.

use std::collections::{HashMap, HashSet};

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, Span as ParserSpan, Tag};

use super::node::{Key, Node, Scalar, Value};
use super::source_text::{Source, Span};
use super::tree_errors::{self, Fault};
use crate::model::Problem;

/// Far deeper than any Compose file.
const MAX_DEPTH: usize = 64;
/// Values of the file with all aliases written out.
const MAX_NODES: usize = 300_000;
/// Characters of the file with all aliases written out.
const MAX_TEXT: usize = 8 * 1024 * 1024;

/// Reads the one document of a file.
pub(super) fn read(source: &Source<'_>) -> Result<Node, Box<Problem>> {
    // In JSON a tab may stand wherever a space may, in YAML it may not indent. Inside a JSON string it is not allowed.
    let spaced = is_json(source).then(|| source.text.replace('\t', " "));
    let text = spaced.as_deref().unwrap_or(source.text);
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, at) = event.map_err(|error| tree_errors::of_parser(source, &error))?;
        let tag = at.tag_start.map(|tag| place(&tag));
        tree.take(event, span(&at), tag).map_err(|fault| tree_errors::of_fault(source, fault))?;
    }
    tree.root.filter(|root| !root.is_null()).ok_or_else(|| tree_errors::nothing(source))
}

fn is_json(source: &Source<'_>) -> bool {
    source.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn place(mark: &Marker) -> Span {
    Span { line: number(mark.line()), column: number(mark.col() + 1), width: 1 }
}

fn span(at: &ParserSpan) -> Span {
    let width = if at.start.line() == at.end.line() { at.end.col().saturating_sub(at.start.col()) } else { usize::MAX };
    Span { width: number(width.max(1)), ..place(&at.start) }
}

/// What is being built.
#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, Weight)>,
    used: Weight,
    documents: usize,
    root: Option<Node>,
}

/// A collection that is not closed yet.
struct Open {
    at: Span,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<(Key, Node)>,
    lines: HashMap<String, u32>,
    key: Option<(Key, bool)>,
    merged: Vec<Node>,
}

/// What a value costs when it is written out.
#[derive(Default, Clone, Copy)]
struct Weight {
    nodes: usize,
    text: usize,
    depth: usize,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, at: Span, tag_at: Option<Span>) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(..) => self.document(at),
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = scalar(text.into_owned(), style, tag.as_deref(), tag_at.unwrap_or(at))?;
                self.scalar(scalar, at, style == ScalarStyle::Plain && tag_at.is_none(), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "seq", tag_at.unwrap_or(at))?;
                self.open(at, anchor, Inside::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "map", tag_at.unwrap_or(at))?;
                self.open(at, anchor, Inside::Map(OpenMap::default()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, at),
            _ => Ok(()),
        }
    }

    fn document(&mut self, at: Span) -> Result<(), Fault> {
        self.documents += 1;
        if self.documents > 1 { Err(Fault::SecondDocument(at)) } else { Ok(()) }
    }

    fn scalar(&mut self, scalar: Scalar, at: Span, plain: bool, anchor: usize) -> Result<(), Fault> {
        if let Some(Open { inside: Inside::Map(map), .. }) = self.open.last_mut()
            && map.key.is_none()
        {
            self.used.text += scalar.text.len();
            map.key = Some((Key { at, text: scalar.text }, plain));
            return Ok(());
        }
        let weight = Weight { nodes: 1, text: scalar.text.len(), depth: 0 };
        self.spend(weight, at)?;
        self.finish(Node { at, value: Value::Scalar(scalar) }, anchor)
    }

    fn open(&mut self, at: Span, anchor: usize, inside: Inside) -> Result<(), Fault> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Fault::TooDeep(at, MAX_DEPTH));
        }
        if matches!(self.open.last(), Some(Open { inside: Inside::Map(map), .. }) if map.key.is_none()) {
            return Err(Fault::CollectionAsKey(at));
        }
        self.spend(Weight { nodes: 1, text: 0, depth: 0 }, at)?;
        self.open.push(Open { at, anchor, inside });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(Open { at, anchor, inside }) = self.open.pop() else { return Ok(()) };
        let value = match inside {
            Inside::List(items) => Value::List(items),
            Inside::Map(map) => Value::Map(merge(map)),
        };
        self.finish(Node { at, value }, anchor)
    }

    fn alias(&mut self, anchor: usize, at: Span) -> Result<(), Fault> {
        // An anchor that is known to the parser but not closed yet is one that holds this alias.
        let Some((node, weight)) = self.anchors.get(&anchor) else { return Err(Fault::Recursive(at)) };
        let (node, weight) = (node, *weight);
        if self.open.len() + weight.depth > MAX_DEPTH {
            return Err(Fault::TooDeep(at, MAX_DEPTH));
        }
        if matches!(self.open.last(), Some(Open { inside: Inside::Map(map), .. }) if map.key.is_none()) {
            return Err(Fault::AliasAsKey(at));
        }
        // Paid for before it is copied.
        spend(&mut self.used, weight, at)?;
        let copy = node.clone();
        self.finish(copy, 0)
    }

    /// Puts a complete value where it belongs.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            let weight = weigh(&node);
            self.spend(weight, node.at)?;
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open { inside: Inside::List(items), .. }) => items.push(node),
            Some(Open { inside: Inside::Map(map), .. }) => return map.put(node),
        }
        Ok(())
    }

    fn spend(&mut self, weight: Weight, at: Span) -> Result<(), Fault> {
        spend(&mut self.used, weight, at)
    }
}

fn spend(used: &mut Weight, weight: Weight, at: Span) -> Result<(), Fault> {
    used.nodes = used.nodes.saturating_add(weight.nodes);
    used.text = used.text.saturating_add(weight.text);
    if used.nodes > MAX_NODES || used.text > MAX_TEXT { Err(Fault::TooMuch(at, MAX_NODES)) } else { Ok(()) }
}

/// Recursive: its depth is bounded by `MAX_DEPTH`.
fn weigh(node: &Node) -> Weight {
    let mut sum = Weight { nodes: 1, text: 0, depth: 0 };
    let mut add = |child: &Node, key: usize| {
        let weight = weigh(child);
        sum.nodes += weight.nodes;
        sum.text += weight.text + key;
        sum.depth = sum.depth.max(weight.depth + 1);
    };
    match &node.value {
        Value::Scalar(scalar) => sum.text = scalar.text.len(),
        Value::List(items) => items.iter().for_each(|item| add(item, 0)),
        Value::Map(entries) => entries.iter().for_each(|(key, value)| add(value, key.text.len())),
    }
    if !matches!(node.value, Value::Scalar(_)) {
        sum.depth = sum.depth.max(1);
    }
    sum
}

impl OpenMap {
    fn put(&mut self, node: Node) -> Result<(), Fault> {
        let Some((key, plain)) = self.key.take() else { return Err(Fault::CollectionAsKey(node.at)) };
        if let Some(first) = self.lines.insert(key.text.clone(), key.at.line) {
            return Err(Fault::Twice { key, first });
        }
        if plain && key.text == "<<" {
            return self.put_merge(node);
        }
        self.entries.push((key, node));
        Ok(())
    }

    fn put_merge(&mut self, node: Node) -> Result<(), Fault> {
        match node.value {
            Value::Map(_) => self.merged.push(node),
            Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
                self.merged.extend(items);
            }
            Value::List(_) | Value::Scalar(_) => return Err(Fault::MergeOfNoMap(node.at)),
        }
        Ok(())
    }
}

/// A key of the map itself wins over a merged one, an earlier merged map over a later one (YAML 1.1, "Merge Key").
fn merge(map: OpenMap) -> Vec<(Key, Node)> {
    let mut entries = map.entries;
    if map.merged.is_empty() {
        return entries;
    }
    let mut seen: HashSet<String> = entries.iter().map(|(key, _)| key.text.clone()).collect();
    for node in map.merged {
        let Value::Map(merged) = node.value else { continue };
        entries.extend(merged.into_iter().filter(|(key, _)| seen.insert(key.text.clone())));
    }
    entries
}

fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>, at: Span) -> Result<Scalar, Fault> {
    let Some(tag) = tag else {
        return Ok(if style == ScalarStyle::Plain { Scalar::plain(text) } else { Scalar::quoted(text) });
    };
    match tag.core_suffix() {
        Some("str") => Ok(Scalar::quoted(text)),
        Some("int" | "float" | "bool" | "null") => Ok(Scalar::plain(text)),
        _ if tag.original() == "!" => Ok(Scalar::quoted(text)),
        _ => Err(Fault::Tag(tag.original(), at)),
    }
}

fn check_tag(tag: Option<&Tag>, core: &str, at: Span) -> Result<(), Fault> {
    match tag {
        Some(tag) if tag.core_suffix() != Some(core) && tag.original() != "!" => Err(Fault::Tag(tag.original(), at)),
        _ => Ok(()),
    }
}
