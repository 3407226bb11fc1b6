//! A mount as a map: `type`, `source`, `target` and what belongs to its type.

use super::super::environment;
use super::super::node::Node;
use super::super::scope::Scope;
use super::super::size;
use super::super::source_text::Span;
use super::short::propagation;
use super::{Fault, KEY, What, Written, ours, place};
use crate::model::{ImageReference, Propagation, Recursive, Relabel};

const TYPES: &str = "it may be bind, volume, tmpfs or image";

/// `key`: the whole path of the entry.
pub(super) fn read<'s>(node: &'s Node, key: &str, scope: &mut Scope<'s, '_, '_>) -> Option<Written<'s>> {
    let kind = word(node, "type").map_or("", |(kind, _)| kind);
    let what = match kind {
        "bind" => bind(node, scope),
        "volume" => volume(node, scope),
        "tmpfs" => tmpfs(node, scope),
        "image" => image(node, scope),
        "" => {
            scope.error(node.at, KEY, "the mount has no type", TYPES);
            None
        }
        other => {
            let why = match other {
                "npipe" => "it is a pipe of Windows, and the service would run without it",
                _ => "volumes of a cluster are for more than one host, and the service would run without its data",
            };
            let at = word(node, "type").map_or(node.at, |(_, at)| at);
            scope.hold(at, KEY, why, TYPES);
            return None;
        }
    };
    strangers(node, kind, scope);
    let Some((target, _)) = word(node, "target") else {
        scope.error(node.at, KEY, "the mount has no target", "write where in the container it is to be seen");
        return None;
    };
    let owner = ours::read(node, key, scope.reader).owner;
    if kind == "tmpfs" && owner.is_some() {
        scope.error(node.at, KEY, "a folder in memory has no owners on the host (idmap)", "remove `idmap`");
    }
    let read_only = kind == "image" || flag(node, "read_only");
    Some(Written { at: node.at, target, read_only, owner, what: what? })
}

fn word<'s>(node: &'s Node, name: &str) -> Option<(&'s str, Span)> {
    let node = node.given(name)?;
    node.text().filter(|text| !text.is_empty()).map(|text| (text, node.at))
}

fn flag(node: &Node, name: &str) -> bool {
    node.given(name).and_then(Node::truth).unwrap_or(false)
}

/// Options of another type.
fn strangers(node: &Node, kind: &str, scope: &mut Scope<'_, '_, '_>) {
    for other in ["bind", "volume", "tmpfs", "image"] {
        if let Some((key, value)) = node.entry(other)
            && other != kind
            && !kind.is_empty()
            && !value.entries().is_empty()
        {
            scope.warn(key.at, KEY, format!("`{other}` has no effect on a mount of type {kind}"), "remove it");
        }
    }
}

fn bind<'s>(node: &'s Node, scope: &mut Scope<'s, '_, '_>) -> Option<What<'s>> {
    let Some((source, _)) = word(node, "source") else {
        scope.error(node.at, KEY, "the bind mount has no source", "write which file or folder of the host it is");
        return None;
    };
    let (mut travels, mut label, mut recursive, mut create) = (Propagation::Private, None, Recursive::Enabled, false);
    if let Some(more) = node.given("bind") {
        create = flag(more, "create_host_path");
        if let Some((text, at)) = word(more, "propagation") {
            match propagation(text) {
                Some(known) => travels = known,
                None => {
                    let hint = "it may be rprivate, rslave, rshared, private, slave or shared";
                    scope.error(at, KEY, format!("{text:?} is not a propagation of mounts"), hint);
                }
            }
        }
        if let Some((text, at)) = word(more, "selinux") {
            match text {
                "z" => label = Some(Relabel::Shared),
                "Z" => label = Some(Relabel::Private),
                other => {
                    let hint = "write z (for all containers) or Z (for this one alone)";
                    scope.error(at, KEY, format!("{other:?} is not a way to label for SELinux"), hint);
                }
            }
        }
        if let Some((text, at)) = word(more, "recursive") {
            recursive = match text {
                "disabled" => Recursive::Disabled,
                "writable" => Recursive::Writable,
                "readonly" => Recursive::ReadOnly,
                _ => Recursive::Enabled,
            };
            if matches!(recursive, Recursive::Writable | Recursive::ReadOnly) && !flag(node, "read_only") {
                let message = format!("`recursive: {text}` is for read-only mounts");
                scope.error(at, KEY, message, "write `read_only: true` beside it, or remove it");
            } else if recursive == Recursive::ReadOnly && travels != Propagation::Private {
                let message = format!("`recursive: {text}` needs a private propagation");
                scope.error(at, KEY, message, "remove `propagation`");
            }
        }
    }
    Some(What::Bind { source, create, propagation: travels, recursive, label })
}

