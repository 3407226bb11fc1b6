//! What each container uses, in metrics. The samples are as many as the containers that run.

use super::{Kind, Metric, Sample, wide};
use crate::api::wire::{ContainerUsage, StallUsage};

/// One metric: how it is named, and where its number is.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    value: fn(&ContainerUsage) -> Option<f64>,
}

/// Nanoseconds as seconds.
fn seconds(ns: u64) -> f64 {
    wide(ns) / 1e9
}

const FAMILIES: &[Family] = &[
    Family {
        name: "container_cpu_seconds",
        help: "CPU time of a container since it was started",
        kind: Kind::Counter,
        value: |c| c.cpu.as_ref().map(|cpu| seconds(cpu.usage_ns)),
    },
    Family {
        name: "container_cpu_throttled_seconds",
        help: "How long a container had to wait because its CPU quota was used up",
        kind: Kind::Counter,
        value: |c| c.cpu.as_ref().map(|cpu| seconds(cpu.throttled_ns)),
    },
    Family {
        name: "container_memory_bytes",
        help: "Memory of a container, without files that could be given up at once",
        kind: Kind::Gauge,
        value: |c| c.memory.as_ref().map(|memory| wide(memory.used_bytes)),
    },
    Family {
        name: "container_memory_limit_bytes",
        help: "The limit of a container's memory, where there is one",
        kind: Kind::Gauge,
        value: |c| c.memory.as_ref().and_then(|memory| memory.limit_bytes).map(wide),
    },
    Family {
        name: "container_swap_bytes",
        help: "Memory of a container that was swapped out",
        kind: Kind::Gauge,
        value: |c| c.memory.as_ref().map(|memory| wide(memory.swap_bytes)),
    },
    Family {
        name: "container_oom_kills",
        help: "Processes of a container that the kernel killed for want of memory, since it was started",
        kind: Kind::Counter,
        value: |c| c.memory.as_ref().map(|memory| wide(memory.oom_kills)),
    },
    Family {
        name: "container_processes",
        help: "Processes and threads of a container",
        kind: Kind::Gauge,
        value: |c| c.pids.as_ref().map(|pids| wide(pids.current)),
    },
    Family {
        name: "container_processes_limit",
        help: "The limit of a container's processes and threads, where there is one",
        kind: Kind::Gauge,
        value: |c| c.pids.as_ref().and_then(|pids| pids.limit).map(wide),
    },
    Family {
        name: "container_block_read_bytes",
        help: "Bytes that a container read from block devices since it was started",
        kind: Kind::Counter,
        value: |c| c.block.as_ref().map(|block| wide(block.read_bytes)),
    },
    Family {
        name: "container_block_written_bytes",
        help: "Bytes that a container wrote to block devices since it was started",
        kind: Kind::Counter,
        value: |c| c.block.as_ref().map(|block| wide(block.written_bytes)),
    },
    Family {
        name: "container_network_received_bytes",
        help: "Bytes that a container received since it was started",
        kind: Kind::Counter,
        value: |c| c.network.as_ref().map(|network| wide(network.received_bytes)),
    },
    Family {
        name: "container_network_sent_bytes",
        help: "Bytes that a container sent since it was started",
        kind: Kind::Counter,
        value: |c| c.network.as_ref().map(|network| wide(network.sent_bytes)),
    },
];

/// All of them, and the pressure (cgroup v2 only).
pub(super) fn of_usage(all: &[ContainerUsage]) -> Vec<Metric> {
    let family = |family: &Family| {
        let samples = all.iter().filter_map(|one| Some((labels(one), (family.value)(one)?))).collect();
        Metric { name: family.name, help: family.help, kind: family.kind, samples }
    };
    let mut metrics: Vec<Metric> = FAMILIES.iter().map(family).collect();
    metrics.push(Metric {
        name: "container_pressure_seconds",
        help: "How long a container waited for want of something since it was started, while some or all (full) of it waited",
        kind: Kind::Counter,
        samples: all.iter().flat_map(pressure).collect(),
    });
    metrics
}

fn labels(one: &ContainerUsage) -> Vec<(&'static str, String)> {
    vec![("project", one.project.clone()), ("service", one.service.clone()), ("container", one.container.clone())]
}

fn pressure(one: &ContainerUsage) -> Vec<Sample> {
    let Some(pressure) = &one.pressure else { return Vec::new() };
    let sample = |resource: &str, waited: &str, total_us: u64| {
        let mut labels = labels(one);
        labels.extend([("resource", resource.to_owned()), ("waited", waited.to_owned())]);
        (labels, wide(total_us) / 1e6)
    };
    let both = |(resource, stall): (&str, &StallUsage)| {
        [sample(resource, "some", stall.some_total_us), sample(resource, "full", stall.full_total_us)]
    };
    [("cpu", &pressure.cpu), ("memory", &pressure.memory), ("io", &pressure.io)].into_iter().flat_map(both).collect()
}
