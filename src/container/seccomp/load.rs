//! Gives a program to the kernel, for the calling thread.
#![expect(unsafe_code, reason = "seccomp(2) takes a pointer to the program")]

use std::io;

use super::Instruction;

/// From here on the calling thread and what it becomes are held to the program. Without `no_new_privs` this needs
/// CAP_SYS_ADMIN.
pub fn load(program: &[Instruction]) -> io::Result<()> {
    #[repr(C)]
    struct Program {
        len: libc::c_ushort,
        filter: *const Instruction,
    }
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = Program { len, filter: program.as_ptr() };
    // SAFETY: `Program` is laid out as `struct sock_fprog`, and the slice it points to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_u32, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
