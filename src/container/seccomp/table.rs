//! A profile by the numbers of each architecture.

use std::collections::BTreeMap;

use super::call::{Action, Arch, Call, Profile, Test};
use super::numbers::{NONE, NUMBERS};
use super::numbers_further::FURTHER;

/// What is answered to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// The first whose tests all hold.
    pub(super) cases: Vec<(Vec<Test>, Action)>,
    /// Where none does.
    pub(super) otherwise: Action,
}

/// The answers in one architecture.
pub(super) struct Table {
    pub(super) arch: u32,
    /// Whether arguments have 64 bits.
    pub(super) wide: bool,
    pub(super) rules: BTreeMap<u32, Rule>,
    otherwise: Rule,
    /// For the numbers of the x32 ABI, which come as those of x86_64 with a bit set.
    x32: Rule,
}

pub(super) const AUDIT_X86_64: u32 = 0xc000_003e;
pub(super) const AUDIT_X86: u32 = 0x4000_0003;
pub(super) const AUDIT_AARCH64: u32 = 0xc000_00b7;
/// The bit that marks a call of the x32 ABI.
pub(super) const X32_BIT: u32 = 0x4000_0000;
/// No call: what a tracer sets to have one skipped.
const NO_CALL: u32 = u32::MAX;

impl Table {
    /// The answer to a number.
    pub(super) fn rule(&self, number: u32) -> &Rule {
        let gap = if number & X32_BIT != 0 && number != NO_CALL { &self.x32 } else { &self.otherwise };
        self.rules.get(&number).unwrap_or(gap)
    }

    /// The numbers, ascending from 0, at which another answer may begin.
    pub(super) fn borders(&self) -> Vec<u32> {
        let around = self.rules.keys().flat_map(|number| [Some(*number), number.checked_add(1)]).flatten();
        let mut borders: Vec<u32> = [0, X32_BIT, 2 * X32_BIT, 3 * X32_BIT, NO_CALL].into_iter().chain(around).collect();
        borders.sort_unstable();
        borders.dedup();
        borders
    }
}

/// Whether any architecture has such a call.
pub(super) fn known(name: &str) -> bool {
    numbers(name).is_some()
}

fn numbers(name: &str) -> Option<[u32; 4]> {
    let find =
        |table: &[(&str, [u32; 4])]| table.binary_search_by(|(known, _)| (*known).cmp(name)).ok().map(|at| table[at].1);
    find(&NUMBERS).or_else(|| find(&FURTHER))
}

pub(super) fn tables(profile: &Profile) -> Vec<Table> {
    let plain = |otherwise| Rule { cases: Vec::new(), otherwise };
    let killed = plain(Action::KillProcess);
    let otherwise = plain(profile.otherwise);
    let has = |arch| profile.arches.contains(&arch);
    let mut tables = Vec::new();
    let mut add = |arch, wide, rules, x32: &Rule| {
        tables.push(Table { arch, wide, rules, otherwise: otherwise.clone(), x32: x32.clone() });
    };
    if has(Arch::Aarch64) {
        add(AUDIT_AARCH64, true, rules(profile, 3, 0), &otherwise);
    }
    // The kernel knows x32 as x86_64 with a bit in the number, so both share a section.
    if has(Arch::X86_64) {
        let mut both = rules(profile, 0, 0);
        if has(Arch::X32) {
            both.append(&mut rules(profile, 2, X32_BIT));
        }
        add(AUDIT_X86_64, true, both, if has(Arch::X32) { &otherwise } else { &killed });
    }
    if has(Arch::X86) {
        add(AUDIT_X86, false, rules(profile, 1, 0), &otherwise);
    }
    tables
}

fn rules(profile: &Profile, column: usize, bit: u32) -> BTreeMap<u32, Rule> {
    let mut named: BTreeMap<u32, Vec<&Call>> = BTreeMap::new();
    // What answers as everything else does says nothing.
    for call in profile.calls.iter().filter(|call| call.action != profile.otherwise) {
        for name in &call.names {
            if let Some(number) = numbers(name).map(|n| n[column]).filter(|n| *n != NONE) {
                named.entry(number | bit).or_default().push(call);
            }
        }
    }
    named.into_iter().map(|(number, calls)| (number, rule(&calls, profile.otherwise))).collect()
}

/// Whatever the arguments counts more than some arguments; where that is said twice, the stricter.
fn rule(calls: &[&Call], otherwise: Action) -> Rule {
    let whatever = calls.iter().filter(|call| call.tests.is_empty()).map(|call| call.action).max();
    match whatever {
        Some(action) => Rule { cases: Vec::new(), otherwise: action },
        None => Rule { cases: calls.iter().map(|call| (call.tests.clone(), call.action)).collect(), otherwise },
    }
}
