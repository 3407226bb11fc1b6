use super::call::{Action, Arch};
use super::table::{AUDIT_AARCH64, AUDIT_X86, AUDIT_X86_64, X32_BIT, tables};
use super::*;
use crate::model::Capability;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL: u32 = 0x8000_0000;
const CHROOT: u64 = 1 << 18;

fn here() -> Here {
    let chroot = Capability::parse("SYS_CHROOT").expect("a name");
    Here { aarch64: false, capabilities: CapabilitySet::NONE.with(chroot), kernel: (6, 1) }
}

/// The program of a file, on x86_64.
fn compiled(text: &str) -> Vec<Instruction> {
    bpf::compile(&tables(&file::read(text, &here()).expect("a profile")))
}

fn error(text: &str) -> String {
    file::read(text, &here()).expect_err("no profile").to_string()
}

#[test]
fn every_number_gets_the_answer_of_the_table() {
    for aarch64 in [false, true] {
        let tables = tables(&profile::docker(aarch64, CHROOT));
        let program = bpf::compile(&tables);
        assert!(program.len() < LONGEST, "{}", program.len());
        for table in &tables {
            assert!([AUDIT_X86_64, AUDIT_X86, AUDIT_AARCH64].contains(&table.arch));
            for nr in (0..1024).chain(X32_BIT..X32_BIT + 1024).chain([u32::MAX]) {
                let seen = bpf::run(&program, table.arch, nr, [0; 6]);
                // With zero in every argument each of the conditions holds.
                let rule = table.rules.get(&nr);
                let wanted =
                    rule.map_or(Action::REFUSE, |r| r.cases.first().map_or(r.otherwise, |(_, action)| *action));
                assert_eq!(seen, wanted.value(), "arch {:#x} nr {nr}", table.arch);
            }
        }
        assert_eq!(bpf::run(&program, 8, 0, [0; 6]), KILL);
    }
}

#[test]
fn arguments_are_looked_at() {
    let program = bpf::compile(&tables(&profile::docker(false, CHROOT)));
    let x64 = |nr, first: u64| bpf::run(&program, AUDIT_X86_64, nr, [first, 0, 0, 0, 0, 0]);
    let (socket, clone, personality) = (41, 56, 135);
    assert_eq!([2, 38, 39, 40, 41].map(|family| x64(socket, family)), [ALLOW, EPERM, ALLOW, EPERM, ALLOW]);
    assert_eq!(x64(socket, 1 << 32 | 38), EPERM, "the kernel does not look at the upper half");
    assert_eq!(x64(clone, 0x1000_0000), EPERM, "CLONE_NEWUSER");
    assert_eq!(x64(clone, 17), ALLOW);
    assert_eq!(x64(personality, 0x40000), EPERM, "ADDR_NO_RANDOMIZE");
    assert_eq!(x64(425, 0), EPERM, "io_uring_setup");
    assert_eq!(x64(435, 0), ENOSYS, "clone3");
    assert_eq!(
        bpf::run(&program, AUDIT_X86, 102, [1, 0, 0, 0, 0, 0]),
        ENOSYS,
        "socketcall, whose arguments are in memory"
    );
    assert_eq!([2, 38].map(|family| bpf::run(&program, AUDIT_X86, 359, [family, 0, 0, 0, 0, 0])), [ALLOW, EPERM]);
    assert_eq!(x64(161, 0), ALLOW, "chroot, which CAP_SYS_CHROOT gives");
    let wide = bpf::compile(&tables(&profile::docker(false, CapabilitySet::ALL.mask())));
    assert_eq!(bpf::run(&wide, AUDIT_X86_64, 435, [0; 6]), ALLOW, "clone3, which CAP_SYS_ADMIN gives");
}

#[test]
fn the_same_profile_is_written_for_an_external_runtime() {
    let written = oci(&profile::docker(false, CHROOT));
    let calls = written["syscalls"].as_array().expect("some");
    assert_eq!(calls.iter().filter(|c| c["args"].as_array().is_some_and(|a| !a.is_empty())).count(), 9);
    assert!(calls[0]["names"].as_array().expect("names").iter().any(|n| n == "openat2"));
    assert_eq!((&written["defaultErrnoRet"], &written["architectures"][2]), (&json!(1), &json!("SCMP_ARCH_X32")));
    let clone3 = calls.iter().find(|c| c["names"] == json!(["clone3"])).expect("named");
    assert_eq!(clone3["errnoRet"], 38);
}

