//! Chunks in Prometheus' encoding, as remote read clients expect them. Written only; our own parts look different.
//!
//! Bits fill bytes from the highest down. A float chunk: number of samples (16 bits), then per sample time and value.
//! Times: varint; then the difference as unsigned varint; then differences of differences in one of five widths. Values:
//! all 64 bits; then, XOR with the one before, the bits that differ. Native histograms: [`histograms`].
//!
//! Source: Prometheus, `tsdb/docs/format/chunks.md`; Prometheus 2.42 writes the same bytes for the same floats.

mod histograms;

use pharos_model::{BucketSide, Histogram};
use pharos_proto::remote_read::Chunk;
use pharos_proto::remote_read::chunk::Encoding;
use pharos_storage::RawSeries;

use histograms::OpenChunk;

/// Floats in one chunk, as upstream cuts them.
pub(super) const CHUNK_SAMPLES_MAX: usize = 120;

/// All samples of a series as chunks, ascending in time, none overlapping.
pub(super) fn encode(series: &RawSeries) -> Vec<Chunk> {
    let (mut chunks, stale) = (Vec::new(), Histogram::stale());
    let mut begin = 0;
    let mut open: Option<OpenChunk<'_>> = None;
    for sample in &series.histograms {
        let end = series.timestamps_ms.partition_point(|at_ms| *at_ms < sample.timestamp_ms);
        let goes_on =
            begin == end && open.as_mut().is_some_and(|open| open.push(sample.timestamp_ms, &sample.histogram));
        if !goes_on {
            chunks.extend(open.take().map(OpenChunk::finish));
            push_floats(series, begin..end, &mut chunks);
            open = Some(OpenChunk::new(sample.timestamp_ms, &sample.histogram, &stale));
        }
        begin = end;
    }
    chunks.extend(open.map(OpenChunk::finish));
    push_floats(series, begin..series.timestamps_ms.len(), &mut chunks);
    chunks
}

fn push_floats(series: &RawSeries, range: std::ops::Range<usize>, chunks: &mut Vec<Chunk>) {
    let (times, values) = (&series.timestamps_ms[range.clone()], &series.values[range]);
    for (times, values) in times.chunks(CHUNK_SAMPLES_MAX).zip(values.chunks(CHUNK_SAMPLES_MAX)) {
        chunks.push(Chunk {
            min_time_ms: times[0],
            max_time_ms: times[times.len() - 1],
            r#type: Encoding::Xor as i32,
            data: float_chunk(times, values),
        });
    }
}

fn float_chunk(times: &[i64], values: &[f64]) -> Vec<u8> {
    let mut bits = BitWriter::with_header(&(times.len() as u16).to_be_bytes());
    bits.varint(times[0]);
    bits.push(values[0].to_bits(), 64);
    let (mut delta, mut window) = (0_i64, Window::default());
    for at in 1..times.len() {
        let next_delta = times[at].wrapping_sub(times[at - 1]);
        if at == 1 {
            bits.unsigned_varint(next_delta as u64);
        } else {
            bits.delta_of_delta(next_delta.wrapping_sub(delta));
        }
        delta = next_delta;
        bits.difference(values[at].to_bits() ^ values[at - 1].to_bits(), &mut window);
    }
    bits.bytes
}

/// The window of differing bits that the next value may reuse.
#[derive(Default)]
struct Window(Option<(u32, u32)>);

#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    /// Unused low bits of the last byte.
    free: u32,
}

impl BitWriter {
    fn with_header(header: &[u8]) -> Self {
        Self { bytes: header.to_vec(), free: 0 }
    }

