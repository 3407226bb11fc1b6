//! Start, in order, and stop, in the opposite order.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::checks::HostChecks;
use super::config::{CgroupDriverFile, Config, DefaultCapabilities, Flags};
use super::exec::Execs;
use super::files::Files;
use super::images::ImageWork;
use super::listen::{self, ListenError};
use super::lock::{DirectoryLock, LockError};
use super::numbers::Machine;
use super::output::Output;
use super::registries::Registries;
use super::secrets::HostSecrets;
use super::signals::Signals;
use super::volumes::VolumeWork;
use super::{images_settings, network_settings, notices, remember, systemd, trace};
use crate::api::{self, Doors, Events, Release};
use crate::container::privileges::Defaults;
use crate::container::subids::Sources;
use crate::container::{self, Containers};
use crate::host::{LinuxHost, Own};
use crate::image::{self, Images};
use crate::model::{CapabilitySet, Timestamp};
use crate::network::{self, Networks};
use crate::notice::Notices;
use crate::plan::Limits;
use crate::reconcile::view::View;
use crate::reconcile::{Channels, Command, Host as _};
use crate::secret::{self, KeyUse, Vault};
use crate::source::Source;
use crate::store::{Seal, Store};
use crate::volume::{self, Volumes};

/// The loop has this long to end once it is told to.
const STOPPING: Duration = Duration::from_secs(9);

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// No threads to work with.
    #[error("the runtime cannot be started")]
    Runtime(#[source] io::Error),
    /// Containers need root.
    #[error("the daemon makes containers and must run as root (it runs as uid {uid})")]
    NotRoot {
        /// Who runs it.
        uid: u32,
    },
    /// A directory is in use or unusable.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The socket is in use or unusable.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The TCP address cannot be taken.
    #[error("the TCP address {address} cannot be taken")]
    Tcp {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Something of the machine cannot be read or made.
    #[error("{what}")]
    Machine {
        /// What.
        what: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A file that the configuration names is not what it was when it was checked.
    #[error("the configuration cannot be used: {0}")]
    Settings(String),
    /// The image store.
    #[error("the images in {dir} cannot be opened")]
    Images {
        /// Where.
        dir: PathBuf,
        /// Why.
        #[source]
        error: image::OpenError,
    },
    /// The networks.
    #[error(transparent)]
    Networks(#[from] network::OpenError),
    /// The volumes.
    #[error("the volumes in {dir} cannot be opened")]
    Volumes {
        /// Where.
        dir: PathBuf,
        /// Why.
        #[source]
        error: volume::OpenError,
    },
    /// The secrets.
    #[error("the secrets cannot be opened")]
    Secrets(#[from] secret::OpenError),
    /// The containers.
    #[error("the containers in {dir} cannot be looked after")]
    Containers {
        /// Where.
        dir: PathBuf,
        /// Why.
        #[source]
        error: container::OpenError,
    },
}

pub(super) async fn serve(config: Config, flags: Flags, level: trace::Level) -> Result<(), StartError> {
    let uid = nix::unistd::geteuid();
    if !uid.is_root() {
        return Err(StartError::NotRoot { uid: uid.as_raw() });
    }
    raise_open_files();
    let _data = DirectoryLock::take(&config.data_dir, 0o700)?;
    let _run = DirectoryLock::take(&config.run_dir, 0o755)?;
    let mut signals = Signals::listen().map_err(StartError::Runtime)?;
    let listener = listen::unix(&config.socket)?;
    let hooks = notices::start(&config).map_err(StartError::Settings)?;
    let (host, images, volumes, secrets, reconciler) = open(&config, &hooks).await?;
    let (view, watched) = watch::channel(Arc::new(View::default()));
    let (commands, received) = mpsc::channel(64);
    let events = Events::new();
    let mut tasks = JoinSet::new();
    let (stop, stopped) = watch::channel(false);
    let doors =
        doors(&host, (images, volumes, secrets.clone()), watched.clone(), &events, commands.clone(), &mut tasks);
    let limits = api::Limits::default();
    if let Some(address) = config.file.tcp {
        let listener =
            tokio::net::TcpListener::bind(address).await.map_err(|error| StartError::Tcp { address, error })?;
        let (router, stopped) = (api::router(doors.clone()), until(stopped.clone()));
        tasks.spawn(async move {
            if let Err(error) = api::serve_tcp(listener, router, limits, stopped).await {
                tracing::error!(%error, %address, "the API is not served by TCP");
            }
        });
    }
    tasks.spawn(api::serve_unix(listener, api::router(doors), limits, until(stopped)));
    tasks.spawn(systemd::tell(watched, commands.clone()));
    tokio::spawn(notices::show(hooks.clone(), Arc::clone(&host)));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), state_dir = %config.state_dir.display(), data_dir = %config.data_dir.display(), socket = %config.socket.display(), "longshore is up");
    let publish = Box::new(move |event| {
        notices::tell(&hooks, &event);
        events.publish(event);
    });
    let channels = Channels { view, events: publish, commands: received };
    let source = Source::open(&config.state_dir).with_defaults(config.defaults());
    let source = source.with_secrets(Arc::new(secrets));
    let looping =
        tokio::spawn(crate::reconcile::run(reconciler, source, config.state_dir.clone(), Arc::clone(&host), channels));
    signals.until_stop(&config, &flags, &level, &commands).await;
    systemd::stopping();
    let orderly = wind_down(&config, &host, &commands, looping);
    // A second signal does not wait for the orderly end; both arms may be dropped, the process ends either way.
    tokio::select! {
        () = orderly => {}
        () = signals.again() => tracing::warn!("asked to stop again: the daemon ends at once"),
    }
    stop.send_replace(true);
    let doors_close = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(500), doors_close).await.is_err() {
        tasks.abort_all();
    }
    if let Err(error) = std::fs::remove_file(&config.socket) {
        tracing::debug!(%error, "the socket was gone already");
    }
    tracing::info!("the daemon has stopped");
    Ok(())
}

async fn wind_down(
    config: &Config,
    host: &Arc<LinuxHost>,
    commands: &mpsc::Sender<Command>,
    looping: tokio::task::JoinHandle<()>,
) {
    let stop = async {
        if commands.send(Command::Stop).await.is_ok()
            && let Err(error) = looping.await
        {
            tracing::error!(%error, "the reconcile loop failed an internal check");
        }
    };
    if tokio::time::timeout(STOPPING, stop).await.is_err() {
        tracing::warn!("the reconcile loop did not end in time");
    }
    if config.file.stop_containers_on_shutdown {
        tracing::info!("stopping all containers, as stop-containers-on-shutdown asks for");
        host.stop_all().await;
    }
}

async fn open(
    config: &Config,
    hooks: &Notices,
) -> Result<(Arc<LinuxHost>, Images, Volumes, HostSecrets, crate::reconcile::Reconciler), StartError> {
    let dir = config.data_dir.join("images");
    let settings = images_settings::settings(config).map_err(StartError::Settings)?;
    let mut loosenings = images_settings::loosenings(&settings);
    let images = Images::open(&dir, settings).map_err(|error| StartError::Images { dir, error })?;
    let (containers, warnings) = Containers::open(container_settings(config)?)
        .map_err(|error| StartError::Containers { dir: config.data_dir.join("containers"), error })?;
    loosenings.extend(warnings.into_iter().map(|warning| warning.0));
    if config.file.default_capabilities == DefaultCapabilities::Docker {
        let words = "containers have Docker's fourteen capabilities and not eleven (default-capabilities: docker)";
        loosenings.push(words.to_owned());
    }
    // Not a loosening, so not in the status: said once.
    for warning in images.warnings().iter().chain(&loosenings).chain(&container::held_back()) {
        tracing::warn!("{warning}");
    }
    let unnamed = |error| StartError::Machine { what: "the data directory cannot be named".to_owned(), error };
    let instance = container::instance_of(&config.data_dir).map_err(unnamed)?;
    let settings = network_settings::settings(config, &instance);
    let (networks, notes) = Networks::open(settings, holders(&containers)).await?;
    for note in notes {
        tracing::warn!("{note}");
    }
    let (vault, notes) = Vault::open(&config.data_dir)?;
    for note in notes {
        tracing::warn!("{note}");
    }
    let secrets = HostSecrets(Arc::new(vault));
    let stamp = now().millis() / 1000;
    let found = Store::open(&config.data_dir, &stamp.to_string(), Seal::new(&secrets.0.key(KeyUse::Records)));
    if let Some(note) = &found.note {
        tracing::error!("{note}");
    }
    let dir = config.data_dir.join("volumes");
    let (volumes, notes) = Volumes::open(&config.data_dir).map_err(|error| StartError::Volumes { dir, error })?;
    for note in notes {
        tracing::warn!("{note}");
    }
    let own = Own { data: config.data_dir.clone(), run: config.run_dir.clone() };
    let (kept, kept_volumes) = (images.clone(), volumes.clone());
    let host = LinuxHost::new(
        (images, containers, networks, volumes),
        own,
        found.store,
        found.note,
        loosenings,
        config.state_dir.clone(),
    )
    .watching(config.data_dir.join("images"))
    .noting({
        let hooks = hooks.clone();
        move || hooks.notes()
    });
    let limits = Limits { pulls: config.file.concurrency.pulls, containers: config.file.concurrency.containers };
    let (seen, defaults) = (host.observe(), config.defaults());
    let keep = config.file.generations;
    let reconciler = remember::reconciler(&found.records, &seen, &config.state_dir, limits, keep, &defaults, &secrets);
    Ok((Arc::new(host), kept, kept_volumes, secrets, reconciler.collecting(images_settings::collect(config))))
}

/// What containers are joined to, as it was recorded with them.
fn holders(containers: &Containers) -> Vec<network::Holder> {
    let each = containers.observe().into_iter().filter_map(|(id, container)| {
        let (attached, init) = (containers.attached(&id)?, containers.init(&id));
        Some(network::Holder { attached, spec: container.spec, init })
    });
    each.collect()
}

/// Two descriptors for each container, and some for each pull and client: as many as we may.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Resolves when the daemon is told to stop, or is gone.
async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that nobody can tell any more: the same.
    let _ = stopped.wait_for(|stop| *stop).await;
}

