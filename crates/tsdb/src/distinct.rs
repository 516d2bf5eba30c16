//! Texts that come from many places, each once, and of them the alphabetically first: what listings are made of.
//!
//! Memory is bounded by the limit of the listing, and by the budget of the read where there is none.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use pharos_base::Reservation;
use pharos_storage::{ReadContext, StorageError};

/// Cancellation is asked, and the books are brought up to date, after so many texts.
const CHECKED_TEXTS: usize = 1024;
/// Up to so many texts more than the limit are collected before the last ones are dropped.
const SURPLUS_MIN: usize = 1024;
/// What a text takes beside its bytes: itself and its slot.
const TEXT_BYTES: usize = size_of::<String>() + 8;

/// The alphabetically first texts of those added.
pub(crate) struct Distinct<'a> {
    context: &'a ReadContext,
    limit: usize,
    texts: Vec<String>,
    table: HashTable<u32>,
    /// Texts after this one are not among the first.
    last: Option<String>,
    /// Since the books were brought up to date.
    added: usize,
    bytes: usize,
    held: Reservation,
    failed: Option<StorageError>,
}

fn hash(text: &str) -> u64 {
    FixedState::default().hash_one(text)
}

impl<'a> Distinct<'a> {
    /// Of at most `limit` texts.
    ///
    /// # Errors
    /// [`StorageError::Memory`] if the budget is spent already.
    pub(crate) fn new(limit: usize, context: &'a ReadContext) -> Result<Self, StorageError> {
        let (texts, table, held) = (Vec::new(), HashTable::new(), context.memory.reserve(0)?);
        Ok(Self { context, limit, texts, table, last: None, added: 0, bytes: 0, held, failed: None })
    }

    /// Adds a text; false if no more are wanted, of which [`Distinct::first`] tells the reason.
    pub(crate) fn add(&mut self, text: &str) -> bool {
        self.added += 1;
        if self.added >= CHECKED_TEXTS
            && let Err(error) = self.check()
        {
            self.failed.get_or_insert(error);
            return false;
        }
        if self.last.as_deref().is_some_and(|last| text > last) {
            return true;
        }
        let (texts, hashed) = (&mut self.texts, hash(text));
        if self.table.find(hashed, |at| texts[*at as usize] == text).is_none() {
            self.table.insert_unique(hashed, texts.len() as u32, |at| hash(&texts[*at as usize]));
            texts.push(text.to_owned());
            self.bytes += TEXT_BYTES + text.len();
            if self.texts.len() >= self.limit.saturating_mul(2).saturating_add(SURPLUS_MIN) {
                self.drop_last();
            }
        }
        true
    }

    fn check(&mut self) -> Result<(), StorageError> {
        self.added = 0;
        self.context.check()?;
        self.held.grow(self.bytes as u64)?;
        self.bytes = 0;
        Ok(())
    }

    /// Leaves the first texts only.
    fn drop_last(&mut self) {
        if self.limit >= self.texts.len() {
            return;
        }
        self.texts.select_nth_unstable(self.limit);
        self.texts.truncate(self.limit);
        self.last = self.texts.iter().max().cloned();
        self.table.clear();
        for (at, text) in self.texts.iter().enumerate() {
            self.table.insert_unique(hash(text), at as u32, |at| hash(&self.texts[*at as usize]));
        }
    }

    /// The first texts, sorted.
    ///
    /// # Errors
    /// Those of [`ReadContext`] met on the way.
    pub(crate) fn first(mut self) -> Result<Vec<String>, StorageError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.check()?;
        self.drop_last();
        // They came in a few sorted runs, which this sort merges.
        self.texts.sort();
        Ok(self.texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pharos_base::{CancelToken, MemoryBudget};

    #[test]
    fn the_first_texts_are_kept_in_memory_for_about_twice_as_many() {
        let context = ReadContext::unlimited();
        let mut distinct = Distinct::new(5, &context).unwrap();
        for number in (0..100_000).rev().chain(0..50_000) {
            assert!(distinct.add(&format!("{number:06}")));
            assert!(distinct.texts.len() <= 10 + SURPLUS_MIN);
        }
        assert_eq!(distinct.first().unwrap(), ["000000", "000001", "000002", "000003", "000004"]);
        assert!(Distinct::new(0, &context).unwrap().first().unwrap().is_empty());
    }

    #[test]
    fn the_budget_and_cancellation_end_a_listing() {
        let small = ReadContext { memory: MemoryBudget::new(1 << 20), ..ReadContext::unlimited() };
        let cancelled = ReadContext { cancel: CancelToken::new(), ..ReadContext::unlimited() };
        cancelled.cancel.cancel();
        for context in [&small, &cancelled] {
            let mut distinct = Distinct::new(usize::MAX, context).unwrap();
            let added = (0..1_000_000).take_while(|number| distinct.add(&number.to_string())).count();
            assert!(added < 40_000, "{added}");
            assert!(distinct.first().is_err());
        }
    }
}
