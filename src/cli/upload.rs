//! What is sent as it is read: a file, standard input, or a folder as a tar.
//!
//! A thread of its own reads, because a read from a terminal or a pipe cannot be given up; it ends with the process.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, Stream};
use hyper::body::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::failure::Failure;

const PIECE: usize = 256 * 1024;
/// Pieces that were read and not sent yet.
const AHEAD: usize = 4;

/// Where an archive comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source<'a> {
    /// Standard input.
    Stdin,
    /// A file.
    File(&'a Path),
    /// A folder, sent as a tar.
    Folder(&'a Path),
}

/// Why the reading ended early, for the one who tells it: on the wire it is only a body that was cut.
#[derive(Clone, Default)]
pub(super) struct Fault(Arc<Mutex<Option<String>>>);

impl Fault {
    fn set(&self, message: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
    }
    /// The failure that counts, where `seen` is what the daemon or the connection said.
    pub(super) fn or(&self, seen: Failure) -> Failure {
        let own = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        own.map_or(seen, Failure::Said)
    }
}

/// A folder is sent as a folder; `-` is standard input.
pub(super) fn source<'a>(path: &'a Path, say: &str) -> Result<Source<'a>, Failure> {
    if path != Path::new("-") {
        return Ok(if path.is_dir() { Source::Folder(path) } else { Source::File(path) });
    }
    if io::stdin().is_terminal() {
        return Err(Failure::Said(format!("no archive comes from a terminal; say {say}, or use a pipe")));
    }
    Ok(Source::Stdin)
}

/// Reads all of it.
type Reading = Box<dyn FnOnce(&mut Pieces) -> io::Result<()> + Send>;

/// Begins to read.
pub(super) fn open(source: Source<'_>) -> Result<(impl Stream<Item = io::Result<Bytes>> + use<>, Fault), Failure> {
    let name = name(source);
    let read: Reading = match source {
        Source::Stdin => Box::new(|to| copy(&mut io::stdin().lock(), to)),
        Source::File(path) => {
            let mut file = File::open(path).map_err(|err| Failure::Said(format!("cannot read {name}: {err}")))?;
            Box::new(move |to| copy(&mut file, to))
        }
        Source::Folder(path) => {
            let path = path.to_owned();
            Box::new(move |to| pack(&path, to))
        }
    };
    let (pieces, fault) = pieces(name, read)?;
    Ok((stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) }), fault))
}

/// What `read` writes, as it writes it.
pub(super) fn pieces(
    name: String,
    read: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static,
) -> Result<(Receiver<io::Result<Bytes>>, Fault), Failure> {
    let (send, pieces) = mpsc::channel(AHEAD);
    let fault = Fault::default();
    let told = fault.clone();
    let reading = move || {
        let mut to = Pieces { send, piece: Vec::with_capacity(PIECE) };
        if let Err(err) = read(&mut to).and_then(|()| to.flush()) {
            // The receiver leaves when the daemon has answered; then this is no news.
            if err.kind() != io::ErrorKind::BrokenPipe {
                told.set(format!("cannot read {name}: {err}"));
                let _ = to.send.blocking_send(Err(err));
            }
        }
    };
    std::thread::Builder::new().name("reader".to_owned()).spawn(reading).map_err(Failure::Runtime)?;
    Ok((pieces, fault))
}

fn name(source: Source<'_>) -> String {
    match source {
        Source::Stdin => "standard input".to_owned(),
        Source::File(path) | Source::Folder(path) => path.display().to_string(),
    }
}

fn copy(from: &mut impl Read, to: &mut Pieces) -> io::Result<()> {
    io::copy(from, to).map(drop)
}

fn pack(folder: &Path, to: &mut Pieces) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    // A link is sent as a link: what it leads to is not the folder's, and need not be there.
    archive.follow_symlinks(false);
    archive.append_dir_all(".", folder)?;
    archive.finish()
}

/// Collects bytes into pieces and sends each; waits where the daemon is slower.
pub(super) struct Pieces {
    send: Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }
    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.send.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;

    #[tokio::test]
    async fn a_file_comes_in_pieces_and_a_folder_as_a_tar() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, vec![7; PIECE + 5]).unwrap();
        let (bytes, _) = open(Source::File(&file)).unwrap();
        let sizes: Vec<usize> = bytes.map(|piece| piece.unwrap().len()).collect().await;
        assert_eq!(sizes, [PIECE, 5]);
        let (bytes, _) = open(Source::Folder(dir.path())).unwrap();
        let all: Vec<Bytes> = bytes.map(Result::unwrap).collect().await;
        let mut archive = tar::Archive::new(io::Cursor::new(all.concat()));
        let names: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
        assert!(names.iter().any(|n| n.ends_with("a")), "{names:?}");
    }

    #[tokio::test]
    async fn a_link_in_a_folder_is_sent_as_a_link() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("outside")).unwrap();
        let (bytes, _) = open(Source::Folder(dir.path())).unwrap();
        let all: Vec<Bytes> = bytes.map(Result::unwrap).collect().await;
        let mut archive = tar::Archive::new(io::Cursor::new(all.concat()));
        let targets =
            archive.entries().unwrap().filter_map(|e| e.unwrap().link_name().unwrap().map(|n| n.into_owned()));
        let mut targets: Vec<_> = targets.collect();
        targets.sort();
        assert_eq!(targets, [Path::new("/etc"), Path::new("nowhere")]);
    }

    #[test]
    fn a_folder_is_sent_as_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(source(dir.path(), "").unwrap(), Source::Folder(dir.path()));
        let file = dir.path().join("a.tar");
        assert_eq!(source(&file, "").unwrap(), Source::File(&file));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_said() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(Source::File(&dir.path().join("none"))).is_err());
        let (bytes, fault) = open(Source::Folder(&dir.path().join("none"))).unwrap();
        let pieces: Vec<_> = bytes.collect().await;
        assert!(pieces.last().unwrap().is_err());
        let said = fault.or(Failure::Said("other".into())).to_string();
        assert!(said.starts_with("cannot read ") && said.contains("none"), "{said}");
    }
}
