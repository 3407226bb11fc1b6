//! When to look, and at what not yet. Pure: time comes in as an argument.
//!
//! A file that was renamed into place or closed after writing is whole: look at once. A file that is being written is left alone
//! until it is closed, or quiet for a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file that is being written counts as whole after this much quiet.
pub(super) const QUIET_MS: u64 = 250;
/// Hints that come together are answered together.
const GATHER_MS: u64 = 2;
/// At most this many looks a second under a storm of hints.
const PAUSE_MS: u64 = 20;

/// What an event hints at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hint {
    /// The path is whole: closed after writing, renamed into place, its attributes changed.
    Whole(PathBuf),
    /// The path is being written.
    Writing(PathBuf),
    /// The path was unlinked or renamed away.
    Unlinked(PathBuf),
    /// Events were lost, or the folder itself changed.
    Anything,
}

#[derive(Debug, Default)]
pub(super) struct Settle {
    writing: BTreeMap<PathBuf, u64>,
    touched: BTreeSet<PathBuf>,
    unlinked: BTreeSet<PathBuf>,
    whole: BTreeSet<PathBuf>,
    everything: bool,
    due: Option<u64>,
    not_before: u64,
}

/// What a look should do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Task {
    /// Read every file again, whatever the events said.
    pub(super) everything: bool,
    /// Files to read again.
    pub(super) touched: BTreeSet<PathBuf>,
    /// Files that are being written: what was read of them before stays in force.
    pub(super) writing: BTreeSet<PathBuf>,
    /// Files that an event called whole.
    pub(super) whole: BTreeSet<PathBuf>,
    /// Paths that were seen unlinked.
    pub(super) unlinked: BTreeSet<PathBuf>,
}

impl Settle {
    pub(super) fn note(&mut self, hint: Hint, now: u64) {
        match hint {
            Hint::Whole(path) => {
                self.writing.remove(&path);
                self.unlinked.remove(&path);
                self.whole.insert(path.clone());
                self.touched.insert(path);
                self.look_at(now + GATHER_MS);
            }
            Hint::Writing(path) => {
                self.unlinked.remove(&path);
                self.whole.remove(&path);
                self.writing.insert(path.clone(), now + QUIET_MS);
                self.touched.insert(path);
                self.look_at(now + QUIET_MS);
            }
            Hint::Unlinked(path) => {
                self.writing.remove(&path);
                self.whole.remove(&path);
                self.touched.insert(path.clone());
                self.unlinked.insert(path);
                self.look_at(now + GATHER_MS);
            }
            Hint::Anything => {
                self.everything = true;
                self.look_at(now + GATHER_MS);
            }
        }
    }

    /// Asks for a look at the latest then.
    pub(super) fn look_at(&mut self, at: u64) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// When the next look is due.
    pub(super) fn due(&self) -> Option<u64> {
        self.due.map(|due| due.max(self.not_before))
    }

    /// Begins a look: what it should do. `took` is how long the last one took.
    pub(super) fn begin(&mut self, now: u64, took: u64) -> Task {
        self.writing.retain(|_, quiet_at| *quiet_at > now);
        self.due = self.writing.values().min().copied();
        self.not_before = now + PAUSE_MS.max(took * 2);
        Task {
            everything: std::mem::take(&mut self.everything),
            // What is still being written is read with a later look.
            touched: std::mem::replace(&mut self.touched, self.writing.keys().cloned().collect()),
            writing: self.writing.keys().cloned().collect(),
            whole: std::mem::take(&mut self.whole),
            unlinked: self.unlinked.clone(),
        }
    }

    /// Forgets unlinked paths that are answered for, or that another folder's events were about.
    pub(super) fn forget_unlinked(&mut self, keep: impl Fn(&Path) -> bool) {
        self.unlinked.retain(|path| keep(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> PathBuf {
        "a.yaml".into()
    }

    #[test]
    fn a_rename_into_place_is_looked_at_at_once() {
        let mut settle = Settle::default();
        settle.note(Hint::Whole(path()), 1000);
        assert_eq!(settle.due(), Some(1002));
        let task = settle.begin(1002, 0);
        assert!(task.writing.is_empty() && task.touched.contains(&path()));
        assert_eq!(settle.due(), None);
    }

    #[test]
    fn a_file_that_is_being_written_is_left_alone_until_it_is_closed() {
        let mut settle = Settle::default();
        for at in 0..10 {
            settle.note(Hint::Writing(path()), at * 100);
        }
        settle.note(Hint::Whole("b.yaml".into()), 900);
        let task = settle.begin(902, 0);
        assert!(task.writing.contains(&path()), "another file's look does not read it half written");
        settle.note(Hint::Whole(path()), 950);
        let task = settle.begin(settle.due().unwrap(), 0);
        assert!(task.writing.is_empty() && task.touched.contains(&path()));
    }

    #[test]
    fn a_writer_that_never_closes_is_waited_for_a_moment() {
        let mut settle = Settle::default();
        settle.note(Hint::Writing(path()), 0);
        assert_eq!(settle.due(), Some(QUIET_MS));
        assert!(settle.begin(QUIET_MS, 0).writing.is_empty());
    }

    #[test]
    fn a_storm_is_answered_at_a_bounded_rate() {
        let mut settle = Settle::default();
        let mut looks = 0;
        for now in 0..1000 {
            settle.note(Hint::Whole(path()), now);
            if settle.due().is_some_and(|due| due <= now) {
                settle.begin(now, 0);
                looks += 1;
            }
        }
        assert!(looks <= 50, "{looks}");
    }
}
