//! What goes wrong with volumes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::VolumeName;
use crate::untar::TarError;

/// Why the volumes cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the volumes in {} cannot be read", path.display())]
pub struct OpenError {
    /// The folder.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Why something was not done with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// It does not exist.
    #[error("there is no volume {name}")]
    Absent { name: VolumeName },
    /// Somebody else was to make it.
    #[error(
        "the volume {name} is external and does not exist; a file makes it that defines a volume with `name: {name}` and uses it"
    )]
    External { name: VolumeName },
    /// It exists as something else.
    #[error(
        "the volume {name} exists with {has}, and the file says {asked}; \
         write in the file what exists, or give the volume another `name:`"
    )]
    Differs { name: VolumeName, has: String, asked: String },
    /// Its record cannot be used.
    #[error("the volume {name} cannot be used: {why}")]
    Unusable { name: VolumeName, why: String },
    /// An option that means nothing, or one that is missing.
    #[error("the volume {name} cannot be made: {why}")]
    Option { name: VolumeName, why: String },
    /// What its options name is not mounted.
    #[error("the volume {name} cannot be mounted")]
    Mount {
        name: VolumeName,
        #[source]
        source: MountError,
    },
    /// What its options name is not mounted now.
    #[error("the volume {name} is not mounted; it is while a container uses it")]
    NotMounted { name: VolumeName },
    /// Its content belongs to what is mounted.
    #[error("the volume {name} holds what its options mount ({options}); {what}")]
    Mounts { name: VolumeName, options: String, what: &'static str },
    /// Something else is done with it.
    #[error("something else is being done with the volume {name}; try it again when that is over")]
    Busy { name: VolumeName },
    /// Somebody needs it.
    #[error("the volume {name} is needed by {by}; {instead}")]
    Needed { name: VolumeName, by: String, instead: &'static str },
    /// An archive goes into an empty one only.
    #[error("the volume {name} is not empty; import into another one, or say --replace to give up what it holds")]
    NotEmpty { name: VolumeName },
    /// A name for a copy that cannot be one.
    #[error("{text:?} cannot be the name of a snapshot: it may hold only letters, digits, '.', '-' and '_'")]
    SnapshotName { text: String },
    /// No such copy.
    #[error("there is no snapshot {called} of the volume {name}")]
    NoSnapshot { name: VolumeName, called: String },
    /// A copy of that name exists.
    #[error("a snapshot {called} of the volume {name} exists; give another name, or remove it first")]
    SnapshotExists { name: VolumeName, called: String },
    /// The disk is full.
    #[error("no space left on {} while {doing}; nothing was changed", path.display())]
    NoSpace { path: PathBuf, doing: &'static str },
    /// Not one byte came.
    #[error("no archive came, not one byte of it; nothing was changed")]
    NoArchive,
    /// The archive cannot be read.
    #[error("the archive cannot be read; nothing was changed")]
    Archive(#[from] TarError),
    /// A member of the archive is refused.
    #[error("the archive's member {member:?} is refused: {why}; nothing was changed")]
    Member { member: String, why: &'static str },
    /// The disk said no.
    #[error("{doing} failed at {}", path.display())]
    Disk {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The work did not come to its end.
    #[error("the work on the volume {name} was given up")]
    Lost { name: VolumeName },
}

/// Why something is not mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Its server has no address.
    #[error("the address of the server {server} is not known")]
    Address {
        server: String,
        #[source]
        source: io::Error,
    },
    /// A server that says nothing.
    #[error("{what} did not answer within {} s; it is tried again", limit.as_secs())]
    Silent { what: String, limit: Duration },
    /// The last attempt has not ended.
    #[error(
        "{what} has not answered since an earlier attempt, which cannot be ended; nothing more is tried until it is"
    )]
    Stuck { what: String },
    /// The kernel said no.
    #[error("{why}")]
    Refused {
        why: String,
        #[source]
        source: io::Error,
    },
    /// It could not be asked.
    #[error("{doing} failed")]
    Host {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Turns what the disk says into an error that names the place.
pub(super) fn disk(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> VolumeError + use<> {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => VolumeError::NoSpace { path: path.clone(), doing },
        _ => VolumeError::Disk { doing, path: path.clone(), source },
    }
}
