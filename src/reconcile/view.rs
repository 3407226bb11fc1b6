//! What the status says: one value, made by the reconciler after each step, read by every front door.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use super::generations::AsideView;
use super::host::{LayerTransfer, TransferWait};
use crate::model::{
    Attachment, Cidr, ContainerId, ContainerName, Digest, ExitStatus, Exposure, Health, ImageReference, Location,
    Loosening, Mac, Network, NetworkId, Problem, ProjectName, Protocol, Published, RunOutcome, RunWhy, ServiceName,
    Settings, Slot, Timestamp, VolumeName,
};
use crate::plan::Scaled;

/// The whole status at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// When it was made.
    pub at: Timestamp,
    /// Counts the views; a reader that waits for a change compares it.
    pub revision: u64,
    /// Whether the first look at the folder and the host is done and acted upon.
    pub ready: bool,
    /// Whether nothing is left to do: every project applied, nothing waiting but what a problem holds.
    pub settled: bool,
    /// The watched folder.
    pub folder: FolderView,
    /// The database.
    pub store: StoreView,
    /// Projects by name.
    pub projects: Vec<ProjectView>,
    /// Images that are here or being pulled.
    pub images: Vec<ImageView>,
    /// Manifests that a container, a service, or what a service ran before is made from, and pinned ones: they are not
    /// removed unless somebody names them.
    pub needed: BTreeSet<Digest>,
    /// What is wrong with the state files, the folder, the configuration or the host; errors first.
    pub problems: Vec<Problem>,
    /// Actions under way.
    pub under_way: Vec<StepView>,
    /// Next steps the planner would take now, and what waits for what.
    pub waiting: Vec<WaitView>,
    /// Unsafe or reduced modes that are in force, in words (`no seccomp: …`).
    pub loosenings: Vec<String>,
    /// What is to be known of the machine.
    pub notes: Vec<String>,
    /// Networks by name.
    pub networks: Vec<NetworkView>,
    /// Which volumes the state files name.
    pub volumes: VolumesView,
    /// The services that use a secret which is kept by name, as `project/service`.
    pub secrets: BTreeMap<String, BTreeSet<String>>,
    /// Services that run at set times.
    pub jobs: Vec<JobView>,
    /// One-offs that were asked for.
    pub tasks: Vec<TaskView>,
}

/// A one-off that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskView {
    /// Its container's id.
    pub id: ContainerId,
    /// Its container's name.
    pub name: ContainerName,
    /// What it waits for before it is started.
    pub waiting: Option<String>,
    /// Whether it runs.
    pub running: bool,
    /// How it ended.
    pub status: Option<ExitStatus>,
    /// Why it was not run.
    pub failed: Option<String>,
    /// Whether it is over.
    pub over: bool,
}

/// A service that runs at set times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// Its project.
    pub project: ProjectName,
    /// Its name.
    pub service: ServiceName,
    /// Its times.
    pub schedule: String,
    /// Whose clocks; none: the host's.
    pub timezone: Option<String>,
    /// Why nothing of it is run, whatever the time.
    pub idle: Option<&'static str>,
    /// The next time.
    pub next: Option<Timestamp>,
    /// As its clocks show it.
    pub next_told: Option<String>,
    /// A time that waits for the end of the present run.
    pub queued: Option<Timestamp>,
    /// The present run.
    pub run: Option<JobRunView>,
    /// What became of the last times, the newest last.
    pub history: Vec<JobRunView>,
}

/// One time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRunView {
    /// Which.
    pub due: Timestamp,
    /// As its clocks show it.
    pub told: String,
    /// Why it was run.
    pub why: RunWhy,
    /// What became of it; none while it goes on.
    pub outcome: Option<RunOutcome>,
}

/// Which volumes the state files in force name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumesView {
    /// The files that name a volume, or have a service that needs it.
    pub named: BTreeMap<VolumeName, BTreeSet<PathBuf>>,
    /// Why there may be more; none: these are all.
    pub doubt: Option<String>,
    /// Services whose images may want volumes of their own, with the replicas that may have data in them.
    pub services: Vec<VolumeService>,
}

/// A service that has volumes where its image says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeService {
    /// Whose first replica it would be.
    pub slot: Slot,
    /// Up to which replica.
    pub replicas: u32,
    /// The image.
    pub image: ImageReference,
    /// The file.
    pub file: PathBuf,
}

