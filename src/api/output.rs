//! The output of containers, as the doors need it. The daemon makes it from the log files.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::BoxStream;

use super::wire;
use crate::model::{ContainerId, Timestamp};

/// Lines as they come; ends when nothing more will come.
pub type LogStream = BoxStream<'static, Result<LogLine, io::Error>>;

/// Where the output of containers is read.
pub trait LogSource: Send + Sync {
    /// Opens the output of a container. A container without output gives an empty stream.
    fn open(&self, id: &ContainerId, request: LogRequest) -> LogStream;

    /// Opens what is kept of the containers that were in these places before the present ones, with their names: of the replica
    /// with this number, or of each one.
    fn previous(
        &self,
        project: &str,
        service: &str,
        number: Option<u32>,
        request: LogRequest,
    ) -> Vec<(String, LogStream)>;
}

/// What part of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogRequest {
    /// Go on with what is written later.
    pub follow: bool,
    /// Leave out what is older.
    pub since: Option<Timestamp>,
    /// Of what is there, only so many lines from the end.
    pub tail: Option<usize>,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Nanoseconds since the Unix epoch.
    pub time: u64,
    /// Which stream.
    pub stream: Stream,
    /// Counts the container's records.
    pub sequence: u64,
    /// The line without its end; any bytes.
    pub bytes: Vec<u8>,
    /// Whether the line goes on in the next record of this stream.
    pub partial: bool,
    /// Whether the stream ended here, with no newline.
    pub unterminated: bool,
}

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl LogLine {
    /// On the wire. What is not UTF-8 goes as base64, so that no byte is lost.
    pub(super) fn record(self, container: &str) -> wire::LogRecord {
        let (text, base64) = match String::from_utf8(self.bytes) {
            Ok(text) => (Some(text), None),
            Err(err) => (None, Some(STANDARD.encode(err.as_bytes()))),
        };
        wire::LogRecord {
            time: wire::Time::from_nanos(self.time),
            container: container.to_owned(),
            stream: self.stream.as_str().to_owned(),
            sequence: self.sequence,
            text,
            base64,
            partial: self.partial,
            unterminated: self.unterminated,
        }
    }
}
