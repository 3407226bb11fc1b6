//! From a layer's bytes to a directory that overlayfs can stack: decompress, read the archive, apply it, make it durable.

pub(super) mod check;
pub(super) mod extract;
pub(super) mod ingest;
pub(super) mod layer;
mod pax;
pub(super) mod rebuild;
pub(super) mod settle;
mod split;
pub(super) mod stream;
pub(super) mod tar;
#[cfg(test)]
mod tests;
mod tree;
mod whiteout;
