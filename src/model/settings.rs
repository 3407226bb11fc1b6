//! What a container is given as it is, in words: its limits, labels, restart policy, stop settings, health check and pull policy. A change of them
//! makes no other container.

use std::collections::BTreeMap;

use super::{
    BlockIo, Ceiling, CpuQuota, HealthCheck, HealthPolicy, HealthTest, Hook, Probe, PullPolicy, Resources, RestartPace,
    RestartPolicy, Service, Signal, StopPolicy,
};

/// By key, as a file names it; a label is `labels.NAME`. What is not given is not here. Two services with the same settings leave
/// nothing to be given, so no two values may have the same words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings(BTreeMap<String, String>);

const LABELS: &str = "labels.";

impl Settings {
    /// Of a service.
    #[must_use]
    pub fn of(service: &Service) -> Self {
        let mut settings = Self::default();
        settings.resources(&service.resources);
        for (name, value) in &service.labels {
            settings.put(&format!("{LABELS}{name}"), value.clone());
        }
        let StopPolicy { signal, grace_ms } = service.stop;
        settings.put("restart", restart(service.restart));
        settings.option("the pace of restarts", pace(service.pace));
        settings.option("stop_signal", signal.map(Signal::name));
        settings.put("stop_grace_period", format!("{grace_ms} ms"));
        settings.put("pull_policy", pull(service.pull));
        settings.health(&service.health);
        let required: Vec<String> = service.required_mounts.iter().map(|path| path.display().to_string()).collect();
        let depends: Vec<String> = service.depends.iter().map(ToString::to_string).collect();
        settings.option("depends_on", (!depends.is_empty()).then(|| depends.join(" and ")));
        settings.option("post_start", Hook::words(&service.hooks.post_start));
        settings.option("pre_stop", Hook::words(&service.hooks.pre_stop));
        settings.option("require_mount", (!required.is_empty()).then(|| required.join(" and ")));
        settings
    }

    /// Whether two services have the same, without putting them into words.
    #[must_use]
    pub fn same(one: &Service, other: &Service) -> bool {
        let all = |s: &Service| (s.restart, s.pace, s.stop, s.pull);
        all(one) == all(other)
            && one.resources == other.resources
            && one.labels == other.labels
            && one.required_mounts == other.required_mounts
            && one.depends == other.depends
            && one.health == other.health
            && one.hooks == other.hooks
    }

    /// As they were told elsewhere.
    #[must_use]
    pub const fn told(by_key: BTreeMap<String, String>) -> Self {
        Self(by_key)
    }

