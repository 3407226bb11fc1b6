//! Makes what several layers wrote durable with as few flushes as possible.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So long a finished layer waits for those that are still being written, to share their flush.
const PATIENCE: Duration = Duration::from_millis(500);

/// A flush that is shared by all who are done when it begins. It begins once nobody writes any more, or when one has
/// waited long enough.
#[derive(Debug, Default)]
pub(in crate::image) struct Settling {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Who still writes.
    writing: usize,
    /// Who asked for a flush, and how many of them one that succeeded has covered.
    asked: u64,
    settled: u64,
    flushing: bool,
}

/// Somebody writes what will have to be settled. Dropped when it is written, or given up.
#[derive(Debug)]
pub(in crate::image) struct Writing<'a>(&'a Settling);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.state().writing -= 1;
        self.0.changed.notify_all();
    }
}

impl Settling {
    pub(in crate::image) fn writing(&self) -> Writing<'_> {
        self.state().writing += 1;
        Writing(self)
    }

    /// Returns when a flush that began after this call is done.
    pub(in crate::image) fn settle(&self, flush: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.state();
        state.asked += 1;
        let mine = state.asked;
        loop {
            if state.settled >= mine {
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.flushing {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else if state.writing > 0 && !left.is_zero() {
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            } else {
                break;
            }
        }
        state.flushing = true;
        let all = state.asked;
        drop(state);
        let flushed = flush();
        let mut state = self.state();
        state.flushing = false;
        if flushed.is_ok() {
            state.settled = all;
        }
        self.changed.notify_all();
        flushed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn those_who_wait_share_one_flush() {
        let (settling, flushes) = (Settling::default(), AtomicU64::new(0));
        let flush = || {
            flushes.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        std::thread::scope(|scope| {
            let writing = settling.writing();
            for _ in 0..8 {
                scope.spawn(|| settling.settle(flush).unwrap());
            }
            while settling.state().asked < 8 {
                std::thread::yield_now();
            }
            drop(writing);
        });
        assert_eq!(flushes.load(Ordering::SeqCst), 1);
        settling.settle(flush).unwrap();
        assert_eq!(flushes.load(Ordering::SeqCst), 2, "who comes later needs a flush of his own");
        assert!(settling.settle(|| Err(io::Error::other("disk"))).is_err());
        settling.settle(flush).unwrap();
        assert_eq!(flushes.load(Ordering::SeqCst), 3, "a failed flush covers nobody");
    }

    #[test]
    fn nobody_waits_for_ever_for_one_who_writes() {
        let settling = Settling::default();
        let writing = settling.writing();
        settling.settle(|| Ok(())).unwrap();
        drop(writing);
    }
}
