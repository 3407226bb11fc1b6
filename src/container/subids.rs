//! Ranges of ids for containers with users of their own: out of `/etc/subuid` and `/etc/subgid`, no id twice.
//!
//! A container's range is in the file [`IDS`] of its folder; it keeps it, and frees it by being removed. What other daemons hold is
//! seen in a register that all of them share, one file per range with the folder it belongs to: an entry whose folder does
//! not say the same any more means nothing. What other engines hold is seen while it is in use, in `/proc/PID/uid_map`.
//! Losing a range harms nobody: files on disk do not know of it.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::rootfs::IdRange;

/// The range of a container, in its folder.
pub const IDS: &str = "ids";
/// Users whose ranges are taken where none is configured; the second is podman's.
const USERS: [&str; 2] = ["longshore", "containers"];

/// So long a process that has ended may still be seen.
const REAPED: Duration = Duration::from_millis(300);

/// Inode, size and time of change of a file that is there.
pub type Stamp = Option<(u64, u64, i64, i64)>;

/// Where ranges come from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Whose; `None`: the first of `longshore` and `containers` that has any.
    pub user: Option<String>,
    /// `/etc/subuid`
    pub subuid: PathBuf,
    /// `/etc/subgid`
    pub subgid: PathBuf,
    /// The folder in which all daemons of this machine say what they hold.
    pub register: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            user: None,
            subuid: "/etc/subuid".into(),
            subgid: "/etc/subgid".into(),
            register: "/run/longshore-ids".into(),
        }
    }
}

/// Why a container has no range.
#[derive(Debug, thiserror::Error)]
pub enum SubidError {
    /// Nobody has any.
    #[error("{} gives {user} no ids for containers; add a line to it, such as {example}:524288:16777216", file.display())]
    None { file: PathBuf, user: String, example: String },
    /// All are taken.
    #[error(
        "the ids of {user} in {} are used up: {size} in a row are not free, {taken} containers hold some; add another line to it, remove containers, or ask for fewer (userns_mode: auto:size=…)",
        file.display()
    )]
    Exhausted { file: PathBuf, user: String, size: u32, taken: usize },
    /// A file.
    #[error("{}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// [`IDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct IdsRecord {
    v: u32,
    uid: u32,
    gid: u32,
    size: u32,
}

/// What is held by others.
#[derive(Debug, Clone, Default)]
struct Taken {
    uids: Vec<Range<u64>>,
    gids: Vec<Range<u64>>,
    containers: usize,
}

impl Sources {
    /// The range of the container in this folder: the one it has, else one that is free.
    pub fn range(&self, folder: &Path, size: u32) -> Result<IdRange, SubidError> {
        let _lock = self.lock()?;
        let had = read(folder).filter(|had| had.size == size && self.still_given(*had));
        let others = self.others(folder)?;
        let had = had.filter(|had| others.leaves(*had));
        let until = Instant::now() + REAPED;
        // Nothing of the container runs, so whoever uses its ids is somebody else; but its last process may not be cleared away yet.
        let mut taken = others.clone().and_live();
        while had.is_some_and(|had| !taken.leaves(had)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
            taken = others.clone().and_live();
        }
        let range = match had.filter(|had| taken.leaves(*had)) {
            Some(had) => had,
            None => self.free(size, &taken)?,
        };
        self.write(folder, range)?;
        Ok(range)
    }

    /// Says to other daemons what a container holds that was there before. Where another container has it by now, the other one
    /// keeps it, and this one gets another range when it is started.
    pub fn keep(&self, folder: &Path) -> Result<(), SubidError> {
        let Some(range) = read(folder) else { return Ok(()) };
        let _lock = self.lock()?;
        if self.others(folder)?.leaves(range) { self.write(folder, range) } else { Ok(()) }
    }

    /// After the container's removal.
    pub fn release(&self, folder: &Path) {
        let Ok(_lock) = self.lock() else { return };
        let entries = fs::read_dir(&self.register).into_iter().flatten().flatten();
        for entry in entries.filter(|e| fs::read_to_string(e.path()).is_ok_and(|text| Path::new(&text) == folder)) {
            let _ = fs::remove_file(entry.path());
        }
        // The last one; fails where others are left.
        let _ = fs::remove_dir(&self.register);
    }

