//! The helper that swaps configs and secrets in a container that runs: each file that has another content by now is written to a tmpfs
//! that nobody sees, and its mount takes the place of the one that is there, at once: whoever opens the file reads the old content or the
//! new one, whole.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, openat, openat2, statx};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::exec::{settle, told};
use super::target::Target;
use crate::container::exec::link::ExecFailure;
use crate::container::files::{self, Owned};
use crate::container::given_files::{FileOrder, receive};
use crate::container::swap::link::{SwapOrder, SwapReport};
use crate::model::Owner;

pub(super) fn main() -> ExitCode {
    let Ok(mut daemon) = settle() else { return ExitCode::FAILURE };
    let report = match told(&mut daemon) {
        Ok(order) => run(&mut daemon, &order).map_or_else(|report| report, |()| SwapReport::Done),
        Err(Some(words)) => SwapReport::Failed(words),
        Err(None) => return ExitCode::FAILURE,
    };
    let told = serde_json::to_vec(&report).map_err(io::Error::from).and_then(|line| daemon.write_all(&line));
    if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn failed<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> SwapReport {
    move |error| SwapReport::Failed(format!("{what}: {error}"))
}

fn run(daemon: &mut UnixStream, order: &SwapOrder) -> Result<(), SwapReport> {
    let contents = receive(&order.files, daemon).map_err(failed("what the files hold did not come"))?;
    let target = Target::hold(order.init, &order.cgroup).map_err(|failure| match failure {
        ExecFailure::ContainerEnded => SwapReport::ContainerEnded,
        ExecFailure::NotFound(words) | ExecFailure::NotStarted(words) => SwapReport::Failed(words),
    })?;
    let swapped = swap(order, &target, &contents);
    if swapped.is_err() && target.ends_within(Duration::ZERO) { Err(SwapReport::ContainerEnded) } else { swapped }
}

fn swap(order: &SwapOrder, target: &Target, contents: &[zeroize::Zeroizing<Vec<u8>>]) -> Result<(), SwapReport> {
    let root = format!("/proc/{}/root", crate::model::ProcessId::from(order.init).pid);
    let root = openat(CWD, root.as_str(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = root.map_err(failed("the container's root cannot be opened"))?;
    // What was opened is its own only if it still is there.
    if target.ends_within(Duration::ZERO) {
        return Err(SwapReport::ContainerEnded);
    }
    let owned = order.files.iter().map(|file| as_it_is(&root, file)).collect::<Result<Vec<_>, _>>()?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed("mounts of our own cannot be made"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(failed("mounts of our own cannot be made"))?;
    files::write(&order.place, &owned, contents).map_err(failed("the files cannot be written"))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = |number: usize| open_tree(CWD, order.place.join(number.to_string()), flags);
    let clones = (0..order.files.len()).map(clone).collect::<Result<Vec<_>, _>>();
    let clones = clones.map_err(failed("the files cannot be mounted"))?;
    target.join_mounts().map_err(failed("the container's mounts cannot be entered"))?;
    order.files.iter().zip(&clones).try_for_each(|(file, clone)| {
        take_place(&file.target, clone).map_err(failed(format!("{} at {} cannot be swapped", file.title, file.target)))
    })
}

fn inside() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
}

/// Whose the file is that is there, and its permissions: a change of them makes another container.
fn as_it_is(root: &OwnedFd, file: &FileOrder) -> Result<Owned, SwapReport> {
    let what = || format!("{} at {} cannot be looked at", file.title, file.target);
    let held = openat2(root, file.target.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), inside());
    let held = held.map_err(failed(what()))?;
    let stat = statx(&held, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map_err(failed(what()))?;
    if stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
        && !stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    {
        let words = "is no mount in the container any more; restart the container";
        return Err(SwapReport::Failed(format!("{} at {} {words}", file.title, file.target)));
    }
    Ok(Owned::known(Owner { uid: stat.stx_uid, gid: stat.stx_gid }, u32::from(stat.stx_mode) & 0o7777))
}

/// Among the container's mounts. The new one goes beneath the one that is there, which is then taken away; where the kernel cannot do
/// that (before 6.5), it goes on top.
fn take_place(target: &str, clone: &OwnedFd) -> io::Result<()> {
    let path = Path::new(target);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags | OFlags::DIRECTORY, Mode::empty())?;
    let folder = openat2(&root, folder, flags | OFlags::DIRECTORY, Mode::empty(), inside())?;
    let there = openat2(&folder, name, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS)?;
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    let put = |more| move_mount(clone.as_fd(), "", there.as_fd(), "", both | more);
    if put(MoveMountFlags::MOVE_MOUNT_BENEATH).is_err() {
        return Ok(put(MoveMountFlags::empty())?);
    }
    rustix::process::fchdir(&folder)?;
    Ok(umount2(name, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?)
}