    /// Appends the low `count` bits.
    fn push(&mut self, value: u64, mut count: u32) {
        while count > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let take = count.min(self.free);
            let part = (value >> (count - take)) & ((1 << take) - 1);
            self.free -= take;
            count -= take;
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part as u8) << self.free;
            }
        }
    }

    fn unsigned_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.push(value, 8);
    }

    /// Zigzag: the sign goes to the lowest bit.
    fn varint(&mut self, value: i64) {
        self.unsigned_varint((value << 1 ^ value >> 63) as u64);
    }

    fn delta_of_delta(&mut self, value: i64) {
        self.prefixed(value, &[14, 17, 20], 64);
    }

    /// A signed number of a histogram's layout.
    fn signed(&mut self, value: i64) {
        self.prefixed(value, &[3, 6, 9, 12, 18, 25, 56], 64);
    }

    /// 0 for zero; `10`, `110`, … before the first of `widths` that holds the value; as many ones as there are prefixes
    /// before all `last` bits.
    fn prefixed(&mut self, value: i64, widths: &[u32], last: u32) {
        if value == 0 {
            return self.push(0, 1);
        }
        // A width reaches one further up than down: −2^(n−1) + 1 to 2^(n−1).
        let fits = |width: u32| (-(1_i64 << (width - 1)) + 1..=1 << (width - 1)).contains(&value);
        self.prefix_and_bits(value as u64, widths, widths.iter().position(|width| fits(*width)), last);
    }

    /// As [`Self::signed`] for what is never negative.
    fn unsigned(&mut self, value: u64) {
        let widths = [3, 6, 9, 12, 18, 25, 56];
        if value == 0 {
            return self.push(0, 1);
        }
        self.prefix_and_bits(value, &widths, widths.iter().position(|width| value >> width == 0), 64);
    }

    fn prefix_and_bits(&mut self, value: u64, widths: &[u32], rank: Option<usize>, last: u32) {
        let ones = rank.unwrap_or(widths.len()) as u32 + 1;
        if let Some(rank) = rank {
            self.push((1 << (ones + 1)) - 2, ones + 1);
            self.push(value, widths[rank]);
        } else {
            self.push((1 << ones) - 1, ones);
            self.push(value, last);
        }
    }

    /// A value as its difference to the one before.
    fn difference(&mut self, difference: u64, window: &mut Window) {
        if difference == 0 {
            return self.push(0, 1);
        }
        // Five bits hold the leading zeros.
        let (lead, trail) = (difference.leading_zeros().min(31), difference.trailing_zeros());
        match window.0 {
            Some((old_lead, old_trail)) if lead >= old_lead && trail >= old_trail => {
                self.push(0b10, 2);
                self.push(difference >> old_trail, 64 - old_lead - old_trail);
            }
            _ => {
                window.0 = Some((lead, trail));
                let length = 64 - lead - trail;
                self.push(0b11, 2);
                self.push(u64::from(lead), 5);
                // Six bits: 64 is written as 0, which no difference has.
                self.push(u64::from(length & 63), 6);
                self.push(difference >> trail, length);
            }
        }
    }

    /// Powers of two from 2^−243 to 2^10 in one byte, 0 in one, all others behind a byte of ones.
    fn zero_threshold(&mut self, threshold: f64) {
        let bits = threshold.to_bits();
        let exponent = (bits >> 52) as i64 - 1022;
        if bits == 0 {
            self.push(0, 8);
        } else if bits & ((1 << 52) - 1) == 0 && (-242..=11).contains(&exponent) {
            self.push((exponent + 243) as u64, 8);
        } else {
            self.push(255, 8);
            self.push(bits, 64);
        }
    }

    /// What an integer histogram counts: all, in the zero bucket, the sum, then each bucket as its difference to the one before,
    /// on each side from 0.
    fn integer_counts(&mut self, histogram: &Histogram) {
        // Integer histograms count at most 2^53, which is exact.
        self.unsigned(histogram.count as u64);
        self.unsigned(histogram.zero_count as u64);
        self.push(histogram.sum.to_bits(), 64);
        histograms::steps_of(histogram).for_each(|step| self.signed(step));
    }

    /// What all histograms of a chunk share.
    fn layout(&mut self, histogram: &Histogram) {
        self.zero_threshold(histogram.zero_threshold);
        self.signed(i64::from(histogram.schema));
        self.spans(&histogram.positive);
        self.spans(&histogram.negative);
        if histogram.has_custom_buckets() {
            self.unsigned(histogram.custom_bounds.len() as u64);
            for bound in &histogram.custom_bounds {
                // A zero bit says that the whole double follows.
                self.push(0, 1);
                self.push(bound.to_bits(), 64);
            }
        }
    }

    fn spans(&mut self, side: &BucketSide) {
        self.unsigned(side.spans.len() as u64);
        for span in &side.spans {
            self.unsigned(u64::from(span.length));
            self.signed(i64::from(span.offset));
        }
    }
}

#[cfg(test)]
mod tests;
