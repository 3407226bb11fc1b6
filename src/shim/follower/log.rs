//! The log file of the container: written in batches, rotated by size, and never a reason to stop.

use crate::entry::{self, LONGEST, Stream};
use crate::lines::Ending;
use crate::sys;

const FOLDER: i32 = 6;
/// A batch is written once it is this long, or when no more output waits.
const BATCH: usize = 8 * 1024;

pub struct Log {
    fd: i32,
    size: u64,
    max_bytes: u64,
    files: u64,
    next: u64,
    batch: [u8; BATCH + LONGEST],
    len: usize,
    records: u64,
    lost: u64,
    full: bool,
}

impl Log {
    /// All zero, so that it takes no room in the file; `open` comes first.
    pub const fn new() -> Self {
        Self { fd: 0, size: 0, max_bytes: 0, files: 0, next: 0, batch: [0; BATCH + LONGEST], len: 0, records: 0, lost: 0, full: false }
    }

    pub fn open(&mut self, max_bytes: u64, files: u64, next: u64) {
        self.max_bytes = max_bytes;
        self.files = files.clamp(1, 100);
        self.next = next;
        self.reopen();
    }

    /// Before each chunk of output: a disk that was full is tried again. Not for each record, which would cost the container
    /// its speed.
    pub fn try_again(&mut self) {
        self.full = false;
    }

    pub fn write(&mut self, at: u64, stream: Stream, piece: &[u8], ending: Ending) {
        if self.full {
            self.lost += 1;
            self.next += 1;
            return;
        }
        self.say_lost(at);
        if self.full {
            return self.write(at, stream, piece, ending);
        }
        let len = entry::encode(&mut self.batch[self.len..], at, stream, self.next, piece, ending);
        self.add(len);
    }

    /// Writes the batch; false where it was lost (then it is counted).
    pub fn flush(&mut self) -> bool {
        if self.len == 0 {
            return true;
        }
        if self.size > 0 && self.size + self.len as u64 > self.max_bytes {
            self.rotate();
        }
        if self.fd < 0 {
            self.reopen();
        }
        let mut done = 0;
        while done < self.len {
            match sys::write(self.fd, &self.batch[done..self.len]) {
                Ok(n) => done += n,
                Err(sys::EINTR) => {}
                Err(_) => {
                    // No space, or no file. What was torn is cut off.
                    sys::truncate(self.fd, self.size);
                    self.lost += self.records;
                    self.full = true;
                    (self.len, self.records) = (0, 0);
                    return false;
                }
            }
        }
        self.size += self.len as u64;
        (self.len, self.records) = (0, 0);
        true
    }

    fn add(&mut self, len: usize) {
        self.len += len;
        self.records += 1;
        self.next += 1;
        if self.len >= BATCH {
            self.flush();
        }
    }

    /// Before the first record after a loss, says how much is missing. It counts as no record itself, so that a disk that is
    /// still full does not count the same loss twice.
    fn say_lost(&mut self, at: u64) {
        if self.lost == 0 || !self.flush() {
            return;
        }
        self.len = entry::encode_lost(&mut self.batch, at, self.next, self.lost);
        if self.flush() {
            self.lost = 0;
            self.next += 1;
        }
    }

    fn reopen(&mut self) {
        self.fd = sys::open_append(FOLDER, b"log\0");
        self.size = sys::size(self.fd).unwrap_or(0);
    }

    /// `log.3` to `log.4` and so on, `log` to `log.1`. Where it fails the file is emptied: bounded comes first.
    fn rotate(&mut self) {
        sys::close(self.fd);
        for to in (1..self.files).rev() {
            let (mut old, mut new) = ([0; 8], [0; 8]);
            sys::rename(FOLDER, name(&mut old, to - 1), name(&mut new, to));
        }
        if self.files == 1 {
            sys::unlink(FOLDER, b"log\0");
        }
        self.reopen();
        if self.size > 0 {
            sys::truncate(self.fd, 0);
            self.size = 0;
        }
    }
}

/// `log` for 0, `log.N` for others, with its NUL.
fn name(buffer: &mut [u8; 8], number: u64) -> &[u8] {
    buffer[..3].copy_from_slice(b"log");
    if number > 0 {
        buffer[3] = b'.';
        let mut line = entry::Line { out: &mut buffer[4..], len: 0 };
        line.decimal(number);
    }
    buffer
}
