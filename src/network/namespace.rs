//! Work inside another network namespace.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::model::ProcessId;

/// Does the work on a thread of its own that has entered the namespace. Blocks until it is done.
pub fn within<T: Send>(namespace: impl AsFd, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = namespace.as_fd();
    let enter = || -> io::Result<T> {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, enter)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The calling thread's own.
pub fn own() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// That of a process; none where it has ended. Never that of another one that has its number since.
pub fn of_process(process: ProcessId) -> io::Result<Option<OwnedFd>> {
    let opened = match File::open(format!("/proc/{}/ns/net", process.pid)) {
        Ok(opened) => opened,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    // Looked at afterwards: if it is this one now, it was this one then.
    match start_ticks(process.pid) {
        Ok(ticks) => Ok((ticks == process.start_ticks).then(|| opened.into())),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A descriptor of a process that is readable once it has ended; none where it has ended already.
pub(super) fn pidfd(process: ProcessId) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(process.pid) else { return Ok(None) };
    let opened = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(opened) => opened,
        Err(Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match start_ticks(process.pid) {
        Ok(ticks) => Ok((ticks == process.start_ticks).then_some(opened)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Who has this number now.
pub(super) fn identity(pid: i32) -> Option<ProcessId> {
    Some(ProcessId { pid, start_ticks: start_ticks(pid).ok()? })
}

/// Who keeps a container's sockets: the parent of its init. None: it has ended.
pub(super) fn keeper(init: ProcessId) -> Option<ProcessId> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", init.pid)).ok()?;
    let parent: i32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
    let keeper = identity(parent)?;
    // Still the same, so its parent was this one.
    (identity(init.pid) == Some(init)).then_some(keeper)
}

/// Whether two of them are one.
pub fn same(one: impl AsFd, other: impl AsFd) -> io::Result<bool> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// A zombie has no namespaces any more.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

fn start_ticks(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold blanks and brackets; the fields after it begin with the third.
    let ticks = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(19)?.parse().ok());
    ticks.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::netlink::Socket;
    use crate::network::netlink::tests::apart;

    #[test]
    fn work_is_done_inside_and_nowhere_else() {
        let inside = apart(|| own().unwrap());
        let here = own().unwrap();
        assert!(!same(&inside, &here).unwrap());
        let links = within(&inside, || Socket::open().unwrap().links().unwrap()).unwrap();
        assert!(links.iter().any(|link| link.name == "lo" && !link.up));
        let there = within(&inside, || own().unwrap()).unwrap();
        assert!(same(&inside, &there).unwrap() && same(&here, own().unwrap()).unwrap());
    }

    #[test]
    fn a_process_is_not_mistaken_for_another() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let process = ProcessId { pid, start_ticks: start_ticks(pid).unwrap() };
        assert!(of_process(process).unwrap().is_some());
        assert!(of_process(ProcessId { start_ticks: process.start_ticks + 1, ..process }).unwrap().is_none());
        assert!(of_process(ProcessId { pid: i32::MAX, ..process }).unwrap().is_none());
        assert!(pidfd(process).unwrap().is_some());
        assert!(pidfd(ProcessId { start_ticks: process.start_ticks + 1, ..process }).unwrap().is_none());
        assert!(pidfd(ProcessId { pid: i32::MAX, ..process }).unwrap().is_none());
    }
}
