//! The newest floats of one series, byte by byte: what was appended since its last chunk was sealed.
//!
//! Per sample the change of the gap between instants (zigzag varint, mostly one byte), then the value against the one
//! before, by its first byte:
//!
//! | first byte | then | the value is |
//! |---|---|---|
//! | 0 | | the same, bit by bit |
//! | below 80: trailing zero bytes times 16 plus bytes that follow | 1 to 8 bytes | one whose bits differ by these |
//! | 80 to bf | | a whole number, apart from the whole number before by the low 6 bits (zigzag) |
//! | c0 to df, e0 to ef | 1 or 2 bytes | the same with 13 or 20 bits, the highest in front |
//!
//! That is 2 to 8 bytes where a plain sample takes 16; appending and reading are a few instructions a sample, and any
//! order of instants and any bits of a value fit.

use pharos_chunk::bytes::{push_zigzag, unzigzag, zigzag};
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
        } else if let Some(step) = whole_step(self.state.bits, bits) {
            self.push_step(step);
        } else {
            let trailing = change.trailing_zeros() / 8;
            let length = 8 - change.leading_zeros() / 8 - trailing;
            self.bytes.push((trailing << 4 | length) as u8);
            let shifted = (change >> (8 * trailing)).to_le_bytes();
            self.bytes.extend_from_slice(&shifted[..length as usize]);
        }
        self.state.advance(sample.timestamp_ms, bits);
    }

    #[inline]
    fn push_step(&mut self, step: u32) {
        let low = step.to_le_bytes();
        match step {
            0..STEP_1 => self.bytes.push(0x80 | low[0]),
            STEP_1..STEP_2 => self.bytes.extend_from_slice(&[0xc0 | low[1], low[0]]),
            _ => self.bytes.extend_from_slice(&[0xe0 | low[2], low[0], low[1]]),
        }
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
            let bits = take_bits(&mut rest, state.bits);
            state.advance(time, bits);
            Sample { timestamp_ms: time, value: f64::from_bits(bits) }
        })
    }
}

/// Ends of the steps that one, two and three bytes hold.
const STEP_1: u32 = 1 << 6;
const STEP_2: u32 = 1 << 13;
const STEP_3: u32 = 1 << 20;

/// From one whole number to the next, zigzag, if both are whole and near enough.
#[inline]
fn whole_step(from: u64, to: u64) -> Option<u32> {
    let (from_whole, to_whole) = (f64::from_bits(from) as i64, f64::from_bits(to) as i64);
    let step = zigzag(to_whole.wrapping_sub(from_whole));
    // The way back is exact, or there is none: fractions, the negative zero, NaN.
    let is_exact = step < u64::from(STEP_3) && whole_bits(from_whole) == from && whole_bits(to_whole) == to;
    is_exact.then_some(step as u32)
}

#[inline]
fn whole_bits(whole: i64) -> u64 {
    (whole as f64).to_bits()
}

/// Takes a value's bits, `before` being those of the value before.
#[inline]
fn take_bits(rest: &mut &[u8], before: u64) -> u64 {
    let control = take_byte(rest);
    let step = match control {
        0..0x80 => {
            let mut change = [0; 8];
            let (bytes, tail) = rest.split_at(usize::from(control & 0xf));
            change[..bytes.len()].copy_from_slice(bytes);
            *rest = tail;
            return before ^ u64::from_le_bytes(change) << (8 * u32::from(control >> 4));
        }
        0x80..0xc0 => u32::from(control & 0x3f),
        0xc0..0xe0 => u32::from(control & 0x1f) << 8 | u32::from(take_byte(rest)),
        0xe0.. => u32::from(control & 0xf) << 16 | u32::from(take_byte(rest)) | u32::from(take_byte(rest)) << 8,
    };
    let whole = f64::from_bits(before) as i64;
    whole_bits(whole.wrapping_add(unzigzag(u64::from(step))))
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
            return unzigzag(number);
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
    fn whole_numbers_come_back_from_every_distance() {
        let far = [
            2_f64.powi(53),
            2_f64.powi(53) + 2.0,
            2_f64.powi(62),
            2_f64.powi(63),
            -2_f64.powi(63),
            1e300,
            f64::INFINITY,
        ];
        let near = (0..22).flat_map(|power| [-1.0, 0.0, 1.0].map(|off| 2_f64.powi(power) + off));
        let values = near.flat_map(|value| [value, 0.0, -value, 0.5]).chain(far).chain([f64::NAN, -0.0, 3.0]);
        check(&values.enumerate().map(|(at, value)| (at as i64, value.to_bits())).collect::<Vec<_>>());
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
        assert!(run.bytes.len() < 32 * 2 + 10, "{}", run.bytes.len());
    }

    proptest! {
        #[test]
        fn any_samples_come_back(samples in proptest::collection::vec((any::<i64>(), any::<u64>()), 0..60)) {
            check(&samples);
        }

        #[test]
        fn any_whole_numbers_come_back(values in proptest::collection::vec(-3_000_000..3_000_000_i64, 0..60)) {
            check(&values.iter().map(|value| (*value, (*value as f64).to_bits())).collect::<Vec<_>>());
        }
    }
}
