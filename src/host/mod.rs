//! The machine: joins the rooms' views into one, and performs actions with one arm each.
//!
//! What one room makes (`Present`, layers, a container's folder), this room hands to the next; rooms do not know each other.

mod apply;
mod disk;
mod files;
mod generations;
mod hooks;
mod images;
mod mount_table;
mod mounts;
mod networks;
mod numbers;
mod observe;
mod remember;
mod remember_jobs;

pub use disk::ContainerDisk;
pub use generations::book;
pub use images::RemoveError;
pub use mounts::Own;
pub use observe::join;
pub use remember_jobs::job as remembered_job;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use crate::container::{Containers, Exec, ExecAsk, ExecError, HealthSeen, SignalError};
use crate::image::Images;
use crate::model::{Action, ContainerId, ImageReference, Signal};
use crate::network::Networks;
use crate::plan::Observed;
use crate::reconcile::{ActionError, Answer, Change, Gauges, Host, Question};
use crate::store::Store;
use crate::volume::Volumes;

/// This machine.
pub struct LinuxHost {
    images: Images,
    containers: Containers,
    networks: Networks,
    volumes: Volumes,
    own: Own,
    mounts: mount_table::Mounts,
    /// Only the loop waits here.
    ends: tokio::sync::Mutex<(watch::Receiver<u64>, watch::Receiver<u64>)>,
    /// Blocking; held only by one save at a time.
    store: Arc<Mutex<Store>>,
    store_note: Option<String>,
    loosenings: Vec<String>,
    state_dir: PathBuf,
    /// Where images lie, once that is known: its disk is watched.
    images_dir: Option<PathBuf>,
    /// Pulls that run, whoever asked for them.
    pulls: Mutex<BTreeMap<ImageReference, images::Running>>,
    hooks: hooks::Board,
    /// Something other than a container's state changed.
    changed: Notify,
    /// What else is to be known, from who knows it.
    notes: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl LinuxHost {
    /// Joins the rooms.
    #[must_use]
    pub fn new(
        (images, containers, networks, volumes): (Images, Containers, Networks, Volumes),
        own: Own,
        store: Store,
        store_note: Option<String>,
        loosenings: Vec<String>,
        state_dir: PathBuf,
    ) -> Self {
        let store = Arc::new(Mutex::new(store));
        let (pulls, changed) = (Mutex::default(), Notify::new());
        let ends = tokio::sync::Mutex::new((containers.changed(), networks.changed()));
        let images_dir = None;
        let mounts = mount_table::Mounts::open(state_dir.clone(), &own.data);
        Self {
            images,
            containers,
            networks,
            volumes,
            own,
            mounts,
            ends,
            store,
            store_note,
            loosenings,
            state_dir,
            images_dir,
            pulls,
            hooks: hooks::Board::default(),
            changed,
            notes: Box::new(Vec::new),
        }
    }

    /// Shows further notes with those of the machine.
    #[must_use]
    pub fn noting(self, notes: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        Self { notes: Box::new(notes), ..self }
    }

    /// Has the notes shown as they are now.
    pub fn noted(&self) {
        self.changed.notify_one();
    }

    /// Watches the disk that images lie on.
    #[must_use]
    pub fn watching(self, images_dir: PathBuf) -> Self {
        Self { images_dir: Some(images_dir), ..self }
    }

    /// Where a container's output lies.
    #[must_use]
    pub fn log_dir(&self, id: &ContainerId) -> PathBuf {
        self.containers.log_dir(id)
    }

    /// Executes a command in a container that runs.
    pub async fn exec(&self, id: &ContainerId, ask: ExecAsk) -> Result<Exec, ExecError> {
        self.containers.exec(id, ask).await
    }

    /// What is known of the health of a container that runs and has a check.
    #[must_use]
    pub fn health_of(&self, id: &ContainerId) -> Option<HealthSeen> {
        self.containers.health_of(id)
    }

    /// Sends a signal to the main process of a container that runs.
    pub async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<(), SignalError> {
        self.containers.signal(id, signal).await
    }

    fn pulls(&self) -> std::sync::MutexGuard<'_, BTreeMap<ImageReference, images::Running>> {
        // Inserting and removing cannot leave the map half changed.
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for LinuxHost {
    fn observe(&self) -> Observed {
        self.look()
    }

    async fn changed(&self) {
        let mut ends = self.ends.lock().await;
        let (containers, networks) = &mut *ends;
        tokio::select! {
            // All arms keep what they wait for: a permit, or a newer state. The sender lives as long as the containers do.
            () = self.changed.notified() => {}
            _ = containers.changed() => {}
            _ = networks.changed() => {}
            () = self.mounts.changed() => {}
            () = self.hooks.changed() => {}
        }
    }

    async fn apply(&self, action: Action) -> Result<(), ActionError> {
        self.perform(action).await
    }

    async fn record(&self, changes: Vec<Change>) -> Result<(), String> {
        self.save(changes).await
    }

    async fn ask(&self, question: Question) -> Result<Answer, ActionError> {
        self.question(question).await
    }

    fn gauges(&self) -> Gauges {
        self.measure()
    }
}
