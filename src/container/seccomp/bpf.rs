//! The profile as a program for the kernel: a search tree over the system call numbers of each architecture.
//!
//! ```text
//! load arch ─▶ one section per architecture: load nr ─▶ `nr >= K`? binary search ─▶ return, or look at an argument
//! ```
//! A kernel since 5.11 runs the program once per number when it is loaded, and remembers those that are allowed whatever the
//! arguments; then it costs them nothing.

use super::call::{Action, Is, Test};
use super::table::{Rule, Table};

/// One instruction, `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How far to jump if true.
    pub jt: u8,
    /// How far to jump if false.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RETURN: u16 = 0x06;

const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

/// Compiles the tables: each has its architecture's number and the answers by call number.
pub(super) fn compile(tables: &[Table]) -> Vec<Instruction> {
    let mut program = vec![op(LOAD, OFFSET_ARCH)];
    for table in tables {
        let mut section = vec![op(LOAD, OFFSET_NR)];
        section.extend(search(&ranges(table), table.wide));
        // Not this architecture: over the section.
        program.push(jump(JEQ, table.arch, 1, 0));
        program.push(op(JUMP, u32::try_from(section.len()).unwrap_or(u32::MAX)));
        program.extend(section);
    }
    program.push(op(RETURN, Action::KillProcess.value()));
    program
}

/// Every number from 0 on is in exactly one range; neighbours with the same rule are one.
fn ranges(table: &Table) -> Vec<(u32, Rule)> {
    let mut ranges: Vec<(u32, Rule)> = Vec::new();
    for from in table.borders() {
        let rule = table.rule(from);
        if ranges.last().is_none_or(|(_, last)| last != rule) {
            ranges.push((from, rule.clone()));
        }
    }
    ranges
}

fn search(ranges: &[(u32, Rule)], wide: bool) -> Vec<Instruction> {
    if let [(_, rule)] = ranges {
        return answer(rule, wide);
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let border = right[0].0;
    let (left, right) = (search(left, wide), search(right, wide));
    // A jump reaches 255 instructions; beyond that an unconditional one, which reaches any, stands between.
    let mut code = match u8::try_from(left.len()) {
        Ok(len) => vec![jump(JGE, border, len, 0)],
        Err(_) => {
            vec![jump(JGE, border, 0, 1), op(JUMP, u32::try_from(left.len()).unwrap_or(u32::MAX))]
        }
    };
    code.extend(left);
    code.extend(right);
    code
}

fn answer(rule: &Rule, wide: bool) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (tests, action) in &rule.cases {
        code.extend(case(tests, *action, wide));
    }
    code.push(op(RETURN, rule.otherwise.value()));
    code
}

/// Returns where all tests hold; falls through where one does not.
fn case(tests: &[Test], action: Action, wide: bool) -> Vec<Instruction> {
    let mut code = vec![op(RETURN, action.value())];
    // From the end, so that each knows how far it is to the next case.
    for test in tests.iter().rev() {
        let mut before = compare(test, wide, code.len());
        before.append(&mut code);
        code = before;
    }
    code
}

/// Falls through where the test holds, else jumps over itself and `rest` instructions more. Arguments are little-endian: the
/// lower half first. Where only that counts, the upper one is not looked at: a bit set in it must not get past a refusal.
fn compare(test: &Test, wide: bool, rest: usize) -> Vec<Instruction> {
    /// Where a jump leads, until the distances are known.
    #[derive(Clone, Copy)]
    enum To {
        Next,
        Holds,
        Fails,
    }
    use To::{Fails, Holds, Next};
    let low = OFFSET_ARGS + 8 * u32::from(test.argument);
    let upper = |v: u64| (v >> 32) as u32;
    let lower = |v: u64| v as u32;
    let whole = wide && !test.half;
    let mut steps: Vec<(u16, u32, To, To)> = Vec::new();
    // The upper half decides, but where it is equal.
    let mut on_upper = |value: u64, above: To, below: To| {
        if whole {
            steps.push((LOAD, low + 4, Next, Next));
            steps.push((JGT, upper(value), above, Next));
            steps.push((JEQ, upper(value), Next, below));
        }
    };
    match test.is {
        Is::Equal(v) => on_upper(v, Fails, Fails),
        Is::NotEqual(v) => on_upper(v, Holds, Holds),
        Is::Above(v) | Is::AtLeast(v) => on_upper(v, Holds, Fails),
        Is::Below(v) | Is::AtMost(v) => on_upper(v, Fails, Holds),
        Is::Masked { mask, value } => {
            if whole {
                steps.push((LOAD, low + 4, Next, Next));
                steps.push((AND, upper(mask), Next, Next));
                steps.push((JEQ, upper(value & mask), Next, Fails));
            }
        }
    }
    steps.push((LOAD, low, Next, Next));
    match test.is {
        Is::Equal(v) => steps.push((JEQ, lower(v), Next, Fails)),
        Is::NotEqual(v) => steps.push((JEQ, lower(v), Fails, Next)),
        // An argument of 32 bits is never above a larger value, and always below it.
        Is::Above(v) | Is::AtLeast(v) if !whole && upper(v) != 0 => steps.push((JGE, 0, Fails, Fails)),
        Is::Below(v) | Is::AtMost(v) if !whole && upper(v) != 0 => steps.push((JGE, 0, Next, Next)),
        Is::Above(v) => steps.push((JGT, lower(v), Next, Fails)),
        Is::AtLeast(v) => steps.push((JGE, lower(v), Next, Fails)),
        Is::Below(v) => steps.push((JGE, lower(v), Fails, Next)),
        Is::AtMost(v) => steps.push((JGT, lower(v), Fails, Next)),
        Is::Masked { mask, value } => {
            steps.push((AND, lower(mask), Next, Next));
            steps.push((JEQ, lower(value & mask), Next, Fails));
        }
    }
    let count = steps.len();
    let distance = |at: usize, to: To| {
        let left = match to {
            Next => 0,
            Holds => count - at - 1,
            Fails => count - at - 1 + rest,
        };
        // Six arguments with seven instructions each are the most.
        u8::try_from(left).unwrap_or(u8::MAX)
    };
    let steps = steps.into_iter().enumerate();
    steps.map(|(at, (code, k, yes, no))| Instruction { code, jt: distance(at, yes), jf: distance(at, no), k }).collect()
}

const fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}
const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Runs a program as the kernel does, for the tests.
#[cfg(test)]
pub(super) fn run(program: &[Instruction], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
    let (mut at, mut acc) = (0, 0_u32);
    loop {
        let i = program[at];
        at += 1;
        let mut branch = |yes: bool| at += usize::from(if yes { i.jt } else { i.jf });
        match i.code {
            LOAD => {
                acc = match i.k {
                    OFFSET_NR => nr,
                    OFFSET_ARCH => arch,
                    k => (args[((k - OFFSET_ARGS) / 8) as usize] >> ((k - OFFSET_ARGS) % 8 * 8)) as u32,
                };
            }
            AND => acc &= i.k,
            JUMP => at += i.k as usize,
            JEQ => branch(acc == i.k),
            JGT => branch(acc > i.k),
            JGE => branch(acc >= i.k),
            RETURN => return i.k,
            other => panic!("no such instruction: {other:#x}"),
        }
    }
}
