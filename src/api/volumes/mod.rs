//! Volumes: `/api/v1/volumes`. Who does the work comes in as [`VolumeDoor`]; long work answers as that on images does.

mod describe;
mod door;
mod look;
mod work;

pub use door::VolumeDoor;

pub(super) use describe::operations;
pub(super) use look::{all_snapshots, create, list, prune, remove, remove_snapshot, show, snapshots};
pub(super) use work::{export, import, restore, snapshot};

/// Whether the body of a request to this path is a stream of any size.
pub(super) fn streamed(path: &str) -> bool {
    path.strip_prefix("/api/v1/volumes/").is_some_and(|rest| rest.ends_with("/import"))
}
