//! The database: what would be lost with the daemon's memory and cannot be seen on the host.
//!
//! Last good documents, back-off counters, and nothing that anything acts from alone: a lost database costs history, never a
//! container. This is the only room that names its crate (sled).
//!
//! * Every change is one transaction, then `flush`, then `fdatasync` on a descriptor of our own: sled's flush alone uses
//!   `sync_file_range`, which does not survive a power cut.
//! * Every record is sealed: it may hold what is secret, and a changed bit is noticed.
//! * A mark beside the database tells "emptied" from "new", and "cut short" from "whole".
//! * A database that does not open, or holds a broken record, is set aside under another name and begun anew.
//! * What could not be written (a full disk) is kept in memory and tried again with the next commit.

mod mark;
mod record;
mod runs;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mark::Mark;
pub use record::{
    Again, AsideRecord, ByHand, CauseRecord, Causes, ChosenRecord, EditRecord, GenerationRecord, Generations, Good,
    History, OutcomeRecord, Record, RecordKey, Reference, Seal, Settings, ThenRecord,
};
use record::{decode, encode};
pub use runs::{PastRunRecord, RunOutcomeRecord, RunRecord, Runs};

const DATABASE: &str = "db";
/// A held lock of the database is waited for so long.
const LOCKED: Duration = Duration::from_secs(2);

/// The open database. One owner; blocking.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    seal: Seal,
    open: Option<Open>,
    pending: BTreeMap<RecordKey, Option<Record>>,
}

#[derive(Debug)]
struct Open {
    db: sled::Db,
    file: File,
    mark: Mark,
}

/// What was found at start.
#[derive(Debug)]
pub struct Found {
    /// The store, ready for changes.
    pub store: Store,
    /// Everything in it.
    pub records: BTreeMap<RecordKey, Record>,
    /// What the owner should know: it was set aside, or cannot be written now.
    pub note: Option<String>,
}

/// Why a change is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The database could not be opened; it is tried again with the next commit.
    #[error("the database cannot be opened: {0}")]
    Closed(String),
    /// The change was refused.
    #[error("the database cannot be written: {0}")]
    Write(String),
    /// The change may be in the page cache only.
    #[error("the database cannot be synced to disk")]
    Sync(#[source] io::Error),
}

enum Broken {
    /// Damaged: set it aside.
    Damaged(String),
    /// Not readable or writable now (no space, no rights): leave it alone.
    Unavailable(String),
}

impl Store {
    /// Opens the database in `data_dir`, or sets it aside and begins anew. What it holds is sealed with `seal`.
    #[must_use]
    pub fn open(data_dir: &Path, stamp: &str, seal: Seal) -> Found {
        let mut store = Self { dir: data_dir.to_owned(), seal, open: None, pending: BTreeMap::new() };
        let (records, note) = match store.try_open() {
            Ok(records) => (records, None),
            Err(Broken::Unavailable(reason)) => {
                let note = format!(
                    "the database cannot be used now ({reason}); what is decided meanwhile is kept in memory only"
                );
                (BTreeMap::new(), Some(note))
            }
            Err(Broken::Damaged(reason)) => store.begin_anew(stamp, &reason),
        };
        Found { store, records, note }
    }

