//! `require_mount` and `idmap` of `x-longshore`: of one mount, of a service, of all services.

use std::path::PathBuf;

use super::super::node::{Node, Value};
use super::super::project::Reader;
use super::super::scope::Scope;
use super::super::tmpfs::absolute;
use crate::model::Owner;

const REQUIRE: &str = "require_mount";
const IDMAP: &str = "idmap";
/// The last id but for the one that stands for none.
const LAST: i64 = 4_294_967_294;

/// What the extension says; nothing of what was not given.
#[derive(Debug, Clone, Default)]
pub(super) struct Ours {
    pub(super) require: Option<Require>,
    pub(super) owner: Option<Owner>,
}

/// What must be mounted.
#[derive(Debug, Clone)]
pub(super) enum Require {
    Nothing,
    /// Every source of a bind mount.
    Sources,
    /// These.
    Paths(Vec<PathBuf>),
}

/// Reads the extension of this map; `key`: of the map, empty for the file's.
pub(super) fn read(above: &Node, key: &str, reader: &mut Reader<'_, '_>) -> Ours {
    let Some((at, body)) = above.entry("x-longshore") else { return Ours::default() };
    let key = if key.is_empty() { at.text.clone() } else { format!("{key}.{}", at.text) };
    let mut scope = Scope::new(body, &key, at.at, reader);
    Ours { require: require(&mut scope), owner: owner(&mut scope) }
}

fn require(scope: &mut Scope<'_, '_, '_>) -> Option<Require> {
    let node = scope.given(REQUIRE)?;
    match node.truth() {
        Some(true) => return Some(Require::Sources),
        Some(false) => return Some(Require::Nothing),
        None => {}
    }
    let mut paths = Vec::new();
    let texts = scope.texts(REQUIRE);
    if texts.is_empty() && !matches!(node.value, Value::List(_)) {
        scope.error(node.at, REQUIRE, format!("`{REQUIRE}` names no path"), "write `true`, or where a disk is mounted");
    }
    for (text, at) in texts {
        match absolute(text).filter(|_| !text.contains('\0')) {
            Some(path) => paths.push(PathBuf::from(path)),
            None => {
                let hint = "write where on the host something is mounted, such as /mnt/disk; or `true` for all sources";
                scope.error(at, REQUIRE, format!("{text:?} is not an absolute path"), hint);
            }
        }
    }
    Some(Require::Paths(paths))
}

fn owner(scope: &mut Scope<'_, '_, '_>) -> Option<Owner> {
    let node = scope.given(IDMAP).filter(|node| !node.entries().is_empty())?;
    for part in ["uid", "gid"] {
        if node.given(part).is_none() {
            scope.error(node.at, IDMAP, format!("`{IDMAP}` has no `{part}`"), "write both: {uid: 1000, gid: 1000}");
        }
    }
    let uid = scope.whole("idmap.uid", 0..=LAST);
    let gid = scope.whole("idmap.gid", 0..=LAST);
    Some(Owner { uid: u32::try_from(uid?).ok()?, gid: u32::try_from(gid?).ok()? })
}