#[test]
fn every_call_is_found_by_its_name() {
    for (table, name) in [(&numbers::NUMBERS[..], "a"), (&numbers_further::FURTHER[..], "b")] {
        assert!(table.is_sorted_by_key(|(name, _)| *name), "{name}");
        assert!(table.iter().all(|(name, _)| table::known(name)));
    }
    assert!(!table::known("no_such_call"));
}

/// Each comparison against a plain one, around the borders of both halves.
#[test]
fn comparisons_of_64_bits_are_exact() {
    let edges = [0, 1, 2, 0x7fff_ffff, 0xffff_ffff, 1 << 32, (1 << 32) + 1, (2 << 32) + 1, u64::MAX - 1, u64::MAX];
    type Holds = fn(u64, u64) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("EQ", |a, v| a == v),
        ("NE", |a, v| a != v),
        ("LT", |a, v| a < v),
        ("LE", |a, v| a <= v),
        ("GT", |a, v| a > v),
        ("GE", |a, v| a >= v),
    ];
    let arch = json!([{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] }]);
    for value in edges {
        for (name, holds) in operators {
            let op = format!("SCMP_CMP_{name}");
            let args =
                json!([{ "index": 2, "value": value, "op": op }, { "index": 5, "value": 7, "op": "SCMP_CMP_EQ" }]);
            let call = json!({ "names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": args });
            let file = json!({ "defaultAction": "SCMP_ACT_KILL_PROCESS", "archMap": arch, "syscalls": [call] });
            let program = compiled(&file.to_string());
            for argument in edges {
                let seen = bpf::run(&program, AUDIT_X86_64, 16, [0, 0, argument, 0, 0, 7]);
                let wanted = if holds(argument, value) { ALLOW } else { KILL };
                assert_eq!(seen, wanted, "{argument:#x} {op} {value:#x}");
                assert_eq!(bpf::run(&program, AUDIT_X86_64, 16, [0, 0, argument, 0, 0, 8]), KILL, "both must hold");
                if let (Ok(_), true) = (u32::try_from(argument), value < 1 << 32) {
                    let seen = bpf::run(&program, AUDIT_X86, 54, [0, 0, argument, 0, 0, 7]);
                    assert_eq!(seen, wanted, "x86: {argument:#x} {op} {value:#x}");
                }
            }
        }
    }
    let masked = |mask: u64, value: u64| {
        let args = json!([{ "index": 0, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" }]);
        let call = json!({ "name": "clone", "action": "SCMP_ACT_ERRNO", "errnoRet": 12, "args": args });
        compiled(&json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [call] }).to_string())
    };
    let program = masked(0xff_0000_00ff, 0x12_0000_0034);
    let seen = |argument| bpf::run(&program, AUDIT_X86_64, 56, [argument, 0, 0, 0, 0, 0]);
    assert_eq!([0x12_0000_0034, 0x9912_ffff_ff34].map(seen), [0x0005_000c; 2]);
    assert_eq!([0x34, 0x12_0000_0035, 0x13_0000_0034].map(seen), [ALLOW; 3]);
}

