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
use crate::model::{ProcessId, Published};
use crate::network::namespace;
use crate::network::ports::{self, CARRIER};

/// It takes what comes.
const BEGIN: Signal = Signal::USR1;
/// It takes nothing new.
const PAUSE: Signal = Signal::USR2;

/// Has those who carry these ports to these addresses begin to take what comes. Blocks.
pub(in crate::network) fn begin(published: &[Published], to: &[IpAddr]) -> io::Result<()> {
    tell(published, to, BEGIN)
}

/// Has them take nothing new; the connections that they carry go on.
pub(in crate::network) fn pause(published: &[Published], to: &[IpAddr]) -> io::Result<()> {
    tell(published, to, PAUSE)
}

/// The processes that carry these ports, and are told where to.
pub(in crate::network) fn carriers(published: &[Published], to: &[IpAddr]) -> Vec<ProcessId> {
    let carried = published.iter().filter(|published| ports::is_carried(published));
    let mut pids: Vec<i32> = carried.flat_map(|published| ports::holders(&ports::place(published))).collect();
    pids.sort_unstable();
    pids.dedup();
    let ours = pids.into_iter().filter_map(|pid| Some((namespace::identity(pid)?, order(pid)?)));
    ours.filter(|(_, order)| order.obeys && order.ports.iter().all(|port| port.to == to))
        .map(|(process, _)| process)
        .collect()
}

/// What it was told. Whoever else says so of itself does not have our sockets.
fn order(pid: i32) -> Option<ForwardOrder> {
    if fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim() != CARRIER {
        return None;
    }
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    serde_json::from_slice(line.split(|byte| *byte == 0).nth(2)?).ok()
}

fn tell(published: &[Published], to: &[IpAddr], word: Signal) -> io::Result<()> {
    for process in carriers(published, to) {
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
