//! What a container may use: for the runtime's configuration, and for the cgroups of one that runs. By Docker's rules:
//!
//! * memory without `memswap_limit` allows as much swap again;
//! * 4096 processes where the file names no other number;
//! * what this machine does not have is left out (whether its service runs without it is decided before).
//!
//! ```text
//! Resources ─oci─▶ linux.resources of config.json           (pure)
//! Resources ─settings─▶ file and value of each limit ─write─▶ cgroupfs
//! ```

mod settings;
mod write;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use serde_json::{Map, Value, json};

use super::machine::{Controller, Feature, Machine, Version};
use crate::model::{BlockIo, Ceiling, Resources, bytes};

pub use settings::{Knob, Settings, settings};
pub use write::{Undo, prepare_start, write};

/// So many processes, where the file is silent.
pub const PIDS: u64 = 4096;
/// The usual period of a CPU quota, and of real-time CPU time.
const PERIOD_US: u64 = 100_000;

/// Why limits were not set.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// A device that is none.
    #[error("blkio_config names {path:?}, which is no block device of this machine")]
    NotBlock { path: String },
    /// A device that cannot be looked at.
    #[error("blkio_config names {path:?}, which cannot be looked at")]
    Device {
        path: String,
        #[source]
        source: io::Error,
    },
    /// The total is below one of its parts.
    #[error("memswap_limit ({}) is memory and swap together: it must not be below mem_limit ({})", bytes(*total), bytes(*memory))]
    SwapBelowMemory { memory: u64, total: u64 },
    /// A total with an unlimited part.
    #[error("memswap_limit needs mem_limit beside it: it is memory and swap together")]
    SwapWithoutMemory,
    /// Lowered below what is in use.
    #[error("mem_limit {} was refused: the container uses {} that cannot be taken from it; it keeps the limit it had", bytes(*limit), bytes(*used))]
    InUse { limit: u64, used: u64 },
    /// No real-time CPU time is left.
    #[error("cpu_rt_runtime was refused: the cgroups above have no more real-time CPU time to give")]
    NoRealTime,
    /// The kernel refuses a value.
    #[error("{key} was refused: {} did not take {value:?}", file.display())]
    Refused {
        key: &'static str,
        file: std::path::PathBuf,
        value: String,
        #[source]
        source: io::Error,
    },
}

/// The numbers of the block devices that a service names, by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blocks(BTreeMap<String, (u64, u64)>);

impl Blocks {
    /// Looks each device up.
    pub fn look(resources: &Resources) -> Result<Self, ResourceError> {
        let block = &resources.block;
        let rates = [&block.read_bytes, &block.write_bytes, &block.read_operations, &block.write_operations];
        let paths = rates.into_iter().flatten().map(|(path, _)| path);
        let paths = paths.chain(block.device_weights.iter().map(|(path, _)| path));
        paths.map(|path| Ok((path.clone(), numbers(path)?))).collect::<Result<_, _>>().map(Self)
    }

    /// For tests.
    #[cfg(test)]
    pub(crate) fn of(devices: &[(&str, (u64, u64))]) -> Self {
        Self(devices.iter().map(|(path, numbers)| ((*path).to_owned(), *numbers)).collect())
    }

    fn get(&self, path: &str) -> Option<(u64, u64)> {
        self.0.get(path).copied()
    }
}

fn numbers(path: &str) -> Result<(u64, u64), ResourceError> {
    let found = fs::metadata(path).map_err(|source| ResourceError::Device { path: path.to_owned(), source })?;
    if !found.file_type().is_block_device() {
        return Err(ResourceError::NotBlock { path: path.to_owned() });
    }
    Ok((rustix::fs::major(found.rdev()).into(), rustix::fs::minor(found.rdev()).into()))
}

/// Rules between the values that no key can be checked for by itself.
pub fn check(resources: &Resources) -> Result<(), ResourceError> {
    match (resources.memory, resources.memory_and_swap) {
        (Some(memory), Some(Ceiling::At(total))) if total < memory => {
            Err(ResourceError::SwapBelowMemory { memory, total })
        }
        (None, Some(Ceiling::At(_))) => Err(ResourceError::SwapWithoutMemory),
        _ => Ok(()),
    }
}

/// Memory and swap together: the file's, or twice the memory as Docker has it; `None` where nothing limits it.
fn memory_and_swap(resources: &Resources) -> Option<Ceiling> {
    resources.memory.map(|memory| resources.memory_and_swap.unwrap_or(Ceiling::At(memory.saturating_mul(2))))
}

