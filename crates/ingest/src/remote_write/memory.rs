//! Series that senders named before: their labels are recognised, not read.
//!
//! Senders repeat their series in the same order. So every series remembers which one came after it, and the labels
//! in a message are compared with those of that one, where they lie, in the order in which they came the last time (not
//! every sender sorts them): no parsing, no hash, no copy. What does not match is read, looked up by its hash, and learned
//! for the next request.
//!
//! The labels are handed on as a shared pointer. A store that keeps it knows the series again by the pointer.
//!
//! Invariants
//! - M1 A hash finds candidates, the label bytes decide. What is recognised is byte for byte what passed the limits
//!   before: a memory serves one [`Limits`](crate::Limits).
//! - M2 It holds labels and an order, no store's numbers: nothing that happens to a store or a tenant makes an entry
//!   wrong, an order that is no longer true costs a look-up.
//! - M3 It takes no more bytes than it may, as if no store shared them: see [`known`]. Each tenant has a memory of its own, and
//!   what they may have together is shared out by the rules of [`shares`](crate::shares): see [`tenants`].
//! - M4 Who learns never waits longer than for one series of each request that is being read.
//!
//! Lock: one, shared while requests are read and let go of between two series if somebody wants to write. Numbers of
//! entries are guesses after that: they may name another series, or none.

mod known;
mod tenants;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};
use pharos_base::ByteSize;
use pharos_model::{Fingerprint, Labels};

use super::framed;
use crate::Limits;
use crate::shares::{Account, Budget, TenantMemory};
use known::{Entry, Known, LABELS_BYTES_MAX};

/// No series with a sample takes fewer bytes of a body; a bound on what is reserved for one.
const SERIES_BYTES_MIN: usize = 64;

/// What the senders of a tenant have in common; requests share it.
pub struct SeriesMemory {
    known: RwLock<Known>,
    hash: fn(&[u8]) -> Fingerprint,
    /// Bytes of a body for each series of it, as of the last request.
    bytes_per_series: AtomicUsize,
}

/// A request's way through the memory.
pub(super) struct Walk<'a> {
    memory: &'a SeriesMemory,
    known: RwLockReadGuard<'a, Known>,
    at: Place,
    learned: Vec<Learned>,
    /// Known series whose labels came in another order.
    reordered: Vec<Learned>,
}

/// The series named last.
#[derive(Debug, Clone, Copy)]
enum Place {
    Start,
    Known(u32),
    Learned,
}

/// A series that the memory does not know.
struct Learned {
    labels: Labels,
    hash: u64,
    after: Place,
    /// The known series that came next.
    next: Option<u32>,
    order: Option<Box<[u8]>>,
}

impl std::fmt::Debug for SeriesMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeriesMemory").field("series", &self.series_count()).finish_non_exhaustive()
    }
}

impl Default for SeriesMemory {
    /// A memory of the usual size.
    fn default() -> Self {
        Self::new(Limits::default().remote_write_memory_max)
    }
}

impl SeriesMemory {
    /// An empty memory that may take so much.
    #[must_use]
    pub fn new(memory_max: ByteSize) -> Self {
        Self::open(Account::open(&Arc::new(Budget::new(memory_max.0))))
    }

    fn with(hash: fn(&[u8]) -> Fingerprint, known: Known) -> Self {
        Self { known: RwLock::new(known), hash, bytes_per_series: AtomicUsize::new(usize::MAX) }
    }

    /// Series remembered.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.known.read().len()
    }

    /// Memory taken, bytes, as if no store shared the labels.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.known.read().memory_bytes()
    }

    /// Begins a request; [`Walk::finish`] ends it.
    pub(super) fn walk(&self) -> Walk<'_> {
        Walk { memory: self, known: self.known.read(), at: Place::Start, learned: Vec::new(), reordered: Vec::new() }
    }

    /// How many series a body of so many bytes will have, if it is like the last.
    pub(super) fn expected_series(&self, body_bytes: usize) -> usize {
        body_bytes / self.bytes_per_series.load(Ordering::Relaxed)
    }

    /// Notes how many series a body had.
    pub(super) fn note_size(&self, body_bytes: usize, series: usize) {
        if let Some(bytes) = body_bytes.checked_div(series) {
            self.bytes_per_series.store(bytes.max(SERIES_BYTES_MIN), Ordering::Relaxed);
        }
    }

    fn learn(&self, learned: Vec<Learned>) {
        let mut known = self.known.write();
        let mut previous = None;
        for Learned { labels, hash, after, next, order } in learned {
            let Some(number) = known.find(hash, labels.encoded()).or_else(|| known.add(labels, hash)) else {
                continue;
            };
            // Numbers of the walk mean nothing after a sweep; the worst that comes of it is a wrong guess.
            let before = match after {
                Place::Start => None,
                Place::Known(before) => Some(before),
                Place::Learned => previous,
            };
            known.link(before, number);
            known.set_order(number, order);
            if let Some(next) = next {
                known.link(Some(number), next);
            }
            previous = Some(number);
        }
    }
}

