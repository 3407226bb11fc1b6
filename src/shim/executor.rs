//! The last steps before a container's command runs, inside of the container, as its user.
//!
//! The embedded runtime calls this in the container's init. Its own seccomp support is not built in (it needs a C library); so the
//! order is [`Confinement`]'s, then `execve`. Whatever fails is said on a pipe that `execve` closes, so that the shim knows exactly
//! whether the command runs.
#![expect(unsafe_code, reason = "write(2) to a descriptor that is only a number here")]

use std::collections::HashMap;
use std::os::fd::RawFd;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};

use crate::container::confine::{Confinement, end_with_parent, reset_signals};
use crate::container::program::Program;

/// Starts the command.
#[derive(Clone)]
pub(super) struct Launch {
    /// What it may do.
    pub(super) confinement: Confinement,
    /// Where an error is written.
    pub(super) errors: RawFd,
    /// Whether the command runs below our init.
    pub(super) init: bool,
    /// Its SELinux label.
    pub(super) label: Option<String>,
}

impl Executor for Launch {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let error = self.launch(spec);
        self.say(&error);
        Err(ExecutorError::Other(error))
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        program(spec).map(drop).map_err(|error| {
            self.say(&error);
            ExecutorValidationError::ArgValidationError(error)
        })
    }

    /// Ours is handed to `execve`; the process's own is left alone.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

impl Launch {
    /// Returns only where it fails, with the reason.
    fn launch(&self, spec: &Spec) -> String {
        let program = match program(spec) {
            Ok(program) if self.init => program.below_init(),
            Ok(program) => program,
            Err(error) => return error,
        };
        if let Some(label) = &self.label
            && let Err(error) = std::fs::write("/proc/self/attr/exec", label)
        {
            return format!("the command cannot be given the SELinux label {label}: {error}");
        }
        // The container ends with its shim: without it nobody would read its output or write down its end.
        let confined = self.confinement.apply().and_then(|()| end_with_parent().map_err(|e| ("parent", e)));
        if let Err((step, error)) = confined {
            return format!("the container could not be confined ({step}): {error}");
        }
        reset_signals();
        program.execute()
    }

    fn say(&self, error: &str) {
        // SAFETY: a valid slice; the descriptor is the shim's, and a failure has nobody to be told to.
        unsafe { libc::write(self.errors, error.as_ptr().cast(), error.len().min(4096)) };
    }
}

fn program(spec: &Spec) -> Result<Program, String> {
    let process = spec.process().as_ref().ok_or("the container has no process")?;
    Program::find(process.args().as_deref().unwrap_or_default(), process.env().as_deref().unwrap_or_default())
}
