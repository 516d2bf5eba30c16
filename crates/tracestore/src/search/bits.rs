//! A set of records by number.

/// Which of `len` records are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    pub(crate) fn none(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    pub(crate) fn all(len: usize) -> Self {
        let mut bits = Self { words: vec![u64::MAX; len.div_ceil(64)], len };
        bits.trim();
        bits
    }

    fn trim(&mut self) {
        if let Some(last) = self.words.last_mut().filter(|_| !self.len.is_multiple_of(64)) {
            *last &= (1 << (self.len % 64)) - 1;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, record: usize) {
        debug_assert!(record < self.len, "a record of the set's level");
        self.words[record / 64] |= 1 << (record % 64);
    }

    pub(crate) fn contains(&self, record: usize) -> bool {
        self.words.get(record / 64).is_some_and(|word| word & 1 << (record % 64) != 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many are in.
    pub(crate) fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn keep(&mut self, others: &Self) {
        self.words.iter_mut().zip(&others.words).for_each(|(word, other)| *word &= other);
    }

    pub(crate) fn add(&mut self, others: &Self) {
        self.words.iter_mut().zip(&others.words).for_each(|(word, other)| *word |= other);
    }

    pub(crate) fn remove(&mut self, others: &Self) {
        self.words.iter_mut().zip(&others.words).for_each(|(word, other)| *word &= !other);
    }

    /// Ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(index * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_any_length_are_sets() {
        for len in [0, 1, 63, 64, 65, 200] {
            let all = Bits::all(len);
            assert_eq!((all.iter().count(), all.count(), all.is_empty()), (len, len, len == 0));
            let mut odd = Bits::none(len);
            (0..len).filter(|record| record % 2 == 1).for_each(|record| odd.insert(record));
            let mut even = all.clone();
            even.remove(&odd);
            assert_eq!(even.iter().collect::<Vec<_>>(), (0..len).step_by(2).collect::<Vec<_>>());
            let mut both = even.clone();
            both.add(&odd);
            assert_eq!(both, all);
            both.keep(&odd);
            assert_eq!(both, odd);
            assert!(!all.contains(len) && (0..len).all(|record| odd.contains(record) == (record % 2 == 1)));
        }
    }
}
