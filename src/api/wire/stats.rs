//! What containers use, and their processes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// What containers use, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// When it was read.
    pub at: Time,
    /// The containers that run.
    pub containers: Vec<ContainerUsage>,
}

/// What one container uses. What this machine does not tell is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerUsage {
    /// Its id.
    pub id: String,
    /// Its name.
    pub container: String,
    /// Its project.
    pub project: String,
    /// Its service.
    pub service: String,
    /// How long its main process has been there, in microseconds.
    pub uptime_us: u64,
    /// CPU time.
    pub cpu: Option<CpuUsage>,
    /// Memory.
    pub memory: Option<MemoryUsage>,
    /// Processes and threads.
    pub pids: Option<PidUsage>,
    /// Block devices.
    pub block: Option<BlockUsage>,
    /// The network; null for one on the host's network.
    pub network: Option<NetworkUsage>,
    /// How long it waited for want of something; cgroup v2 only.
    pub pressure: Option<PressureUsage>,
}

/// CPU time since the container was started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuUsage {
    /// In all, in nanoseconds.
    pub usage_ns: u64,
    /// In programs.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// Periods in which a quota was in force.
    pub periods: u64,
    /// Periods in which it was used up.
    pub throttled_periods: u64,
    /// How long it had to wait for the next period, in nanoseconds.
    pub throttled_ns: u64,
    /// Per cent of one processor since the last record of this stream; null in the first one.
    pub percent: Option<f64>,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryUsage {
    /// Bytes, without files that could be given up at once.
    pub used_bytes: u64,
    /// Bytes of files that could be given up at once.
    pub inactive_file_bytes: u64,
    /// At most; null where nothing limits it.
    pub limit_bytes: Option<u64>,
    /// Per cent of the limit, or of this machine's memory.
    pub percent: f64,
    /// Bytes that were swapped out.
    pub swap_bytes: u64,
    /// How many of its processes the kernel killed for want of memory.
    pub oom_kills: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PidUsage {
    /// Now, zombies included.
    pub current: u64,
    /// At most; null where nothing limits it.
    pub limit: Option<u64>,
}

/// All block devices together, since the container was started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlockUsage {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}

/// All interfaces together but loopback, since the container was started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkUsage {
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Packets sent.
    pub sent_packets: u64,
}

/// Waiting, by what was missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PressureUsage {
    /// CPU time.
    pub cpu: StallUsage,
    /// Memory.
    pub memory: StallUsage,
    /// Block devices.
    pub io: StallUsage,
}

/// How much of the time something waited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StallUsage {
    /// Per cent of the last ten seconds in which some of it waited.
    pub some_avg10: f64,
    /// Of the last minute.
    pub some_avg60: f64,
    /// In all, in microseconds.
    pub some_total_us: u64,
    /// Per cent of the last ten seconds in which all of it waited.
    pub full_avg10: f64,
    /// Of the last minute.
    pub full_avg60: f64,
    /// In all, in microseconds.
    pub full_total_us: u64,
}

/// One process of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// The name of the container.
    pub container: String,
    /// Its pid on the host.
    pub pid: i32,
    /// Its pid in the container.
    pub inner_pid: i32,
    /// Its user, as the container counts users.
    pub uid: u32,
    /// `R` runs, `S` sleeps, `D` waits for a device, `T` is stopped, `Z` is a zombie, …
    pub state: String,
    /// How many threads it has.
    pub threads: u32,
    /// CPU time since it was started, in milliseconds.
    pub cpu_ms: u64,
    /// Per cent of one processor, on average since it was started.
    pub cpu_percent: f64,
    /// Bytes of memory that are in place.
    pub resident_bytes: u64,
    /// How long it has been there, in milliseconds.
    pub age_ms: u64,
    /// What it was started as; its name in brackets where it does not say.
    pub command: String,
}
