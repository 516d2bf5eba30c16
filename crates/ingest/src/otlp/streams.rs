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
use smallvec::SmallVec;

use super::booked::Booked;
use super::label_sets::{LabelSet, LabelSets};

/// What a stream takes beside its own fields and bytes: its place in the table, and what allocations waste.
const OVERHEAD_BYTES: usize = 48;

/// A known stream.
#[derive(Debug)]
pub(super) struct Stream {
    hash: u64,
    /// Attributes, then the shape.
    key: Box<[u8]>,
    attributes_end: u32,
    used_minute: AtomicU32,
    first: LabelSet,
    more: Box<[LabelSet]>,
}

impl Stream {
    /// A stream of these attributes; `shape` is what of a point beside them decides over its series, as bounds do.
    pub(super) fn new(hash: u64, attributes: &[u8], shape: &[u8], sets: LabelSets<'_>, minute: u32) -> Self {
        Self {
            hash,
            key: [attributes, shape].concat().into_boxed_slice(),
            attributes_end: attributes.len() as u32,
            used_minute: AtomicU32::new(minute),
            first: sets.first.clone(),
            more: sets.more.into(),
        }
    }

    /// What such a stream takes in memory.
    pub(super) fn memory_bytes_of(attributes: &[u8], shape: &[u8], sets: LabelSets<'_>) -> u64 {
        (size_of::<Self>() + OVERHEAD_BYTES + attributes.len() + shape.len() + sets.memory_bytes()) as u64
    }

    fn memory_bytes(&self) -> u64 {
        Self::memory_bytes_of(self.attributes(), self.shape(), self.sets())
    }

    #[inline]
    fn attributes(&self) -> &[u8] {
        &self.key[..self.attributes_end as usize]
    }

    #[inline]
    fn shape(&self) -> &[u8] {
        &self.key[self.attributes_end as usize..]
    }

    #[inline]
    fn sets(&self) -> LabelSets<'_> {
        LabelSets { first: &self.first, more: &self.more }
    }

    fn is(&self, attributes: &[u8], shape: &[u8]) -> bool {
        self.attributes() == attributes && self.shape() == shape
    }
}

/// Streams in the order in which they were first seen.
#[derive(Debug)]
pub(super) struct Streams {
    /// Most metrics have one stream.
    list: SmallVec<[Stream; 1]>,
    /// Where they are, once there are two.
    by_hash: HashTable<u32>,
    booked: Booked,
}

impl Streams {
    pub(super) fn new(booked: Booked) -> Self {
        Self { list: SmallVec::new(), by_hash: HashTable::new(), booked }
    }

    /// The attributes of the stream at `index`, if there is one.
    #[inline]
    pub(super) fn attributes_at(&self, index: usize) -> Option<&[u8]> {
        self.list.get(index).map(Stream::attributes)
    }

    /// Whether the stream at `index`, whose attributes are the ones looked for, is of this shape.
    #[inline]
    pub(super) fn has_shape(&self, index: usize, shape: &[u8]) -> bool {
        self.list.get(index).is_some_and(|stream| stream.shape() == shape)
    }

    /// Where the stream is, if it is known.
    pub(super) fn find(&self, hash: u64, attributes: &[u8], shape: &[u8]) -> Option<usize> {
        if let [only] = &self.list[..] {
            return only.is(attributes, shape).then_some(0);
        }
        let same = |index: &u32| self.list[*index as usize].is(attributes, shape);
        self.by_hash.find(hash, same).map(|index| *index as usize)
    }

    /// The label sets of the stream at `index`, which must exist, and is used in this minute.
    #[inline]
    pub(super) fn sets(&self, index: usize, minute: u32) -> LabelSets<'_> {
        let stream = &self.list[index];
        if stream.used_minute.load(Ordering::Relaxed) != minute {
            stream.used_minute.store(minute, Ordering::Relaxed);
        }
        stream.sets()
    }

    /// Reserves memory for a stream that is to be added, [`memory_bytes_of`](Stream::memory_bytes_of) it; false if there
    /// is none left.
    pub(super) fn reserve(&mut self, memory_bytes: u64) -> bool {
        let fits = u32::try_from(self.list.len()).is_ok() && u32::try_from(memory_bytes).is_ok();
        fits && self.booked.add(memory_bytes)
    }

    /// Adds a stream for which memory was reserved.
    pub(super) fn push(&mut self, stream: Stream) -> usize {
        self.list.push(stream);
        match self.list.len() {
            0 | 1 => {}
            2 => self.index_from(0),
            count => self.index_from(count - 1),
        }
        self.list.len() - 1
    }

    fn index_from(&mut self, first: usize) {
        let list = &self.list;
        for (index, stream) in list.iter().enumerate().skip(first) {
            self.by_hash.insert_unique(stream.hash, index as u32, |index| list[*index as usize].hash);
        }
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
                self.booked.give_back(stream.memory_bytes());
            }
        }
    }

    /// Forgets the streams that were last used before `oldest_minute`.
    pub(super) fn forget_before(&mut self, oldest_minute: u32) {
        let mut forgotten_bytes = 0;
        self.list.retain(|stream| {
            let stays = stream.used_minute.load(Ordering::Relaxed) >= oldest_minute;
            if !stays {
                forgotten_bytes += stream.memory_bytes();
            }
            stays
        });
        if forgotten_bytes > 0 {
            self.booked.give_back(forgotten_bytes);
            self.list.shrink_to_fit();
            self.by_hash = HashTable::new();
            if self.list.len() > 1 {
                self.index_from(0);
            }
        }
    }
}
