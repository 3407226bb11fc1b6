//! The one seam with a fake: everything that the reconciler can see of the machine and do to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use super::generations::{Answer, Book, Question, SourceId};
use crate::model::{Action, Cause, ContainerId, Digest, Exposure, ImageReference, ProjectName, ServiceName, Timestamp};
use crate::plan::{Job, Observed, Restarts};
use crate::source::Remembered;

/// The machine.
pub trait Host: Send + Sync + 'static {
    /// What is. Cheap: it is asked after every event.
    fn observe(&self) -> Observed;

    /// Resolves when something may have changed since the last call to [`Self::observe`].
    fn changed(&self) -> impl Future<Output = ()> + Send;

    /// Does one action. It may be done twice; it has a limit of time; dropping it leaves what can be begun again.
    fn apply(&self, action: Action) -> impl Future<Output = Result<(), ActionError>> + Send;

    /// Brings changes of what is remembered to disk. What fails is kept and tried with the next call, which may be empty.
    fn record(&self, changes: Vec<Change>) -> impl Future<Output = Result<(), String>> + Send;

    /// Asks a registry, and fetches nothing. It has a limit of time; dropping it does no harm.
    fn ask(&self, question: Question) -> impl Future<Output = Result<Answer, ActionError>> + Send;

    /// What the status shows of the machine and no decision depends on.
    fn gauges(&self) -> Gauges;
}

/// Why an action failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionError {
    /// What, in a sentence for the owner.
    pub message: String,
    /// Not worth trying again before this many milliseconds (a registry's `Retry-After`).
    pub retry_after_ms: Option<u64>,
}

/// A change of what is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A document came into force.
    Good {
        /// Its path below the state folder.
        path: PathBuf,
        /// Its project.
        project: String,
        /// What it is made from.
        source: Remembered,
    },
    /// A document is no longer in force.
    Gone(PathBuf),
    /// A container was started again.
    History {
        /// Which.
        id: ContainerId,
        /// How often.
        restarts: Restarts,
        /// Why the last time.
        reason: String,
    },
    /// A container was removed.
    Forgotten(ContainerId),
    /// Something was asked of a service by hand, or is over.
    ByHand {
        /// Its project.
        project: ProjectName,
        /// Which.
        service: ServiceName,
        /// What is asked now; none: nothing.
        over: Option<super::Override>,
    },
    /// Something happened to a service.
    Causes {
        /// Its project.
        project: ProjectName,
        /// Which.
        service: ServiceName,
        /// What is kept of it, the newest last; empty when the service is forgotten.
        causes: Vec<Cause>,
    },
    /// A service that runs at set times.
    Job {
        /// Its project.
        project: ProjectName,
        /// Which.
        service: ServiceName,
        /// What is remembered of it; none when it is forgotten.
        job: Option<Box<Job>>,
    },
    /// What is known of a service's generations.
    Generations {
        /// Its project.
        project: ProjectName,
        /// Which.
        service: ServiceName,
        /// What it ran last, the newest first; empty when the service is gone.
        digests: Vec<Digest>,
        /// Its generations.
        book: Box<Book>,
    },
    /// A state file as it was, that generations refer to.
    Source {
        /// What it is known by.
        id: SourceId,
        /// Its project.
        project: String,
        /// The file.
        source: Remembered,
    },
    /// No generation refers to it any more.
    SourceGone(SourceId),
}

/// What the status shows of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gauges {
    /// Bytes of the images that are here.
    pub sizes: BTreeMap<ImageReference, u64>,
    /// Pulls that run.
    pub transfers: BTreeMap<ImageReference, Transfer>,
    /// What happened to the database.
    pub store_note: Option<String>,
    /// Unsafe or reduced modes in force.
    pub loosenings: Vec<String>,
    /// What is to be known of the machine and is no mode of ours: a firewall that drops what is forwarded, say.
    pub notes: Vec<String>,
    /// From where a published port can be reached where the file does not say so.
    pub exposure: Exposure,
    /// On which address a port is published where the file names none; none: on all.
    pub publish_ip: Option<IpAddr>,
}

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transfer {
    /// Since when.
    pub since: Timestamp,
    /// Bytes that arrived.
    pub done: u64,
    /// Bytes in all, once known.
    pub total: Option<u64>,
    /// Its layers, lowest first, once known.
    pub layers: Vec<LayerTransfer>,
    /// What it waits for before it goes on by itself.
    pub wait: Option<TransferWait>,
    /// The host that answers now: the registry, or a mirror of it.
    pub from: Option<String>,
}

/// How far one layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerTransfer {
    /// The first digits of its digest.
    pub digest: String,
    /// Bytes that arrived.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
    /// `waiting`, `fetching`, `unpacking`, `done` or `present`.
    pub state: &'static str,
}

/// A pause inside a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferWait {
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Timestamp,
    /// Which attempt comes next.
    pub attempt: u32,
    /// How many there may be without a byte of progress.
    pub of: u32,
}
