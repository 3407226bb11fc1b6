//! One record, as it is read back.

use serde::Deserialize;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
    /// The follower itself: so many records before this one are missing.
    Lost(u64),
}

/// A piece of a container's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read, in nanoseconds since the Unix epoch.
    pub at_ns: u64,
    /// From where.
    pub stream: LogStream,
    /// Without gaps over the life of the container.
    pub number: u64,
    /// Exactly what was written, without the newline.
    pub bytes: Vec<u8>,
    /// The line goes on in the next record of the stream.
    pub partial: bool,
    /// The stream ended here without a newline.
    pub unterminated: bool,
}

impl LogLine {
    /// Reads one line of a log file; `None` where it is not a record (torn by a power cut).
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        let record: Record = serde_json::from_slice(json).ok()?;
        let at: jiff::Timestamp = record.t.parse().ok()?;
        let stream = match (record.s.as_deref(), record.lost) {
            (_, Some(lost)) => LogStream::Lost(lost),
            (Some("stdout"), None) => LogStream::Stdout,
            (Some("stderr"), None) => LogStream::Stderr,
            (_, None) => return None,
        };
        let bytes = match (record.m, record.b) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(base64)) => decode(base64.as_bytes())?,
            (None, None) => Vec::new(),
        };
        Some(Self {
            at_ns: u64::try_from(at.as_nanosecond()).ok()?,
            stream,
            number: record.n,
            bytes,
            partial: record.p,
            unterminated: record.u,
        })
    }

    /// What the container wrote: the bytes, with their newline where there was one.
    #[must_use]
    pub fn written(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if !self.partial && !self.unterminated {
            bytes.push(b'\n');
        }
        bytes
    }
}

#[derive(Deserialize)]
struct Record {
    t: String,
    n: u64,
    #[serde(default)]
    s: Option<String>,
    #[serde(default)]
    m: Option<String>,
    #[serde(default)]
    b: Option<String>,
    #[serde(default)]
    p: bool,
    #[serde(default)]
    u: bool,
    #[serde(default)]
    lost: Option<u64>,
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for four in text.chunks(4) {
        let mut group = 0_u32;
        let mut count = 0;
        for byte in four.iter().take_while(|b| **b != b'=') {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            group |= u32::from(value) << (18 - 6 * count);
            count += 1;
        }
        let all = group.to_be_bytes();
        bytes.extend_from_slice(all.get(1..usize::try_from(count).ok()?)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::entry::{LONGEST, PIECE, Stream, encode, encode_lost};
    use crate::logs::lines::{Ending, Lines};

    fn round(bytes: &[u8], ending: Ending) -> LogLine {
        let mut out = vec![0; LONGEST];
        let len = encode(&mut out, 1_795_460_400_123_456_789, Stream::Stderr, 7, bytes, ending);
        assert_eq!(out[len - 1], b'\n');
        LogLine::parse(&out[..len - 1]).expect("what is written can be read")
    }

    #[test]
    fn any_bytes_come_back_as_they_were() {
        let binary: Vec<u8> = (0..=255).cycle().take(PIECE).collect();
        let controls = vec![1; PIECE];
        for bytes in [b"".as_slice(), b"x", b"xy", b"\"\\\t\r\x07", "päivä €".as_bytes(), b"\xff\0", &binary, &controls]
        {
            let line = round(bytes, Ending::Newline);
            assert_eq!(line.bytes, bytes);
            assert_eq!((line.number, line.stream, line.at_ns), (7, LogStream::Stderr, 1_795_460_400_123_456_789));
        }
        assert!(round(b"x", Ending::Continued).partial);
        assert!(round(b"x", Ending::Unterminated).unterminated);
    }

    #[test]
    fn the_text_is_as_documented() {
        let mut out = vec![0; LONGEST];
        let len = encode(&mut out, 1_795_460_400_123_456_789, Stream::Stdout, 7, b"hi", Ending::Continued);
        let text = "{\"t\":\"2026-11-23T19:00:00.123456789Z\",\"s\":\"stdout\",\"n\":7,\"m\":\"hi\",\"p\":true}\n";
        assert_eq!(std::str::from_utf8(&out[..len]), Ok(text));
        let len = encode_lost(&mut out, 951_782_400_000_000_000, 8, 3);
        let line = LogLine::parse(&out[..len]).expect("a record");
        assert_eq!((line.stream, line.at_ns), (LogStream::Lost(3), 951_782_400_000_000_000));
    }

    #[test]
    fn lines_are_cut_at_newlines_and_at_the_longest_piece_however_they_arrive() {
        let text = b"one\n\n12345678\n123456789\n1234567812345678\nend";
        for step in 1..text.len() {
            let mut lines = Lines::<8>::new();
            let mut seen = Vec::new();
            let mut take = |bytes: &[u8], ending| seen.push((String::from_utf8_lossy(bytes).into_owned(), ending));
            for part in text.chunks(step) {
                lines.push(part, &mut take);
            }
            lines.finish(&mut take);
            let whole = |t: &str| (t.to_owned(), Ending::Newline);
            let part = |t: &str| (t.to_owned(), Ending::Continued);
            let wanted = [
                whole("one"),
                whole(""),
                whole("12345678"),
                part("12345678"),
                whole("9"),
                part("12345678"),
                whole("12345678"),
                ("end".to_owned(), Ending::Unterminated),
            ];
            assert_eq!(seen, wanted, "in steps of {step}");
        }
    }
}