fn container_settings(config: &Config) -> Result<container::Settings, StartError> {
    let logs = config.file.container_logs;
    let runtime = config.file.runtime.clone().map_or(container::Runtime::Embedded, container::Runtime::External);
    let defaults = container::Settings::new(&config.data_dir, &config.run_dir).map_err(|error| {
        StartError::Machine { what: "this boot or the data directory cannot be named".to_owned(), error }
    })?;
    let cgroup_driver = match config.file.cgroup_driver {
        CgroupDriverFile::Auto => container::CgroupDriver::Auto,
        CgroupDriverFile::Cgroupfs => container::CgroupDriver::Cgroupfs,
        CgroupDriverFile::Systemd => container::CgroupDriver::Systemd,
    };
    let capabilities = match config.file.default_capabilities {
        DefaultCapabilities::Strict => CapabilitySet::STRICT,
        DefaultCapabilities::Docker => CapabilitySet::DOCKER,
    };
    Ok(container::Settings {
        runtime,
        cgroup_driver,
        ids: Sources { user: config.file.userns_remap_user.clone(), ..Sources::default() },
        runtimes: config.file.runtimes.clone(),
        cdi_dirs: config.file.cdi_dirs.clone().unwrap_or(defaults.cdi_dirs),
        defaults: Defaults { capabilities, no_new_privileges: config.file.no_new_privileges },
        log_bytes: logs.max_size,
        log_files: logs.max_files.into(),
        kept_logs: container::KeptLogLimits { containers: logs.previous, bytes: logs.previous_size },
        ..defaults
    })
}