impl Walk<'_> {
    /// Recognises the labels at the front of a series' message as those of the series that came next the last time:
    /// the bytes they take and how many pairs they are. [`Walk::labels`] are theirs then.
    #[inline]
    pub(super) fn recognise(&mut self, message: &[u8]) -> Option<(usize, usize)> {
        RwLockReadGuard::bump(&mut self.known);
        let guess = self.guess()?;
        let entry = self.known.entry(guess)?;
        let found = match self.known.order(entry) {
            None => framed::matches(message, entry.labels.encoded()),
            Some(order) => framed::matches_in(order, message, entry.labels.encoded()),
        }?;
        entry.mark_used();
        self.at = Place::Known(guess);
        Some(found)
    }

    /// As [`recognise`](Self::recognise), where `is_it` tells whether a series has these labels in the canonical form.
    #[inline]
    pub(super) fn recognise_by(&mut self, is_it: impl FnOnce(&[u8]) -> bool) -> bool {
        RwLockReadGuard::bump(&mut self.known);
        let Some((guess, entry)) = self.guess().and_then(|guess| Some((guess, self.known.entry(guess)?))) else {
            return false;
        };
        let is_it = is_it(entry.labels.encoded());
        if is_it {
            entry.mark_used();
            self.at = Place::Known(guess);
        }
        is_it
    }

    /// The labels recognised last.
    pub(super) fn labels(&self) -> Option<&Labels> {
        let Place::Known(at) = self.at else { return None };
        self.known.entry(at).map(|entry| &entry.labels)
    }

    /// The shared form of labels that were read, canonical and inside the limits; `order` is that in which they came, if
    /// it was another.
    pub(super) fn look_up(&mut self, encoded: &[u8], order: Option<Box<[u8]>>) -> Labels {
        let hash = self.hash(encoded);
        let Some(number) = self.known.find(hash, encoded) else { return self.learn_later(encoded, hash, order) };
        let labels = self.meet(number);
        if self.known.entry(number).and_then(|entry| self.known.order(entry)) != order.as_deref() {
            let learned = Learned { labels: labels.clone(), hash, after: Place::Start, next: None, order };
            self.reordered.push(learned);
        }
        labels
    }

    /// As [`look_up`](Self::look_up), where no message will ever be compared: in which order the labels came is nothing
    /// to remember.
    pub(super) fn look_up_unordered(&mut self, encoded: &[u8]) -> Labels {
        RwLockReadGuard::bump(&mut self.known);
        let is_next = |guess: &u32| self.known.entry(*guess).is_some_and(|entry| entry.labels.encoded() == encoded);
        if let Some(number) = self.guess().filter(is_next) {
            return self.meet(number);
        }
        let hash = self.hash(encoded);
        match self.known.find(hash, encoded) {
            Some(number) => self.meet(number),
            None => self.learn_later(encoded, hash, None),
        }
    }

    /// Ends the request: what it told is remembered.
    pub(super) fn finish(self) {
        let Self { memory, known, mut learned, mut reordered, .. } = self;
        drop(known);
        learned.append(&mut reordered);
        if !learned.is_empty() {
            memory.learn(learned);
        }
    }

    fn hash(&self, encoded: &[u8]) -> u64 {
        (self.memory.hash)(encoded) as u64
    }

    /// The series that came next the last time.
    #[inline]
    fn guess(&self) -> Option<u32> {
        let Place::Known(at) = self.at else { return None };
        self.known.entry(at).map(Entry::next)
    }

    /// Goes on to a known series.
    fn meet(&mut self, number: u32) -> Labels {
        match (self.at, self.learned.last_mut()) {
            (Place::Known(before), _) => self.known.link(Some(before), number),
            (Place::Learned, Some(before)) => before.next = Some(number),
            _ => {}
        }
        self.at = Place::Known(number);
        self.known.entry(number).map(Entry::meet).unwrap_or_default()
    }

    fn learn_later(&mut self, encoded: &[u8], hash: u64, order: Option<Box<[u8]>>) -> Labels {
        let labels = Labels::from_canonical(encoded);
        if encoded.len() <= LABELS_BYTES_MAX {
            self.learned.push(Learned { labels: labels.clone(), hash, after: self.at, next: None, order });
            self.at = Place::Learned;
        }
        labels
    }
}

pub(crate) use tenants::SeriesMemories;

#[cfg(test)]
mod tests;
