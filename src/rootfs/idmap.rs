//! Idmapped mounts: files that belong to root on disk belong to the root of a user namespace where they are seen through such a
//! mount, and what is made there belongs to root on disk. So a container's files keep their owners, whatever ids it runs with.
//!
//! For single-threaded callers: a user namespace is made by a child that enters it.
#![expect(unsafe_code, reason = "fork, and mount_setattr has no safe wrapper here")]

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, pipe2, setfsgid, setfsuid};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::thread::{capabilities, set_capabilities};

use crate::model::Owner;

/// Ids of the host that are a user namespace's: `0..size` inside are these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first user.
    pub uid: u32,
    /// The first group.
    pub gid: u32,
    /// How many.
    pub size: u32,
}

/// Why a folder is not seen with other owners.
#[derive(Debug, thiserror::Error)]
pub enum IdmapError {
    /// The kernel made no user namespace.
    #[error("no user namespace was made ({step})")]
    Namespace { step: &'static str, source: io::Error },
    /// It is not there, or cannot be mounted elsewhere.
    #[error("{} cannot be mounted ({step})", path.display())]
    Mount { path: PathBuf, step: &'static str, source: io::Error },
    /// The file system has no support, or the kernel has none for it.
    #[error(
        "the file system of {} cannot show its files with other owners (idmapped mounts): user namespaces need ext4, xfs or btrfs there, and Linux 5.19",
        path.display()
    )]
    Unsupported { path: PathBuf, source: io::Error },
}

impl IdRange {
    /// Does something as the root of this range: what it makes belongs to that one. It keeps all capabilities.
    pub fn as_root<T>(self, work: impl FnOnce() -> T) -> io::Result<T> {
        let held = capabilities(None)?;
        setfsgid(Gid::from_raw(self.gid));
        setfsuid(Uid::from_raw(self.uid));
        // Leaving root behind took those away that are about files.
        let done = set_capabilities(None, held).map(|()| work());
        setfsuid(Uid::from_raw(0));
        setfsgid(Gid::from_raw(0));
        set_capabilities(None, held)?;
        Ok(done?)
    }
}

/// A user namespace that nobody is in: it only tells the kernel which ids are which.
#[derive(Debug)]
pub struct Mapping(File);

impl Mapping {
    /// Makes it.
    pub fn new(range: IdRange) -> Result<Self, IdmapError> {
        Self::seen(Some(range), None)
    }

    /// The ids of this range, or the host's; and the first owner's files are the second's, and the other way round.
    pub fn seen(range: Option<IdRange>, swapped: Option<(Owner, Owner)>) -> Result<Self, IdmapError> {
        let IdRange { uid, gid, size } = range.unwrap_or(IdRange { uid: 0, gid: 0, size: u32::MAX });
        let pair = |of: fn(Owner) -> u32| swapped.map(|(disk, user)| (of(disk), of(user)));
        Self::of(&lines(uid, size, pair(|o| o.uid)), &lines(gid, size, pair(|o| o.gid)))
    }

    fn of(users: &str, groups: &str) -> Result<Self, IdmapError> {
        let fail = |step| move |source: io::Error| IdmapError::Namespace { step, source };
        let pipe = || pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| fail("pipe")(e.into()));
        let ((entered, say), (hold, release)) = (pipe()?, pipe()?);
        // SAFETY: the process has one thread; the child makes system calls only, and ends without unwinding.
        match unsafe { fork() }.map_err(|e| fail("fork")(e.into()))? {
            ForkResult::Child => {
                drop((entered, release));
                enter_and_wait(say, hold)
            }
            ForkResult::Parent { child } => {
                drop((say, hold));
                let mapped = map(child, [("uid_map", users), ("gid_map", groups)], entered);
                drop(release);
                let _ = waitpid(child, None);
                mapped
            }
        }
    }

    /// Mounts a folder or a file on another, which is there, so that its owners are those of the range.
    pub fn bind(&self, from: &Path, to: &Path) -> Result<(), IdmapError> {
        let fail = |step| move |source: io::Error| IdmapError::Mount { path: from.to_owned(), step, source };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let clone = open_tree(CWD, from, flags).map_err(|e| fail("open_tree")(e.into()))?;
        set_attributes(clone.as_fd(), false, libc::MOUNT_ATTR_IDMAP, libc::MS_PRIVATE, Some(self)).map_err(
            |source| match source.raw_os_error() {
                Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => {
                    IdmapError::Unsupported { path: from.to_owned(), source }
                }
                _ => fail("mount_setattr")(source),
            },
        )?;
        move_mount(clone.as_fd(), "", CWD, to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|e| fail("move_mount")(e.into()))
    }
}

/// The child: says that it is in, and ends when it is let go.
fn enter_and_wait(say: OwnedFd, hold: OwnedFd) -> ! {
    let entered = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER);
    let number = entered.err().map_or(0, |error| error as i32);
    let _ = File::from(say).write_all(&number.to_ne_bytes());
    let _ = File::from(hold).read(&mut [0]);
    // SAFETY: ends the child at once, without running what the parent has registered.
    unsafe { libc::_exit(0) }
}

fn map(child: Pid, maps: [(&str, &str); 2], entered: OwnedFd) -> Result<Mapping, IdmapError> {
    let fail = |step| move |source: io::Error| IdmapError::Namespace { step, source };
    let mut number = [0; 4];
    File::from(entered).read_exact(&mut number).map_err(fail("fork"))?;
    match i32::from_ne_bytes(number) {
        0 => {}
        error => return Err(fail("unshare")(io::Error::from_raw_os_error(error))),
    }
    let proc = PathBuf::from(format!("/proc/{child}"));
    for (file, lines) in maps {
        let step = if file == "uid_map" { "uid_map" } else { "gid_map" };
        fs::write(proc.join(file), lines).map_err(fail(step))?;
    }
    File::open(proc.join("ns/user")).map(Mapping).map_err(fail("ns/user"))
}

/// The ids on disk `0..size` are `first..`, but for two that change places.
fn lines(first: u32, size: u32, swapped: Option<(u32, u32)>) -> String {
    let line = |from: u32, to: u32, many: u32| if many == 0 { String::new() } else { format!("{from} {to} {many}\n") };
    match swapped.filter(|(disk, user)| disk != user) {
        None => line(0, first, size),
        Some((disk, user)) => {
            let (low, high) = (disk.min(user), disk.max(user));
            let mut text = line(0, first, low);
            if high < size {
                text += &line(low, first + high, 1);
                text += &line(low + 1, first + low + 1, high - low - 1);
                text += &line(high, first + low, 1);
                return text + &line(high + 1, first + high + 1, size - high - 1);
            }
            text += &line(low + 1, first + low + 1, size - low - 1);
            text + &line(high, first + low, 1)
        }
    }
}

/// Changes a mount, or all of a tree of them.
pub fn set_attributes(
    tree: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
    propagation: u64,
    mapping: Option<&Mapping>,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation,
        userns_fd: mapping.map_or(0, |mapping| mapping.0.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty path with AT_EMPTY_PATH means the descriptor; the attributes are as large as said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
