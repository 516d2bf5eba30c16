//! Decoded blocks of the indexes of all parts, bounded in memory. Each was read, verified and inflated once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::segment::{Columns, Shapes};
use super::values::Values;

/// What an entry costs besides its content.
const ENTRY_BYTES: u64 = 96;
/// Entries the tables are made for at first; they grow.
const ENTRIES_AT_FIRST: usize = 256;

/// A block, decoded.
#[derive(Debug, Clone)]
pub(super) enum Decoded {
    Values(Arc<Values>),
    Shapes(Arc<Shapes>),
    Columns(Arc<Columns>),
}

/// Which index, and where in its file.
type Key = (u64, u64);

#[derive(Debug, Clone, Copy)]
struct Bytes;

impl Weighter<Key, Decoded> for Bytes {
    fn weight(&self, _: &Key, block: &Decoded) -> u64 {
        ENTRY_BYTES
            + match block {
                Decoded::Values(values) => values.memory(),
                Decoded::Shapes(shapes) => shapes.memory(),
                Decoded::Columns(columns) => columns.memory(),
            } as u64
    }
}

/// The cache. A size of 0 keeps nothing. Two threads that miss at once both load: nobody waits for another's disk.
#[derive(Debug)]
pub(crate) struct IndexCache {
    next_owner: AtomicU64,
    entries: Cache<Key, Decoded, Bytes>,
}

impl IndexCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { next_owner: AtomicU64::new(0), entries: Cache::with_weighter(ENTRIES_AT_FIRST, bytes_max as u64, Bytes) }
    }

    /// A number for an index, unique in this cache.
    pub(super) fn register(&self) -> u64 {
        self.next_owner.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn get(&self, owner: u64, offset: u64) -> Option<Decoded> {
        self.entries.get(&(owner, offset))
    }

    pub(super) fn insert(&self, owner: u64, offset: u64, block: Decoded) {
        self.entries.insert((owner, offset), block);
    }

    /// Forgets everything of an index.
    pub(super) fn forget(&self, owner: u64) {
        self.entries.retain(|(of, _), _| *of != owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Decoded {
        Decoded::Values(Arc::default())
    }

    #[test]
    fn the_bound_holds_and_a_forgotten_index_gives_its_memory_back() {
        let cache = IndexCache::new(100 * ENTRY_BYTES as usize);
        for offset in 0..1000 {
            cache.insert(7, offset, block());
            cache.insert(8, offset, block());
        }
        let held = cache.entries.weight();
        assert!(held <= 100 * ENTRY_BYTES && held > 50 * ENTRY_BYTES, "{held} bytes");
        cache.forget(7);
        assert!((0..1000).all(|offset| cache.get(7, offset).is_none()));
        cache.forget(8);
        assert_eq!(cache.entries.weight(), 0);
    }

    #[test]
    fn a_cache_of_no_size_keeps_nothing() {
        let cache = IndexCache::new(0);
        cache.insert(1, 1, block());
        assert!(cache.get(1, 1).is_none());
    }
}
