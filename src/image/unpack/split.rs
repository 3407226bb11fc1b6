//! The split record of a layer: all of its tar archive that is not file content, and where each content lies.
//!
//! With it the archive is rebuilt byte for byte from `diff/` (see [`super::rebuild`]), so that compressed layers need
//! not be kept. `split.zst` is one zstd frame with a checksum: [`MAGIC`], then notes until [`Note::End`]:
//!
//! | tag | then | meaning |
//! |---|---|---|
//! | 1 | length, bytes | the next bytes of the archive, as they are |
//! | 2 | length, path, size | a member stands at this path of the layer; the next `size` bytes are its content |
//! | 3 | CRC-32, little-endian | of the content that was announced last, where it has any |
//! | 4 | length, path, 0 or 1 + length, bytes | what stood at this path is gone; its content, where it had any |
//! | 0 | size | the end; bytes of the whole archive |
//!
//! Numbers are LEB128. Paths hold no links: they are where a thing really is. Memory is a few buffers.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use flate2::Crc;

/// The record's name beside `diff/`.
pub(in crate::image) const FILE: &str = "split.zst";
const MAGIC: &[u8] = b"longshore split 1\n";
const LEVEL: i32 = 1;
/// Raw bytes gathered before they are written.
const GATHER: usize = 32 << 10;
/// Bytes of replaced contents, their paths included, that a record keeps for one layer.
const KEPT: usize = 1 << 20;
/// Longest path or kept content that is read back.
const LONGEST: u64 = 2 << 20;

/// One piece of the record.
#[derive(Debug)]
pub(super) enum Note {
    /// So many bytes of the archive follow in the record itself.
    Raw(u64),
    Member {
        path: Vec<u8>,
        size: u64,
    },
    Sum(u32),
    Lost {
        path: Vec<u8>,
        content: Option<Vec<u8>>,
    },
    End(u64),
}

/// Writes the record while the archive passes by.
pub(in crate::image) struct Splitter {
    out: zstd::Encoder<'static, File>,
    raw: Vec<u8>,
    /// Bytes of the archive so far.
    total: u64,
    /// Room for replaced contents. None: what is lost could not be kept, and the archive cannot be rebuilt.
    room: Option<usize>,
}

impl Splitter {
    pub(in crate::image) fn make(path: &Path) -> io::Result<Self> {
        let mut out = zstd::Encoder::new(File::create_new(path)?, LEVEL)?;
        out.include_checksum(true)?;
        out.write_all(MAGIC)?;
        Ok(Self { out, raw: Vec::with_capacity(2 * GATHER), total: 0, room: Some(KEPT) })
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.total += bytes.len() as u64;
        self.raw.extend_from_slice(bytes);
        if self.raw.len() >= GATHER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        self.out.write_all(&[1])?;
        bytes(&mut self.out, &self.raw)?;
        self.raw.clear();
        Ok(())
    }

    fn member(&mut self, path: &[u8], size: u64) -> io::Result<()> {
        self.flush()?;
        self.total += size;
        self.out.write_all(&[2])?;
        bytes(&mut self.out, path)?;
        number(&mut self.out, size)
    }

    fn sum(&mut self, sum: u32) -> io::Result<()> {
        self.out.write_all(&[3])?;
        self.out.write_all(&sum.to_le_bytes())
    }

    /// Closes the record; whether the archive can be rebuilt with it.
    fn finish(mut self) -> io::Result<bool> {
        self.flush()?;
        self.out.write_all(&[0])?;
        number(&mut self.out, self.total)?;
        self.out.finish()?;
        Ok(self.room.is_some())
    }
}

/// A layer's archive that writes its record while it is read.
pub(in crate::image) struct Recorded<R> {
    input: R,
    splitter: Splitter,
    /// Content of the current member still to come; it is left out of the record.
    content: u64,
    sum: Crc,
    failed: Option<io::Error>,
}

impl<R: BufRead> Recorded<R> {
    pub(in crate::image) fn new(input: R, splitter: Splitter) -> Self {
        Self { input, splitter, content: 0, sum: Crc::new(), failed: None }
    }

    /// The member whose header was read last is made at `path`; the next `size` bytes are its content.
    pub(in crate::image) fn member(&mut self, path: Option<&[u8]>, size: u64) -> io::Result<()> {
        let Some(path) = path else {
            self.give_up();
            return Ok(());
        };
        self.splitter.member(path, size)?;
        self.content = size;
        self.sum.reset();
        Ok(())
    }

    /// Bytes of replaced content for which there is room; none when the archive cannot be rebuilt anyway.
    pub(in crate::image) fn room(&self) -> Option<u64> {
        self.splitter.room.map(|room| room as u64)
    }

    /// What was at `path` is taken away.
    pub(in crate::image) fn lost(&mut self, path: Option<&[u8]>, content: Option<&[u8]>) -> io::Result<()> {
        let needed = path.map_or(0, <[u8]>::len) + content.map_or(0, <[u8]>::len) + 16;
        let left = self.splitter.room.and_then(|room| room.checked_sub(needed));
        let (Some(path), Some(left)) = (path, left) else {
            self.give_up();
            return Ok(());
        };
        self.splitter.room = Some(left);
        self.splitter.flush()?;
        let out = &mut self.splitter.out;
        out.write_all(&[4])?;
        bytes(out, path)?;
        out.write_all(&[u8::from(content.is_some())])?;
        content.map_or(Ok(()), |content| bytes(out, content))
    }

