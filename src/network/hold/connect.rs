//! The daemon's end of a holder, which may have been started by an earlier daemon.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::{Held, Said, Told, process};
use crate::model::ProcessId;

/// So long it may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// A holder that runs.
pub(in crate::network) struct Holder {
    /// What it holds.
    pub(in crate::network) held: Held,
    /// Its process.
    pub(in crate::network) process: ProcessId,
    /// Its time is over.
    pub(in crate::network) expired: bool,
    /// It was told whom to lead to.
    pub(in crate::network) led: bool,
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

/// Where holders are found.
pub(super) fn folder(run_dir: &Path) -> PathBuf {
    run_dir.join("hold")
}

/// Those that an earlier daemon started and that still run. What is left of others is removed.
pub(in crate::network) async fn adopt(run_dir: &Path) -> Vec<Holder> {
    let entries = fs::read_dir(folder(run_dir)).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        match Holder::connect(&path).await {
            Ok(holder) => found.push(holder),
            Err(error) => {
                tracing::debug!(%error, "nobody holds ports at {} any more", path.display());
                let _ = fs::remove_file(path);
            }
        }
    }
    found
}

impl Holder {
    /// Asks it who it is.
    pub(in crate::network) async fn connect(path: &Path) -> io::Result<Self> {
        let (read, write) = UnixStream::connect(path).await?.into_split();
        let mut lines = BufReader::new(read).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        match serde_json::from_str(&line.ok_or(io::ErrorKind::UnexpectedEof)?)? {
            Said::Holds { held, pid, start_ticks, expired, led } => {
                Ok(Self { held, process: process(pid, start_ticks), expired, led, lines, write })
            }
            Said::Expired => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Done once its time is over; an error: it has ended.
    pub(in crate::network) async fn expires(&mut self) -> io::Result<()> {
        loop {
            let line = self.lines.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if matches!(serde_json::from_str(&line)?, Said::Expired) {
                return Ok(());
            }
        }
    }

    /// Tells it something.
    pub(in crate::network) async fn tell(&mut self, told: &Told) -> io::Result<()> {
        let mut line = serde_json::to_vec(told)?;
        line.push(b'\n');
        self.write.write_all(&line).await
    }
}
