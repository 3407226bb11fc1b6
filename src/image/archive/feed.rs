//! Layers out of files, unpacked by the same code as those of a pull.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{ArchiveError, refused};
use crate::image::error::LayerError;
use crate::image::hash::Hasher;
use crate::image::manifest::Descriptor;
use crate::image::progress::Gauge;
use crate::image::settings::Limits;
use crate::image::unpack::ingest::Ingest;
use crate::image::unpack::layer::{Unpacking, unpack_reader};
use crate::image::unpack::stream::StreamError;
use crate::model::Digest;

/// Whether a load goes on. It does not once one of its layers failed, or nobody waits for it.
#[derive(Clone, Default)]
pub(super) struct Goes(Arc<AtomicBool>);

impl Goes {
    pub(super) fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    pub(super) fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(io::Error::other(StreamError::Cancelled)) } else { Ok(()) }
    }
}

/// Stops a load when it is dropped.
pub(super) struct Waited(pub(super) Goes);

impl Drop for Waited {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Fills `ingest` from a file, which is compared with `blob` where it is known.
pub(super) fn unpack(
    mut file: File,
    blob: Option<&Descriptor>,
    ingest: &Ingest,
    diff_id: &Digest,
    limits: &Limits,
    gauge: &Gauge,
    goes: &Goes,
) -> Result<Unpacking, ArchiveError> {
    let passing = Passing { from: &file, gauge, goes };
    let unpacked = unpack_reader(passing, ingest, Some(diff_id), limits);
    if let Some(blob) = blob {
        // What is wrong with the bytes is the cause of whatever nonsense was unpacked.
        let (got, bytes) = match &unpacked {
            Ok((_, source)) if source.digest.algorithm() == blob.digest.algorithm() => {
                (source.digest.to_string(), source.bytes)
            }
            Err(error) if error.is_limit() || error.is_disk() || error.is_cancelled() => {
                (blob.digest.to_string(), blob.size)
            }
            Ok(_) | Err(_) => hashed(&mut file, &blob.digest).map_err(ArchiveError::Read)?,
        };
        if got != blob.digest.as_str() {
            return Err(ArchiveError::WrongDigest { digest: blob.digest.clone(), got });
        }
        if bytes != blob.size {
            return refused(format!("its layer {} has {bytes} bytes, not {}", blob.digest.short(), blob.size));
        }
    }
    unpacked.map(|(done, _)| done).map_err(|source| match source.is_no_space() {
        true => ArchiveError::NoSpace { dir: ingest.path().to_owned() },
        false => ArchiveError::Layer { diff_id: diff_id.clone(), source: Box::new(source) },
    })
}

/// The one layer of a root file system; its content is whatever it is.
pub(super) fn unpack_any(from: impl Read + Send, ingest: &Ingest, limits: &Limits) -> Result<Unpacking, ArchiveError> {
    unpack_reader(from, ingest, None, limits).map(|(done, _)| done).map_err(|source| match source {
        source if source.is_no_space() => ArchiveError::NoSpace { dir: ingest.path().to_owned() },
        LayerError::Tar(error) => error.into(),
        LayerError::Stream(error) => ArchiveError::Read(error),
        source => ArchiveError::Root(Box::new(source)),
    })
}

fn hashed(file: &mut File, like: &Digest) -> io::Result<(String, u64)> {
    file.rewind()?;
    let (mut hasher, mut bytes, mut piece) = (Hasher::like(like), 0, vec![0; 128 << 10]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((hasher.finish(), bytes)),
            got => {
                hasher.update(&piece[..got]);
                bytes += got as u64;
            }
        }
    }
}

struct Passing<'a> {
    from: &'a File,
    gauge: &'a Gauge,
    goes: &'a Goes,
}

impl Read for Passing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.goes.check()?;
        let got = self.from.read(buffer)?;
        self.gauge.add(got as u64);
        Ok(got)
    }
}
