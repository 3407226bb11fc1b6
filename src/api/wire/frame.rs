//! The stream of a command, both ways: frames of a type (1 byte), a length (4 bytes, big-endian) and so many bytes.
//!
//! ```text
//! client  0 stdin          bytes                    1 end of stdin  nothing
//!         2 size           rows, columns (2 each)   3 signal        its number (1), for the command's process group
//! server  16 stdout        bytes                    17 stderr       bytes
//!         18 exit          JSON, the last one       19 error        JSON as of any error, the last one
//!         20 taken         how many bytes of stdin were taken (4)
//! ```
//! A client sends at most [`WINDOW`] bytes of stdin that were not taken yet; so sizes and signals are never held up by a command
//! that does not read.

use super::{ErrorBody, ExecExit, TerminalSize};

/// No payload is longer.
pub const LARGEST: usize = 64 * 1024;
/// Bytes of stdin that may be on the way.
pub const WINDOW: usize = 256 * 1024;
/// The protocol's name in `Upgrade`.
pub const PROTOCOL: &str = "longshore-exec";

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// For the command's standard input.
    Stdin(Vec<u8>),
    /// There will be no more of it.
    StdinEnd,
    /// The terminal has another size.
    Size(TerminalSize),
    /// A signal for the command.
    Signal(u8),
    /// Of its standard output, or of its terminal.
    Stdout(Vec<u8>),
    /// Of its standard error.
    Stderr(Vec<u8>),
    /// It has ended.
    Exit(ExecExit),
    /// The stream is over for another reason.
    Error(ErrorBody),
    /// So many bytes of its input were taken.
    Taken(u32),
}

/// What came is no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No such type.
    #[error("there are no frames of type {0}")]
    Kind(u8),
    /// Longer than [`LARGEST`].
    #[error("a frame of {0} bytes is too long")]
    Length(usize),
    /// Not what this type holds.
    #[error("a frame of type {0} does not hold what it should")]
    Content(u8),
}

impl Frame {
    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Stdin(bytes) => framed(0, bytes),
            Self::StdinEnd => framed(1, &[]),
            Self::Size(size) => framed(2, &[size.rows.to_be_bytes(), size.columns.to_be_bytes()].concat()),
            Self::Signal(number) => framed(3, &[*number]),
            Self::Stdout(bytes) => framed(16, bytes),
            Self::Stderr(bytes) => framed(17, bytes),
            Self::Exit(exit) => framed(18, &json(exit)),
            Self::Error(error) => framed(19, &json(error)),
            Self::Taken(count) => framed(20, &count.to_be_bytes()),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, FrameError> {
        let wrong = || FrameError::Content(kind);
        Ok(match kind {
            0 => Self::Stdin(payload.to_vec()),
            1 => Self::StdinEnd,
            2 => {
                let [a, b, c, d] = *payload else { return Err(wrong()) };
                Self::Size(TerminalSize { rows: u16::from_be_bytes([a, b]), columns: u16::from_be_bytes([c, d]) })
            }
            3 => {
                let [number @ 1..=64] = *payload else { return Err(wrong()) };
                Self::Signal(number)
            }
            16 => Self::Stdout(payload.to_vec()),
            17 => Self::Stderr(payload.to_vec()),
            18 => Self::Exit(serde_json::from_slice(payload).map_err(|_| wrong())?),
            19 => Self::Error(serde_json::from_slice(payload).map_err(|_| wrong())?),
            20 => Self::Taken(u32::from_be_bytes(payload.try_into().map_err(|_| wrong())?)),
            other => return Err(FrameError::Kind(other)),
        })
    }
}

fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + payload.len());
    bytes.push(kind);
    // Whoever makes a frame keeps to `LARGEST`.
    bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("these types are JSON")
}

/// Bytes that become frames as they come.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    read: usize,
}

impl Frames {
    /// Takes what came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..std::mem::take(&mut self.read));
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, if all of it is here.
    pub fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.buffer[self.read..];
        let Some((&[kind, a, b, c, d], rest)) = rest.split_first_chunk::<5>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > LARGEST {
            return Err(FrameError::Length(length));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::decode(kind, payload)?;
        self.read += 5 + length;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ErrorFacts;
    use super::*;

    #[test]
    fn every_frame_comes_back_in_whatever_pieces() {
        let error = ErrorFacts { code: "x".into(), message: "y".into(), hint: None, exit_code: Some(3) };
        let frames = [
            Frame::Stdin(vec![0; LARGEST]),
            Frame::StdinEnd,
            Frame::Size(TerminalSize { rows: 1, columns: 60_000 }),
            Frame::Signal(15),
            Frame::Stdout(b"out".to_vec()),
            Frame::Stderr(Vec::new()),
            Frame::Exit(ExecExit { code: 137, signal: Some(9), reason: None }),
            Frame::Error(ErrorBody { error }),
            Frame::Taken(7),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        for size in [1, 7, 4096, bytes.len()] {
            let (mut reader, mut seen) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(size) {
                reader.feed(piece);
                while let Some(frame) = reader.take().unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, frames);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_before_it_is_kept() {
        let read = |bytes: &[u8]| {
            let mut frames = Frames::default();
            frames.feed(bytes);
            frames.take()
        };
        assert_eq!(read(&[0, 0, 1, 0, 1]), Err(FrameError::Length(65_537)));
        assert_eq!(read(&[9, 0, 0, 0, 0]), Err(FrameError::Kind(9)));
        assert_eq!(read(&[3, 0, 0, 0, 1, 65]), Err(FrameError::Content(3)));
        assert_eq!(read(&[2, 0, 0, 0, 1, 0]), Err(FrameError::Content(2)));
        assert_eq!(read(&[0, 0, 0, 0]), Ok(None));
    }
}
