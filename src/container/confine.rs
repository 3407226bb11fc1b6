//! How a process is confined right before it becomes the container's program: the one order for a container's command and for
//! what is executed in it.
#![expect(unsafe_code, reason = "capset, prctl and the kernel's own signal call")]

use std::io;
use std::rc::Rc;

use super::seccomp::{self, Instruction};

/// `_LINUX_CAPABILITY_VERSION_3`
const VERSION: u32 = 0x2008_0522;

/// What is still taken away. Until it is applied the process holds CAP_SYS_ADMIN, without which loading a seccomp program needs
/// `no_new_privs`.
#[derive(Debug, Clone)]
pub struct Confinement {
    /// The seccomp program; none where the file asks for no confinement by it.
    pub program: Option<Rc<[Instruction]>>,
    /// The capabilities that stay in the bounding set (and are held by root).
    pub capabilities: u64,
    /// Whether a program with the set-user-id bit or with file capabilities gains nothing by them.
    pub no_new_privileges: bool,
}

impl Confinement {
    /// Bounding set, ambient set, `no_new_privs`, seccomp, the other sets; where one fails, which. By the user that it will be.
    pub fn apply(&self) -> Result<(), (&'static str, io::Error)> {
        let root = nix::unistd::geteuid().is_root();
        drop_bounding(self.capabilities).map_err(|e| ("bounding set", e))?;
        check(prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64)).map_err(|e| ("ambient set", e))?;
        if self.no_new_privileges {
            check(prctl(libc::PR_SET_NO_NEW_PRIVS, 1)).map_err(|e| ("no new privileges", e))?;
        }
        if let Some(program) = &self.program {
            seccomp::load(program).map_err(|e| ("seccomp", e))?;
        }
        set_capabilities(if root { self.capabilities } else { 0 }).map_err(|e| ("capabilities", e))
    }
}

/// What the calling process may make effective.
pub fn permitted() -> io::Result<u64> {
    let header = [VERSION, 0];
    let mut data = [0_u32; 6];
    // SAFETY: header and data are laid out as version 3 has them.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) } as libc::c_int)?;
    Ok(u64::from(data[4]) << 32 | u64::from(data[1]))
}

/// Makes all that is permitted effective: a change of the user took it away, where `PR_SET_KEEPCAPS` kept it permitted.
pub fn raise_permitted() -> io::Result<()> {
    set_capabilities(permitted()?)
}

/// The process ends with its parent.
pub fn end_with_parent() -> io::Result<()> {
    check(prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64))
}

/// What `execve` would hand on: our standard library ignores SIGPIPE, and who started the daemon may have ignored or blocked others.
pub fn reset_signals() {
    // No handler, no flags, no mask: the default action.
    let action = [0_usize; 4];
    for signal in 1..=64 {
        // SAFETY: laid out as the kernel has it. By the kernel's own call: the C library's leaves out the two it keeps for itself.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), std::ptr::null::<u8>(), 8) };
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
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
