//! Value postings: from the hash of a value to the blocks of a segment that may have it.
//!
//! For values that are too many to be terms of the index. Beginnings of hashes, sorted, each with the number of a block,
//! lie in pages by range of hash, packed as Elias and Fano do: a lookup reads one page of about two kilobytes. A page
//! may name a block that does not have the value (about one in 128 lookups of a segment), never leave one out. Bytes:
//! `docs/search.md`.

use crate::codec::{DecodeError, Reader, Writer};

const VERSION: u8 = 1;
/// A page holds about so many entries.
const PAGE_ENTRIES: u64 = 1024;
/// Bits of a hash beyond those that tell as many entries apart as there are.
const SPARE_BITS: u32 = 7;
/// Leading bits of a hash that are kept, at most: enough for 2^33 entries of a segment.
const HASH_BITS_MAX: u32 = 40;
/// As many were kept at most by earlier versions.
const HASH_BITS_READ_MAX: u32 = 56;
const CHECKSUM_BYTES: usize = 4;

/// A value in a block while a segment's postings are gathered, which may be a million: the hash's leading 40 bits, then the
/// number of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ValueEntry(u64);

impl ValueEntry {
    const BLOCK_BITS: u32 = u64::BITS - HASH_BITS_MAX;
    /// A segment with more blocks has no postings.
    pub(crate) const BLOCKS_MAX: u32 = 1 << Self::BLOCK_BITS;

    pub(crate) fn new(hash: u64, block: u32) -> Self {
        debug_assert!(block < Self::BLOCKS_MAX, "a segment's blocks are counted before");
        Self(hash >> Self::BLOCK_BITS << Self::BLOCK_BITS | u64::from(block))
    }

    /// Right in its leading 40 bits.
    fn hash(self) -> u64 {
        self.0
    }

    fn block(self) -> u32 {
        (self.0 & u64::from(Self::BLOCKS_MAX - 1)) as u32
    }
}

/// How the postings of a segment are cut into pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PostingsShape {
    /// Leading bits of a hash that are kept.
    hash_bits: u8,
    block_bits: u8,
    pages: u32,
}

impl PostingsShape {
    /// The shape for so many entries on blocks with numbers below `block_count`.
    pub(crate) fn of(entry_count: u64, block_count: u32) -> Self {
        let hash_bits = bits_for(entry_count) + SPARE_BITS;
        Self {
            hash_bits: hash_bits.min(HASH_BITS_MAX) as u8,
            block_bits: bits_for(block_count.into()) as u8,
            pages: u32::try_from(entry_count.div_ceil(PAGE_ENTRIES)).unwrap_or(u32::MAX).max(1),
        }
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = vec![VERSION, self.hash_bits, self.block_bits];
        out.put_varint(u64::from(self.pages));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.byte("postings version")? {
            VERSION => {}
            other => return Err(DecodeError::Version(other)),
        }
        let (hash_bits, block_bits) = (reader.byte("hash bits")?, reader.byte("block bits")?);
        let pages = reader.varint_u32("postings pages")?;
        if !(SPARE_BITS..=HASH_BITS_READ_MAX).contains(&hash_bits.into())
            || block_bits > 32
            || pages == 0
            || !reader.is_empty()
        {
            return Err(DecodeError::OutOfRange("postings shape"));
        }
        Ok(Self { hash_bits, block_bits, pages })
    }

    fn kept(self, hash: u64) -> u64 {
        hash >> (64 - u32::from(self.hash_bits))
    }

    /// The page on which a hash stands.
    pub(crate) fn page(self, hash: u64) -> u32 {
        // Of what is kept only, so that hashes that are kept as one stand on one page.
        ((u128::from(self.kept(hash)) * u128::from(self.pages)) >> self.hash_bits) as u32
    }

    /// The least kept hash of a page; what comes behind the last page's for its number plus one.
    fn first_kept(self, page: u32) -> u64 {
        ((u128::from(page) << self.hash_bits).div_ceil(self.pages.into())) as u64
    }

    /// Low bits that are kept as they are, of entries of which a page has `count`.
    fn low_bits(self, page: u32, count: u64) -> u32 {
        let range = self.first_kept(page.saturating_add(1)).saturating_sub(self.first_kept(page));
        (range / count.max(1)).max(1).ilog2()
    }
}

