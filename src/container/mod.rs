//! Containers: their folders, their records, their start and their end.
//!
//! [`Containers`] owns two folders and one cgroup parent:
//!
//! ```text
//! DATA/containers/ID/   container.json  what it was made from (there from the moment it exists)
//!                       start exit failed  how the last start went, and the last run ended
//!                       network.json  what it was joined to at its last start
//!                       paused    it is held still while what it wrote is read
//!                       logs/ etc/ upper/ work/
//! DATA/trash/           containers whose removal has begun
//! DATA/logs/            output of containers that are gone; see `kept_logs`
//! DATA/broken/          folders of containers whose record cannot be used, set aside
//! DATA/bin/HASH/        the follower as a file
//! RUN/c/ID(32)/         bundle, runtime state, mount point (the mount is the shim's own); made anew for each start
//! CGROUP/longshore/INSTANCE/ID/   in every hierarchy; where systemd owns the tree, in a unit of its own (see [`cgroup`])
//! ```
//! A container runs as long as its shim does. What is seen is kept in memory, read from the records when a shim ends: nothing is
//! polled.
//!
//! ```text
//! Created ─start─▶ Running ─▶ Exited ─start─▶ …       Running, shim killed ─▶ Exited{ShimLost} or Orphaned
//!       └────────▶ StartFailed ─start─▶ …
//! ```

mod abilities;
mod adopt;
mod attached;
pub mod cdi;
pub mod cgroup;
pub mod changes;
pub mod confine;
pub mod copy;
pub mod device_filter;
mod disk;
pub mod exec;
pub mod files;
pub mod given_files;
mod given_mounts;
pub mod health;
mod held_back;
pub mod host_device;
mod kept_logs;
mod launch;
pub mod link;
pub mod machine;
pub mod oci;
mod own_exe;
mod pause;
mod peek;
pub mod privileges;
pub mod process;
pub mod program;
pub mod record;
pub mod resources;
pub mod seccomp;
mod seen;
mod settings;
mod state;
pub mod stats;
pub mod subids;
pub mod swap;
pub mod top;
mod update;
pub mod userns;
pub mod users;
mod walk;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::model::{
    Attached, ContainerId, ContainerSpec, ContainerState, HealthCheck, Hooks, ObservedContainer, ProcessId, Signal,
    Timestamp,
};
pub use cgroup::CgroupDriver;
use cgroup::{Cgroups, NotEmpty};
pub use copy::{CopyDone, CopyError, CopyWork};
use disk::Folders;
pub use exec::{Exec, ExecAsk, ExecError, ExecStreams};
pub use given_mounts::{GivenMount, GivenSource, MountOrder, StartGiven};
pub use health::{CheckRun, HealthSeen, Look};
pub use held_back::held_back;
pub use kept_logs::{KeptLog, KeptLogLimits};
pub use launch::StartNetwork;
use own_exe::OwnExe;
pub use pause::{PauseError, SignalError, Still};
pub use peek::peek;
use process::Process;
pub use record::ImageDefaults;
pub use seen::DiskUse;
pub use settings::{Runtime, Settings, instance_of};
pub use update::UpdateError;

/// Why the containers of a data directory cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A folder.
    #[error("{} cannot be used", path.display())]
    Folder { path: PathBuf, source: io::Error },
    /// A record of a later version.
    #[error(
        "{} has version {version}: the data directory was written by a newer Longshore. Start that one, or use another data directory",
        path.display()
    )]
    Newer { path: PathBuf, version: u32 },
    /// No hierarchies, or not as configured.
    #[error("the cgroups of this machine cannot be used")]
    Cgroups(#[source] cgroup::FindError),
}

/// Something that was found while opening, and what was done about it.
#[derive(Debug)]
pub struct Warning(pub String);

/// Why a container was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Its folder or its record.
    #[error("the container's folder was not made")]
    Folder(#[source] io::Error),
}

