//! A blob's bytes from where they are to an upload, verified on their way.

use std::io::{self, Read as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, stream};
use hyper::body::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

use super::hash::Hasher;
use super::manifest::Descriptor;
use super::progress::Gauge;
use super::registry::{Download, Payload, Pieces, RegistryError, Sent, Upload};
use super::unpack::rebuild::rebuild;
use crate::model::sentence;

/// Bytes that are read from a file at once, and sent in one piece.
const PIECE: usize = 256 << 10;
/// Pieces between the two sides where one request carries all.
const WAITING: usize = 8;

/// Where a blob's bytes come from.
pub(super) enum Feed<'a> {
    /// Kept on this machine.
    File(tokio::fs::File),
    /// Made while it is sent.
    Made(mpsc::Receiver<io::Result<Bytes>>),
    /// Another registry, or another repository.
    Remote(Download<'a>),
}

/// How it went.
pub(super) enum Sending {
    /// The registry has it.
    Done,
    /// The source failed, or has something else.
    Source(String),
    /// The upload is lost; a new one may go better.
    Lost(RegistryError),
    /// It is wanted in one piece.
    Whole,
    /// The registry does not take it.
    Target(RegistryError),
}

impl Feed<'_> {
    pub(super) async fn file(path: &Path) -> io::Result<Self> {
        tokio::fs::File::open(path).await.map(Self::File)
    }

    /// The archive of the layer in `layer`, out of its directory and its record.
    pub(super) fn rebuilt(layer: &Path) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let layer = layer.to_owned();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = pass(&layer, &sender) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        Self::Made(receiver)
    }

    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        match self {
            Self::Made(pieces) => pieces.recv().await.transpose().map_err(|e| e.to_string()),
            Self::File(file) => {
                let mut piece = Vec::with_capacity(PIECE);
                let read = file.take(PIECE as u64).read_to_end(&mut piece).await.map_err(|e| e.to_string())?;
                Ok((read > 0).then(|| piece.into()))
            }
            Self::Remote(download) => download.next().await.map_err(|e| sentence(&e)),
        }
    }
}

/// Until the end, or until nobody takes it any more.
fn pass(layer: &Path, to: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let mut from = rebuild(layer)?;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let got = from.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        if got == 0 || to.blocking_send(Ok(piece.into())).is_err() {
            return Ok(());
        }
    }
}

/// Sends all that the feed gives. Nothing is finished at the registry that was not what its name says.
pub(super) async fn send(
    upload: Upload<'_>,
    feed: &mut Feed<'_>,
    of: &Descriptor,
    gauge: &Gauge,
    whole: bool,
) -> Sending {
    if whole { in_one(upload, feed, of, gauge).await } else { in_chunks(upload, feed, of, gauge).await }
}

/// What passes by, compared with what it should be.
struct Watch<'a> {
    of: &'a Descriptor,
    hasher: Hasher,
    got: u64,
}

impl<'a> Watch<'a> {
    fn over(of: &'a Descriptor) -> Self {
        Self { of, hasher: Hasher::like(&of.digest), got: 0 }
    }
    fn see(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.got += bytes.len() as u64;
        self.hasher.update(bytes);
        if self.got > self.of.size { Err(self.wrong_size()) } else { Ok(()) }
    }
    fn end(self) -> Result<(), String> {
        if self.got != self.of.size {
            return Err(self.wrong_size());
        }
        let got = self.hasher.finish();
        if got == self.of.digest.as_str() { Ok(()) } else { Err(format!("its content is {got}")) }
    }
    fn wrong_size(&self) -> String {
        format!("it has {} bytes and should have {}", self.got, self.of.size)
    }
}

