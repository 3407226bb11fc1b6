//! Another OCI runtime (runc, crun), by its command line.

#![expect(unsafe_code, reason = "a step between fork and exec")]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::Pid;

use super::embedded::Created;
use super::stage::Stage;
use super::streams::{Given, Streams};
use super::{ShimError, doing};
use crate::container::confine::reset_signals;
use crate::container::link::Order;

/// A container that such a runtime created.
pub(super) struct External {
    program: PathBuf,
    id: String,
    /// Its init.
    pub(super) pid: Pid,
}

pub(super) fn create(
    program: &Path,
    stage: &Stage,
    order: &Order,
    streams: &mut Streams,
) -> Result<Created, ShimError> {
    let id = stage.spec.id.to_string();
    let pid_file = order.run.join("pid");
    let mut command = command(program, order);
    command.arg("create").arg("--bundle").arg(&stage.bundle).arg("--pid-file").arg(&pid_file);
    match streams.given.take() {
        Some(Given::Pipes { stdin, stdout, stderr }) => {
            command.stdin(stdin).stdout(stdout).stderr(stderr);
        }
        Some(Given::Terminal(socket)) => {
            command
                .arg("--console-socket")
                .arg(socket)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
        }
        None => {}
    }
    call(command.arg(&id), program, order)?;
    // The descriptors inside of `command` are the container's ends: closed here, or the streams would never end.
    drop(command);
    let pid = fs::read_to_string(&pid_file).map_err(doing("reading the runtime's pid file"))?;
    let pid = pid.trim().parse().map_err(|_| ShimError::Runtime(format!("{pid:?} is not a pid")))?;
    Ok(Created::External(External { program: program.to_owned(), id, pid: Pid::from_raw(pid) }))
}

impl External {
    pub(super) fn start(self, order: &Order) -> Result<(), ShimError> {
        let mut command = command(&self.program, order);
        command.arg("start").arg(&self.id).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        call(&mut command, &self.program, order)
    }
}

fn command(program: &Path, order: &Order) -> Command {
    let mut command = Command::new(program);
    // SAFETY: system calls only. The runtime hands on to the container what it finds ignored.
    unsafe {
        command.pre_exec(|| {
            reset_signals();
            Ok(())
        })
    };
    command.arg("--root").arg(order.run.join("runtime"));
    command.args(["--log-format", "json", "--log"]).arg(order.run.join("runtime.log"));
    command
}

/// Runs it; where it fails, its own log says why.
fn call(command: &mut Command, program: &Path, order: &Order) -> Result<(), ShimError> {
    let status = command.status().map_err(|error| ShimError::Runtime(format!("{}: {error}", program.display())))?;
    if status.success() {
        return Ok(());
    }
    let log = fs::read_to_string(order.run.join("runtime.log")).unwrap_or_default();
    let said = log.lines().rev().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["level"] == "error").then(|| line["msg"].as_str().map(str::to_owned)).flatten()
    });
    let said = said.unwrap_or_else(|| format!("{status}"));
    Err(ShimError::Runtime(format!("{}: {said}", program.display())))
}
