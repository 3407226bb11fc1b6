//! A profile of one's own, in Docker's JSON format.

use serde::Deserialize;

use super::call::{Action, Arch, Call, Is, Profile, Test};
use super::table::known;
use crate::model::{Capability, CapabilitySet};

/// Why a seccomp profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// No profile at all.
    #[error("the seccomp profile is not one in Docker's format")]
    Json(#[source] serde_json::Error),
    /// A word that is not known.
    #[error("the seccomp profile has the {what} {name:?}, which is not known or not supported here (known: {known})")]
    Word { what: &'static str, name: String, known: &'static str },
    /// A call that would be answered more mildly than is asked for, for want of its number.
    #[error(
        "the seccomp profile answers {action} to the call {name:?}, which is not known here and so would not be held to it"
    )]
    Call { name: String, action: &'static str },
    /// Both of two keys that exclude each other.
    #[error("the seccomp profile has both {0:?} and {1:?}; one of them is right")]
    Both(&'static str, &'static str),
    /// No seventh argument.
    #[error("the seccomp profile looks at argument {0}, but calls have the arguments 0 to 5")]
    Argument(u64),
    /// A number for errno or a tracer.
    #[error("the seccomp profile has the errnoRet {0}, which is larger than {1}")]
    Number(u32, u16),
    /// No version of a kernel.
    #[error("the seccomp profile asks for a kernel of at least {0:?}, which is not a version like 4.8")]
    Kernel(String),
    /// The kernel would not take it.
    #[error("the seccomp profile makes {0} instructions; the kernel takes 4096 at most")]
    TooLong(usize),
}

const ACTIONS: &str = "SCMP_ACT_ALLOW, _ERRNO, _KILL, _KILL_PROCESS, _KILL_THREAD, _LOG, _TRACE, _TRAP";
const OPERATORS: &str = "SCMP_CMP_EQ, _NE, _LT, _LE, _GT, _GE, _MASKED_EQ";
const ARCHES: &str = "SCMP_ARCH_X86_64, _X86, _X32, _AARCH64 and others that this machine has not";
/// Architectures that a profile may name although nothing of them can run here.
const FOREIGN: [&str; 16] = [
    "ARM",
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PPC",
    "PPC64",
    "PPC64LE",
    "S390",
    "S390X",
    "PARISC",
    "PARISC64",
    "RISCV64",
    "LOONGARCH64",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    syscalls: Option<Vec<Syscall>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u64,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// What the profile's conditions are about.
pub(super) struct Here {
    pub(super) aarch64: bool,
    pub(super) capabilities: CapabilitySet,
    /// Major and minor version.
    pub(super) kernel: (u32, u32),
}

/// Reads a profile, for this machine and a container that holds these capabilities.
pub(super) fn read(text: &str, here: &Here) -> Result<Profile, ProfileError> {
    let file: File = serde_json::from_str(text).map_err(ProfileError::Json)?;
    for flag in file.flags.iter().flatten() {
        // The first changes nothing for one thread; without the second a container is better protected.
        if !matches!(flag.as_str(), "SECCOMP_FILTER_FLAG_TSYNC" | "SECCOMP_FILTER_FLAG_SPEC_ALLOW") {
            let known = "SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_FILTER_FLAG_SPEC_ALLOW";
            return Err(ProfileError::Word { what: "flag", name: flag.clone(), known });
        }
    }
    let otherwise = action(&file.default_action, file.default_errno_ret)?;
    let arches = arches(&file, here)?;
    let mut calls = Vec::new();
    for syscall in file.syscalls.unwrap_or_default() {
        calls.extend(read_call(syscall, otherwise, here)?);
    }
    Ok(Profile { otherwise, arches, calls })
}

fn read_call(syscall: Syscall, otherwise: Action, here: &Here) -> Result<Vec<Call>, ProfileError> {
    let action = action(&syscall.action, syscall.errno_ret)?;
    let names = match (syscall.name, syscall.names) {
        (Some(_), Some(_)) => return Err(ProfileError::Both("name", "names")),
        (Some(name), None) => vec![name],
        (None, names) => names.unwrap_or_default(),
    };
    let tests = syscall.args.iter().flatten().map(test).collect::<Result<Vec<_>, _>>()?;
    if !syscall.includes.unwrap_or_default().includes(here)? || syscall.excludes.unwrap_or_default().excludes(here)? {
        return Ok(Vec::new());
    }
    if action > otherwise
        && let Some(name) = names.iter().find(|name| !known(name) && !foreign(name))
    {
        return Err(ProfileError::Call { name: name.clone(), action: action.name().0 });
    }
    let twice = |at: usize| tests[..at].iter().any(|test: &Test| test.argument == tests[at].argument);
    if (0..tests.len()).any(twice) {
        // As runc takes it: an argument that is looked at twice makes each test a rule of its own.
        return Ok(tests.iter().map(|test| Call { names: names.clone(), action, tests: vec![*test] }).collect());
    }
    Ok(vec![Call { names, action, tests }])
}

/// Calls of architectures that cannot run here.
fn foreign(name: &str) -> bool {
    const FOREIGN: [&str; 18] = [
        "arm_fadvise64_64",
        "arm_sync_file_range",
        "breakpoint",
        "cacheflush",
        "get_tls",
        "multiplexer",
        "pciconfig_iobase",
        "pciconfig_read",
        "pciconfig_write",
        "riscv_flush_icache",
        "rtas",
        "s390_guarded_storage",
        "s390_pci_mmio_read",
        "s390_pci_mmio_write",
        "s390_runtime_instr",
        "set_tls",
        "subpage_prot",
        "swapcontext",
    ];
    FOREIGN.contains(&name)
}

fn action(name: &str, number: Option<u32>) -> Result<Action, ProfileError> {
    let data = |most: u16| {
        let number = number.unwrap_or(1);
        u16::try_from(number).ok().filter(|n| *n <= most).ok_or(ProfileError::Number(number, most))
    };
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_TRACE" => Action::Trace(data(u16::MAX)?),
        "SCMP_ACT_ERRNO" => Action::Errno(data(4095)?),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        _ => return Err(ProfileError::Word { what: "action", name: name.to_owned(), known: ACTIONS }),
    })
}

