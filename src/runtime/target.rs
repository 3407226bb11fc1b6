//! What is entered: a container's first process, held by descriptor, so that it cannot become another one meanwhile.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::cgroups::{self, Place};
use crate::container::exec::link::ExecFailure;
use crate::container::link::ProcessRecord;
use crate::container::process::Process;
use crate::model::ProcessId;

/// The container.
pub(super) struct Target {
    init: Process,
    namespaces: CloneFlags,
    places: Vec<Place>,
}

const NAMESPACES: [(&str, CloneFlags); 8] = [
    ("user", CloneFlags::CLONE_NEWUSER),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("time", CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)),
];

impl Target {
    /// Takes hold of it. Fails where it is not the process, or not in the cgroup, that the order names: nothing else is entered.
    pub(super) fn hold(init: ProcessRecord, cgroup: &Path) -> Result<Self, ExecFailure> {
        let id = ProcessId::from(init);
        let fail = |what: &str, error: io::Error| ExecFailure::NotStarted(format!("{what}: {error}"));
        let init = Process::open(id)
            .map_err(|error| fail("the container's first process cannot be looked at", error))?
            .ok_or(ExecFailure::ContainerEnded)?;
        let looked = cgroups::of_process(id.pid, cgroup).and_then(|p| Ok((p, differing(id.pid)?)));
        // What was read is its own only if it still is there.
        if init.ended_within(Duration::ZERO) {
            return Err(ExecFailure::ContainerEnded);
        }
        let (places, namespaces) =
            looked.map_err(|error| fail("the container's cgroups and namespaces cannot be read", error))?;
        if !cgroups::inside(&places) {
            let cgroup = cgroup.display();
            return Err(ExecFailure::NotStarted(format!(
                "process {} is not in the container's cgroup {cgroup}: it is not entered",
                id.pid
            )));
        }
        // The root of the mounts that are ours now is the host's.
        if !namespaces.contains(CloneFlags::CLONE_NEWNS) {
            return Err(ExecFailure::NotStarted(
                "the container has no mounts of its own: it is not entered".to_owned(),
            ));
        }
        Ok(Self { init, namespaces, places })
    }

    /// Moves the calling process into its cgroups.
    pub(super) fn join_cgroups(&self) -> io::Result<()> {
        self.places.iter().try_for_each(Place::join)
    }

    /// Moves the calling process into its namespaces, all at once; into that of its processes go the children.
    pub(super) fn join_namespaces(&self) -> io::Result<()> {
        Ok(setns(&self.init, self.namespaces)?)
    }

    /// Moves the calling process among its mounts alone; `/` is the container's from then on.
    pub(super) fn join_mounts(&self) -> io::Result<()> {
        Ok(setns(&self.init, CloneFlags::CLONE_NEWNS)?)
    }

    /// Moves the calling process into its network alone, where it has its own.
    pub(super) fn join_network(&self) -> io::Result<()> {
        let own = self.namespaces.contains(CloneFlags::CLONE_NEWNET);
        if own { Ok(setns(&self.init, CloneFlags::CLONE_NEWNET)?) } else { Ok(()) }
    }

    /// Makes the calling process one of its users, where it has its own.
    pub(super) fn join_users(&self) -> io::Result<()> {
        if self.own_users() { Ok(setns(&self.init, CloneFlags::CLONE_NEWUSER)?) } else { Ok(()) }
    }

    /// Whether it has other users than the host.
    pub(super) const fn own_users(&self) -> bool {
        self.namespaces.contains(CloneFlags::CLONE_NEWUSER)
    }

    /// Whether the container ends within this time.
    pub(super) fn ends_within(&self, limit: Duration) -> bool {
        self.init.ended_within(limit)
    }
}

/// Those that are not ours already. A kernel may lack one; then nobody has it.
fn differing(pid: i32) -> io::Result<CloneFlags> {
    let mut flags = CloneFlags::empty();
    for (name, flag) in NAMESPACES {
        let own = Path::new("/proc/self/ns").join(name);
        if !own.exists() {
            continue;
        }
        if fs::read_link(format!("/proc/{pid}/ns/{name}"))? != fs::read_link(own)? {
            flags |= flag;
        }
    }
    Ok(flags)
}
