//! The system calls a container may make, compiled to BPF here, so that no C library is needed.
//!
//! `profile` is Docker's default profile, `file` reads one of the owner's own, both as `call` has it; `table` puts the numbers of each
//! architecture (`numbers`) to it, `bpf` writes the program, `load` gives it to the kernel. For an external runtime the same becomes
//! the `seccomp` part of its configuration.

mod bpf;
mod cache;
mod call;
mod file;
mod load;
mod numbers;
mod numbers_further;
mod profile;
mod table;

#[cfg(test)]
mod tests;

use serde_json::{Value, json};

pub use bpf::Instruction;
pub use cache::cached;
pub use file::ProfileError;
pub use load::load;

use crate::model::{CapabilitySet, Seccomp};
use call::Profile;
use file::Here;

/// The kernel takes no longer program.
const LONGEST: usize = 4096;
const AARCH64: bool = cfg!(target_arch = "aarch64");

/// The program for this machine and a container that holds these capabilities; none where it is not confined. A privileged
/// container is held to a profile only where the file names one.
pub fn program_for(
    seccomp: &Seccomp,
    privileged: bool,
    capabilities: CapabilitySet,
) -> Result<Option<Vec<Instruction>>, ProfileError> {
    let Some(profile) = profile_for(seccomp, privileged, capabilities)? else { return Ok(None) };
    let program = bpf::compile(&table::tables(&profile));
    if program.len() > LONGEST { Err(ProfileError::TooLong(program.len())) } else { Ok(Some(program)) }
}

/// The same as an external runtime reads it.
pub fn oci_for(
    seccomp: &Seccomp,
    privileged: bool,
    capabilities: CapabilitySet,
) -> Result<Option<Value>, ProfileError> {
    Ok(profile_for(seccomp, privileged, capabilities)?.as_ref().map(oci))
}

fn profile_for(
    seccomp: &Seccomp,
    privileged: bool,
    capabilities: CapabilitySet,
) -> Result<Option<Profile>, ProfileError> {
    match seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Default if privileged => Ok(None),
        Seccomp::Default => Ok(Some(profile::docker(AARCH64, capabilities.mask()))),
        Seccomp::Profile(text) => file::read(text, &here(capabilities)).map(Some),
    }
}

fn here(capabilities: CapabilitySet) -> Here {
    // Where it cannot be told, it is taken for an old one: what a newer one may do is refused.
    let kernel = file::version(&rustix::system::uname().release().to_string_lossy()).unwrap_or((0, 0));
    Here { aarch64: AARCH64, capabilities, kernel }
}

fn oci(profile: &Profile) -> Value {
    let (otherwise, number) = profile.otherwise.name();
    let arches: Vec<&str> = profile.arches.iter().map(|arch| arch.name()).collect();
    let calls = profile.calls.iter().filter(|call| call.action != profile.otherwise).map(|call| {
        let (action, number) = call.action.name();
        let args = call.tests.iter().map(|test| {
            let (op, value, second) = test.is.written();
            json!({ "index": test.argument, "value": value, "valueTwo": second, "op": op })
        });
        let mut written = json!({ "names": call.names, "action": action, "args": args.collect::<Vec<_>>() });
        if let Some(number) = number {
            written["errnoRet"] = number.into();
        }
        written
    });
    let mut written = json!({
        "defaultAction": otherwise,
        "architectures": arches,
        "syscalls": calls.collect::<Vec<_>>(),
    });
    if let Some(number) = number {
        written["defaultErrnoRet"] = number.into();
    }
    written
}
