//! Files of containers.

use std::io;

use futures_util::stream::{BoxStream, Stream};

use super::LinuxHost;
use crate::container::changes::{Change, ChangesError};
use crate::container::{CopyDone, CopyError, CopyWork, Still};
use crate::model::{ContainerId, ContainerSpec};

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

    /// Takes a container's turn, and holds it still where that is asked for and it runs.
    pub async fn still(&self, id: &ContainerId, pause: bool) -> io::Result<Still> {
        self.containers.still(id, pause).await
    }

    /// What a container was made from.
    #[must_use]
    pub fn spec(&self, id: &ContainerId) -> Option<ContainerSpec> {
        self.containers.observe().remove(id).map(|container| container.spec)
    }

    /// Writes what a container changed as the tar of a layer. Blocks.
    pub fn write_layer(&self, id: &ContainerId, out: impl io::Write) -> Result<(), ChangesError> {
        self.containers.write_layer(id, out)
    }

    /// What of a container's root is not as in its image. Blocks.
    pub fn changes(&self, id: &ContainerId) -> Result<Vec<Change>, ChangesError> {
        self.containers.changes(id)
    }
}
