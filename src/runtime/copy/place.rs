//! Where files are copied: the mounts of a container that runs, or the root of one that does not, mounted for this helper alone.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, fstatfs, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::{failed, open_in};
use crate::container::copy::link::{CopyFailure, CopyPlace};
use crate::container::exec::link::ExecFailure;
use crate::container::link::LOGS;
use crate::rootfs::{Overlay, Writes};
use crate::runtime::inside::be;
use crate::runtime::target::Target;
use crate::tree::{Reason, mount_of};

/// File systems that the kernel makes up: proc, sysfs, cgroup, cgroup2, devpts, mqueue, securityfs, debugfs, tracefs, bpf.
const KERNEL: [u32; 10] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1cd1,
    0x1980_0202,
    0x7363_6673,
    0x6462_6720,
    0x7472_6163,
    0xcafe_4a11,
];

/// The container, entered.
pub(super) struct Place {
    /// Its root.
    pub root: OwnedFd,
    /// Held by descriptor; none where it does not run.
    target: Option<Target>,
    /// Its `/dev`, where something is mounted there.
    dev: Option<(u64, u64)>,
    /// The mounts that stand for those that are not there.
    absent: Vec<u64>,
}

impl Place {
    /// `alone`: the root without what is mounted in it.
    pub(super) fn enter(place: CopyPlace, alone: bool) -> Result<Self, CopyFailure> {
        match place {
            CopyPlace::Running { init, cgroup } => {
                let target = Target::hold(init, &cgroup).map_err(|failure| match failure {
                    ExecFailure::ContainerEnded => CopyFailure::ContainerEnded,
                    ExecFailure::NotFound(words) | ExecFailure::NotStarted(words) => CopyFailure::Failed(words),
                })?;
                Self::running(target, alone)
            }
            CopyPlace::Stopped { layers, folder, mounts } => Self::stopped(&layers, &folder, &mounts, alone),
        }
    }

    fn running(target: Target, alone: bool) -> Result<Self, CopyFailure> {
        let fail = failed("the container's mounts cannot be entered");
        be_nobody_elses()?;
        if let Err(error) = target.join_mounts() {
            return Err(if target.ends_within(Duration::ZERO) { CopyFailure::ContainerEnded } else { fail(error) });
        }
        let root = root().map_err(failed("the container's root cannot be opened"))?;
        let root = if alone { clone(&root)? } else { root };
        if target.own_users() {
            target.join_users().map_err(failed("the container's users cannot be become"))?;
            be(0, 0, &[]).map_err(failed("the container's root cannot be become"))?;
        }
        stay_in(&root)?;
        let dev = open_in(&root, b"/dev", OFlags::PATH | OFlags::NOFOLLOW).and_then(|dev| fstat(&dev)).ok();
        Ok(Self { root, target: Some(target), dev: dev.map(|stat| (stat.st_dev, stat.st_ino)), absent: Vec::new() })
    }

    fn stopped(layers: &[PathBuf], folder: &Path, mounts: &[String], alone: bool) -> Result<Self, CopyFailure> {
        let fail = failed("mounts of our own cannot be made");
        unshare(CloneFlags::CLONE_NEWNS).map_err(&fail)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).map_err(&fail)?;
        // Any folder would do: nobody else sees it.
        let at = folder.join(LOGS);
        let (upper, work) = (folder.join("upper"), folder.join("work"));
        Overlay { layers, writes: Some(Writes { upper: &upper, work: &work }), nodev: true, context: None }
            .mount(&at)
            .map_err(|error| {
                let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
                CopyFailure::Failed(format!("{error}{cause}"))
            })?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, &at, flags, Mode::empty()).map_err(failed("the container's root cannot be opened"))?;
        let absent = if alone { Vec::new() } else { stand_ins(&root, folder, mounts)? };
        stay_in(&root)?;
        Ok(Self { root, target: None, dev: None, absent })
    }

    /// Opens a path as the container's root would: links lead where they lead for it.
    pub(super) fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        open_in(&self.root, if path.is_empty() { b"/" } else { path }, flags)
    }

    /// Whether it ran and runs no more.
    pub(super) fn ended(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.ends_within(Duration::ZERO))
    }

    /// Whether what is asked for by its own name is there.
    pub(super) fn readable(&self, held: &OwnedFd, stat: &Stat) -> Result<(), Reason> {
        if self.absent(held.as_fd())? {
            return Err(Reason::Absent);
        }
        let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if folder && made_up(held.as_fd())? { Err(Reason::Made) } else { Ok(()) }
    }

    pub(super) fn writable(&self, fd: BorrowedFd<'_>) -> Result<(), Reason> {
        if self.absent(fd)? {
            return Err(Reason::Absent);
        }
        if made_up(fd)? { Err(Reason::Kernel) } else { Ok(()) }
    }

    /// What is mounted somewhere below is a part of the copy, but for the kernel's own and the devices.
    pub(super) fn worth_entering(&self, fd: BorrowedFd<'_>, stat: &Stat) -> bool {
        let dev = FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && self.dev == Some((stat.st_dev, stat.st_ino));
        !dev && made_up(fd).is_ok_and(|made_up| !made_up)
    }

    fn absent(&self, fd: BorrowedFd<'_>) -> Result<bool, Reason> {
        Ok(!self.absent.is_empty() && self.absent.contains(&mount_of(fd)?))
    }
}

fn made_up(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = u32::try_from(fstatfs(fd)?.f_type & 0xffff_ffff).unwrap_or(0);
    Ok(KERNEL.contains(&kind))
}

fn root() -> Result<OwnedFd, Errno> {
    openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The mount of the root by itself.
fn clone(root: &OwnedFd) -> Result<OwnedFd, CopyFailure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(root, "", flags).map_err(failed("the container's root cannot be seen without its mounts"))
}

/// None of our groups goes along.
fn be_nobody_elses() -> Result<(), CopyFailure> {
    nix::unistd::setgroups(&[]).map_err(failed("our own groups cannot be given up"))
}

/// From here on nothing leads out of it, whatever a path says.
fn stay_in(root: &OwnedFd) -> Result<(), CopyFailure> {
    let fail = failed("the container's root cannot be entered");
    // What is made has the mode that it is given.
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::unistd::fchdir(root).map_err(&fail)?;
    nix::unistd::chroot(".").map_err(&fail)
}

/// Empty and read-only mounts where the container's own would be; their numbers.
fn stand_ins(root: &OwnedFd, folder: &Path, mounts: &[String]) -> Result<Vec<u64>, CopyFailure> {
    let fail = failed("what stands for the container's mounts cannot be made");
    let place = folder.join("work");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("longshore"), &place, Some("tmpfs"), flags, Some("mode=755,size=64k")).map_err(&fail)?;
    std::fs::create_dir(place.join("d")).map_err(failed("what stands for mounts cannot be made"))?;
    std::fs::File::create(place.join("f")).map_err(failed("what stands for mounts cannot be made"))?;
    let mut numbers = Vec::new();
    for target in mounts {
        // What is not there cannot be mounted on yet; nothing is hidden there.
        let Ok(held) = open_in(root, target.as_bytes(), OFlags::PATH) else { continue };
        let stat = fstat(&held).map_err(failed(target))?;
        let kind = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory { "d" } else { "f" };
        let at = format!("/proc/self/fd/{}", held.as_raw_fd());
        mount(Some(&place.join(kind)), at.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(&fail)?;
        let there = open_in(root, target.as_bytes(), OFlags::PATH).map_err(failed(target))?;
        numbers.push(mount_of(&there).map_err(failed(target))?);
    }
    Ok(numbers)
}
