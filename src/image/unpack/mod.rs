//! From a layer's bytes to a directory that overlayfs can stack: decompress, read the archive, apply it, make it durable.

pub(super) mod check;
pub(super) mod extract;
pub(super) mod ingest;
pub(super) mod layer;
pub(super) mod rebuild;
pub(super) mod settle;
mod split;
pub(super) mod stream;
#[cfg(test)]
mod tests;
mod tree;
mod whiteout;
