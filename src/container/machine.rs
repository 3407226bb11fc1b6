//! What of this machine limits and numbers depend on: where each controller is mounted, and what the kernel offers of it.
//! Looked at once; a shim is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The controllers of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Where each controller of cgroup v1 is mounted.
    pub v1: BTreeMap<String, PathBuf>,
    /// Where cgroup v2 is mounted.
    pub unified: Option<PathBuf>,
    /// The controllers of cgroup v2.
    pub unified_controllers: BTreeSet<String>,
    /// Files that tell of a feature by being there.
    pub features: BTreeSet<Feature>,
}

/// What a kernel may be built without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Limits of swap.
    Swap,
    /// A swappiness for each cgroup.
    Swappiness,
    /// Switching the OOM killer off.
    OomKillDisable,
    /// Quotas of CPU time.
    CpuQuota,
    /// Real-time CPU time for each cgroup.
    RealTime,
    /// Weights of block I/O, by the scheduler BFQ.
    BfqWeight,
    /// Weights of block I/O, by CFQ (v1) or by cost (v2).
    Weight,
    /// Limits of block I/O.
    BlockLimit,
}

/// A controller of either version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// `memory`
    Memory,
    /// `cpu`
    Cpu,
    /// `cpuset`
    Cpuset,
    /// `pids`
    Pids,
    /// `blkio`, `io`
    Block,
    /// `cpuacct`; a part of `cpu` on v2.
    CpuAccount,
}

/// Which version a controller is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// v1
    One,
    /// v2
    Two,
}

impl Controller {
    /// Its name.
    #[must_use]
    pub const fn name(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Memory, _) => "memory",
            (Self::Cpu, _) | (Self::CpuAccount, Version::Two) => "cpu",
            (Self::CpuAccount, Version::One) => "cpuacct",
            (Self::Cpuset, _) => "cpuset",
            (Self::Pids, _) => "pids",
            (Self::Block, Version::One) => "blkio",
            (Self::Block, Version::Two) => "io",
        }
    }
}

impl Machine {
    /// Looks at this one.
    pub fn look() -> io::Result<Self> {
        let mut machine = Self::mounted(&fs::read_to_string("/proc/self/mountinfo")?);
        if let Some(unified) = &machine.unified {
            let controllers = fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
            machine.unified_controllers = controllers.split_whitespace().map(str::to_owned).collect();
        }
        machine.features = FEATURES.iter().filter(|(_, there)| there(&machine)).map(|(feature, _)| *feature).collect();
        Ok(machine)
    }

    /// From `/proc/self/mountinfo`: `ID PARENT MAJOR:MINOR ROOT MOUNT OPTIONS … - TYPE SOURCE SUPER-OPTIONS`.
    #[must_use]
    pub fn mounted(mountinfo: &str) -> Self {
        let mut machine = Self::default();
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let (Some(mount), mut after) = (before.split(' ').nth(4), after.split(' ')) else { continue };
            let (kind, options) = (after.next().unwrap_or(""), after.nth(1).unwrap_or(""));
            match kind {
                "cgroup" => {
                    for name in options.split(',') {
                        machine.v1.entry(name.to_owned()).or_insert_with(|| mount.into());
                    }
                }
                "cgroup2" => machine.unified = machine.unified.or_else(|| Some(mount.into())),
                _ => {}
            }
        }
        machine
    }

    /// Where a controller is mounted, and of which version it is.
    #[must_use]
    pub fn controller(&self, controller: Controller) -> Option<(Version, &Path)> {
        if let Some(mount) = self.v1.get(controller.name(Version::One)) {
            return Some((Version::One, mount));
        }
        let unified = self.unified.as_deref()?;
        self.unified_controllers.contains(controller.name(Version::Two)).then_some((Version::Two, unified))
    }

    /// The folder of a cgroup (absolute within its hierarchy) in that controller's hierarchy.
    #[must_use]
    pub fn folder(&self, controller: Controller, cgroup: &Path) -> Option<(Version, PathBuf)> {
        let (version, mount) = self.controller(controller)?;
        Some((version, mount.join(cgroup.strip_prefix("/").unwrap_or(cgroup))))
    }

    /// Whether the kernel offers it.
    #[must_use]
    pub fn offers(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// Whether a controller has this file: in its root on v1; on v2 in a cgroup below for which it is switched on, since the root
    /// has few of them. Where it is on for none yet, it is taken to have what every kernel of v2 has (`usual`).
    fn has(&self, controller: Controller, one: &str, two: &str, usual: bool) -> bool {
        match self.controller(controller) {
            Some((Version::One, mount)) => mount.join(one).exists(),
            Some((Version::Two, mount)) => {
                let name = controller.name(Version::Two);
                samples(mount, name).next().map_or(usual, |on| !two.is_empty() && on.join(two).exists())
            }
            None => false,
        }
    }
}

