//! A layer's bytes on their way from the network into the extractor.
//!
//! ```text
//! HTTP ─▶ digest, count ─▶ [channel] ─▶ Body ─▶ Packed ─▶ decompress, limits ─▶ [channel] ─▶ record, tar, files
//!          (async task)                        (thread)        Unpacked      └─▶ [channel] ─▶ digest of the archive
//! ```
//! Memory is what the channels and the decompressor hold. An end that was not announced is a cancellation, never an end.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use hyper::body::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::split::read_through;
use crate::image::hash::hex;
use crate::image::settings::Limits;

/// Pieces that may wait between the network and the disk.
pub(in crate::image) const PIECES: usize = 8;
/// Bytes handed on at once after decompression.
const PIECE: usize = 256 << 10;
/// zstd windows up to 128 MiB, as its own command line allows by default.
const ZSTD_WINDOW_LOG: u32 = 27;

/// What the network's side sends.
#[derive(Debug)]
pub(in crate::image) enum Piece {
    Data(Bytes),
    /// All was sent, and its size and digest were right.
    End,
}

/// Why the stream stops, carried inside an `io::Error` through the decompressor and the tar reader.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The other side went away.
    #[error("the download was given up")]
    Cancelled,
    /// More bytes than a layer may have.
    #[error("it unpacks to more than {limit} bytes")]
    TooLarge { limit: u64 },
    /// A decompression bomb.
    #[error("it unpacks to more than {limit} times its size")]
    Ratio { limit: u64 },
}

/// The compressed bytes as a blocking reader.
#[derive(Debug)]
pub(in crate::image) struct Body {
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl Body {
    pub(in crate::image) fn new(receiver: mpsc::Receiver<Piece>) -> Self {
        Self { receiver, current: Bytes::new(), ended: false }
    }
}

impl BufRead for Body {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Piece::Data(bytes)) => self.current = bytes,
                Some(Piece::End) => self.ended = true,
                None => return Err(io::Error::other(StreamError::Cancelled)),
            }
        }
        Ok(&self.current)
    }
    fn consume(&mut self, amount: usize) {
        let _ = self.current.split_to(amount);
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_through(self, buffer)
    }
}

/// Compressed bytes from anywhere, counted, and hashed where nobody else does.
pub(in crate::image) struct Packed<'a> {
    inner: Box<dyn BufRead + Send + 'a>,
    /// The first bytes, taken out for a look and not yet read.
    head: Vec<u8>,
    taken: u64,
    hasher: Option<Sha256>,
}

impl<'a> Packed<'a> {
    pub(in crate::image) fn new(inner: impl BufRead + Send + 'a, hashed: bool) -> Self {
        Self { inner: Box::new(inner), head: Vec::new(), taken: 0, hasher: hashed.then(Sha256::new) }
    }
    /// Reads and forgets what is left, so that whoever sends it comes to a verdict about its digest.
    pub(in crate::image) fn drain(&mut self) -> io::Result<()> {
        loop {
            let got = self.fill_buf()?.len();
            if got == 0 {
                return Ok(());
            }
            self.consume(got);
        }
    }
    /// What was read: `sha256:…` where it was asked for, and its length.
    pub(in crate::image) fn finish(self) -> (Option<String>, u64) {
        (self.hasher.map(|hasher| format!("sha256:{}", hex(&hasher.finalize()))), self.taken)
    }
    /// The first bytes, for the magic number; fewer than four where there are no more.
    fn peek(&mut self) -> io::Result<[u8; 4]> {
        self.inner.by_ref().take(4).read_to_end(&mut self.head)?;
        Ok(std::array::from_fn(|at| self.head.get(at).copied().unwrap_or(0)))
    }
}

impl BufRead for Packed<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.head.is_empty() { self.inner.fill_buf() } else { Ok(&self.head) }
    }
    fn consume(&mut self, amount: usize) {
        self.taken += amount as u64;
        let from_head = !self.head.is_empty();
        if let Some(hasher) = &mut self.hasher {
            // What is consumed is in the buffer, so this reads nothing.
            let piece = if from_head { Ok(self.head.as_slice()) } else { self.inner.fill_buf() };
            hasher.update(piece.ok().and_then(|p| p.get(..amount)).unwrap_or_default());
        }
        if from_head {
            self.head.drain(..amount);
        } else {
            self.inner.consume(amount);
        }
    }
}

impl Read for Packed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_through(self, buffer)
    }
}

/// The decompressor that the first bytes ask for; media types lie, and docker looks at the bytes as well.
enum Decoder<'a> {
    Plain(Packed<'a>),
    Gzip(Box<MultiGzDecoder<Packed<'a>>>),
    Zstd(zstd::Decoder<'static, Packed<'a>>),
}

impl<'a> Decoder<'a> {
    fn new(mut packed: Packed<'a>) -> io::Result<Self> {
        match packed.peek()? {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(packed)))),
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                let mut decoder = zstd::Decoder::with_buffer(packed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Ok(Self::Zstd(decoder))
            }
            _ => Ok(Self::Plain(packed)),
        }
    }
    fn packed(&mut self) -> &mut Packed<'a> {
        match self {
            Self::Plain(packed) => packed,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
        }
    }
    fn into_packed(self) -> Packed<'a> {
        match self {
            Self::Plain(packed) => packed,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        }
    }
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(packed) => packed.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => read_frames(decoder, buffer),
        }
    }
}

/// After a skippable frame the decoder says "end" although frames follow: it is asked again while it still takes input.
fn read_frames(decoder: &mut zstd::Decoder<'static, Packed<'_>>, buffer: &mut [u8]) -> io::Result<usize> {
    let mut before = decoder.get_ref().taken;
    loop {
        let got = decoder.read(buffer)?;
        let after = decoder.get_ref().taken;
        if got > 0 || decoder.get_mut().fill_buf()?.is_empty() {
            return Ok(got);
        }
        if after == before {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "zstd data makes no progress"));
        }
        before = after;
    }
}

/// A layer's tar archive: decompressed, counted and bounded.
pub(in crate::image) struct Unpacked<'a> {
    decoder: Decoder<'a>,
    bytes: u64,
    limits: &'a Limits,
}

impl<'a> Unpacked<'a> {
    pub(in crate::image) fn new(packed: Packed<'a>, limits: &'a Limits) -> io::Result<Self> {
        Ok(Self { decoder: Decoder::new(packed)?, bytes: 0, limits })
    }
    /// The raw bytes below, and how many came out of them.
    pub(in crate::image) fn into_packed(self) -> (Packed<'a>, u64) {
        (self.decoder.into_packed(), self.bytes)
    }
    /// The next piece, as large as it may be; empty at the end.
    pub(in crate::image) fn piece(&mut self) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; PIECE];
        let mut filled = 0;
        while filled < PIECE {
            let got = self.decoder.read(&mut piece[filled..])?;
            if got == 0 {
                break;
            }
            filled += got;
            self.bytes += got as u64;
            self.check().map_err(io::Error::other)?;
        }
        piece.truncate(filled);
        Ok(piece)
    }
    fn check(&mut self) -> Result<(), StreamError> {
        let Limits { layer_bytes, ratio, ratio_free_bytes, .. } = *self.limits;
        if self.bytes > layer_bytes {
            return Err(StreamError::TooLarge { limit: layer_bytes });
        }
        let compressed = self.decoder.packed().taken.max(1);
        if self.bytes > ratio_free_bytes && self.bytes / compressed > ratio {
            return Err(StreamError::Ratio { limit: ratio });
        }
        Ok(())
    }
}
