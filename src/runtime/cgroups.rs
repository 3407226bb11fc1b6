//! Where a process is in each cgroup hierarchy, and following it there.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

/// One hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The folder of the container's cgroup.
    container: Option<PathBuf>,
    /// The folder where its first process is; a container may have made cgroups of its own.
    process: PathBuf,
}

/// The places of a process, by its `cgroup` file and our `mountinfo`.
pub(super) fn places(cgroup_file: &str, mountinfo: &str, container: &Path) -> Vec<Place> {
    let mounts = visible(mountinfo);
    let place = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (mount, process) = found(&mounts, controllers, Path::new(path))?;
        // Its own or one below it.
        let container = Path::new(path).starts_with(container).then(|| mount.folder(container))?;
        Some(Place { container, process })
    };
    // A hierarchy that the runtime left alone is one more place, where nothing is the container's.
    let elsewhere = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (_, process) = found(&mounts, controllers, Path::new(path))?;
        Some(Place { container: None, process })
    };
    cgroup_file.lines().filter_map(|line| place(line).or_else(|| elsewhere(line))).collect()
}

/// The mounts of cgroups, without those that others were mounted on: a machine made of namespaces has both.
fn visible(mountinfo: &str) -> Vec<Mount<'_>> {
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in mountinfo.lines().filter_map(Mount::parse) {
        mounts.retain(|covered| covered.at != mount.at);
        mounts.push(mount);
    }
    mounts
}

/// Where a path of a hierarchy is seen, and by which mount.
fn found<'m, 'a>(mounts: &'m [Mount<'a>], controllers: &str, path: &Path) -> Option<(&'m Mount<'a>, PathBuf)> {
    let mut carrying = mounts.iter().filter(|mount| mount.carries(controllers));
    carrying.find_map(|mount| Some((mount, mount.folder(path)?)))
}

/// Whether the process is in the container's cgroup: in at least one hierarchy, since not all are each runtime's.
pub(super) fn inside(places: &[Place]) -> bool {
    places.iter().any(|place| place.container.is_some())
}

impl Place {
    /// Moves the calling process there. One that holds cgroups with controllers may take no processes itself (v2): then to
    /// where the container's first process is.
    pub(super) fn join(&self) -> io::Result<()> {
        let container = self.container.as_deref().unwrap_or(&self.process);
        match enter(container) {
            Err(error) if container != self.process && !matches!(error.kind(), io::ErrorKind::NotFound) => {
                enter(&self.process)
            }
            done => done,
        }
    }
}

fn enter(folder: &Path) -> io::Result<()> {
    // 0 is the one who writes.
    File::options().write(true).open(folder.join("cgroup.procs"))?.write_all(b"0")
}

/// What a process's files say. The process is held by descriptor meanwhile.
pub(super) fn of_process(pid: i32, container: &Path) -> io::Result<Vec<Place>> {
    let file = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    Ok(places(&file, &fs::read_to_string("/proc/self/mountinfo")?, container))
}

struct Mount<'a> {
    root: &'a str,
    at: &'a str,
    unified: bool,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// `ID PARENT MAJOR:MINOR ROOT MOUNT OPTIONS … - TYPE SOURCE SUPER-OPTIONS`
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        let (root, at) = (before.next()?, before.next()?);
        let (kind, options) = (after.next()?, after.nth(1)?);
        matches!(kind, "cgroup" | "cgroup2").then_some(Self { root, at, unified: kind == "cgroup2", options })
    }

    fn carries(&self, controllers: &str) -> bool {
        if controllers.is_empty() || self.unified {
            return controllers.is_empty() && self.unified;
        }
        controllers.split(',').all(|name| self.options.split(',').any(|option| option == name))
    }

    /// None: it lies elsewhere, or above what this mount shows, where nobody can be followed.
    fn folder(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(self.root).ok()?;
        let above = below.components().any(|part| part == Component::ParentDir);
        (!above).then(|| Path::new(self.at).join(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        35 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct\n\
        36 31 0:33 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn each_hierarchy_is_found_and_those_of_others_are_told_apart() {
        let file = "5:cpu,cpuacct:/longshore/i/x\n4:pids:/longshore/i/x\n1:name=systemd:/\n0::/longshore/i/x/own\n";
        let found = places(file, MOUNTS, Path::new("/longshore/i/x"));
        let place = |container: Option<&str>, process: &str| Place {
            container: container.map(PathBuf::from),
            process: process.into(),
        };
        let cpu = "/sys/fs/cgroup/cpu,cpuacct/longshore/i/x";
        let unified = "/sys/fs/cgroup/unified/longshore/i/x";
        assert_eq!(
            found,
            [
                place(Some(cpu), cpu),
                place(None, "/sys/fs/cgroup/systemd/"),
                place(Some(unified), &format!("{unified}/own")),
            ]
        );
        assert!(inside(&found));
        // The host's mounts are still there, below those of a machine made of namespaces.
        let both = format!("21 20 0:33 /.. /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n{MOUNTS}");
        assert_eq!(places(file, &both, Path::new("/longshore/i/x")), found);
        // A process may be outside of it in a hierarchy that is not the container's.
        let outside = file.replace("systemd:/\n", "systemd:/..\n");
        let within: Vec<Place> = found.iter().filter(|place| place.container.is_some()).cloned().collect();
        assert_eq!(places(&outside, &both, Path::new("/longshore/i/x")), within);
        // The beginning of a name is not the cgroup above it.
        assert!(!inside(&places("0::/longshore/i/xy\n0::/\n", MOUNTS, Path::new("/longshore/i/x"))));
    }
}
