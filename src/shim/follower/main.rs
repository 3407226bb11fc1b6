//! The follower: what a shim turns into once the container runs. One of it lives beside every container, so it is small: no
//! standard library, no heap, no thread, no timer; it wakes up only for output or for the end of a child.
//!
//! ```text
//! argv = [follower, PID, MAX_BYTES, FILES, NEXT, STARTED_NS, BOOT_ID, STREAMS]
//! 3 stdout pipe or terminal   4 stderr pipe   5 container folder   6 log folder   7 oom counter of the cgroup
//! ```
//! With `argv[1] == "init"` the same program is PID 1 of a container that asked for one (see `init.rs`). With `argv[1] == "keep"` it
//! sleeps, so that systemd keeps the cgroup it is in.
#![no_std]
#![no_main]

#[path = "../../logs/entry.rs"]
mod entry;
mod init;
#[path = "../../logs/lines.rs"]
mod lines;
mod log;
mod memory;
mod report;
#[path = "../supervise.rs"]
mod supervise;
mod sys;

use entry::{PIECE, Stream};
use lines::Lines;
use log::Log;
use supervise::{Exit, Input, Output, Supervisor};

const STDOUT: i32 = 3;
const STDERR: i32 = 4;

/// Everything that is large, in the zeroed part of the image: a page of it costs nothing until it is used.
struct Memory {
    chunk: [u8; PIECE],
    stdout: Lines<PIECE>,
    stderr: Lines<PIECE>,
    log: Log,
}

static mut MEMORY: Memory =
    Memory { chunk: [0; PIECE], stdout: Lines::new(), stderr: Lines::new(), log: Log::new() };

/// Called by `_start` with the stack as the kernel left it: argc, argv, NULL, envp, NULL.
#[unsafe(no_mangle)]
extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: the kernel puts argc and then argc pointers to NUL-terminated texts there.
    let args = unsafe { sys::Args::new(stack) };
    if args.get(1) == b"init" {
        init::run(&args);
    }
    if args.get(1) == b"keep" {
        loop {
            sys::poll([-1; 3], None);
        }
    }
    // SAFETY: this is the only thread, and `begin` runs once.
    let memory = unsafe { &mut *core::ptr::addr_of_mut!(MEMORY) };
    follow(&args, memory)
}

fn follow(args: &sys::Args, memory: &mut Memory) -> ! {
    let pid = args.number(1) as i32;
    let streams = args.number(7);
    memory.log.open(args.number(2), args.number(3), args.number(4));
    let signals = sys::child_signals();
    let mut supervisor = Supervisor::new(streams >= 1, streams >= 2);
    // The container may have ended before the signals were blocked: look first, then wait.
    let mut output = reap(pid, &mut supervisor);
    loop {
        let timeout = match output {
            Output::Done(exit) => finish(args, memory, &mut supervisor, exit),
            Output::Wait => None,
            Output::WaitAtMost(ms) => Some(ms),
        };
        let fd = |stream, fd| if supervisor.reads(stream) { fd } else { -1 };
        let ready = sys::poll([fd(Stream::Stdout, STDOUT), fd(Stream::Stderr, STDERR), signals], timeout);
        if ready == [false; 3] {
            supervisor.handle(Input::TimeOver, sys::monotonic_ms());
        }
        if ready[0] {
            read(memory, &mut supervisor, Stream::Stdout);
        }
        if ready[1] {
            read(memory, &mut supervisor, Stream::Stderr);
        }
        memory.log.flush();
        output = if ready[2] {
            sys::drain_signals(signals);
            reap(pid, &mut supervisor)
        } else {
            supervisor.next(sys::monotonic_ms())
        };
    }
}

/// Takes one chunk from a stream; whether there was one.
fn read(memory: &mut Memory, supervisor: &mut Supervisor, stream: Stream) -> bool {
    let (fd, lines) = match stream {
        Stream::Stdout => (STDOUT, &mut memory.stdout),
        Stream::Stderr => (STDERR, &mut memory.stderr),
    };
    let log = &mut memory.log;
    log.try_again();
    match sys::read(fd, &mut memory.chunk) {
        Ok(0) => {}
        Ok(n) => {
            let now = sys::realtime_ns();
            lines.push(&memory.chunk[..n], &mut |piece, ending| log.write(now, stream, piece, ending));
            return true;
        }
        Err(sys::EAGAIN | sys::EINTR) => return false,
        // A terminal whose last user is gone answers EIO.
        Err(_) => {}
    }
    let now = sys::realtime_ns();
    lines.finish(&mut |piece, ending| log.write(now, stream, piece, ending));
    supervisor.handle(Input::Closed(stream), sys::monotonic_ms());
    false
}

/// Reaps every child that ended: the container's init, and whatever was orphaned to us (we are its subreaper).
fn reap(init: i32, supervisor: &mut Supervisor) -> Output {
    while let Some((pid, status)) = sys::wait_any() {
        if pid == init {
            supervisor.handle(Input::InitEnded(Exit::from_wait(status)), sys::monotonic_ms());
        }
    }
    supervisor.next(sys::monotonic_ms())
}

fn finish(args: &sys::Args, memory: &mut Memory, supervisor: &mut Supervisor, exit: Exit) -> ! {
    // The time may be over although output waits: this machine is slow. What the pipes hold is still read, and no more: they
    // hold 1 MiB at most.
    for stream in [Stream::Stdout, Stream::Stderr] {
        for _ in 0..2 * 1024 * 1024 / PIECE {
            if !supervisor.reads(stream) || !read(memory, supervisor, stream) {
                break;
            }
        }
    }
    let now = sys::realtime_ns();
    let log = &mut memory.log;
    log.try_again();
    memory.stdout.finish(&mut |piece, ending| log.write(now, Stream::Stdout, piece, ending));
    memory.stderr.finish(&mut |piece, ending| log.write(now, Stream::Stderr, piece, ending));
    log.flush();
    report::write(exit, now, args.number(5), args.get(6));
    sys::exit(0)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(134)
}
