//! A tar reader that is strict where readers disagree.
//!
//! Two readers that see different files in one archive are an attack (CVE-2025-62518), so whatever is ambiguous is
//! refused: a bad checksum, PAX records of the wrong length, a global header that renames, sparse maps, unknown types.
//! Where Go's `archive/tar` has a firm opinion, it is followed, since nearly every layer is made and read by it: links,
//! directories and devices carry no data whatever their size field says. Memory is bounded by `META_BYTES`.

mod pax;

use std::io::{self, BufRead};

use pax::Records;

/// Longest PAX header or GNU long name, as in Go.
const META_BYTES: u64 = 1 << 20;
const BLOCK: usize = 512;

/// One member of an archive.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a member is. The data of a file is read from the archive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File { size: u64 },
    Directory,
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// Why an archive is not read on.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The bytes did not come; the reader below knows why.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The archive breaks its format or uses a part of it that is refused.
    #[error("the tar archive is refused: {0}")]
    Format(String),
}

fn refused<T>(why: impl Into<String>) -> Result<T, TarError> {
    Err(TarError::Format(why.into()))
}

/// Reads members one after another.
pub(crate) struct Archive<R> {
    input: R,
    /// Data of the current member not yet read.
    left: u64,
    /// Zeros after it up to the next block.
    padding: u64,
}

/// What comes before a member and speaks about it.
#[derive(Default)]
struct Ahead {
    pax: Records,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    /// The next member, or none at the end marker or at the end of the input between members.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut ahead = Ahead::default();
        let mut alone = true;
        loop {
            self.skip_rest()?;
            let Some(block) = self.header()? else {
                return if alone { Ok(None) } else { refused("it ends after a header that announces a member") };
            };
            let kind = block[156];
            match kind {
                b'x' => ahead.pax = pax::parse(&self.meta(&block)?).map_err(TarError::Format)?,
                b'g' => check_global(&pax::parse(&self.meta(&block)?).map_err(TarError::Format)?)?,
                b'L' => ahead.long_name = Some(until_nul(&self.meta(&block)?).to_vec()),
                b'K' => ahead.long_link = Some(until_nul(&self.meta(&block)?).to_vec()),
                _ => return self.member(&block, ahead).map(Some),
            }
            alone = alone && kind == b'g';
        }
    }

    /// Data of the current member, as much as is at hand; nothing at its end. What was used is told to [`Self::used`].
    pub(crate) fn data(&mut self) -> Result<&[u8], TarError> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let want = usize::try_from(self.left).unwrap_or(usize::MAX);
        match fill(&mut self.input)? {
            [] => refused("it ends inside the data of a member"),
            piece => Ok(&piece[..piece.len().min(want)]),
        }
    }

    /// Goes on in the data of the current member.
    pub(crate) fn used(&mut self, amount: usize) {
        self.left -= amount as u64;
        self.input.consume(amount);
    }

    /// The input, for what belongs beside the archive.
    pub(crate) fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// The input, to be read to its end: what follows the end marker is hashed but never unpacked.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let mut rest = self.left + self.padding;
        while rest > 0 {
            let got = fill(&mut self.input)?.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            if got == 0 {
                return refused("it ends inside the data of a member");
            }
            self.input.consume(got);
            rest -= got as u64;
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// A checked header block; none at the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().any(|b| *b != 0) {
            return check_sum(&block).map(|()| Some(block));
        }
        // The end marker is two blocks of zeros. One alone at the very end is common; one before a member is an error.
        match self.block()? {
            Some(next) if next.iter().any(|b| *b != 0) => refused("a single block of zeros stands between members"),
            Some(_) | None => Ok(None),
        }
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let piece = fill(&mut self.input)?;
            let got = piece.len().min(BLOCK - filled);
            match got {
                0 if filled == 0 => return Ok(None),
                0 => return refused("it ends inside a header"),
                _ => block[filled..filled + got].copy_from_slice(&piece[..got]),
            }
            self.input.consume(got);
            filled += got;
        }
        Ok(Some(block))
    }

    /// The data of a header that speaks about another member.
    fn meta(&mut self, block: &[u8; BLOCK]) -> Result<Vec<u8>, TarError> {
        let size = size_of(block)?;
        if size > META_BYTES {
            return refused(format!("an extended header claims {size} bytes; at most {META_BYTES} are allowed"));
        }
        self.announce(size);
        let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        loop {
            let piece = self.data()?;
            if piece.is_empty() {
                return Ok(data);
            }
            data.extend_from_slice(piece);
            let got = piece.len();
            self.used(got);
        }
    }

    fn announce(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn member(&mut self, block: &[u8; BLOCK], ahead: Ahead) -> Result<Entry, TarError> {
        let Ahead { pax, long_name, long_link } = ahead;
        let path = match pax.path.or(long_name) {
            Some(path) => path,
            None => short_name(block),
        };
        let link = match pax.linkpath.or(long_link) {
            Some(link) => link,
            None => until_nul(&block[157..257]).to_vec(),
        };
        if path.contains(&0) || link.contains(&0) {
            return refused("a name holds a NUL");
        }
        let size = match pax.size {
            Some(size) => size,
            None => size_of(block)?,
        };
        let kind = kind_of(block, &path, link, size)?;
        self.announce(if let Kind::File { size } = kind { size } else { 0 });
        Ok(Entry {
            kind,
            mode: u32::try_from(number(&block[100..108])? & 0o7777).unwrap_or(0),
            uid: owner(pax.uid, &block[108..116])?,
            gid: owner(pax.gid, &block[116..124])?,
            mtime: match pax.mtime {
                Some(mtime) => mtime,
                None => (number(&block[136..148])?, 0),
            },
            xattrs: pax.xattrs,
            path,
        })
    }
}

