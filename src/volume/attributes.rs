//! Owner, mode, extended attributes and times.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// Names and values.
pub(super) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What a file has beside its content.
#[derive(Debug)]
pub(super) struct Attributes {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub times: Timestamps,
    pub xattrs: Xattrs,
}

/// Which file.
#[derive(Clone, Copy)]
pub(super) enum At<'a> {
    /// One that is open.
    Open(BorrowedFd<'a>),
    /// One in a folder, that is never opened: a device or a FIFO.
    Named(BorrowedFd<'a>, &'a [u8]),
    /// A symbolic link in a folder: it has no mode.
    Link(BorrowedFd<'a>, &'a [u8]),
}

/// Longest list or value that the kernel gives.
const MOST: usize = 64 << 10;

impl At<'_> {
    /// Reads them all.
    pub(super) fn read(self, stat: &Stat) -> io::Result<Attributes> {
        let Stat { st_uid: uid, st_gid: gid, st_mode, .. } = *stat;
        Ok(Attributes { uid, gid, mode: st_mode & 0o7777, times: times(stat), xattrs: self.xattrs()? })
    }

    /// Sets them all. An owner takes set-uid bits and capabilities away: it comes first; times come last.
    pub(super) fn set(self, attributes: &Attributes) -> io::Result<()> {
        let Attributes { uid, gid, mode, times, xattrs } = attributes;
        let (uid, gid, mode) = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)), Mode::from_raw_mode(*mode));
        match self {
            Self::Open(fd) => {
                rustix::fs::fchown(fd, uid, gid)?;
                rustix::fs::fchmod(fd, mode)?;
            }
            Self::Named(dir, name) => {
                rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
                rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?;
            }
            Self::Link(dir, name) => rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?,
        }
        for (name, value) in xattrs {
            self.set_xattr(name, value)?;
        }
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, times)?,
            Self::Named(dir, name) | Self::Link(dir, name) => {
                rustix::fs::utimensat(dir, name, times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(())
    }

    /// Those that can be read; a file system may have none.
    pub(super) fn xattrs(self) -> io::Result<Xattrs> {
        let mut buffer = vec![0; MOST];
        let listed = match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, &mut buffer[..]),
            Self::Named(dir, name) | Self::Link(dir, name) => rustix::fs::llistxattr(path(dir, name), &mut buffer[..]),
        };
        let length = match listed {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP | Errno::NOENT) => 0,
            Err(error) => return Err(error.into()),
        };
        let names: Vec<Vec<u8>> =
            buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
        let mut found = Vec::new();
        for name in names {
            let got = match self {
                Self::Open(fd) => rustix::fs::fgetxattr(fd, name.as_slice(), &mut buffer[..]),
                Self::Named(dir, file) | Self::Link(dir, file) => {
                    rustix::fs::lgetxattr(path(dir, file), name.as_slice(), &mut buffer[..])
                }
            };
            match got {
                Ok(length) => found.push((name, buffer[..length].to_vec())),
                // Taken away meanwhile, or not for us.
                Err(Errno::NODATA | Errno::NOENT | Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    fn set_xattr(self, name: &[u8], value: &[u8]) -> io::Result<()> {
        let set = match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Named(dir, file) | Self::Link(dir, file) => {
                rustix::fs::lsetxattr(path(dir, file), name, value, XattrFlags::empty())
            }
        };
        match set {
            // Labels are the host's to give; links and devices have no attributes of users.
            Err(Errno::OPNOTSUPP | Errno::PERM) if dispensable(name) || !matches!(self, Self::Open(_)) => Ok(()),
            other => Ok(other?),
        }
    }
}

fn dispensable(name: &[u8]) -> bool {
    name.starts_with(b"security.") && name != b"security.capability"
}

/// There is no setxattrat on older kernels: the path leads through our own descriptor, and its last part is not followed.
fn path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat()
}

/// Of the last reading and writing.
pub(super) fn times(stat: &Stat) -> Timestamps {
    let at = |seconds, nanos| Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
    Timestamps {
        last_access: at(stat.st_atime, stat.st_atime_nsec),
        last_modification: at(stat.st_mtime, stat.st_mtime_nsec),
    }
}