    /// Something of the archive is kept nowhere: it cannot be rebuilt.
    pub(in crate::image) fn give_up(&mut self) {
        self.splitter.room = None;
    }

    /// Reads to the very end, so that what follows the end marker is hashed and recorded.
    pub(in crate::image) fn drain(&mut self) -> io::Result<()> {
        loop {
            let got = self.fill_buf()?.len();
            if got == 0 {
                return Ok(());
            }
            self.consume(got);
        }
    }

    /// Closes the record; whether the archive can be rebuilt with it.
    pub(in crate::image) fn finish(self) -> io::Result<bool> {
        match self.failed {
            Some(error) => Err(error),
            None => self.splitter.finish(),
        }
    }

    /// Why the record could not be written, where that is what stopped the reading.
    pub(in crate::image) fn into_failure(self) -> Option<io::Error> {
        self.failed
    }

    fn note(&mut self, amount: usize) -> io::Result<()> {
        let passed = &self.input.fill_buf()?[..amount];
        let content = usize::try_from(self.content).unwrap_or(usize::MAX).min(amount);
        if content > 0 {
            self.sum.update(&passed[..content]);
            self.content -= content as u64;
            if self.content == 0 {
                self.splitter.sum(self.sum.sum())?;
            }
        }
        if amount > content { self.splitter.raw(&passed[content..]) } else { Ok(()) }
    }
}

impl<R: BufRead> BufRead for Recorded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.failed.is_some() {
            return Err(io::Error::other("the record of the layer cannot be written"));
        }
        self.input.fill_buf()
    }
    fn consume(&mut self, amount: usize) {
        // Consuming cannot fail; the next read does.
        if amount > 0
            && let Err(error) = self.note(amount)
        {
            self.failed = Some(error);
        }
        self.input.consume(amount);
    }
}

impl<R: BufRead> Read for Recorded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_through(self, buffer)
    }
}

/// Reads by way of the buffer, so that everything passes `consume`.
pub(in crate::image) fn read_through(input: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let piece = input.fill_buf()?;
    let got = piece.len().min(buffer.len());
    buffer[..got].copy_from_slice(&piece[..got]);
    input.consume(got);
    Ok(got)
}

/// Reads a record.
pub(super) struct Notes {
    input: BufReader<zstd::Decoder<'static, BufReader<File>>>,
}

impl Notes {
    pub(super) fn open(file: File) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(64 << 10, zstd::Decoder::new(file)?);
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic)?;
        if magic == *MAGIC { Ok(Self { input }) } else { Err(malformed("it is of an unknown form")) }
    }

    pub(super) fn next(&mut self) -> io::Result<Note> {
        Ok(match self.byte()? {
            0 => Note::End(self.number()?),
            1 => Note::Raw(self.number()?),
            2 => Note::Member { path: self.bytes()?, size: self.number()? },
            3 => {
                let mut sum = [0; 4];
                self.input.read_exact(&mut sum)?;
                Note::Sum(u32::from_le_bytes(sum))
            }
            4 => {
                let path = self.bytes()?;
                Note::Lost { path, content: if self.byte()? == 1 { Some(self.bytes()?) } else { None } }
            }
            _ => return Err(malformed("it holds an unknown note")),
        })
    }

    /// Bytes of a raw note, as many as are at hand.
    pub(super) fn raw(&mut self, most: u64) -> io::Result<&[u8]> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let piece = self.input.fill_buf()?;
        if piece.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(&piece[..piece.len().min(most)]) }
    }
    pub(super) fn used(&mut self, amount: usize) {
        self.input.consume(amount);
    }
    pub(super) fn skip(&mut self, mut amount: u64) -> io::Result<()> {
        while amount > 0 {
            let got = self.raw(amount)?.len();
            self.used(got);
            amount -= got as u64;
        }
        Ok(())
    }
    /// The record's own checksum is looked at only at its end.
    pub(super) fn close(&mut self) -> io::Result<()> {
        if self.input.fill_buf()?.is_empty() { Ok(()) } else { Err(malformed("something follows its end")) }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        Ok(byte[0])
    }
    fn number(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number is out of range"))
    }
    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = self.number()?;
        if length > LONGEST {
            return Err(malformed("a name is too long"));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the split record is damaged: {why}"))
}

fn number(out: &mut impl Write, mut value: u64) -> io::Result<()> {
    let mut bytes = [0; 10];
    let mut used = 0;
    loop {
        bytes[used] = u8::try_from(value & 0x7f).unwrap_or(0) | if value > 0x7f { 0x80 } else { 0 };
        used += 1;
        value >>= 7;
        if value == 0 {
            return out.write_all(&bytes[..used]);
        }
    }
}

fn bytes(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    number(out, bytes.len() as u64)?;
    out.write_all(bytes)
}
