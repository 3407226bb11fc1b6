//! Reading below the state folder, by descriptor: links may lead around in it but never out of it, and only regular files of a
//! bounded size are opened.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use super::secrets::Secrets;
use crate::spec::{FileError, Files};

/// A state file, `.env` or env_file larger than this is refused.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Which folder it is: a folder that was replaced by another one of the same name has another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FolderId {
    device: u64,
    inode: u64,
}

/// The open state folder.
#[derive(Debug)]
pub(super) struct OpenFolder {
    fd: OwnedFd,
    pub(super) id: FolderId,
}

impl OpenFolder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let fd = openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&fd)?;
        Ok(Self { fd, id: FolderId { device: stat.st_dev, inode: stat.st_ino } })
    }

    /// Names and kinds below `relative` (empty: the folder itself), links not followed.
    pub(super) fn list(&self, relative: &Path) -> io::Result<Vec<(std::ffi::OsString, FileType)>> {
        use std::os::unix::ffi::OsStrExt as _;
        let path = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat2(&self.fd, path, flags, Mode::empty(), beneath())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd)? {
            let entry = entry?;
            let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push((name.to_owned(), entry.file_type()));
            }
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    /// Reads a regular file. It is looked at before it is opened for reading, so that no FIFO or device is ever opened.
    pub(super) fn read(&self, relative: &Path) -> Result<Content, FileError> {
        let path =
            openat2(&self.fd, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), beneath()).map_err(refusal)?;
        let stat = fstat(&path).map_err(refusal)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(FileError::NotRegular);
        }
        if u64::try_from(stat.st_size).unwrap_or(0) > MAX_FILE_BYTES {
            return Err(FileError::TooLarge);
        }
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&path.as_fd()));
        let real = std::fs::read_link(&link).ok();
        let file = File::open(&link).map_err(|e| io_error(&e))?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| io_error(&e))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(FileError::TooLarge);
        }
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
        let modified = modified + Duration::from_nanos(stat.st_mtime_nsec);
        Ok(Content { bytes, open: stat.st_mode & 0o004 != 0, modified, real })
    }
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    /// Everybody on this machine may read it.
    pub(super) open: bool,
    /// When it was last written to: a hint that it may still be written, never a sign of what it holds.
    pub(super) modified: SystemTime,
    /// Where it really lies, links followed.
    pub(super) real: Option<PathBuf>,
}

fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
}

fn refusal(error: rustix::io::Errno) -> FileError {
    match error {
        rustix::io::Errno::NOENT => FileError::Missing,
        rustix::io::Errno::XDEV => FileError::Outside,
        rustix::io::Errno::LOOP => FileError::Io("its symbolic links go in a circle".to_owned()),
        other => io_error(&other.into()),
    }
}

fn io_error(error: &io::Error) -> FileError {
    match error.kind() {
        io::ErrorKind::NotFound => FileError::Missing,
        io::ErrorKind::PermissionDenied => FileError::Io("it may not be read (permission denied)".to_owned()),
        _ => FileError::Io(error.to_string()),
    }
}

/// Reads what a state file refers to, relative to its own folder, and keeps what it found.
pub(super) struct Referred<'a> {
    pub(super) folder: &'a OpenFolder,
    pub(super) base: &'a Path,
    pub(super) secrets: &'a dyn Secrets,
    pub(super) seen: std::cell::RefCell<Vec<(PathBuf, Option<Vec<u8>>)>>,
    /// Where the files really lie, links followed.
    pub(super) real: std::cell::RefCell<Vec<PathBuf>>,
}

impl<'a> Referred<'a> {
    pub(super) fn new(folder: &'a OpenFolder, base: &'a Path, secrets: &'a dyn Secrets) -> Self {
        Self { folder, base, secrets, seen: Default::default(), real: Default::default() }
    }

    fn look(&self, relative: &Path) -> Result<Content, FileError> {
        let inside = inside(self.base, relative).ok_or(FileError::Outside);
        let read = inside.and_then(|path| self.folder.read(&path));
        self.real.borrow_mut().extend(read.as_ref().ok().and_then(|content| content.real.clone()));
        let bytes = read.as_ref().ok().map(|content| content.bytes.clone());
        self.seen.borrow_mut().push((relative.to_owned(), bytes));
        read
    }
}

impl Files for Referred<'_> {
    fn read(&self, relative: &Path) -> Result<Vec<u8>, FileError> {
        self.look(relative).map(|content| content.bytes)
    }

    fn read_secret(&self, relative: &Path) -> Result<(Vec<u8>, bool), FileError> {
        self.look(relative).map(|content| (content.bytes, content.open))
    }

    fn external_secret(&self, name: &str) -> Result<Vec<u8>, FileError> {
        self.secrets.get(name)
    }

    fn decrypt(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        self.secrets.decrypt(bytes)
    }
}

/// `base/relative` without `.` and `..`; none where it leaves the folder or is absolute.
pub(super) fn inside(base: &Path, relative: &Path) -> Option<PathBuf> {
    use std::path::Component;
    let mut path = base.to_owned();
    for component in relative.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}
