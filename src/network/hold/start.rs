//! The role is started by the daemon.
#![expect(unsafe_code, reason = "work between fork and exec")]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::{Held, HoldOrder};

/// What the role is given.
#[derive(Debug, Default)]
pub(in crate::network) struct Sockets {
    /// Those that listen, one for each held port.
    pub(in crate::network) led: Vec<OwnedFd>,
    /// Copies of those that a process listens on to carry what comes.
    pub(in crate::network) carried: Vec<OwnedFd>,
    /// Copies of what else keeps the container's ports.
    pub(in crate::network) kept: Vec<OwnedFd>,
}

/// Starts it; where it is to be found then. It outlives the daemon. Within a tokio runtime, which reaps it.
pub(in crate::network) fn start(
    (exe, run_dir): (&Path, &Path),
    held: Held,
    sockets: Sockets,
    limit: Duration,
) -> io::Result<PathBuf> {
    let folder = super::connect::folder(run_dir);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let path = folder.join(held.container.get(..12).unwrap_or(&held.container));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let control = OwnedFd::from(UnixListener::bind(&path)?);
    let numbers = |sockets: &[OwnedFd]| sockets.iter().map(|socket| socket.as_raw_fd()).collect::<Vec<RawFd>>();
    let order = HoldOrder {
        held,
        control: control.as_raw_fd(),
        path: path.clone(),
        limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        led: numbers(&sockets.led),
        carried: numbers(&sockets.carried),
        kept: numbers(&sockets.kept),
    };
    let mut command = std::process::Command::new(exe);
    command.args(["hold", &serde_json::to_string(&order)?]).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut command = tokio::process::Command::from(command);
    // What a terminal sends to the daemon is not for it.
    command.process_group(0);
    // In the child, so that nothing else that is started meanwhile inherits them.
    let inherit = move || {
        let all = sockets.led.iter().chain(&sockets.carried).chain(&sockets.kept).chain([&control]);
        all.into_iter().try_for_each(|socket| Ok(rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?))
    };
    // SAFETY: one system call for each descriptor, which the closure owns; nothing is allocated.
    unsafe { command.pre_exec(inherit) };
    command.spawn()?;
    Ok(path)
}
