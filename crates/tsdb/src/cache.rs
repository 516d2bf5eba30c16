//! Decoded blocks of parts, shared by all queries, in bounded memory.
//!
//! What is in here was read whole, its checksum was right, and it made sense: a hit costs one look-up. Blocks
//! of bodies are not kept: they are read by pieces, from the system's page cache, once their checksum was seen
//! to be right.
//!
//! Invariants
//! - C1 An entry's weight is fixed when it goes in and covers what it holds on the heap.
//! - C2 A part is known by the number it got when it was opened, not by the one on disk, which folders that somebody
//!   copied share: an entry is never found for another part; [`BlockCache::forget`] only gives memory back sooner.

use std::sync::Arc;

use pharos_base::ByteSize;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::TsdbError;
use crate::part::chunks::{ChunkBlock, TimesBlock};
use crate::part::tails::Tails;

/// What an entry costs besides its content.
const ENTRY_BYTES: u64 = 96;
/// Entries the tables are made for at first; they grow.
const ENTRIES_AT_FIRST: usize = 256;

/// Which block of which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    part: u64,
    kind: Kind,
    number: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Chunks,
    Times,
    Instants,
    Tails,
}

#[derive(Debug, Clone)]
enum Entry {
    Chunks(Arc<ChunkBlock>),
    Times(Arc<TimesBlock>),
    Instants(Arc<[i64]>),
    Tails(Arc<Tails>),
}

#[derive(Debug, Clone, Copy)]
struct Bytes;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        ENTRY_BYTES
            + match entry {
                Entry::Chunks(block) => block.bytes(),
                Entry::Times(block) => block.bytes(),
                Entry::Instants(instants) => size_of_val(instants.as_ref()) as u64,
                Entry::Tails(tails) => tails.bytes(),
            }
    }
}

/// The cache. Two threads that miss at once both load: nobody waits for another's disk.
#[derive(Debug)]
pub(crate) struct BlockCache {
    entries: Cache<Key, Entry, Bytes>,
}

impl BlockCache {
    /// A cache of at most `memory_max`; nothing is kept at 0.
    pub(crate) fn new(memory_max: ByteSize) -> Self {
        Self { entries: Cache::with_weighter(ENTRIES_AT_FIRST, memory_max.0, Bytes) }
    }

    /// The chunk headers of block `number`.
    pub(crate) fn chunks(
        &self,
        part: u64,
        number: u32,
        load: impl FnOnce() -> Result<ChunkBlock, TsdbError>,
    ) -> Result<Arc<ChunkBlock>, TsdbError> {
        let key = Key { part, kind: Kind::Chunks, number };
        if let Some(Entry::Chunks(found)) = self.entries.get(&key) {
            return Ok(found);
        }
        let loaded = Arc::new(load()?);
        self.entries.insert(key, Entry::Chunks(Arc::clone(&loaded)));
        Ok(loaded)
    }

    /// Block `number` of encoded columns of instants.
    pub(crate) fn times(
        &self,
        part: u64,
        number: u32,
        load: impl FnOnce() -> Result<TimesBlock, TsdbError>,
    ) -> Result<Arc<TimesBlock>, TsdbError> {
        let key = Key { part, kind: Kind::Times, number };
        if let Some(Entry::Times(found)) = self.entries.get(&key) {
            return Ok(found);
        }
        let loaded = Arc::new(load()?);
        self.entries.insert(key, Entry::Times(Arc::clone(&loaded)));
        Ok(loaded)
    }

    /// The decoded column of instants `number`.
    pub(crate) fn instants(
        &self,
        part: u64,
        number: u32,
        load: impl FnOnce() -> Result<Arc<[i64]>, TsdbError>,
    ) -> Result<Arc<[i64]>, TsdbError> {
        let key = Key { part, kind: Kind::Instants, number };
        if let Some(Entry::Instants(found)) = self.entries.get(&key) {
            return Ok(found);
        }
        let loaded = load()?;
        self.entries.insert(key, Entry::Instants(Arc::clone(&loaded)));
        Ok(loaded)
    }

    /// The newest samples of the series of block `number`, if they are known.
    pub(crate) fn known_tails(&self, part: u64, number: u32) -> Option<Arc<Tails>> {
        match self.entries.get(&Key { part, kind: Kind::Tails, number }) {
            Some(Entry::Tails(found)) => Some(found),
            _ => None,
        }
    }

    /// Keeps the newest samples of the series of block `number`.
    pub(crate) fn keep_tails(&self, part: u64, number: u32, tails: Arc<Tails>) {
        self.entries.insert(Key { part, kind: Kind::Tails, number }, Entry::Tails(tails));
    }

    /// Drops everything of a part.
    pub(crate) fn forget(&self, part: u64) {
        self.entries.retain(|key, _| key.part != part);
    }

    /// Bytes held now.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(cache: &BlockCache, part: u64) {
        for number in 0..100 {
            cache.instants(part, number, || Ok(vec![0; 1000].into())).unwrap();
        }
    }

    #[test]
    fn memory_is_bounded_and_a_forgotten_part_gives_it_back() {
        let cache = BlockCache::new(ByteSize::mib(1));
        (1..10).for_each(|part| fill(&cache, part));
        assert!(cache.bytes() <= 1 << 20 && cache.bytes() > 1 << 18, "{} bytes", cache.bytes());
        (1..10).for_each(|part| cache.forget(part));
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn a_second_look_does_not_load_again() {
        let cache = BlockCache::new(ByteSize::mib(1));
        cache.instants(1, 7, || Ok(vec![5].into())).unwrap();
        let found = cache.instants(1, 7, || panic!("it is there")).unwrap();
        assert_eq!(*found, [5]);
        let other = cache.instants(2, 7, || Ok(vec![6].into())).unwrap();
        assert_eq!(*other, [6], "parts do not see each other");
    }

    #[test]
    fn what_failed_to_load_is_asked_for_again() {
        let cache = BlockCache::new(ByteSize::mib(1));
        assert!(cache.instants(1, 7, || Err(TsdbError::Stopped)).is_err());
        assert!(cache.instants(1, 7, || Ok(vec![5].into())).is_ok());
    }
}
