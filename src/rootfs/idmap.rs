//! Idmapped mounts: files that belong to root on disk belong to the root of a user namespace where they are seen through such a
//! mount, and what is made there belongs to root on disk. So a container's files keep their owners, whatever ids it runs with.
//!
//! For single-threaded callers: a user namespace is made by a child that enters it.
#![expect(unsafe_code, reason = "fork, and mount_setattr has no safe wrapper here")]

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, pipe2, setfsgid, setfsuid};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::thread::{capabilities, set_capabilities};

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
                let mapped = map(child, range, entered);
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
        let attributes = libc::mount_attr {
            attr_set: libc::MOUNT_ATTR_IDMAP,
            attr_clr: 0,
            propagation: libc::MS_PRIVATE,
            userns_fd: self.0.as_raw_fd() as u64,
        };
        // SAFETY: an empty path with AT_EMPTY_PATH means the descriptor; the attributes are as large as said.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                clone.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                &raw const attributes,
                size_of::<libc::mount_attr>(),
            )
        };
        if result < 0 {
            let source = io::Error::last_os_error();
            return Err(match source.raw_os_error() {
                Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => {
                    IdmapError::Unsupported { path: from.to_owned(), source }
                }
                _ => fail("mount_setattr")(source),
            });
        }
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

fn map(child: Pid, range: IdRange, entered: OwnedFd) -> Result<Mapping, IdmapError> {
    let fail = |step| move |source: io::Error| IdmapError::Namespace { step, source };
    let mut number = [0; 4];
    File::from(entered).read_exact(&mut number).map_err(fail("fork"))?;
    match i32::from_ne_bytes(number) {
        0 => {}
        error => return Err(fail("unshare")(io::Error::from_raw_os_error(error))),
    }
    let proc = PathBuf::from(format!("/proc/{child}"));
    for (file, first) in [("uid_map", range.uid), ("gid_map", range.gid)] {
        fs::write(proc.join(file), format!("0 {first} {}\n", range.size)).map_err(fail(file))?;
    }
    File::open(proc.join("ns/user")).map(Mapping).map_err(fail("ns/user"))
}
