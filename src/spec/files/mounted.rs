//! `configs` and `secrets` of a service: which it sees, where, whose and with which mode.

use std::collections::{BTreeMap, BTreeSet};

use super::super::node::{Kind, Node};
use super::super::scope::Scope;
use super::super::source_text::Span;
use super::super::tmpfs::absolute;
use super::content::{Read, content};
use super::{Definitions, key, on_change};
use crate::model::{FileKind, MountedFile, OnChange};

const SECRETS: &str = "/run/secrets";
/// The id that stands for none.
const NO_ID: u32 = u32::MAX;

/// The files of a service, by target. `taken`: where it has mounts and folders in memory.
pub(in crate::spec) fn read(
    taken: &BTreeSet<&str>,
    definitions: &mut Definitions,
    scope: &mut Scope<'_, '_, '_>,
) -> Vec<MountedFile> {
    let own = scope.full("");
    let service = on_change::read(scope.body(), own.trim_end_matches('.'), scope.reader);
    let usual = service.or(definitions.everywhere).unwrap_or_default();
    let mut files: BTreeMap<String, MountedFile> = BTreeMap::new();
    for kind in [FileKind::Config, FileKind::Secret] {
        let items = scope.given(key(kind)).map(Node::items).unwrap_or_default();
        for (number, item) in items.iter().enumerate() {
            let Some(file) = one(kind, number, item, usual, definitions, scope) else { continue };
            let by = if taken.contains(file.target.as_str()) {
                Some("a mount".to_owned())
            } else {
                files.get(&file.target).map(|other| format!("the {} {:?}", other.kind.word(), other.name))
            };
            if let Some(by) = by {
                let message = format!("the place {:?} is taken by {by}", file.target);
                scope.error(item.at, key(kind), message, "give one of them another `target`");
                continue;
            }
            files.insert(file.target.clone(), file);
        }
    }
    files.into_values().collect()
}

fn one(
    kind: FileKind,
    number: usize,
    item: &Node,
    usual: OnChange,
    definitions: &mut Definitions,
    scope: &mut Scope<'_, '_, '_>,
) -> Option<MountedFile> {
    let (name, at) = match item.text() {
        Some(text) => (text, item.at),
        None => item.given("source").and_then(|node| Some((node.text()?, node.at))).unwrap_or(("", item.at)),
    };
    if name.is_empty() {
        scope.error(item.at, key(kind), format!("`source` is missing: which {}?", kind.word()), "name one of the file");
        return None;
    }
    let full = scope.full(&format!("{}[{number}]", key(kind)));
    let own = on_change::read(item, &full, scope.reader);
    let target = target(kind, name, item, scope);
    let (uid, gid) = (id("uid", kind, item, scope), id("gid", kind, item, scope));
    let mode = mode(kind, item, scope);
    let near = definitions.nearest(kind, name).map(|near| format!("did you mean {near:?}? "));
    let mut left = definitions.bytes_left;
    let Some(definition) = definitions.find(kind, name) else {
        let message = format!("there is no {} {name:?} in the file", kind.word());
        let hint = format!("{}define it below `{}:` of the file", near.unwrap_or_default(), key(kind));
        scope.error(at, key(kind), message, &hint);
        return None;
    };
    let kept = match &definition.from {
        super::definitions::From::External(outside) if kind == FileKind::Secret => Some(outside.clone()),
        _ => None,
    };
    let read = content(kind, name, definition, &mut left, scope.reader);
    definitions.bytes_left = left;
    match read {
        Read::Refused => None,
        Read::Held(why, hint) => {
            scope.stop(at, key(kind), why, &hint);
            None
        }
        Read::Done(content, fingerprint) => Some(MountedFile {
            kind,
            name: name.to_owned(),
            target: target?,
            uid,
            gid,
            mode: mode?,
            on_change: own.unwrap_or(usual),
            fingerprint,
            kept,
            content: Some(content),
        }),
    }
}

fn target(kind: FileKind, name: &str, item: &Node, scope: &mut Scope<'_, '_, '_>) -> Option<String> {
    let given = item.given("target").and_then(|node| Some((node.text()?, node.at)));
    let (text, at) = given.filter(|(text, _)| !text.is_empty()).unwrap_or((name, item.at));
    let whole = match kind {
        _ if text.starts_with('/') => text.to_owned(),
        FileKind::Config => format!("/{text}"),
        FileKind::Secret => format!("{SECRETS}/{text}"),
    };
    let below =
        |path: &str| path == "/" || path == SECRETS || ["/proc", "/sys", "/dev"].iter().any(|p| inside(path, p));
    match absolute(&whole).filter(|clean| !whole.contains('\0') && !whole.ends_with('/') && !below(clean)) {
        Some(clean) => Some(clean),
        None => {
            let message = format!("{text:?} is not a place for a file");
            scope.error(
                at,
                key(kind),
                message,
                "write a path below `/`, without `..`, and not of the kernel's folders",
            );
            None
        }
    }
}

fn inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn id(name: &str, kind: FileKind, item: &Node, scope: &mut Scope<'_, '_, '_>) -> Option<u32> {
    let node = item.given(name)?;
    let text = node.text().filter(|text| !text.is_empty())?;
    let id = text.parse::<u32>().ok().filter(|id| *id != NO_ID);
    if id.is_none() {
        let message = format!("`{name}` is {text:?}: expected a number");
        scope.error(node.at, key(kind), message, "names of users are known inside the image only; write the number");
    }
    id
}

/// Octal, as everybody writes it. A number without a leading zero is decimal to YAML, and so to Compose.
fn mode(kind: FileKind, item: &Node, scope: &mut Scope<'_, '_, '_>) -> Option<u32> {
    let usual = match kind {
        FileKind::Config => 0o444,
        FileKind::Secret => 0o400,
    };
    let Some((scalar, at)) = item.given("mode").and_then(|node| Some((node.scalar()?, node.at))) else {
        return Some(usual);
    };
    let text = scalar.text.as_str();
    let octal = |text: &str| u32::from_str_radix(text, 8).ok();
    let mode = match text.strip_prefix("0o").or_else(|| text.strip_prefix('0')) {
        Some("") => Some(0),
        Some(rest) => octal(rest),
        None if scalar.kind == Kind::Quoted => octal(text),
        None => decimal(text, at, kind, scope),
    };
    let fitting = mode.filter(|mode| *mode <= 0o777);
    if fitting.is_none() {
        let message = format!("{text:?} is not a mode");
        scope.error(at, key(kind), message, "write three octal digits after a zero: 0440");
    }
    fitting
}

fn decimal(text: &str, at: Span, kind: FileKind, scope: &mut Scope<'_, '_, '_>) -> Option<u32> {
    let mode = text.parse::<u32>().ok().filter(|mode| *mode <= 0o777)?;
    let message = format!("the mode {text} has no leading zero: it is decimal, which is {mode:04o}");
    scope.warn(at, key(kind), message, &format!("write 0{text} if that was meant, or {mode:04o}"));
    Some(mode)
}