/// Why a container was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is none.
    #[error("no such container")]
    Unknown,
    /// What is left of an earlier run cannot be cleared away.
    #[error("what is left of an earlier run cannot be ended")]
    Leftover(#[from] NotEmpty),
    /// There is no place for its cgroup.
    #[error("there is no place for the container's cgroup")]
    Cgroup(#[from] cgroup::PlaceError),
    /// There are no ids for its users.
    #[error("there are no ids for the container's own users")]
    Ids(#[from] subids::SubidError),
    /// Folders, the shim, the records.
    #[error("{step}")]
    Io {
        step: &'static str,
        #[source]
        source: io::Error,
    },
    /// The file names a runtime that the configuration does not have.
    #[error("runtime: {name} is not configured here; there are {known} (\"runtimes\" in the configuration names more)")]
    Runtime { name: String, known: String },
    /// The shim says why.
    #[error("{0}")]
    Failed(String),
    /// The shim said nothing.
    #[error("the container did not start within {0} s")]
    TimedOut(u64),
}

/// Why a container was not stopped.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// Processes are left.
    #[error(transparent)]
    NotEmpty(#[from] NotEmpty),
    /// It cannot be told.
    #[error("the container's main process cannot be reached; it is tried again")]
    Unreachable(#[source] io::Error),
    /// The shim does not end although the container did.
    #[error("the container's shim does not end")]
    Shim,
}

/// Why a container was not removed. What is gone stays gone; the next try goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Processes are left.
    #[error(transparent)]
    NotEmpty(#[from] NotEmpty),
    /// A folder or a cgroup.
    #[error("the container's {what} was not removed")]
    Io {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

const KILL_LIMIT: Duration = Duration::from_secs(10);

/// All containers of a data directory. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Containers(Arc<Inner>);

struct Inner {
    settings: Settings,
    folders: Folders,
    cgroups: Cgroups,
    sight: abilities::Sight,
    exe: OwnExe,
    follower: PathBuf,
    known: Mutex<BTreeMap<ContainerId, Known>>,
    changed: watch::Sender<u64>,
}

struct Known {
    observed: ObservedContainer,
    /// The image's.
    stop_signal: Option<Signal>,
    /// The image's.
    image_health: HealthCheck,
    /// What was found of its health.
    board: Option<health::Board>,
    /// As it is on disk.
    attached: Attached,
    /// Held still because that was asked for.
    paused: bool,
    /// One operation at a time.
    busy: Arc<tokio::sync::Mutex<()>>,
}

impl Containers {
    /// Reads what is there, clears away what is half made, and takes over what runs. Within a tokio runtime.
    pub fn open(settings: Settings) -> Result<(Self, Vec<Warning>), OpenError> {
        let mut warnings = Vec::new();
        let folders = Folders::open(&settings.data_dir, &settings.run_dir, settings.kept_logs)?;
        let follower = folders.write_follower()?;
        let (cgroups, warning) =
            Cgroups::find(&settings.instance, settings.cgroup_driver, &follower).map_err(OpenError::Cgroups)?;
        warnings.extend(warning.map(Warning));
        let (exe, problem) = OwnExe::hold(&settings.exe);
        if let Some(problem) = problem {
            warnings
                .push(Warning(format!("our own program is executed without protection from containers: {problem}")));
        }
        let sight = abilities::Sight::look().map_err(|error| OpenError::Cgroups(error.into()))?;
        sight.users.look(&settings, exe.path());
        let found = folders.scan(|id| state::runs(&cgroups, &folders, &settings.boot_id, id), &mut warnings)?;
        adopt::remember(&cgroups, &found);
        for (stranger, parent) in cgroups.strangers(|id| folders.holds(id)) {
            cgroups.remember(&stranger, parent.as_deref());
            let cleared =
                cgroups.kill(&stranger, KILL_LIMIT).map_err(io::Error::other).and_then(|()| cgroups.remove(&stranger));
            cgroups.remember(&stranger, None);
            let outcome = cleared.map_or_else(|e| format!("could not be removed: {e}"), |()| "was removed".to_owned());
            warnings.push(Warning(format!(
                "the cgroup of container {} that is not ours any more {outcome}",
                stranger.short()
            )));
        }
        cgroups.sweep();
        let (changed, _) = watch::channel(0);
        let known = Mutex::new(BTreeMap::new());
        let all = Self(Arc::new(Inner { settings, folders, cgroups, sight, exe, follower, known, changed }));
        for found in found {
            all.adopt(found, &mut warnings)?;
        }
        all.keep_health();
        Ok((all, warnings))
    }

    /// Makes the container's folder and record. Doing it twice does nothing.
    pub async fn create(
        &self,
        spec: &ContainerSpec,
        layers: Vec<PathBuf>,
        image: &ImageDefaults,
    ) -> Result<(), CreateError> {
        if self.known().contains_key(&spec.id) {
            return Ok(());
        }
        let spec = &spec.without_contents();
        let (stop_signal, health) = image.known();
        let record = record::ContainerRecord::new(spec, layers, image.clone());
        let (inner, id) = (Arc::clone(&self.0), spec.id.clone());
        self.0.cgroups.remember(&id, spec.service.isolation.cgroup_parent.as_deref());
        blocking(move || inner.folders.create(&id, &record)).await.map_err(CreateError::Folder)?;
        self.know(spec.clone(), (stop_signal, health), Attached::default(), ContainerState::Created);
        Ok(())
    }

    /// Starts it without any network to join, or mount.
    pub async fn start(&self, id: &ContainerId) -> Result<(), StartError> {
        self.start_with(id, StartGiven::default()).await
    }

    /// Starts it; done when its command runs, and that is on disk. Nothing to do for one that runs.
    pub async fn start_with(&self, id: &ContainerId, given: StartGiven) -> Result<(), StartError> {
        let busy = self.busy(id).ok_or(StartError::Unknown)?;
        let _one = busy.lock().await;
        match self.state(id) {
            None => return Err(StartError::Unknown),
            Some(ContainerState::Running { .. }) => return Ok(()),
            Some(_) => {}
        }
        match launch::launch(&self.0, id, given).await {
            Ok(running) => {
                self.set(id, running);
                self.watch(id);
                Ok(())
            }
            Err(error) => {
                let state = self.failed(id, launch::text(&error)).await;
                self.set(id, state);
                Err(error)
            }
        }
    }

    /// The state after a failed start. Where something of it runs all the same, that is what counts: it must be ended first.
    async fn failed(&self, id: &ContainerId, error: String) -> ContainerState {
        let at = now();
        let (inner, failed) = (Arc::clone(&self.0), id.clone());
        let record = link::FailedRecord { v: 1, error: error.clone(), at_ms: at.millis() };
        let populated = blocking(move || {
            let populated = inner.cgroups.populated(&failed);
            if !populated {
                // A record that cannot be written is not worth hiding the failure behind.
                let _ = inner.folders.write_failed(&failed, &record);
            }
            Ok(populated)
        });
        match populated.await {
            Ok(false) => ContainerState::StartFailed { error, at },
            Ok(true) | Err(_) => ContainerState::Orphaned { started: at },
        }
    }

    /// Asks its main process to end, and ends everything after the grace; done when nothing of it runs. Nothing to do for one
    /// that does not run. `None`: the file's signal, else the image's, else SIGTERM.
    pub async fn stop(&self, id: &ContainerId, signal: Option<Signal>, grace_ms: u64) -> Result<(), StopError> {
        let Some(busy) = self.busy(id) else { return Ok(()) };
        let _one = busy.lock().await;
        let signal = signal.unwrap_or_else(|| self.stop_signal(id));
        self.end(id, signal, Duration::from_millis(grace_ms)).await
    }

    /// Removes it with all that belongs to it. Nothing to do for one that is gone.
    pub async fn remove(&self, id: &ContainerId) -> Result<(), RemoveError> {
        let Some(busy) = self.busy(id) else { return Ok(()) };
        let _one = busy.lock().await;
        match self.end(id, Signal::KILL, Duration::from_secs(1)).await {
            // Nothing of the container is left, only its shim: it ends by itself.
            // Who cannot be told is killed with the cgroup.
            Ok(()) | Err(StopError::Shim | StopError::Unreachable(_)) => {}
            Err(StopError::NotEmpty(left)) => return Err(left.into()),
        }
        let (inner, gone) = (Arc::clone(&self.0), id.clone());
        let removed = tokio::task::spawn_blocking(move || {
            inner.cgroups.kill(&gone, KILL_LIMIT)?;
            let fail = |what| move |source| RemoveError::Io { what, source };
            inner.cgroups.remove(&gone).map_err(fail("cgroup"))?;
            inner.folders.remove_run(&gone).map_err(fail("run folder"))?;
            let removed = inner.folders.remove(&gone).map_err(fail("folder"));
            removed.inspect(|()| inner.gone(&gone))
        });
        removed.await.map_err(|e| RemoveError::Io { what: "folder", source: io::Error::other(e) })??;
        self.known().remove(id);
        self.notify();
        Ok(())
    }

    async fn end(&self, id: &ContainerId, signal: Signal, grace: Duration) -> Result<(), StopError> {
        let (init, shim) = match self.state(id) {
            Some(ContainerState::Running { init, shim, .. }) => (
                Process::open(init).map_err(StopError::Unreachable)?,
                Process::open(shim).map_err(StopError::Unreachable)?,
            ),
            Some(ContainerState::Orphaned { .. }) => (None, None),
            _ => return Ok(()),
        };
        // What is held still takes no signal.
        self.let_go_on(id).await;
        if let Some(init) = init {
            init.signal(signal.number());
            // With it the kernel ends all of its pid namespace at once.
            let kill = |_| init.signal(Signal::KILL.number());
            tokio::time::timeout(grace, init.ended()).await.unwrap_or_else(kill);
        }
        let (inner, ending) = (Arc::clone(&self.0), id.clone());
        let killed = tokio::task::spawn_blocking(move || inner.cgroups.kill(&ending, KILL_LIMIT)).await;
        killed.unwrap_or(Ok(()))?;
        if let Some(shim) = shim
            && !ended(&shim, KILL_LIMIT).await
        {
            return Err(StopError::Shim);
        }
        self.settle(id).await;
        Ok(())
    }

    fn know(
        &self,
        spec: ContainerSpec,
        (stop_signal, image_health): (Option<Signal>, HealthCheck),
        attached: Attached,
        state: ContainerState,
    ) {
        let id = spec.id.clone();
        let observed = ObservedContainer { spec, state };
        let paused = observed.state.alive() && self.0.cgroups.frozen(&id);
        let known = Known { observed, stop_signal, image_health, board: None, attached, paused, busy: Arc::default() };
        self.known().insert(id, known);
        self.notify();
    }

    fn set(&self, id: &ContainerId, state: ContainerState) {
        if let Some(known) = self.known().get_mut(id) {
            known.paused &= state.alive();
            known.observed.state = state;
        }
        self.notify();
    }

    fn notify(&self) {
        self.0.changed.send_modify(|count| *count += 1);
    }

    fn state(&self, id: &ContainerId) -> Option<ContainerState> {
        self.known().get(id).map(|known| known.observed.state.clone())
    }

    /// The init of a container that runs.
    #[must_use]
    pub fn init(&self, id: &ContainerId) -> Option<ProcessId> {
        match self.state(id)? {
            ContainerState::Running { init, .. } => Some(init),
            ContainerState::Created
            | ContainerState::Exited { .. }
            | ContainerState::StartFailed { .. }
            | ContainerState::Orphaned { .. } => None,
        }
    }

    /// The hooks of a container, as it has them now.
    #[must_use]
    pub fn hooks(&self, id: &ContainerId) -> Hooks {
        self.known().get(id).map(|known| known.observed.spec.service.hooks.clone()).unwrap_or_default()
    }

    fn busy(&self, id: &ContainerId) -> Option<Arc<tokio::sync::Mutex<()>>> {
        self.known().get(id).map(|known| Arc::clone(&known.busy))
    }

    fn stop_signal(&self, id: &ContainerId) -> Signal {
        let known = self.known();
        let known = known.get(id);
        known.and_then(|k| k.observed.spec.service.stop.signal.or(k.stop_signal)).unwrap_or(Signal::TERM)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Known>> {
        // No code panics while it holds the lock; if it did, the map is still whole.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it ended within the limit.
async fn ended(process: &Process, limit: Duration) -> bool {
    tokio::time::timeout(limit, process.ended()).await.is_ok()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(0))
}
