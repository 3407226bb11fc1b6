//! What the daemon hands to the front doors.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Checks, Events, ExecDoor, FileDoor, ImageDoor, LogSource, Metric, Numbers, RegistryDoor, SecretDoor, Signals,
    VolumeDoor,
};
use crate::model::{Cause, ContainerId, ContainerName, ProjectName, ServiceName, TaskAsk, Timestamp};
use crate::reconcile::view::View;
use crate::reconcile::{Comparison, Disobeyed, HistoryView, Obeyed, Order, Wish};

/// Everything that the routes can reach. Cloned for each request; every part is a handle.
#[derive(Clone)]
pub struct Doors {
    /// The status, made by the reconciler after each step.
    pub view: watch::Receiver<Arc<View>>,
    /// What happened.
    pub events: Events,
    /// The output of the containers.
    pub logs: Arc<dyn LogSource>,
    /// What is known of the health of containers.
    pub checks: Arc<dyn Checks>,
    /// What containers use, and their processes.
    pub numbers: Arc<dyn Numbers>,
    /// Signals to containers.
    pub signals: Arc<dyn Signals>,
    /// Commands in containers.
    pub execs: Arc<dyn ExecDoor>,
    /// Files of containers.
    pub files: Arc<dyn FileDoor>,
    /// The images, and what can be done with them.
    pub images: Arc<dyn ImageDoor>,
    /// The volumes, and what can be done with them.
    pub volumes: Arc<dyn VolumeDoor>,
    /// Secrets that are kept by name.
    pub secrets: Arc<dyn SecretDoor>,
    /// The logins at registries.
    pub registries: Arc<dyn RegistryDoor>,
    /// Requests to the one who decides. Bounded: a full queue answers 503.
    pub commands: mpsc::Sender<Command>,
    /// Which daemon this is.
    pub release: Release,
    /// Counters of the loops, read at each scrape.
    pub counters: Arc<dyn Fn() -> Vec<Metric> + Send + Sync>,
}

impl Doors {
    pub(super) fn now(&self) -> Arc<View> {
        self.view.borrow().clone()
    }
}

/// Which daemon answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The package's version.
    pub version: String,
    /// The commit it was built from, where known.
    pub commit: Option<String>,
    /// The daemon's pid.
    pub pid: u32,
    /// When it was started. Tells this daemon's revisions and event numbers from those of an earlier one.
    pub started: Timestamp,
}

/// What a client asks the daemon to decide.
#[derive(Debug)]
pub enum Command {
    /// Let the held mass delete go on.
    Confirm {
        /// The answer; `Err` says why there is nothing to confirm.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Something is asked of services by hand.
    ByHand {
        /// What.
        orders: Vec<Order>,
        /// Of whom; `Err` says why of nobody.
        reply: oneshot::Sender<Result<Obeyed, Disobeyed>>,
    },
    /// Tell what happened to a service.
    Why {
        /// Its project.
        project: ProjectName,
        /// Which.
        service: ServiceName,
        /// The answer, the newest last; none where nothing is known of it.
        reply: oneshot::Sender<Option<Vec<Cause>>>,
    },
    /// Run a service now that runs at set times.
    RunJob {
        /// Its project.
        project: ProjectName,
        /// Which.
        service: ServiceName,
        /// The answer; `Err` says why not.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Tell the generations of a service.
    History {
        /// Its project.
        project: ProjectName,
        /// Which.
        service: ServiceName,
        /// The answer; none where nothing is known of it.
        reply: oneshot::Sender<Option<HistoryView>>,
    },
    /// Tell how two generations of a service differ.
    Compare {
        /// Its project.
        project: ProjectName,
        /// Which.
        service: ServiceName,
        /// The one.
        from: u32,
        /// The other; the one in force where none is named.
        to: Option<u32>,
        /// The answer; `Err` says why there is none.
        reply: oneshot::Sender<Result<Comparison, String>>,
    },
    /// Go back, or try again what is set aside.
    Wish {
        /// Of which project.
        project: ProjectName,
        /// Of which service of it; of all where none is named.
        service: Option<ServiceName>,
        /// What.
        wish: Wish,
        /// What was done, once it is on disk; `Err` says why nothing was.
        reply: oneshot::Sender<Result<Vec<String>, String>>,
    },
    /// Run a container of a service once.
    RunTask {
        /// Its project.
        project: ProjectName,
        /// Which.
        service: ServiceName,
        /// What is asked for.
        ask: Box<TaskAsk>,
        /// What it is called; `Err` says why not.
        reply: oneshot::Sender<Result<(ContainerId, ContainerName), String>>,
    },
    /// End and remove such a container.
    EndTask {
        /// Its name or id.
        name: String,
        /// The answer; `Err` says why not.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Look at the folder now.
    Look {
        /// Sent once what was seen is acted upon.
        reply: oneshot::Sender<()>,
    },
}