/// One network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    /// Its id.
    pub id: NetworkId,
    /// What it was made from.
    pub network: Network,
    /// Its subnets: IPv4 first.
    pub subnets: Vec<Cidr>,
    /// Its gateways.
    pub gateways: Vec<IpAddr>,
    /// The bridge, or the parent.
    pub interface: Option<String>,
    /// What is wrong with it; none: it is up.
    pub broken: Option<String>,
    /// Containers that run on it, by name.
    pub members: Vec<MemberView>,
}

/// A container on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// Its addresses.
    pub addresses: Vec<Cidr>,
    /// Its MAC address.
    pub mac: Option<Mac>,
}

/// The watched folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FolderView {
    /// Its path.
    pub path: PathBuf,
    /// Why the last good state is held instead of following the folder; none while it is followed.
    pub held: Option<HeldView>,
    /// How changes are noticed: `events and a look every 30 s`, or `a look every 5 s` with the reason.
    pub watching: String,
}

/// Since when and why something is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldView {
    /// In one sentence, with what to do.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Whether `longshore confirm` releases it (the mass-delete fuse).
    pub confirmable: bool,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreView {
    /// What happened to it at start, where something did (`set aside as …: checksum`).
    pub note: Option<String>,
}

/// A project's state in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// As the file says, and on disk.
    Applied,
    /// On the way.
    Applying,
    /// Something fails and is tried again.
    Failing,
    /// Held by a problem that its owner must mend.
    Held,
    /// Its file is gone; what it made is being removed.
    Removing,
}

impl Phase {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Applying => "applying",
            Self::Failing => "failing",
            Self::Held => "held",
            Self::Removing => "removing",
        }
    }
}

/// One project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectView {
    /// Its name.
    pub name: ProjectName,
    /// Its state file; none while it is being removed.
    pub file: Option<PathBuf>,
    /// Its phase: the worst of its services'.
    pub phase: Phase,
    /// Whether an older version of the file is in force because the present one cannot be used.
    pub last_good: bool,
    /// Its services by name.
    pub services: Vec<ServiceView>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// Its image as the file names it.
    pub image: Option<ImageReference>,
    /// Its phase.
    pub phase: Phase,
    /// How many containers are wanted.
    pub wanted: u32,
    /// How many run.
    pub running: u32,
    /// What holds it: each with file:line:column.
    pub holds: Vec<Problem>,
    /// What in its file makes it less confined than the defaults.
    pub loosenings: Vec<Loosening>,
    /// What was asked of it by hand, over its file.
    pub by_hand: Option<HandView>,
    /// What it waits for.
    pub waiting: Vec<WaitView>,
    /// The ports that its file publishes.
    pub ports: Vec<PortView>,
    /// Which generation is in force.
    pub generation: Option<u32>,
    /// What its file asks for and is not run.
    pub aside: Option<AsideView>,
    /// What there is to say of newer images.
    pub update: Option<String>,
    /// Its containers.
    pub containers: Vec<ContainerView>,
}

/// What was asked of a service by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandView {
    /// Nothing of it runs.
    pub stopped: bool,
    /// What of it runs is held still.
    pub paused: bool,
    /// Another number of replicas than the file's.
    pub scaled: Option<Scaled>,
    /// Since when.
    pub since: Timestamp,
}

/// One port as the file asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortView {
    /// On which address of the host; none: on all.
    pub address: Option<IpAddr>,
    /// The host's ports of which it gets one; none: any that is free.
    pub host: Option<(u16, u16)>,
    /// The container's port.
    pub target: u16,
    /// Which protocol.
    pub protocol: Protocol,
    /// From where it can be reached.
    pub exposure: Exposure,
}

