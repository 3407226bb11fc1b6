//! Archives on their way in and out: bytes of the API as what a blocking reader or writer takes, and the other way round.

use std::io::{self, Read, Write};
use std::sync::Arc;

use axum::body::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::ImageWork;
use super::refuse::{self, failed};
use super::transfer::shown;
use crate::api::wire::{ArchiveForm, ImageProgress, ImportAsk, LoadAsk, Loaded, LoadedImage, SaveAsk};
use crate::api::{ByteStream, Job, Refusal, RefusalKind};
use crate::image::{ArchiveError, ArchiveFormat, ImportChanges, Progress};
use crate::model::sentence;

/// Pieces that are made and not taken yet.
const AHEAD: usize = 4;

impl ImageWork {
    /// What fails before the first byte is an answer of its own; later, the archive is cut and the log says why.
    pub(super) async fn archive(&self, ask: SaveAsk) -> Result<ByteStream, Refusal> {
        let mut names = Vec::new();
        for name in &ask.names {
            names.push(self.named(name)?);
        }
        let format = match ask.format {
            ArchiveForm::DockerArchive => ArchiveFormat::Docker,
            ArchiveForm::OciArchive => ArchiveFormat::Oci,
        };
        let (send, mut pieces) = mpsc::channel(AHEAD);
        let images = self.images.clone();
        let mut making = tokio::spawn(async move { images.save(&names, Outgoing(send), format).await });
        // Whichever comes first: a piece, or the end of a work that made none.
        let first = tokio::select! {
            biased;
            Some(piece) = pieces.recv() => piece,
            made = &mut making => return Err(match made {
                Ok(Err(error)) => refused(&error),
                Ok(Ok(())) | Err(_) => Refusal::new(RefusalKind::Failed, "an internal check failed; see the daemon's log"),
            }),
        };
        let rest = stream::unfold(Some((pieces, making)), |at| async {
            let (mut pieces, making) = at?;
            if let Some(piece) = pieces.recv().await {
                return Some((Ok(piece), Some((pieces, making))));
            }
            let error = match making.await {
                Ok(Ok(())) => return None,
                Ok(Err(error)) => sentence(&error),
                Err(_) => "an internal check failed".to_owned(),
            };
            tracing::warn!(error, "an archive of images is cut");
            Some((Err(io::Error::other(error)), None))
        });
        Ok(stream::once(async { Ok(first) }).chain(rest).boxed())
    }

    pub(super) fn load_job(&self, ask: &LoadAsk, archive: ByteStream) -> Result<Job<Loaded>, Refusal> {
        let name = ask.name.as_deref().map(|name| refuse::name(&self.images, name)).transpose()?;
        let progress = Arc::new(Progress::default());
        let (images, moved) = (self.images.clone(), Arc::clone(&progress));
        let outcome = async move {
            let loaded = images.load(Incoming::new(archive), name.as_ref(), moved).await;
            let mut all = Vec::new();
            for image in loaded.map_err(|error| refused(&error))? {
                let digest = image.present.digest.to_string();
                let named = |name: &crate::model::ImageReference| LoadedImage {
                    image: Some(name.to_string()),
                    digest: digest.clone(),
                };
                all.extend(image.names.iter().map(named));
                if image.names.is_empty() {
                    all.push(LoadedImage { image: None, digest });
                }
            }
            Ok(Loaded { images: all })
        };
        Ok(Job { progress: Box::new(move || shown(progress.snapshot())), outcome: outcome.boxed() })
    }

    pub(super) fn import_job(&self, ask: ImportAsk, archive: ByteStream) -> Result<Job<Loaded>, Refusal> {
        let name = refuse::name(&self.images, &ask.name)?;
        let platform = refuse::platform(ask.platform.as_deref())?;
        let changes = ImportChanges { changes: ask.changes, platform, message: ask.message.unwrap_or_default() };
        let images = self.images.clone();
        let outcome = async move {
            let present = images.import(Incoming::new(archive), &name, changes).await;
            let digest = present.map_err(|error| refused(&error))?.digest.to_string();
            Ok(Loaded { images: vec![LoadedImage { image: Some(name.to_string()), digest }] })
        };
        Ok(Job { progress: Box::new(ImageProgress::default), outcome: outcome.boxed() })
    }
}

pub(super) fn refused(error: &ArchiveError) -> Refusal {
    let refusal = failed(error);
    if error.permanent() { Refusal { kind: RefusalKind::Invalid, ..refusal } } else { refusal }
}

/// An upload as a blocking reader.
struct Incoming {
    archive: ByteStream,
    piece: Bytes,
    runtime: Handle,
}

impl Incoming {
    fn new(archive: ByteStream) -> Self {
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
struct Outgoing(mpsc::Sender<Bytes>);

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
