//! What containers use, read from cgroupfs and procfs when somebody asks, and at no other time.
//!
//! The files of a container stay open between two looks, as long as it runs and descriptors are plenty: a look is then one read
//! for each of them.

mod numbers;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit};
use nix::time::{ClockId, clock_gettime};

use super::Containers;
use super::machine::{Controller, Machine, Version};
use crate::model::{ContainerId, ContainerState, NetworkMode, ProcessId};

pub use numbers::{Block, Cpu, Memory, Network, Pids, Pressure, Share, Stall, Stats};

/// Of the descriptors that we may have, so many are not for this.
const SHARE: u64 = 4;

/// The files of each controller.
const ONE: [(Controller, &[&str]); 5] = [
    (Controller::CpuAccount, &["cpuacct.usage", "cpuacct.usage_user", "cpuacct.usage_sys"]),
    (Controller::Cpu, &["cpu.stat"]),
    (Controller::Memory, &["memory.usage_in_bytes", "memory.limit_in_bytes", "memory.stat", "memory.oom_control"]),
    (Controller::Pids, &["pids.current", "pids.max"]),
    (Controller::Block, &["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"]),
];
const TWO: [(Controller, &[&str]); 5] = [
    // One of the two: they are the same controller there.
    (Controller::CpuAccount, &[]),
    (Controller::Cpu, &["cpu.stat", "cpu.pressure"]),
    (
        Controller::Memory,
        &["memory.current", "memory.max", "memory.stat", "memory.swap.current", "memory.events", "memory.pressure"],
    ),
    (Controller::Pids, &["pids.current", "pids.max"]),
    (Controller::Block, &["io.stat", "io.pressure"]),
];
/// So many files has a container at most.
const FILES: u64 = 13;

/// Reads the numbers of containers.
pub(super) struct Reader {
    open: Mutex<BTreeMap<ContainerId, Open>>,
    most: usize,
}

/// The files of one run of a container.
struct Open {
    init: ProcessId,
    files: Vec<(&'static str, File)>,
}

/// A container that runs.
pub(super) struct Running<'a> {
    pub(super) id: &'a ContainerId,
    pub(super) init: ProcessId,
    pub(super) cgroup: &'a Path,
    pub(super) network: &'a NetworkMode,
}

impl Containers {
    /// What these containers use now; those that do not run are left out. Blocks for some tens of microseconds for each.
    #[must_use]
    pub fn stats(&self, ids: &[ContainerId]) -> BTreeMap<ContainerId, Stats> {
        let running: BTreeMap<ContainerId, (ProcessId, NetworkMode)> = {
            let known = self.known();
            let running = known.iter().filter_map(|(id, known)| match known.observed.state {
                ContainerState::Running { init, .. } => {
                    Some((id.clone(), (init, known.observed.spec.service.network.clone())))
                }
                _ => None,
            });
            running.collect()
        };
        self.0.sight.reader.forget(|id, init| running.get(id).is_none_or(|(now, _)| *now != init));
        let each = |id: &ContainerId| {
            let (init, network) = running.get(id)?;
            let cgroup = self.0.cgroups.path(id);
            Some((
                id.clone(),
                self.0.sight.reader.read(&self.0.sight.machine, &Running { id, init: *init, cgroup: &cgroup, network }),
            ))
        };
        ids.iter().filter_map(each).collect()
    }
}

impl Reader {
    pub(super) fn new() -> Self {
        let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let most = usize::try_from(soft / SHARE / FILES).unwrap_or(usize::MAX);
        Self { open: Mutex::default(), most }
    }

    /// Closes the files of containers that are gone.
    fn forget(&self, gone: impl Fn(&ContainerId, ProcessId) -> bool) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|id, files| !gone(id, files.init));
    }

    fn read(&self, machine: &Machine, container: &Running<'_>) -> Stats {
        let mut stats = Stats { uptime_us: uptime_us(container.init), ..Stats::default() };
        let mut text = Vec::with_capacity(4096);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = match open.remove(container.id) {
            Some(files) if files.init == container.init => files.files,
            _ => open_files(machine, container.cgroup),
        };
        files.retain(|(name, file)| match whole(file, &mut text) {
            Ok(text) => {
                stats.take(name, text);
                true
            }
            // It is gone, and comes back with the next run.
            Err(_) => false,
        });
        if open.len() < self.most {
            open.insert(container.id.clone(), Open { init: container.init, files });
        }
        drop(open);
        if *container.network != NetworkMode::Host {
            // Not kept open: it would keep the network alive after its container.
            let path = format!("/proc/{}/net/dev", container.init.pid);
            if let Ok(file) = File::open(path)
                && let Ok(text) = whole(&file, &mut text)
            {
                stats.take("net/dev", text);
            }
        }
        stats
    }
}