/// Bits that numbers below `count` take.
fn bits_for(count: u64) -> u32 {
    u64::BITS - count.saturating_sub(1).leading_zeros()
}

/// Pages with their numbers, ascending; empty ones are left out. `entries` are sorted, each once.
pub(crate) fn build_pages(shape: PostingsShape, entries: &[ValueEntry]) -> impl Iterator<Item = (u32, Vec<u8>)> {
    let of_pages = entries.chunk_by(move |one, other| shape.page(one.hash()) == shape.page(other.hash()));
    of_pages.map(move |of_page| {
        let page = shape.page(of_page[0].hash());
        // Hashes may differ in what is cut off only.
        let mut kept: Vec<_> = of_page.iter().map(|entry| (shape.kept(entry.hash()), entry.block())).collect();
        kept.sort_unstable();
        kept.dedup();
        (page, build_page(shape, page, &kept))
    })
}

fn build_page(shape: PostingsShape, page: u32, entries: &[(u64, u32)]) -> Vec<u8> {
    let first = shape.first_kept(page);
    let low_bits = shape.low_bits(page, entries.len() as u64);
    let mut out = Vec::new();
    out.put_varint(entries.len() as u64);
    let high_len = entries.last().map_or(0, |(kept, _)| (kept - first) >> low_bits) as usize + entries.len();
    let start = out.len();
    out.resize(start + high_len.div_ceil(8), 0);
    for (number, (kept, _)) in entries.iter().enumerate() {
        let bit = ((kept - first) >> low_bits) as usize + number;
        out[start + bit / 8] |= 1 << (bit % 8);
    }
    let width = low_bits + u32::from(shape.block_bits);
    let (mut pending, mut pending_bits) = (0_u128, 0);
    for (kept, block) in entries {
        let low = (kept - first) & ((1 << low_bits) - 1);
        pending |= u128::from(low | u64::from(*block) << low_bits) << pending_bits;
        pending_bits += width;
        while pending_bits >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            pending_bits -= 8;
        }
    }
    if pending_bits > 0 {
        out.push(pending as u8);
    }
    let checksum = crc32fast::hash(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// The blocks that page number `page` names for a hash that stands there, ascending, each once.
pub(crate) fn find_blocks(shape: PostingsShape, bytes: &[u8], hash: u64) -> Result<Vec<u32>, DecodeError> {
    find_in_postings(shape, checked_page(bytes)?, hash)
}

/// What a page holds, if its checksum says that it is sound.
pub(crate) fn checked_page(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(DecodeError::Truncated("postings"))?;
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return Err(DecodeError::Checksum("page of value postings"));
    }
    Ok(content)
}

/// As [`find_blocks`], of a page without its checksum.
pub(crate) fn find_in_postings(shape: PostingsShape, content: &[u8], hash: u64) -> Result<Vec<u32>, DecodeError> {
    let page = shape.page(hash);
    let mut reader = Reader::new(content);
    let count = reader.count("postings count")?;
    let low_bits = shape.low_bits(page, count as u64);
    let width = low_bits + u32::from(shape.block_bits);
    let lows_len = (count as u64 * u64::from(width)).div_ceil(8) as usize;
    let high_len = reader.remaining().checked_sub(lows_len).ok_or(DecodeError::Truncated("postings"))?;
    let highs = reader.take(high_len, "postings")?;
    let lows = reader.take(lows_len, "postings")?;
    let wanted = shape.kept(hash).wrapping_sub(shape.first_kept(page));
    let (wanted_high, wanted_low) = (wanted >> low_bits, wanted & ((1 << low_bits) - 1));
    let mut blocks = Vec::new();
    // Ones are entries, zeros step from one high part to the next.
    let (mut number, mut high) = (0_usize, 0_u64);
    'highs: for byte in highs {
        if high + u64::from(byte.count_zeros()) < wanted_high {
            high += u64::from(byte.count_zeros());
            number += byte.count_ones() as usize;
            continue;
        }
        for bit in 0..8 {
            if byte & 1 << bit == 0 {
                high += 1;
                if high > wanted_high {
                    break 'highs;
                }
                continue;
            }
            if number >= count {
                return Err(DecodeError::OutOfRange("postings"));
            }
            if high == wanted_high {
                let packed = load(lows, number * width as usize, width);
                if packed & ((1 << low_bits) - 1) == u128::from(wanted_low) {
                    blocks.push((packed >> low_bits) as u32);
                }
            }
            number += 1;
        }
    }
    blocks.sort_unstable();
    blocks.dedup();
    Ok(blocks)
}

