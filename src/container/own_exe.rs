//! Our own program, so that a container cannot change it (CVE-2019-5736): what is executed is a read-only clone of its mount, which
//! nobody else can reach. Until its command runs, `/proc/1/exe` of a container is this file.
#![expect(unsafe_code, reason = "open_tree and mount_setattr have no safe wrapper here")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The program that shims are started from.
#[derive(Debug)]
pub(super) struct OwnExe {
    /// Held open: the path below is its number.
    _clone: Option<OwnedFd>,
    path: PathBuf,
}

impl OwnExe {
    /// Clones the mount of the program; where the kernel cannot (before 5.12), the program itself is used, and the reason given.
    pub(super) fn hold(program: &Path) -> (Self, Option<io::Error>) {
        match read_only_clone(program) {
            Ok(clone) => {
                let path = PathBuf::from(format!("/proc/self/fd/{}", clone.as_raw_fd()));
                (Self { _clone: Some(clone), path }, None)
            }
            Err(error) => (Self { _clone: None, path: program.to_owned() }, Some(error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn read_only_clone(program: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(program.as_os_str().as_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: a NUL-terminated path.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave it to us.
    let clone = unsafe { OwnedFd::from_raw_fd(fd) };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: an empty path with AT_EMPTY_PATH means the descriptor; the attributes are as large as said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            clone.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(clone) }
}
