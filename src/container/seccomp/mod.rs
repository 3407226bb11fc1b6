//! The system calls a container may make: Docker's default profile, compiled to BPF here, so that no C library is needed.
//!
//! `profile` says what is allowed, `numbers` knows what the calls are called in each architecture, `bpf` writes the program, `load`
//! gives it to the kernel. For an external runtime the same tables become the `seccomp` part of its configuration.

mod bpf;
mod load;
mod numbers;
mod profile;

use std::collections::HashSet;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSeccompOperator,
    LinuxSyscall, LinuxSyscallBuilder,
};

pub use bpf::Instruction;
pub use load::load;

use numbers::{NONE, NUMBERS};
use profile::{CONDITIONAL, Is, Test, UNKNOWN, WITH_CAPABILITY, WITH_NEWER_CAPABILITY};

/// What is answered to one system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Allowed,
    Refused,
    Unknown,
    If(&'static [Test]),
}

/// What is not refused in one architecture, by ascending number.
struct Table {
    arch: u32,
    rules: Vec<(u32, Rule)>,
}

const AUDIT_X86_64: u32 = 0xc000_003e;
const AUDIT_X86: u32 = 0x4000_0003;
const AUDIT_AARCH64: u32 = 0xc000_00b7;
/// The bit that marks a call of the x32 ABI.
const X32_BIT: u32 = 0x4000_0000;

/// The program for this machine and a container that holds these capabilities (a bit mask).
#[must_use]
pub fn program(capabilities: u64) -> Vec<Instruction> {
    bpf::compile(&tables(cfg!(target_arch = "aarch64"), capabilities))
}

fn tables(aarch64: bool, capabilities: u64) -> Vec<Table> {
    let rules = rules(capabilities);
    let column = |at: usize, bit: u32| {
        let number = move |numbers: [u32; 4]| (numbers[at] != NONE).then(|| numbers[at] | bit);
        let of = |(_, numbers, rule): &(_, _, Rule)| Some((number(*numbers)?, *rule));
        let mut column: Vec<(u32, Rule)> = rules.iter().filter_map(of).filter(|(_, r)| *r != Rule::Refused).collect();
        column.sort_by_key(|(number, _)| *number);
        column
    };
    if aarch64 {
        return vec![Table { arch: AUDIT_AARCH64, rules: column(3, 0) }];
    }
    // The kernel knows x32 as x86_64 with a bit in the number, so both share a section.
    let mut both = column(0, 0);
    both.extend(column(2, X32_BIT));
    vec![Table { arch: AUDIT_X86_64, rules: both }, Table { arch: AUDIT_X86, rules: column(1, 0) }]
}

/// Every call the profile names, with its numbers and its answer.
fn rules(capabilities: u64) -> Vec<(&'static str, [u32; 4], Rule)> {
    let mut allowed: HashSet<&str> = profile::ALLOWED.split_ascii_whitespace().collect();
    for (bit, names) in WITH_CAPABILITY.iter().chain(&WITH_NEWER_CAPABILITY) {
        if capabilities >> bit & 1 == 1 {
            allowed.extend(names.split_ascii_whitespace());
        }
    }
    let rule = |name: &str| {
        if allowed.contains(name) {
            return Rule::Allowed;
        }
        if name == UNKNOWN {
            return Rule::Unknown;
        }
        CONDITIONAL.iter().find(|(n, _)| *n == name).map_or(Rule::Refused, |(_, tests)| Rule::If(tests))
    };
    NUMBERS.iter().map(|(name, numbers)| (*name, *numbers, rule(name))).collect()
}

