//! `configs` and `secrets` as lines of the canonical text. Their content counts only where a changed one makes the container anew; whoever
//! adds a field is made to say here how it is written.

use super::Canonical;
use crate::model::{MountedFile, OnChange};

/// Files are in the order of their targets.
pub(super) fn files(files: &[MountedFile], text: &mut Canonical) {
    for MountedFile { kind, name: _, target, uid, gid, mode, on_change, fingerprint, kept: _, content: _ } in files {
        let mode = format!("{mode:04o}");
        let mut values = vec![kind.word(), target, &mode];
        let id = |id: &Option<u32>| id.map_or_else(String::new, |id| id.to_string());
        let owner = format!("{}:{}", id(uid), id(gid));
        if uid.is_some() || gid.is_some() {
            values.push(&owner);
        }
        if *on_change == OnChange::Recreate {
            values.push(fingerprint.as_str());
        }
        text.line("file", &values);
    }
}
