//! How much a directory takes on disk. What is in there belongs to strangers who may change it meanwhile: no link is
//! followed, and the walk has an end.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

/// Deeper than this nobody writes by accident; each level holds a descriptor.
const DEEPEST: usize = 128;
/// Entries that are looked at; a directory with more is shown smaller than it is.
const MOST: usize = 2_000_000;

/// Bytes on disk of all below `path`, each hard link once. What cannot be looked at does not count.
pub(super) fn bytes(path: &Path) -> u64 {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(root) = openat(CWD, path, flags, Mode::empty()).and_then(Dir::new) else { return 0 };
    let (mut open, mut bytes, mut seen) = (vec![root], 0, 0);
    let mut linked = BTreeSet::new();
    while let Some(dir) = open.last_mut() {
        let Some(Ok(entry)) = dir.next().filter(|_| seen < MOST) else {
            open.pop();
            continue;
        };
        if [c".", c".."].contains(&entry.file_name()) {
            continue;
        }
        seen += 1;
        let Ok(at) = dir.fd() else { continue };
        let Ok(found) = statat(at, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_dir = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        if is_dir || found.st_nlink < 2 || linked.insert((found.st_dev, found.st_ino)) {
            bytes += u64::try_from(found.st_blocks).unwrap_or(0) * 512;
        }
        if is_dir && open.len() < DEEPEST {
            let below =
                open.last().and_then(|dir| dir.fd().ok()).map(|at| openat(at, entry.file_name(), flags, Mode::empty()));
            open.extend(below.and_then(Result::ok).and_then(|fd| Dir::new(fd).ok()));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_counts_once_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        let before = bytes(dir.path());
        std::fs::write(below.join("file"), vec![7; 100_000]).unwrap();
        std::fs::hard_link(below.join("file"), dir.path().join("same")).unwrap();
        std::os::unix::fs::symlink("/usr", below.join("away")).unwrap();
        std::os::unix::fs::symlink("..", below.join("loop")).unwrap();
        let grown = bytes(dir.path()) - before;
        assert!((100_000..140_000).contains(&grown), "{grown}");
        assert_eq!(bytes(&dir.path().join("none")), 0);
    }
}
