//! What of the host and of volumes a container is given for one start.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::record::mounts::{PropagationRecord, RecursiveRecord, RelabelRecord};
use super::{Containers, StartNetwork, link, record};
use crate::model::{ContainerId, MountedFile, Owner, Propagation, Recursive, Relabel};

/// What a container is given for one start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartGiven {
    /// Of networks.
    pub network: StartNetwork,
    /// Of volumes and of the host.
    pub mounts: Vec<GivenMount>,
    /// Configs and secrets, with what they hold.
    pub files: Vec<MountedFile>,
}

impl From<StartNetwork> for StartGiven {
    fn from(network: StartNetwork) -> Self {
        Self { network, ..Self::default() }
    }
}

/// A folder or a file that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenMount {
    /// What is seen.
    pub source: GivenSource,
    /// Where it is in the container: absolute.
    pub target: String,
    /// Whether the container may not write there.
    pub read_only: bool,
    /// How mounts below it travel.
    pub propagation: Propagation,
    /// Whether mounts below it are seen.
    pub recursive: Recursive,
    /// Its files are labelled for SELinux.
    pub label: Option<Relabel>,
    /// Whose files are the container's user's.
    pub owner: Option<Owner>,
    /// What is seen of the source; it does not lead out of it.
    pub subpath: Option<String>,
    /// Where what the image has at the target is put together before it takes the place of the source, which is empty. Absent, and on
    /// the same file system.
    pub fill: Option<PathBuf>,
    /// Something that runs has the source already: it is filled where it is.
    pub in_use: bool,
}

/// What is seen at a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GivenSource {
    /// Something of the host, by its absolute path.
    Path(PathBuf),
    /// What the layers of an image are together.
    Image {
        /// Its name, for people.
        name: String,
        /// Its layers, the lowest first.
        layers: Vec<PathBuf>,
    },
}

impl fmt::Display for GivenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Image { name, .. } => write!(f, "the image {name}"),
        }
    }
}

/// A [`GivenMount`] in an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountOrder {
    source: GivenSource,
    target: String,
    read_only: bool,
    propagation: PropagationRecord,
    recursive: RecursiveRecord,
    label: Option<RelabelRecord>,
    owner: Option<(u32, u32)>,
    subpath: Option<String>,
    fill: Option<PathBuf>,
    #[serde(default)]
    in_use: bool,
}

impl From<GivenMount> for MountOrder {
    fn from(mount: GivenMount) -> Self {
        let GivenMount { source, target, read_only, propagation, recursive, label, owner, subpath, fill, in_use } =
            mount;
        Self {
            source,
            target,
            read_only,
            propagation: propagation.into(),
            recursive: recursive.into(),
            label: label.map(Into::into),
            owner: owner.map(|Owner { uid, gid }| (uid, gid)),
            subpath,
            fill,
            in_use,
        }
    }
}

impl From<MountOrder> for GivenMount {
    fn from(order: MountOrder) -> Self {
        let MountOrder { source, target, read_only, propagation, recursive, label, owner, subpath, fill, in_use } =
            order;
        Self {
            source,
            target,
            read_only,
            propagation: propagation.into(),
            recursive: recursive.into(),
            label: label.map(Into::into),
            owner: owner.map(|(uid, gid)| Owner { uid, gid }),
            subpath,
            fill,
            in_use,
        }
    }
}

impl Containers {
    /// The folders that its image wants kept apart (`VOLUME`). Reads its record; none where that cannot be read.
    #[must_use]
    pub fn image_volumes(&self, id: &ContainerId) -> Vec<String> {
        let json = std::fs::read(self.0.folders.container(id).join(link::CONTAINER)).unwrap_or_default();
        record::ContainerRecord::parse(&json).map(|record| record.image_defaults.volumes).unwrap_or_default()
    }
}
