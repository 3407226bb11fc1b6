//! One start: clear what is left, start a shim, read its report.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use super::given_files::{FileOrder, Payload};
use super::link::{IdsRecord, NetworkOrder, Order, Report, StartRecord};
use super::{Inner, KILL_LIMIT, Known, MountOrder, Runtime, StartError, StartGiven, blocking};
use crate::model::{Attached, ContainerId, ContainerState, MountedFile, ProcessId, UserNamespace};

/// A shim that says nothing for so long is ended.
const LIMIT: Duration = Duration::from_secs(30);
/// The same where a volume is filled with what the image has there.
const FILL_LIMIT: Duration = Duration::from_secs(600);
/// No report is longer.
const REPORT: u64 = 64 * 1024;

/// What a container is given of networks for one start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartNetwork {
    /// What it is joined to.
    pub attached: Attached,
    /// Whether a resolver of ours answers it at 127.0.0.11.
    pub resolver: bool,
    /// What `host-gateway` stands for in `extra_hosts`; none: it does not reach the host.
    pub host_gateway: Option<IpAddr>,
    /// Who keeps the ports of its slot until now.
    pub keepers: Vec<ProcessId>,
}

/// Starts it, and gives the state it is in then. Whatever fails leaves nothing behind but the record of what it was to be joined to.
pub(super) async fn launch(
    inner: &Arc<Inner>,
    id: &ContainerId,
    start: StartGiven,
) -> Result<ContainerState, StartError> {
    let io = |step| move |source| StartError::Io { step, source };
    clear(inner, id).await?;
    let StartNetwork { attached, resolver, host_gateway, keepers } = start.network;
    let limit = if start.mounts.iter().any(|mount| mount.fill.is_some()) { FILL_LIMIT } else { LIMIT };
    let mounts = start.mounts.into_iter().map(MountOrder::from).collect();
    let etc = attached.shared.as_ref().map(|(other, _)| inner.folders.container(other).join("etc"));
    let keepers = keepers.into_iter().map(Into::into).collect();
    let network = NetworkOrder { resolver, host_gateway, etc, keepers };
    let (preparing, prepared) = (Arc::clone(inner), id.clone());
    let Some((files, payload)) = Payload::of(&start.files) else {
        return Err(StartError::Failed("what its configs and secrets hold is not known".to_owned()));
    };
    let prepare = blocking(move || {
        preparing.folders.prepare_start(&prepared)?;
        preparing.note_files(&prepared, &start.files)?;
        preparing.attach(&prepared, attached)
    });
    prepare.await.map_err(io("what the container is started with was not written down"))?;
    let given = Given { network, mounts, files, ..given(inner, id).await? };
    let started = match report(inner, id, given, payload, limit).await {
        Ok(started) => started,
        Err(error) => {
            // The shim took its processes with it; a cgroup may be left, or everything where it was killed.
            clear(inner, id).await?;
            return Err(error);
        }
    };
    let (syncing, synced) = (Arc::clone(inner), id.clone());
    let sync = blocking(move || syncing.folders.sync_start(&synced));
    if let Err(source) = sync.await {
        // Nobody may rely on a start that may not last; so it does not run either.
        clear(inner, id).await?;
        return Err(StartError::Io { step: "the start was not recorded", source });
    }
    Ok(ContainerState::Running { init: started.init.into(), shim: started.shim.into(), since: started.started() })
}

/// The error with its causes, for the state.
pub(super) fn text(error: &StartError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

async fn clear(inner: &Arc<Inner>, id: &ContainerId) -> Result<(), StartError> {
    let (inner, id) = (Arc::clone(inner), id.clone());
    let cleared = tokio::task::spawn_blocking(move || {
        inner.cgroups.kill(&id, KILL_LIMIT)?;
        let step = "the cgroup of the last run was not removed";
        inner.cgroups.remove(&id).map_err(|source| StartError::Io { step, source })
    });
    cleared.await.map_err(|e| StartError::Failed(e.to_string()))?
}

/// What it is given for this start.
#[derive(Default)]
pub(super) struct Given {
    cgroup: PathBuf,
    ids: Option<IdsRecord>,
    network: NetworkOrder,
    mounts: Vec<MountOrder>,
    files: Vec<FileOrder>,
}

impl Given {
    /// For a container that runs: where it is. Whoever enters it sees its users by its namespaces.
    pub(super) fn of_running(inner: &Inner, id: &ContainerId) -> Self {
        Self { cgroup: inner.cgroups.path(id), ..Self::default() }
    }
}

/// Its cgroup's place, which it may take a call of systemd to make, and its ids.
async fn given(inner: &Arc<Inner>, id: &ContainerId) -> Result<Given, StartError> {
    let user = inner.user_namespace(id);
    let (inner, id) = (Arc::clone(inner), id.clone());
    let given = tokio::task::spawn_blocking(move || {
        let ids = match user {
            UserNamespace::Host => None,
            UserNamespace::Auto { size } => Some(inner.settings.ids.range(&inner.folders.container(&id), size)?.into()),
        };
        Ok::<_, StartError>(Given { cgroup: inner.cgroups.place(&id)?, ids, ..Given::default() })
    });
    given.await.map_err(|e| StartError::Failed(e.to_string()))?
}

impl Inner {
    fn user_namespace(&self, id: &ContainerId) -> UserNamespace {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(id).map_or(UserNamespace::Host, |known| known.observed.spec.service.isolation.user)
    }

    /// Which contents it is started with, told apart by their fingerprints. Made to last with the start.
    fn note_files(&self, id: &ContainerId, files: &[MountedFile]) -> io::Result<()> {
        let files: Vec<MountedFile> = files.iter().map(MountedFile::without_content).collect();
        let spec = |known: &mut BTreeMap<ContainerId, Known>| known.get(id).map(|known| known.observed.spec.clone());
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut spec) = spec(&mut lock()).filter(|spec| spec.service.files != files) else { return Ok(()) };
        spec.service.files = files;
        self.folders.update(&spec)?;
        if let Some(known) = lock().get_mut(id) {
            known.observed.spec = spec;
        }
        Ok(())
    }
}