fn open_files(machine: &Machine, cgroup: &Path) -> Vec<(&'static str, File)> {
    let mut files = Vec::new();
    for (one, two) in ONE.iter().zip(&TWO) {
        let Some((version, folder)) = machine.folder(one.0, cgroup) else { continue };
        let names = match version {
            Version::One => one.1,
            Version::Two => two.1,
        };
        // What a kernel does not have is left out.
        files.extend(names.iter().filter_map(|name| Some((*name, File::open(folder.join(name)).ok()?))));
    }
    files
}

/// All of a file from its beginning.
fn whole<'a>(file: &File, buffer: &'a mut Vec<u8>) -> io::Result<&'a str> {
    buffer.resize(buffer.capacity().max(4096), 0);
    let mut length = 0;
    loop {
        match file.read_at(&mut buffer[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
        // cgroupfs gives all at once where there is room; a short read is the end.
        if length < buffer.len() {
            break;
        }
        buffer.resize(buffer.len() * 2, 0);
    }
    std::str::from_utf8(&buffer[..length]).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// By the kernel's own clock since boot, by which it notes when a process started.
pub(super) fn uptime_us(init: ProcessId) -> u64 {
    const TICK_US: u64 = 1_000_000 / 100;
    let Ok(now) = clock_gettime(ClockId::CLOCK_BOOTTIME) else { return 0 };
    let now = u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec()).unwrap_or(0) / 1000;
    now.saturating_sub(init.start_ticks.saturating_mul(TICK_US))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_file_is_read_whole_however_long_it_is() {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), "7 ".repeat(10_000)).unwrap();
        let file = File::open(path.path()).unwrap();
        let mut buffer = Vec::new();
        assert_eq!(whole(&file, &mut buffer).unwrap().len(), 20_000);
        std::fs::write(path.path(), "8").unwrap();
        assert_eq!(whole(&file, &mut buffer).unwrap(), "8", "the descriptor stays good");
    }

    /// Cgroups of nobody, in every hierarchy; removed whatever happens.
    struct Made(Machine, Vec<PathBuf>);

    impl Made {
        fn new(count: usize) -> Self {
            let machine = Machine::look().expect("looked at");
            let parent = format!("/longshore-stats-{}", std::process::id());
            let places = (0..count).map(|n| PathBuf::from(format!("{parent}/{n}")));
            let made = Self(machine, places.chain([parent.clone().into()]).collect());
            for path in made.folders() {
                std::fs::create_dir_all(path).expect("as root");
            }
            made
        }
        fn folders(&self) -> impl Iterator<Item = PathBuf> {
            let controllers = ONE.iter().map(|(controller, _)| *controller);
            self.1.iter().flat_map(move |path| controllers.clone().filter_map(|c| Some(self.0.folder(c, path)?.1)))
        }
    }

    impl Drop for Made {
        fn drop(&mut self) {
            self.folders().for_each(|path| drop(std::fs::remove_dir(path)));
        }
    }

    #[test]
    fn five_hundred_containers_are_read_in_a_moment() {
        if !nix::unistd::geteuid().is_root() {
            return println!("only root makes cgroups");
        }
        let made = Made::new(500);
        let reader = Reader { most: 100_000, ..Reader::new() };
        let ids: Vec<ContainerId> = (0..500).map(|n| ContainerId::from_hex(&format!("{n:064x}")).unwrap()).collect();
        let init = ProcessId { pid: 1, start_ticks: 0 };
        for turn in ["opened", "open already", "open already"] {
            let before = std::time::Instant::now();
            for (id, cgroup) in ids.iter().zip(&made.1) {
                let stats = reader.read(&made.0, &Running { id, init, cgroup, network: &NetworkMode::None });
                assert!(
                    stats.memory.is_some() && stats.cpu.is_some() && stats.pids.is_some() && stats.network.is_some()
                );
            }
            let took = before.elapsed();
            println!("500 containers, {turn}: {took:?}, {} us each", took.as_micros() / 500);
            assert!(took.as_secs() < 5, "{took:?}");
        }
    }
}
