//! Halves of calls that wait for the other half: a map with a queue through it.
//!
//! Invariants
//! - W1 The queue is in the order of arrival, and holds exactly what the map holds.
//! - W2 There are never more than `service_graph.waiting_max`; nothing is allocated once so many have waited at the same time.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use pharos_model::{SpanId, TraceId};

use super::Half;

const NONE: u32 = u32::MAX;

/// The client's span: both halves know it. As numbers, which are compared and hashed without a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CallId {
    trace_high: u64,
    trace_low: u64,
    span: u64,
}

impl CallId {
    #[inline]
    pub(super) fn new(trace_id: TraceId, span_id: SpanId) -> Self {
        let trace = u128::from_ne_bytes(trace_id.0);
        Self { trace_high: (trace >> 64) as u64, trace_low: trace as u64, span: u64::from_ne_bytes(span_id.0) }
    }
}

/// The halves of one tenant.
#[derive(Debug)]
pub(super) struct Waiting {
    slots: Vec<Slot>,
    index: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    first: u32,
    last: u32,
    free: u32,
    count_max: usize,
}

#[derive(Debug)]
struct Slot {
    id: CallId,
    deadline_ms: i64,
    half: Option<Half>,
    before: u32,
    /// In the queue, or in the list of free slots.
    after: u32,
}

impl Waiting {
    pub(super) fn new(count_max: usize) -> Self {
        Self {
            slots: Vec::new(),
            index: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            first: NONE,
            last: NONE,
            free: NONE,
            count_max,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The half that waits for this call.
    pub(super) fn get_mut(&mut self, id: &CallId) -> Option<&mut Half> {
        let slots = &self.slots;
        let slot = *self.index.find(self.hasher.hash_one(id), |slot| slots[*slot as usize].id == *id)?;
        self.slots[slot as usize].half.as_mut()
    }

    /// Takes it out.
    pub(super) fn remove(&mut self, id: &CallId) -> Option<Half> {
        let slots = &self.slots;
        let entry = self.index.find_entry(self.hasher.hash_one(id), |slot| slots[*slot as usize].id == *id).ok()?;
        let (slot, _) = entry.remove();
        self.unlink(slot)
    }

    /// Lets a half wait until `deadline_ms`; gives it back if there is no room.
    pub(super) fn insert(&mut self, id: CallId, half: Half, deadline_ms: i64) -> Result<(), Half> {
        if self.index.len() >= self.count_max {
            return Err(half);
        }
        let new = Slot { id, deadline_ms, half: Some(half), before: self.last, after: NONE };
        let slot = if self.free == NONE {
            self.slots.push(new);
            (self.slots.len() - 1) as u32
        } else {
            let slot = self.free;
            self.free = self.slots[slot as usize].after;
            self.slots[slot as usize] = new;
            slot
        };
        match self.slots.get_mut(self.last as usize) {
            Some(last) => last.after = slot,
            None => self.first = slot,
        }
        self.last = slot;
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hasher.hash_one(id), slot, |slot| hasher.hash_one(slots[*slot as usize].id));
        Ok(())
    }

    /// Takes out the half that has waited longest, if its time is over.
    pub(super) fn pop_expired(&mut self, now_ms: i64) -> Option<Half> {
        let first = self.slots.get(self.first as usize).filter(|slot| slot.deadline_ms <= now_ms)?;
        let id = first.id;
        self.remove(&id)
    }

    fn unlink(&mut self, slot: u32) -> Option<Half> {
        let (before, after) = (self.slots[slot as usize].before, self.slots[slot as usize].after);
        match self.slots.get_mut(before as usize) {
            Some(neighbour) => neighbour.after = after,
            None => self.first = after,
        }
        match self.slots.get_mut(after as usize) {
            Some(neighbour) => neighbour.before = before,
            None => self.last = before,
        }
        let gone = &mut self.slots[slot as usize];
        gone.after = self.free;
        self.free = slot;
        gone.half.take()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> CallId {
        CallId::new(TraceId([number; 16]), SpanId([number; 8]))
    }

    proptest! {
        /// As a map with times: whatever is put in, found, taken out or has waited too long.
        #[test]
        fn it_is_a_map_and_a_queue(steps in proptest::collection::vec((0_u8..4, 0_u8..12), 1..200)) {
            let mut waiting = Waiting::new(8);
            let mut expected: BTreeMap<u8, i64> = BTreeMap::new();
            for (now_ms, (step, number)) in steps.into_iter().enumerate() {
                let now_ms = now_ms as i64;
                match step {
                    0 | 1 if !expected.contains_key(&number) => {
                        let fits = waiting.insert(id(number), Half::default(), now_ms + 10).is_ok();
                        prop_assert_eq!(fits, expected.len() < 8);
                        if fits {
                            expected.insert(number, now_ms + 10);
                        }
                    }
                    2 => prop_assert_eq!(waiting.remove(&id(number)).is_some(), expected.remove(&number).is_some()),
                    _ => prop_assert_eq!(waiting.get_mut(&id(number)).is_some(), expected.contains_key(&number)),
                }
                let mut expired = 0;
                while waiting.pop_expired(now_ms).is_some() {
                    expired += 1;
                }
                let before = expected.len();
                expected.retain(|_, deadline_ms| *deadline_ms > now_ms);
                prop_assert_eq!(before - expected.len(), expired);
                prop_assert_eq!(waiting.len(), expected.len());
                prop_assert!(waiting.slots.len() <= 8, "W2");
            }
        }
    }
}
