//! What running pulls count on: found present, but no reference leads there yet. A sweep leaves it alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::Digest;

/// Digests of layers and blobs, each with the number of those who count on it.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<BTreeMap<Digest, usize>>);

/// A share in some digests, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    holds: Arc<Holds>,
    digests: Vec<Digest>,
}

impl Holds {
    /// Whoever looks for something afterwards and finds it, keeps it.
    pub(super) fn hold(self: &Arc<Self>, digests: impl IntoIterator<Item = Digest>) -> Hold {
        let digests: Vec<_> = digests.into_iter().collect();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in &digests {
            *held.entry(digest.clone()).or_default() += 1;
        }
        drop(held);
        Hold { holds: Arc::clone(self), digests }
    }

    /// Does something short to a digest that nobody holds, and lets nobody take hold of it meanwhile.
    pub(super) fn unless_held<T>(&self, digest: &Digest, work: impl FnOnce() -> T) -> Option<T> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!held.contains_key(digest)).then(work)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.holds.0.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in &self.digests {
            if let Some(count) = held.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    held.remove(digest);
                }
            }
        }
    }
}