    /// By key.
    #[must_use]
    pub const fn by_key(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// What differs in `asked`, each in words with its key. Labels by their names alone: a value may be long, or a secret.
    #[must_use]
    pub fn changes_to(&self, asked: &Self) -> Vec<String> {
        let gone =
            self.0.iter().filter(|(key, _)| !asked.0.contains_key(*key)).map(|(key, value)| (key, Some(value), None));
        let here = asked.0.iter().map(|(key, value)| (key, self.0.get(key), Some(value)));
        let mut changed: Vec<_> = gone.chain(here).filter(|(_, before, after)| before != after).collect();
        changed.sort();
        changed.into_iter().map(|(key, before, after)| change(key, before, after)).collect()
    }

    fn put(&mut self, key: &str, words: String) {
        self.0.insert(key.to_owned(), words);
    }

    fn option(&mut self, key: &str, words: Option<String>) {
        if let Some(words) = words {
            self.put(key, words);
        }
    }

    fn health(&mut self, given: &HealthPolicy) {
        let HealthPolicy { check, on_unhealthy } = given;
        let HealthCheck { test, interval_ms, timeout_ms, retries, start_period_ms, start_interval_ms } = check;
        let millis = |ms: &Option<u64>| ms.map(|ms| format!("{ms} ms"));
        self.option("healthcheck.test", test.as_ref().map(tried));
        self.option("healthcheck.interval", millis(interval_ms));
        self.option("healthcheck.timeout", millis(timeout_ms));
        self.option("healthcheck.retries", retries.map(|retries| retries.to_string()));
        self.option("healthcheck.start_period", millis(start_period_ms));
        self.option("healthcheck.start_interval", millis(start_interval_ms));
        self.option("on_unhealthy", on_unhealthy.map(|reaction| reaction.word().to_owned()));
    }

    fn resources(&mut self, given: &Resources) {
        let Resources {
            memory,
            memory_and_swap,
            memory_reservation,
            swappiness,
            oom_kill_disable,
            cpu,
            cpu_shares,
            realtime_period_us,
            realtime_runtime_us,
            cpuset,
            pids,
            block,
        } = given;
        let micros = |us: &u64| format!("{us} us");
        self.option("mem_limit", memory.as_ref().map(bytes));
        self.option("memswap_limit", memory_and_swap.as_ref().map(|most| ceiling(most, bytes)));
        self.option("mem_reservation", memory_reservation.as_ref().map(bytes));
        self.option("mem_swappiness", swappiness.map(|percent| percent.to_string()));
        self.option("oom_kill_disable", oom_kill_disable.then(|| "true".to_owned()));
        self.option("cpus", cpu.as_ref().map(cpus));
        self.option("cpu_shares", cpu_shares.map(|shares| shares.to_string()));
        self.option("cpu_rt_period", realtime_period_us.as_ref().map(micros));
        self.option("cpu_rt_runtime", realtime_runtime_us.as_ref().map(micros));
        self.option("cpuset", cpuset.clone());
        self.option("pids_limit", pids.as_ref().map(|most| ceiling(most, u64::to_string)));
        self.block(block);
    }

    fn block(&mut self, given: &BlockIo) {
        let BlockIo { weight, device_weights, read_bytes, write_bytes, read_operations, write_operations } = given;
        self.option("blkio_config.weight", weight.map(|weight| weight.to_string()));
        self.option("blkio_config.weight_device", devices(device_weights));
        self.option("blkio_config.device_read_bps", devices(read_bytes));
        self.option("blkio_config.device_write_bps", devices(write_bytes));
        self.option("blkio_config.device_read_iops", devices(read_operations));
        self.option("blkio_config.device_write_iops", devices(write_operations));
    }
}

fn change(key: &str, before: Option<&String>, after: Option<&String>) -> String {
    if let Some(label) = key.strip_prefix(LABELS) {
        let what = match (before, after) {
            (None, _) => "added",
            (_, None) => "removed",
            (Some(_), Some(_)) => "changed",
        };
        return format!("label {label} {what}");
    }
    let words = |value: Option<&String>| value.map_or("none", String::as_str).to_owned();
    format!("{key} changed from {} to {}", words(before), words(after))
}

/// `128 MiB`, where it comes out even.
fn bytes(bytes: &u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let even = units.into_iter().find(|(power, _)| *bytes > 0 && bytes.is_multiple_of(1 << power));
    even.map_or_else(|| format!("{bytes} bytes"), |(power, unit)| format!("{} {unit}", bytes >> power))
}

fn ceiling(ceiling: &Ceiling, words: impl Fn(&u64) -> String) -> String {
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

fn devices<T: ToString>(all: &[(String, T)]) -> Option<String> {
    let one = |(path, value): &(String, T)| format!("{path} {}", value.to_string());
    (!all.is_empty()).then(|| all.iter().map(one).collect::<Vec<_>>().join(" and "))
}

/// None: as usual.
fn pace(pace: RestartPace) -> Option<String> {
    let RestartPace { first_ms, factor_percent, longest_ms, reset_ms } = pace;
    let words = || {
        format!(
            "{first_ms} ms, each {factor_percent} % of the one before, at most {longest_ms} ms, anew after {reset_ms} ms"
        )
    };
    (pace != RestartPace::default()).then(words)
}

fn restart(policy: RestartPolicy) -> String {
    match policy {
        RestartPolicy::No => "no".to_owned(),
        RestartPolicy::Always => "always".to_owned(),
        RestartPolicy::UnlessStopped => "unless-stopped".to_owned(),
        RestartPolicy::OnFailure { max: None } => "on-failure".to_owned(),
        RestartPolicy::OnFailure { max: Some(max) } => format!("on-failure:{max}"),
    }
}

/// Each word quoted: no two commands have the same.
fn tried(test: &HealthTest) -> String {
    match test {
        HealthTest::Nothing => "NONE".to_owned(),
        HealthTest::Command(words) => format!("CMD {words:?}"),
        HealthTest::Shell(line) => format!("CMD-SHELL {line:?}"),
        HealthTest::Probe(Probe::Tcp { port }) => format!("tcp port {port}"),
        HealthTest::Probe(Probe::Grpc { port, service }) => format!("grpc port {port} service {service:?}"),
        HealthTest::Probe(Probe::Http { port, path, tls, status: (low, high) }) => {
            let scheme = if *tls { "https" } else { "http" };
            format!("{scheme} port {port} path {path:?} status {low}-{high}")
        }
    }
}

fn pull(policy: PullPolicy) -> String {
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
        let two = devices(&[("/dev/sda".to_owned(), 5), ("/dev/sdb".to_owned(), 6)]);
        assert_eq!(two.as_deref(), Some("/dev/sda 5 and /dev/sdb 6"));
    }

    #[test]
    fn what_differs_is_told_by_its_key_and_labels_without_their_values() {
        let settings = |pairs: &[(&str, &str)]| {
            Settings::told(pairs.iter().map(|(key, words)| ((*key).to_owned(), (*words).to_owned())).collect())
        };
        let before = settings(&[("mem_limit", "64 MiB"), ("labels.a", "x"), ("labels.b", "secret"), ("restart", "no")]);
        let after = settings(&[("mem_limit", "128 MiB"), ("labels.b", "other"), ("labels.c", "y"), ("restart", "no")]);
        assert_eq!(
            before.changes_to(&after),
            ["label a removed", "label b changed", "label c added", "mem_limit changed from 64 MiB to 128 MiB"]
        );
        assert_eq!(settings(&[("cpus", "1")]).changes_to(&settings(&[])), ["cpus changed from 1 to none"]);
        assert_eq!(before.changes_to(&before), Vec::<String>::new());
    }
}
