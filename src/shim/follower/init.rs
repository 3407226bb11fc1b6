//! PID 1 of a container that asked for an init: starts the command, hands every signal on to it, reaps, ends as it ends.
//! `argv = [path, "init", COMMAND, ARGV0, ARGS..]`; a command without a slash is looked up in `PATH`.

use crate::sys;

pub fn run(args: &sys::Args) -> ! {
    let signals = sys::all_signals();
    let child = sys::fork();
    if child < 0 {
        // The container itself failed, as `docker run` has it.
        sys::exit(125)
    }
    if child == 0 {
        sys::new_group();
        // While SIGTTOU is blocked: the new group is in the background until then, and would be stopped at its first read.
        sys::take_terminal();
        sys::default_signals();
        sys::unblock_signals();
        args.exec(2, 3);
        // Not found and not executable, as a shell has it.
        sys::exit(127)
    }
    loop {
        while let Some((pid, status)) = sys::wait_any() {
            if pid == child {
                let signal = status & 0x7f;
                sys::exit(if signal == 0 { status >> 8 & 0xff } else { 128 + signal });
            }
        }
        let signal = sys::next_signal(signals);
        if signal != sys::SIGCHLD {
            // To the whole group of the command, as a terminal would: a shell script then does not swallow it.
            sys::kill(-child, signal);
        }
    }
}
