//! The host from outside: processes, cgroups, mounts.

use std::fs;
use std::path::{Path, PathBuf};

/// Pids whose arguments name `text`.
pub(crate) fn pids_naming(text: &str) -> Vec<i32> {
    all_pids()
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}

fn all_pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The folders of an instance's cgroups, one for each hierarchy that has one.
pub(crate) fn cgroups(instance: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).expect("cgroups").flatten().map(|entry| entry.path());
    let places = std::iter::once(root.to_owned()).chain(hierarchies);
    places.map(|place| place.join("longshore").join(instance)).filter(|path| path.is_dir()).collect()
}

/// Processes in the cgroup of one container.
pub(crate) fn pids_in(instance: &str, container: &str) -> Vec<i32> {
    let mut pids: Vec<i32> = cgroups(instance)
        .iter()
        .filter_map(|folder| fs::read_to_string(folder.join(container).join("cgroup.procs")).ok())
        .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Mounts that any process can see below `dir`.
pub(crate) fn mounts(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let dir = format!("{}/", dir.display());
    text.lines().filter(|line| line.contains(&dir)).map(str::to_owned).collect()
}

pub(crate) fn alive(pid: i32) -> bool {
    // A zombie has ended.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(|c| c != 'Z' && c != 'X'))
}

pub(crate) fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("it was alive");
}

/// Bytes of all files below `dir`.
pub(crate) fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("a folder").flatten();
    entries.map(|e| if e.path().is_dir() { bytes_below(&e.path()) } else { e.metadata().map_or(0, |m| m.len()) }).sum()
}

/// For this thread and whom it starts, the file that says which ids there are is one of the test's own.
pub(crate) fn own_ids() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("apart");
    let ids = tempfile::NamedTempFile::new().expect("a file");
    fs::write(ids.path(), "longshore:1000000:1000000\n").expect("written");
    for target in ["/etc/subuid", "/etc/subgid"] {
        mount(Some(ids.path()), target, none, MsFlags::MS_BIND, none).expect("mounted");
    }
}
