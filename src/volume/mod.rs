//! Volumes: their folders and records in the data directory, what the driver's options mount on them, and copies of them.
//!
//! ```text
//! DATA/volumes/NAME/   volume.json   what it was made as (there from the moment it exists)
//!                      _data/        what it holds, or where what its options name is mounted
//!                      .fill-…/      its first content in the making; renamed to `_data` when it is whole
//!                      .restore-…/   content that is to take the place of `_data`, likewise
//! DATA/volumes/.trash/ volumes whose removal has begun
//! DATA/snapshots/VOLUME/NAME/   copies of volumes: snapshot.json and _data
//! ```
//! A volume is removed by its owner's word alone. What is mounted is what the kernel says: the room remembers nothing of it.
//!
//! | file | what |
//! |---|---|
//! | `front` | [`Volumes`], the door |
//! | `shelf`, `record` | the folders, and the file in each |
//! | `options`, `mount`, `child` | what options ask for (pure), how it is mounted, the process that does it |
//! | `walk`, `copy`, `attributes` | a folder that others may be changing, gone through and copied |
//! | `export`, `import`, `snapshot` | archives, and copies that are kept |
//! | `replace` | what a volume holds, made anew |

mod attributes;
mod child;
mod copy;
mod error;
mod export;
mod front;
mod import;
mod mount;
mod options;
mod record;
mod replace;
mod shelf;
mod snapshot;
#[cfg(test)]
mod tests;
mod walk;

pub use error::{MountError, OpenError, VolumeError};
pub use front::{Ready, Stored, Usage, Volumes};
pub use import::Onto;
pub use snapshot::Snapshot;
