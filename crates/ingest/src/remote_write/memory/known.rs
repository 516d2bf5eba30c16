//! The series of a [`SeriesMemory`](super::SeriesMemory), numbered, and what becomes of them when there are too many.
//!
//! A sweep forgets the entries that no store shares and no request named again since the last one, and the orders of
//! labels that no entry has any more. If it leaves the memory nearly full, what no request named again goes in any case.
//! It comes when the number of entries has doubled, or when there was no room for long; either way about as many were
//! learned or turned away since the last one as it has to look at, so that it costs each of them little. In between, what does not fit is
//! turned away: the request that names it reads its labels as if there were no memory.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};

use hashbrown::{HashMap, HashTable};
use pharos_model::Labels;

use crate::shares::Account;

/// Longer label sets are not remembered.
pub(super) const LABELS_BYTES_MAX: usize = 2048;
/// Fewer are not worth a sweep; a store that shares no labels has so many of its series recognised.
const SWEEP_MIN: usize = 65_536;
/// Orders of labels remembered; a fleet of exporters has some dozens.
pub(super) const ORDERS_MAX: usize = 1024;
/// Entries are numbered in four bytes.
const ENTRIES_MAX: usize = u32::MAX as usize;
/// Without room a sweep comes when so many times as many as there are were added or turned away: senders who together
/// have a few times as many series as fit have named all of those that are here by then.
const TRIED_PER_ENTRY: usize = 4;
/// The place of no order.
const CANONICAL: u16 = u16::MAX;
/// What an entry takes beside its label bytes: itself with the vector's slack, a slot of the table, counts and rounding
/// of the labels.
const ENTRY_BYTES: u64 = size_of::<Entry>() as u64 * 3 / 2 + 10 + 32;

/// A numbered set of series.
pub(super) struct Known {
    entries: Vec<Entry>,
    by_hash: HashTable<u32>,
    orders: Orders,
    /// Where `bytes` are taken from.
    account: Account,
    bytes: u64,
    sweep_min: usize,
    /// Entries that the last sweep left.
    swept: usize,
    /// Entries that were added since then, and what there was no room for.
    tried: usize,
    #[cfg(test)]
    pub(super) sweeps: usize,
}

/// A series.
pub(super) struct Entry {
    pub labels: Labels,
    hash: u64,
    /// The series that came after it.
    next: AtomicU32,
    /// Place in `orders` of how its labels come, or [`CANONICAL`].
    order: AtomicU16,
    /// Whether a request named it again since the last sweep.
    is_used: AtomicBool,
}

/// Orders of labels other than the canonical one, as senders name them.
#[derive(Default)]
struct Orders {
    list: Vec<Box<[u8]>>,
    places: HashMap<Box<[u8]>, u16>,
}

