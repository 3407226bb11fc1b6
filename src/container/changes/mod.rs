//! What a container has in its root that its image has not, by the upper directory of its overlay: as a list, and as a layer.
//!
//! The upper directory is the container's to write, also meanwhile: everything is taken by descriptor, and no link is followed. What is
//! there only so that something can be mounted on it was not made by the container and is left out.

mod layer;
mod lower;
mod walk;

use std::io;
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Containers;
use super::copy::places_of_mounts;
use super::link::CONTAINER;
use super::record::ContainerRecord;
use crate::model::ContainerId;
use crate::tree::{PackError, Reach};
use lower::Lower;
use walk::{Item, Sort, Walk};

/// Why changes are not told.
#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    /// There is none.
    #[error("no such container")]
    Unknown,
    /// Its record, its folders.
    #[error("what the container wrote cannot be read")]
    Io(#[from] io::Error),
    /// It cannot be packed.
    #[error("what the container wrote cannot be packed")]
    Pack(#[from] PackErrorText),
    /// Whoever takes it takes no more of it, and knows why.
    #[error("nobody takes what the container wrote")]
    Left,
    /// A name that means something else in a layer.
    #[error("{path} cannot be in an image: names that begin with .wh. mean that something is gone; rename it")]
    Name { path: String },
    /// Overlayfs knows where its content is, and nobody else does.
    #[error(
        "{path} was moved or changed in a way that this kernel's overlayfs notes by itself (redirect_dir, metacopy), so that it cannot be packed; copy it to another place in the container and back"
    )]
    Noted { path: String },
}

/// Why packing failed, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PackErrorText(String);

impl From<PackError> for ChangesError {
    fn from(error: PackError) -> Self {
        if matches!(error, PackError::Write(_)) {
            return Self::Left;
        }
        let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
        Self::Pack(PackErrorText(format!("{error}{cause}")))
    }
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The image does not have it.
    Added,
    /// It is another one, or something in it is.
    Changed,
    /// Only the image has it.
    Deleted,
}

/// A file that is not as in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute.
    pub path: Vec<u8>,
    /// What became of it.
    pub kind: ChangeKind,
}

impl Containers {
    /// All changes, by path. Blocks.
    pub fn changes(&self, id: &ContainerId) -> Result<Vec<Change>, ChangesError> {
        let mut changes: Vec<Change> = self.items(id)?.1.into_iter().map(Change::from).collect();
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(changes)
    }

    /// Writes all changes as the tar of one layer. Blocks.
    pub fn write_layer(&self, id: &ContainerId, out: impl io::Write) -> Result<(), ChangesError> {
        let (upper, items) = self.items(id)?;
        layer::write(&upper, &items, out)
    }

    fn items(&self, id: &ContainerId) -> Result<(std::os::fd::OwnedFd, Vec<Item>), ChangesError> {
        let json = self.0.folders.read(id, CONTAINER)?.ok_or(ChangesError::Unknown)?;
        let record = ContainerRecord::parse(&json).map_err(io::Error::other)?;
        let spec = self.known().get(id).map(|known| known.observed.spec.clone()).ok_or(ChangesError::Unknown)?;
        let upper = folder(&self.0.folders.container(id).join("upper"))?;
        // The topmost comes first.
        let layers: Vec<_> = record.layers.iter().rev().map(folder).collect::<io::Result<_>>()?;
        let reach = Reach::open()?;
        let places = places_of_mounts(&spec, &record.image_defaults.volumes);
        let walk = Walk { lower: Lower { layers, reach: &reach }, reach: &reach, places: walk::parts_of(&places) };
        let items = walk.run(&upper)?;
        Ok((upper, items))
    }
}

fn folder(path: &PathBuf) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

impl From<Item> for Change {
    fn from(Item { path, sort }: Item) -> Self {
        let kind = match sort {
            Sort::Gone => ChangeKind::Deleted,
            Sort::New => ChangeKind::Added,
            Sort::Replaced | Sort::Emptied => ChangeKind::Changed,
        };
        Self { path: [&b"/"[..], &path].concat(), kind }
    }
}
