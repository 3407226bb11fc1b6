//! Files of containers.

use std::io;

use futures_util::stream::{BoxStream, Stream};

use super::LinuxHost;
use crate::container::changes::{Change, ChangesError};
use crate::container::{CopyDone, CopyError, CopyWork};
use crate::model::ContainerId;

impl LinuxHost {
    /// Packs files of a container.
    pub async fn read_files(
        &self,
        id: &ContainerId,
        work: CopyWork,
    ) -> Result<BoxStream<'static, Result<Vec<u8>, CopyError>>, CopyError> {
        self.containers.read_files(id, work).await
    }

    /// Unpacks an archive in a container.
    pub async fn write_files(
        &self,
        id: &ContainerId,
        work: CopyWork,
        archive: impl Stream<Item = io::Result<impl AsRef<[u8]>>> + Send,
    ) -> Result<CopyDone, CopyError> {
        self.containers.write_files(id, work, archive).await
    }

    /// What of a container's root is not as in its image. Blocks.
    pub fn changes(&self, id: &ContainerId) -> Result<Vec<Change>, ChangesError> {
        self.containers.changes(id)
    }
}
