//! The one seam with a fake: everything that the reconciler can see of the machine and do to it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::{Action, ContainerId, ImageReference};
use crate::plan::{Observed, Restarts};
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
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transfer {
    /// Bytes that arrived.
    pub done: u64,
    /// Bytes in all, once known.
    pub total: Option<u64>,
}
