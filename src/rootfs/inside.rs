//! Files inside of a root that its owner does not trust: no link and no `..` in it leads out (openat2, RESOLVE_IN_ROOT).

use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2};
use rustix::io::Errno;

/// Why a file inside of a root was not read or made.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// The kernel refused.
    #[error("{} in the container's root", path.display())]
    Open { path: PathBuf, source: Errno },
    /// A fifo, a device, a folder.
    #[error("{} in the container's root is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    /// Larger than we read.
    #[error("{} in the container's root is larger than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    /// It went wrong in the middle.
    #[error("{} in the container's root cannot be read", path.display())]
    Read { path: PathBuf, source: std::io::Error },
}

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// The whole of a regular file; `None` where there is none.
pub fn read_file(root: &Path, path: &str, limit: u64) -> Result<Option<Vec<u8>>, InsideError> {
    let fail = |source| InsideError::Open { path: path.into(), source };
    let folder =
        openat2(CWD, root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::empty()).map_err(fail)?;
    // Not blocking: a fifo must not hold us up before we can see that it is one.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match openat2(&folder, path, flags, Mode::empty(), IN_ROOT) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(source) => return Err(fail(source)),
    };
    let stat = fstat(&fd).map_err(fail)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(InsideError::NotAFile { path: path.into() });
    }
    let mut bytes = Vec::new();
    let read = File::from(fd).take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|source| InsideError::Read { path: path.into(), source })?;
    if bytes.len() as u64 > limit { Err(InsideError::TooLarge { path: path.into(), limit }) } else { Ok(Some(bytes)) }
}

/// Makes a folder and those above it (0755), as Docker does for a working directory that the image does not have.
pub fn make_dirs(root: &Path, path: &str) -> Result<(), InsideError> {
    let fail = |source| InsideError::Open { path: path.into(), source };
    let open = |path: &Path| {
        let root = openat2(CWD, root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::empty())?;
        openat2(root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), IN_ROOT)
    };
    let mut reached = PathBuf::from("/");
    for part in Path::new(path).components() {
        let Component::Normal(name) = part else { continue };
        let next = reached.join(name);
        match open(&next) {
            Err(Errno::NOENT) => {
                let parent = open(&reached).map_err(fail)?;
                mkdirat(parent, name, Mode::from_raw_mode(0o755)).map_err(fail)?;
            }
            Err(source) => return Err(fail(source)),
            Ok(_) => {}
        }
        reached = next;
    }
    Ok(())
}
