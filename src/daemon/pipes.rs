//! Archives on their way in and out: bytes of the API as what a blocking reader or writer takes, and the other way round.

use std::io::{self, Read, Write};

use axum::body::Bytes;
use futures_util::stream::{self, StreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::api::{ByteStream, Refusal, RefusalKind};

/// Pieces that are made and not taken yet.
const AHEAD: usize = 4;

/// What `make` writes, as it writes it. What fails before the first byte is an answer of its own; later, the archive is cut and the
/// log says why.
pub(super) async fn download<F>(what: &'static str, make: impl FnOnce(Outgoing) -> F) -> Result<ByteStream, Refusal>
where
    F: Future<Output = Result<(), Refusal>> + Send + 'static,
{
    let (send, mut pieces) = mpsc::channel(AHEAD);
    let mut making = tokio::spawn(make(Outgoing(send)));
    // Whichever comes first: a piece, or the end of a work that made none.
    let first = tokio::select! {
        biased;
        Some(piece) = pieces.recv() => piece,
        made = &mut making => return Err(match made {
            Ok(Err(refusal)) => refusal,
            Ok(Ok(())) | Err(_) => Refusal::new(RefusalKind::Failed, "an internal check failed; see the daemon's log"),
        }),
    };
    let rest = stream::unfold(Some((pieces, making)), move |at| async move {
        let (mut pieces, making) = at?;
        if let Some(piece) = pieces.recv().await {
            return Some((Ok(piece), Some((pieces, making))));
        }
        let error = match making.await {
            Ok(Ok(())) => return None,
            Ok(Err(refusal)) => refusal.message,
            Err(_) => "an internal check failed".to_owned(),
        };
        tracing::warn!(error, "{what} is cut");
        Some((Err(io::Error::other(error)), None))
    });
    Ok(stream::once(async { Ok(first) }).chain(rest).boxed())
}

/// An upload as a blocking reader.
pub(super) struct Incoming {
    archive: ByteStream,
    piece: Bytes,
    runtime: Handle,
}

impl Incoming {
    pub(super) fn new(archive: ByteStream) -> Self {
        Self { archive, piece: Bytes::new(), runtime: Handle::current() }
    }
}

impl Read for Incoming {
    /// Only called from threads for blocking work. The upload ends, fails, or is given up by its guard.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.runtime.block_on(self.archive.next()) {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let taken = self.piece.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.piece.split_to(taken));
        Ok(taken)
    }
}

/// A blocking writer whose pieces go into a download. It waits where the client is slower, and fails where it is gone.
pub(super) struct Outgoing(mpsc::Sender<Bytes>);

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Bytes::copy_from_slice(bytes)).map_err(gone)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
