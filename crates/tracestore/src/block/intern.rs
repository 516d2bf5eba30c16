//! Distinct values numbered in the order of their first use.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// As much memory as this is kept for the next block, per buffer: one huge value is no reason to keep more.
pub(super) const KEPT_BYTES_MAX: usize = 1 << 20;

/// Empties a buffer, and gives back what is more than the next block probably needs.
pub(super) fn clear_buffer<T>(buffer: &mut Vec<T>) {
    buffer.clear();
    buffer.shrink_to(KEPT_BYTES_MAX / size_of::<T>());
}

/// Numbers byte strings. Cleared, it keeps its memory.
#[derive(Debug, Default)]
pub(super) struct Interner {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    hashes: Vec<u64>,
    table: HashTable<u32>,
}

impl Interner {
    pub(super) fn number(&mut self, value: &[u8]) -> u32 {
        let hash = xxh3_64(value);
        let Self { bytes, ends, hashes, table } = self;
        let found = table.find(hash, |number| slice(bytes, ends, *number as usize) == value);
        if let Some(number) = found {
            return *number;
        }
        let number = ends.len() as u32;
        bytes.extend_from_slice(value);
        ends.push(bytes.len());
        hashes.push(hash);
        table.insert_unique(hash, number, |number| hashes[*number as usize]);
        number
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, number: usize) -> &[u8] {
        slice(&self.bytes, &self.ends, number)
    }

    pub(super) fn clear(&mut self) {
        clear_buffer(&mut self.bytes);
        clear_buffer(&mut self.ends);
        clear_buffer(&mut self.hashes);
        self.table.clear();
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[usize], number: usize) -> &'a [u8] {
    let start = if number == 0 { 0 } else { ends[number - 1] };
    &bytes[start..ends[number]]
}

/// Numbers integers. Cleared, it keeps its memory.
#[derive(Debug, Default)]
pub(super) struct IntInterner {
    values: Vec<i64>,
    table: HashTable<u32>,
}

impl IntInterner {
    pub(super) fn number(&mut self, value: i64) -> u32 {
        let Self { values, table } = self;
        if let Some(number) = table.find(hash_of(value), |number| values[*number as usize] == value) {
            return *number;
        }
        let number = values.len() as u32;
        values.push(value);
        table.insert_unique(hash_of(value), number, |number| hash_of(values[*number as usize]));
        number
    }

    pub(super) fn values(&self) -> &[i64] {
        &self.values
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.table.clear();
    }
}

/// Both halves of the product: the table takes buckets from the low bits and tags from the high ones.
fn hash_of(value: i64) -> u64 {
    let product = u128::from(value as u64 ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
    (product >> 64) as u64 ^ product as u64
}
