//! The profile as a program for the kernel: a search tree over the system call numbers of each architecture.
//!
//! ```text
//! load arch ─▶ one section per architecture: load nr ─▶ `nr >= K`? binary search ─▶ return, or look at an argument
//! ```
//! A kernel since 5.11 runs the program once per number when it is loaded, and remembers those that are allowed whatever the
//! arguments; then it costs them nothing.

use super::profile::{Is, Test};
use super::{Rule, Table};

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

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

/// Compiles the tables: each has its architecture's number and what is not refused, by call number.
pub(super) fn compile(tables: &[Table]) -> Vec<Instruction> {
    let mut program = vec![op(LOAD, OFFSET_ARCH)];
    for table in tables {
        let mut section = vec![op(LOAD, OFFSET_NR)];
        section.extend(search(&ranges(table)));
        // Not this architecture: over the section.
        program.push(jump(JEQ, table.arch, 1, 0));
        program.push(op(JUMP, u32::try_from(section.len()).unwrap_or(u32::MAX)));
        program.extend(section);
    }
    program.push(op(RETURN, KILL_PROCESS));
    program
}

/// Every number from 0 on is in exactly one range; neighbours with the same rule are one.
fn ranges(table: &Table) -> Vec<(u32, Rule)> {
    let mut ranges: Vec<(u32, Rule)> = vec![(0, Rule::Refused)];
    let mut add = |from: u32, rule: Rule| match ranges.last_mut() {
        Some((start, last)) if *start == from => *last = rule,
        Some((_, last)) if *last == rule => {}
        _ => ranges.push((from, rule)),
    };
    let mut after = 0;
    for (number, rule) in &table.rules {
        if *number > after {
            add(after, Rule::Refused);
        }
        add(*number, *rule);
        after = number + 1;
    }
    add(after, Rule::Refused);
    // Overwriting a range's first number may have made two equal neighbours.
    ranges.dedup_by(|next, previous| next.1 == previous.1);
    ranges
}

fn search(ranges: &[(u32, Rule)]) -> Vec<Instruction> {
    if let [(_, rule)] = ranges {
        return answer(*rule);
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let border = right[0].0;
    let (left, right) = (search(left), search(right));
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

fn answer(rule: Rule) -> Vec<Instruction> {
    match rule {
        Rule::Allowed => vec![op(RETURN, ALLOW)],
        Rule::Refused => vec![op(RETURN, ERRNO | EPERM)],
        Rule::Unknown => vec![op(RETURN, ERRNO | ENOSYS)],
        Rule::If(tests) => {
            let mut code: Vec<Instruction> = tests.iter().flat_map(test).collect();
            code.push(op(RETURN, ERRNO | EPERM));
            code
        }
    }
}

/// Returns ALLOW where the test holds; falls through where it does not. The argument is little-endian: its lower half first.
fn test(test: &Test) -> Vec<Instruction> {
    let load = op(LOAD, OFFSET_ARGS + 8 * u32::from(test.argument));
    let allow = op(RETURN, ALLOW);
    match test.is {
        Is::Equal(value) => vec![load, jump(JEQ, value, 0, 1), allow],
        Is::Above(value) => vec![load, jump(JGT, value, 0, 1), allow],
        Is::Below(value) => vec![load, jump(JGE, value, 1, 0), allow],
        Is::Masked { mask, value } => vec![load, op(AND, mask), jump(JEQ, value, 0, 1), allow],
    }
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
                    k => args[((k - OFFSET_ARGS) / 8) as usize] as u32,
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
