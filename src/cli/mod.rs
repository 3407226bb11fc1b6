//! The client: one file per command. It speaks to a daemon over its unix socket and prints for people (tables) or for
//! programs (`--json`).
//!
//! `check` and `plan` also work without a daemon; what they need of other rooms comes in as functions ([`Rooms`]), and so
//! does the daemon itself, so that `longshore --help` lists every command in one place.

mod args;
mod by_hand;
mod check;
mod client;
mod confirm;
mod copy;
mod download;
mod events;
mod exec;
mod failure;
mod history;
mod image;
mod inspect;
mod jobs;
mod login;
mod logout;
mod logs;
mod network;
mod out;
mod plan;
mod ports;
mod problems;
mod progress;
mod ps;
mod report;
mod run;
mod secret;
mod stats;
mod status;
mod system;
mod table;
mod top;
mod upload;
mod version;
mod volume;
mod why;
mod words;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Arguments, Command};
use client::Client;
use failure::Failure;
use out::Out;

pub use args::DaemonArgs;
pub use report::{Change, CheckReport, CheckedProject, CheckedService, PlanReport};

/// What commands need of other rooms.
#[derive(Clone, Copy)]
pub struct Rooms {
    /// Runs the daemon in this process.
    pub daemon: fn(DaemonArgs) -> ExitCode,
    /// Reads a folder or one state file.
    pub check: fn(&Path) -> CheckReport,
    /// Compares a state folder with a data directory, with no daemon at work on them.
    pub plan: fn(&Path, &Path) -> PlanReport,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// All is well; `check` and `plan`: nothing to do.
    Fine,
    /// What was asked for is not so.
    Error,
    /// `check` and `plan`: there are changes.
    Changes,
    /// `exec`, `run`: as its command.
    Command(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Fine => Self::SUCCESS,
            Exit::Error => Self::from(1),
            Exit::Changes => Self::from(2),
            Exit::Command(code) => Self::from(code),
        }
    }
}

/// Runs one command line; `argv` begins with the program's name.
pub fn main(argv: impl IntoIterator<Item = OsString>, rooms: Rooms) -> ExitCode {
    let arguments = match Arguments::try_parse_from(argv) {
        Ok(arguments) => arguments,
        Err(err) => return usage(&err),
    };
    let mut out = Out::standard();
    let ended = run(arguments, rooms, &mut out);
    // What is still in the buffer can meet a closed pipe too.
    match ended.and_then(|code| out.flush().map(|()| code).map_err(Failure::Output)) {
        Ok(code) => code,
        Err(failure) if failure.reader_left() => ExitCode::SUCCESS,
        Err(failure) => {
            out.complain(&failure.to_string());
            failure.exit_code().into()
        }
    }
}

/// A wrong command line is an error like any other: 1, since 2 means "changes" here. Help and version are no errors.
fn usage(err: &clap::Error) -> ExitCode {
    // Nothing can be done where even this cannot be printed.
    let _ = err.print();
    if err.use_stderr() { Exit::Error.into() } else { ExitCode::SUCCESS }
}

fn run(arguments: Arguments, rooms: Rooms, out: &mut Out) -> Result<ExitCode, Failure> {
    let socket = arguments.socket;
    match arguments.command {
        Command::Daemon(daemon) => return Ok((rooms.daemon)(DaemonArgs { socket, ..daemon })),
        Command::Check(args) => wait_for(check::run((rooms.check)(&args.path), &Client::new(socket), args.json, out)),
        Command::Plan(args) => match args.folders() {
            Some((state, data)) => plan::offline(&(rooms.plan)(state, data), args.json, out),
            None => wait_for(plan::run(&Client::new(socket), &args, out)),
        },
        Command::Status(args) => wait_for(status::run(&Client::new(socket), &args, out)),
        Command::Ps(args) => wait_for(ps::run(&Client::new(socket), &args, out)),
        Command::Logs(args) => wait_for(logs::run(&Client::new(socket), &args, out)),
        Command::Jobs(args) => wait_for(jobs::run(&Client::new(socket), &args, out)),
        Command::Why(args) => wait_for(why::run(&Client::new(socket), &args, out)),
        Command::History(args) => wait_for(history::run(&Client::new(socket), &args, out)),
        Command::Rollback(args) => wait_for(history::rollback(&Client::new(socket), &args, out)),
        Command::Resume(args) => wait_for(history::resume(&Client::new(socket), &args, out)),
        Command::Stats(args) => wait_for(stats::run(&Client::new(socket), &args, out)),
        Command::Top(args) => wait_for(top::run(&Client::new(socket), &args, out)),
        Command::Exec(args) => wait_for(exec::run(&Client::new(socket), args, out)),
        Command::Run(args) => wait_for(run::run(&Client::new(socket), args, out)),
        Command::Cp(args) => wait_for(copy::run(&Client::new(socket), &args, out)),
        Command::Diff(args) => wait_for(copy::diff(&Client::new(socket), &args, out)),
        Command::Export(args) => wait_for(copy::export(&Client::new(socket), &args, out)),
        Command::Commit(args) => wait_for(image::commit::run(&Client::new(socket), args, out)),
        Command::Inspect(args) => wait_for(inspect::run(&Client::new(socket), &args, out)),
        Command::Image(command) => wait_for(image::run(&Client::new(socket), command, out)),
        Command::Network(command) => wait_for(network::run(&Client::new(socket), &command, out)),
        Command::Volume(command) => wait_for(volume::run(&Client::new(socket), command, out)),
        Command::Secret(command) => wait_for(secret::run(&Client::new(socket), command, out)),
        Command::System(command) => wait_for(system::run(&Client::new(socket), &command, out)),
        Command::Events(args) => wait_for(events::run(&Client::new(socket), &args, out)),
        Command::Stop(args) => wait_for(by_hand::stop(&Client::new(socket), args, out)),
        Command::Start(args) => wait_for(by_hand::start(&Client::new(socket), args, out)),
        Command::Restart(args) => wait_for(by_hand::restart(&Client::new(socket), args, out)),
        Command::Kill(args) => wait_for(by_hand::kill(&Client::new(socket), args, out)),
        Command::Pause(args) => wait_for(by_hand::pause(&Client::new(socket), args, out)),
        Command::Unpause(args) => wait_for(by_hand::unpause(&Client::new(socket), args, out)),
        Command::Scale(args) => wait_for(by_hand::scale(&Client::new(socket), args, out)),
        Command::Release(args) => wait_for(by_hand::release(&Client::new(socket), args, out)),
        Command::Confirm => wait_for(confirm::run(&Client::new(socket), out)),
        Command::Login(args) => wait_for(login::run(&Client::new(socket), args, out)),
        Command::Logout(args) => wait_for(logout::run(&Client::new(socket), args, out)),
        Command::Version(args) => wait_for(version::run(&Client::new(socket), &args, out)),
    }
    .map(ExitCode::from)
}

/// A client needs one thread.
fn wait_for(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(command)
}
