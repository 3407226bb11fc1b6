//! `configs` and `secrets` of the file.

use std::collections::BTreeMap;

use super::super::check::path;
use super::super::nearest::nearest;
use super::super::node::{Key, Node};
use super::super::project::Reader;
use super::super::source_text::Span;
use super::content::Read;
use super::{key, on_change};
use crate::model::{FileKind, OnChange};

/// More than one host has use for.
const MAX_FILES: usize = 1000;

/// The configs and secrets that services may name, and what is done when one changes where nothing nearer says so.
#[derive(Debug)]
pub(in crate::spec) struct Definitions {
    configs: BTreeMap<String, Definition>,
    secrets: BTreeMap<String, Definition>,
    pub(super) everywhere: Option<OnChange>,
    /// What all contents may still take.
    pub(super) bytes_left: usize,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Definition {
    /// Where its name stands.
    pub(super) at: Span,
    pub(super) from: From,
    /// What was read, once it was asked for.
    pub(super) read: Option<Read>,
}

/// Where its content comes from.
#[derive(Debug)]
pub(super) enum From {
    File(String, Span),
    /// A variable of the `.env` file.
    Variable(String, Span),
    Text(String),
    /// Kept outside of the state folder, by this name.
    External(String),
    /// As it is written it cannot be used; why, and what to do.
    Nothing(String, &'static str),
}

impl Definitions {
    pub(in crate::spec) fn read(root: &Node, reader: &mut Reader<'_, '_>) -> Self {
        let everywhere = on_change::read(root, "", reader);
        let configs = all(FileKind::Config, root, reader);
        Self { configs, secrets: all(FileKind::Secret, root, reader), everywhere, bytes_left: 16 << 20 }
    }

    pub(super) fn find(&mut self, kind: FileKind, name: &str) -> Option<&mut Definition> {
        match kind {
            FileKind::Config => self.configs.get_mut(name),
            FileKind::Secret => self.secrets.get_mut(name),
        }
    }

    pub(super) fn nearest(&self, kind: FileKind, name: &str) -> Option<&str> {
        let all = match kind {
            FileKind::Config => &self.configs,
            FileKind::Secret => &self.secrets,
        };
        nearest(name, all.keys().map(String::as_str))
    }
}

fn all(kind: FileKind, root: &Node, reader: &mut Reader<'_, '_>) -> BTreeMap<String, Definition> {
    let given = root.given(key(kind)).map(Node::entries).unwrap_or_default();
    if let Some((at, _)) = given.get(MAX_FILES) {
        let what = key(kind);
        reader.report.error(at.at, what, format!("a file may have at most {MAX_FILES} {what}"));
    }
    let one = |(name, body): &(Key, Node)| (name.text.clone(), definition(kind, name, body, reader));
    given.iter().take(MAX_FILES).map(one).collect()
}

fn definition(kind: FileKind, name: &Key, body: &Node, reader: &mut Reader<'_, '_>) -> Definition {
    let full = path(key(kind), &name.text);
    let from = from(kind, name, body, &full, reader);
    Definition { at: name.at, from, read: None }
}

fn from(kind: FileKind, name: &Key, body: &Node, full: &str, reader: &mut Reader<'_, '_>) -> From {
    let text = |name: &str| body.given(name).and_then(|node| Some((node.text()?.to_owned(), node.at)));
    let filled = |name: &str| text(name).filter(|(text, _)| !text.is_empty());
    let external = external(body);
    // An empty content is one; an empty name is none.
    let given: Vec<&str> = ["file", "environment", "content"].into_iter().filter(|name| text(name).is_some()).collect();
    if given.len() + usize::from(external.is_some()) > 1 {
        let message = format!("the {} {:?} has more than one source", kind.word(), name.text);
        reader.report.error(name.at, full, message).hint("keep one of `file`, `environment`, `content` and `external`");
    }
    if body.given("template_driver").or_else(|| body.given("driver")).is_some() {
        let message = format!("the {} {:?} is made by a driver, and there is none", kind.word(), name.text);
        return From::Nothing(
            message,
            "write `file`, or keep it here: `longshore secret set NAME` and `external: true`",
        );
    }
    if let Some(inside) = external {
        let outside = filled("name").map(|(name, _)| name).or(inside).unwrap_or_else(|| name.text.clone());
        return From::External(outside);
    }
    if let Some((file, at)) = filled("file") {
        return From::File(file, at);
    }
    if let Some((variable, at)) = filled("environment") {
        return From::Variable(variable, at);
    }
    if let Some((content, _)) = text("content") {
        return From::Text(content);
    }
    let message = format!("the {} {:?} has no source", kind.word(), name.text);
    let hint = match kind {
        FileKind::Config => "write `file`, `content` or `environment` below it",
        FileKind::Secret => "write `file` or `environment` below it, or `external: true`",
    };
    reader.report.error(name.at, full, message.clone()).hint(hint);
    From::Nothing(message, hint)
}

/// `external: true`, or the old form with the name inside.
fn external(body: &Node) -> Option<Option<String>> {
    let node = body.given("external")?;
    let inside = node.given("name").and_then(Node::text).filter(|name| !name.is_empty()).map(str::to_owned);
    (inside.is_some() || node.truth() == Some(true)).then_some(inside)
}
