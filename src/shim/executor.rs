//! The last steps before a container's command runs, inside of the container, as its user.
//!
//! The embedded runtime calls this in the container's init. Its own seccomp support is not built in (it needs a C library); so the
//! order here is ours: bounding set, seccomp program, the other sets, then `execve`. Until the program is loaded the process
//! holds CAP_SYS_ADMIN, without which loading needs `no_new_privs`. Whatever fails is said on a pipe that `execve` closes, so that
//! the shim knows exactly whether the command runs.
#![expect(unsafe_code, reason = "capset, prctl and execve with our own environment")]

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::rc::Rc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};

use super::seccomp::{self, Instruction};
use crate::container::oci::INIT;

/// Starts the command.
#[derive(Clone)]
pub(super) struct Launch {
    /// The seccomp program.
    pub(super) program: Rc<[Instruction]>,
    /// The capabilities the container keeps in its bounding set (and holds, if it is root).
    pub(super) capabilities: u64,
    /// Where an error is written.
    pub(super) errors: RawFd,
    /// Whether the command runs below our init.
    pub(super) init: bool,
}

impl Executor for Launch {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let error = self.launch(spec);
        self.say(&error);
        Err(ExecutorError::Other(error))
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        command(spec).map(drop).map_err(|error| {
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
        let (path, mut args, env) = match command(spec) {
            Ok(command) => command,
            Err(error) => return error,
        };
        let mut program = path.clone();
        if self.init
            && let (Ok(init), Ok(mode)) = (CString::new(INIT), CString::new("init"))
        {
            args.splice(0..0, [init.clone(), mode, path.clone()]);
            program = init;
        }
        if let Err((step, error)) = self.confine() {
            return format!("the container could not be confined ({step}): {error}");
        }
        reset_signals();
        let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
            texts.iter().map(|t| t.as_ptr()).chain([std::ptr::null()]).collect()
        };
        // SAFETY: NUL-terminated texts in arrays that end with a null pointer, all alive during the call.
        unsafe { libc::execve(program.as_ptr(), pointers(&args).as_ptr(), pointers(&env).as_ptr()) };
        explain(&path, &io::Error::last_os_error())
    }

    fn confine(&self) -> Result<(), (&'static str, io::Error)> {
        let root = nix::unistd::geteuid().is_root();
        drop_bounding(self.capabilities).map_err(|e| ("bounding set", e))?;
        check(prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64)).map_err(|e| ("ambient set", e))?;
        seccomp::load(&self.program).map_err(|e| ("seccomp", e))?;
        set_capabilities(if root { self.capabilities } else { 0 }).map_err(|e| ("capabilities", e))?;
        // The container ends with its shim: without it nobody would read its output or write down its end.
        check(prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)).map_err(|e| ("parent", e))
    }

    fn say(&self, error: &str) {
        // SAFETY: a valid slice; the descriptor is the shim's, and a failure has nobody to be told to.
        unsafe { libc::write(self.errors, error.as_ptr().cast(), error.len().min(4096)) };
    }
}

/// What `execve` would hand on: our standard library ignores SIGPIPE, and who started the daemon may have ignored or blocked others.
pub(super) fn reset_signals() {
    // No handler, no flags, no mask: the default action.
    let action = [0_usize; 4];
    for signal in 1..=64 {
        // SAFETY: laid out as the kernel has it. By the kernel's own call: the C library's leaves out the two it keeps for itself.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), std::ptr::null::<u8>(), 8) };
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// The command's file, arguments and environment.
fn command(spec: &Spec) -> Result<(CString, Vec<CString>, Vec<CString>), String> {
    let process = spec.process().as_ref().ok_or("the container has no process")?;
    let texts = |texts: &Option<Vec<String>>| -> Result<Vec<CString>, String> {
        texts.iter().flatten().map(|t| CString::new(t.as_str()).map_err(|_| format!("{t:?} holds a NUL"))).collect()
    };
    let (args, env) = (texts(process.args())?, texts(process.env())?);
    let name = args.first().ok_or("no command: neither the file nor the image names one")?;
    let path = env.iter().find_map(|v| v.to_bytes().strip_prefix(b"PATH="));
    let found = look_up(name, path.map_or_else(|| Ok(""), std::str::from_utf8).unwrap_or(""))?;
    Ok((found, args, env))
}

/// The file of a command: as it is, where it holds a slash; else the first executable in `PATH`.
fn look_up(name: &CStr, path: &str) -> Result<CString, String> {
    let text = name.to_string_lossy();
    if text.is_empty() {
        return Err("the command is empty".to_owned());
    }
    if text.contains('/') {
        return executable(name).map(|()| name.to_owned());
    }
    let mut refused = None;
    for folder in path.split(':').filter(|f| f.starts_with('/')) {
        let Ok(candidate) = CString::new(format!("{}/{text}", folder.trim_end_matches('/'))) else { continue };
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if Path::new(&*candidate.to_string_lossy()).exists() => refused = Some(error),
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| format!("command {text:?} not found in PATH of the image ({path})")))
}

fn executable(file: &CStr) -> Result<(), String> {
    let path = file.to_string_lossy();
    let meta = std::fs::metadata(&*path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("command {path:?} not found in the image"),
        io::ErrorKind::PermissionDenied => format!("command {path:?}: permission denied"),
        _ => format!("command {path:?}: {error}"),
    })?;
    if meta.is_dir() {
        return Err(format!("command {path:?} is a directory"));
    }
    nix::unistd::access(&*path, nix::unistd::AccessFlags::X_OK)
        .map_err(|_| format!("command {path:?}: permission denied (it is not executable for this user)"))
}

fn explain(path: &CStr, error: &io::Error) -> String {
    let path = path.to_string_lossy();
    match error.raw_os_error() {
        Some(libc::ENOEXEC) => {
            format!("command {path:?}: exec format error (not a program for this machine, or a script without #!)")
        }
        Some(libc::ENOENT) => format!("command {path:?}: its interpreter or loader is not in the image"),
        Some(libc::EACCES) => format!("command {path:?}: permission denied"),
        _ => format!("command {path:?}: {error}"),
    }
}

fn drop_bounding(keep: u64) -> io::Result<()> {
    for capability in 0..64 {
        let held = prctl(libc::PR_CAPBSET_READ, capability);
        if held < 0 {
            break;
        }
        if held == 1 && keep >> capability & 1 == 0 {
            check(prctl(libc::PR_CAPBSET_DROP, capability))?;
        }
    }
    Ok(())
}

/// Sets permitted and effective, and empties inheritable.
fn set_capabilities(mask: u64) -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3`
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    let (low, high) = (mask as u32, (mask >> 32) as u32);
    let data = [low, low, 0, high, high, 0];
    // SAFETY: header and data are laid out as version 3 has them.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn prctl(option: libc::c_int, argument: u64) -> libc::c_int {
    // SAFETY: the options used here take numbers only.
    unsafe { libc::prctl(option, argument, 0, 0, 0) }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
