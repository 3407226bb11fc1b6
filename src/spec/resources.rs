//! What a service may use: by the service's own keys, or below `deploy.resources`, which must not say something else.

use super::duration::{micros, scaled};
use super::scope::Scope;
use super::{blkio, size};
use crate::model::{Ability, Ceiling, CpuQuota, Resources};

/// Docker's: less is not enough to start a program.
const LEAST_MEMORY: u64 = 6 << 20;
/// The kernel's default, and Docker's.
const PERIOD_US: u64 = 100_000;
/// The kernel's default for real-time tasks.
const REALTIME_PERIOD_US: u64 = 1_000_000;
/// More is a slip.
const MOST_CPUS_US: u128 = 8192 * PERIOD_US as u128;

pub(super) fn read(scope: &mut Scope<'_, '_, '_>) -> Resources {
    let memory = memory(scope);
    let (realtime_period_us, realtime_runtime_us) = realtime(scope);
    windows_only(scope);
    Resources {
        memory,
        memory_and_swap: memory_and_swap(memory, scope),
        memory_reservation: memory_reservation(memory, scope),
        swappiness: swappiness(scope),
        oom_kill_disable: oom_kill_disable(memory, scope),
        cpu: cpu(scope),
        cpu_shares: cpu_shares(scope),
        realtime_period_us,
        realtime_runtime_us,
        cpuset: cpuset(scope),
        pids: pids(scope),
        block: blkio::read(scope),
    }
}

