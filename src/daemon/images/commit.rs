//! An image of a container: what it wrote becomes a layer over its image.

use std::io::{self, PipeReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use futures_util::FutureExt as _;

use super::ImageWork;
use super::archive::refused;
use super::refuse::{self, failed};
use crate::api::wire::{CommitAsk, ImageProgress, Loaded, LoadedImage};
use crate::api::{Job, Refusal, RefusalKind};
use crate::container::changes::ChangesError;
use crate::image::CommitChanges;
use crate::model::{ContainerId, Process, sentence};

impl ImageWork {
    /// The container is held still, where that is not forbidden, until all is read. Dropping the job gives it up.
    pub(super) fn commit_job(&self, id: &ContainerId, ask: CommitAsk) -> Result<Job<Loaded>, Refusal> {
        let name = ask.image.as_deref().map(|name| refuse::name(&self.images, name)).transpose()?;
        if let Some(name) = name.as_ref().filter(|name| name.digest().is_some()) {
            let message = format!("{name} names a digest; a new image needs a tag, or no name at all");
            return Err(Refusal::new(RefusalKind::Invalid, message));
        }
        let gone = || Refusal::new(RefusalKind::Unknown, "the container is gone").hint("`longshore ps -a` lists them");
        let (this, id) = (self.clone(), id.clone());
        let outcome = async move {
            let still = this.host.still(&id, ask.pause).await.map_err(|error| {
                let message = format!("the container cannot be paused: {error}");
                Refusal::new(RefusalKind::Failed, message).hint("--no-pause commits it while it goes on writing")
            })?;
            let spec = this.host.spec(&id).ok_or_else(gone)?;
            let changes = changes(&spec.service.process, ask);
            let (reading, writing) = io::pipe().map_err(|error| failed(&error))?;
            let (tell, told) = mpsc::sync_channel(1);
            let given_up = GivenUp(Arc::default());
            let layer = Layer { pipe: reading, told, given_up: Arc::clone(&given_up.0), whole: false };
            let (host, of) = (Arc::clone(&this.host), id.clone());
            let writer = tokio::task::spawn_blocking(move || {
                let written = host.write_layer(&of, writing).map_err(|error| match error {
                    ChangesError::Left => None,
                    error => Some(sentence(&error)),
                });
                // Nobody hears it where the reader has failed first.
                let _ = tell.send(written.clone());
                written
            });
            let made = this.images.commit(&spec.image_digest, layer, name.as_ref(), changes).await;
            drop(still);
            let written = writer.await.unwrap_or_else(|_| Err(Some("an internal check failed".to_owned())));
            let digest = match (made, written) {
                (Ok(present), _) => present.digest.to_string(),
                (Err(_), Err(Some(words))) => return Err(Refusal::new(RefusalKind::Failed, words)),
                (Err(error), Ok(()) | Err(None)) => return Err(refused(&error)),
            };
            drop(given_up);
            tracing::info!(container = id.short(), digest, "an image was made of a container");
            Ok(Loaded { images: vec![LoadedImage { image: name.map(|name| name.to_string()), digest }] })
        };
        Ok(Job { progress: Box::new(ImageProgress::default), outcome: outcome.boxed() })
    }
}

/// As the container was started; and what was asked for.
fn changes(process: &Process, ask: CommitAsk) -> CommitChanges {
    CommitChanges {
        entrypoint: process.entrypoint.clone(),
        command: process.command.clone(),
        environment: process.environment.iter().map(|v| (v.name.clone(), v.value.clone())).collect(),
        user: process.user.clone(),
        working_dir: process.working_dir.clone(),
        changes: ask.changes,
        message: ask.message.unwrap_or_default(),
        author: ask.author.unwrap_or_default(),
    }
}

/// Says, when it is dropped, that nobody wants it any more.
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The layer as it is written. Its end is its end only where the writer says so.
struct Layer {
    pipe: PipeReader,
    told: mpsc::Receiver<Result<(), Option<String>>>,
    given_up: Arc<AtomicBool>,
    /// Its end was reached.
    whole: bool,
}

impl Read for Layer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given_up.load(Ordering::Relaxed) {
            return Err(io::Error::other("it was given up"));
        }
        let got = self.pipe.read(buffer)?;
        if got == 0 && !buffer.is_empty() {
            match self.told.recv() {
                Ok(Err(words)) => return Err(io::Error::other(words.unwrap_or_default())),
                // It was asked for the end again.
                Ok(Ok(())) | Err(mpsc::RecvError) if self.whole => {}
                Ok(Ok(())) => self.whole = true,
                Err(mpsc::RecvError) => return Err(io::Error::other("it was not written to its end")),
            }
        }
        Ok(got)
    }
}
