//! The system calls that the follower makes, and nothing else of the machine.

use core::arch::asm;

pub const EINTR: i32 = 4;
pub const EAGAIN: i32 = 11;
pub const SIGCHLD: i32 = 17;

#[cfg(target_arch = "x86_64")]
mod nr {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const LSEEK: usize = 8;
    pub const SIGACTION: usize = 13;
    pub const SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const PREAD: usize = 17;
    pub const GETPID: usize = 39;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const FSYNC: usize = 74;
    pub const FTRUNCATE: usize = 77;
    pub const SETPGID: usize = 109;
    pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257;
    pub const UNLINKAT: usize = 263;
    pub const PPOLL: usize = 271;
    pub const SIGNALFD4: usize = 289;
    pub const RENAMEAT2: usize = 316;
}
#[cfg(target_arch = "aarch64")]
mod nr {
    pub const IOCTL: usize = 29;
    pub const UNLINKAT: usize = 35;
    pub const FTRUNCATE: usize = 46;
    pub const OPENAT: usize = 56;
    pub const CLOSE: usize = 57;
    pub const LSEEK: usize = 62;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const PREAD: usize = 67;
    pub const PPOLL: usize = 73;
    pub const SIGNALFD4: usize = 74;
    pub const FSYNC: usize = 82;
    pub const EXIT_GROUP: usize = 94;
    pub const CLOCK_GETTIME: usize = 113;
    pub const KILL: usize = 129;
    pub const SIGACTION: usize = 134;
    pub const SIGPROCMASK: usize = 135;
    pub const SETPGID: usize = 154;
    pub const GETPID: usize = 172;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const RENAMEAT2: usize = 276;
}

fn call(number: usize, args: [usize; 6]) -> Result<usize, i32> {
    let result: isize;
    // SAFETY: every caller below hands pointers to memory that it holds for the time of the call.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5], lateout("rcx") _, lateout("r11") _);
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") args[0] as isize => result, in("x1") args[1], in("x2") args[2],
            in("x3") args[3], in("x4") args[4], in("x5") args[5]);
    }
    if result < 0 { Err(-result as i32) } else { Ok(result as usize) }
}

fn call3(number: usize, a: usize, b: usize, c: usize) -> Result<usize, i32> {
    call(number, [a, b, c, 0, 0, 0])
}

pub fn read(fd: i32, into: &mut [u8]) -> Result<usize, i32> {
    call3(nr::READ, fd as usize, into.as_mut_ptr() as usize, into.len())
}
pub fn pread(fd: i32, into: &mut [u8]) -> Result<usize, i32> {
    call3(nr::PREAD, fd as usize, into.as_mut_ptr() as usize, into.len())
}
pub fn write(fd: i32, bytes: &[u8]) -> Result<usize, i32> {
    call3(nr::WRITE, fd as usize, bytes.as_ptr() as usize, bytes.len())
}
pub fn close(fd: i32) {
    let _ = call3(nr::CLOSE, fd as usize, 0, 0);
}
pub fn fsync(fd: i32) {
    let _ = call3(nr::FSYNC, fd as usize, 0, 0);
}
pub fn truncate(fd: i32, len: u64) {
    let _ = call3(nr::FTRUNCATE, fd as usize, len as usize, 0);
}
pub fn size(fd: i32) -> Option<u64> {
    call3(nr::LSEEK, fd as usize, 0, 2).ok().map(|n| n as u64)
}
/// Names end with NUL.
pub fn open_append(folder: i32, name: &[u8]) -> i32 {
    open(folder, name, 0o1 | 0o100 | 0o2000)
}
pub fn open_write(folder: i32, name: &[u8]) -> i32 {
    open(folder, name, 0o1 | 0o100)
}
fn open(folder: i32, name: &[u8], flags: usize) -> i32 {
    const CLOEXEC: usize = 0o2_000_000;
    call(nr::OPENAT, [folder as usize, name.as_ptr() as usize, flags | CLOEXEC, 0o600, 0, 0]).map_or(-1, |fd| fd as i32)
}
pub fn rename(folder: i32, old: &[u8], new: &[u8]) {
    let (old, new) = (old.as_ptr() as usize, new.as_ptr() as usize);
    let _ = call(nr::RENAMEAT2, [folder as usize, old, folder as usize, new, 0, 0]);
}
pub fn unlink(folder: i32, name: &[u8]) {
    let _ = call3(nr::UNLINKAT, folder as usize, name.as_ptr() as usize, 0);
}

pub fn exit(code: i32) -> ! {
    loop {
        let _ = call3(nr::EXIT_GROUP, code as usize, 0, 0);
    }
}

/// Any child that ended; `None` where none did.
pub fn wait_any() -> Option<(i32, i32)> {
    let mut status = 0_i32;
    match call(nr::WAIT4, [usize::MAX, &raw mut status as usize, 1, 0, 0, 0]) {
        Ok(pid) if pid > 0 => Some((pid as i32, status)),
        _ => None,
    }
}
pub fn kill(pid: i32, signal: i32) {
    let _ = call3(nr::KILL, pid as usize, signal as usize, 0);
}
pub fn new_group() {
    let _ = call3(nr::SETPGID, 0, 0, 0);
}
/// Makes our group, of which we are the first, the terminal's foreground. Does nothing where standard input is no terminal.
pub fn take_terminal() {
    const TIOCSPGRP: usize = 0x5410;
    let group = call3(nr::GETPID, 0, 0, 0).map_or(0, |pid| pid as i32);
    let _ = call3(nr::IOCTL, 0, TIOCSPGRP, &raw const group as usize);
}
pub fn fork() -> i32 {
    call(nr::CLONE, [SIGCHLD as usize, 0, 0, 0, 0, 0]).map_or(-1, |pid| pid as i32)
}

