//! Native histograms in Prometheus' encoding: as many in a chunk as share a layout and follow one another without a
//! reset.
//!
//! The first histogram of a chunk is written whole, behind the layout; of the others the differences are: those of the
//! differences before for integers, XOR for doubles. The header tells of a reset before the first; that there is none
//! between the others is what a chunk says by itself. So a histogram that resets, or may have reset, begins a chunk.
//!
//! Source: Prometheus, `tsdb/chunkenc/histogram.go` and `float_histogram.go` as of 3.14.

use pharos_model::{Histogram, ResetHint};
use pharos_proto::remote_read::Chunk;
use pharos_proto::remote_read::chunk::Encoding;

use super::{BitWriter, CHUNK_SAMPLES_MAX, Window};

/// A chunk that is this large takes no more: a frame shall hold several.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// Where the number of samples stands.
const COUNT_BYTES: usize = 2;

/// A chunk to which histograms may be added.
pub(super) struct OpenChunk<'a> {
    bits: BitWriter,
    first_ms: i64,
    last_ms: i64,
    last_delta_ms: i64,
    samples: usize,
    last: &'a Histogram,
    before: Before,
}

/// What the next differences are taken of, beside the last histogram.
enum Before {
    /// How count, zero count and each bucket's difference to its neighbour changed last.
    Integers { count: i64, zero_count: i64, sum: Window, buckets: Vec<i64> },
    /// Of count, zero count, sum and each bucket.
    Doubles(Vec<Window>),
}

impl<'a> OpenChunk<'a> {
    /// A chunk that begins with this histogram. Of a stale one only that is kept.
    pub(super) fn new(at_ms: i64, histogram: &'a Histogram, stale: &'a Histogram) -> Self {
        let histogram = if histogram.is_stale() { stale } else { histogram };
        let reset = match histogram.reset_hint {
            ResetHint::Unknown => 0b0000_0000,
            ResetHint::Reset => 0b1000_0000,
            ResetHint::NotReset => 0b0100_0000,
            ResetHint::Gauge => 0b1100_0000,
        };
        let mut bits = BitWriter::with_header(&[0, 0, reset]);
        bits.layout(histogram);
        bits.signed(at_ms);
        let before = if histogram.is_integer {
            bits.integer_counts(histogram);
            let buckets = vec![0; bucket_count(histogram)];
            Before::Integers { count: 0, zero_count: 0, sum: Window::default(), buckets }
        } else {
            doubles(histogram).for_each(|number| bits.push(number.to_bits(), 64));
            Before::Doubles(doubles(histogram).map(|_| Window::default()).collect())
        };
        Self { bits, first_ms: at_ms, last_ms: at_ms, last_delta_ms: 0, samples: 1, last: histogram, before }
    }

    /// Adds a histogram; false if it must begin a chunk of its own.
    pub(super) fn push(&mut self, at_ms: i64, histogram: &'a Histogram) -> bool {
        let has_room = self.samples < CHUNK_SAMPLES_MAX && self.bits.bytes.len() < CHUNK_BYTES_MAX;
        if !has_room || !continues(self.last, histogram) {
            return false;
        }
        let Self { bits, last, before, .. } = self;
        let delta_ms = at_ms.wrapping_sub(self.last_ms);
        bits.signed(delta_ms.wrapping_sub(self.last_delta_ms));
        match before {
            Before::Integers { count, zero_count, sum, buckets } => {
                for (change, new, old) in
                    [(count, histogram.count, last.count), (zero_count, histogram.zero_count, last.zero_count)]
                {
                    bits.change(new as i64 - old as i64, change);
                }
                bits.difference(histogram.sum.to_bits() ^ last.sum.to_bits(), sum);
                let steps = steps_of(histogram).zip(steps_of(last));
                for ((new, old), change) in steps.zip(buckets) {
                    bits.change(new - old, change);
                }
            }
            Before::Doubles(windows) => {
                for ((new, old), window) in doubles(histogram).zip(doubles(last)).zip(windows) {
                    bits.difference(new.to_bits() ^ old.to_bits(), window);
                }
            }
        }
        (self.last_ms, self.last_delta_ms) = (at_ms, delta_ms);
        (self.last, self.samples) = (histogram, self.samples + 1);
        true
    }

    pub(super) fn finish(self) -> Chunk {
        let mut data = self.bits.bytes;
        data[..COUNT_BYTES].copy_from_slice(&(self.samples as u16).to_be_bytes());
        let encoding = if self.last.is_integer { Encoding::Histogram } else { Encoding::FloatHistogram };
        Chunk { min_time_ms: self.first_ms, max_time_ms: self.last_ms, r#type: encoding as i32, data }
    }
}

/// Whether a chunk that ends with `last` may go on with `next`: both gauges, or counters that do not fall.
fn continues(last: &Histogram, next: &Histogram) -> bool {
    let is_gauge = next.reset_hint == ResetHint::Gauge;
    if last.is_stale() || next.is_stale() || (last.reset_hint == ResetHint::Gauge) != is_gauge {
        return false;
    }
    let alike = last.is_integer == next.is_integer
        && last.schema == next.schema
        && last.zero_threshold.to_bits() == next.zero_threshold.to_bits()
        && last.positive.spans == next.positive.spans
        && last.negative.spans == next.negative.spans
        && last.custom_bounds.iter().map(|bound| bound.to_bits()).eq(next.custom_bounds.iter().map(|b| b.to_bits()));
    let rises = || counts(last).zip(counts(next)).all(|(last, next)| last <= next);
    alike && (is_gauge || next.reset_hint != ResetHint::Reset && rises())
}

/// Everything that is counted.
fn counts(histogram: &Histogram) -> impl Iterator<Item = f64> {
    let sides = histogram.positive.counts.iter().chain(&histogram.negative.counts);
    [histogram.count, histogram.zero_count].into_iter().chain(sides.copied())
}

/// What is written of a histogram of doubles, in order.
fn doubles(histogram: &Histogram) -> impl Iterator<Item = f64> {
    let sides = histogram.positive.counts.iter().chain(&histogram.negative.counts);
    [histogram.count, histogram.zero_count, histogram.sum].into_iter().chain(sides.copied())
}

fn bucket_count(histogram: &Histogram) -> usize {
    histogram.positive.counts.len() + histogram.negative.counts.len()
}

/// Each bucket of whole numbers as its difference to the one before, on each side from 0.
pub(super) fn steps_of(histogram: &Histogram) -> impl Iterator<Item = i64> {
    [&histogram.positive, &histogram.negative].into_iter().flat_map(|side| {
        side.counts.iter().scan(0, |before, count| {
            // Integer histograms count at most 2^53, which is exact.
            let count = *count as i64;
            Some(count - std::mem::replace(before, count))
        })
    })
}

impl BitWriter {
    /// Writes by how much a change differs from the one before, which it replaces.
    fn change(&mut self, change: i64, before: &mut i64) {
        self.signed(change.wrapping_sub(*before));
        *before = change;
    }
}
