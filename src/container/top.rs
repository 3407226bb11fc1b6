//! The processes of a container, as procfs shows them when somebody asks.
//!
//! Nothing of a container's own files is read for it: a user is its number, since the names in there are its own to choose.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::Containers;
use super::machine::{Controller, Machine};
use super::stats::uptime_us;
use crate::model::{ContainerId, ContainerState, ProcessId};

/// The kernel counts CPU time in hundredths of a second here.
const TICK_MS: u64 = 10;
/// More of a command line nobody reads.
const LONGEST: u64 = 4096;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// On the host.
    pub pid: i32,
    /// In the container.
    pub inner_pid: i32,
    /// Its user, as the container counts users.
    pub uid: u32,
    /// `R` runs, `S` sleeps, `D` waits for a device, `T` is stopped, `Z` is a zombie, …
    pub state: char,
    /// How many threads.
    pub threads: u32,
    /// CPU time since it started.
    pub cpu_ms: u64,
    /// Memory that is in place.
    pub resident_bytes: u64,
    /// How long it has been there.
    pub age_us: u64,
    /// What it was started as; its name in brackets where it does not say.
    pub command: String,
}

impl Containers {
    /// The processes of a container that runs, zombies included, the oldest first. Blocks.
    #[must_use]
    pub fn top(&self, id: &ContainerId) -> Vec<Row> {
        let init = match self.known().get(id).map(|known| known.observed.state.clone()) {
            Some(ContainerState::Running { init, .. }) => init.pid,
            _ => return Vec::new(),
        };
        let users = fs::read_to_string(format!("/proc/{init}/uid_map")).unwrap_or_default();
        let users = ranges(&users);
        let mut rows: Vec<Row> = pids(&self.0.sight.machine, &self.0.cgroups.path(id), init)
            .into_iter()
            .filter_map(|pid| row(Path::new(&format!("/proc/{pid}")), &users))
            .collect();
        rows.sort_by_key(|row| (row.inner_pid, row.pid));
        rows
    }
}

/// Those in the cgroup, and the zombies among their children: a cgroup does not list them.
fn pids(machine: &Machine, cgroup: &Path, init: i32) -> BTreeSet<i32> {
    let controllers = [Controller::Pids, Controller::Memory, Controller::Cpu, Controller::CpuAccount];
    let folder = controllers.into_iter().find_map(|controller| machine.folder(controller, cgroup));
    let mut alive = BTreeSet::from([init]);
    if let Some((_, folder)) = folder {
        collect(&folder, &mut alive);
    }
    let children = alive.iter().flat_map(|pid| children(*pid)).collect::<BTreeSet<i32>>();
    let zombie = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|text| fields(&text).is_some_and(|(_, fields)| fields.starts_with('Z')))
    };
    let zombies: Vec<i32> = children.difference(&alive).copied().filter(zombie).collect();
    alive.extend(zombies);
    alive
}

fn collect(folder: &Path, pids: &mut BTreeSet<i32>) {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids);
        }
    }
}

/// Of all its threads: a child belongs to the one that made it.
fn children(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    texts.flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()).collect()
}

/// The name and the fields after it; the name may hold blanks and brackets.
fn fields(stat: &str) -> Option<(&str, &str)> {
    let (before, fields) = stat.rsplit_once(") ")?;
    Some((before.split_once('(')?.1, fields))
}

/// `/proc/PID`; none where it has ended meanwhile.
fn row(folder: &Path, users: &[Range]) -> Option<Row> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let mut command = Vec::new();
    if let Ok(file) = fs::File::open(folder.join("cmdline")) {
        let _ = file.take(LONGEST).read_to_end(&mut command);
    }
    let pid = folder.file_name()?.to_str()?.parse().ok()?;
    let mut row = parse(pid, &stat, &status, &command)?;
    row.uid = inside(users, row.uid);
    Some(row)
}

/// From `stat` (its fields are counted from the third), `status` and `cmdline`.
fn parse(pid: i32, stat: &str, status: &str, command: &[u8]) -> Option<Row> {
    let (name, fields) = fields(stat)?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok());
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let start_ticks = number(19)?;
    let command = String::from_utf8_lossy(command).trim_end_matches('\0').replace('\0', " ");
    Some(Row {
        pid,
        inner_pid: line("NSpid").and_then(|pids| pids.split_whitespace().last()?.parse().ok()).unwrap_or(pid),
        uid: line("Uid").and_then(|uids| uids.split_whitespace().nth(1)?.parse().ok())?,
        state: fields.first()?.chars().next()?,
        threads: number(17).and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
        cpu_ms: (number(11)? + number(12)?) * TICK_MS,
        resident_bytes: number(21).unwrap_or(0) * rustix::param::page_size() as u64,
        age_us: uptime_us(ProcessId { pid, start_ticks }),
        command: if command.is_empty() { format!("[{name}]") } else { command },
    })
}

/// A range of `uid_map`: inside, outside, how many.
type Range = (u32, u32, u32);

fn ranges(text: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    text.lines().filter_map(range).collect()
}

/// How the container counts a user of the host. One that is not of its own stays as it is.
fn inside(users: &[Range], uid: u32) -> u32 {
    let range = users.iter().find(|(_, outside, count)| uid.checked_sub(*outside).is_some_and(|n| n < *count));
    range.map_or(uid, |(inside, outside, _)| inside + (uid - outside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_from_its_three_files() {
        let stat = "4711 (a) b (c) Z 1 1 1 0 -1 4 9 9 9 9 150 25 7 7 20 0 3 0 12345 1000 7 99 0 0 0";
        let status = "Name:\tabc\nUid:\t1000\t100033\t1000\t1000\nNSpid:\t4711\t12\n";
        let row = parse(4711, stat, status, b"sleep\x0010\0").unwrap();
        assert_eq!((row.pid, row.inner_pid, row.uid, row.state, row.threads), (4711, 12, 100_033, 'Z', 3));
        assert_eq!((row.cpu_ms, row.command.as_str()), (1750, "sleep 10"));
        assert!(row.resident_bytes >= 7 * 4096);
        assert_eq!(parse(4711, stat, status, b"").unwrap().command, "[a) b (c]");
        assert_eq!(parse(4711, "nonsense", status, b""), None);
    }

    #[test]
    fn users_are_counted_as_the_container_counts_them() {
        let whole = ranges("         0          0 4294967295\n");
        assert_eq!(inside(&whole, 33), 33);
        let some = ranges("0 100000 1000\n1000 500000 10\n");
        assert_eq!([100_033, 500_009, 500_010, 0].map(|uid| inside(&some, uid)), [33, 1009, 500_010, 0]);
    }

    #[test]
    fn zombies_are_found_among_the_children() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (own, pid) = (i32::try_from(std::process::id()).unwrap(), i32::try_from(child.id()).unwrap());
        let state = || row(Path::new(&format!("/proc/{pid}")), &[]).map(|row| row.state);
        while state() != Some('Z') {
            std::thread::yield_now();
        }
        assert!(pids(&Machine::default(), Path::new("/"), own).contains(&pid));
        child.wait().unwrap();
        assert!(!pids(&Machine::default(), Path::new("/"), own).contains(&pid));
    }
}
