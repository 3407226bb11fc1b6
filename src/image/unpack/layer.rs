//! Turns one layer's bytes into a directory and its record. Blocking; uses threads of its own while it runs.
//!
//! Decompression, the archive's digest and the files are worked on at the same time, joined by short channels.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, ScopedJoinHandle};

use hyper::body::Bytes;

use super::extract::{Extractor, Facts};
use super::ingest::{Ingest, remove_tree};
use super::split::{self, Recorded, Splitter};
use super::stream::{Body, Packed, StreamError, Unpacked};
use super::tree::Tree;
use crate::image::error::LayerError;
use crate::image::hash::Hasher;
use crate::image::settings::Limits;
use crate::model::Digest;
use crate::untar::{Archive, TarError};

/// Pieces that may wait between two threads.
const AHEAD: usize = 4;
/// Read at once from an archive file.
const READ: usize = 128 << 10;

/// What a layer turned out to be.
#[derive(Debug, Clone)]
pub(in crate::image) struct Unpacking {
    pub(in crate::image) facts: Facts,
    /// The digest of its tar archive.
    pub(in crate::image) diff_id: Digest,
    /// Bytes of the tar archive.
    pub(in crate::image) bytes: u64,
    /// The archive can be rebuilt from the directory and the record beside it.
    pub(in crate::image) rebuildable: bool,
}

/// The bytes a layer was read from, as they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::image) struct Source {
    pub(in crate::image) digest: Digest,
    pub(in crate::image) bytes: u64,
}

/// Fills `ingest` from a download: whole and checked, or not at all. [`Store::commit_layer`] brings it to disk.
///
/// [`Store::commit_layer`]: crate::image::store::Store::commit_layer
pub(in crate::image) fn unpack(
    body: Body,
    ingest: &Ingest,
    diff_id: &Digest,
    limits: &Limits,
) -> Result<Unpacking, LayerError> {
    apply(Packed::new(body, false), ingest, Some(diff_id), limits).map(|(unpacking, _)| unpacking)
}

/// The same from a file or a pipe, compressed or not, and the digest of what was read. Without a promise the layer is
/// what it is: [`Unpacking::diff_id`].
pub(in crate::image) fn unpack_reader(
    from: impl Read + Send,
    ingest: &Ingest,
    promised: Option<&Digest>,
    limits: &Limits,
) -> Result<(Unpacking, Source), LayerError> {
    let packed = Packed::new(BufReader::with_capacity(READ, from), true);
    let (unpacking, packed) = apply(packed, ingest, promised, limits)?;
    let (digest, bytes) = packed.finish();
    let digest = Digest::parse(&digest.unwrap_or_default()).map_err(|_| LayerError::Lost)?;
    Ok((unpacking, Source { digest, bytes }))
}

fn apply<'a>(
    packed: Packed<'a>,
    ingest: &Ingest,
    promised: Option<&Digest>,
    limits: &'a Limits,
) -> Result<(Unpacking, Packed<'a>), LayerError> {
    let unpacked = Unpacked::new(packed, limits).map_err(LayerError::Stream)?;
    let hasher = promised.map_or_else(Hasher::sha256, Hasher::like);
    let Ended { filled, packed, bytes, digest } = std::thread::scope(|scope| {
        let (to_files, pieces) = sync_channel(AHEAD);
        let (to_hash, hashed) = sync_channel(AHEAD);
        let named = || Builder::new().name("layer".into());
        let spawned = |source| LayerError::Disk { path: ingest.path().to_owned(), source };
        let pumping = named().spawn_scoped(scope, move || pump(unpacked, &to_files, &to_hash)).map_err(spawned)?;
        let hashing = named().spawn_scoped(scope, move || digest(hasher, &hashed)).map_err(spawned)?;
        // Here the channel ends, with or without success, and so do the other threads.
        let filled = fill(Pieces { receiver: pieces, current: Bytes::new(), ended: false }, ingest, limits);
        let (packed, bytes) = joined(pumping)?;
        Ok::<_, LayerError>(Ended { filled, packed, bytes, digest: joined(hashing)? })
    })?;
    let mut packed = packed;
    let (facts, rebuildable) = match filled {
        Ok(filled) => filled,
        Err(error) => {
            // Damage on the way shows first as nonsense in here; the download's verdict is the better message.
            if !error.is_limit() && !error.is_disk() && !error.is_cancelled() {
                let _ = packed.drain();
            }
            return Err(error);
        }
    };
    packed.drain().map_err(LayerError::Stream)?;
    let diff_id = Digest::parse(&digest).map_err(|_| LayerError::Lost)?;
    match promised {
        Some(expected) if *expected != diff_id => Err(LayerError::DiffId { expected: expected.clone(), got: digest }),
        Some(_) | None => Ok((Unpacking { facts, diff_id, bytes, rebuildable }, packed)),
    }
}

