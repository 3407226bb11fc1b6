//! `longshore`: the role is chosen before any thread is started.

use std::ffi::OsString;
use std::process::ExitCode;

use longshore::cli::{self, DaemonArgs, Rooms};
use longshore::daemon::{self, Flags};

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|role| role == "shim") {
        let rest = arguments.split_off(2).into_iter().map(|argument| argument.to_string_lossy().into_owned());
        return longshore::shim::main(&rest.collect::<Vec<_>>());
    }
    cli::main(arguments, Rooms { daemon: serve, check: daemon::check, plan: daemon::plan })
}

fn serve(arguments: DaemonArgs) -> ExitCode {
    let DaemonArgs { state_dir, data_dir, run_dir, socket, config, debug, validate } = arguments;
    daemon::main(&Flags { config, state_dir, data_dir, run_dir, socket, debug }, validate)
}
