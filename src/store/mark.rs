//! The mark beside the database: a random id that both hold, and how many commits there were. It tells an emptied or swapped
//! database from a new one, and a cut one from a whole one.
//!
//! The count is written after each commit and not synced: it may lag behind the database, never run ahead of it. A database with
//! fewer commits than the mark has lost some.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The key under which the database holds its id.
pub(super) const ID: &[u8] = b"\0id";
/// The key under which the database holds its count of commits.
pub(super) const COUNT: &[u8] = b"\0count";
const FILE: &str = "db.mark";

/// What the mark says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) id: String,
    pub(super) count: u64,
}

pub(super) fn new_id() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// The mark, where there is a whole one. A torn one is none; a torn count is 0.
pub(super) fn read(dir: &Path) -> Option<Mark> {
    let text = std::fs::read_to_string(dir.join(FILE)).ok()?;
    let (id, count) = text.trim_end().split_once(' ')?;
    let whole = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    whole.then(|| Mark { id: id.to_owned(), count: count.parse().unwrap_or(0) })
}

pub(super) fn write(dir: &Path, mark: &Mark) -> io::Result<()> {
    let temporary = dir.join(format!("{FILE}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(line(mark).as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

/// Notes the count, in place.
pub(super) fn advance(dir: &Path, mark: &Mark) -> io::Result<()> {
    OpenOptions::new().write(true).open(dir.join(FILE))?.write_all_at(line(mark).as_bytes(), 0)
}

fn line(mark: &Mark) -> String {
    format!("{} {:020}\n", mark.id, mark.count)
}

/// The database of this mark was set aside. A mark that cannot be removed is found not to match, and set aside again.
pub(super) fn forget(dir: &Path) {
    if let Err(error) = std::fs::remove_file(dir.join(FILE)) {
        tracing::debug!(%error, "no database mark to forget");
    }
}