fn doors(
    host: &Arc<LinuxHost>,
    (images, volumes, secrets): (Images, Volumes, HostSecrets),
    view: watch::Receiver<Arc<View>>,
    events: &Events,
    commands: mpsc::Sender<Command>,
    tasks: &mut JoinSet<()>,
) -> Doors {
    let (asked, mut asks) = mpsc::channel(16);
    tasks.spawn(async move {
        while let Some(ask) = asks.recv().await {
            let command = match ask {
                api::Command::Confirm { reply } => Command::Confirm(reply),
                api::Command::ByHand { orders, reply } => Command::ByHand(orders, reply),
                api::Command::Why { project, service, reply } => Command::Why(project, service, reply),
                api::Command::History { project, service, reply } => Command::History(project, service, reply),
                api::Command::Compare { project, service, from, to, reply } => {
                    Command::Compare(project, service, from, to, reply)
                }
                api::Command::Wish { project, service, wish, reply } => Command::Wish(project, service, wish, reply),
                api::Command::RunJob { project, service, reply } => Command::RunJob(project, service, reply),
                api::Command::RunTask { project, service, ask, reply } => {
                    Command::RunTask(project, service, ask, reply)
                }
                api::Command::EndTask { name, reply } => Command::EndTask(name, reply),
                api::Command::Look { reply } => Command::Look(Some(reply)),
            };
            if commands.send(command).await.is_err() {
                return;
            }
        }
    });
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let seen = view.clone();
    let work = ImageWork::new(Arc::clone(host), images.clone(), view.clone());
    let keeping = VolumeWork::new(Arc::clone(host), images.clone(), volumes, view.clone());
    let counters = move || {
        let changes = f64::from(u32::try_from(seen.borrow().revision).unwrap_or(u32::MAX));
        vec![api::Metric::single("status_changes", "How often the status changed", api::MetricKind::Counter, changes)]
    };
    Doors {
        view,
        events: events.clone(),
        logs: Arc::new(Output::new(Arc::clone(host))),
        checks: Arc::new(HostChecks(Arc::clone(host))),
        numbers: Arc::new(Machine::new(Arc::clone(host))),
        signals: Arc::new(Machine::new(Arc::clone(host))),
        execs: Arc::new(Execs::new(Arc::clone(host))),
        files: Arc::new(Files::new(Arc::clone(host))),
        images: Arc::new(work),
        volumes: Arc::new(keeping),
        secrets: Arc::new(secrets),
        registries: Arc::new(Registries(images)),
        commands: asked,
        release: Release { version, commit: None, pid: std::process::id(), started: now() },
        counters: Arc::new(counters),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(0))
}