/// Each feature, and how it is seen.
type Seen = fn(&Machine) -> bool;
const FEATURES: [(Feature, Seen); 8] = [
    (Feature::Swap, |m| m.has(Controller::Memory, "memory.memsw.limit_in_bytes", "memory.swap.max", true)),
    (Feature::Swappiness, |m| m.has(Controller::Memory, "memory.swappiness", "", false)),
    (Feature::OomKillDisable, |m| m.has(Controller::Memory, "memory.oom_control", "", false)),
    (Feature::CpuQuota, |m| m.has(Controller::Cpu, "cpu.cfs_quota_us", "cpu.max", true)),
    (Feature::RealTime, |m| m.has(Controller::Cpu, "cpu.rt_runtime_us", "", false)),
    // The root has no weight; these come with it.
    (Feature::BfqWeight, |m| m.has(Controller::Block, "blkio.bfq.io_service_bytes", "io.bfq.weight", false)),
    (Feature::Weight, |m| {
        let by_cost = m.unified.as_deref().is_some_and(|unified| unified.join("io.cost.qos").exists());
        m.has(Controller::Block, "blkio.weight", "io.weight", by_cost)
    }),
    (Feature::BlockLimit, |m| m.has(Controller::Block, "blkio.throttle.read_bps_device", "io.max", true)),
];

/// Cgroups to look into: our own, and those directly below the root; as far as the controller is switched on for them.
fn samples(mount: &Path, controller: &'static str) -> impl Iterator<Item = PathBuf> + use<> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/").filter(|p| !p.is_empty()).map(|p| mount.join(p)));
    let below = fs::read_dir(mount).into_iter().flatten().flatten();
    let below = below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path());
    let on = move |folder: &PathBuf| {
        let controllers = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
        controllers.split_whitespace().any(|name| name == controller)
    };
    own.into_iter().chain(below).filter(on)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine of one version with everything.
    pub(crate) fn complete(version: Version) -> Machine {
        let names = |v| {
            use Controller::{Block, Cpu, CpuAccount, Cpuset, Memory, Pids};
            [Memory, Cpu, Cpuset, Pids, Block, CpuAccount].map(|c: Controller| c.name(v).to_owned())
        };
        let features = FEATURES.iter().map(|(feature, _)| *feature);
        match version {
            Version::One => Machine {
                v1: names(version).into_iter().map(|n| (n.clone(), Path::new("/cg").join(n))).collect(),
                features: features.filter(|f| *f != Feature::Weight).collect(),
                ..Machine::default()
            },
            Version::Two => {
                use Feature::{BfqWeight, OomKillDisable, RealTime, Swappiness};
                Machine {
                    unified: Some("/cg".into()),
                    unified_controllers: names(version).into(),
                    features: features
                        .filter(|f| ![Swappiness, OomKillDisable, RealTime, BfqWeight].contains(f))
                        .collect(),
                    ..Machine::default()
                }
            }
        }
    }

    #[test]
    fn controllers_of_a_hybrid_machine_are_found_where_they_are() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                    35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory\n\
                    99 31 0:32 /x /elsewhere rw,relatime - cgroup cgroup rw,memory\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let mut machine = Machine::mounted(text);
        machine.unified_controllers = ["pids", "memory"].map(str::to_owned).into();
        let folder = |c| machine.folder(c, Path::new("/longshore/x"));
        let at = |path: &str| PathBuf::from("/sys/fs/cgroup").join(path).join("longshore/x");
        assert_eq!(folder(Controller::Memory), Some((Version::One, at("memory"))));
        assert_eq!(folder(Controller::CpuAccount), Some((Version::One, at("cpu,cpuacct"))));
        assert_eq!(folder(Controller::Pids), Some((Version::Two, at("unified"))));
        assert_eq!(folder(Controller::Block), None);
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let machine = Machine::look().expect("proc is there");
        let text = serde_json::to_string(&machine).expect("JSON");
        assert_eq!(serde_json::from_str::<Machine>(&text).expect("ours"), machine);
    }
}
