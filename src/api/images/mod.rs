//! Images: what there is, and what can be done with them.
//!
//! Who does the work comes in as [`ImageDoor`]. Long work is a [`Job`]: its answer is lines that say how far it is, and it
//! is given up when its client goes away.

mod ask;
mod commit;
mod describe;
mod door;
mod job;
mod load;
mod look;
mod names;
mod prune;
mod save;
mod transfer;
mod verify;

pub use door::{Answer, ByteStream, Findings, ImageDoor, Job, Refusal, RefusalKind};

pub(super) use ask::json;
pub(super) use commit::commit;
pub(super) use describe::operations;
pub(super) use job::{Upload, lines};
pub(super) use load::{import, load};
pub(super) use look::{history, inspect, list};
pub(super) use names::{pin, remove, tag};
pub(super) use prune::prune;
pub(super) use save::save;
pub(super) use transfer::{pull, push};
pub(super) use verify::verify;
