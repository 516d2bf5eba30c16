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
//! - M3 Entries that no store shares and no request named again since the last sweep go with the next one, which comes
//!   when their number has doubled; there are never more than `series_max`.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering};

use hashbrown::HashTable;
use parking_lot::{RwLock, RwLockReadGuard};
use pharos_model::{Fingerprint, Labels};

use super::framed;

/// Series remembered at most: 40 bytes each beside the labels, which stores share.
const SERIES_MAX: usize = 2_000_000;
/// Fewer are not worth a sweep; a store that shares no labels has so many of its series recognised.
const SWEEP_MIN: usize = 65_536;
/// Orders of labels remembered; a fleet of exporters has some dozens.
const ORDERS_MAX: usize = 1024;
/// The place of no order.
const CANONICAL: u16 = u16::MAX;
/// No series with a sample takes fewer bytes of a body; a bound on what is reserved for one.
const SERIES_BYTES_MIN: usize = 64;

/// What all senders of remote write have in common; requests share it.
pub struct SeriesMemory {
    known: RwLock<Known>,
    hash: fn(&[u8]) -> Fingerprint,
    series_max: usize,
    sweep_min: usize,
    /// Bytes of a body for each series of it, as of the last request.
    bytes_per_series: AtomicUsize,
}

#[derive(Default)]
struct Known {
    entries: Vec<Entry>,
    by_hash: HashTable<u32>,
    /// Orders of labels other than the canonical one, as senders name them.
    orders: Vec<Box<[u8]>>,
    /// Entries that the last sweep left.
    swept: usize,
}

struct Entry {
    labels: Labels,
    /// The series that came after it.
    next: AtomicU32,
    /// Place in `orders` of how its labels come, or [`CANONICAL`].
    order: AtomicU16,
    /// Whether a request named it again since the last sweep.
    is_used: AtomicBool,
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
    hash: Fingerprint,
    after: Place,
    /// The known series that came next.
    next: Option<u32>,
    order: Option<Box<[u8]>>,
}

impl std::fmt::Debug for SeriesMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeriesMemory").field("series", &self.known.read().entries.len()).finish_non_exhaustive()
    }
}

impl Default for SeriesMemory {
    fn default() -> Self {
        Self::new(pharos_model::fingerprint, SERIES_MAX)
    }
}

impl SeriesMemory {
    /// An empty memory of at most `series_max` series.
    fn new(hash: fn(&[u8]) -> Fingerprint, series_max: usize) -> Self {
        let bytes_per_series = AtomicUsize::new(usize::MAX);
        Self { known: RwLock::default(), hash, series_max, sweep_min: SWEEP_MIN, bytes_per_series }
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
            if known.entries.len() >= (known.swept * 2).max(self.sweep_min).min(self.series_max) {
                known.sweep(self.hash, self.series_max);
                previous = None;
            }
            let number = known.find(hash, labels.encoded()).unwrap_or_else(|| known.add(labels, hash, self.hash));
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
        let Place::Known(at) = self.at else { return None };
        let guess = self.known.entries[at as usize].next.load(Ordering::Relaxed);
        let entry = self.known.entries.get(guess as usize)?;
        let found = match self.known.orders.get(usize::from(entry.order.load(Ordering::Relaxed))) {
            None => framed::matches(message, entry.labels.encoded()),
            Some(order) => framed::matches_in(order, message, entry.labels.encoded()),
        }?;
        self.at = Place::Known(guess);
        entry.mark_used();
        Some(found)
    }

    /// The labels recognised last.
    pub(super) fn labels(&self) -> Option<&Labels> {
        let Place::Known(at) = self.at else { return None };
        self.known.entries.get(at as usize).map(|entry| &entry.labels)
    }

