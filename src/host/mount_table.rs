//! What is mounted on the host, and what should be: by /etc/fstab, and by what was when containers were started last.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::poll::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::plan::MountTable;

/// So often the thread that waits looks whether anybody still wants to know.
const AWAKE: u16 = 60_000;
const MOUNTINFO: &str = "/proc/self/mountinfo";
const FSTAB: &str = "/etc/fstab";
/// The mount points on which sources of containers lay, below the data directory.
const RECORD: &str = "mounts.json";

/// Looks at the mounts of the host.
#[derive(Debug)]
pub(super) struct Mounts {
    state_dir: PathBuf,
    record: PathBuf,
    known: Mutex<BTreeSet<PathBuf>>,
    /// Told of when something was mounted or unmounted.
    changed: Arc<Notify>,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct MountsRecord {
    version: u32,
    points: BTreeSet<PathBuf>,
}

impl Mounts {
    pub(super) fn open(state_dir: PathBuf, data_dir: &Path) -> Self {
        let record = data_dir.join(RECORD);
        let read = read(&record);
        let changed = Arc::new(Notify::new());
        if let Err(error) = watch(Arc::downgrade(&changed)) {
            tracing::warn!(%error, "the kernel does not tell of mounts; what waits for one is looked at with everything else");
        }
        Self { state_dir, record, known: Mutex::new(read.points), changed }
    }

    /// What is, and what should be.
    pub(super) fn table(&self) -> MountTable {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let by_record =
            known.into_iter().map(|point| (point, "it was when containers were started on it last".to_owned()));
        let mut expected: BTreeMap<PathBuf, String> = by_record.collect();
        let fstab = fs::read(FSTAB).unwrap_or_default();
        expected.extend(by_fstab(&fstab).map(|point| (point, format!("{FSTAB} says that it is one"))));
        MountTable { state_dir: self.state_dir.clone(), points: points(), expected }
    }

    /// Resolves when something was mounted or unmounted.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Keeps on record the mount points that these paths lie on, and no others.
    pub(super) fn remember(&self, sources: &BTreeSet<PathBuf>) -> io::Result<()> {
        let points = points();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is missing now stays on record while something would be written below it.
        let lie_on = |point: &&PathBuf| point.parent().is_some() && sources.iter().any(|path| path.starts_with(point));
        let now: BTreeSet<PathBuf> = points.iter().chain(known.iter()).filter(lie_on).cloned().collect();
        if now == *known {
            return Ok(());
        }
        let json = serde_json::to_vec(&MountsRecord { version: 1, points: now.clone() })?;
        let draft = self.record.with_extension("new");
        let mut file = File::create(&draft)?;
        file.write_all(&json)?;
        file.sync_all()?;
        fs::rename(&draft, &self.record)?;
        self.record.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
        *known = now;
        Ok(())
    }
}

/// A record that cannot be read is told of: what should be mounted is known from fstab and the files alone then.
fn read(record: &Path) -> MountsRecord {
    let read = match fs::read(record) {
        Ok(json) => serde_json::from_slice::<MountsRecord>(&json).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return MountsRecord::default(),
        Err(error) => Err(error.to_string()),
    };
    let read = read.and_then(|read| if read.version == 1 { Ok(read) } else { Err("its version is not known".into()) });
    read.unwrap_or_else(|why| {
        tracing::warn!("on which mounts containers were is not known: {} cannot be used: {why}", record.display());
        MountsRecord::default()
    })
}

/// The kernel says at the mount table when it changed (proc(5)); whoever waits there must be a thread.
fn watch(told: Weak<Notify>) -> io::Result<()> {
    let file = File::open(MOUNTINFO)?;
    let wait = move || {
        while told.strong_count() > 0 {
            let mut on = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
            match poll(&mut on, AWAKE) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => told.upgrade().into_iter().for_each(|told| told.notify_one()),
                Err(_) => return,
            }
        }
    };
    std::thread::Builder::new().name("mounts".into()).spawn(wait).map(drop)
}

fn points() -> BTreeSet<PathBuf> {
    let text = fs::read(MOUNTINFO).unwrap_or_default();
    text.split(|b| *b == b'\n').filter_map(|line| line.split(|b| *b == b' ').nth(4)).map(path).collect()
}

/// What is mounted at boot: not what is mounted when somebody asks for it, and no swap.
fn by_fstab(text: &[u8]) -> impl Iterator<Item = PathBuf> + '_ {
    text.split(|b| *b == b'\n').filter_map(|line| {
        let mut fields = line.split(|b| b.is_ascii_whitespace()).filter(|field| !field.is_empty());
        let (device, point, _, options) = (fields.next()?, fields.next()?, fields.next(), fields.next());
        let asked_for = options.is_some_and(|all| all.split(|b| *b == b',').any(|option| option == b"noauto"));
        (!device.starts_with(b"#") && point.starts_with(b"/") && point != b"/" && !asked_for).then(|| path(point))
    })
}

/// Spaces and the like are written as `\040`.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fstab_mounts_at_boot_is_expected() {
        let text = b"# /dev/x /not ext4\nUUID=1 / ext4 defaults 0 1\n/dev/b\t/mnt/my\\040disk xfs rw,nofail 0 2\n\
            nas:/v /mnt/nas nfs noauto,x-systemd.automount 0 0\n/swap none swap sw 0 0\n\n/dev/c /srv\n";
        let seen: Vec<PathBuf> = by_fstab(text).collect();
        assert_eq!(seen, [PathBuf::from("/mnt/my disk"), PathBuf::from("/srv")]);
    }

    #[tokio::test]
    async fn the_last_known_mounts_are_kept_until_nothing_lies_on_them() {
        let temp = tempfile::tempdir().unwrap();
        let mounts = Mounts::open("/state".into(), temp.path());
        assert!(mounts.table().points.contains(Path::new("/proc")));
        mounts.remember(&["/proc/x".into(), "/nowhere".into()].into()).unwrap();
        let again = Mounts::open("/state".into(), temp.path());
        assert!(again.table().expected.contains_key(Path::new("/proc")));
        again.remember(&BTreeSet::new()).unwrap();
        assert!(!Mounts::open("/state".into(), temp.path()).table().expected.contains_key(Path::new("/proc")));
    }
}
