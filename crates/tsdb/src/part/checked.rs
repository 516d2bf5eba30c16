//! Which blocks of a file were read whole and had the right checksum, since the part was opened.

use std::sync::atomic::{AtomicU64, Ordering};

/// A set of block numbers that only grows; shared by all readers.
#[derive(Debug)]
pub(super) struct CheckedBlocks(Box<[AtomicU64]>);

impl CheckedBlocks {
    /// For blocks `0..count`.
    pub(super) fn new(count: usize) -> Self {
        Self((0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Numbers beyond the count are never in it.
    pub(super) fn contains(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word.load(Ordering::Relaxed) & bit(number) != 0)
    }

    pub(super) fn insert(&self, number: u32) {
        if let Some(word) = self.0.get(number as usize / 64) {
            word.fetch_or(bit(number), Ordering::Relaxed);
        }
    }
}

fn bit(number: u32) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_remembered_one_by_one() {
        let checked = CheckedBlocks::new(100);
        checked.insert(64);
        checked.insert(1000);
        let found: Vec<u32> = (0..1001).filter(|number| checked.contains(*number)).collect();
        assert_eq!(found, [64]);
    }
}
