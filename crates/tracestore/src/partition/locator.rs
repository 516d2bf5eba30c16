//! The trace locator of a segment: from a trace id to the blocks that hold it.
//!
//! Beginnings of hashes, sorted, each with a block number, in pages by range of hash: a lookup reads one page. A page may name
//! a block that does not hold the trace (one in some hundred lookups), never leave one out. Bytes: `docs/keys.md`.

use crate::codec::{DecodeError, Reader, Writer};

/// A page holds about so many entries.
const PAGE_ENTRIES: usize = 512;
/// Bits of a hash beyond those that tell as many traces apart as there are: one wrong block in 2^8 lookups.
const SPARE_BITS: u32 = 8;

/// How a segment's pages are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LocatorShape {
    /// Leading bits of a hash that are kept, 9 to 64.
    pub(super) bits: u8,
    pub(super) pages: u32,
}

impl LocatorShape {
    pub(super) fn of(entry_count: usize) -> Self {
        let bits = entry_count.max(2).next_power_of_two().ilog2() + SPARE_BITS;
        Self { bits: bits.min(64) as u8, pages: entry_count.div_ceil(PAGE_ENTRIES).max(1) as u32 }
    }

    /// The page on which a hash stands.
    pub(super) fn page(self, hash: u64) -> u32 {
        // Of what is kept only, so that hashes that are kept as one stand on one page.
        let kept = self.kept(hash) << (64 - u32::from(self.bits));
        ((u128::from(kept) * u128::from(self.pages)) >> 64) as u32
    }

    fn kept(self, hash: u64) -> u64 {
        hash >> (64 - u32::from(self.bits))
    }
}

/// Pages with their numbers, ascending; empty ones are left out. `entries` are hashes and blocks, sorted, each pair once.
pub(super) fn build_pages(shape: LocatorShape, entries: &[(u64, u32)]) -> Vec<(u32, Vec<u8>)> {
    let mut pages: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut last = 0;
    for &(hash, block) in entries {
        let page = shape.page(hash);
        if pages.last().is_none_or(|(number, _)| *number != page) {
            pages.push((page, Vec::new()));
            last = 0;
        }
        let kept = shape.kept(hash);
        if let Some((_, bytes)) = pages.last_mut() {
            bytes.put_varint(kept - last);
            bytes.put_varint(u64::from(block));
        }
        last = kept;
    }
    pages
}

/// The blocks that a page names for a hash, ascending, each once.
pub(super) fn find_blocks(shape: LocatorShape, page: &[u8], hash: u64) -> Result<Vec<u32>, DecodeError> {
    let mut reader = Reader::new(page);
    let (wanted, mut kept) = (shape.kept(hash), 0_u64);
    let mut blocks = Vec::new();
    while !reader.is_empty() {
        let delta = reader.varint("locator hash")?;
        kept = kept.checked_add(delta).ok_or(DecodeError::OutOfRange("locator hash"))?;
        let block = reader.varint_u32("locator block")?;
        if kept > wanted {
            break;
        }
        if kept == wanted {
            blocks.push(block);
        }
    }
    blocks.sort_unstable();
    blocks.dedup();
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    fn page_of(pages: &[(u32, Vec<u8>)], shape: LocatorShape, hash: u64) -> &[u8] {
        pages.iter().find(|(number, _)| *number == shape.page(hash)).map_or(&[], |(_, bytes)| bytes.as_slice())
    }

    #[test]
    fn every_trace_is_found_and_few_wrong_blocks_are_named() {
        let hash = |number: u32| xxh3_64(&number.to_le_bytes());
        let mut entries: Vec<_> = (0..20_000).map(|number| (hash(number), number / 100)).collect();
        entries.push((hash(7), 150));
        entries.sort_unstable();
        let shape = LocatorShape::of(entries.len());
        let pages = build_pages(shape, &entries);
        assert!(pages.len() as u32 <= shape.pages && shape.pages == 40);
        for number in 0..20_000 {
            let blocks = find_blocks(shape, page_of(&pages, shape, hash(number)), hash(number)).unwrap();
            assert!(blocks.contains(&(number / 100)) && (number != 7 || blocks.contains(&150)));
        }
        let wrong = (30_000..40_000)
            .filter(|number| {
                let hash = hash(*number);
                !find_blocks(shape, page_of(&pages, shape, hash), hash).unwrap().is_empty()
            })
            .count();
        assert!(wrong < 60, "{wrong} of 10000");
        let bytes: usize = pages.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes < 20_000 * 4, "{bytes}");
    }

    proptest! {
        #[test]
        fn hostile_pages_never_panic(page: Vec<u8>, hash: u64, entries in 0_usize..100_000) {
            let shape = LocatorShape::of(entries);
            prop_assert!(shape.page(hash) < shape.pages);
            let _ = find_blocks(shape, &page, hash);
        }
    }
}
