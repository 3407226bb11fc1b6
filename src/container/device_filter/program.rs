//! The rules as an eBPF program of the kind that a cgroup asks about each device. Pure.
//!
//! ```text
//! type, access, major, minor into registers ─▶ one block per rule: does it fit? 1 ─▶ … ─▶ 0
//! ```

use crate::model::{DeviceKind, DeviceRule};

/// One instruction, as the kernel has it: code, registers, offset, operand.
pub(super) type Instruction = u64;

const LOAD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xbc;
const SET: u8 = 0xb7;
const UNEQUAL: u8 = 0x55;
const UNEQUAL_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

const ANSWER: u8 = 0;
/// The argument at first, free afterwards.
const SCRATCH: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Allows what a rule allows.
#[must_use]
pub fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut code = vec![
        one(LOAD, TYPE, SCRATCH, 0, 0),
        one(AND, TYPE, 0, 0, 0xffff),
        one(LOAD, ACCESS, SCRATCH, 0, 0),
        one(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        one(LOAD, MAJOR, SCRATCH, 4, 0),
        one(LOAD, MINOR, SCRATCH, 8, 0),
    ];
    for rule in rules {
        let tests = tests(rule);
        let whatever = tests.is_empty();
        code.extend(block(&tests));
        if whatever {
            // The kernel takes no program with instructions that are never reached.
            return code;
        }
    }
    code.extend([one(SET, ANSWER, 0, 0, 0), one(EXIT, 0, 0, 0, 0)]);
    code
}

/// What must be so: instructions, the last of which jumps where it is not.
fn tests(rule: &DeviceRule) -> Vec<Vec<[i32; 4]>> {
    let equal = |register: u8, value: u32| vec![[UNEQUAL.into(), register.into(), 0, value as i32]];
    let mut tests = Vec::new();
    match rule.kind {
        DeviceKind::All => {}
        DeviceKind::Block => tests.push(equal(TYPE, 1)),
        DeviceKind::Character => tests.push(equal(TYPE, 2)),
    }
    let access = rule.access;
    let mask = i32::from(access.make) | i32::from(access.read) << 1 | i32::from(access.write) << 2;
    if mask != 7 {
        // Nothing beyond it may be asked for.
        tests.push(vec![
            [MOVE.into(), SCRATCH.into(), ACCESS.into(), 0],
            [AND.into(), SCRATCH.into(), 0, mask],
            [UNEQUAL_REGISTER.into(), SCRATCH.into(), ACCESS.into(), 0],
        ]);
    }
    tests.extend(rule.major.map(|major| equal(MAJOR, major)));
    tests.extend(rule.minor.map(|minor| equal(MINOR, minor)));
    tests
}

fn block(tests: &[Vec<[i32; 4]>]) -> Vec<Instruction> {
    let flat: Vec<[i32; 4]> = tests.iter().flatten().copied().collect();
    let mut code = Vec::new();
    for (at, [op, to, from, value]) in flat.iter().enumerate() {
        // Over the rest of the tests and the answer.
        let jumps = [i32::from(UNEQUAL), i32::from(UNEQUAL_REGISTER)].contains(op);
        let far = if jumps { i16::try_from(flat.len() - at - 1 + 2).unwrap_or(i16::MAX) } else { 0 };
        code.push(one(*op as u8, *to as u8, *from as u8, far, *value));
    }
    code.extend([one(SET, ANSWER, 0, 0, 1), one(EXIT, 0, 0, 0, 0)]);
    code
}

fn one(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    let value = value.to_ne_bytes();
    let offset = offset.to_ne_bytes();
    u64::from_ne_bytes([code, from << 4 | to, offset[0], offset[1], value[0], value[1], value[2], value[3]])
}

#[cfg(test)]
mod tests {
    use super::super::{TUN, allowed, allows_tun, oci};
    use super::*;
    use crate::model::{DeviceAccess, Isolation};

    /// Runs a program as the kernel does.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> u64 {
        let context = [access << 16 | kind, major, minor];
        let (mut at, mut registers) = (0_usize, [0_u64; 10]);
        loop {
            let [code, regs, o0, o1, v @ ..] = program[at].to_ne_bytes();
            let (to, from) = (usize::from(regs & 15), usize::from(regs >> 4));
            let (offset, value) = (i16::from_ne_bytes([o0, o1]), i32::from_ne_bytes(v));
            at += 1;
            let mut jump = |yes: bool| at += if yes { usize::try_from(offset).expect("forward") } else { 0 };
            match code {
                LOAD => registers[to] = context[usize::try_from(offset).expect("inside") / 4].into(),
                AND => registers[to] = u64::from(registers[to] as u32 & value as u32),
                SHIFT_RIGHT => registers[to] = u64::from(registers[to] as u32 >> value),
                MOVE => registers[to] = u64::from(registers[from] as u32),
                SET => registers[to] = value as u64,
                UNEQUAL => jump(registers[to] != value as u64),
                UNEQUAL_REGISTER => jump(registers[to] != registers[from]),
                EXIT => return registers[0],
                other => panic!("no such instruction: {other:#x}"),
            }
        }
    }

    const BLOCK: u32 = 1;
    const CHARACTER: u32 = 2;
    const MAKE: u32 = 1;
    const READ: u32 = 2;
    const WRITE: u32 = 4;

    #[test]
    fn the_usual_devices_and_no_others() {
        let rules = allowed(&Isolation::default(), &[]);
        let program = program(&rules);
        assert!(program.len() < 80, "{}", program.len());
        let may = |kind, access, major, minor| run(&program, kind, access, major, minor) == 1;
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, 0), (136, 77)] {
            assert!(may(CHARACTER, READ | WRITE, major, minor), "{major}:{minor}");
            assert!(!may(BLOCK, READ, major, minor), "{major}:{minor}");
        }
        for (kind, major, minor) in [
            (CHARACTER, 1, 1),
            (CHARACTER, 1, 11),
            (CHARACTER, 10, 200),
            (CHARACTER, 10, 229),
            (BLOCK, 8, 0),
            (BLOCK, 7, 0),
        ] {
            assert!(!may(kind, READ, major, minor) && !may(kind, WRITE | MAKE, major, minor), "{major}:{minor}");
            assert!(may(kind, MAKE, major, minor), "making is not opening: {major}:{minor}");
        }
        assert!(!allows_tun(&rules));
        assert_eq!(oci(&rules)[0], serde_json::json!({ "allow": false, "access": "rwm" }));
    }

    #[test]
    fn a_rule_allows_what_it_says() {
        let read = DeviceAccess { read: true, write: false, make: false };
        let rule = DeviceRule { kind: DeviceKind::Block, major: Some(8), minor: None, access: read };
        let tun = DeviceRule { kind: DeviceKind::Character, major: Some(TUN.0), minor: Some(TUN.1), access: read };
        let isolation = Isolation { device_rules: vec![rule, tun], ..Isolation::default() };
        let rules = allowed(&isolation, &[]);
        let code = program(&rules);
        assert_eq!([READ, WRITE, READ | WRITE].map(|access| run(&code, BLOCK, access, 8, 17)), [1, 0, 0]);
        assert!(allows_tun(&rules) && run(&code, CHARACTER, READ, 10, 200) == 1);
        let everything = program(&allowed(&Isolation { privileged: true, ..isolation }, &[]));
        assert_eq!(run(&everything, BLOCK, READ | WRITE | MAKE, 8, 0), 1);
        assert_eq!(everything.len(), 8, "nothing after what always holds");
    }
}
