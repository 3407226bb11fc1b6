//! Rebuilds a layer's tar archive from its directory and its split record.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use flate2::Crc;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::split::{self, Notes};
use crate::image::error::shown;

const PIECE: usize = 128 << 10;

/// What stood at one path and was replaced: after how many members, and its content.
type Replaced = (u64, Option<Vec<u8>>);

/// The archive of an unpacked layer, byte for byte. Damaged content is an error that names the file.
pub(in crate::image) struct Rebuilt {
    notes: Notes,
    root: OwnedFd,
    lost: BTreeMap<Vec<u8>, Vec<Replaced>>,
    state: State,
    buffer: Vec<u8>,
    at: usize,
    filled: usize,
    members: u64,
    current: Vec<u8>,
    sum: Crc,
    /// Bytes given out, or about to be.
    total: u64,
    /// What is wrong with contents, for a check: it goes on, with zeros where bytes are missing.
    wrong: Option<Vec<(Vec<u8>, String)>>,
}

enum State {
    Between,
    Raw(u64),
    Disk(File, u64),
    Kept(Vec<u8>, u64),
    Missing(u64),
    Ended,
}

/// Opens the archive of the layer in `layer_dir`, which holds `diff/` and `split.zst`.
pub(in crate::image) fn rebuild(layer_dir: &Path) -> io::Result<Rebuilt> {
    Rebuilt::open(layer_dir, false)
}

