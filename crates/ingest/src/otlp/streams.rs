//! The streams of one metric: attributes as they stand on the wire, and the label sets that were made of them.
//!
//! A stream is found by its bytes alone, without reading them: mostly by being next behind the one found last, as
//! senders keep their order, or else by a hash.
//!
//! Invariants
//! - O1 Bytes decide: a stream is found only where attributes and shape are equal to the last byte. A hash, or the
//!   order, only says where to look.
//! - O2 What is here was made by the same settings and limits, for the same resource, scope and metric, and broke no rule.

use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashTable;

use super::booked::Booked;
use super::label_sets::{LabelSetAt, LabelSets};

/// What a stream takes beside its own fields and bytes: its place in the table, and what allocations waste.
const OVERHEAD_BYTES: usize = 48;

/// Whether both are equal. Most shapes and units are empty, and have no memory then: a comparison of no bytes at an
/// address that is none costs some processors more than one of a hundred bytes.
#[inline]
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}

/// A known stream.
#[derive(Debug)]
pub(super) struct Stream {
    hash: u64,
    /// Attributes, shape, label sets.
    bytes: Box<[u8]>,
    attributes_end: u32,
    shape_end: u32,
    first: LabelSetAt,
    more: Box<[LabelSetAt]>,
    used_minute: AtomicU32,
}

impl Stream {
    /// A stream of these attributes; `shape` is what of a point beside them decides over its series, as bounds do.
    pub(super) fn new(hash: u64, attributes: &[u8], shape: &[u8], sets: LabelSets<'_>, minute: u32) -> Self {
        let (attributes_end, shape_end) = (attributes.len(), attributes.len() + shape.len());
        Self {
            hash,
            bytes: [attributes, shape, sets.bytes].concat().into_boxed_slice(),
            attributes_end: attributes_end as u32,
            shape_end: shape_end as u32,
            first: *sets.first,
            more: sets.more.into(),
            used_minute: AtomicU32::new(minute),
        }
    }

    /// What it takes in memory.
    pub(super) fn memory_bytes(attributes: &[u8], shape: &[u8], sets: &LabelSets<'_>) -> u64 {
        let bytes = attributes.len() + shape.len() + sets.bytes.len() + size_of_val(sets.more);
        (size_of::<Self>() + OVERHEAD_BYTES + bytes) as u64
    }

    #[inline]
    fn attributes(&self) -> &[u8] {
        &self.bytes[..self.attributes_end as usize]
    }

    #[inline]
    fn shape(&self) -> &[u8] {
        &self.bytes[self.attributes_end as usize..self.shape_end as usize]
    }
}

/// Streams in the order in which they were first seen.
#[derive(Debug)]
pub(super) struct Streams {
    list: Vec<Stream>,
    by_hash: HashTable<u32>,
    booked: Booked,
}

impl Streams {
    pub(super) fn new(booked: Booked) -> Self {
        Self { list: Vec::new(), by_hash: HashTable::new(), booked }
    }

    /// The attributes of the stream at `index`, if there is one.
    #[inline]
    pub(super) fn attributes_at(&self, index: usize) -> Option<&[u8]> {
        self.list.get(index).map(Stream::attributes)
    }

    /// Whether the stream at `index`, whose attributes are the ones looked for, is of this shape.
    #[inline]
    pub(super) fn has_shape(&self, index: usize, shape: &[u8]) -> bool {
        self.list.get(index).is_some_and(|stream| same(stream.shape(), shape))
    }

    /// Where the stream is, if it is known.
    pub(super) fn find(&self, hash: u64, attributes: &[u8], shape: &[u8]) -> Option<usize> {
        let same = |index: &u32| {
            let stream = &self.list[*index as usize];
            stream.hash == hash && same(stream.attributes(), attributes) && same(stream.shape(), shape)
        };
        self.by_hash.find(hash, same).map(|index| *index as usize)
    }

    /// The label sets of the stream at `index`, which must exist, and is used in this minute.
    #[inline]
    pub(super) fn sets(&self, index: usize, minute: u32) -> LabelSets<'_> {
        let stream = &self.list[index];
        if stream.used_minute.load(Ordering::Relaxed) != minute {
            stream.used_minute.store(minute, Ordering::Relaxed);
        }
        LabelSets { bytes: &stream.bytes[stream.shape_end as usize..], first: &stream.first, more: &stream.more }
    }

    /// Reserves memory for a stream that is to be added, [`memory_bytes`](Stream::memory_bytes) of it; false if there
    /// is none left.
    pub(super) fn reserve(&mut self, memory_bytes: u64) -> bool {
        let fits = u32::try_from(self.list.len()).is_ok() && u32::try_from(memory_bytes).is_ok();
        fits && self.booked.add(memory_bytes)
    }

    /// Adds a stream for which memory was reserved.
    pub(super) fn push(&mut self, stream: Stream) -> usize {
        let (index, hash) = (self.list.len(), stream.hash);
        self.list.push(stream);
        let list = &self.list;
        self.by_hash.insert_unique(hash, index as u32, |index| list[*index as usize].hash);
        index
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes over the streams that are not here yet.
    pub(super) fn absorb(&mut self, other: Self) {
        let Self { list, booked, .. } = other;
        self.booked.absorb(booked);
        for stream in list {
            if self.find(stream.hash, stream.attributes(), stream.shape()).is_none() {
                self.push(stream);
            } else {
                self.booked.give_back(stream.own_bytes());
            }
        }
    }

    /// Forgets the streams that were last used before `oldest_minute`.
    pub(super) fn forget_before(&mut self, oldest_minute: u32) {
        let mut forgotten_bytes = 0;
        self.list.retain(|stream| {
            let stays = stream.used_minute.load(Ordering::Relaxed) >= oldest_minute;
            if !stays {
                forgotten_bytes += stream.own_bytes();
            }
            stays
        });
        if forgotten_bytes > 0 {
            self.booked.give_back(forgotten_bytes);
            self.list.shrink_to_fit();
            self.by_hash = HashTable::with_capacity(self.list.len());
            let list = &self.list;
            for (index, stream) in list.iter().enumerate() {
                self.by_hash.insert_unique(stream.hash, index as u32, |index| list[*index as usize].hash);
            }
        }
    }
}

impl Stream {
    fn own_bytes(&self) -> u64 {
        (size_of::<Self>() + OVERHEAD_BYTES + self.bytes.len() + size_of_val(&*self.more)) as u64
    }
}