/// `linux.resources`, with these rules for devices.
#[must_use]
pub fn oci(resources: &Resources, machine: &Machine, blocks: &Blocks, devices: Value) -> Value {
    let mut all = Map::new();
    let mut put = |key: &str, value: Value| {
        if value.as_object().is_none_or(|parts| !parts.is_empty()) {
            all.insert(key.to_owned(), value);
        }
    };
    put("devices", devices);
    if machine.controller(Controller::Pids).is_some() {
        let most = resources.pids.unwrap_or(Ceiling::At(PIDS));
        put("pids", json!({ "limit": ceiling(most) }));
    }
    if machine.controller(Controller::Memory).is_some() {
        put("memory", memory(resources, machine));
    }
    put("cpu", cpu(resources, machine));
    if machine.controller(Controller::Block).is_some() {
        put("blockIO", block_io(&resources.block, machine, blocks));
    }
    Value::Object(all)
}

fn memory(resources: &Resources, machine: &Machine) -> Value {
    let swap = memory_and_swap(resources).filter(|_| machine.offers(Feature::Swap)).map(ceiling);
    let swappiness = resources.swappiness.filter(|_| machine.offers(Feature::Swappiness));
    let no_killer = (resources.oom_kill_disable && machine.offers(Feature::OomKillDisable)).then_some(true);
    object([
        ("limit", resources.memory.map(Value::from)),
        ("swap", swap),
        ("reservation", resources.memory_reservation.map(Value::from)),
        ("swappiness", swappiness.map(Value::from)),
        ("disableOOMKiller", no_killer.map(Value::from)),
    ])
}

fn cpu(resources: &Resources, machine: &Machine) -> Value {
    let scheduled = machine.controller(Controller::Cpu).is_some();
    let quota = resources.cpu.filter(|_| scheduled && machine.offers(Feature::CpuQuota));
    let real_time = |value: Option<u64>| value.filter(|_| scheduled && machine.offers(Feature::RealTime));
    let cpuset = resources.cpuset.clone().filter(|_| machine.controller(Controller::Cpuset).is_some());
    object([
        ("shares", resources.cpu_shares.filter(|_| scheduled).map(Value::from)),
        ("quota", quota.map(|cpu| cpu.quota_us.into())),
        ("period", quota.map(|cpu| cpu.period_us.into())),
        ("realtimeRuntime", real_time(resources.realtime_runtime_us).map(Value::from)),
        ("realtimePeriod", real_time(resources.realtime_period_us).map(Value::from)),
        ("cpus", cpuset.map(Value::from)),
    ])
}

fn block_io(block: &BlockIo, machine: &Machine, blocks: &Blocks) -> Value {
    // On v2 the scale is another one, and libcontainer's sum for it overflows; there they are only written by ourselves.
    let scaled = matches!(machine.controller(Controller::Block), Some((Version::Two, _)));
    let weighs = !scaled && (machine.offers(Feature::BfqWeight) || machine.offers(Feature::Weight));
    let weights: Vec<Value> = block
        .device_weights
        .iter()
        .filter(|_| weighs)
        .filter_map(|(path, weight)| {
            let (major, minor) = blocks.get(path)?;
            Some(json!({ "major": major, "minor": minor, "weight": weight }))
        })
        .collect();
    let rates = |rates: &[(String, u64)]| -> Option<Value> {
        let rates = rates.iter().filter(|_| machine.offers(Feature::BlockLimit)).filter_map(|(path, rate)| {
            let (major, minor) = blocks.get(path)?;
            Some(json!({ "major": major, "minor": minor, "rate": rate }))
        });
        let rates: Vec<Value> = rates.collect();
        (!rates.is_empty()).then(|| rates.into())
    };
    object([
        ("weight", block.weight.filter(|_| weighs).map(Value::from)),
        ("weightDevice", (!weights.is_empty()).then(|| weights.into())),
        ("throttleReadBpsDevice", rates(&block.read_bytes)),
        ("throttleWriteBpsDevice", rates(&block.write_bytes)),
        ("throttleReadIOPSDevice", rates(&block.read_operations)),
        ("throttleWriteIOPSDevice", rates(&block.write_operations)),
    ])
}

/// Only what is there.
fn object<const N: usize>(parts: [(&str, Option<Value>); N]) -> Value {
    parts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect::<Map<_, _>>().into()
}

