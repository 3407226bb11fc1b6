//! Reading a log folder from its oldest file to its newest, and on as it grows.
//!
//! A file that is being read stays open, so rotation does not disturb it; what comes after it is found by its inode.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::Stream;
use notify::Watcher as _;
use tokio::sync::{Notify, mpsc};

use super::LogLine;

/// Which lines.
#[derive(Debug, Clone, Default)]
pub struct Select {
    /// At most so many of the newest.
    pub tail: Option<usize>,
    /// Not before this, in nanoseconds since the Unix epoch.
    pub since_ns: Option<u64>,
    /// Go on as the log grows.
    pub follow: bool,
}

/// Why a log cannot be read (further).
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file.
    #[error("the log cannot be read")]
    Read(#[from] io::Error),
    /// The watch.
    #[error("the log cannot be watched")]
    Watch(#[from] notify::Error),
}

const CHUNK: usize = 64 * 1024;
/// Lines read ahead of a slow consumer.
const AHEAD: usize = 256;
/// No container keeps more files.
const MOST_FILES: u32 = 100;

/// Reads the log in `folder`. With `follow` the stream ends when it is dropped or the folder is removed. Must be called within a tokio runtime.
pub fn read(folder: &Path, select: &Select) -> impl Stream<Item = Result<LogLine, LogError>> + Send + use<> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let (folder, select) = (folder.to_owned(), select.clone());
    tokio::spawn(async move {
        if let Err(error) = pass(folder, select, &sender).await {
            let _ = sender.send(Err(error)).await;
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|line| (line, receiver)) })
}

async fn pass(
    folder: PathBuf,
    select: Select,
    sender: &mpsc::Sender<Result<LogLine, LogError>>,
) -> Result<(), LogError> {
    let grown = Arc::new(Notify::new());
    // Before the first look, so that nothing falls between the two.
    let _watch = if select.follow { Some(watch(&folder, Arc::clone(&grown))?) } else { None };
    let removed = {
        let folder = folder.clone();
        move || !folder.exists()
    };
    let mut reader = blocking(move || Reader::open(folder, select.tail)).await?;
    loop {
        let (next, lines) = blocking(move || reader.lines()).await?;
        reader = next;
        let Some(lines) = lines else {
            // A removed folder goes to the trash whole, then its files are unlinked: that wakes us when it is gone already.
            if !select.follow || removed() {
                return Ok(());
            }
            tokio::select! {
                // Both may be cancelled: a notification that came in between is kept, and closing is for ever.
                () = grown.notified() => continue,
                () = sender.closed() => return Ok(()),
            }
        };
        for line in lines.into_iter().filter(|l| select.since_ns.is_none_or(|since| l.at_ns >= since)) {
            if sender.send(Ok(line)).await.is_err() {
                return Ok(());
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, LogError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
    Ok(done?)
}

fn watch(folder: &Path, grown: Arc<Notify>) -> Result<notify::RecommendedWatcher, LogError> {
    // Not its parents: the folder of a container that was removed meanwhile must not come back.
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading is an event too, and would wake us for ever.
        if !event.is_ok_and(|e| e.kind.is_access()) {
            grown.notify_one();
        }
    })?;
    watcher.watch(folder, notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

struct Reader {
    folder: PathBuf,
    file: Option<File>,
    /// Bytes after the last newline.
    rest: Vec<u8>,
}

impl Reader {
    fn open(folder: PathBuf, tail: Option<usize>) -> io::Result<Self> {
        let mut reader = Self { folder, file: None, rest: Vec::new() };
        reader.file = match tail {
            None => reader.oldest()?,
            Some(tail) => reader.last(tail)?,
        };
        Ok(reader)
    }

    /// The next lines, at least one; `None` where nothing more is there now.
    fn lines(mut self) -> io::Result<(Self, Option<Vec<LogLine>>)> {
        loop {
            let Some(file) = &mut self.file else {
                self.file = self.oldest()?;
                if self.file.is_none() {
                    return Ok((self, None));
                }
                continue;
            };
            let mut chunk = vec![0; CHUNK];
            let len = file.read(&mut chunk)?;
            if len == 0 {
                match self.after()? {
                    Some(next) => {
                        // What was torn off at the end of a file that was rotated is gone.
                        self.rest.clear();
                        self.file = Some(next);
                        continue;
                    }
                    None => return Ok((self, None)),
                }
            }
            self.rest.extend_from_slice(&chunk[..len]);
            let Some(end) = self.rest.iter().rposition(|b| *b == b'\n') else { continue };
            let lines: Vec<LogLine> = self.rest[..end].split(|b| *b == b'\n').filter_map(LogLine::parse).collect();
            self.rest.drain(..=end);
            if !lines.is_empty() {
                return Ok((self, Some(lines)));
            }
        }
    }

    fn numbered(&self, number: u32) -> io::Result<Option<File>> {
        let name = if number == 0 { "log".to_owned() } else { format!("log.{number}") };
        match File::open(self.folder.join(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn oldest(&self) -> io::Result<Option<File>> {
        let mut oldest = self.numbered(0)?;
        for number in 1..MOST_FILES {
            match self.numbered(number)? {
                Some(file) => oldest = Some(file),
                None => break,
            }
        }
        Ok(oldest)
    }

    /// The file after the one at whose end we are; `None` where that is the newest.
    fn after(&mut self) -> io::Result<Option<File>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        let meta = file.metadata()?;
        // Cut off after a failed write: go back to where it ends now.
        if file.stream_position()? > meta.len() {
            file.seek(SeekFrom::End(0))?;
        }
        let inode = meta.ino();
        for number in 0..MOST_FILES {
            let Some(candidate) = self.numbered(number)? else { continue };
            if candidate.metadata()?.ino() == inode {
                // More may have been written between our last read and its rotation.
                let grown =
                    self.file.as_mut().map(|f| f.stream_position()).transpose()? < Some(candidate.metadata()?.len());
                return match number {
                    0 => Ok(None),
                    _ if grown => Ok(self.file.take()),
                    _ => self.numbered(number - 1),
                };
            }
        }
        self.oldest()
    }

    /// Positioned so that `tail` lines are left.
    fn last(&self, tail: usize) -> io::Result<Option<File>> {
        let mut left = tail;
        let mut found = None;
        for number in 0..MOST_FILES {
            let Some(mut file) = self.numbered(number)? else { break };
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let starts = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at);
            let ends: Vec<usize> = starts.collect();
            if let Some(skip) = ends.len().checked_sub(left) {
                let start = if skip == 0 { 0 } else { ends[skip - 1] + 1 };
                file.seek(SeekFrom::Start(start as u64))?;
                return Ok(Some(file));
            }
            left -= ends.len();
            file.seek(SeekFrom::Start(0))?;
            found = Some(file);
        }
        Ok(found)
    }
}
