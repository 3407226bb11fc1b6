//! What the daemon hands in: files of containers.

use futures_util::future::BoxFuture;

use crate::api::ByteStream;
use crate::api::error::ApiError;
use crate::api::wire::FileChange;
use crate::model::ContainerId;

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadFiles {
    /// A file, or a folder with all that is in it.
    Path {
        /// In the container.
        path: String,
        /// A link at its end is followed.
        follow: bool,
    },
    /// The whole root, without what is mounted in it.
    Root,
}

/// Where an archive is unpacked, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteFiles {
    /// In the container.
    pub path: String,
    /// As `docker cp` places a file or a folder; else in the folder.
    pub place: bool,
    /// Owners as in the archive.
    pub owners: bool,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenFiles {
    /// Files, folders and whatever else.
    pub files: u64,
    /// Of the contents of files.
    pub bytes: u64,
}

/// An answer that takes a moment.
pub type FileAnswer<T> = BoxFuture<'static, Result<T, FileRefusal>>;

/// The files of containers.
pub trait FileDoor: Send + Sync {
    /// Packs them, as they are asked for.
    fn read(&self, id: &ContainerId, what: ReadFiles) -> FileAnswer<ByteStream>;
    /// Unpacks an archive.
    fn write(&self, id: &ContainerId, how: WriteFiles, archive: ByteStream) -> FileAnswer<WrittenFiles>;
    /// What is not as in the image.
    fn changes(&self, id: &ContainerId) -> FileAnswer<Vec<FileChange>>;
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileRefusal {
    /// There is no such container any more.
    Gone,
    /// There is no such file.
    NotFound(String),
    /// It cannot be.
    Refused(String),
    /// Not now.
    Busy(String),
    /// It was tried, and failed.
    Failed(String),
}

impl FileRefusal {
    pub(super) fn of(self, container: &str) -> ApiError {
        let told = |message: String| format!("{container}: {message}");
        match self {
            Self::Gone => ApiError::NoContainer { name: container.to_owned() },
            Self::NotFound(message) => ApiError::NoFile { message: told(message) },
            Self::Refused(message) => ApiError::Refused { message: told(message) },
            Self::Busy(message) => ApiError::Unavailable { message: told(message) },
            Self::Failed(message) => ApiError::Failed { message: told(message) },
        }
    }
}
