//! `longshore`: the role is chosen before any thread is started.

use std::ffi::OsString;
use std::process::ExitCode;

use longshore::cli::{self, DaemonArgs, Rooms};
use longshore::daemon::{self, Flags};

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let role = arguments.get(1).map(|role| role.to_string_lossy().into_owned());
    let mut rest = || -> Vec<String> {
        arguments.split_off(2).into_iter().map(|argument| argument.to_string_lossy().into_owned()).collect()
    };
    match role.as_deref() {
        Some("shim") => return longshore::shim::main(&rest()),
        Some("forward") => return longshore::network::forward::main(&rest()),
        Some("hold") => return longshore::network::hold::main(&rest()),
        Some("runtime") => return longshore::runtime::main(&rest()),
        _ => {}
    }
    cli::main(arguments, Rooms { daemon: serve, check: daemon::check, plan: daemon::plan })
}

fn serve(arguments: DaemonArgs) -> ExitCode {
    let DaemonArgs { state_dir, data_dir, run_dir, socket, config, debug, profile, validate } = arguments;
    daemon::main(&Flags { config, state_dir, data_dir, run_dir, socket, debug, profiles: profile }, validate)
}
