//! Layers out of files, unpacked by the same code as those of a pull.

use std::io::Read;

use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::ArchiveError;
use crate::image::error::LayerError;
use crate::image::hash::Hasher;
use crate::image::progress::Gauge;
use crate::image::settings::Limits;
use crate::image::unpack::ingest::Ingest;
use crate::image::unpack::layer::{self, Unpacking};
use crate::image::unpack::stream::{Body, PIECES, Piece};
use crate::model::Digest;

/// Fills `ingest` from `from`, whose bytes are compared with `blob` where it is known.
pub(super) fn unpack(
    from: impl Read + Send,
    blob: Option<&Digest>,
    ingest: &Ingest,
    diff_id: &Digest,
    limits: &Limits,
    gauge: &Gauge,
) -> Result<Unpacking, ArchiveError> {
    let (sender, receiver) = mpsc::channel(PIECES);
    let (fed, unpacked) = std::thread::scope(|scope| {
        let feeder = scope.spawn(move || feed(from, blob, &sender, gauge));
        let unpacked = layer::unpack(Body::new(receiver), ingest, diff_id, limits);
        (feeder.join(), unpacked)
    });
    // What is wrong with the bytes is the cause of whatever nonsense was unpacked.
    fed.unwrap_or_else(|_| Err(ArchiveError::Layer { diff_id: diff_id.clone(), source: Box::new(LayerError::Lost) }))?;
    unpacked.map_err(|source| match source.is_no_space() {
        true => ArchiveError::NoSpace { dir: ingest.path().to_owned() },
        false => ArchiveError::Layer { diff_id: diff_id.clone(), source: Box::new(source) },
    })
}

/// The end is announced only when all was right.
fn feed(
    mut from: impl Read,
    blob: Option<&Digest>,
    sender: &mpsc::Sender<Piece>,
    gauge: &Gauge,
) -> Result<(), ArchiveError> {
    let mut hasher = blob.map(Hasher::like);
    loop {
        let mut piece = Vec::with_capacity(128 << 10);
        let got = from.by_ref().take(128 << 10).read_to_end(&mut piece).map_err(ArchiveError::Read)?;
        if got == 0 {
            break;
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&piece);
        }
        gauge.add(got as u64);
        if sender.blocking_send(Piece::Data(Bytes::from(piece))).is_err() {
            // The other side gave up and says why.
            return Ok(());
        }
    }
    if let (Some(digest), Some(got)) = (blob, hasher.map(Hasher::finish))
        && got != digest.as_str()
    {
        return Err(ArchiveError::WrongDigest { digest: digest.clone(), got });
    }
    let _ = sender.blocking_send(Piece::End);
    Ok(())
}
