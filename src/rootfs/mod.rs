//! The root of a container: overlay mounts, and looking at files inside of a root without leaving it.
//!
//! The shim mounts the overlay in a mount namespace of its own, so the host never sees the mount and none can be left over.

mod copy;
mod idmap;
mod inside;
mod overlay;

pub use copy::copy_tree;
pub use idmap::{IdRange, IdmapError, Mapping, set_attributes};
pub use inside::{InsideError, make_dirs, read_file};
pub use overlay::{MountError, Overlay, Writes};