fn test(argument: &Argument) -> Result<Test, ProfileError> {
    let number = u8::try_from(argument.index).ok().filter(|n| *n < 6).ok_or(ProfileError::Argument(argument.index))?;
    let is = Is::read(&argument.op, argument.value, argument.value_two);
    let unknown = || ProfileError::Word { what: "operator", name: argument.op.clone(), known: OPERATORS };
    Ok(Test { argument: number, half: false, is: is.ok_or_else(unknown)? })
}

fn arches(file: &File, here: &Here) -> Result<Vec<Arch>, ProfileError> {
    let own = Arch::machine(here.aarch64)[0];
    let mut names: Vec<&str> = Vec::new();
    match (&file.architectures, &file.arch_map) {
        (Some(listed), Some(map)) if !listed.is_empty() && !map.is_empty() => {
            return Err(ProfileError::Both("architectures", "archMap"));
        }
        (Some(listed), _) if !listed.is_empty() => names.extend(listed.iter().map(String::as_str)),
        (_, Some(map)) => {
            for entry in map {
                arch(&entry.architecture)?;
                if entry.architecture == own.name() {
                    names.extend(entry.sub_architectures.iter().flatten().map(String::as_str));
                }
            }
        }
        _ => {}
    }
    // A container's own programs are always among them, as with libseccomp.
    let mut found = vec![own];
    for name in names {
        if let Some(arch) = arch(name)?
            && Arch::machine(here.aarch64).contains(&arch)
            && !found.contains(&arch)
        {
            found.push(arch);
        }
    }
    Ok(found)
}

/// `None`: one that nothing here runs.
fn arch(name: &str) -> Result<Option<Arch>, ProfileError> {
    let known = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64].into_iter().find(|arch| arch.name() == name);
    let foreign = || name.strip_prefix("SCMP_ARCH_").is_some_and(|rest| FOREIGN.contains(&rest));
    if known.is_some() || foreign() {
        return Ok(known);
    }
    Err(ProfileError::Word { what: "architecture", name: name.to_owned(), known: ARCHES })
}

impl Filter {
    /// Whether all of it is so here.
    fn includes(&self, here: &Here) -> Result<bool, ProfileError> {
        let caps = self.caps.iter().flatten().all(|name| holds(name, here));
        let arches = self.arches.as_ref().is_none_or(|names| names.is_empty() || named(names, here));
        Ok(caps && arches && self.kernel()?.is_none_or(|least| here.kernel >= least))
    }

    /// Whether any of it is so here.
    fn excludes(&self, here: &Here) -> Result<bool, ProfileError> {
        let caps = self.caps.iter().flatten().any(|name| holds(name, here));
        let arches = self.arches.as_ref().is_some_and(|names| named(names, here));
        Ok(caps || arches || self.kernel()?.is_some_and(|least| here.kernel >= least))
    }

    fn kernel(&self) -> Result<Option<(u32, u32)>, ProfileError> {
        let Some(text) = self.min_kernel.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        version(text).map(Some).ok_or_else(|| ProfileError::Kernel(text.to_owned()))
    }
}

/// The first two numbers of a version.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn holds(name: &str, here: &Here) -> bool {
    Capability::parse(name).is_some_and(|capability| here.capabilities.contains(capability))
}

fn named(arches: &[String], here: &Here) -> bool {
    arches.iter().any(|arch| arch == if here.aarch64 { "arm64" } else { "amd64" })
}