    /// Why there can be no range at all.
    #[must_use]
    pub fn lacking(&self) -> Option<String> {
        let none = |file: &Path| self.given(file).err().map(|error| error.to_string());
        none(&self.subuid).or_else(|| none(&self.subgid))
    }

    /// What tells whether the files that give ids are the same as before.
    #[must_use]
    pub fn stamps(&self) -> [Stamp; 2] {
        [&self.subuid, &self.subgid].map(|file| {
            let meta = fs::metadata(file).ok()?;
            Some((meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec()))
        })
    }

    fn lock(&self) -> Result<File, SubidError> {
        let fail = |source: io::Error| SubidError::File { path: self.register.clone(), source };
        loop {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.register).map_err(fail)?;
            let folder = File::open(&self.register).map_err(fail)?;
            flock(&folder, FlockOperation::LockExclusive).map_err(|e| fail(e.into()))?;
            // Whoever removed the last entry took the folder with it; another may be there.
            let inode = |meta: io::Result<fs::Metadata>| meta.map(|meta| meta.ino()).ok();
            if inode(folder.metadata()) == inode(fs::metadata(&self.register)) {
                return Ok(folder);
            }
        }
    }

    /// What the register says of others; stale entries are cleared away.
    fn others(&self, folder: &Path) -> Result<Taken, SubidError> {
        let fail = |source| SubidError::File { path: self.register.clone(), source };
        let mut taken = Taken::default();
        for entry in fs::read_dir(&self.register).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let named = path.file_name().and_then(|n| n.to_str()).and_then(parse_name);
            let owner = fs::read_to_string(&path).ok().map(PathBuf::from);
            match (named, owner) {
                (_, Some(owner)) if owner == folder => drop(fs::remove_file(&path)),
                (Some(range), Some(owner)) if read(&owner) == Some(range) => taken.add(range),
                _ => drop(fs::remove_file(&path)),
            }
        }
        Ok(taken)
    }

    fn write(&self, folder: &Path, range: IdRange) -> Result<(), SubidError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| SubidError::File { path, source }
        };
        if read(folder) != Some(range) {
            let IdRange { uid, gid, size } = range;
            let (draft, path) = (folder.join(".ids.new"), folder.join(IDS));
            let json = serde_json::to_vec(&IdsRecord { v: 1, uid, gid, size }).unwrap_or_default();
            fs::write(&draft, json).map_err(fail(&path))?;
            fs::rename(&draft, &path).map_err(fail(&path))?;
        }
        let entry = self.register.join(format!("{}-{}-{}", range.uid, range.gid, range.size));
        fs::write(&entry, folder.as_os_str().as_encoded_bytes()).map_err(fail(&entry))
    }

    fn free(&self, size: u32, taken: &Taken) -> Result<IdRange, SubidError> {
        let first = |file: &Path, held: &[Range<u64>]| -> Result<u32, SubidError> {
            let (user, ranges) = self.given(file)?;
            let free = ranges.iter().find_map(|range| first_gap(range, held, size.into()));
            let (file, taken) = (file.to_owned(), taken.containers);
            free.and_then(|free| u32::try_from(free).ok()).ok_or(SubidError::Exhausted { file, user, size, taken })
        };
        Ok(IdRange { uid: first(&self.subuid, &taken.uids)?, gid: first(&self.subgid, &taken.gids)?, size })
    }

    fn still_given(&self, range: IdRange) -> bool {
        let within = |file: &Path, first: u32| {
            let wanted = span(first, range.size);
            self.given(file)
                .is_ok_and(|(_, given)| given.iter().any(|g| g.start <= wanted.start && wanted.end <= g.end))
        };
        within(&self.subuid, range.uid) && within(&self.subgid, range.gid)
    }

    /// The ranges of the user whose they are.
    fn given(&self, file: &Path) -> Result<(String, Vec<Range<u64>>), SubidError> {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|source| SubidError::File { path: file.to_owned(), source })?,
        };
        let users: Vec<&str> = self.user.as_deref().map_or_else(|| USERS.to_vec(), |user| vec![user]);
        for user in &users {
            let number = nix::unistd::User::from_name(user).ok().flatten().map(|user| user.uid.to_string());
            let ranges = ranges(&text, user, number.as_deref());
            if !ranges.is_empty() {
                return Ok(((*user).to_owned(), ranges));
            }
        }
        let (user, example) = (users.join(" and "), users[0].to_owned());
        Err(SubidError::None { file: file.to_owned(), user, example })
    }
}