fn kind_of(block: &[u8; BLOCK], path: &[u8], link: Vec<u8>, size: u64) -> Result<Kind, TarError> {
    let device = || -> Result<(u32, u32), TarError> {
        let part = |field: &[u8]| match u32::try_from(number(field)?) {
            Ok(n) if n < 1 << 20 => Ok(n),
            Ok(_) | Err(_) => refused("a device number is out of range"),
        };
        Ok((part(&block[329..337])?, part(&block[337..345])?))
    };
    match block[156] {
        // Before POSIX a directory was a file whose name ends in a slash; Go reads both forms so.
        b'0' | 0 if path.ends_with(b"/") => Ok(Kind::Directory),
        b'0' | 0 | b'7' => Ok(Kind::File { size }),
        b'1' => Ok(Kind::Hardlink(link)),
        b'2' if link.is_empty() => refused("a symbolic link leads nowhere"),
        b'2' => Ok(Kind::Symlink(link)),
        b'3' => device().map(|(major, minor)| Kind::Character(major, minor)),
        b'4' => device().map(|(major, minor)| Kind::Block(major, minor)),
        b'5' => Ok(Kind::Directory),
        b'6' => Ok(Kind::Fifo),
        b'S' => refused("sparse files are not supported"),
        other => refused(format!("a member is of the unknown type {:?}", char::from(other))),
    }
}

/// git-archive writes a comment in a global header; anything that would change members is refused.
fn check_global(records: &Records) -> Result<(), TarError> {
    if records.changes_members() { refused("a global header changes the members that follow") } else { Ok(()) }
}

fn short_name(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&block[..100]);
    // GNU's own magic ends in a space and uses the prefix field for other things.
    let prefix = if &block[257..263] == b"ustar\0" { until_nul(&block[345..500]) } else { b"" };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

fn owner(pax: Option<i64>, field: &[u8]) -> Result<u32, TarError> {
    let id = match pax {
        Some(id) => id,
        None => number(field)?,
    };
    // chown(2) reads -1 as "leave it", which would silently give the file to root.
    match u32::try_from(id) {
        Ok(id) if id != u32::MAX => Ok(id),
        Ok(_) | Err(_) => refused(format!("the owner {id} is out of range")),
    }
}

fn size_of(block: &[u8; BLOCK]) -> Result<u64, TarError> {
    u64::try_from(number(&block[124..136])?).or_else(|_| refused("a size is negative"))
}

fn check_sum(block: &[u8; BLOCK]) -> Result<(), TarError> {
    let stated = number(&block[148..156])?;
    let field = 148..156;
    let byte = |at: usize, b: u8| if field.contains(&at) { b' ' } else { b };
    let unsigned: i64 = block.iter().enumerate().map(|(at, b)| i64::from(byte(at, *b))).sum();
    // Some old writers summed signed characters.
    let signed: i64 = block.iter().enumerate().map(|(at, b)| i64::from(byte(at, *b).cast_signed())).sum();
    if stated == unsigned || stated == signed { Ok(()) } else { refused("a header has a wrong checksum") }
}

/// A number in octal, or in base 256 where the first bit is set (GNU, star).
fn number(field: &[u8]) -> Result<i64, TarError> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        Some(_) | None => octal(field),
    }
}

fn base256(field: &[u8]) -> Result<i64, TarError> {
    // The bit below the mark is the sign, as in two's complement.
    let start: i128 = if field[0] & 0x40 != 0 { -1 } else { 0 };
    let mut value = (start << 7) | i128::from(field[0] & 0x7f);
    for byte in &field[1..] {
        value = (value << 8) | i128::from(*byte);
    }
    i64::try_from(value).or_else(|_| refused("a number is out of range"))
}

fn octal(field: &[u8]) -> Result<i64, TarError> {
    let text = field.trim_ascii_start();
    let end = text.iter().position(|b| matches!(b, 0 | b' ')).unwrap_or(text.len());
    text[..end].iter().try_fold(0i64, |value, byte| match byte {
        b'0'..=b'7' => Ok((value << 3) | i64::from(byte - b'0')),
        _ => refused("a number is not octal"),
    })
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

fn fill(input: &mut impl BufRead) -> Result<&[u8], TarError> {
    loop {
        match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(TarError::Read(error)),
            // Asked once more, because a borrow that may be returned cannot end in a loop; nothing is read again.
            Ok(_) => break,
        }
    }
    input.fill_buf().map_err(TarError::Read)
}
