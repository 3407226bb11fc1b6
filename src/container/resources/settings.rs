//! Each limit as a file of cgroupfs and what is written to it. Pure.

use std::collections::BTreeMap;

use super::{Blocks, PERIOD_US, PIDS, memory_and_swap};
use crate::container::machine::{Controller, Feature, Machine, Version};
use crate::model::{Ceiling, Resources};

/// What is to be written, by what it is written to.
pub type Settings = BTreeMap<Knob, String>;

/// One file of a controller, or one device's line of it. In the order in which they are written: what is refused most easily
/// comes first, so that least has to be taken back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Knob {
    /// Which controller.
    pub controller: Controller,
    /// Which file.
    pub file: &'static str,
    /// Which device, and how its value is named in the line (`rbps=` on v2).
    pub device: Option<(u64, u64, &'static str)>,
    /// The key of the Compose file that it comes from.
    pub key: &'static str,
    /// What makes it as if nobody had ever set it; `None`: what the cgroup above has.
    pub reset: Option<&'static str>,
}

impl Knob {
    /// A line for its file.
    #[must_use]
    pub fn line(&self, value: &str) -> String {
        match self.device {
            Some((major, minor, name)) => format!("{major}:{minor} {name}{value}"),
            None => value.to_owned(),
        }
    }
}

/// All that these resources ask for and this machine has.
#[must_use]
pub fn settings(resources: &Resources, machine: &Machine, blocks: &Blocks) -> Settings {
    let mut all = Settings::new();
    let mut set = |controller, file, key, reset, value: Option<String>| {
        if let Some(value) = value {
            all.insert(Knob { controller, file, device: None, key, reset }, value);
        }
    };
    let version = |controller| machine.controller(controller).map(|(version, _)| version);
    match version(Controller::Memory) {
        Some(Version::One) => memory_one(resources, machine, &mut set),
        Some(Version::Two) => memory_two(resources, machine, &mut set),
        None => {}
    }
    match version(Controller::Cpu) {
        Some(Version::One) => cpu_one(resources, machine, &mut set),
        Some(Version::Two) => cpu_two(resources, machine, &mut set),
        None => {}
    }
    if version(Controller::Cpuset).is_some() {
        // Of neither version may it be emptied while somebody is in there.
        set(Controller::Cpuset, "cpuset.cpus", "cpuset", None, resources.cpuset.clone());
    }
    if version(Controller::Pids).is_some() {
        let most = resources.pids.unwrap_or(Ceiling::At(PIDS));
        set(Controller::Pids, "pids.max", "pids_limit", None, Some(ceiling(most, "max")));
    }
    if let Some(version) = version(Controller::Block) {
        block(resources, machine, blocks, version, &mut all);
    }
    all
}

type Set<'a> = dyn FnMut(Controller, &'static str, &'static str, Option<&'static str>, Option<String>) + 'a;

fn memory_one(resources: &Resources, machine: &Machine, set: &mut Set<'_>) {
    let text = |value: Option<u64>| value.map(|v| v.to_string());
    let total = memory_and_swap(resources).filter(|_| machine.offers(Feature::Swap));
    let memory = Controller::Memory;
    set(memory, "memory.limit_in_bytes", "mem_limit", Some("-1"), text(resources.memory));
    set(memory, "memory.memsw.limit_in_bytes", "memswap_limit", Some("-1"), total.map(|t| ceiling(t, "-1")));
    set(memory, "memory.soft_limit_in_bytes", "mem_reservation", Some("-1"), text(resources.memory_reservation));
    let swappiness = resources.swappiness.filter(|_| machine.offers(Feature::Swappiness));
    set(memory, "memory.swappiness", "mem_swappiness", None, swappiness.map(|s| s.to_string()));
    let no_killer = resources.oom_kill_disable && machine.offers(Feature::OomKillDisable);
    set(memory, "memory.oom_control", "oom_kill_disable", Some("0"), no_killer.then(|| "1".to_owned()));
}

/// Swap is counted by itself.
fn memory_two(resources: &Resources, machine: &Machine, set: &mut Set<'_>) {
    let swap = match (resources.memory, memory_and_swap(resources)) {
        (Some(memory), Some(Ceiling::At(total))) => Some(total.saturating_sub(memory).to_string()),
        (_, Some(Ceiling::Unlimited)) => Some("max".to_owned()),
        _ => None,
    };
    let memory = Controller::Memory;
    set(memory, "memory.max", "mem_limit", Some("max"), resources.memory.map(|m| m.to_string()));
    set(memory, "memory.swap.max", "memswap_limit", Some("max"), swap.filter(|_| machine.offers(Feature::Swap)));
    let reservation = resources.memory_reservation.map(|m| m.to_string());
    set(memory, "memory.low", "mem_reservation", Some("0"), reservation);
}