impl Taken {
    fn add(&mut self, range: IdRange) {
        self.uids.push(span(range.uid, range.size));
        self.gids.push(span(range.gid, range.size));
        self.containers += 1;
    }

    fn leaves(&self, range: IdRange) -> bool {
        let clear = |held: &[Range<u64>], first| held.iter().all(|h| !overlap(h, &span(first, range.size)));
        clear(&self.uids, range.uid) && clear(&self.gids, range.gid)
    }

    /// With what is in use by any process of this machine.
    fn and_live(mut self) -> Self {
        let mut seen = std::collections::BTreeSet::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(uids) = fs::read_to_string(entry.path().join("uid_map")) else { continue };
            // Nearly all: the host's own users.
            if uids.split_ascii_whitespace().eq(["0", "0", "4294967295"]) || !seen.insert(uids.clone()) {
                continue;
            }
            self.uids.extend(maps(&uids));
            self.gids.extend(maps(&fs::read_to_string(entry.path().join("gid_map")).unwrap_or_default()));
        }
        self
    }
}

fn maps(text: &str) -> impl Iterator<Item = Range<u64>> {
    text.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
        let (first, size) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(first..first + size)
    })
}

/// Lines are `name:first:count`; the name may be a number. Root's own id is nobody's to give.
fn ranges(text: &str, user: &str, number: Option<&str>) -> Vec<Range<u64>> {
    let lines = text.lines().filter_map(|line| {
        let mut parts = line.trim().split(':');
        let name = parts.next()?;
        let (first, count): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        (name == user || Some(name) == number)
            .then_some(first.max(1)..first.saturating_add(count).min(u64::from(u32::MAX)))
    });
    lines.filter(|range: &Range<u64>| range.start < range.end).collect()
}

