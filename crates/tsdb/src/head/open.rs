//! The newest floats of one series, byte by byte: what was appended since its last chunk was sealed.
//!
//! Per sample: the change of the gap between instants (zigzag varint, mostly one byte), then the value's bits
//! XOR those of the value before: a control byte (trailing zero bytes times 16 plus bytes that follow, 0 for
//! equal bits) and those bytes. That is 3 to 8 bytes where a plain sample takes 16; appending and reading are a
//! few instructions a sample, and any order of instants and any bits of a value fit.

use pharos_chunk::bytes::push_zigzag;
use pharos_model::Sample;

/// Bytes by which a run's memory grows at least: an allocation holds a few samples.
const GROWTH_BYTES_MIN: usize = 32;
/// No sample takes more: ten bytes of varint, the control byte, eight of the value.
const SAMPLE_BYTES_MAX: usize = 19;

/// An open run of floats in order of arrival.
#[derive(Debug, Default)]
pub(super) struct OpenRun {
    bytes: Vec<u8>,
    state: State,
}

/// What the next sample is written against.
#[derive(Debug, Default, Clone, Copy)]
struct State {
    time: i64,
    bits: u64,
    gap: i32,
    /// Samples so far.
    count: u16,
    /// Whether an instant lay before the one before it.
    is_late: bool,
}

impl State {
    /// The instant after `time` as the distance from what is expected; wraps, and unwraps in [`Self::at`].
    fn surprise(&self, time: i64) -> i64 {
        time.wrapping_sub(self.time).wrapping_sub(i64::from(self.gap))
    }

    fn at(&self, surprise: i64) -> i64 {
        self.time.wrapping_add(i64::from(self.gap)).wrapping_add(surprise)
    }

    fn advance(&mut self, time: i64, bits: u64) {
        // The first instant is no gap, and one that does not fit is not expected again.
        self.gap = if self.count == 0 { 0 } else { i32::try_from(time.wrapping_sub(self.time)).unwrap_or(0) };
        self.is_late |= self.count > 0 && time < self.time;
        (self.time, self.bits) = (time, bits);
        self.count += 1;
    }
}

impl OpenRun {
    pub(super) fn len(&self) -> usize {
        usize::from(self.state.count)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.count == 0
    }

    /// The sample pushed last, unless one of an instant after it may stand before it.
    pub(super) fn newest_if_last(&self) -> Option<Sample> {
        let State { time, bits, .. } = self.state;
        (!self.is_empty() && !self.state.is_late).then(|| Sample { timestamp_ms: time, value: f64::from_bits(bits) })
    }

    /// Bytes of memory it holds beside itself.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    #[inline]
    pub(super) fn push(&mut self, sample: Sample) {
        if self.bytes.capacity() - self.bytes.len() < SAMPLE_BYTES_MAX {
            self.grow();
        }
        push_zigzag(&mut self.bytes, self.state.surprise(sample.timestamp_ms));
        let bits = sample.value.to_bits();
        let change = bits ^ self.state.bits;
        if change == 0 {
            self.bytes.push(0);
        } else {
            let trailing = change.trailing_zeros() / 8;
            let length = 8 - change.leading_zeros() / 8 - trailing;
            self.bytes.push((trailing << 4 | length) as u8);
            let shifted = (change >> (8 * trailing)).to_le_bytes();
            self.bytes.extend_from_slice(&shifted[..length as usize]);
        }
        self.state.advance(sample.timestamp_ms, bits);
    }

    /// Grows by a quarter, in the steps that allocators tell apart: four for each power of two.
    #[cold]
    fn grow(&mut self) {
        let capacity = self.bytes.capacity();
        let step = capacity.checked_ilog2().map_or(0, |log| (1 << log) / 4).max(GROWTH_BYTES_MIN);
        self.bytes.reserve_exact(capacity + step - self.bytes.len());
    }

    /// Forgets all samples and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.state = State::default();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Sample> {
        let (mut rest, mut state) = (self.bytes.as_slice(), State::default());
        (0..self.state.count).map(move |_| {
            let time = state.at(take_zigzag(&mut rest));
            let control = take_byte(&mut rest);
            let mut change = [0; 8];
            let length = usize::from(control & 0xf);
            change[..length].copy_from_slice(&rest[..length]);
            rest = &rest[length..];
            let bits = state.bits ^ u64::from_le_bytes(change) << (8 * u32::from(control >> 4));
            state.advance(time, bits);
            Sample { timestamp_ms: time, value: f64::from_bits(bits) }
        })
    }
}

/// The bytes were written by [`OpenRun::push`] in this process: they are whole.
#[inline]
fn take_byte(rest: &mut &[u8]) -> u8 {
    let (first, tail) = rest.split_first().expect("a run holds all bytes of its samples");
    *rest = tail;
    *first
}

#[inline]
fn take_zigzag(rest: &mut &[u8]) -> i64 {
    let (mut number, mut shift) = (0_u64, 0);
    loop {
        let byte = take_byte(rest);
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (number >> 1) as i64 ^ -((number & 1) as i64);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(samples: &[(i64, u64)]) {
        let mut run = OpenRun::default();
        for _ in 0..2 {
            run.clear();
            for (timestamp_ms, bits) in samples {
                run.push(Sample { timestamp_ms: *timestamp_ms, value: f64::from_bits(*bits) });
            }
            let found: Vec<_> = run.iter().map(|sample| (sample.timestamp_ms, sample.value.to_bits())).collect();
            assert_eq!(found, samples);
        }
    }

    #[test]
    fn the_ends_of_time_and_every_kind_of_value_come_back() {
        let times = [i64::MAX, i64::MIN, 0, i64::MAX, -1, 15_000, 30_001, 45_000];
        let values =
            [0.0, -0.0, 1.0, f64::NAN, f64::from_bits(0x7ff0_0000_0000_0002), f64::MIN_POSITIVE / 2.0, 7.25, 7.25];
        check(&times.into_iter().zip(values.map(f64::to_bits)).collect::<Vec<_>>());
    }

    #[test]
    fn regular_samples_of_a_counter_are_small() {
        let mut run = OpenRun::default();
        for step in 0..32 {
            run.push(Sample {
                timestamp_ms: 1_700_000_000_000 + step * 15_000 + step % 3,
                value: (1000 + step * 7) as f64,
            });
        }
        assert!(run.bytes.len() < 32 * 5, "{}", run.bytes.len());
    }

    proptest! {
        #[test]
        fn any_samples_come_back(samples in proptest::collection::vec((any::<i64>(), any::<u64>()), 0..60)) {
            check(&samples);
        }
    }
}
