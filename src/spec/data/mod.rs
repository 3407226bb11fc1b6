//! Volumes and mounts: what the file defines beside its services, and what each service sees of volumes and of the host.
//!
//! ```text
//! volumes: of the file ─ definitions ─▶ Definitions ───────────────┐
//! volumes ─ short, long ─▶ Written ─ place, wide ─▶ mounts ─▶ Data ─┴─ from ─▶ Service.mounts, Project.volumes
//! x-longshore ─ ours ───────────────────────────────────┘           (volumes_from)
//! ```
//!
//! What is wrong with a definition holds the services that use it. `~` is `/root`, since nothing here knows whose home it
//! could be; a relative path is one below the state directory, and may not lead out of it.

mod definitions;
mod from;
mod long;
mod mounts;
mod ours;
mod place;
mod short;
mod wide;

pub(super) use definitions::Definitions;
pub(super) use from::finish;
pub(super) use mounts::read;

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::source_text::Span;
use crate::model::{ImageReference, Mount, Owner, Propagation, Recursive, Relabel, ServiceName, Tmpfs};

const KEY: &str = "volumes";
const FROM: &str = "volumes_from";

/// What a service's own keys give.
#[derive(Debug, Default)]
pub(super) struct Data {
    /// By target.
    pub(super) mounts: Vec<Mount>,
    /// Those of `require_mount`; what it says of sources is added when all mounts are known.
    pub(super) required: Vec<PathBuf>,
    /// Folders in memory, by target.
    pub(super) tmpfs: Vec<Tmpfs>,
    pub(super) places: Places,
}

/// What is needed beside the model when all services are read.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The volumes that it uses, by their keys in the file.
    volumes: Vec<String>,
    from: Vec<From>,
    /// Every source of a bind mount must be a mount point.
    require_sources: bool,
}

/// One entry of `volumes_from`.
#[derive(Debug)]
struct From {
    name: ServiceName,
    read_only: bool,
    at: Span,
}

/// One entry of `volumes`, in either form; not yet looked at as a whole.
#[derive(Debug)]
struct Written<'s> {
    at: Span,
    target: &'s str,
    read_only: bool,
    owner: Option<Owner>,
    what: What<'s>,
}

#[derive(Debug)]
enum What<'s> {
    Bind {
        source: &'s str,
        create: bool,
        propagation: Propagation,
        recursive: Recursive,
        label: Option<Relabel>,
    },
    /// Without a source it is an anonymous one.
    Volume {
        source: Option<&'s str>,
        subpath: Option<String>,
        no_copy: bool,
        labels: BTreeMap<String, String>,
    },
    Tmpfs(Vec<String>),
    Image {
        reference: ImageReference,
        subpath: Option<String>,
    },
}

/// What is wrong, and what to do.
type Fault = (String, String);
