//! Container output: reading and following what the followers write. (They write it themselves; see `shim::entry` for the format.)
//!
//! A container's log folder holds `log` and, older with rising number, `log.1`, `log.2`, … Every line is one record.

pub mod entry;
mod line;
pub mod lines;
mod read;

pub use line::{LogLine, LogStream};
pub use read::{LogError, Select, read};

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Makes the folder, and makes the newest file end with a whole line, as a power cut may have torn the last one. Gives the
/// number of the next record.
pub fn prepare(folder: &Path) -> io::Result<u64> {
    fs::create_dir_all(folder)?;
    for name in ["log", "log.1"] {
        let mut file = match File::options().read(true).write(true).open(folder.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(2 * entry::LONGEST as u64)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        let whole = end.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if whole < end.len() {
            file.set_len(len - (end.len() - whole) as u64)?;
        }
        let last = end[..whole].split(|b| *b == b'\n').rev().find_map(LogLine::parse);
        if let Some(last) = last {
            return Ok(last.number + 1);
        }
    }
    Ok(0)
}
