//! The watched folder: which files are state files, what they hold, and when to look again.
//!
//! An event is only a hint to look; what counts is the content after things settle. A look reads files below the folder and
//! nothing else: no link that leads out, no FIFO, no device.
//!
//! ```text
//! notify ─hint─▶ settle (pure: what is still being written, when to look) ─due─▶ look ─▶ Look { folder, files, unlinked }
//! ```

mod folder;
mod look;
mod names;
mod secrets;
mod settle;
mod watch;

pub use folder::{FolderId, MAX_FILE_BYTES};
pub use look::{DOCKER_HUB, Defaults, GoodFile, Look, Looker, Read, Remembered, read_again};
pub use secrets::{Secrets, Unopened};
pub use watch::{Source, Watching};
