//! A layer's bytes on their way from the network into the extractor.
//!
//! ```text
//! HTTP ─▶ digest, count ─▶ [bounded channel] ─▶ Body ─▶ decompress ─▶ Unpacked: digest, count, limits ─▶ tar
//!          (async task)                          (blocking thread)
//! ```
//! Memory is what the channel and the decompressor hold. An end that was not announced is a cancellation, never an end.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use hyper::body::Bytes;
use tokio::sync::mpsc;

use crate::image::hash::Hasher;
use crate::image::settings::Limits;
use crate::model::Digest;

/// Pieces that may wait between the network and the disk.
pub(in crate::image) const PIECES: usize = 8;
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
    taken: u64,
}

impl Body {
    pub(in crate::image) fn new(receiver: mpsc::Receiver<Piece>) -> Self {
        Self { receiver, current: Bytes::new(), ended: false, taken: 0 }
    }
    /// Reads and forgets what is left, so that the other side comes to its verdict about the digest.
    pub(in crate::image) fn drain(&mut self) -> io::Result<()> {
        loop {
            let got = self.fill_buf()?.len();
            if got == 0 {
                return Ok(());
            }
            self.consume(got);
        }
    }
    /// At least four bytes, or all there are, for the magic number. A piece may be smaller.
    fn peek(&mut self) -> io::Result<[u8; 4]> {
        let mut joined = Vec::new();
        while joined.len() < 4 {
            let piece = self.fill_buf()?;
            if piece.is_empty() {
                break;
            }
            joined.extend_from_slice(piece);
            self.current = Bytes::new();
        }
        let magic = std::array::from_fn(|at| joined.get(at).copied().unwrap_or(0));
        self.current = Bytes::from(joined);
        Ok(magic)
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
        self.taken += amount as u64;
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let got = piece.len().min(buffer.len());
        buffer[..got].copy_from_slice(&piece[..got]);
        self.consume(got);
        Ok(got)
    }
}

/// The decompressor that the first bytes ask for; media types lie, and docker looks at the bytes as well.
enum Decoder {
    Plain(Body),
    Gzip(Box<MultiGzDecoder<Body>>),
    Zstd(zstd::Decoder<'static, Body>),
}

impl Decoder {
    fn new(mut body: Body) -> io::Result<Self> {
        match body.peek()? {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(body)))),
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                let mut decoder = zstd::Decoder::with_buffer(body)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Ok(Self::Zstd(decoder))
            }
            _ => Ok(Self::Plain(body)),
        }
    }
    fn body(&mut self) -> &mut Body {
        match self {
            Self::Plain(body) => body,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
        }
    }
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(body) => body.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => read_frames(decoder, buffer),
        }
    }
}

/// After a skippable frame the decoder says "end" although frames follow: it is asked again while it still takes input.
fn read_frames(decoder: &mut zstd::Decoder<'static, Body>, buffer: &mut [u8]) -> io::Result<usize> {
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

/// The layer's tar archive: decompressed, hashed, counted and bounded.
pub(in crate::image) struct Unpacked<'a> {
    decoder: Decoder,
    hasher: Hasher,
    bytes: u64,
    limits: &'a Limits,
}

impl<'a> Unpacked<'a> {
    pub(in crate::image) fn new(body: Body, diff_id: &Digest, limits: &'a Limits) -> io::Result<Self> {
        Ok(Self { decoder: Decoder::new(body)?, hasher: Hasher::like(diff_id), bytes: 0, limits })
    }
    /// The raw bytes below, to be drained when what they say turned out to be wrong.
    pub(in crate::image) fn body(&mut self) -> &mut Body {
        self.decoder.body()
    }
    /// Reads to the very end, so that trailing data and checksums count; then the digest and the bytes seen.
    pub(in crate::image) fn finish(mut self) -> io::Result<(String, u64)> {
        let mut buffer = vec![0; 64 << 10];
        while self.read(&mut buffer)? > 0 {}
        self.body().drain()?;
        Ok((self.hasher.finish(), self.bytes))
    }
    fn check(&mut self) -> Result<(), StreamError> {
        let Limits { layer_bytes, ratio, ratio_free_bytes, .. } = *self.limits;
        if self.bytes > layer_bytes {
            return Err(StreamError::TooLarge { limit: layer_bytes });
        }
        let compressed = self.decoder.body().taken.max(1);
        if self.bytes > ratio_free_bytes && self.bytes / compressed > ratio {
            return Err(StreamError::Ratio { limit: ratio });
        }
        Ok(())
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.decoder.read(buffer)?;
        self.hasher.update(&buffer[..got]);
        self.bytes += got as u64;
        self.check().map_err(io::Error::other)?;
        Ok(got)
    }
}
