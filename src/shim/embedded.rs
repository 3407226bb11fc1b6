//! The embedded runtime: libcontainer, in this process, so that the container's init is our own child.

use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::rc::Rc;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2};

use super::executor::Launch;
use super::external::External;
use super::stage::Stage;
use super::streams::{Given, Streams};
use super::{ShimError, doing};
use crate::container::confine::Confinement;
use crate::container::link::Order;
use crate::container::privileges::Privileges;
use crate::container::seccomp;

/// A container that was created and waits for its start.
pub(super) enum Created {
    /// By libcontainer.
    Embedded { container: Box<Container>, pid: Pid, errors: Errors },
    /// By another program.
    External(External),
}

/// The pipe on which our executor says why the command does not run; `execve` closes it.
pub(super) struct Errors {
    read: OwnedFd,
    write: OwnedFd,
}

impl Created {
    pub(super) fn pid(&self) -> Pid {
        match self {
            Self::Embedded { pid, .. } => *pid,
            Self::External(external) => external.pid,
        }
    }

    /// Done when the command runs.
    pub(super) fn start(self, order: &Order) -> Result<(), ShimError> {
        match self {
            Self::Embedded { mut container, errors, .. } => {
                container.start().map_err(|error| ShimError::Runtime(super::chain(&error)))?;
                match errors.said()? {
                    Some(error) => Err(ShimError::Runtime(error)),
                    None => Ok(()),
                }
            }
            Self::External(external) => external.start(order),
        }
    }
}

pub(super) fn create(stage: &Stage, order: &Order, streams: &mut Streams) -> Result<Created, ShimError> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(doing("making a pipe"))?;
    let isolation = &stage.spec.service.isolation;
    let Privileges { capabilities, no_new_privileges } = stage.privileges;
    let launch = Launch {
        confinement: Confinement {
            program: seccomp::cached(&order.seccomp, &isolation.seccomp, isolation.privileged, capabilities)?
                .map(Rc::from),
            capabilities: capabilities.mask(),
            no_new_privileges,
        },
        errors: write.as_raw_fd(),
        init: stage.spec.service.process.init,
        label: stage.label.clone(),
    };
    let fail = |error: libcontainer::error::LibcontainerError| ShimError::Runtime(super::chain(&error));
    let mut builder = ContainerBuilder::new(stage.spec.id.to_string(), SyscallType::default())
        .with_root_path(order.run.join("runtime"))
        .map_err(fail)?
        .with_executor(launch);
    builder = match streams.given.take() {
        Some(Given::Pipes { stdin, stdout, stderr }) => {
            builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr)
        }
        Some(Given::Terminal(socket)) => builder.with_console_socket(Some(socket)),
        None => builder,
    };
    let built =
        builder.validate_id().and_then(|b| b.as_init(&stage.bundle).with_systemd(false).with_detach(true).build());
    let errors = Errors { read, write };
    let container = match built {
        Ok(container) => container,
        // Our executor's words are for people; the runtime's are about itself.
        Err(error) => return Err(errors.said()?.map_or_else(|| fail(error), ShimError::Runtime)),
    };
    let pid = container.pid().ok_or_else(|| ShimError::Runtime("the runtime gave no process".into()))?;
    Ok(Created::Embedded { pid: Pid::from_raw(pid.as_raw()), container: Box::new(container), errors })
}

impl Errors {
    /// Waits for the other end to close, and gives what was said.
    fn said(self) -> Result<Option<String>, ShimError> {
        drop(self.write);
        let mut text = Vec::new();
        std::fs::File::from(self.read).take(4096).read_to_end(&mut text).map_err(doing("waiting for the command"))?;
        Ok((!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned()))
    }
}
