//! The newest sample of every series of a block: computed once, when many series are asked for theirs.

use crate::newest::{Newest, NewestSample};

/// The newest samples of a block's series, column by column.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    times: Vec<i64>,
    values: Vec<f64>,
    kinds: Vec<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Absent,
    Float,
    Histogram,
    StaleHistogram,
}

impl Tails {
    /// Adds the next series.
    pub(super) fn push(&mut self, newest: Option<Newest>) {
        let (value, kind) = match newest.map(|newest| newest.sample) {
            None => (0.0, Kind::Absent),
            Some(NewestSample::Float(value)) => (value, Kind::Float),
            Some(NewestSample::Histogram { is_stale: false }) => (0.0, Kind::Histogram),
            Some(NewestSample::Histogram { is_stale: true }) => (0.0, Kind::StaleHistogram),
        };
        self.times.push(newest.map_or(i64::MIN, |newest| newest.time_ms));
        self.values.push(value);
        self.kinds.push(kind);
    }

    /// The newest sample of the series in a place of the block.
    pub(super) fn get(&self, slot: usize) -> Option<Newest> {
        let sample = match self.kinds.get(slot)? {
            Kind::Absent => return None,
            Kind::Float => NewestSample::Float(self.values[slot]),
            Kind::Histogram => NewestSample::Histogram { is_stale: false },
            Kind::StaleHistogram => NewestSample::Histogram { is_stale: true },
        };
        Some(Newest { time_ms: self.times[slot], sample })
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> u64 {
        (size_of::<Self>() + self.times.capacity() * 8 + self.values.capacity() * 8 + self.kinds.capacity()) as u64
    }
}