async fn report(
    inner: &Inner,
    id: &ContainerId,
    given: Given,
    payload: Payload,
    limit: Duration,
) -> Result<StartRecord, StartError> {
    let mut shim = spawn(inner, id, given, &payload)?;
    let mut said = Vec::new();
    if let Some(stdout) = shim.stdout.take() {
        let stdin = shim.stdin.take();
        let send = async {
            if let Some(mut stdin) = stdin
                && let Err(error) = payload.send(&mut stdin).await
            {
                // It has ended, and its report says why.
                tracing::debug!(%error, "the shim did not take all files");
            }
        };
        // To the end of the pipe: the shim has become the follower by then, or has ended.
        let mut stdout = stdout.take(REPORT);
        let read = async { tokio::join!(send, stdout.read_to_end(&mut said)).1 };
        let read = tokio::time::timeout(limit, read).await;
        if !matches!(read, Ok(Ok(_))) {
            let _ = shim.kill().await;
            return Err(StartError::TimedOut(limit.as_secs()));
        }
    }
    let last = said.split(|b| *b == b'\n').rev().find_map(|line| serde_json::from_slice(line).ok());
    match last {
        Some(Report::Started(record)) => Ok(record),
        Some(Report::Failed(error)) => {
            ended(&mut shim).await;
            Err(StartError::Failed(error))
        }
        None => {
            let status = ended(&mut shim).await;
            let stderr = inner.folders.run(id).join("shim.err");
            let words = std::fs::read(stderr).unwrap_or_default();
            let words = String::from_utf8_lossy(&words[..words.len().min(4096)]).trim().to_owned();
            Err(StartError::Failed(format!("the shim ended without a report ({status}) {words}")))
        }
    }
}

async fn ended(shim: &mut Child) -> String {
    match tokio::time::timeout(LIMIT, shim.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => {
            let _ = shim.kill().await;
            "it did not end".to_owned()
        }
    }
}

/// With an empty environment: nothing of the daemon's is to reach a container, and a backtrace would only cost time.
fn spawn(inner: &Inner, id: &ContainerId, given: Given, payload: &Payload) -> Result<Child, StartError> {
    let fail = |source| StartError::Io { step: "the shim was not started", source };
    let order = order(inner, id, given, inner.runtime(id)?);
    let stderr = std::fs::File::create(order.run.join("shim.err")).map_err(fail)?;
    let mut command = Command::new(inner.exe.path());
    command.arg0("longshore").arg("shim").arg(serde_json::to_string(&order).map_err(|e| fail(e.into()))?);
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    let stdin = if payload.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(false);
    command.spawn().map_err(fail)
}

/// What a shim of this container is told, and whoever else enters it.
pub(super) fn order(inner: &Inner, id: &ContainerId, given: Given, runtime: Runtime) -> Order {
    let settings = &inner.settings;
    let device_cgroup = inner.cgroups.devices(id);
    Order {
        folder: inner.folders.container(id),
        device_guard: matches!(runtime, Runtime::External(_)) || device_cgroup.is_some(),
        device_cgroup,
        seccomp: settings.data_dir.join("seccomp"),
        cdi_dirs: settings.cdi_dirs.clone(),
        default_capabilities: settings.defaults.capabilities.mask(),
        no_new_privileges: settings.defaults.no_new_privileges,
        run: inner.folders.run(id),
        machine: inner.sight.machine.clone(),
        oom_counter: inner.cgroups.oom_counter(id),
        cgroup: given.cgroup,
        ids: given.ids,
        network: given.network,
        mounts: given.mounts,
        files: given.files,
        shims: inner.cgroups.shims(id),
        runtime: match runtime {
            Runtime::Embedded => None,
            Runtime::External(program) => Some(program),
        },
        init: inner.follower.clone(),
        log_bytes: settings.log_bytes,
        log_files: settings.log_files,
        boot_id: settings.boot_id.0.clone(),
    }
}

impl Inner {
    /// The program that makes this container: the one that its file names, else the configured one.
    fn runtime(&self, id: &ContainerId) -> Result<Runtime, StartError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = known.get(id).and_then(|known| known.observed.spec.service.isolation.runtime.clone());
        drop(known);
        self.settings.runtime_named(asked.as_deref())
    }
}
