//! The cgroups of the containers: who is in them, ending everybody, taking them away. Both versions, and both at once.
//!
//! The runtimes make them; here they are only looked at, emptied and removed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::model::ContainerId;

/// The mounted hierarchies, and our place in them.
#[derive(Debug, Clone)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    parent: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    unified: bool,
    memory: bool,
    devices: bool,
}

/// Processes are left although they were killed again and again.
#[derive(Debug, thiserror::Error)]
pub enum NotEmpty {
    /// They are in there.
    #[error("{count} processes of the container do not end")]
    Left { count: usize },
    /// They may be in there.
    #[error("the processes in the container's cgroup cannot be listed")]
    Unreadable(#[source] io::Error),
}

const PAUSE: Duration = Duration::from_millis(2);

impl Cgroups {
    /// Looks for the hierarchies; containers are below `/longshore/INSTANCE` in each.
    pub fn find(instance: &str) -> io::Result<Self> {
        let hierarchies = hierarchies(&fs::read_to_string("/proc/self/mountinfo")?);
        Ok(Self { hierarchies, parent: Path::new("/longshore").join(instance) })
    }

    /// The container's place, absolute within each hierarchy.
    #[must_use]
    pub fn path(&self, id: &ContainerId) -> PathBuf {
        self.parent.join(id.as_str())
    }

    /// Whether the device controller of cgroup v1 can refuse devices. On v2 that takes a program of one's own.
    #[must_use]
    pub fn guard_devices(&self) -> bool {
        self.hierarchies.iter().any(|hierarchy| hierarchy.devices)
    }

    /// The file that counts processes killed for want of memory.
    #[must_use]
    pub fn oom_counter(&self, id: &ContainerId) -> PathBuf {
        let named = |h: &Hierarchy| {
            let name = if h.unified { "memory.events" } else { "memory.oom_control" };
            below(&h.mount, &self.path(id)).join(name)
        };
        let memory = self.hierarchies.iter().find(|h| h.memory).or_else(|| self.hierarchies.iter().find(|h| h.unified));
        memory.map_or_else(PathBuf::new, named)
    }

    /// Whether any process is in it; when in doubt there is one.
    #[must_use]
    pub fn populated(&self, id: &ContainerId) -> bool {
        self.pids(id).map_or(true, |pids| !pids.is_empty())
    }

    /// Every folder below ours that is not one of these.
    #[must_use]
    pub fn strangers(&self, known: impl Fn(&ContainerId) -> bool) -> BTreeSet<ContainerId> {
        let folders = self.hierarchies.iter().map(|h| below(&h.mount, &self.parent));
        let names = folders.flat_map(|f| children(&f)).filter_map(|f| f.file_name()?.to_str().map(str::to_owned));
        names.filter_map(|name| ContainerId::from_hex(&name)).filter(|id| !known(id)).collect()
    }

    /// Ends every process in it, and waits until none is left.
    pub fn kill(&self, id: &ContainerId, limit: Duration) -> Result<(), NotEmpty> {
        let until = Instant::now() + limit;
        loop {
            let left = match self.pids(id) {
                Ok(pids) if pids.is_empty() => return Ok(()),
                Ok(pids) => NotEmpty::Left { count: pids.len() },
                Err(error) => NotEmpty::Unreadable(error),
            };
            if Instant::now() > until {
                return Err(left);
            }
            self.kill_once(id);
            std::thread::sleep(PAUSE);
        }
    }

    fn kill_once(&self, id: &ContainerId) {
        // One write ends them all (5.14). Else they are frozen meanwhile: nobody can fork away.
        if self.folders(id).any(|(h, f)| h.unified && fs::write(f.join("cgroup.kill"), "1").is_ok()) {
            return;
        }
        let freeze = |state: &str| {
            for (_, folder) in self.folders(id) {
                let _ = fs::write(folder.join("freezer.state"), state);
            }
        };
        freeze("FROZEN");
        for pid in self.pids(id).unwrap_or_default() {
            let Some(fd) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
                continue;
            };
            // The number may have passed to a stranger before we held it.
            if self.holds(id, pid) {
                let _ = pidfd_send_signal(&fd, Signal::KILL);
            }
        }
        freeze("THAWED");
    }

    /// Whether the process is in it. By its own file, since reading everybody's for each of thousands takes minutes; where that
    /// names the place otherwise (it does below a root that is not the hierarchy's own), by everybody's.
    fn holds(&self, id: &ContainerId, pid: i32) -> bool {
        let path = self.path(id);
        let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let named = own.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        named.map(Path::new).any(|place| place.starts_with(&path))
            || self.pids(id).is_ok_and(|pids| pids.contains(&pid))
    }

