//! Who carries is told whose turn it is.
//!
//! Two containers of one slot have copies of one socket; connections wait in it for whoever takes them. So the turn goes from the
//! process of the one to that of the other, and nothing that waits is lost.

use std::fs;
use std::io;
use std::net::IpAddr;

use rustix::process::{Signal, pidfd_send_signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::ForwardOrder;
use crate::model::ProcessId;
use crate::network::namespace;
use crate::network::ports::CARRIER;

/// It takes what comes.
const BEGIN: Signal = Signal::USR1;
/// It takes nothing new.
const PAUSE: Signal = Signal::USR2;

/// Has those who carry ports to these addresses begin to take what comes. Blocks.
pub(in crate::network) fn begin(to: &[IpAddr]) -> io::Result<()> {
    tell(to, BEGIN)
}

/// Has them take nothing new; the connections that they carry go on.
pub(in crate::network) fn pause(to: &[IpAddr]) -> io::Result<()> {
    tell(to, PAUSE)
}

/// The processes that carry ports to these addresses. Not found by their sockets: where thousands of connections just ended, the kernel
/// takes seconds to list those.
pub(in crate::network) fn carriers(to: &[IpAddr]) -> Vec<ProcessId> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let ours = pids.filter_map(|pid| Some((namespace::identity(pid)?, order(pid)?)));
    ours.filter(|(_, order)| order.obeys && order.ports.iter().all(|port| port.to == to))
        .map(|(process, _)| process)
        .collect()
}

/// What it was told. What a process in a container says of itself does not count.
fn order(pid: i32) -> Option<ForwardOrder> {
    if fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim() != CARRIER {
        return None;
    }
    let shares = |kind: &str| {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
        of(&pid.to_string()).is_some_and(|theirs| Some(theirs) == of("thread-self"))
    };
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|_| shares("pid") && shares("net"))?;
    serde_json::from_slice(line.split(|byte| *byte == 0).nth(2)?).ok()
}

fn tell(to: &[IpAddr], word: Signal) -> io::Result<()> {
    for process in carriers(to) {
        if let Some(process) = namespace::pidfd(process)? {
            match pidfd_send_signal(&process, word) {
                // It has ended.
                Err(rustix::io::Errno::SRCH) => {}
                done => done?,
            }
        }
    }
    Ok(())
}

/// Whether it is this process's turn, from now on. Within a runtime.
pub(super) fn watched(paused: bool) -> io::Result<watch::Receiver<bool>> {
    let (mut begin, mut pause) = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
    let (turn, watched) = watch::channel(!paused);
    tokio::task::spawn_local(async move {
        loop {
            // Neither loses a signal that comes while the other one is looked at.
            let now = tokio::select! {
                Some(()) = begin.recv() => true,
                Some(()) = pause.recv() => false,
                else => return,
            };
            if turn.send(now).is_err() {
                return;
            }
        }
    });
    Ok(watched)
}