    /// The shared form of labels that were read, canonical and inside the limits; `order` is that in which they came, if
    /// it was another.
    pub(super) fn look_up(&mut self, encoded: &[u8], order: Option<Box<[u8]>>) -> Labels {
        let hash = (self.memory.hash)(encoded);
        if let Some(number) = self.known.find(hash, encoded) {
            match (self.at, self.learned.last_mut()) {
                (Place::Known(before), _) => self.known.link(Some(before), number),
                (Place::Learned, Some(before)) => before.next = Some(number),
                _ => {}
            }
            self.at = Place::Known(number);
            let entry = &self.known.entries[number as usize];
            entry.mark_used();
            let labels = entry.labels.clone();
            if self.known.order_of(number) != order.as_deref() && self.known.orders.len() < ORDERS_MAX {
                let learned = Learned { labels: labels.clone(), hash, after: Place::Start, next: None, order };
                self.reordered.push(learned);
            }
            return labels;
        }
        let labels = Labels::from_canonical(encoded);
        self.learned.push(Learned { labels: labels.clone(), hash, after: self.at, next: None, order });
        self.at = Place::Learned;
        labels
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
}

impl Entry {
    fn mark_used(&self) {
        // Most find it set: the line stays shared between cores.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }
}

impl Known {
    fn find(&self, hash: Fingerprint, encoded: &[u8]) -> Option<u32> {
        self.by_hash.find(hash as u64, |number| self.entries[*number as usize].labels.encoded() == encoded).copied()
    }

    fn add(&mut self, labels: Labels, hash: Fingerprint, rehash: fn(&[u8]) -> Fingerprint) -> u32 {
        let number = self.entries.len() as u32;
        self.entries.push(Entry {
            labels,
            next: AtomicU32::new(number + 1),
            order: AtomicU16::new(CANONICAL),
            is_used: AtomicBool::new(false),
        });
        let entries = &self.entries;
        self.by_hash
            .insert_unique(hash as u64, number, |number| rehash(entries[*number as usize].labels.encoded()) as u64);
        number
    }

    fn link(&self, before: Option<u32>, number: u32) {
        if let Some(before) = before.and_then(|before| self.entries.get(before as usize)) {
            before.next.store(number, Ordering::Relaxed);
        }
    }

    fn order_of(&self, number: u32) -> Option<&[u8]> {
        let place = self.entries[number as usize].order.load(Ordering::Relaxed);
        self.orders.get(usize::from(place)).map(AsRef::as_ref)
    }

    fn set_order(&mut self, number: u32, order: Option<Box<[u8]>>) {
        let place = order.and_then(|order| {
            let known = self.orders.iter().position(|known| *known == order);
            known.or_else(|| {
                let has_room = self.orders.len() < ORDERS_MAX;
                has_room.then(|| {
                    self.orders.push(order);
                    self.orders.len() - 1
                })
            })
        });
        let place = place.map_or(CANONICAL, |place| place as u16);
        self.entries[number as usize].order.store(place, Ordering::Relaxed);
    }

    /// Forgets what nobody shares nor used since the last time, and everything if that is not enough.
    fn sweep(&mut self, hash: fn(&[u8]) -> Fingerprint, series_max: usize) {
        let mut kept = std::mem::take(&mut self.entries);
        // Series that a store has, or is just being handed, are held by it, too.
        kept.retain(|entry| entry.labels.is_shared() || entry.is_used.load(Ordering::Relaxed));
        if kept.len() >= series_max {
            kept.clear();
        }
        self.by_hash.clear();
        self.swept = kept.len();
        for Entry { labels, order, .. } in kept {
            let of_labels = hash(labels.encoded());
            let number = self.add(labels, of_labels, hash);
            self.entries[number as usize].order = order;
        }
    }
}

#[cfg(test)]
mod tests {
    use pharos_proto::remote_write::v1;
    use prost::Message;

    use super::*;

    fn labels(number: usize) -> Labels {
        Labels::from_pairs([("__name__", "m"), ("n", &number.to_string())]).unwrap()
    }

    fn message(labels: &Labels) -> Vec<u8> {
        let labels = labels.iter().map(|(n, v)| v1::Label { name: n.to_owned(), value: v.to_owned() }).collect();
        let samples = vec![v1::Sample { value: 1.5, timestamp: 7 }];
        v1::TimeSeries { labels, samples, ..v1::TimeSeries::default() }.encode_to_vec()
    }

    /// Sends these series; answers their labels and how many were recognised.
    fn send(memory: &SeriesMemory, numbers: impl IntoIterator<Item = usize>) -> (Vec<Labels>, usize) {
        let (mut walk, mut found, mut recognised) = (memory.walk(), Vec::new(), 0);
        for number in numbers {
            let expected = labels(number);
            let got = match walk.recognise(&message(&expected)) {
                Some((_, pairs)) => {
                    recognised += 1;
                    assert_eq!(pairs, expected.len());
                    walk.labels().unwrap().clone()
                }
                None => walk.look_up(expected.encoded(), None),
            };
            assert_eq!(got, expected);
            found.push(got);
        }
        walk.finish();
        (found, recognised)
    }

