//! Bytes into lines. Free of the standard library: compiled into the library (for its tests) and into the follower.

/// How a piece of output ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With a newline, which is not part of the piece.
    Newline,
    /// In the middle of a line that is longer than a piece may be: the next piece of the stream goes on with it.
    Continued,
    /// With the end of the stream: the last line had no newline.
    Unterminated,
}

/// Cuts one stream into pieces of at most `N` bytes.
pub struct Lines<const N: usize> {
    held: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Lines<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Lines<N> {
    /// Nothing held.
    #[must_use]
    pub const fn new() -> Self {
        Self { held: [0; N], len: 0 }
    }

    /// Takes the next bytes of the stream and hands on every piece that is whole. A full piece is held until its next byte
    /// is known, so that a line of exactly `N` bytes is not followed by an empty piece.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut impl FnMut(&[u8], Ending)) {
        while let Some(first) = bytes.first() {
            if self.len == N {
                let newline = *first == b'\n';
                out(&self.held, if newline { Ending::Newline } else { Ending::Continued });
                self.len = 0;
                bytes = &bytes[usize::from(newline)..];
                continue;
            }
            let window = &bytes[..bytes.len().min(N - self.len)];
            match window.iter().position(|b| *b == b'\n') {
                Some(at) if self.len == 0 => {
                    out(&window[..at], Ending::Newline);
                    bytes = &bytes[at + 1..];
                }
                Some(at) => {
                    self.hold(&window[..at]);
                    out(&self.held[..self.len], Ending::Newline);
                    self.len = 0;
                    bytes = &bytes[at + 1..];
                }
                None => {
                    self.hold(window);
                    bytes = &bytes[window.len()..];
                }
            }
        }
    }

    /// The stream is over: hands on what was held.
    pub fn finish(&mut self, out: &mut impl FnMut(&[u8], Ending)) {
        if self.len > 0 {
            out(&self.held[..self.len], Ending::Unterminated);
            self.len = 0;
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.held[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}
