//! From a layer's bytes to a directory that overlayfs can stack: decompress, read the archive, apply it, make it durable.

pub(super) mod extract;
pub(super) mod ingest;
pub(super) mod layer;
mod pax;
pub(super) mod stream;
pub(super) mod tar;
mod tree;
mod whiteout;

pub(super) fn rebuild(layer_dir: &std::path::Path) -> std::io::Result<std::fs::File> {
    std::fs::File::open(layer_dir.join("split.zst"))
}