fn cpu_one(resources: &Resources, machine: &Machine, set: &mut Set<'_>) {
    let text = |value: Option<u64>| value.map(|v| v.to_string());
    let (quota, cpu) = (resources.cpu.filter(|_| machine.offers(Feature::CpuQuota)), Controller::Cpu);
    set(cpu, "cpu.cfs_period_us", "cpus", Some("100000"), text(quota.map(|q| q.period_us)));
    set(cpu, "cpu.cfs_quota_us", "cpus", Some("-1"), text(quota.map(|q| q.quota_us)));
    set(cpu, "cpu.shares", "cpu_shares", Some("1024"), text(resources.cpu_shares));
    if machine.offers(Feature::RealTime) {
        set(cpu, "cpu.rt_period_us", "cpu_rt_period", Some("1000000"), text(resources.realtime_period_us));
        set(cpu, "cpu.rt_runtime_us", "cpu_rt_runtime", Some("0"), text(resources.realtime_runtime_us));
    }
}

fn cpu_two(resources: &Resources, machine: &Machine, set: &mut Set<'_>) {
    let quota = resources.cpu.filter(|_| machine.offers(Feature::CpuQuota));
    let quota = quota.map(|q| format!("{} {}", q.quota_us, q.period_us));
    debug_assert_eq!(PERIOD_US, 100_000, "the reset below");
    set(Controller::Cpu, "cpu.max", "cpus", Some("max 100000"), quota);
    let weight = resources.cpu_shares.map(|shares| weight_of(shares).to_string());
    set(Controller::Cpu, "cpu.weight", "cpu_shares", Some("100"), weight);
}

/// As runc (1.3.2) and crun have it: 2, 1024 and 262144 shares are weights 1, 100 and 10000, on a curve through them.
fn weight_of(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            // Far below 2^52, so exact.
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
        }
    }
}

fn block(resources: &Resources, machine: &Machine, blocks: &Blocks, version: Version, all: &mut Settings) {
    let (block, controller) = (&resources.block, Controller::Block);
    let bfq = machine.offers(Feature::BfqWeight);
    if bfq || machine.offers(Feature::Weight) {
        let (file, devices, reset) = match (version, bfq) {
            (Version::One, true) => ("blkio.bfq.weight", "blkio.bfq.weight_device", "100"),
            (Version::One, false) => ("blkio.weight", "blkio.weight_device", "500"),
            (Version::Two, true) => ("io.bfq.weight", "io.bfq.weight", "default 100"),
            (Version::Two, false) => ("io.weight", "io.weight", "default 100"),
        };
        // io.weight goes from 1 to 10000; as runc has it.
        let scaled = |weight: u16| match (version, bfq) {
            (Version::Two, false) => 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990,
            _ => u64::from(weight),
        };
        if let Some(weight) = block.weight {
            let knob = Knob { controller, file, device: None, key: "blkio_config.weight", reset: Some(reset) };
            all.insert(knob, scaled(weight).to_string());
        }
        for (path, weight) in &block.device_weights {
            if let Some((major, minor)) = blocks.get(path) {
                let (device, key) = (Some((major, minor, "")), "blkio_config.weight_device");
                let knob = Knob { controller, file: devices, device, key, reset: Some("default") };
                all.insert(knob, scaled(*weight).to_string());
            }
        }
    }
    if !machine.offers(Feature::BlockLimit) {
        return;
    }
    let rates = [
        (&block.read_bytes, "blkio.throttle.read_bps_device", "rbps=", "blkio_config.device_read_bps"),
        (&block.write_bytes, "blkio.throttle.write_bps_device", "wbps=", "blkio_config.device_write_bps"),
        (&block.read_operations, "blkio.throttle.read_iops_device", "riops=", "blkio_config.device_read_iops"),
        (&block.write_operations, "blkio.throttle.write_iops_device", "wiops=", "blkio_config.device_write_iops"),
    ];
    for (rates, one, two, key) in rates {
        let (file, name, reset) = match version {
            Version::One => (one, "", "0"),
            Version::Two => ("io.max", two, "max"),
        };
        for (path, rate) in rates {
            if let Some((major, minor)) = blocks.get(path) {
                let knob = Knob { controller, file, device: Some((major, minor, name)), key, reset: Some(reset) };
                all.insert(knob, rate.to_string());
            }
        }
    }
}

fn ceiling(ceiling: Ceiling, unlimited: &str) -> String {
    match ceiling {
        Ceiling::At(most) => most.to_string(),
        Ceiling::Unlimited => unlimited.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::machine::tests::complete;
    use crate::container::resources::tests::everything;

    fn lines(version: Version) -> String {
        let (resources, blocks) = everything();
        let all = settings(&resources, &complete(version), &blocks);
        all.iter().map(|(knob, value)| format!("{} {}\n", knob.file, knob.line(value))).collect()
    }

    #[test]
    fn every_limit_has_its_file_on_v1() {
        insta::assert_snapshot!(lines(Version::One));
    }

    #[test]
    fn every_limit_has_its_file_on_v2() {
        insta::assert_snapshot!(lines(Version::Two));
    }

    #[test]
    fn what_is_not_asked_for_is_not_written() {
        for version in [Version::One, Version::Two] {
            let all = settings(&Resources::default(), &complete(version), &Blocks::default());
            let all: Vec<_> = all.iter().map(|(knob, value)| (knob.file, value.as_str())).collect();
            assert_eq!(all, [("pids.max", "4096")]);
        }
    }

    #[test]
    fn shares_become_weights_as_elsewhere() {
        assert_eq!([0, 2, 1024, 512, 2048, 262_144, u64::MAX].map(weight_of), [1, 1, 100, 59, 174, 10_000, 10_000]);
    }
}
