//! What a container is given as it is: its resources, labels, restart policy, stop settings and pull policy. A change of them makes
//! no other container.
//!
//! Only what a container's record holds is compared: a difference that an update does not end would be one for ever.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{Blocked, Planner, WaitingOn};
use crate::model::{
    Action, BlockIo, Ceiling, ContainerSpec, CpuQuota, ObservedContainer, PullPolicy, Resources, RestartPolicy,
    Service, Signal, Slot,
};

/// Gives the container what the file says by now. It goes on with what else is to be done where there is nothing to give, or where
/// giving it failed and is tried again later: that never stands in the way of a start.
pub(super) fn update(
    planner: &mut Planner<'_>,
    slot: &Slot,
    container: &ObservedContainer,
    service: &Service,
) -> ControlFlow<(), Option<Blocked>> {
    let changed = differences(&container.spec.service, service);
    if changed.is_empty() {
        return ControlFlow::Continue(None);
    }
    let spec = Box::new(ContainerSpec { service: recorded(service), ..container.spec.clone() });
    match planner.attempt(Some(slot), Action::Update { spec }, changed.join(", ")) {
        Ok(()) => ControlFlow::Break(()),
        Err(blocked) if matches!(blocked.0, WaitingOn::Retry { .. }) => ControlFlow::Continue(Some(blocked)),
        Err(blocked) => {
            planner.wait(slot, blocked.0, blocked.1);
            ControlFlow::Break(())
        }
    }
}

/// What is only told of a service is no part of a container.
fn recorded(service: &Service) -> Service {
    Service { holds: Vec::new(), wishes: Vec::new(), loosenings: Vec::new(), ..service.clone() }
}

/// What differs, each in words with its key.
pub(super) fn differences(made: &Service, asked: &Service) -> Vec<String> {
    let mut all = Differences(Vec::new());
    all.resources(&made.resources, &asked.resources);
    all.labels(&made.labels, &asked.labels);
    all.add("restart", &made.restart, &asked.restart, restart);
    all.add("stop_signal", &made.stop.signal, &asked.stop.signal, signal);
    all.add("stop_grace_period", &made.stop.grace_ms, &asked.stop.grace_ms, |ms| format!("{ms} ms"));
    all.add("pull_policy", &made.pull, &asked.pull, pull);
    all.0
}

struct Differences(Vec<String>);

impl Differences {
    fn add<T: PartialEq>(&mut self, key: &str, made: &T, asked: &T, words: impl Fn(&T) -> String) {
        if made != asked {
            self.0.push(format!("{key} changed from {} to {}", words(made), words(asked)));
        }
    }

    fn limit<T: PartialEq>(&mut self, key: &str, made: Option<&T>, asked: Option<&T>, words: impl Fn(&T) -> String) {
        self.add(key, &made, &asked, |value| value.map_or_else(|| "none".to_owned(), &words));
    }

    fn resources(&mut self, made: &Resources, asked: &Resources) {
        let number = |n: &u64| n.to_string();
        let micros = |us: &u64| format!("{us} us");
        self.limit("mem_limit", made.memory.as_ref(), asked.memory.as_ref(), bytes);
        let swap = |ceiling: &Ceiling| ceiling_in(ceiling, bytes);
        self.limit("memswap_limit", made.memory_and_swap.as_ref(), asked.memory_and_swap.as_ref(), swap);
        let (before, after) = (made.memory_reservation.as_ref(), asked.memory_reservation.as_ref());
        self.limit("mem_reservation", before, after, bytes);
        self.limit("mem_swappiness", made.swappiness.as_ref(), asked.swappiness.as_ref(), ToString::to_string);
        self.add("oom_kill_disable", &made.oom_kill_disable, &asked.oom_kill_disable, ToString::to_string);
        self.limit("cpus", made.cpu.as_ref(), asked.cpu.as_ref(), cpus);
        self.limit("cpu_shares", made.cpu_shares.as_ref(), asked.cpu_shares.as_ref(), number);
        let (before, after) = (made.realtime_period_us.as_ref(), asked.realtime_period_us.as_ref());
        self.limit("cpu_rt_period", before, after, micros);
        let (before, after) = (made.realtime_runtime_us.as_ref(), asked.realtime_runtime_us.as_ref());
        self.limit("cpu_rt_runtime", before, after, micros);
        self.limit("cpuset", made.cpuset.as_ref(), asked.cpuset.as_ref(), String::clone);
        let pids = |ceiling: &Ceiling| ceiling_in(ceiling, number);
        self.limit("pids_limit", made.pids.as_ref(), asked.pids.as_ref(), pids);
        self.block(&made.block, &asked.block);
    }

