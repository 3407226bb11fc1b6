//! The compression of an archive as a whole, seen by its first bytes, and how much may come in and out of it.

use std::io::{self, BufReader, Cursor, Read};

use crate::image::settings::Limits;
use crate::image::unpack::stream::{Packed, Unpacked};

/// An archive may be as large as this many of the largest layers.
const LAYERS: u64 = 4;

/// The limits for a whole archive.
pub(super) fn limits(of_layers: &Limits) -> Limits {
    Limits { layer_bytes: of_layers.layer_bytes.saturating_mul(LAYERS), ..of_layers.clone() }
}

/// The bytes inside, which end in an error where they are more than `limits` allow.
pub(super) fn open<'a>(from: impl Read + Send + 'a, limits: &'a Limits) -> io::Result<impl Read + 'a> {
    let packed = Packed::new(BufReader::with_capacity(128 << 10, known(from, limits)?), false);
    Ok(Inside { unpacked: Unpacked::new(packed, limits)?, piece: Cursor::default() })
}

/// Refuses what is compressed in a way that nobody here understands. Bounds what comes in: there is input without end
/// that nothing ever comes out of.
pub(super) fn known<'a>(mut from: impl Read + Send + 'a, limits: &Limits) -> io::Result<impl Read + Send + 'a> {
    let mut magic = Vec::new();
    from.by_ref().take(6).read_to_end(&mut magic)?;
    match magic.as_slice() {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => return Err(unsupported("xz")),
        [b'B', b'Z', b'h', ..] => return Err(unsupported("bzip2")),
        [] => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty")),
        _ => {}
    }
    Ok(Bounded { from: Cursor::new(magic).chain(from), left: limits.layer_bytes, limit: limits.layer_bytes })
}

fn unsupported(by: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("it is compressed by {by}; decompress it first, or use gzip or zstd"),
    )
}

struct Bounded<R> {
    from: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.from.read(buffer)?;
        match self.left.checked_sub(got as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(format!("it has more than {} bytes", self.limit))),
        }
        Ok(got)
    }
}

struct Inside<'a> {
    unpacked: Unpacked<'a>,
    piece: Cursor<Vec<u8>>,
}

impl Read for Inside<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.position() == self.piece.get_ref().len() as u64 {
            self.piece = Cursor::new(self.unpacked.piece()?);
        }
        self.piece.read(buffer)
    }
}
