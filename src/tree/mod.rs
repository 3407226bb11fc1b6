//! Trees of files as tar archives, both ways and by descriptor: others may change them meanwhile, and what they hold is not trusted.
//!
//! ```text
//! pack:    a file or folder, held by descriptor ─▶ names in order, no link followed ─▶ tar
//! unpack:  tar ─▶ where does its root land? ─▶ each member in a folder that the kernel resolves, never through its last part
//! ```
//! Nothing here knows containers: who calls says how a path is opened on the side of the destination, and where links may lead.
//!
//! | file | what |
//! |---|---|
//! | `reach` | descriptors opened anew, whatever lies at `/proc` |
//! | `write` | members of an archive |
//! | `pack` | a tree into an archive |
//! | `land` | where the root of an archive comes to be, by the rules of `docker cp` |
//! | `unpack` | an archive into a folder |

mod land;
mod pack;
mod reach;
#[cfg(test)]
mod tests;
mod unpack;
mod write;

pub(crate) use land::{Placing, Reason, UnpackError};
pub(crate) use pack::{PackError, Packer, Packing, listed};
pub(crate) use reach::{Reach, mount_of};
pub(crate) use unpack::{Unpack, Unpacked};
