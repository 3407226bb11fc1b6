//! One log record as one line of JSON. Free of the standard library: compiled into the library and into the follower.
//!
//! | key | meaning |
//! |---|---|
//! | `t` | when it was read, RFC 3339 in UTC with nanoseconds |
//! | `s` | `stdout` or `stderr` |
//! | `n` | number of the record over the whole life of the container; a gap is as long as a `lost` after it says |
//! | `m` | the text, where it is UTF-8 |
//! | `b` | the bytes in base64, where they are not UTF-8 or escaping them would cost more |
//! | `p` | `true`: the line goes on in the next record of the stream |
//! | `u` | `true`: the stream ended here without a newline |
//! | `lost` | so many records could not be written before this one (no `s`, `m`, `b`) |

use super::lines::Ending;

/// The longest piece of a line in one record.
pub const PIECE: usize = 16 * 1024;
/// No record is longer than this: base64 of a piece, and room for the other keys.
pub const LONGEST: usize = PIECE / 3 * 4 + 8 + 192;

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Nanoseconds since the Unix epoch.
pub type Nanos = u64;

/// Writes the record with its newline to `out`, which must hold [`LONGEST`] bytes; gives its length.
pub fn encode(out: &mut [u8], at: Nanos, stream: Stream, number: u64, bytes: &[u8], ending: Ending) -> usize {
    let mut line = Line { out, len: 0 };
    line.raw(b"{\"t\":\"");
    line.time(at);
    line.raw(match stream {
        Stream::Stdout => b"\",\"s\":\"stdout\",\"n\":".as_slice(),
        Stream::Stderr => b"\",\"s\":\"stderr\",\"n\":".as_slice(),
    });
    line.decimal(number);
    if core::str::from_utf8(bytes).is_ok() && escaped_len(bytes) <= bytes.len().div_ceil(3) * 4 + 4 {
        line.raw(b",\"m\":\"");
        line.escaped(bytes);
    } else {
        line.raw(b",\"b\":\"");
        line.base64(bytes);
    }
    line.raw(match ending {
        Ending::Newline => b"\"}\n".as_slice(),
        Ending::Continued => b"\",\"p\":true}\n".as_slice(),
        Ending::Unterminated => b"\",\"u\":true}\n".as_slice(),
    });
    line.len
}

/// Writes the record that says how many are missing.
pub fn encode_lost(out: &mut [u8], at: Nanos, number: u64, lost: u64) -> usize {
    let mut line = Line { out, len: 0 };
    line.raw(b"{\"t\":\"");
    line.time(at);
    line.raw(b"\",\"n\":");
    line.decimal(number);
    line.raw(b",\"lost\":");
    line.decimal(lost);
    line.raw(b"}\n");
    line.len
}

fn escaped_len(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .map(|b| match b {
            b'"' | b'\\' | b'\t' | b'\r' => 2,
            0..=0x1f => 6,
            _ => 1,
        })
        .sum()
}

/// A line being written into a buffer.
pub struct Line<'a> {
    /// Where.
    pub out: &'a mut [u8],
    /// How much of it is written.
    pub len: usize,
}

impl Line<'_> {
    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
    /// Appends a number.
    pub fn decimal(&mut self, number: u64) {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.raw(&digits[at..]);
    }
    fn padded(&mut self, number: u64, width: usize) {
        for place in (0..width as u32).rev() {
            self.raw(&[b'0' + (number / 10_u64.pow(place) % 10) as u8]);
        }
    }
    fn time(&mut self, at: Nanos) {
        let seconds = at / 1_000_000_000;
        let (year, month, day) = civil(seconds / 86_400);
        for (number, width, after) in [
            (year, 4, b'-'),
            (month, 2, b'-'),
            (day, 2, b'T'),
            (seconds / 3600 % 24, 2, b':'),
            (seconds / 60 % 60, 2, b':'),
            (seconds % 60, 2, b'.'),
            (at % 1_000_000_000, 9, b'Z'),
        ] {
            self.padded(number, width);
            self.raw(&[after]);
        }
    }
    fn escaped(&mut self, bytes: &[u8]) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        for byte in bytes {
            match byte {
                b'"' => self.raw(b"\\\""),
                b'\\' => self.raw(b"\\\\"),
                b'\t' => self.raw(b"\\t"),
                b'\r' => self.raw(b"\\r"),
                0..=0x1f => {
                    self.raw(b"\\u00");
                    self.raw(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                }
                _ => self.raw(&[*byte]),
            }
        }
    }
    fn base64(&mut self, bytes: &[u8]) {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for chunk in bytes.chunks(3) {
            let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
            let group = byte(0) << 16 | byte(1) << 8 | byte(2);
            let mut four = [b'='; 4];
            for (i, slot) in four.iter_mut().enumerate().take(chunk.len() + 1) {
                *slot = ALPHABET[(group >> (18 - 6 * i) & 63) as usize];
            }
            self.raw(&four);
        }
    }
}

/// Days since 1970-01-01 to year, month, day (the civil calendar, counted in eras of 400 years).
const fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + z / 146_097 * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}