    fn begin_anew(&mut self, stamp: &str, reason: &str) -> (BTreeMap<RecordKey, Record>, Option<String>) {
        self.open = None;
        let aside = self.name_aside(stamp);
        let moved = match std::fs::rename(self.path(), &aside) {
            Ok(()) => format!("set aside as {}", aside.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "gone".to_owned(),
            Err(error) => {
                return (
                    BTreeMap::new(),
                    Some(format!("the database is broken ({reason}) and cannot be set aside: {error}")),
                );
            }
        };
        mark::forget(&self.dir);
        let note = format!(
            "the database was {moved} ({reason}); it is rebuilt from the state files and the running containers"
        );
        match self.try_open() {
            Ok(records) => (records, Some(note)),
            Err(Broken::Damaged(again) | Broken::Unavailable(again)) => {
                (BTreeMap::new(), Some(format!("{note}; the new one cannot be used: {again}")))
            }
        }
    }

    /// A name that is free: a daemon that is started again within the same second may find the next database broken.
    fn name_aside(&self, stamp: &str) -> PathBuf {
        let name = |n: u32| match n {
            1 => format!("{DATABASE}.broken-{stamp}"),
            n => format!("{DATABASE}.broken-{stamp}-{n}"),
        };
        let free = |path: &PathBuf| std::fs::symlink_metadata(path).is_err();
        (1..).map(|n| self.dir.join(name(n))).find(free).expect("a folder does not hold every name")
    }

    fn path(&self) -> PathBuf {
        self.dir.join(DATABASE)
    }

    fn try_open(&mut self) -> Result<BTreeMap<RecordKey, Record>, Broken> {
        let existed = self.path().join("db").exists();
        let known = mark::read(&self.dir);
        if !existed && known.is_some() {
            return Err(Broken::Damaged("its files are gone although it had been made".to_owned()));
        }
        // sled panics on some damaged files; a panic here is one more way of being damaged.
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| open_quietly(&self.path(), &self.seal)));
        let (db, records) = opened.map_err(|_| Broken::Damaged("opening it failed an internal check".to_owned()))??;
        let file = File::open(self.path().join("db")).map_err(unavailable)?;
        let Content { mark: held, records, in_clear } = records.map_err(Broken::Damaged)?;
        let mark = match (known, held) {
            (Some(known), Some(held)) if held.id == known.id && held.count >= known.count => held,
            (Some(known), Some(held)) if held.id == known.id => {
                let lost = known.count - held.count;
                return Err(Broken::Damaged(format!("it was cut short: its last {lost} changes are gone")));
            }
            (Some(_), _) => return Err(Broken::Damaged("it was emptied or replaced".to_owned())),
            (None, Some(held)) => {
                mark::write(&self.dir, &held).map_err(unavailable)?;
                held
            }
            (None, None) => self.begin(&db, &file)?,
        };
        let open = Open { db, file, mark };
        self.open = Some(open);
        // Of an older version; a newer change of one of them is not undone.
        for key in in_clear {
            if let Some(record) = records.get(&key) {
                self.pending.entry(key).or_insert_with(|| Some(record.clone()));
            }
        }
        Ok(records)
    }

    /// Gives a new database its id.
    fn begin(&self, db: &sled::Db, file: &File) -> Result<Mark, Broken> {
        let mark = Mark { id: mark::new_id().map_err(unavailable)?, count: 0 };
        db.insert(mark::ID, mark.id.as_bytes()).map_err(|e| Broken::Unavailable(e.to_string()))?;
        sync(db, file).map_err(unavailable)?;
        mark::write(&self.dir, &mark).map_err(unavailable)?;
        Ok(mark)
    }

    /// Notes a change; [`Self::commit`] makes it durable.
    pub fn put(&mut self, key: RecordKey, record: Record) {
        self.pending.insert(key, Some(record));
    }

    /// Notes a removal; [`Self::commit`] makes it durable.
    pub fn remove(&mut self, key: RecordKey) {
        self.pending.insert(key, None);
    }

    /// Whether something is not on disk yet.
    #[must_use]
    pub fn dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Brings everything that was noted to disk, as one transaction. What fails stays noted.
    pub fn commit(&mut self) -> Result<(), CommitError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.open.is_none() {
            self.try_open().map_err(|e| match e {
                Broken::Damaged(reason) | Broken::Unavailable(reason) => CommitError::Closed(reason),
            })?;
        }
        let Some(open) = &mut self.open else { return Err(CommitError::Closed("not open".to_owned())) };
        let mut batch = sled::Batch::default();
        let next = open.mark.count + 1;
        batch.insert(mark::COUNT, &next.to_be_bytes());
        for (key, record) in &self.pending {
            match record {
                Some(record) => {
                    let bytes = key.bytes();
                    let sealed = encode(&bytes, record, &self.seal);
                    batch.insert(bytes, sealed);
                }
                None => batch.remove(key.bytes()),
            }
        }
        let write = std::panic::catch_unwind(AssertUnwindSafe(|| open.db.apply_batch(batch)));
        write
            .map_err(|_| CommitError::Write("an internal check failed".to_owned()))?
            .map_err(|e| CommitError::Write(e.to_string()))?;
        sync(&open.db, &open.file).map_err(CommitError::Sync)?;
        open.mark.count = next;
        if let Err(error) = mark::advance(&self.dir, &open.mark) {
            tracing::debug!(%error, "the database's mark lags behind");
        }
        self.pending.clear();
        Ok(())
    }
}