/// A value that may stand in two places, with the key that gives it. Two values are Compose's error.
fn either<T: PartialEq>(
    [own, deployed]: [&'static str; 2],
    scope: &mut Scope<'_, '_, '_>,
    read: impl Fn(&'static str, &mut Scope<'_, '_, '_>) -> Option<T>,
) -> Option<(T, &'static str)> {
    let (first, second) = (read(own, scope), read(deployed, scope));
    if let (Some(first), Some(second)) = (&first, &second)
        && first != second
    {
        let message = format!("`{own}` and `{deployed}` give different values");
        scope.error(scope.place(own), own, message, "remove one of them");
    }
    first.map(|value| (value, own)).or(second.map(|value| (value, deployed)))
}

fn memory(scope: &mut Scope<'_, '_, '_>) -> Option<u64> {
    let (bytes, key) = either(["mem_limit", "deploy.resources.limits.memory"], scope, enough_memory)?;
    scope.wish(key, Ability::Memory);
    Some(bytes)
}

/// A size in bytes; none where it asks for no limit.
fn limit(name: &'static str, scope: &mut Scope<'_, '_, '_>) -> Option<u64> {
    let (text, at) = scope.word(name)?;
    match size::bytes(text) {
        Some(-1 | 0) => None,
        Some(bytes) if bytes > 0 => u64::try_from(bytes).ok(),
        Some(_) | None => {
            let message = format!("`{name}` is {text}: expected a size, or 0 for no limit");
            scope.error(at, name, message, "write 512m or 2g");
            None
        }
    }
}

fn enough_memory(name: &'static str, scope: &mut Scope<'_, '_, '_>) -> Option<u64> {
    let bytes = limit(name, scope)?;
    if bytes < LEAST_MEMORY {
        let at = scope.given(name)?.at;
        let message = format!("`{name}` is {bytes} bytes: no program starts in less than 6 MiB");
        scope.error(at, name, message, "write 6m or more; 512m is 512 MiB");
    }
    Some(bytes)
}

/// Memory and swap together.
fn memory_and_swap(memory: Option<u64>, scope: &mut Scope<'_, '_, '_>) -> Option<Ceiling> {
    const KEY: &str = "memswap_limit";
    let (text, at) = scope.word(KEY)?;
    if size::bytes(text) == Some(-1) {
        memory?;
        scope.wish(KEY, Ability::Swap);
        return Some(Ceiling::Unlimited);
    }
    let bytes = limit(KEY, scope)?;
    match memory {
        None => {
            scope.error(at, KEY, "`memswap_limit` has no effect without `mem_limit`", "write `mem_limit:` beside it");
        }
        Some(memory) if bytes < memory => {
            let hint = "it is memory and swap together; the same value means no swap";
            scope.error(at, KEY, "`memswap_limit` is less than the memory limit", hint);
        }
        Some(_) => scope.wish(KEY, Ability::Swap),
    }
    Some(Ceiling::At(bytes))
}

fn memory_reservation(memory: Option<u64>, scope: &mut Scope<'_, '_, '_>) -> Option<u64> {
    let keys = ["mem_reservation", "deploy.resources.reservations.memory"];
    let (bytes, key) = either(keys, scope, enough_memory)?;
    if memory.is_some_and(|memory| bytes > memory) {
        let at = scope.place(key);
        scope.error(at, key, format!("`{key}` is more than the memory limit"), "write a smaller one");
    }
    scope.prefer(key, Ability::Memory);
    Some(bytes)
}

fn swappiness(scope: &mut Scope<'_, '_, '_>) -> Option<u8> {
    let percent = scope.whole("mem_swappiness", -1..=100)?;
    let percent = u8::try_from(percent).ok()?;
    scope.wish("mem_swappiness", Ability::Swappiness);
    Some(percent)
}

fn oom_kill_disable(memory: Option<u64>, scope: &mut Scope<'_, '_, '_>) -> bool {
    let disabled = scope.flag("oom_kill_disable");
    if disabled {
        let what = "nothing of it is killed when its memory is used up: it hangs (oom_kill_disable)";
        scope.loosen(scope.place("oom_kill_disable"), "oom_kill_disable", what);
        scope.wish("oom_kill_disable", Ability::OomKillDisable);
        if memory.is_none() {
            let message =
                "without a memory limit the service can use up the machine's memory and cannot be ended for it";
            scope.warn(scope.place("oom_kill_disable"), "oom_kill_disable", message, "write `mem_limit:` beside it");
        }
    }
    disabled
}

/// `cpus` in both places, or `cpu_quota` with its period.
fn cpu(scope: &mut Scope<'_, '_, '_>) -> Option<CpuQuota> {
    let cpus = either(["cpus", "deploy.resources.limits.cpus"], scope, cpus);
    let quota =
        scope.whole("cpu_quota", -1..=1_000_000_000_000).and_then(|us| u64::try_from(us).ok()).filter(|us| *us > 0);
    let period = scope.whole("cpu_period", 0..=1_000_000).and_then(|us| u64::try_from(us).ok()).filter(|us| *us > 0);
    if quota.is_some_and(|us| us < 1_000) {
        let at = scope.place("cpu_quota");
        scope.error(at, "cpu_quota", "`cpu_quota` is less than 1000 microseconds", "the kernel takes no less");
    }
    if period.is_some_and(|us| us < 1_000) {
        let at = scope.place("cpu_period");
        scope.error(at, "cpu_period", "`cpu_period` is less than 1000 microseconds", "the kernel takes no less");
    }
    let (used, other) = match (cpus, quota, period) {
        (Some((quota_us, key)), None, None) => (Some((CpuQuota { quota_us, period_us: PERIOD_US }, key)), None),
        (Some((_, key)), Some(_), _) => (None, Some((key, "cpu_quota"))),
        (Some((_, key)), None, Some(_)) => (None, Some((key, "cpu_period"))),
        (None, Some(quota_us), period) => {
            (Some((CpuQuota { quota_us, period_us: period.unwrap_or(PERIOD_US) }, "cpu_quota")), None)
        }
        (None, None, Some(_)) => {
            let message = "`cpu_period` limits nothing without `cpu_quota`";
            scope.warn(scope.place("cpu_period"), "cpu_period", message, "write `cpus:` instead of both");
            (None, None)
        }
        (None, None, None) => (None, None),
    };
    if let Some((one, other)) = other {
        let at = scope.place(other);
        scope.error(
            at,
            other,
            format!("`{other}` and `{one}` exclude each other"),
            "remove one of them; `cpus` is enough",
        );
    }
    let (quota, key) = used?;
    scope.wish(key, Ability::Cpu);
    Some(quota)
}

/// CPUs as microseconds in each period.
fn cpus(name: &'static str, scope: &mut Scope<'_, '_, '_>) -> Option<u64> {
    let (text, at) = scope.word(name)?;
    let quota = scaled(text, u128::from(PERIOD_US));
    match quota {
        Some(0) if text.parse::<f64>() == Ok(0.0) => None,
        Some(quota) if (1_000..=MOST_CPUS_US).contains(&quota) => u64::try_from(quota).ok(),
        Some(_) | None => {
            let message = format!("`{name}` is {text}: expected a number from 0.01 to 8192, or 0 for no limit");
            scope.error(at, name, message, "write 0.5 for half a CPU");
            None
        }
    }
}

/// A weight: it limits nothing, and a service that runs without it lacks nothing.
fn cpu_shares(scope: &mut Scope<'_, '_, '_>) -> Option<u64> {
    let shares = scope.whole("cpu_shares", 0..=262_144)?;
    let shares = u64::try_from(shares).ok().filter(|shares| *shares > 0)?;
    if shares < 2 {
        let message = "`cpu_shares` is 1: expected a number from 2 to 262144, or 0 for the usual weight";
        scope.error(scope.place("cpu_shares"), "cpu_shares", message, "1024 is usual");
    }
    scope.prefer("cpu_shares", Ability::Cpu);
    Some(shares)
}

/// Period and runtime, in microseconds or as durations.
fn realtime(scope: &mut Scope<'_, '_, '_>) -> (Option<u64>, Option<u64>) {
    let (period, runtime) = (microseconds("cpu_rt_period", scope), microseconds("cpu_rt_runtime", scope));
    if period.is_some_and(|period| period > REALTIME_PERIOD_US) {
        let message = "`cpu_rt_period` is longer than a second";
        scope.error(scope.place("cpu_rt_period"), "cpu_rt_period", message, "write 1s or less");
    }
    if runtime > Some(period.unwrap_or(REALTIME_PERIOD_US)) {
        let message = "`cpu_rt_runtime` is longer than its period";
        scope.error(scope.place("cpu_rt_runtime"), "cpu_rt_runtime", message, "write a shorter one, such as 400ms");
    }
    if let Some(key) = runtime.map(|_| "cpu_rt_runtime").or(period.map(|_| "cpu_rt_period")) {
        scope.wish(key, Ability::RealTime);
    }
    (period, runtime)
}

fn microseconds(name: &'static str, scope: &mut Scope<'_, '_, '_>) -> Option<u64> {
    let (text, at) = scope.word(name)?;
    let us = text.parse::<u64>().ok().or_else(|| micros(text));
    if us.is_none() && text != "-1" {
        let message = format!("`{name}` is {text}: expected microseconds or a duration");
        scope.error(at, name, message, "write 95000 or 400ms");
    }
    us.filter(|us| *us > 0)
}

/// cpuset(7), "List format".
fn cpuset(scope: &mut Scope<'_, '_, '_>) -> Option<String> {
    let (text, at) = scope.word("cpuset")?;
    let cpu = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let part = |part: &str| match part.split_once('-') {
        None => cpu(part).is_some(),
        Some((first, last)) => cpu(first).is_some_and(|first| cpu(last).is_some_and(|last| first <= last)),
    };
    if text.split(',').all(part) {
        scope.wish("cpuset", Ability::Cpuset);
    } else {
        scope.error(at, "cpuset", format!("{text:?} is not a set of CPUs"), "write their numbers, as in 0-3 or 0,2");
    }
    Some(text.to_owned())
}

fn pids(scope: &mut Scope<'_, '_, '_>) -> Option<Ceiling> {
    let (pids, key) = either(["pids_limit", "deploy.resources.limits.pids"], scope, |name, scope| {
        match scope.whole(name, -1..=4_194_304)? {
            0 => None,
            count => Some(u64::try_from(count).map_or(Ceiling::Unlimited, Ceiling::At)),
        }
    })?;
    match pids {
        Ceiling::At(_) => scope.wish(key, Ability::Pids),
        Ceiling::Unlimited => {
            let at = scope.place(key);
            scope.loosen(at, key, "it may have any number of processes, and use up the machine's");
        }
    }
    Some(pids)
}

/// Docker on Linux takes them and does nothing.
fn windows_only(scope: &mut Scope<'_, '_, '_>) {
    for name in ["cpu_count", "cpu_percent"] {
        if scope.word(name).is_some_and(|(text, _)| text != "0") {
            let message = format!("`{name}` has no effect: it is for Windows");
            scope.warn(scope.place(name), name, message, "write `cpus:` to limit CPU time");
        }
    }
}
