//! The exit record: durable before the follower ends.

use crate::entry::Line;
use crate::supervise::Exit;
use crate::sys;

const FOLDER: i32 = 5;
const OOM: i32 = 7;
/// The shim made `.exit` this long, so that a full disk cannot keep the record from being written.
const LEN: usize = 512;

/// `{"v":1,"code":3,"oom":false,"at_ns":..,"started_ns":..,"boot_id":".."}`, padded with spaces.
pub fn write(exit: Exit, at: u64, started: u64, boot_id: &[u8]) {
    let mut text = [b' '; LEN];
    let mut line = Line { out: &mut text, len: 0 };
    let (key, number) = match exit {
        Exit::Code(code) => (b"{\"v\":1,\"code\":".as_slice(), code),
        Exit::Signal(signal) => (b"{\"v\":1,\"signal\":".as_slice(), signal),
    };
    line.raw(key);
    line.decimal(u64::from(number));
    line.raw(if oom_killed() { b",\"oom\":true,\"at_ns\":" } else { b",\"oom\":false,\"at_ns\":" });
    line.decimal(at);
    line.raw(b",\"started_ns\":");
    line.decimal(started);
    line.raw(b",\"boot_id\":\"");
    line.raw(&boot_id[..boot_id.len().min(64)]);
    line.raw(b"\"}");
    text[LEN - 1] = b'\n';
    let fd = sys::open_write(FOLDER, b".exit\0");
    let mut done = 0;
    while done < LEN {
        match sys::write(fd, &text[done..]) {
            Ok(n) => done += n,
            Err(sys::EINTR) => {}
            Err(_) => sys::exit(1),
        }
    }
    sys::fsync(fd);
    sys::rename(FOLDER, b".exit\0", b"exit\0");
    sys::fsync(FOLDER);
}

/// Whether the kernel killed a process of the cgroup for want of memory (`oom_kill N` in its counters).
fn oom_killed() -> bool {
    let mut text = [0; 512];
    let Ok(len) = sys::pread(OOM, &mut text) else { return false };
    text[..len]
        .split(|b| *b == b'\n')
        .filter_map(|line| line.strip_prefix(b"oom_kill "))
        .any(|count| count.iter().any(|b| (b'1'..=b'9').contains(b)))
}
