//! Where commands print: standard output in a buffer, standard error at once, colours only for people.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write};

use serde::Serialize;

use super::words::printable;
use crate::model::Timestamp;

/// The two outputs of a command.
pub(super) struct Out {
    stdout: BufWriter<Stdout>,
    /// How to paint what goes to standard output.
    pub(super) paint: Paint,
    /// Whether a person watches standard error.
    pub(super) watched: bool,
}

impl Out {
    pub(super) fn standard() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let paint = Paint { on: io::stdout().is_terminal() && !plain };
        Self { stdout: BufWriter::new(io::stdout()), paint, watched: io::stderr().is_terminal() }
    }
    /// To standard output, as it is.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)
    }
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        self.bytes(text.as_bytes())
    }
    /// A value for programs.
    pub(super) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.stdout, value)?;
        self.bytes(b"\n")
    }
    /// To standard error, in order with what went to standard output.
    pub(super) fn error_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.flush()?;
        io::stderr().write_all(bytes)
    }
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
    /// A sentence for the person at the terminal.
    pub(super) fn complain(&mut self, message: &str) {
        // Where even this cannot be printed, the exit code still tells.
        let lines: Vec<String> = message.lines().map(printable).collect();
        let _ = writeln!(io::stderr(), "longshore: {}", lines.join("\n"));
    }
}

/// The clock, for ages.
pub(super) fn now() -> Timestamp {
    Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0))
}

/// Colours, where somebody can see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint {
    pub(super) on: bool,
}

/// What a colour means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Plain,
    Good,
    Busy,
    Bad,
    Faint,
    Strong,
}

impl Paint {
    pub(super) fn ink(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Plain => return text.to_owned(),
            Ink::Good => "32",
            Ink::Busy => "33",
            Ink::Bad => "31",
            Ink::Faint => "2",
            Ink::Strong => "1",
        };
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