impl Rebuilt {
    pub(super) fn open(layer_dir: &Path, lenient: bool) -> io::Result<Self> {
        let record = File::open(layer_dir.join(split::FILE))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, layer_dir.join("diff"), flags, Mode::empty())?;
        let lost = read_lost(record.try_clone()?)?;
        rustix::fs::seek(&record, rustix::fs::SeekFrom::Start(0))?;
        Ok(Self {
            notes: Notes::open(record)?,
            root,
            lost,
            state: State::Between,
            buffer: vec![0; PIECE],
            at: 0,
            filled: 0,
            members: 0,
            current: Vec::new(),
            sum: Crc::new(),
            total: 0,
            wrong: lenient.then(Vec::new),
        })
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }
    pub(super) fn into_wrong(self) -> Vec<(Vec<u8>, String)> {
        self.wrong.unwrap_or_default()
    }

    /// After a header was read: where its member stands. None for one that was not unpacked.
    pub(super) fn member(&mut self) -> io::Result<Option<Vec<u8>>> {
        let before = self.members;
        if self.at < self.filled || !matches!(self.state, State::Between) {
            return Ok(None);
        }
        // What the member replaced stands before it.
        while self.members == before {
            self.step()?;
            if self.members == before && !matches!(self.state, State::Between) {
                return Ok(None);
            }
        }
        Ok(Some(self.current.clone()))
    }

    /// Whether what the current member brought to `path` was replaced later.
    pub(super) fn replaced(&self, path: &[u8]) -> bool {
        self.replacement(path).is_some()
    }
    fn replacement(&self, path: &[u8]) -> Option<&Replaced> {
        self.lost.get(path)?.iter().find(|(after, _)| *after >= self.members)
    }

    /// Takes the next note.
    fn step(&mut self) -> io::Result<()> {
        self.state = match self.notes.next()? {
            split::Note::Raw(size) => {
                self.total += size;
                State::Raw(size)
            }
            split::Note::Member { path, size } => {
                self.members += 1;
                self.total += size;
                self.current = path;
                self.sum.reset();
                if size == 0 { State::Between } else { self.content(size)? }
            }
            split::Note::Sum(sum) => {
                if sum != self.sum.sum() {
                    self.complain("its content is not what was unpacked")?;
                }
                State::Between
            }
            split::Note::Lost { .. } => State::Between,
            split::Note::End(total) => {
                self.notes.close()?;
                if total != self.total {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the split record is damaged: its size"));
                }
                State::Ended
            }
        };
        Ok(())
    }

    fn content(&mut self, size: u64) -> io::Result<State> {
        if let Some((_, content)) = self.replacement(&self.current) {
            return match content {
                Some(content) if content.len() as u64 == size => Ok(State::Kept(content.clone(), size)),
                Some(_) | None => self.missing(size, "its replaced content was not kept"),
            };
        }
        match self.file(size) {
            Ok(file) => Ok(State::Disk(file, size)),
            Err(Errno::NOENT) => self.missing(size, "it is gone"),
            Err(Errno::FBIG) => self.missing(size, "its size is not what was unpacked"),
            Err(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO) => {
                self.missing(size, "something else stands in its place")
            }
            Err(error) => self.missing(size, &format!("it cannot be read: {error}")),
        }
    }

    /// Opened inside the root and through no link; nothing is waited for that is no file.
    fn file(&self, size: u64) -> Result<File, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = rustix::fs::openat2(&self.root, self.current.as_slice(), flags, Mode::empty(), how)?;
        let found = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(Errno::ISDIR);
        }
        if u64::try_from(found.st_size) != Ok(size) {
            return Err(Errno::FBIG);
        }
        Ok(File::from(fd))
    }

    fn missing(&mut self, size: u64, why: &str) -> io::Result<State> {
        self.complain(why)?;
        Ok(State::Missing(size))
    }

    fn complain(&mut self, why: &str) -> io::Result<()> {
        let Some(wrong) = &mut self.wrong else {
            let text = format!("{} of the layer is damaged: {why}", shown(&self.current));
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        };
        // One complaint for each member; zeros that stand for missing bytes have a wrong sum as well.
        if wrong.len() < super::check::MOST && wrong.last().is_none_or(|(path, _)| *path != self.current) {
            wrong.push((self.current.clone(), why.to_owned()));
        }
        Ok(())
    }

    /// Refills the buffer from where the archive is now.
    fn refill(&mut self) -> io::Result<()> {
        (self.at, self.filled) = (0, 0);
        let within = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
        while self.filled == 0 {
            let (content, left) = match &mut self.state {
                State::Ended => return Ok(()),
                State::Between => {
                    self.step()?;
                    continue;
                }
                State::Raw(left) => {
                    let piece = self.notes.raw((*left).min(PIECE as u64))?;
                    self.filled = piece.len();
                    self.buffer[..piece.len()].copy_from_slice(piece);
                    self.notes.used(self.filled);
                    (false, left)
                }
                State::Disk(file, left) => {
                    self.filled = file.read(&mut self.buffer[..within(*left)])?;
                    if self.filled == 0 {
                        let left = *left;
                        self.state = self.missing(left, "its content ends too early")?;
                        continue;
                    }
                    (true, left)
                }
                State::Kept(bytes, left) => {
                    self.filled = within(*left);
                    let from = bytes.len() - usize::try_from(*left).unwrap_or(0);
                    self.buffer[..self.filled].copy_from_slice(&bytes[from..from + self.filled]);
                    (true, left)
                }
                State::Missing(left) => {
                    self.filled = within(*left);
                    self.buffer[..self.filled].fill(0);
                    (true, left)
                }
            };
            *left -= self.filled as u64;
            let done = *left == 0;
            if content {
                self.sum.update(&self.buffer[..self.filled]);
            }
            if done {
                self.state = State::Between;
            }
        }
        Ok(())
    }
}

impl BufRead for Rebuilt {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.filled {
            self.refill()?;
        }
        Ok(&self.buffer[self.at..self.filled])
    }
    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Rebuilt {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        split::read_through(self, buffer)
    }
}

/// What was replaced while the layer was unpacked; little, or the layer could not be rebuilt.
fn read_lost(record: File) -> io::Result<BTreeMap<Vec<u8>, Vec<Replaced>>> {
    let mut notes = Notes::open(record)?;
    let mut lost = BTreeMap::<Vec<u8>, Vec<Replaced>>::new();
    let mut members = 0;
    loop {
        match notes.next()? {
            split::Note::Raw(size) => notes.skip(size)?,
            split::Note::Member { .. } => members += 1,
            split::Note::Sum(_) => {}
            split::Note::Lost { path, content } => lost.entry(path).or_default().push((members, content)),
            split::Note::End(_) => return Ok(lost),
        }
    }
}
