//! What a container may use. All of it can change while the container runs.

/// Limits and weights. The default limits nothing but the number of processes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// `mem_limit`, `deploy.resources.limits.memory`, in bytes.
    pub memory: Option<u64>,
    /// `memswap_limit`: memory and swap together.
    pub memory_and_swap: Option<Ceiling>,
    /// `mem_reservation`, `deploy.resources.reservations.memory`: kept from reclaim below this, in bytes.
    pub memory_reservation: Option<u64>,
    /// `mem_swappiness`, 0 to 100.
    pub swappiness: Option<u8>,
    /// `oom_kill_disable`.
    pub oom_kill_disable: bool,
    /// `cpus`, `deploy.resources.limits.cpus`, or `cpu_quota` and `cpu_period`.
    pub cpu: Option<CpuQuota>,
    /// `cpu_shares`, 2 to 262144; 1024 is usual.
    pub cpu_shares: Option<u64>,
    /// `cpu_rt_period` in microseconds.
    pub realtime_period_us: Option<u64>,
    /// `cpu_rt_runtime` in microseconds.
    pub realtime_runtime_us: Option<u64>,
    /// `cpuset`: `0-3,5`.
    pub cpuset: Option<String>,
    /// `pids_limit`, `deploy.resources.limits.pids`; `None`: 4096.
    pub pids: Option<Ceiling>,
    /// `blkio_config`.
    pub block: BlockIo,
}

/// A number, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ceiling {
    /// At most so many.
    At(u64),
    /// `-1`.
    Unlimited,
}

/// So much CPU time in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuQuota {
    /// Microseconds in each period.
    pub quota_us: u64,
    /// Microseconds; 100,000 is usual.
    pub period_us: u64,
}

/// `blkio_config`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockIo {
    /// `weight`, 10 to 1000.
    pub weight: Option<u16>,
    /// `weight_device`.
    pub device_weights: Vec<(String, u16)>,
    /// `device_read_bps`, by the device's path.
    pub read_bytes: Vec<(String, u64)>,
    /// `device_write_bps`.
    pub write_bytes: Vec<(String, u64)>,
    /// `device_read_iops`.
    pub read_operations: Vec<(String, u64)>,
    /// `device_write_iops`.
    pub write_operations: Vec<(String, u64)>,
}

/// What a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ability {
    /// AppArmor profiles.
    AppArmor,
    /// SELinux labels.
    SeLinux,
    /// User namespaces, with a range of ids for containers.
    UserNamespace,
    /// The memory controller.
    Memory,
    /// Limits of swap.
    Swap,
    /// A swappiness for each cgroup (v1 only).
    Swappiness,
    /// Switching the OOM killer off (v1 only).
    OomKillDisable,
    /// The CPU controller with quotas.
    Cpu,
    /// Real-time CPU time for each cgroup (v1 only).
    RealTime,
    /// The cpuset controller.
    Cpuset,
    /// The pids controller.
    Pids,
    /// Weights of block I/O.
    BlockWeight,
    /// Limits of block I/O.
    BlockLimit,
    /// A quota for the writable layer (a data directory on xfs with `pquota`).
    RootQuota,
    /// Networks of its own making: bridges, and packet filter rules by `nft`.
    Networks,
    /// IPv6.
    Ipv6,
}

impl Ability {
    /// Whether a service that asks for it must not run without it: it asked for protection, not for comfort.
    #[must_use]
    pub const fn protects(self) -> bool {
        match self {
            Self::AppArmor
            | Self::SeLinux
            | Self::UserNamespace
            | Self::Memory
            | Self::Cpu
            | Self::RealTime
            | Self::Cpuset
            | Self::Pids
            | Self::BlockLimit
            | Self::RootQuota
            | Self::Networks
            | Self::Ipv6 => true,
            Self::Swap | Self::Swappiness | Self::OomKillDisable | Self::BlockWeight => false,
        }
    }
}

/// `64 MiB`, `48.5 MiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| bytes >= *size) {
        Some((name, size)) if bytes.is_multiple_of(size) => format!("{} {name}", bytes / size),
        Some((name, size)) => format!("{}.{} {name}", bytes / size, bytes % size * 10 / size),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;
    use crate::model::ExitStatus;

    #[test]
    fn sizes_are_said_in_round_units() {
        assert_eq!([512, 1 << 10, 64 << 20, 3 << 30].map(bytes), ["512 B", "1 KiB", "64 MiB", "3 GiB"]);
        assert_eq!(bytes((48 << 20) + (512 << 10)), "48.5 MiB");
    }

    #[test]
    fn want_of_memory_is_said_with_the_limit() {
        let told = |status: ExitStatus| status.told(Some(64 << 20));
        assert_eq!(told(ExitStatus::OomKilled), "out of memory: killed by the kernel (137, limit 64 MiB)");
        assert_eq!(
            told(ExitStatus::AfterOom(3)),
            "exit code 3, after the kernel had killed a process of it: out of memory (limit 64 MiB)"
        );
        assert_eq!(told(ExitStatus::Code(3)), "exit code 3");
        assert_eq!(ExitStatus::OomKilled.told(None), "out of memory: killed by the kernel (137)");
    }
}