    fn block(&mut self, made: &BlockIo, asked: &BlockIo) {
        self.limit("blkio_config.weight", made.weight.as_ref(), asked.weight.as_ref(), ToString::to_string);
        self.add("blkio_config.weight_device", &made.device_weights, &asked.device_weights, |d| devices(d));
        self.add("blkio_config.device_read_bps", &made.read_bytes, &asked.read_bytes, |d| devices(d));
        self.add("blkio_config.device_write_bps", &made.write_bytes, &asked.write_bytes, |d| devices(d));
        self.add("blkio_config.device_read_iops", &made.read_operations, &asked.read_operations, |d| devices(d));
        self.add("blkio_config.device_write_iops", &made.write_operations, &asked.write_operations, |d| devices(d));
    }

    /// By their names: a value may be long, or a secret.
    fn labels(&mut self, made: &BTreeMap<String, String>, asked: &BTreeMap<String, String>) {
        let gone = made.keys().filter(|name| !asked.contains_key(*name)).map(|name| format!("label {name} removed"));
        self.0.extend(gone);
        for (name, value) in asked {
            match made.get(name) {
                None => self.0.push(format!("label {name} added")),
                Some(before) if before != value => self.0.push(format!("label {name} changed")),
                Some(_) => {}
            }
        }
    }
}

/// `128 MiB`, where it comes out even.
fn bytes(bytes: &u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let even = units.into_iter().find(|(power, _)| *bytes > 0 && bytes.is_multiple_of(1 << power));
    even.map_or_else(|| format!("{bytes} bytes"), |(power, unit)| format!("{} {unit}", bytes >> power))
}

fn ceiling_in(ceiling: &Ceiling, words: impl Fn(&u64) -> String) -> String {
    match ceiling {
        Ceiling::At(most) => words(most),
        Ceiling::Unlimited => "unlimited".to_owned(),
    }
}

/// In CPUs; the period where it is not the usual one.
fn cpus(quota: &CpuQuota) -> String {
    let CpuQuota { quota_us, period_us } = *quota;
    if period_us != 100_000 {
        return format!("{quota_us} us in {period_us} us");
    }
    let text = format!("{}.{:05}", quota_us / period_us, quota_us % period_us);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn devices<T: ToString>(all: &[(String, T)]) -> String {
    let one = |(path, value): &(String, T)| format!("{path} {}", value.to_string());
    if all.is_empty() { "none".to_owned() } else { all.iter().map(one).collect::<Vec<_>>().join(" and ") }
}

fn restart(policy: &RestartPolicy) -> String {
    match policy {
        RestartPolicy::No => "no".to_owned(),
        RestartPolicy::Always => "always".to_owned(),
        RestartPolicy::UnlessStopped => "unless-stopped".to_owned(),
        RestartPolicy::OnFailure { max: None } => "on-failure".to_owned(),
        RestartPolicy::OnFailure { max: Some(max) } => format!("on-failure:{max}"),
    }
}

fn signal(signal: &Option<Signal>) -> String {
    signal.map_or_else(|| "the image's".to_owned(), Signal::name)
}

fn pull(policy: &PullPolicy) -> String {
    match policy {
        PullPolicy::Missing => "missing".to_owned(),
        PullPolicy::Always => "always".to_owned(),
        PullPolicy::Never => "never".to_owned(),
        PullPolicy::Every { ms } => format!("every {ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_people_write_them() {
        let sizes = [64 << 20, 3 << 29, 1 << 30, 1025, 0].map(|n: u64| bytes(&n));
        assert_eq!(sizes, ["64 MiB", "1536 MiB", "1 GiB", "1025 bytes", "0 bytes"]);
        let cpu = |quota_us, period_us| cpus(&CpuQuota { quota_us, period_us });
        assert_eq!([cpu(150_000, 100_000), cpu(200_000, 100_000), cpu(5, 10)], ["1.5", "2", "5 us in 10 us"]);
        assert_eq!(devices(&[("/dev/sda".to_owned(), 5), ("/dev/sdb".to_owned(), 6)]), "/dev/sda 5 and /dev/sdb 6");
    }
}