#[test]
fn a_file_says_all_that_dockers_format_can() {
    let program = compiled(
        r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 95,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_ARM"], "flags": ["SECCOMP_FILTER_FLAG_TSYNC"],
        "syscalls": [
            { "names": ["read", "write", "not_yet_known"], "action": "SCMP_ACT_ALLOW", "comment": "as usual" },
            { "name": "open", "action": "SCMP_ACT_LOG" },
            { "name": "close", "action": "SCMP_ACT_TRACE", "errnoRet": 7 },
            { "name": "stat", "action": "SCMP_ACT_TRAP" },
            { "name": "fstat", "action": "SCMP_ACT_KILL" },
            { "name": "lstat", "action": "SCMP_ACT_KILL_PROCESS" },
            { "name": "poll", "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] } },
            { "name": "lseek", "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_CHROOT"], "arches": ["amd64"], "minKernel": "4.8" } },
            { "name": "mmap", "action": "SCMP_ACT_ALLOW", "excludes": { "caps": ["CAP_SYS_CHROOT"] } },
            { "name": "mprotect", "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "99.1" } },
            { "name": "munmap", "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["arm64"] } },
            { "name": "brk", "action": "SCMP_ACT_ALLOW", "args": [
                { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 3, "op": "SCMP_CMP_EQ" } ] },
            { "name": "brk", "action": "SCMP_ACT_KILL_PROCESS", "args": [ { "index": 0, "value": 9, "op": "SCMP_CMP_GT" } ] },
            { "name": "ioctl", "action": "SCMP_ACT_ALLOW", "args": [ { "index": 0, "value": 9, "op": "SCMP_CMP_GT" } ] },
            { "name": "ioctl", "action": "SCMP_ACT_TRAP" }
        ] }"#,
    );
    let seen = |nr, first| bpf::run(&program, AUDIT_X86_64, nr, [first, 0, 0, 0, 0, 0]);
    let other = 0x0005_005f;
    let numbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11].map(|nr| seen(nr, 0));
    let trap = 0x0003_0000;
    assert_eq!(numbers, [ALLOW, ALLOW, 0x7ffc_0000, 0x7ff0_0007, trap, 0, KILL, other, ALLOW, other, other, other]);
    assert_eq!([1, 2, 3, 10].map(|first| seen(12, first)), [ALLOW, other, ALLOW, KILL], "one argument twice");
    assert_eq!(seen(16, 10), trap, "whatever the arguments counts more");
    assert_eq!(bpf::run(&program, AUDIT_X86, 3, [0; 6]), KILL, "an architecture that is not named");
    assert_eq!(bpf::run(&program, AUDIT_X86_64, X32_BIT, [0; 6]), KILL, "another one");
    assert_eq!(bpf::run(&program, AUDIT_X86_64, u32::MAX, [0; 6]), other, "no call at all");
}

#[test]
fn what_cannot_be_kept_is_an_error_that_names_it() {
    let with = |call: &str| error(&format!(r#"{{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{call}] }}"#));
    let named = |text: String, word: &str| assert!(text.contains(word), "{word} in {text}");
    named(error("{}"), "Docker's format");
    named(error(r#"{ "defaultAction": "SCMP_ACT_NOTIFY" }"#), "SCMP_ACT_NOTIFY");
    named(error(r#"{ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"] }"#), "SCMP_ARCH_Z80");
    named(error(r#"{ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"] }"#), "FLAG_LOG");
    named(with(r#"{ "names": ["keyctl", "no_such_call"], "action": "SCMP_ACT_ERRNO" }"#), "no_such_call");
    named(with(r#"{ "name": "read", "names": ["write"], "action": "SCMP_ACT_ERRNO" }"#), "names");
    named(with(r#"{ "name": "read", "action": "SCMP_ACT_ERRNO", "errnoRet": 5000 }"#), "5000");
    named(with(r#"{ "name": "read", "action": "SCMP_ACT_ERRNO", "includes": { "minKernel": "new" } }"#), "new");
    let argument = |index: u32, op: &str| {
        let args = json!([{ "index": index, "value": 1, "op": op }]);
        with(&json!({ "name": "read", "action": "SCMP_ACT_ERRNO", "args": args }).to_string())
    };
    named(argument(6, "SCMP_CMP_EQ"), "argument 6");
    named(argument(0, "SCMP_CMP_ABOUT"), "SCMP_CMP_ABOUT");
}

#[test]
fn who_is_privileged_is_held_only_to_a_profile_of_his_own() {
    let all = CapabilitySet::ALL;
    let own = Seccomp::Profile(r#"{ "defaultAction": "SCMP_ACT_ALLOW" }"#.to_owned());
    let some = |seccomp: &Seccomp, privileged| program_for(seccomp, privileged, all).expect("a profile").is_some();
    assert!(some(&Seccomp::Default, false) && !some(&Seccomp::Default, true));
    assert!(!some(&Seccomp::Unconfined, false) && some(&own, true));
    assert_eq!(Arch::machine(true), [Arch::Aarch64]);
}
