//! Turns one layer's bytes into a directory. Blocking; runs on a thread of its own.

use rustix::fs::OFlags;

use super::extract::{Extractor, Facts};
use super::ingest::{Ingest, remove_tree};
use super::stream::{Body, Unpacked};
use super::tar::Archive;
use super::tree::Tree;
use crate::image::error::LayerError;
use crate::image::settings::Limits;
use crate::model::Digest;

/// What a layer turned out to be.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) struct Unpacking {
    pub(in crate::image) facts: Facts,
    /// Bytes of the tar archive.
    pub(in crate::image) bytes: u64,
}

/// Fills `ingest` from `body`: whole, checked and on disk, or not at all.
pub(in crate::image) fn unpack(
    body: Body,
    ingest: &Ingest,
    diff_id: &Digest,
    limits: &Limits,
) -> Result<Unpacking, LayerError> {
    let done = apply(body, ingest, diff_id, limits)?;
    settle(ingest)?;
    Ok(done)
}

fn apply(body: Body, ingest: &Ingest, diff_id: &Digest, limits: &Limits) -> Result<Unpacking, LayerError> {
    let disk = |source: rustix::io::Errno| LayerError::Disk { path: ingest.path().to_owned(), source: source.into() };
    let tree = Tree::open(&ingest.diff(), &ingest.trash()).map_err(disk)?;
    // The root has these attributes unless the layer gives others.
    rustix::fs::fchmod(&*tree.root(), rustix::fs::Mode::from_raw_mode(0o755)).map_err(disk)?;
    let unpacked = Unpacked::new(body, diff_id, limits).map_err(LayerError::Stream)?;
    let mut archive = Archive::new(unpacked);
    let applied = Extractor::new(tree, limits).run(&mut archive);
    let mut unpacked = archive.into_inner();
    let facts = match applied {
        Ok(facts) => facts,
        Err(error) => {
            // Damage on the way shows first as nonsense in here; the download's verdict is the better message.
            if !error.is_limit() && !error.is_disk() && !error.is_cancelled() {
                let _ = unpacked.body().drain();
            }
            return Err(error);
        }
    };
    let (got, bytes) = unpacked.finish().map_err(LayerError::Stream)?;
    if got != diff_id.as_str() {
        return Err(LayerError::DiffId { expected: diff_id.clone(), got });
    }
    Ok(Unpacking { facts, bytes })
}

/// One `syncfs` for the whole layer is far cheaper than an `fsync` for each file.
fn settle(ingest: &Ingest) -> Result<(), LayerError> {
    let failed = |source| LayerError::Disk { path: ingest.path().to_owned(), source };
    remove_tree(&ingest.trash()).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(ingest.path(), flags, rustix::fs::Mode::empty()).map_err(|e| failed(e.into()))?;
    rustix::fs::syncfs(&dir).map_err(|e| failed(e.into()))
}
