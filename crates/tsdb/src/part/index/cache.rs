//! Decoded blocks of the indexes of all parts, bounded in memory. Each was read, verified and inflated once.
//!
//! When it is full, the block that was longest without use goes, roughly: a hand goes round over all and
//! takes the first that was not used since it passed last.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::segment::{Columns, Shapes};
use super::values::Values;

/// A block, decoded.
#[derive(Debug, Clone)]
pub(super) enum Decoded {
    Values(Arc<Values>),
    Shapes(Arc<Shapes>),
    Columns(Arc<Columns>),
}

/// Which index, and where in its file.
type Key = (u64, u64);

/// The cache. A size of 0 keeps nothing.
#[derive(Debug)]
pub(crate) struct IndexCache {
    bytes_max: usize,
    next_owner: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// In the order in which the hand passes; may name entries that are gone.
    order: VecDeque<Key>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    block: Decoded,
    bytes: usize,
    used: bool,
}

impl IndexCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, next_owner: AtomicU64::new(0), state: Mutex::default() }
    }

    /// A number for an index, unique in this cache.
    pub(super) fn register(&self) -> u64 {
        self.next_owner.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn get(&self, owner: u64, offset: u64) -> Option<Decoded> {
        let mut state = self.state.lock();
        let entry = state.entries.get_mut(&(owner, offset))?;
        entry.used = true;
        Some(entry.block.clone())
    }

    pub(super) fn insert(&self, owner: u64, offset: u64, block: Decoded) {
        let bytes = block.memory() + size_of::<Entry>() + 2 * size_of::<Key>();
        if bytes > self.bytes_max {
            return;
        }
        let mut state = self.state.lock();
        while state.bytes + bytes > self.bytes_max {
            let Some(key) = state.order.pop_front() else { break };
            match state.entries.get_mut(&key) {
                Some(entry) if entry.used => {
                    entry.used = false;
                    state.order.push_back(key);
                }
                Some(_) => state.remove(key),
                None => {}
            }
        }
        state.remove((owner, offset));
        state.bytes += bytes;
        state.order.push_back((owner, offset));
        state.entries.insert((owner, offset), Entry { block, bytes, used: false });
    }

    /// Forgets everything of an index.
    pub(super) fn forget(&self, owner: u64) {
        let mut state = self.state.lock();
        let State { entries, order, bytes } = &mut *state;
        entries.retain(|(of, _), entry| {
            let stays = *of != owner;
            *bytes -= if stays { 0 } else { entry.bytes };
            stays
        });
        order.retain(|(of, _)| *of != owner);
    }
}

impl State {
    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            self.bytes -= entry.bytes;
        }
    }
}

impl Decoded {
    fn memory(&self) -> usize {
        match self {
            Self::Values(values) => values.memory(),
            Self::Shapes(shapes) => shapes.memory(),
            Self::Columns(columns) => columns.memory(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Decoded {
        Decoded::Values(Arc::default())
    }

    #[test]
    fn what_is_used_stays_and_the_bound_holds() {
        let one = size_of::<Entry>() + 2 * size_of::<Key>();
        let cache = IndexCache::new(4 * one);
        for offset in 0..100 {
            cache.insert(7, offset, block());
            assert!(cache.get(7, 0).is_some(), "used between any two insertions");
            assert!(cache.state.lock().bytes <= 4 * one);
        }
        assert!(cache.get(7, 99).is_some() && cache.get(7, 50).is_none() && cache.get(8, 99).is_none());
        cache.forget(7);
        let state = cache.state.lock();
        assert_eq!((state.bytes, state.entries.len(), state.order.len()), (0, 0, 0));
    }

    #[test]
    fn a_cache_of_no_size_keeps_nothing() {
        let cache = IndexCache::new(0);
        cache.insert(1, 1, block());
        assert!(cache.get(1, 1).is_none());
    }
}