impl PortView {
    /// Whether other machines will reach it, as far as this machine decides.
    #[must_use]
    pub fn outside(&self) -> bool {
        let (address, exposure) = (self.address, self.exposure);
        Published { address, port: 0, target: self.target, protocol: self.protocol, exposure }.outside()
    }
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerView {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// Project and service.
    pub project: ProjectName,
    /// Project and service.
    pub service: ServiceName,
    /// Which replica.
    pub number: u32,
    /// The image as the file named it when it was made.
    pub image: ImageReference,
    /// The manifest it was made from.
    pub image_digest: Digest,
    /// The specification's hash.
    pub hash: String,
    /// What it was given and can be given anew as it is.
    pub settings: Settings,
    /// What it does.
    pub state: ContainerStateView,
    /// How it is, where it runs and has a health check.
    pub health: Option<Health>,
    /// Whether it is held still.
    pub paused: bool,
    /// How often it was started again since it was made.
    pub restarts: u32,
    /// Why the last thing was done to it, or nothing is done.
    pub reason: String,
    /// When it is tried again.
    pub next_attempt: Option<Timestamp>,
    /// Its links, with their addresses, as it was started last.
    pub links: Vec<Attachment>,
    /// Its ports on the host; empty while it does not run.
    pub ports: Vec<Published>,
    /// The container whose network it shares.
    pub shares: Option<ContainerName>,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerStateView {
    /// Made, not started.
    Created,
    /// Runs.
    Running {
        /// The pid of its main process on the host.
        pid: i32,
        /// The pid of its shim.
        shim: i32,
        /// When it was started.
        since: Timestamp,
    },
    /// Ended.
    Exited {
        /// How.
        status: ExitStatus,
        /// How, in words.
        how: String,
        /// When.
        at: Timestamp,
    },
    /// Could not be started.
    StartFailed {
        /// Why.
        error: String,
        /// When.
        at: Timestamp,
    },
    /// Its shim is gone; it is being ended.
    Orphaned,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageView {
    /// The reference.
    pub image: ImageReference,
    /// What is here.
    pub state: ImageStateView,
}

/// The state of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageStateView {
    /// Here and whole.
    Present {
        /// The manifest's digest.
        digest: Digest,
        /// Bytes of its layers as they came.
        bytes: u64,
    },
    /// Being pulled.
    Pulling {
        /// Bytes that arrived.
        done: u64,
        /// Bytes in all, once the manifest is known.
        total: Option<u64>,
        /// Since when.
        since: Timestamp,
        /// Its layers, lowest first, once known.
        layers: Vec<LayerTransfer>,
        /// What it waits for before it goes on by itself.
        wait: Option<TransferWait>,
        /// The host that answers now.
        from: Option<String>,
    },
    /// The last pull failed.
    Failed {
        /// Why.
        error: String,
        /// How many attempts so far.
        attempts: u32,
        /// When it is tried again.
        next_attempt: Option<Timestamp>,
    },
}

/// An action under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepView {
    /// `pull`, `create`, `start`, `stop`, `remove`, `make network`, …
    pub verb: &'static str,
    /// What it is about, in words.
    pub what: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// Something that is not yet as it should be, and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitView {
    /// What waits, in words.
    pub what: String,
    /// For what.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// When it is looked at again by itself.
    pub until: Option<Timestamp>,
}

/// Something that happened, for `/events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Counts from the daemon's start.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What kind: `file.applied`, `file.refused`, `image.pulling`, `image.pulled`, `image.moved`,
    /// `image.removed`, `image.failed`, `disk.problem`, `container.created`, `container.started`,
    /// `hook.failed`, `container.updated`, `container.connected`, `container.healthy`, `container.unhealthy`, `container.exited`,
    /// `container.stopped`, `container.paused`, `container.unpaused`, `container.removed`, `container.failed`,
    /// `service.stopped`, `service.started`, `service.restarted`, `service.scaled`, `service.killed`,
    /// `service.paused`, `service.unpaused`, `service.released`,
    /// `network.made`, `network.removed`, `network.failed`, `firewall.restored`, `firewall.failed`, `folder.held`, `folder.followed`,
    /// `generation.good`, `generation.failed`, `generation.rolled_back`, `generation.set_aside`, `generation.resumed`, `update.taken`,
    /// `update.failed`, `daemon.adopted`, `job.scheduled`, `job.due`, `job.queued`, `job.left`, `job.stopped`, `job.done`, `job.failed`,
    /// `job.adopted`.
    pub kind: &'static str,
    /// What it is about.
    pub what: String,
    /// One sentence.
    pub message: String,
    /// Where in the files, for file events.
    pub location: Option<Location>,
}
