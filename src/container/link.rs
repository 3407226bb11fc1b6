//! What the daemon and the shim tell each other: the order in the shim's arguments, the report on its standard output, and the
//! records in the container's folder.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::given_files::FileOrder;
use super::given_mounts::MountOrder;
use super::machine::Machine;
use crate::model::{ExitStatus, ProcessId, Timestamp};
use crate::rootfs::IdRange;

/// The record that a container was started; there from just before its command runs until the next start.
pub const START: &str = "start";
/// The record of how it ended, written by the follower.
pub const EXIT: &str = "exit";
/// The exit record in the making; it has its final length from the start.
pub const EXIT_DRAFT: &str = ".exit";
/// The length of the exit record.
pub const EXIT_LEN: usize = 512;
/// The record that the last start failed.
pub const FAILED: &str = "failed";
/// What the container was made from.
pub const CONTAINER: &str = "container.json";
/// What it was joined to at its last start: the lease of its addresses.
pub const NETWORK: &str = "network.json";
/// The folder of the log files.
pub const LOGS: &str = "logs";

/// What a shim is told, as one JSON argument.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The container's folder in the data directory.
    pub folder: PathBuf,
    /// Where devices are refused to it; none where nothing does.
    pub device_cgroup: Option<DeviceCgroup>,
    /// Where compiled seccomp programs are kept.
    pub seccomp: PathBuf,
    /// Where CDI files are looked for.
    pub cdi_dirs: Vec<PathBuf>,
    /// Whether the runtime refuses the devices that are not meant for containers. Where nothing does, none can be made
    /// (`CAP_MKNOD` is left out) and none of the image can be opened (its root is mounted with `nodev`).
    pub device_guard: bool,
    /// The capabilities that a file adds to and drops from, as a bit mask.
    pub default_capabilities: u64,
    /// `no_new_privs` for containers whose file does not say.
    pub no_new_privileges: bool,
    /// Its folder in the run directory.
    pub run: PathBuf,
    /// Its cgroup, absolute within each hierarchy.
    pub cgroup: PathBuf,
    /// The ids of its own users; none: the host's.
    pub ids: Option<IdsRecord>,
    /// What it is given of networks beside [`NETWORK`]; none where it is only entered.
    #[serde(default)]
    pub network: NetworkOrder,
    /// What it is given of volumes and of the host.
    #[serde(default)]
    pub mounts: Vec<MountOrder>,
    /// The configs and secrets that it is given; what they hold comes on standard input, in this order.
    #[serde(default)]
    pub files: Vec<FileOrder>,
    /// A cgroup that the shim goes to when it is done, so that it does not belong to the daemon's unit.
    pub shims: Option<PathBuf>,
    /// The controllers of this machine.
    pub machine: Machine,
    /// Where the oom counter of that cgroup will be.
    pub oom_counter: PathBuf,
    /// `None`: the embedded runtime.
    pub runtime: Option<PathBuf>,
    /// The follower as a file, for containers that ask for an init.
    pub init: PathBuf,
    /// A log file is rotated before it grows beyond this.
    pub log_bytes: u64,
    /// So many log files are kept.
    pub log_files: u64,
    /// This boot.
    pub boot_id: String,
}

/// What a container is given of networks, beside what [`NETWORK`] says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkOrder {
    /// Whether a resolver of ours answers it at 127.0.0.11.
    pub resolver: bool,
    /// What `host-gateway` stands for in `extra_hosts`; none: it does not reach the host.
    pub host_gateway: Option<IpAddr>,
    /// The `etc` of the container whose network it shares.
    pub etc: Option<PathBuf>,
    /// Who keeps the ports of its slot on the host until now.
    #[serde(default)]
    pub keepers: Vec<ProcessRecord>,
}

/// An [`IdRange`] in an order.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct IdsRecord {
    uid: u32,
    gid: u32,
    size: u32,
}

impl From<IdRange> for IdsRecord {
    fn from(IdRange { uid, gid, size }: IdRange) -> Self {
        Self { uid, gid, size }
    }
}

impl From<IdsRecord> for IdRange {
    fn from(IdsRecord { uid, gid, size }: IdsRecord) -> Self {
        Self { uid, gid, size }
    }
}

/// What a container was given when it was started, beside its configuration: for who enters it later, whatever the defaults are by
/// then.
pub const GIVEN: &str = "given.json";

/// [`GIVEN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenRecord {
    /// Its capabilities, as a bit mask.
    pub capabilities: u64,
    /// `no_new_privs`.
    pub no_new_privileges: bool,
}

/// The cgroup of a container that knows about devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCgroup {
    /// Its folder.
    pub folder: PathBuf,
    /// Whether it is of version 2, where a program decides.
    pub unified: bool,
}

/// What a shim answers, as one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The command runs, the start record is written.
    Started(StartRecord),
    /// It does not run; nothing of it is left but its cgroup.
    Failed(String),
}

/// A process in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    pid: i32,
    ticks: u64,
}

impl From<ProcessId> for ProcessRecord {
    fn from(id: ProcessId) -> Self {
        Self { pid: id.pid, ticks: id.start_ticks }
    }
}

impl From<ProcessRecord> for ProcessId {
    fn from(record: ProcessRecord) -> Self {
        Self { pid: record.pid, start_ticks: record.ticks }
    }
}

/// [`START`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    /// 1.
    pub v: u32,
    /// The shim (then the follower: it keeps the process).
    pub shim: ProcessRecord,
    /// The container's init.
    pub init: ProcessRecord,
    /// The boot these numbers belong to.
    pub boot_id: String,
    /// When.
    pub started_ns: u64,
}

impl StartRecord {
    /// When it was started.
    #[must_use]
    pub const fn started(&self) -> Timestamp {
        Timestamp::from_millis(self.started_ns / 1_000_000)
    }
}

/// [`EXIT`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    v: u32,
    #[serde(default)]
    code: Option<u8>,
    #[serde(default)]
    signal: Option<u8>,
    oom: bool,
    at_ns: u64,
    /// Which start it belongs to.
    pub started_ns: u64,
    boot_id: String,
}

impl ExitRecord {
    /// How the container ended. The kernel's OOM killer uses SIGKILL; a shell that loses its child to it returns 137.
    #[must_use]
    pub fn status(&self) -> ExitStatus {
        match (self.code, self.signal) {
            (Some(137), _) | (None, Some(9)) if self.oom => ExitStatus::OomKilled,
            (Some(code), _) if self.oom => ExitStatus::AfterOom(code),
            (Some(code), _) => ExitStatus::Code(code),
            (None, Some(signal)) => ExitStatus::Signal(signal),
            (None, None) => ExitStatus::ShimLost,
        }
    }
    /// When.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.at_ns / 1_000_000)
    }
}

/// [`FAILED`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRecord {
    /// 1.
    pub v: u32,
    /// What failed.
    pub error: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}
