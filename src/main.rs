//! argv to role, before any thread.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((role, rest)) if role == "shim" => longshore::shim::main(rest),
        _ => ExitCode::FAILURE,
    }
}
