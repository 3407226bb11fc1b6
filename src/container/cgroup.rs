//! The cgroups of the containers: who is in them, ending everybody, taking them away. Both versions, and both at once.
//!
//! The runtimes make them, below a folder that is made here where systemd owns the tree (`delegation`); here they are looked at,
//! emptied and removed.

mod delegation;
mod freeze;
mod places;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::link::DeviceCgroup;
use crate::model::ContainerId;
pub use delegation::DelegationError;
pub use places::{CgroupDriver, ParentError};
use places::{Driver, Places};

/// The mounted hierarchies, and our places in them.
#[derive(Debug)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    places: Places,
    /// Units are made and taken away one after the other: what is made for a container is not taken away before it is in there.
    units: Mutex<()>,
    /// The program that sleeps in a unit.
    keeper: PathBuf,
}

/// Why cgroups cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// They cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// The driver does not fit the machine.
    #[error("cgroup-driver is systemd, but {0}; set it to cgroupfs or auto")]
    NoSystemd(String),
}

/// Why there is no place for a container.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Its parent.
    #[error(transparent)]
    Parent(#[from] ParentError),
    /// systemd.
    #[error(transparent)]
    Delegation(#[from] DelegationError),
    /// A folder.
    #[error("the container's cgroup cannot be made")]
    Folder(#[source] io::Error),
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
    /// Looks for the hierarchies, and decides who makes our folder in them. A warning where `Auto` is not what one would expect.
    pub fn find(instance: &str, driver: CgroupDriver, keeper: &Path) -> Result<(Self, Option<String>), FindError> {
        let hierarchies = hierarchies(&fs::read_to_string("/proc/self/mountinfo")?);
        let (driver, warning) = decide(driver, &hierarchies)?;
        let (places, units, keeper) = (Places::new(instance, driver), Mutex::default(), keeper.to_owned());
        Ok((Self { hierarchies, places, units, keeper }, warning))
    }

    /// Remembers the parent that a container asked for (`cgroup_parent`): from then on it is looked for there.
    pub fn remember(&self, id: &ContainerId, parent: Option<&str>) {
        self.places.remember(id, parent);
    }

    /// The container's place, absolute within each hierarchy: where it is, else where it will be.
    #[must_use]
    pub fn path(&self, id: &ContainerId) -> PathBuf {
        let places = self.places.all(id);
        let there = places.iter().find(|p| self.hierarchies.iter().any(|h| below(&h.mount, p).is_dir()));
        there.or(places.first()).cloned().unwrap_or_default()
    }

    /// Before a start: where it is put. Where systemd owns the tree, the folder is there afterwards.
    pub fn place(&self, id: &ContainerId) -> Result<PathBuf, PlaceError> {
        let path = self.places.next(id)?;
        if let (Driver::Systemd, Some(mount)) = (self.places.driver, self.unified()) {
            let _one = self.units.lock().unwrap_or_else(PoisonError::into_inner);
            self.places.unit(id)?.ready(mount, &self.keeper, id.as_str())?;
        }
        if self.places.driver == Driver::Cgroupfs {
            // Whoever removes the last container of another daemon, or of this one, takes away empty folders above it: with this one in
            // there they are not empty, and the runtime finds them.
            for hierarchy in self.hierarchies.iter().filter(|h| !h.unified) {
                make_all(&below(&hierarchy.mount, &path)).map_err(PlaceError::Folder)?;
            }
        }
        Ok(path)
    }

    /// Where its shim is put, if it must not stay where the daemon is.
    #[must_use]
    pub fn shims(&self, id: &ContainerId) -> Option<PathBuf> {
        match self.places.driver {
            Driver::Systemd => Some(self.places.unit(id).ok()?.shims(self.unified()?)),
            Driver::Cgroupfs => None,
        }
    }

    fn unified(&self) -> Option<&Path> {
        self.hierarchies.iter().find(|h| h.unified).map(|h| h.mount.as_path())
    }

    /// Where devices are refused to a container: by the controller of cgroup v1, or where containers are in v2 alone, by a program
    /// of ours.
    #[must_use]
    pub fn devices(&self, id: &ContainerId) -> Option<DeviceCgroup> {
        let alone = self.hierarchies.iter().all(|hierarchy| hierarchy.unified);
        let hierarchy = self.hierarchies.iter().find(|h| h.devices || (alone && h.unified))?;
        Some(DeviceCgroup { folder: below(&hierarchy.mount, &self.path(id)), unified: hierarchy.unified })
    }

    /// The file that counts processes killed for want of memory.
    #[must_use]
    pub fn oom_counter(&self, id: &ContainerId) -> PathBuf {
        let path = self.path(id);
        let named = |h: &Hierarchy| {
            let name = if h.unified { "memory.events" } else { "memory.oom_control" };
            below(&h.mount, &path).join(name)
        };
        let memory = self.hierarchies.iter().find(|h| h.memory).or_else(|| self.hierarchies.iter().find(|h| h.unified));
        memory.map_or_else(PathBuf::new, named)
    }

    /// Whether any process is in it; when in doubt there is one.
    #[must_use]
    pub fn populated(&self, id: &ContainerId) -> bool {
        self.pids(id).map_or(true, |pids| !pids.is_empty())
    }

    /// Every container's folder below ours that is not one of these, with the parent that it asked for.
    #[must_use]
    pub fn strangers(&self, known: impl Fn(&ContainerId) -> bool) -> BTreeSet<(ContainerId, Option<String>)> {
        let found = self.hierarchies.iter().flat_map(|h| self.places.found(&h.mount));
        found.filter(|(id, _)| !known(id)).collect()
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
        // What is ours above it goes with the last one; it cannot where others are left.
        let (own, name) = (&self.places.common()[0], OsString::from(self.places.own_name()));
        let above =
            self.places.all(id).into_iter().flat_map(|p| p.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>());
        let ours = |path: &PathBuf| {
            path.starts_with(own) || own.parent() == Some(path) || path.file_name() == Some(name.as_os_str())
        };
        for path in above.filter(ours) {
            for hierarchy in &self.hierarchies {
                let _ = fs::remove_dir(below(&hierarchy.mount, &path));
            }
        }
        Ok(())
    }

    /// After the removal of a container that does not come back: its unit goes with the last one, and its parent is forgotten.
    pub fn retire(&self, id: &ContainerId) {
        if let (Driver::Systemd, Some(mount), Ok(unit)) = (self.places.driver, self.unified(), self.places.unit(id)) {
            let _one = self.units.lock().unwrap_or_else(PoisonError::into_inner);
            unit.retire(mount);
        }
        self.places.remember(id, None);
    }

    /// Takes away units that nobody is in: a daemon that was killed while it removed a container left one.
    pub fn sweep(&self) {
        if let (Driver::Systemd, Some(mount)) = (self.places.driver, self.unified()) {
            let _one = self.units.lock().unwrap_or_else(PoisonError::into_inner);
            for unit in self.places.units() {
                unit.retire(mount);
            }
        }
    }

    fn folders(&self, id: &ContainerId) -> impl Iterator<Item = (&Hierarchy, PathBuf)> {
        let places = self.places.all(id);
        let each = move |h: &Hierarchy| places.iter().map(|path| below(&h.mount, path)).collect::<Vec<_>>();
        let folders = self.hierarchies.iter().flat_map(move |h| each(h).into_iter().map(move |folder| (h, folder)));
        folders.filter(|(_, folder)| folder.is_dir())
    }

    fn pids(&self, id: &ContainerId) -> io::Result<BTreeSet<i32>> {
        let mut pids = BTreeSet::new();
        for path in self.places.all(id) {
            for hierarchy in &self.hierarchies {
                collect_pids(&below(&hierarchy.mount, &path), &mut pids)?;
            }
        }
        Ok(pids)
    }
}

/// systemd's rule of one writer is for v2; on v1 and hybrid machines our own tree is beside its, as before.
fn decide(driver: CgroupDriver, hierarchies: &[Hierarchy]) -> Result<(Driver, Option<String>), FindError> {
    let pure = !hierarchies.is_empty() && hierarchies.iter().all(|h| h.unified);
    let usable = || match pure {
        true => delegation::systemd_answers(),
        false => Err("cgroups of this machine are not v2 alone".to_owned()),
    };
    match driver {
        CgroupDriver::Cgroupfs => Ok((Driver::Cgroupfs, None)),
        CgroupDriver::Systemd => usable().map(|()| (Driver::Systemd, None)).map_err(FindError::NoSystemd),
        CgroupDriver::Auto if !pure || !Path::new("/run/systemd/system").is_dir() => Ok((Driver::Cgroupfs, None)),
        CgroupDriver::Auto => Ok(usable().map_or_else(
            |why| {
                let words =
                    format!("systemd runs here but cannot be used for cgroups ({why}): they are made without it");
                (Driver::Cgroupfs, Some(words))
            },
            |()| (Driver::Systemd, None),
        )),
    }
}

/// What is above may be taken away between two steps.
fn make_all(folder: &Path) -> io::Result<()> {
    let made = (0..100).map(|_| fs::create_dir_all(folder));
    let gone = |made: &io::Result<()>| made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    made.into_iter().find(|made| !gone(made)).unwrap_or_else(|| fs::create_dir_all(folder))
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
        let places = Places::new("x", Driver::Cgroupfs);
        let cgroups = Cgroups { hierarchies: vec![hierarchy], places, units: Mutex::default(), keeper: PathBuf::new() };
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
