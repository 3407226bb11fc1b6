//! The output of containers, from the log files to the API.

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt as _;

use crate::api::{self, LogRequest, LogSource, LogStream};
use crate::host::LinuxHost;
use crate::logs::{self, LogLine, Select};
use crate::model::ContainerId;

/// Reads the logs where the host has them.
pub(super) struct Output {
    host: Arc<LinuxHost>,
}

impl Output {
    pub(super) fn new(host: Arc<LinuxHost>) -> Self {
        Self { host }
    }
}

impl LogSource for Output {
    fn open(&self, id: &ContainerId, request: LogRequest) -> LogStream {
        read(&self.host.log_dir(id), request)
    }

    fn previous(
        &self,
        project: &str,
        service: &str,
        number: Option<u32>,
        request: LogRequest,
    ) -> Vec<(String, LogStream)> {
        let kept = self.host.previous_logs(project, service, number);
        kept.into_iter().map(|log| (log.name.clone(), read(&log.folder, request))).collect()
    }
}

fn read(folder: &Path, request: LogRequest) -> LogStream {
    let since_ns = request.since.map(|since| since.millis().saturating_mul(1_000_000));
    let select = Select { tail: request.tail, since_ns, follow: request.follow };
    let lines = logs::read(folder, &select);
    lines.map(|line| line.map(shown).map_err(io::Error::other)).boxed()
}
fn shown(line: LogLine) -> api::LogLine {
    let LogLine { at_ns: time, number: sequence, bytes, partial, unterminated, .. } = line;
    let (stream, bytes) = match line.stream {
        logs::LogStream::Stdout => (api::Stream::Stdout, bytes),
        logs::LogStream::Stderr => (api::Stream::Stderr, bytes),
        logs::LogStream::Lost(records) => {
            let note =
                format!("longshore: {records} records before this one could not be written to disk and are lost");
            (api::Stream::Stderr, note.into_bytes())
        }
    };
    api::LogLine { time, stream, sequence, bytes, partial, unterminated }
}
