//! `resources` of the record. What has its default is not written, and what is not written has its default.

use serde::{Deserialize, Serialize};

use super::isolation::is_default;
use crate::model::{BlockIo, Ceiling, CpuQuota, Resources};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ResourcesRecord {
    #[serde(skip_serializing_if = "is_default")]
    memory: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    memory_and_swap: Option<CeilingRecord>,
    #[serde(skip_serializing_if = "is_default")]
    memory_reservation: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    swappiness: Option<u8>,
    #[serde(skip_serializing_if = "is_default")]
    oom_kill_disable: bool,
    /// Quota and period in microseconds.
    #[serde(skip_serializing_if = "is_default")]
    cpu: Option<(u64, u64)>,
    #[serde(skip_serializing_if = "is_default")]
    cpu_shares: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    realtime_period_us: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    realtime_runtime_us: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    cpuset: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pids: Option<CeilingRecord>,
    #[serde(skip_serializing_if = "is_default")]
    block: BlockRecord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CeilingRecord {
    At(u64),
    Unlimited,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct BlockRecord {
    #[serde(skip_serializing_if = "is_default")]
    weight: Option<u16>,
    #[serde(skip_serializing_if = "is_default")]
    device_weights: Vec<(String, u16)>,
    #[serde(skip_serializing_if = "is_default")]
    read_bytes: Vec<(String, u64)>,
    #[serde(skip_serializing_if = "is_default")]
    write_bytes: Vec<(String, u64)>,
    #[serde(skip_serializing_if = "is_default")]
    read_operations: Vec<(String, u64)>,
    #[serde(skip_serializing_if = "is_default")]
    write_operations: Vec<(String, u64)>,
}

impl From<Ceiling> for CeilingRecord {
    fn from(ceiling: Ceiling) -> Self {
        match ceiling {
            Ceiling::At(most) => Self::At(most),
            Ceiling::Unlimited => Self::Unlimited,
        }
    }
}

impl From<CeilingRecord> for Ceiling {
    fn from(ceiling: CeilingRecord) -> Self {
        match ceiling {
            CeilingRecord::At(most) => Self::At(most),
            CeilingRecord::Unlimited => Self::Unlimited,
        }
    }
}

impl From<&Resources> for ResourcesRecord {
    fn from(resources: &Resources) -> Self {
        let BlockIo { weight, device_weights, read_bytes, write_bytes, read_operations, write_operations } =
            resources.block.clone();
        Self {
            memory: resources.memory,
            memory_and_swap: resources.memory_and_swap.map(Into::into),
            memory_reservation: resources.memory_reservation,
            swappiness: resources.swappiness,
            oom_kill_disable: resources.oom_kill_disable,
            cpu: resources.cpu.map(|cpu| (cpu.quota_us, cpu.period_us)),
            cpu_shares: resources.cpu_shares,
            realtime_period_us: resources.realtime_period_us,
            realtime_runtime_us: resources.realtime_runtime_us,
            cpuset: resources.cpuset.clone(),
            pids: resources.pids.map(Into::into),
            block: BlockRecord { weight, device_weights, read_bytes, write_bytes, read_operations, write_operations },
        }
    }
}

impl From<&ResourcesRecord> for Resources {
    fn from(record: &ResourcesRecord) -> Self {
        let BlockRecord { weight, device_weights, read_bytes, write_bytes, read_operations, write_operations } =
            record.block.clone();
        Self {
            memory: record.memory,
            memory_and_swap: record.memory_and_swap.map(Into::into),
            memory_reservation: record.memory_reservation,
            swappiness: record.swappiness,
            oom_kill_disable: record.oom_kill_disable,
            cpu: record.cpu.map(|(quota_us, period_us)| CpuQuota { quota_us, period_us }),
            cpu_shares: record.cpu_shares,
            realtime_period_us: record.realtime_period_us,
            realtime_runtime_us: record.realtime_runtime_us,
            cpuset: record.cpuset.clone(),
            pids: record.pids.map(Into::into),
            block: BlockIo { weight, device_weights, read_bytes, write_bytes, read_operations, write_operations },
        }
    }
}