/// The same profile as an external runtime reads it.
pub fn oci(capabilities: u64) -> Result<LinuxSeccomp, OciSpecError> {
    let mut allowed = Vec::new();
    let mut calls: Vec<LinuxSyscall> = Vec::new();
    for (name, _, rule) in rules(capabilities) {
        match rule {
            Rule::Allowed => allowed.push(name.to_owned()),
            Rule::Refused => {}
            Rule::Unknown => calls.push(
                LinuxSyscallBuilder::default()
                    .names([name.to_owned()])
                    .action(LinuxSeccompAction::ScmpActErrno)
                    .errno_ret(38_u32)
                    .build()?,
            ),
            Rule::If(tests) => {
                for test in tests {
                    calls.push(conditional(name, test)?);
                }
            }
        }
    }
    let allow = LinuxSeccompAction::ScmpActAllow;
    calls.insert(0, LinuxSyscallBuilder::default().names(allowed).action(allow).build()?);
    let arches = if cfg!(target_arch = "aarch64") {
        vec![Arch::ScmpArchAarch64]
    } else {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    };
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(1_u32)
        .architectures(arches)
        .syscalls(calls)
        .build()
}

fn conditional(name: &str, test: &Test) -> Result<LinuxSyscall, OciSpecError> {
    let arg = LinuxSeccompArgBuilder::default().index(usize::from(test.argument));
    let arg = match test.is {
        Is::Equal(v) => arg.value(u64::from(v)).op(LinuxSeccompOperator::ScmpCmpEq),
        Is::Below(v) => arg.value(u64::from(v)).op(LinuxSeccompOperator::ScmpCmpLt),
        Is::Above(v) => arg.value(u64::from(v)).op(LinuxSeccompOperator::ScmpCmpGt),
        Is::Masked { mask, value } => {
            arg.value(u64::from(mask)).value_two(u64::from(value)).op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        }
    };
    LinuxSyscallBuilder::default()
        .names([name.to_owned()])
        .action(LinuxSeccompAction::ScmpActAllow)
        .args([arg.build()?])
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const ENOSYS: u32 = 0x0005_0026;
    const CHROOT: u64 = 1 << 18;

    #[test]
    fn every_number_gets_the_answer_of_the_table() {
        for aarch64 in [false, true] {
            let tables = tables(aarch64, CHROOT);
            let program = bpf::compile(&tables);
            assert!(program.len() < 4096, "{}", program.len());
            for table in &tables {
                for nr in (0..1024).chain(X32_BIT..X32_BIT + 1024).chain([u32::MAX]) {
                    let wanted = table.rules.iter().find(|(n, _)| *n == nr).map_or(Rule::Refused, |(_, r)| *r);
                    let seen = bpf::run(&program, table.arch, nr, [0; 6]);
                    let wanted = match wanted {
                        // With zero in every argument each of the three conditions holds.
                        Rule::Allowed | Rule::If(_) => ALLOW,
                        Rule::Refused => EPERM,
                        Rule::Unknown => ENOSYS,
                    };
                    assert_eq!(seen, wanted, "arch {:#x} nr {nr}", table.arch);
                }
            }
            assert_eq!(bpf::run(&program, 8, 0, [0; 6]), 0x8000_0000);
        }
    }

    #[test]
    fn arguments_are_looked_at() {
        let program = bpf::compile(&tables(false, CHROOT));
        let x64 = |nr, first: u64| bpf::run(&program, AUDIT_X86_64, nr, [first, 0, 0, 0, 0, 0]);
        let (socket, clone, personality) = (41, 56, 135);
        assert_eq!([2, 38, 39, 40, 41].map(|family| x64(socket, family)), [ALLOW, EPERM, ALLOW, EPERM, ALLOW]);
        assert_eq!(x64(socket, 1 << 32 | 38), EPERM, "the kernel does not look at the upper half");
        assert_eq!(x64(clone, 0x1000_0000), EPERM, "CLONE_NEWUSER");
        assert_eq!(x64(clone, 17), ALLOW);
        assert_eq!(x64(personality, 0x40000), EPERM, "ADDR_NO_RANDOMIZE");
        assert_eq!(x64(425, 0), EPERM, "io_uring_setup");
        assert_eq!(x64(435, 0), ENOSYS, "clone3");
        assert_eq!(x64(161, 0), ALLOW, "chroot, which CAP_SYS_CHROOT gives");
    }

    #[test]
    fn the_same_profile_is_written_for_an_external_runtime() {
        let calls = oci(CHROOT).expect("complete").syscalls().clone().expect("some");
        assert_eq!(calls.iter().filter(|c| c.args().is_some()).count(), 9);
        assert!(calls[0].names().iter().any(|n| n == "openat2"));
    }
}
