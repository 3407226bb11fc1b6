//! How far a pull is: counters that the data path moves without a lock, and a copy of them for whoever looks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{Digest, Timestamp};

/// Passed over mirrors that are remembered.
const NOTES: usize = 20;

/// What a pull moves and anyone may read.
#[derive(Debug, Default)]
pub struct Progress {
    resumed: AtomicU64,
    requests: AtomicU64,
    tickets: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    layers: Vec<Row>,
    waits: BTreeMap<u64, PullWait>,
    from: Option<String>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Row {
    digest: Digest,
    total: u64,
    gauge: Arc<Gauge>,
}

/// A pull at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Every layer of the image, lowest first; empty until the manifest is known.
    pub layers: Vec<LayerProgress>,
    /// Bytes fetched, or found already present.
    pub done: u64,
    /// Bytes of all layers.
    pub total: u64,
    /// What is waited for before something is tried again.
    pub wait: Option<PullWait>,
    /// The host that answered last.
    pub from: Option<String>,
    /// Bytes that an earlier, broken-off download had left and that were not fetched again.
    pub resumed: u64,
    /// Requests sent, those for tokens included.
    pub requests: u64,
    /// Mirrors that were passed over, and why.
    pub notes: Vec<String>,
}

/// One layer at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress {
    /// Of its compressed bytes.
    pub digest: Digest,
    /// Compressed bytes that are here.
    pub done: u64,
    /// Its compressed bytes.
    pub total: u64,
    /// What is done with it.
    pub state: LayerState,
}

/// What is done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// Not begun.
    Waiting,
    /// Being fetched, by this pull or another; it is unpacked at the same time.
    Fetching,
    /// All bytes are here; the rest is unpacked and written out.
    Unpacking,
    /// Fetched and unpacked.
    Done,
    /// Was there before.
    Present,
}

/// Why a pull rests for a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullWait {
    /// What went wrong, in one sentence.
    pub reason: String,
    /// When it is tried again.
    pub until: Timestamp,
    /// Attempts that failed so far, in a row.
    pub attempt: u32,
    /// Attempts after which the pull is given up.
    pub of: u32,
}

impl Progress {
    /// Bytes fetched, or found already present.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.state().layers.iter().map(|row| row.read().done).fold(0, u64::saturating_add)
    }
    /// Bytes of all layers; zero until the manifest is known.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.state().layers.iter().map(|row| row.total).fold(0, u64::saturating_add)
    }
    /// All of it at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let layers: Vec<_> = state.layers.iter().map(Row::read).collect();
        let sum = |bytes: fn(&LayerProgress) -> u64| layers.iter().map(bytes).fold(0, u64::saturating_add);
        Snapshot {
            done: sum(|layer| layer.done),
            total: sum(|layer| layer.total),
            layers,
            wait: state.waits.values().max_by_key(|wait| wait.until).cloned(),
            from: state.from.clone(),
            resumed: self.resumed.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            notes: state.notes.clone(),
        }
    }

    /// The layers are known. Their gauges may be shared with other pulls of the same layers.
    pub(super) fn begin(&self, layers: impl Iterator<Item = (Digest, u64, Arc<Gauge>)>) {
        self.resumed.store(0, Ordering::Relaxed);
        self.state().layers = layers.map(|(digest, total, gauge)| Row { digest, total, gauge }).collect();
    }
    pub(super) fn resumed(&self, bytes: u64) {
        self.resumed.fetch_add(bytes, Ordering::Relaxed);
    }
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn from(&self, host: &str) {
        let mut state = self.state();
        if state.from.as_deref() != Some(host) {
            state.from = Some(host.to_owned());
        }
    }
    pub(super) fn note(&self, text: String) {
        let mut state = self.state();
        if state.notes.len() < NOTES && !state.notes.contains(&text) {
            state.notes.push(text);
        }
    }
    /// Shows `wait` until the value is dropped.
    pub(super) fn wait(&self, wait: PullWait) -> Resting<'_> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        self.state().waits.insert(ticket, wait);
        Resting { progress: self, ticket }
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    fn read(&self) -> LayerProgress {
        let state = self.gauge.state();
        let whole = matches!(state, LayerState::Done | LayerState::Present | LayerState::Unpacking);
        // A gauge may belong to a pull of the same layer in another compression.
        let done = if whole { self.total } else { self.gauge.done.load(Ordering::Relaxed).min(self.total) };
        LayerProgress { digest: self.digest.clone(), done, total: self.total, state }
    }
}

/// A wait that is being shown.
pub(super) struct Resting<'a> {
    progress: &'a Progress,
    ticket: u64,
}

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        self.progress.state().waits.remove(&self.ticket);
    }
}

/// How far one layer is, for all pulls that want it.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    done: AtomicU64,
    state: AtomicU8,
}

const STATES: [LayerState; 5] =
    [LayerState::Waiting, LayerState::Fetching, LayerState::Unpacking, LayerState::Done, LayerState::Present];

impl Gauge {
    pub(super) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
    pub(super) fn restart(&self) {
        self.done.store(0, Ordering::Relaxed);
        self.set(LayerState::Fetching);
    }
    pub(super) fn set(&self, state: LayerState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }
    pub(super) fn state(&self) -> LayerState {
        STATES[usize::from(self.state.load(Ordering::Relaxed)).min(STATES.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_layers_and_waits() {
        let progress = Progress::default();
        let digest = |c: &str| Digest::parse(&format!("sha256:{}", c.repeat(64))).unwrap();
        let gauges = [Arc::new(Gauge::default()), Arc::default()];
        progress.begin([("a", 10), ("b", 20)].iter().zip(&gauges).map(|((c, n), g)| (digest(c), *n, Arc::clone(g))));
        gauges[0].restart();
        gauges[0].add(4);
        gauges[1].set(LayerState::Present);
        let wait = PullWait { reason: "busy".into(), until: Timestamp(7), attempt: 1, of: 5 };
        let shown = progress.wait(wait.clone());
        let snapshot = progress.snapshot();
        assert_eq!((snapshot.done, snapshot.total, snapshot.wait), (24, 30, Some(wait)));
        assert_eq!(snapshot.layers[0].state, LayerState::Fetching);
        drop(shown);
        assert_eq!(progress.snapshot().wait, None);
        gauges[0].set(LayerState::Done);
        assert_eq!((progress.done(), progress.total()), (30, 30));
    }
}
