//! A program to become: looked up as `execvp` would, inside of the container, with words for each way in which it can fail.
#![expect(unsafe_code, reason = "execve with an environment of its own")]

use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;

use super::oci::INIT;

/// Why there is no such program to become.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// It is not there, or what it needs to be loaded is not: a shell's 127.
    #[error("{0}")]
    NotFound(String),
    /// It is there: a shell's 126.
    #[error("{0}")]
    NotExecutable(String),
}

/// A file, its arguments and its environment.
#[derive(Debug)]
pub struct Program {
    file: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// [`Self::look_for`], with the reason in words.
    pub fn find(args: &[String], env: &[String]) -> Result<Self, String> {
        Self::look_for(args, env).map_err(|error| error.to_string())
    }

    /// Looks the first argument up by the `PATH` of `env`, as whoever calls.
    pub fn look_for(args: &[String], env: &[String]) -> Result<Self, ProgramError> {
        let texts = |texts: &[String]| -> Result<Vec<CString>, ProgramError> {
            let text = |t: &String| CString::new(t.as_str()).map_err(|_| refused(format!("{t:?} holds a NUL")));
            texts.iter().map(text).collect()
        };
        let (args, env) = (texts(args)?, texts(env)?);
        let name =
            args.first().ok_or_else(|| refused("no command: neither the file nor the image names one".into()))?;
        let path = env.iter().find_map(|v| v.to_bytes().strip_prefix(b"PATH="));
        let file = look_up(name, path.map_or_else(|| Ok(""), std::str::from_utf8).unwrap_or(""))?;
        Ok(Self { file, args, env })
    }

    /// The same below our init, which is the container's first process then.
    #[must_use]
    pub fn below_init(self) -> Self {
        let Self { file, mut args, env } = self;
        match (CString::new(INIT), CString::new("init")) {
            (Ok(init), Ok(mode)) => {
                args.splice(0..0, [init.clone(), mode, file]);
                Self { file: init, args, env }
            }
            _ => Self { file, args, env },
        }
    }

    /// [`Self::replace`], with the reason in words.
    #[must_use]
    pub fn execute(&self) -> String {
        self.replace().to_string()
    }

    /// Becomes it. Returns only where it fails.
    #[must_use]
    pub fn replace(&self) -> ProgramError {
        let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
            texts.iter().map(|t| t.as_ptr()).chain([std::ptr::null()]).collect()
        };
        // SAFETY: NUL-terminated texts in arrays that end with a null pointer, all alive during the call.
        unsafe { libc::execve(self.file.as_ptr(), pointers(&self.args).as_ptr(), pointers(&self.env).as_ptr()) };
        explain(&self.file, &io::Error::last_os_error())
    }
}

/// The file of a command: as it is, where it holds a slash; else the first executable in `PATH`.
fn look_up(name: &CStr, path: &str) -> Result<CString, ProgramError> {
    let text = name.to_string_lossy();
    if text.is_empty() {
        return Err(refused("the command is empty".to_owned()));
    }
    if text.contains('/') {
        return executable(name).map(|()| name.to_owned());
    }
    let mut denied = None;
    for folder in path.split(':').filter(|f| f.starts_with('/')) {
        let Ok(candidate) = CString::new(format!("{}/{text}", folder.trim_end_matches('/'))) else { continue };
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if Path::new(&*candidate.to_string_lossy()).exists() => denied = Some(error),
            Err(_) => {}
        }
    }
    let nowhere = || ProgramError::NotFound(format!("command {text:?} not found in PATH of the image ({path})"));
    Err(denied.unwrap_or_else(nowhere))
}

fn executable(file: &CStr) -> Result<(), ProgramError> {
    let path = file.to_string_lossy();
    let meta = std::fs::metadata(&*path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ProgramError::NotFound(format!("command {path:?} not found in the image")),
        io::ErrorKind::PermissionDenied => refused(format!("command {path:?}: permission denied")),
        _ => refused(format!("command {path:?}: {error}")),
    })?;
    if meta.is_dir() {
        return Err(refused(format!("command {path:?} is a directory")));
    }
    nix::unistd::access(&*path, nix::unistd::AccessFlags::X_OK)
        .map_err(|_| refused(format!("command {path:?}: permission denied (it is not executable for this user)")))
}

fn explain(path: &CStr, error: &io::Error) -> ProgramError {
    let path = path.to_string_lossy();
    match error.raw_os_error() {
        Some(libc::ENOEXEC) => refused(format!(
            "command {path:?}: exec format error (not a program for this machine, or a script without #!)"
        )),
        Some(libc::ENOENT) => {
            ProgramError::NotFound(format!("command {path:?}: its interpreter or loader is not in the image"))
        }
        Some(libc::EACCES) => refused(format!("command {path:?}: permission denied")),
        _ => refused(format!("command {path:?}: {error}")),
    }
}

const fn refused(words: String) -> ProgramError {
    ProgramError::NotExecutable(words)
}