fn ceiling(ceiling: Ceiling) -> Value {
    match ceiling {
        Ceiling::At(most) => most.into(),
        Ceiling::Unlimited => (-1).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::machine::tests::complete;
    use crate::model::CpuQuota;

    pub(super) fn everything() -> (Resources, Blocks) {
        let resources = Resources {
            memory: Some(64 << 20),
            memory_reservation: Some(32 << 20),
            swappiness: Some(10),
            oom_kill_disable: true,
            cpu: Some(CpuQuota { quota_us: 25_000, period_us: 100_000 }),
            cpu_shares: Some(512),
            realtime_period_us: Some(1_000_000),
            realtime_runtime_us: Some(10_000),
            cpuset: Some("0-1".into()),
            pids: Some(Ceiling::At(64)),
            block: BlockIo {
                weight: Some(300),
                device_weights: vec![("/dev/a".into(), 400)],
                read_bytes: vec![("/dev/a".into(), 1 << 20)],
                write_bytes: vec![("/dev/b".into(), 2 << 20)],
                read_operations: vec![("/dev/a".into(), 100)],
                write_operations: vec![("/dev/a".into(), 200)],
            },
            ..Resources::default()
        };
        (resources, Blocks::of(&[("/dev/a", (8, 0)), ("/dev/b", (8, 16))]))
    }

    #[test]
    fn the_configuration_of_each_version() {
        let (resources, blocks) = everything();
        let one = oci(&resources, &complete(Version::One), &blocks, json!([]));
        insta::assert_snapshot!(one, @r#"{"devices":[],"pids":{"limit":64},"memory":{"limit":67108864,"swap":134217728,"reservation":33554432,"swappiness":10,"disableOOMKiller":true},"cpu":{"shares":512,"quota":25000,"period":100000,"realtimeRuntime":10000,"realtimePeriod":1000000,"cpus":"0-1"},"blockIO":{"weight":300,"weightDevice":[{"major":8,"minor":0,"weight":400}],"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1048576}],"throttleWriteBpsDevice":[{"major":8,"minor":16,"rate":2097152}],"throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":100}],"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":200}]}}"#);
        let two = oci(&resources, &complete(Version::Two), &blocks, json!([]));
        assert_eq!(
            two["memory"],
            json!({"limit": 67_108_864, "swap": 134_217_728, "reservation": 33_554_432}),
            "what v2 does not have is left out"
        );
        assert_eq!(two["cpu"], json!({"shares": 512, "quota": 25_000, "period": 100_000, "cpus": "0-1"}));
        assert_eq!((&two["blockIO"]["weight"], &two["blockIO"]["weightDevice"]), (&Value::Null, &Value::Null));
        assert_eq!(two["blockIO"]["throttleReadBpsDevice"], json!([{"major": 8, "minor": 0, "rate": 1_048_576}]));
        let defaults = oci(&Resources::default(), &complete(Version::Two), &Blocks::default(), json!([]));
        assert_eq!(defaults, json!({"devices": [], "pids": {"limit": 4096}}));
        assert_eq!(oci(&resources, &Machine::default(), &blocks, json!([])), json!({"devices": []}));
    }

    #[test]
    fn swap_goes_by_dockers_rules() {
        let swap = |memory_and_swap, machine: &Machine| {
            let resources = Resources { memory: Some(64), memory_and_swap, ..Resources::default() };
            oci(&resources, machine, &Blocks::default(), json!([]))["memory"]["swap"].clone()
        };
        let one = complete(Version::One);
        assert_eq!(swap(None, &one), 128);
        assert_eq!(swap(Some(Ceiling::At(64)), &one), 64);
        assert_eq!(swap(Some(Ceiling::Unlimited), &one), -1);
        let mut without = one;
        without.features.remove(&Feature::Swap);
        assert_eq!(swap(None, &without), Value::Null);

        let with = |memory, memory_and_swap| {
            check(&Resources { memory, memory_and_swap, ..Resources::default() }).map_err(|e| e.to_string())
        };
        assert_eq!(with(Some(64), Some(Ceiling::At(64))), Ok(()));
        assert_eq!(with(None, Some(Ceiling::Unlimited)), Ok(()));
        assert!(with(None, Some(Ceiling::At(64))).is_err());
        insta::assert_snapshot!(with(Some(64 << 20), Some(Ceiling::At(32 << 20))).unwrap_err(), @"memswap_limit (32 MiB) is memory and swap together: it must not be below mem_limit (64 MiB)");
    }

    #[test]
    fn only_block_devices_have_rates() {
        let named = |path: &str| {
            let block = BlockIo { read_bytes: vec![(path.into(), 1)], ..BlockIo::default() };
            Blocks::look(&Resources { block, ..Resources::default() }).map_err(|e| e.to_string())
        };
        assert!(named("/dev/null").unwrap_err().contains("\"/dev/null\", which is no block device"));
        assert!(named("/dev/nowhere").unwrap_err().contains("cannot be looked at"));
        assert_eq!(Blocks::look(&Resources::default()).unwrap(), Blocks::default());
    }
}