async fn in_chunks(mut upload: Upload<'_>, feed: &mut Feed<'_>, of: &Descriptor, gauge: &Gauge) -> Sending {
    let mut watch = Watch::over(of);
    let mut chunk: Vec<u8> = Vec::new();
    let mut sent = false;
    loop {
        match feed.next().await {
            Ok(Some(piece)) => {
                if let Err(why) = watch.see(&piece) {
                    upload.abandon().await;
                    return Sending::Source(why);
                }
                chunk.extend_from_slice(&piece);
            }
            Ok(None) => break,
            Err(why) => {
                upload.abandon().await;
                return Sending::Source(why);
            }
        }
        // The last chunk waits until the whole is known to be right.
        if chunk.len() >= upload.chunk && watch.got < of.size {
            let bytes = std::mem::take(&mut chunk).into();
            if let Some(ended) = patch(&mut upload, &bytes, gauge).await {
                return ended;
            }
            sent = true;
        }
    }
    if let Err(why) = watch.end() {
        upload.abandon().await;
        return Sending::Source(why);
    }
    let bytes = Bytes::from(chunk);
    let length = bytes.len() as u64;
    if !sent {
        let done = upload.whole(&of.digest, length, body(bytes)).await;
        gauge.add(length);
        return ended(done);
    }
    match patch(&mut upload, &bytes, gauge).await {
        Some(ended) => ended,
        None => ended(upload.finish(&of.digest).await),
    }
}

async fn patch(upload: &mut Upload<'_>, bytes: &Bytes, gauge: &Gauge) -> Option<Sending> {
    match upload.patch(bytes).await {
        Ok(Sent::Taken) => {
            gauge.add(bytes.len() as u64);
            None
        }
        Ok(Sent::Lost(error)) => Some(Sending::Lost(error)),
        Ok(Sent::Whole) => Some(Sending::Whole),
        Err(error) => Some(Sending::Target(error)),
    }
}

fn ended(done: Result<(), RegistryError>) -> Sending {
    match done {
        Ok(()) => Sending::Done,
        // The upload's address may be gone with the connection.
        Err(error) if !error.permanent() || matches!(error, RegistryError::Unknown { .. }) => Sending::Lost(error),
        Err(error) => Sending::Target(error),
    }
}

/// All of it in one request, while it comes.
async fn in_one(upload: Upload<'_>, feed: &mut Feed<'_>, of: &Descriptor, gauge: &Gauge) -> Sending {
    let (sender, receiver) = mpsc::channel(WAITING);
    let produce = async {
        let mut watch = Watch::over(of);
        loop {
            let why = match feed.next().await {
                Ok(Some(piece)) => match watch.see(&piece) {
                    Ok(()) => {
                        gauge.add(piece.len() as u64);
                        if sender.send(Ok(piece)).await.is_err() {
                            // The other side gave up and says why.
                            return Ok(());
                        }
                        continue;
                    }
                    Err(why) => why,
                },
                Ok(None) => match watch.end() {
                    Ok(()) => {
                        drop(sender);
                        return Ok(());
                    }
                    Err(why) => why,
                },
                Err(why) => why,
            };
            // The request must not end well.
            let _ = sender.send(Err(io::Error::other("the source failed"))).await;
            return Err(why);
        }
    };
    let (produced, done) = tokio::join!(produce, upload.whole(&of.digest, of.size, once(receiver)));
    match produced {
        Err(why) => Sending::Source(why),
        Ok(()) => ended(done),
    }
}

/// A body that is there, in pieces, so that a slow line shows as one that moves.
pub(super) fn body(bytes: Bytes) -> Payload {
    Payload::Stream(Arc::new(move || {
        let pieces: Vec<_> =
            (0..bytes.len()).step_by(PIECE).map(|at| Ok(bytes.slice(at..bytes.len().min(at + PIECE)))).collect();
        stream::iter(pieces).boxed()
    }))
}

/// A body that can be sent once.
fn once(receiver: mpsc::Receiver<io::Result<Bytes>>) -> Payload {
    let slot = Mutex::new(Some(receiver));
    Payload::Stream(Arc::new(move || -> Pieces {
        match slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(receiver) => {
                stream::unfold(receiver, |mut from| async { from.recv().await.map(|piece| (piece, from)) }).boxed()
            }
            None => stream::iter([Err(io::Error::other("it was sent already"))]).boxed(),
        }
    }))
}