fn sync(db: &sled::Db, file: &File) -> io::Result<()> {
    db.flush().map_err(io::Error::other)?;
    file.sync_data()
}

#[expect(clippy::needless_pass_by_value, reason = "it is used as the function of map_err")]
fn unavailable(error: io::Error) -> Broken {
    Broken::Unavailable(error.to_string())
}

struct Content {
    mark: Option<Mark>,
    records: BTreeMap<RecordKey, Record>,
    /// Those that are not sealed.
    in_clear: Vec<RecordKey>,
}

fn open_quietly(path: &Path, seal: &Seal) -> Result<(sled::Db, Result<Content, String>), Broken> {
    let config = sled::Config::new().path(path).flush_every_ms(None).cache_capacity(4 << 20);
    let until = Instant::now() + LOCKED;
    let opened = loop {
        match config.open() {
            Err(error) if locked(&error) && Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            opened => break opened,
        }
    };
    let db = opened.map_err(|error| match error {
        error if locked(&error) => Broken::Unavailable(error.to_string()),
        sled::Error::Io(e) if e.kind() != io::ErrorKind::InvalidData && e.kind() != io::ErrorKind::UnexpectedEof => {
            if e.kind() == io::ErrorKind::Other {
                Broken::Damaged(e.to_string())
            } else {
                Broken::Unavailable(e.to_string())
            }
        }
        other => Broken::Damaged(other.to_string()),
    })?;
    let content = read_all(&db, seal);
    Ok((db, content))
}

/// Its lock is held: by a thread of a database that was just closed, or by a child of a killed daemon that is about to become another
/// program. The directory's own lock is ours, so it is nobody who stays. It is no damage.
fn locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(e) if e.to_string().contains("could not acquire lock"))
}

fn read_all(db: &sled::Db, seal: &Seal) -> Result<Content, String> {
    let (mut id, mut count) = (None, 0);
    let mut records = BTreeMap::new();
    let mut in_clear = Vec::new();
    for entry in db.iter() {
        let (key, value) = entry.map_err(|e| format!("a record cannot be read: {e}"))?;
        let name = || String::from_utf8_lossy(&key).into_owned();
        if key == mark::ID {
            id = Some(String::from_utf8_lossy(&value).into_owned());
        } else if key == mark::COUNT {
            let bytes = value.as_ref().try_into().map_err(|_| "its count of changes is broken".to_owned())?;
            count = u64::from_be_bytes(bytes);
        } else {
            let known = RecordKey::parse(&key).ok_or_else(|| format!("the record {:?} is of no known kind", name()))?;
            let decoded = decode(&key, &value, seal);
            let (record, sealed) = decoded.map_err(|e| format!("the record {:?} is broken: {e}", name()))?;
            if !sealed {
                in_clear.push(known.clone());
            }
            records.insert(known, record);
        }
    }
    Ok(Content { mark: id.map(|id| Mark { id, count }), records, in_clear })
}

#[cfg(test)]
mod tests;