fn first_gap(range: &Range<u64>, held: &[Range<u64>], size: u64) -> Option<u64> {
    let mut start = range.start;
    while start + size <= range.end {
        match held.iter().find(|h| overlap(h, &(start..start + size))) {
            Some(held) => start = held.end,
            None => return Some(start),
        }
    }
    None
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

fn span(first: u32, size: u32) -> Range<u64> {
    u64::from(first)..u64::from(first) + u64::from(size)
}

fn read(folder: &Path) -> Option<IdRange> {
    let record: IdsRecord = serde_json::from_slice(&fs::read(folder.join(IDS)).ok()?).ok()?;
    (record.v == 1 && record.size > 0).then_some(IdRange { uid: record.uid, gid: record.gid, size: record.size })
}

fn parse_name(name: &str) -> Option<IdRange> {
    let mut numbers = name.split('-').map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(IdRange { uid: next()?, gid: next()?, size: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        dir: tempfile::TempDir,
        sources: Sources,
    }

    fn place(lines: &str) -> Place {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        fs::write(path("subuid"), lines).expect("written");
        fs::write(path("subgid"), lines.replace(":1", ":2")).expect("written");
        let (subuid, subgid, register) = (path("subuid"), path("subgid"), path("register"));
        Place { sources: Sources { user: None, subuid, subgid, register }, dir }
    }

    impl Place {
        fn container(&self, name: &str) -> PathBuf {
            let folder = self.dir.path().join(name);
            fs::create_dir_all(&folder).expect("a folder");
            folder
        }
        fn range(&self, name: &str, size: u32) -> Result<(u32, u32), String> {
            let range = self.sources.range(&self.container(name), size);
            range.map(|range| (range.uid, range.gid)).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn no_id_is_given_twice_and_what_was_given_is_kept() {
        let place = place("other:5:9\nlongshore:1000000000:250\nlongshore:1000001000:100\n");
        assert_eq!(place.range("a", 100), Ok((1_000_000_000, 2_000_000_000)));
        assert_eq!(place.range("b", 100), Ok((1_000_000_100, 2_000_000_100)));
        assert_eq!(place.range("c", 100), Ok((1_000_001_000, 2_000_001_000)), "50 are left of the first line");
        assert_eq!(place.range("d", 50), Ok((1_000_000_200, 2_000_000_200)));
        let full = place.range("e", 1).expect_err("used up");
        assert!(
            full.contains("longshore") && full.contains("subuid are used up") && full.contains("4 containers"),
            "{full}"
        );
        assert_eq!(place.range("b", 100), Ok((1_000_000_100, 2_000_000_100)), "kept");
        // Removed: free at once, whether it was said or not.
        fs::remove_dir_all(place.container("b")).expect("removed");
        assert_eq!(place.range("e", 100), Ok((1_000_000_100, 2_000_000_100)));
        fs::remove_dir_all(place.container("a")).expect("removed");
        place.sources.release(&place.dir.path().join("a"));
        assert!(!place.sources.register.join("1000000000-2000000000-100").exists());
    }

    #[test]
    fn another_size_or_a_range_that_others_have_meanwhile_is_another_range() {
        let place = place("longshore:1000010000:300\n");
        assert_eq!(place.range("a", 100), Ok((1_000_010_000, 2_000_010_000)));
        assert_eq!(place.range("a", 200), Ok((1_000_010_000, 2_000_010_000)), "its own does not stand in its way");
        // A reboot: the register is gone, and another is faster.
        fs::remove_dir_all(&place.sources.register).expect("removed");
        assert_eq!(place.range("b", 100), Ok((1_000_010_000, 2_000_010_000)));
        assert_eq!(place.range("a", 200), Ok((1_000_010_100, 2_000_010_100)));
        fs::remove_dir_all(&place.sources.register).expect("removed");
        place.sources.keep(&place.container("a")).expect("said again");
        assert_eq!(place.range("c", 100), Ok((1_000_010_000, 2_000_010_000)), "not a's");
        // A line that is taken away.
        fs::write(&place.sources.subuid, "containers:1000020000:100").expect("written");
        fs::write(&place.sources.subgid, "containers:1000030000:100").expect("written");
        assert_eq!(place.range("c", 100), Ok((1_000_020_000, 1_000_030_000)));
    }

    #[test]
    fn what_another_has_since_a_reboot_is_not_said_to_be_ours() {
        let place = place("longshore:1000060000:300\n");
        assert_eq!(place.range("a", 100), Ok((1_000_060_000, 2_000_060_000)));
        fs::remove_dir_all(&place.sources.register).expect("removed");
        assert_eq!(place.range("b", 100), Ok((1_000_060_000, 2_000_060_000)));
        place.sources.keep(&place.container("a")).expect("looked at");
        let entry = fs::read_to_string(place.sources.register.join("1000060000-2000060000-100")).expect("an entry");
        assert_eq!(Path::new(&entry), place.container("b"));
        assert_eq!(place.range("a", 100), Ok((1_000_060_100, 2_000_060_100)));
        assert_eq!(place.range("b", 100), Ok((1_000_060_000, 2_000_060_000)));
        // One that overlaps is not ours either.
        fs::write(place.container("c").join(IDS), r#"{"v":1,"uid":1000060150,"gid":1,"size":100}"#).expect("written");
        place.sources.keep(&place.container("c")).expect("looked at");
        assert!(!place.sources.register.join("1000060150-1-100").exists());
    }

    #[test]
    fn who_has_no_ids_is_told_what_to_do() {
        let mut place = place("longshore:0:0\nlongshore:x:1\nlongshore\n# longshore:5:5\n");
        let error = place.range("a", 1).expect_err("none");
        assert!(error.contains("subuid gives longshore and containers no ids"), "{error}");
        assert!(error.contains("longshore:524288:16777216"), "{error}");
        assert_eq!(place.sources.lacking(), Some(error));
        place.sources.user = Some("root".into());
        fs::write(&place.sources.subuid, "0:1000040000:10\n").expect("written");
        fs::write(&place.sources.subgid, "root:1000050000:10\n").expect("written");
        assert_eq!(place.range("a", 10), Ok((1_000_040_000, 1_000_050_000)), "by the user's number, too");
        assert_eq!(place.sources.lacking(), None);
        place.sources.subuid = "/nowhere/subuid".into();
        assert!(place.sources.lacking().is_some_and(|why| why.contains("/nowhere/subuid")));
    }

    #[test]
    fn ids_of_processes_that_live_are_in_use() {
        let maps: Vec<_> = maps("         0     100000      65536\n     65536          5          1\n").collect();
        assert_eq!(maps, [100_000..165_536, 5..6]);
        assert_eq!(first_gap(&(1..100), std::slice::from_ref(&(0..50)), 50), Some(50));
        assert_eq!(first_gap(&(1..100), std::slice::from_ref(&(0..51)), 50), None);
        assert_eq!(ranges("a:0:10", "a", None), vec![1..10; 1], "root is not given away");
    }
}
