//! Short single-threaded helper calls that must not run in the daemon: `longshore runtime exec` enters a running container, which
//! forks; `longshore runtime copy` reads and writes files in a container, running or not, by the container's own mounts. (A container is started and followed by its [`shim`](crate::shim), and ended by descriptor and cgroup.)
//!
//! ```text
//! helper         order ─▶ the container's init, held ─▶ child ────────────────▶ streams, Started ─▶ waits, signals ─▶ Ended
//! its child       └ cgroups, limits ─▶ namespaces, all at once ─▶ sibling, ends
//! the sibling                          └ session, user, streams, folder ─▶ confined ─▶ the command
//! ```
//! The helper itself stays outside: nothing in the container can reach it, and it lives to tell how the command ended. What enters
//! holds no descriptor of the host but the socket to the helper, cannot be traced, and is a read-only clone of our program.
//!
//! | file | what |
//! |---|---|
//! | `exec` | the helper's own life |
//! | `target` | which process, which namespaces, which cgroups |
//! | `job` | what is executed, by the container's record and its runtime's configuration |
//! | `inside` | the steps of the two who enter |
//! | `files` | configs and secrets, swapped in a container that runs (`longshore runtime files`) |
//! | `probe/` | a connection for a health check, made in the container's network (`longshore runtime probe`): nothing of the container is executed |
//! | `copy/` | files in and out: nothing of the container is executed for it |

mod cgroups;
mod copy;
mod exec;
mod files;
mod inside;
mod job;
mod probe;
mod target;

use std::process::ExitCode;

/// The role. `args` are those after `runtime`.
#[must_use]
pub fn main(args: &[String]) -> ExitCode {
    match args.first().map(String::as_str) {
        Some("exec") => exec::main(),
        Some("files") => files::main(),
        Some("copy") => copy::main(),
        Some("probe") => probe::main(),
        _ => ExitCode::FAILURE,
    }
}
