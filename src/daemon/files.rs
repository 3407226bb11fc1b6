//! Files of containers, from the container room to the API.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::stream::StreamExt as _;

use crate::api::wire::{FileChange, FileChangeKind};
use crate::api::{ByteStream, FileAnswer, FileDoor, FileRefusal, ReadFiles, WriteFiles, WrittenFiles};
use crate::container::changes::{Change, ChangeKind, ChangesError};
use crate::container::{CopyError, CopyWork};
use crate::host::LinuxHost;
use crate::model::{ContainerId, sentence};

/// Copies where the host has its containers.
pub(super) struct Files {
    host: Arc<LinuxHost>,
}

impl Files {
    pub(super) fn new(host: Arc<LinuxHost>) -> Self {
        Self { host }
    }
}

impl FileDoor for Files {
    fn read(&self, id: &ContainerId, what: ReadFiles) -> FileAnswer<ByteStream> {
        let (host, id) = (Arc::clone(&self.host), id.clone());
        async move {
            let work = match what {
                ReadFiles::Path { path, follow } => CopyWork::Pack { path, follow },
                ReadFiles::Root => CopyWork::Export,
            };
            let archive = host.read_files(&id, work).await.map_err(refused)?;
            let pieces = archive.map(move |piece| match piece {
                Ok(piece) => Ok(piece.into()),
                Err(error) => {
                    let error = sentence(&error);
                    tracing::warn!(container = id.short(), error, "an archive of a container's files is cut");
                    Err(io::Error::other(error))
                }
            });
            Ok(pieces.boxed())
        }
        .boxed()
    }

    fn write(&self, id: &ContainerId, how: WriteFiles, archive: ByteStream) -> FileAnswer<WrittenFiles> {
        let (host, id) = (Arc::clone(&self.host), id.clone());
        async move {
            let WriteFiles { path, place, owners } = how;
            tracing::info!(container = id.short(), path, "files are copied into a container");
            let done = host.write_files(&id, CopyWork::Unpack { path, place, owners }, archive).await;
            let done = done.map_err(refused)?;
            Ok(WrittenFiles { files: done.files, bytes: done.bytes })
        }
        .boxed()
    }

    fn changes(&self, id: &ContainerId) -> FileAnswer<Vec<FileChange>> {
        let (host, id) = (Arc::clone(&self.host), id.clone());
        async move {
            let found = tokio::task::spawn_blocking(move || host.changes(&id)).await;
            let found =
                found.map_err(|_| FileRefusal::Failed("an internal check failed; see the daemon's log".into()))?;
            let changes = found.map_err(|error| match error {
                ChangesError::Unknown => FileRefusal::Gone,
                error => FileRefusal::Failed(sentence(&error)),
            })?;
            Ok(changes.into_iter().map(shown).collect())
        }
        .boxed()
    }
}

fn shown(Change { path, kind }: Change) -> FileChange {
    let kind = match kind {
        ChangeKind::Added => FileChangeKind::Added,
        ChangeKind::Changed => FileChangeKind::Changed,
        ChangeKind::Deleted => FileChangeKind::Deleted,
    };
    FileChange { path: String::from_utf8_lossy(&path).into_owned(), kind }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err asks for")]
fn refused(error: CopyError) -> FileRefusal {
    let message = sentence(&error);
    match error {
        CopyError::Unknown => FileRefusal::Gone,
        CopyError::TooMany | CopyError::Busy => FileRefusal::Busy(message),
        CopyError::NotFound(_) => FileRefusal::NotFound(message),
        CopyError::Refused(_) | CopyError::Ended | CopyError::Orphaned => FileRefusal::Refused(message),
        CopyError::Failed(_) | CopyError::Cut(_) | CopyError::Helper { .. } => FileRefusal::Failed(message),
    }
}