    #[test]
    fn what_is_repeated_is_recognised_and_the_same_in_memory() {
        let memory = SeriesMemory::default();
        let (first, recognised) = send(&memory, 0..100);
        assert_eq!(recognised, 0);
        let (second, recognised) = send(&memory, 0..100);
        assert_eq!(recognised, 99, "all but the first");
        assert!(first.iter().zip(&second).all(|(a, b)| a.is_same(b)));
    }

    #[test]
    fn a_new_order_is_learned() {
        let memory = SeriesMemory::default();
        send(&memory, 0..100);
        assert!(send(&memory, (0..100).rev()).1 < 5);
        assert_eq!(send(&memory, (0..100).rev()).1, 99);
        // A series that is new, one that is gone, and one between others that are known.
        send(&memory, (0..50).chain([200]).chain(51..100).chain([0]));
        assert_eq!(send(&memory, (0..50).chain([200]).chain(51..100).chain([0])).1, 100);
    }

    #[test]
    fn labels_in_another_order_are_recognised_too() {
        let memory = SeriesMemory::default();
        let backwards = |number| {
            let pairs: Vec<_> =
                labels(number).iter().map(|(n, v)| v1::Label { name: n.into(), value: v.into() }).collect();
            v1::TimeSeries { labels: pairs.into_iter().rev().collect(), ..v1::TimeSeries::default() }.encode_to_vec()
        };
        let send_backwards = || {
            let (mut walk, mut recognised) = (memory.walk(), 0);
            for number in 0..100 {
                if walk.recognise(&backwards(number)).is_some() {
                    recognised += 1;
                    assert_eq!(walk.labels(), Some(&labels(number)));
                } else {
                    walk.look_up(labels(number).encoded(), framed::order_of(&["n", "__name__"].into_iter()));
                }
            }
            walk.finish();
            recognised
        };
        assert_eq!((send_backwards(), send_backwards()), (0, 99));
        // One sender that sorts, one that does not: the last one's order is remembered.
        assert_eq!((send(&memory, 0..100).1, send(&memory, 0..100).1), (0, 99));
        assert_eq!((send_backwards(), send_backwards()), (0, 99));
        assert_eq!(memory.known.read().orders.len(), 1);
    }

    #[test]
    fn labels_of_one_hash_stay_apart() {
        let memory = SeriesMemory::new(|_| 7, SERIES_MAX);
        let (first, _) = send(&memory, 0..50);
        let (second, _) = send(&memory, (0..50).map(|n| n * 7 % 50));
        let expected: Vec<_> = (0..50).map(|n| first[n * 7 % 50].clone()).collect();
        assert!(expected.iter().zip(&second).all(|(a, b)| a.is_same(b)));
    }

    #[test]
    fn what_nobody_knows_any_more_is_forgotten_and_the_rest_goes_on() {
        let memory = SeriesMemory { sweep_min: 500, ..SeriesMemory::default() };
        let live = || 0..1000;
        let (_known_to_a_store, _) = send(&memory, live());
        for round in 1..20 {
            send(&memory, round * 1000..(round + 1) * 1000);
        }
        assert!(memory.known.read().entries.len() <= 2000);
        assert_eq!(send(&memory, live()).1, 999, "once in all that time is enough for what a store knows");
    }

    #[test]
    fn what_no_store_shares_is_kept_while_it_is_sent() {
        let memory = SeriesMemory { sweep_min: 2000, ..SeriesMemory::default() };
        for round in 1..20 {
            send(&memory, 0..1000);
            send(&memory, round * 1000..round * 1000 + 500);
        }
        assert!(memory.known.read().entries.len() <= 3000);
        assert_eq!(send(&memory, 0..1000).1, 999);
    }

    #[test]
    fn the_limit_holds_though_all_are_used() {
        let memory = SeriesMemory::new(pharos_model::fingerprint, 500);
        for _ in 0..3 {
            send(&memory, 0..2000);
            assert!(memory.known.read().entries.len() <= 500);
        }
    }
}