impl Entry {
    /// The series that came after it: a guess.
    #[inline]
    pub(super) fn next(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn mark_used(&self) {
        // Most find it set: the line stays shared between cores.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// The labels, of which it is noted that they were named again.
    pub(super) fn meet(&self) -> Labels {
        self.mark_used();
        self.labels.clone()
    }

    fn bytes(&self) -> u64 {
        ENTRY_BYTES + self.labels.encoded().len() as u64
    }
}

impl Known {
    pub(super) fn new(account: Account) -> Self {
        Self {
            entries: Vec::new(),
            by_hash: HashTable::new(),
            orders: Orders::default(),
            account,
            bytes: 0,
            sweep_min: SWEEP_MIN,
            swept: 0,
            tried: 0,
            #[cfg(test)]
            sweeps: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn with_sweep_min(self, sweep_min: usize) -> Self {
        Self { sweep_min, ..self }
    }

    #[cfg(test)]
    pub(super) fn order_count(&self) -> usize {
        self.orders.list.len()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.bytes
    }

    #[inline]
    pub(super) fn entry(&self, number: u32) -> Option<&Entry> {
        self.entries.get(number as usize)
    }

    pub(super) fn find(&self, hash: u64, encoded: &[u8]) -> Option<u32> {
        self.by_hash.find(hash, |number| self.entries[*number as usize].labels.encoded() == encoded).copied()
    }

    /// Adds a series that is not known, if there is room for it; numbers may change.
    pub(super) fn add(&mut self, labels: Labels, hash: u64) -> Option<u32> {
        let entry = Entry {
            labels,
            hash,
            next: AtomicU32::new(0),
            order: AtomicU16::new(CANONICAL),
            is_used: AtomicBool::new(false),
        };
        if self.len() >= (2 * self.swept).max(self.sweep_min) {
            self.sweep();
        }
        let mut has_room = self.take_room(&entry);
        if !has_room && self.may_sweep() {
            self.sweep();
            has_room = self.take_room(&entry);
        }
        self.tried += 1;
        has_room.then(|| self.push(entry))
    }

    fn take_room(&self, entry: &Entry) -> bool {
        self.len() < ENTRIES_MAX && self.account.take(entry.bytes())
    }

    /// Whether enough happened since the last sweep to pay for one.
    fn may_sweep(&self) -> bool {
        self.tried >= TRIED_PER_ENTRY * self.len()
    }

    /// Adds an entry whose room is taken.
    fn push(&mut self, entry: Entry) -> u32 {
        let (number, hash) = (self.entries.len() as u32, entry.hash);
        self.bytes += entry.bytes();
        entry.next.store(number + 1, Ordering::Relaxed);
        self.entries.push(entry);
        let entries = &self.entries;
        self.by_hash.insert_unique(hash, number, |number| entries[*number as usize].hash);
        number
    }

    /// Notes which series came after another.
    pub(super) fn link(&self, before: Option<u32>, number: u32) {
        if let Some(before) = before.and_then(|before| self.entry(before)) {
            before.next.store(number, Ordering::Relaxed);
        }
    }

    /// The order of a series' labels, if it is not the canonical one.
    #[inline]
    pub(super) fn order(&self, entry: &Entry) -> Option<&[u8]> {
        self.orders.list.get(usize::from(entry.order.load(Ordering::Relaxed))).map(AsRef::as_ref)
    }

    /// Notes the order of a series' labels; without room for another it is as if they came in the canonical one.
    pub(super) fn set_order(&mut self, number: u32, order: Option<Box<[u8]>>) {
        let place = order.map_or(Some(CANONICAL), |order| self.orders.place(order));
        if let Some(entry) = self.entry(number) {
            entry.order.store(place.unwrap_or(CANONICAL), Ordering::Relaxed);
        }
        if place.is_none() {
            self.tried += 1;
            if self.tried >= TRIED_PER_ENTRY * self.len().max(self.sweep_min) {
                self.sweep();
            }
        }
    }

    /// Whether there are too few for a sweep of their own.
    pub(super) fn is_small(&self) -> bool {
        self.len() < self.sweep_min
    }

    pub(super) fn sweep(&mut self) {
        let before = std::mem::take(&mut self.entries);
        let orders = std::mem::take(&mut self.orders);
        self.by_hash = HashTable::new();
        let is_used = |entry: &Entry| entry.is_used.load(Ordering::Relaxed);
        // Series that a store has, or is just being handed, are held by it, too.
        let stays = |entry: &&Entry| is_used(entry) || entry.labels.is_shared();
        let is_tight = before.iter().filter(stays).map(Entry::bytes).sum::<u64>() > self.account.bytes_max() / 4 * 3;
        // Those behind were added since the last sweep, and had no time to be named again.
        let first_fresh = if is_tight { self.swept } else { 0 };
        let mut places = vec![None; orders.list.len()];
        let bytes_before = std::mem::take(&mut self.bytes);
        for (index, entry) in before.into_iter().enumerate() {
            if !is_used(&entry) && (index < first_fresh || !entry.labels.is_shared()) {
                continue;
            }
            let order = usize::from(entry.order.load(Ordering::Relaxed));
            let place = places.get_mut(order).map_or(Some(CANONICAL), |place| {
                *place.get_or_insert_with(|| self.orders.place(orders.list[order].clone()))
            });
            entry.order.store(place.unwrap_or(CANONICAL), Ordering::Relaxed);
            entry.is_used.store(false, Ordering::Relaxed);
            self.push(entry);
        }
        self.account.give_back(bytes_before - self.bytes);
        (self.swept, self.tried) = (self.len(), 0);
        #[cfg(test)]
        {
            self.sweeps += 1;
        }
    }
}

impl Orders {
    /// Where the order is, or where it goes; `None` if there is no room.
    fn place(&mut self, order: Box<[u8]>) -> Option<u16> {
        if let Some(place) = self.places.get(&*order) {
            return Some(*place);
        }
        if self.list.len() >= ORDERS_MAX {
            return None;
        }
        let place = self.list.len() as u16;
        self.list.push(order.clone());
        self.places.insert(order, place);
        Some(place)
    }
}