/// Blocks every signal (so that none ends the follower but SIGKILL) and gives a descriptor that is ready for SIGCHLD.
pub fn child_signals() -> i32 {
    signals(1 << (SIGCHLD - 1), 0o4000)
}
/// Blocks every signal and gives a descriptor to read them from.
pub fn all_signals() -> i32 {
    signals(u64::MAX, 0)
}
fn signals(set: u64, flags: usize) -> i32 {
    const CLOEXEC: usize = 0o2_000_000;
    mask(u64::MAX);
    call(nr::SIGNALFD4, [usize::MAX, &raw const set as usize, 8, flags | CLOEXEC, 0, 0]).map_or(-1, |fd| fd as i32)
}
/// Ends what was ignored when this program was started: `execve` hands it on.
pub fn default_signals() {
    // No handler, no flags, no mask: the default action.
    let action = [0_usize; 4];
    for signal in 1..=64 {
        let _ = call(nr::SIGACTION, [signal, action.as_ptr() as usize, 0, 8, 0, 0]);
    }
}
pub fn unblock_signals() {
    mask(0);
}
fn mask(set: u64) {
    let _ = call(nr::SIGPROCMASK, [2, &raw const set as usize, 0, 8, 0, 0]);
}
pub fn drain_signals(fd: i32) {
    let mut info = [0; 128];
    while read(fd, &mut info).is_ok_and(|n| n > 0) {}
}
pub fn next_signal(fd: i32) -> i32 {
    let mut info = [0_u8; 128];
    match read(fd, &mut info) {
        Ok(_) => i32::from_ne_bytes([info[0], info[1], info[2], info[3]]),
        Err(_) => SIGCHLD,
    }
}

/// Which of the descriptors have something to read (or ended). A negative descriptor never has.
pub fn poll(fds: [i32; 3], timeout_ms: Option<u64>) -> [bool; 3] {
    #[repr(C)]
    struct Poll {
        fd: i32,
        events: i16,
        seen: i16,
    }
    let mut polls = fds.map(|fd| Poll { fd, events: 1, seen: 0 });
    let time = timeout_ms.map(|ms| [ms / 1000, ms % 1000 * 1_000_000]);
    let time = time.as_ref().map_or(0, |t| t.as_ptr() as usize);
    let _ = call(nr::PPOLL, [polls.as_mut_ptr() as usize, polls.len(), time, 0, 8, 0]);
    [polls[0].seen != 0, polls[1].seen != 0, polls[2].seen != 0]
}

pub fn realtime_ns() -> u64 {
    clock(0)
}
pub fn monotonic_ms() -> u64 {
    clock(1) / 1_000_000
}
fn clock(which: usize) -> u64 {
    let mut time = [0_u64; 2];
    let _ = call3(nr::CLOCK_GETTIME, which, time.as_mut_ptr() as usize, 0);
    time[0] * 1_000_000_000 + time[1]
}

/// The arguments, as the kernel left them on the stack.
pub struct Args {
    argc: usize,
    argv: *const *const u8,
}

impl Args {
    /// # Safety
    /// `stack` is what the kernel passed to the program.
    pub unsafe fn new(stack: *const usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self { argc: *stack, argv: stack.add(1).cast() } }
    }
    pub fn get(&self, at: usize) -> &[u8] {
        if at >= self.argc {
            return b"";
        }
        // SAFETY: `at < argc`, and each argument ends with NUL.
        unsafe { text(*self.argv.add(at)) }
    }
    pub fn number(&self, at: usize) -> u64 {
        self.get(at).iter().fold(0, |n, digit| n * 10 + u64::from(digit.wrapping_sub(b'0')))
    }
    /// Executes argument `command` with the arguments from `argv0` on; returns only where that fails.
    pub fn exec(&self, command: usize, argv0: usize) {
        let name = self.get(command);
        if name.contains(&b'/') {
            return self.exec_path(name.as_ptr(), argv0);
        }
        for folder in self.variable(b"PATH=").split(|b| *b == b':') {
            let mut path = [0_u8; 4096];
            if folder.is_empty() || folder.len() + name.len() + 2 > path.len() {
                continue;
            }
            path[..folder.len()].copy_from_slice(folder);
            path[folder.len()] = b'/';
            path[folder.len() + 1..][..name.len()].copy_from_slice(name);
            self.exec_path(path.as_ptr(), argv0);
        }
    }
    fn exec_path(&self, path: *const u8, argv0: usize) {
        // SAFETY: argv and envp end with a null pointer, one after the other.
        let (argv, envp) = unsafe { (self.argv.add(argv0), self.argv.add(self.argc + 1)) };
        let _ = call3(nr::EXECVE, path as usize, argv as usize, envp as usize);
    }
    fn variable(&self, prefix: &[u8]) -> &[u8] {
        // SAFETY: the environment follows the arguments and ends with a null pointer.
        unsafe {
            let mut at = self.argv.add(self.argc + 1);
            while !(*at).is_null() {
                if let Some(value) = text(*at).strip_prefix(prefix) {
                    return value;
                }
                at = at.add(1);
            }
        }
        b""
    }
}

unsafe fn text<'a>(start: *const u8) -> &'a [u8] {
    let mut len = 0;
    // SAFETY: the caller's text ends with NUL. Volatile, so that the loop does not become a call of `strlen`.
    unsafe {
        while start.add(len).read_volatile() != 0 {
            len += 1;
        }
        core::slice::from_raw_parts(start, len)
    }
}
