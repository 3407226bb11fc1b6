//! Makes what several layers wrote durable with as few flushes as possible.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A flush that is shared: who comes while one is under way waits for the next, together with all others who wait.
///
/// A flush covers everything that was written before it began, so one is enough for all who asked before.
#[derive(Debug, Default)]
pub(in crate::image) struct Settling {
    asked: AtomicU64,
    settled: Mutex<u64>,
}

impl Settling {
    /// Returns when a flush that began after this call is done.
    pub(in crate::image) fn settle(&self, flush: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if *settled >= mine {
            return Ok(());
        }
        let all = self.asked.load(Ordering::SeqCst);
        flush()?;
        *settled = all;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_share_one_flush() {
        let (settling, flushes) = (Settling::default(), AtomicU64::new(0));
        let flush = || {
            flushes.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        std::thread::scope(|scope| {
            let held = settling.settled.lock().unwrap();
            for _ in 0..8 {
                scope.spawn(|| settling.settle(flush).unwrap());
            }
            while settling.asked.load(Ordering::SeqCst) < 8 {
                std::thread::yield_now();
            }
            drop(held);
        });
        assert_eq!(flushes.load(Ordering::SeqCst), 1);
        settling.settle(flush).unwrap();
        assert_eq!(flushes.load(Ordering::SeqCst), 2, "who comes later needs a flush of his own");
        assert!(settling.settle(|| Err(io::Error::other("disk"))).is_err());
        settling.settle(flush).unwrap();
        assert_eq!(flushes.load(Ordering::SeqCst), 3, "a failed flush covers nobody");
    }
}
