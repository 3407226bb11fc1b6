//! What this machine lacks of what a service can ask for.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::Containers;
use super::machine::{Controller, Feature, Machine, Version};
use super::stats::Reader;
use super::userns::LackingUsers;
use crate::model::Ability;

impl Containers {
    /// What this machine lacks, and why, in words that end a sentence like "mem_limit cannot be honoured: …".
    /// Looked at when they were opened; and for users of their own, when the files that give them ids have changed.
    #[must_use]
    pub fn lacks(&self) -> BTreeMap<Ability, String> {
        let mut lacks = self.0.sight.lacks.clone();
        let users = self.0.sight.users.look(&self.0.settings, self.0.exe.path());
        lacks.extend(users.map(|why| (Ability::UserNamespace, why)));
        lacks
    }
}

/// What is known of the machine, and what reads numbers of it.
pub(super) struct Sight {
    pub(super) machine: Machine,
    pub(super) lacks: BTreeMap<Ability, String>,
    pub(super) users: LackingUsers,
    pub(super) reader: Reader,
}

impl Sight {
    /// Looks.
    pub(super) fn look() -> io::Result<Self> {
        let machine = Machine::look()?;
        Ok(Self { lacks: lacks(&machine), machine, users: LackingUsers::default(), reader: Reader::new() })
    }
}

fn lacks(machine: &Machine) -> BTreeMap<Ability, String> {
    let mut lacks = BTreeMap::new();
    let mut note = |ability, reason: Option<String>| {
        if let Some(reason) = reason {
            lacks.insert(ability, reason);
        }
    };
    note(Ability::AppArmor, app_armor());
    note(Ability::SeLinux, se_linux());
    let controllers = [
        (Ability::Memory, Controller::Memory),
        (Ability::Cpu, Controller::Cpu),
        (Ability::Cpuset, Controller::Cpuset),
        (Ability::Pids, Controller::Pids),
        (Ability::BlockLimit, Controller::Block),
        (Ability::BlockWeight, Controller::Block),
        (Ability::RealTime, Controller::Cpu),
        (Ability::Swap, Controller::Memory),
        (Ability::Swappiness, Controller::Memory),
        (Ability::OomKillDisable, Controller::Memory),
    ];
    for (ability, controller) in controllers {
        note(ability, without_controller(machine, controller).or_else(|| without_feature(machine, ability)));
    }
    note(
        Ability::RootQuota,
        Some(
            "a quota for the writable layer needs a data directory on xfs with `pquota`, which this version does not use"
                .to_owned(),
        ),
    );
    lacks
}

fn without_controller(machine: &Machine, controller: Controller) -> Option<String> {
    if machine.controller(controller).is_some() {
        return None;
    }
    let (one, two) = (controller.name(Version::One), controller.name(Version::Two));
    Some(match &machine.unified {
        Some(unified) if machine.v1.is_empty() => {
            format!("the controller {two} is not in {}/cgroup.controllers", unified.display())
        }
        Some(_) => format!("the controller {one} is neither mounted (cgroup v1) nor in cgroup.controllers (cgroup v2)"),
        None => format!("the controller {one} of cgroup v1 is not mounted"),
    })
}

fn without_feature(machine: &Machine, ability: Ability) -> Option<String> {
    let version = |controller| machine.controller(controller).map(|(version, _)| version);
    let (needed, reason) = match ability {
        Ability::Swap => {
            ([Feature::Swap].as_slice(), "the kernel does not account for swap (boot it with swapaccount=1)")
        }
        Ability::Swappiness => (
            [Feature::Swappiness].as_slice(),
            match version(Controller::Memory) {
                Some(Version::Two) => "cgroup v2 has no swappiness for each cgroup",
                _ => "the kernel has no swappiness for each cgroup",
            },
        ),
        Ability::OomKillDisable => (
            [Feature::OomKillDisable].as_slice(),
            match version(Controller::Memory) {
                Some(Version::Two) => "cgroup v2 cannot switch the OOM killer off",
                _ => "the kernel cannot switch the OOM killer off",
            },
        ),
        Ability::Cpu => ([Feature::CpuQuota].as_slice(), "the kernel has no CPU quotas (CONFIG_CFS_BANDWIDTH)"),
        Ability::RealTime => (
            [Feature::RealTime].as_slice(),
            match version(Controller::Cpu) {
                Some(Version::Two) => "cgroup v2 gives no real-time CPU time to each cgroup",
                _ => "the kernel gives no real-time CPU time to each cgroup (CONFIG_RT_GROUP_SCHED)",
            },
        ),
        Ability::BlockWeight => (
            [Feature::Weight, Feature::BfqWeight].as_slice(),
            "the kernel has no weights of block I/O (neither the scheduler BFQ nor io.cost)",
        ),
        Ability::BlockLimit => {
            ([Feature::BlockLimit].as_slice(), "the kernel has no limits of block I/O (CONFIG_BLK_DEV_THROTTLING)")
        }
        Ability::AppArmor
        | Ability::SeLinux
        | Ability::UserNamespace
        | Ability::Memory
        | Ability::Cpuset
        | Ability::Pids
        | Ability::RootQuota
        | Ability::Networks
        | Ability::Ipv6 => return None,
    };
    (!needed.iter().any(|feature| machine.offers(*feature))).then(|| reason.to_owned())
}

fn app_armor() -> Option<String> {
    match fs::read_to_string("/sys/module/apparmor/parameters/enabled") {
        Err(_) => Some("the kernel has no AppArmor".to_owned()),
        Ok(text) if text.trim() != "Y" => Some("AppArmor is switched off (boot with apparmor=1)".to_owned()),
        Ok(_) if !Path::new("/sys/kernel/security/apparmor/profiles").exists() => {
            Some("securityfs is not mounted on /sys/kernel/security, so AppArmor cannot be asked".to_owned())
        }
        Ok(_) => None,
    }
}

fn se_linux() -> Option<String> {
    let there = Path::new("/sys/fs/selinux/enforce").exists();
    (!there).then(|| "SELinux is not in use (nothing is mounted on /sys/fs/selinux)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::machine::tests::complete;

    #[test]
    fn each_version_lacks_what_it_does_not_have() {
        let words = |machine: &Machine, ability| lacks(machine).get(&ability).cloned().unwrap_or_default();
        let (one, two) = (complete(Version::One), complete(Version::Two));
        for ability in [
            Ability::Memory,
            Ability::Swap,
            Ability::Cpu,
            Ability::Cpuset,
            Ability::Pids,
            Ability::BlockWeight,
            Ability::BlockLimit,
        ] {
            assert_eq!((words(&one, ability), words(&two, ability)), (String::new(), String::new()), "{ability:?}");
        }
        assert_eq!(words(&one, Ability::Swappiness), "");
        assert_eq!(words(&two, Ability::Swappiness), "cgroup v2 has no swappiness for each cgroup");
        assert_eq!(words(&two, Ability::OomKillDisable), "cgroup v2 cannot switch the OOM killer off");
        assert_eq!(words(&two, Ability::RealTime), "cgroup v2 gives no real-time CPU time to each cgroup");

        let mut less = complete(Version::Two);
        less.unified_controllers.remove("io");
        less.features.remove(&Feature::Swap);
        assert_eq!(words(&less, Ability::BlockLimit), "the controller io is not in /cg/cgroup.controllers");
        assert!(words(&less, Ability::Swap).contains("swapaccount=1"));
        let none = lacks(&Machine::default());
        assert_eq!(none[&Ability::Pids], "the controller pids of cgroup v1 is not mounted");
    }
}