/// How the threads of a layer ended.
struct Ended<'a> {
    filled: Result<(Facts, bool), LayerError>,
    packed: Packed<'a>,
    bytes: u64,
    digest: String,
}

/// Decompresses until the end, or until nobody listens. An empty piece is the end.
fn pump<'a>(
    mut unpacked: Unpacked<'a>,
    files: &SyncSender<io::Result<Bytes>>,
    hash: &SyncSender<Bytes>,
) -> (Packed<'a>, u64) {
    loop {
        let piece = unpacked.piece().map(Bytes::from);
        let last = piece.as_ref().map_or(true, Bytes::is_empty);
        if let Ok(piece) = &piece {
            let _ = hash.send(piece.clone());
        }
        if files.send(piece).is_err() || last {
            return unpacked.into_packed();
        }
    }
}

fn digest(mut hasher: Hasher, pieces: &Receiver<Bytes>) -> String {
    pieces.iter().for_each(|piece| hasher.update(&piece));
    hasher.finish()
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> Result<T, LayerError> {
    thread.join().map_err(|_| LayerError::Lost)
}

/// The files and the record; what was learned, and whether the archive can be rebuilt.
fn fill(pieces: Pieces, ingest: &Ingest, limits: &Limits) -> Result<(Facts, bool), LayerError> {
    let failed = |source| LayerError::Disk { path: ingest.path().to_owned(), source };
    let tree = Tree::open(&ingest.diff(), &ingest.trash()).map_err(|e| failed(e.into()))?;
    // The root has these attributes unless the layer gives others.
    rustix::fs::fchmod(&*tree.root(), rustix::fs::Mode::from_raw_mode(0o755)).map_err(|e| failed(e.into()))?;
    let record = ingest.path().join(split::FILE);
    let splitter = Splitter::make(&record).map_err(failed)?;
    let mut archive = Archive::new(Recorded::new(pieces, splitter));
    let applied = Extractor::new(tree, limits).run(&mut archive);
    let mut recorded = archive.into_inner();
    let drained = applied.and_then(|facts| recorded.drain().map_err(LayerError::Stream).map(|()| facts));
    let facts = match drained {
        Ok(facts) => facts,
        Err(error @ (LayerError::Stream(_) | LayerError::Tar(TarError::Read(_)))) => {
            return Err(recorded.into_failure().map_or(error, failed));
        }
        Err(error) => return Err(error),
    };
    let rebuildable = recorded.finish().map_err(failed)?;
    if !rebuildable {
        std::fs::remove_file(&record).map_err(failed)?;
    }
    remove_tree(&ingest.trash()).map_err(failed)?;
    Ok((facts, rebuildable))
}

/// The decompressed archive as it comes out of the channel.
struct Pieces {
    receiver: Receiver<io::Result<Bytes>>,
    current: Bytes,
    ended: bool,
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.is_empty() && !self.ended {
            // A channel that closes without an empty piece is no end.
            self.current = self.receiver.recv().map_err(|_| io::Error::other(StreamError::Cancelled))??;
            self.ended = self.current.is_empty();
        }
        Ok(&self.current)
    }
    fn consume(&mut self, amount: usize) {
        let _ = self.current.split_to(amount);
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        split::read_through(self, buffer)
    }
}