fn volume<'s>(node: &'s Node, scope: &mut Scope<'s, '_, '_>) -> Option<What<'s>> {
    let source = word(node, "source").map(|(source, _)| source);
    let Some(more) = node.given("volume") else {
        return Some(What::Volume { source, subpath: None, no_copy: false, labels: Default::default() });
    };
    let subpath = subpath(more, "a volume", scope)?;
    let labels = environment::labels(more, "labels");
    if source.is_some() && !labels.is_empty() {
        let at = more.entry("labels").map_or(more.at, |(key, _)| key.at);
        let message = "these labels have no effect: a volume with a name has those of its definition";
        scope.warn(at, KEY, message, "write them below `volumes:` of the file");
    }
    Some(What::Volume { source, subpath, no_copy: flag(more, "nocopy"), labels })
}

/// Of none, nothing; where it is wrong, that is told.
fn subpath(more: &Node, of: &str, scope: &mut Scope<'_, '_, '_>) -> Option<Option<String>> {
    let Some((text, at)) = word(more, "subpath") else { return Some(None) };
    match place::subpath(text, of) {
        Ok(subpath) => Some(subpath),
        Err((message, hint)) => {
            scope.error(at, KEY, message, &hint);
            None
        }
    }
}

/// Another image's files, which nobody may write to.
fn image<'s>(node: &'s Node, scope: &mut Scope<'s, '_, '_>) -> Option<What<'s>> {
    if let Some((key, value)) = node.entry("read_only")
        && value.truth() == Some(false)
    {
        let message = "`read_only: false` has no effect: an image is mounted read-only";
        scope.warn(key.at, KEY, message, "remove it, or use a volume: an empty one takes what its image has there");
    }
    let Some((source, at)) = word(node, "source") else {
        scope.error(node.at, KEY, "the mount of an image has no source", "write which image it is, as `image` does");
        return None;
    };
    let reference = match ImageReference::parse_in(source, scope.reader.default_registry) {
        Ok(reference) => reference,
        Err(error) => {
            scope.error(at, KEY, error.to_string(), "write the image as `image` does, such as registry/name:tag");
            return None;
        }
    };
    let subpath = match node.given("image") {
        Some(more) => subpath(more, "an image", scope)?,
        None => None,
    };
    Some(What::Image { reference, subpath })
}

fn tmpfs<'s>(node: &'s Node, scope: &mut Scope<'s, '_, '_>) -> Option<What<'s>> {
    if let Some((_, at)) = word(node, "source") {
        scope.error(at, KEY, "a folder in memory has no source", "remove `source`");
        return None;
    }
    match options(node.given("tmpfs")) {
        Ok(mut options) => {
            if flag(node, "read_only") {
                options.push("ro".to_owned());
            }
            Some(What::Tmpfs(options))
        }
        Err((at, (message, hint))) => {
            scope.error(at, KEY, message, &hint);
            None
        }
    }
}

fn options(more: Option<&Node>) -> Result<Vec<String>, (Span, Fault)> {
    let mut options = Vec::new();
    let Some(more) = more else { return Ok(options) };
    if let Some((text, at)) = word(more, "size") {
        let bytes = size::bytes(text).and_then(|bytes| u64::try_from(bytes).ok());
        let wrong = || (format!("`size` is {text}: expected a size from 0"), "write 64m or 1g".to_owned());
        let bytes = bytes.ok_or_else(|| (at, wrong()))?;
        // Docker's word for no limit.
        if bytes > 0 {
            options.push(format!("size={bytes}"));
        }
    }
    if let Some((text, at)) = word(more, "mode") {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777 && !digits.starts_with('+'));
        let wrong = || (format!("{text:?} is not a mode of a folder"), "write octal digits, such as 1777".to_owned());
        options.push(format!("mode={:o}", mode.ok_or_else(|| (at, wrong()))?));
    }
    Ok(options)
}