/// `width` bits, at most 96, from `bit` on.
fn load(bits: &[u8], bit: usize, width: u32) -> u128 {
    let rest = bits.get(bit / 8..).unwrap_or_default();
    let mut word = [0; 16];
    let taken = rest.len().min(16);
    word[..taken].copy_from_slice(&rest[..taken]);
    u128::from_le_bytes(word) >> (bit % 8) & ((1 << width) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    fn hash(number: u64) -> u64 {
        xxh3_64(&number.to_le_bytes())
    }

    fn built(entries: &[(u64, u32)], block_count: u32) -> (PostingsShape, Vec<(u32, Vec<u8>)>) {
        let mut packed: Vec<_> = entries.iter().map(|(hash, block)| ValueEntry::new(*hash, *block)).collect();
        packed.sort_unstable();
        packed.dedup();
        let shape = PostingsShape::of(packed.len() as u64, block_count);
        let shape = PostingsShape::decode(&shape.encode()).unwrap();
        (shape, build_pages(shape, &packed).collect())
    }

    fn lookup(shape: PostingsShape, pages: &[(u32, Vec<u8>)], hash: u64) -> Vec<u32> {
        let page = pages.binary_search_by_key(&shape.page(hash), |(number, _)| *number);
        page.map_or(Vec::new(), |at| find_blocks(shape, &pages[at].1, hash).unwrap())
    }

    #[test]
    fn nothing_is_left_out_little_is_added_and_a_value_takes_two_bytes() {
        for (count, blocks) in [(1_u64, 1_u32), (700, 4), (60_000, 32), (300_000, 32), (300_000, 500)] {
            let mut entries: Vec<_> =
                (0..count).map(|number| (hash(number), (number % u64::from(blocks)) as u32)).collect();
            entries.push((hash(0), blocks - 1));
            let (shape, pages) = built(&entries, blocks);
            for (hash, block) in &entries {
                assert!(lookup(shape, &pages, *hash).contains(block));
            }
            let wrong: usize = (count..count + 20_000).map(|number| lookup(shape, &pages, hash(number)).len()).sum();
            assert!(wrong < 20_000 / 128 * 2, "{wrong} of 20000 with {count}");
            if count > 10_000 {
                let bytes: usize = pages.iter().map(|(_, bytes)| bytes.len()).sum();
                let per_value = bytes as f64 / count as f64;
                let expected = (2.0 + 7.5 + f64::from(bits_for(blocks.into()))) / 8.0;
                assert!(per_value < expected + 0.1, "{per_value} bytes a value, {blocks} blocks");
                let largest = pages.iter().map(|(_, bytes)| bytes.len()).max().unwrap();
                assert!(largest < 3 << 10, "{largest}");
            }
        }
    }

    #[test]
    fn damage_is_named() {
        let entries: Vec<_> = (0..2000).map(|number| (hash(number), 3)).collect();
        let (shape, pages) = built(&entries, 8);
        let (number, page) = &pages[0];
        let on_page = entries.iter().find(|(hash, _)| shape.page(*hash) == *number).unwrap().0;
        for at in 0..page.len() {
            let mut damaged = page.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(find_blocks(shape, &damaged, on_page).is_err());
        }
        assert!(PostingsShape::decode(&[2, 20, 3, 1]).is_err() && PostingsShape::decode(&[1, 60, 3, 1]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_entries_are_found(numbers in proptest::collection::vec((any::<u64>(), 0_u32..70), 1..3000), shift in 0_u32..40) {
            // Shifted, hashes crowd on few pages.
            let entries: Vec<_> = numbers.iter().map(|(hash, block)| (hash >> shift, *block)).collect();
            let (shape, pages) = built(&entries, 70);
            for (hash, block) in &entries {
                prop_assert!(lookup(shape, &pages, *hash).contains(block));
            }
        }

        #[test]
        fn hostile_pages_never_panic(page: Vec<u8>, shape: Vec<u8>, entries in 0_u64..100_000, blocks: u32, hash: u64) {
            let _ = PostingsShape::decode(&shape);
            let shape = PostingsShape::of(entries, blocks);
            prop_assert!(shape.page(hash) < shape.pages);
            let _ = find_in_postings(shape, &page, hash);
        }
    }
}