    /// Removes it in every hierarchy. It must be empty.
    pub fn remove(&self, id: &ContainerId) -> io::Result<()> {
        for (_, folder) in self.folders(id) {
            remove_tree(&folder, Instant::now() + Duration::from_secs(2))?;
        }
        for hierarchy in &self.hierarchies {
            // Ours too when the last one is gone; fails where others are left.
            let parent = below(&hierarchy.mount, &self.parent);
            let _ = fs::remove_dir(&parent);
            let _ = parent.parent().map(fs::remove_dir);
        }
        Ok(())
    }

    fn folders(&self, id: &ContainerId) -> impl Iterator<Item = (&Hierarchy, PathBuf)> {
        let path = self.path(id);
        self.hierarchies.iter().map(move |h| (h, below(&h.mount, &path))).filter(|(_, f)| f.is_dir())
    }

    fn pids(&self, id: &ContainerId) -> io::Result<BTreeSet<i32>> {
        let path = self.path(id);
        let mut pids = BTreeSet::new();
        for hierarchy in &self.hierarchies {
            collect_pids(&below(&hierarchy.mount, &path), &mut pids)?;
        }
        Ok(pids)
    }
}

fn collect_pids(folder: &Path, pids: &mut BTreeSet<i32>) -> io::Result<()> {
    let text = match fs::read_to_string(folder.join("cgroup.procs")) {
        Ok(text) => text,
        Err(error) => match error.raw_os_error() {
            // It is gone, or went while it was read.
            Some(libc::ENOENT | libc::ENODEV) => return Ok(()),
            // A threaded cgroup: its processes are listed by the one above.
            Some(libc::EOPNOTSUPP) => String::new(),
            _ => return Err(error),
        },
    };
    // 0 is a process of another pid namespace, which we cannot name.
    pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 0));
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect_pids(&entry.path(), pids)?;
        }
    }
    Ok(())
}

fn remove_tree(folder: &Path, until: Instant) -> io::Result<()> {
    for child in children(folder) {
        remove_tree(&child, until)?;
    }
    loop {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A process that was reaped a moment ago still counts.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < until => {
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn below(mount: &Path, absolute: &Path) -> PathBuf {
    mount.join(absolute.strip_prefix("/").unwrap_or(absolute))
}

/// One per hierarchy: `ID PARENT MAJOR:MINOR ROOT MOUNT OPTIONS … - TYPE SOURCE SUPER-OPTIONS`.
fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<(String, Hierarchy)> = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let (before, after): (Vec<&str>, Vec<&str>) = (before.split(' ').collect(), after.split(' ').collect());
        let (Some(device), Some(mount), Some(kind), Some(options)) =
            (before.get(2), before.get(4), after.first(), after.get(2))
        else {
            continue;
        };
        if !matches!(*kind, "cgroup" | "cgroup2") || found.iter().any(|(d, _)| d == device) {
            continue;
        }
        let controls = |name: &str| options.split(',').any(|o| o == name);
        let (memory, devices, unified) = (controls("memory"), controls("devices"), *kind == "cgroup2");
        found.push(((*device).to_owned(), Hierarchy { mount: mount.into(), unified, memory, devices }));
    }
    found.into_iter().map(|(_, hierarchy)| hierarchy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_that_cannot_be_read_is_not_called_empty() {
        let mount = tempfile::tempdir().expect("a folder");
        let hierarchy = Hierarchy { mount: mount.path().into(), unified: true, memory: false, devices: false };
        let cgroups = Cgroups { hierarchies: vec![hierarchy], parent: "/longshore/x".into() };
        let id = ContainerId::from_hex(&"a".repeat(64)).expect("an id");
        assert!(!cgroups.populated(&id), "there is none");
        fs::create_dir_all(below(mount.path(), &cgroups.path(&id)).join("cgroup.procs")).expect("not a file");
        assert!(cgroups.populated(&id));
        assert!(matches!(cgroups.kill(&id, Duration::ZERO), Err(NotEmpty::Unreadable(_))));
    }

    #[test]
    fn hierarchies_of_both_versions_are_found_once() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory\n\
                    99 31 0:32 /x /elsewhere rw,relatime - cgroup cgroup rw,memory\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = hierarchies(text);
        assert_eq!(found.len(), 2);
        assert!(found[0].memory && !found[0].unified && found[0].mount == Path::new("/sys/fs/cgroup/memory"));
        assert!(found[1].unified);
    }
}
