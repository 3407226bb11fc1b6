//! What containers use, from the machine to the API.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::api::wire::{
    BlockUsage, ContainerUsage, CpuUsage, MemoryUsage, NetworkUsage, PidUsage, PressureUsage, Process, StallUsage,
};
use crate::api::{Numbers, Signals};
use crate::container::stats::{Memory, Stall, Stats};
use crate::container::top::Row;
use crate::host::LinuxHost;
use crate::model::{ContainerId, ContainerSpec, Signal, sentence};

/// Reads the numbers where the host has them.
pub(super) struct Machine {
    host: Arc<LinuxHost>,
    memory: u64,
}

impl Machine {
    pub(super) fn new(host: Arc<LinuxHost>) -> Self {
        Self { host, memory: total_memory() }
    }
}

impl Numbers for Machine {
    fn usage(&self, ids: Vec<ContainerId>) -> BoxFuture<'static, Vec<ContainerUsage>> {
        let (host, memory) = (Arc::clone(&self.host), self.memory);
        let read = tokio::task::spawn_blocking(move || {
            host.stats(&ids).into_iter().map(|(spec, stats)| usage(&spec, &stats, memory)).collect()
        });
        // It fails only where the daemon ends meanwhile.
        read.map(Result::unwrap_or_default).boxed()
    }

    fn processes(&self, ids: Vec<ContainerId>) -> BoxFuture<'static, Vec<Process>> {
        let host = Arc::clone(&self.host);
        let read = tokio::task::spawn_blocking(move || {
            let each = |(spec, rows): (ContainerSpec, Vec<Row>)| {
                rows.into_iter().map(move |row| process(spec.name.as_str(), row)).collect::<Vec<_>>()
            };
            host.top(&ids).into_iter().flat_map(each).collect()
        });
        read.map(Result::unwrap_or_default).boxed()
    }
}

impl Signals for Machine {
    fn send(&self, id: ContainerId, signal: Signal) -> BoxFuture<'static, Result<(), String>> {
        let host = Arc::clone(&self.host);
        async move { host.signal(&id, signal).await.map_err(|error| sentence(&error)) }.boxed()
    }
}

fn total_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(info.mem_unit.into())
}

fn usage(spec: &ContainerSpec, stats: &Stats, machine: u64) -> ContainerUsage {
    ContainerUsage {
        id: spec.id.to_string(),
        container: spec.name.to_string(),
        project: spec.slot.project.to_string(),
        service: spec.slot.service.to_string(),
        uptime_us: stats.uptime_us,
        cpu: stats.cpu.map(|cpu| CpuUsage {
            usage_ns: cpu.usage_ns,
            user_ns: cpu.user_ns,
            system_ns: cpu.system_ns,
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_ns: cpu.throttled_ns,
            percent: None,
        }),
        memory: stats.memory.map(|memory| memory_usage(&memory, machine)),
        pids: stats.pids.map(|pids| PidUsage { current: pids.current, limit: pids.limit }),
        block: stats.block.map(|block| BlockUsage {
            read_bytes: block.read_bytes,
            written_bytes: block.written_bytes,
            reads: block.reads,
            writes: block.writes,
        }),
        network: stats.network.map(|network| NetworkUsage {
            received_bytes: network.received_bytes,
            sent_bytes: network.sent_bytes,
            received_packets: network.received_packets,
            sent_packets: network.sent_packets,
        }),
        pressure: stats.pressure.map(|pressure| PressureUsage {
            cpu: stall(pressure.cpu),
            memory: stall(pressure.memory),
            io: stall(pressure.io),
        }),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of more than 2^53 bytes may be off by a hair")]
fn memory_usage(memory: &Memory, machine: u64) -> MemoryUsage {
    let limit = memory.limit.unwrap_or(machine).min(machine).max(1);
    MemoryUsage {
        used_bytes: memory.used(),
        inactive_file_bytes: memory.inactive_file,
        limit_bytes: memory.limit,
        percent: memory.used() as f64 * 100.0 / limit as f64,
        swap_bytes: memory.swap,
        oom_kills: memory.oom_kills,
    }
}

fn stall(stall: Stall) -> StallUsage {
    StallUsage {
        some_avg10: stall.some.avg10,
        some_avg60: stall.some.avg60,
        some_total_us: stall.some.total_us,
        full_avg10: stall.full.avg10,
        full_avg60: stall.full.avg60,
        full_total_us: stall.full.total_us,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of the time may be off by a hair")]
fn process(container: &str, row: Row) -> Process {
    Process {
        container: container.to_owned(),
        pid: row.pid,
        inner_pid: row.inner_pid,
        uid: row.uid,
        state: row.state.to_string(),
        threads: row.threads,
        cpu_ms: row.cpu_ms,
        cpu_percent: row.cpu_ms as f64 * 100_000.0 / row.age_us.max(1) as f64,
        resident_bytes: row.resident_bytes,
        age_ms: row.age_us / 1000,
        command: row.command,
    }
}
