//! Lists of integers with access to each: offsets from the least, end to end in as many bits as the widest takes.
//!
//! A list is a *head*, which stands among other heads, and *bits*, which stand in the body. Its length is known to
//! whoever reads it. Where widths differ much along the list, each [`STEP`] values have one of their own.
//! Arithmetic wraps, so that any 64-bit integers round-trip, signed or not.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::body::Body;
use crate::codec::{DecodeError, Reader, Writer};

/// Values that share a width in a stepped list; a multiple of 8, so that each step ends with a byte.
const STEP: usize = 32;
/// In the byte of the width: every step has its own.
const STEPPED: u8 = 1 << 7;
/// Offsets that are all multiples of ten to this power or a lower one are divided by it: clocks are often coarse.
const SCALE_MAX: u8 = 9;

/// Appends a list: its head to `head`, its bits to `body`.
pub(super) fn put_ints(head: &mut Vec<u8>, body: &mut Vec<u8>, values: &[i64]) {
    put_ints_of(head, body, values, 0);
}

/// As [`put_ints`], each value in `width_min` bits at least.
pub(super) fn put_ints_of(head: &mut Vec<u8>, body: &mut Vec<u8>, values: &[i64], width_min: u8) {
    let base = values.iter().copied().min().unwrap_or(0);
    let scale = scale_of(values, base);
    let divisor = 10_u64.pow(u32::from(scale));
    let mut all_bits = 0;
    let mut step_widths = Vec::with_capacity(values.len() / STEP + 1);
    for step in values.chunks(STEP) {
        let bits = step.iter().fold(0, |bits, value| bits | offset(*value, base, divisor));
        all_bits |= bits;
        step_widths.push(width_of(bits).max(width_min));
    }
    let width = width_of(all_bits).max(width_min);
    let stepped_bytes: usize =
        values.chunks(STEP).zip(&step_widths).map(|(step, width)| (step.len() * *width as usize).div_ceil(8) + 1).sum();
    let is_stepped = stepped_bytes < (values.len() * width as usize).div_ceil(8);
    head.push(width | if is_stepped { STEPPED } else { 0 });
    head.push(scale);
    head.put_delta(base as u64, 0);
    let mut bits = BitWriter::new(body);
    if is_stepped {
        head.extend_from_slice(&step_widths);
        for (step, width) in values.chunks(STEP).zip(&step_widths) {
            for value in step {
                bits.put(offset(*value, base, divisor), *width);
            }
        }
    } else if width > 0 {
        for value in values {
            bits.put(offset(*value, base, divisor), width);
        }
    }
    bits.finish();
}

/// Bits that the widest of the offsets from the least value takes: what each value costs in a list, at most.
pub(super) fn width_of_range(values: impl Iterator<Item = i64>) -> usize {
    let (least, greatest) =
        values.fold((i64::MAX, i64::MIN), |(least, greatest), value| (least.min(value), greatest.max(value)));
    if least > greatest { 0 } else { usize::from(width_of(greatest.wrapping_sub(least) as u64)) }
}

fn offset(value: i64, base: i64, divisor: u64) -> u64 {
    let offset = value.wrapping_sub(base) as u64;
    if divisor == 1 { offset } else { offset / divisor }
}

fn width_of(bits: u64) -> u8 {
    (u64::BITS - bits.leading_zeros()) as u8
}

fn scale_of(values: &[i64], base: i64) -> u8 {
    let (mut scale, mut divisor) = (SCALE_MAX, 10_u64.pow(u32::from(SCALE_MAX)));
    let mut is_all_zero = true;
    for value in values {
        let offset = value.wrapping_sub(base) as u64;
        is_all_zero &= offset == 0;
        while !offset.is_multiple_of(divisor) {
            scale -= 1;
            divisor /= 10;
        }
        if scale == 0 {
            return 0;
        }
    }
    if is_all_zero { 0 } else { scale }
}

/// Packs numbers, lowest bits first.
struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u128,
    pending_bits: u32,
}

impl<'a> BitWriter<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, pending: 0, pending_bits: 0 }
    }

    fn put(&mut self, value: u64, width: u8) {
        self.pending |= u128::from(value) << self.pending_bits;
        self.pending_bits += u32::from(width);
        if self.pending_bits >= 64 {
            self.out.extend_from_slice(&(self.pending as u64).to_le_bytes());
            self.pending >>= 64;
            self.pending_bits -= 64;
        }
    }

    fn finish(self) {
        let bytes = self.pending_bits.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.pending.to_le_bytes()[..bytes]);
    }
}

/// A list, its head read: values are unpacked where they are asked for.
#[derive(Debug, Clone)]
pub(super) struct Ints {
    count: usize,
    base: i64,
    divisor: u64,
    width: u8,
    /// Width and first byte of each step of a stepped list.
    steps: Vec<(u8, u32)>,
    bits: Bytes,
}

impl Ints {
    /// Reads a head of a list of `count` values; its bits come from the front of `body`.
    pub(super) fn read(head: &mut Reader<'_>, body: &mut Body, count: usize) -> Result<Self, DecodeError> {
        let form = head.byte("integer width")?;
        let (width, is_stepped) = (form & !STEPPED, form & STEPPED != 0);
        let scale = head.byte("integer scale")?;
        if width > 64 || scale > SCALE_MAX {
            return Err(DecodeError::OutOfRange("integer head"));
        }
        let base = head.delta(0, "integer base")? as i64;
        let (mut steps, mut byte_count) = (Vec::new(), 0);
        if is_stepped {
            let widths = head.take(count.div_ceil(STEP), "integer widths")?;
            steps.reserve_exact(widths.len());
            let mut left = count;
            for step_width in widths {
                if *step_width > width {
                    return Err(DecodeError::OutOfRange("integer width"));
                }
                steps.push((*step_width, byte_count as u32));
                byte_count += (left.min(STEP) * usize::from(*step_width)).div_ceil(8);
                left = left.saturating_sub(STEP);
            }
            u32::try_from(byte_count).map_err(|_| DecodeError::OutOfRange("integer count"))?;
        } else {
            let bit_count = count.checked_mul(usize::from(width)).ok_or(DecodeError::OutOfRange("integer count"))?;
            byte_count = bit_count.div_ceil(8);
        }
        let bits = body.take(byte_count, "packed integers")?;
        Ok(Self { count, base, divisor: 10_u64.pow(u32::from(scale)), width, steps, bits })
    }

    /// What it takes in memory beside itself and the block's bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.steps.len() * size_of::<(u8, u32)>()
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The value at `index`.
    ///
    /// # Panics
    /// If there are not as many.
    pub(super) fn get(&self, index: usize) -> i64 {
        assert!(index < self.count, "an index within the list");
        let offset = if self.steps.is_empty() {
            load(&self.bits, index * usize::from(self.width), self.width)
        } else {
            let (width, first_byte) = self.steps[index / STEP];
            load(&self.bits, first_byte as usize * 8 + index % STEP * usize::from(width), width)
        };
        self.restore(offset)
    }

    /// The value at `index`, if there are as many.
    pub(super) fn checked(&self, index: usize) -> Option<i64> {
        (index < self.count).then(|| self.get(index))
    }

    fn restore(&self, offset: u64) -> i64 {
        self.base.wrapping_add(offset.wrapping_mul(self.divisor) as i64)
    }

    /// Bytes that the bits take.
    #[cfg(feature = "internals")]
    pub(super) fn byte_len(&self) -> usize {
        self.bits.len()
    }

    /// The values from `first` on, or none if there are not as many.
    pub(super) fn iter_from(&self, first: usize) -> Iter<'_> {
        Iter { list: self, next: first, unpacked: [0; STEP], at: 0, len: 0 }
    }

    pub(super) fn iter(&self) -> Iter<'_> {
        self.iter_from(0)
    }

    /// Hands over every value with its number, in order: cheaper than an iterator.
    pub(super) fn visit(&self, mut visit: impl FnMut(usize, i64)) {
        self.visit_offsets(|_| true, |index, offset| visit(index, self.restore(offset)));
    }

    /// Hands over offsets as they are stored, with their numbers, of the steps whose width is `wanted`.
    fn visit_offsets(&self, wanted: impl Fn(u8) -> bool, mut visit: impl FnMut(usize, u64)) {
        if self.steps.is_empty() {
            if wanted(self.width) {
                unpack(&self.bits, 0, self.width, self.count, visit);
            }
            return;
        }
        for (step, (width, first_byte)) in self.steps.iter().enumerate().filter(|(_, (width, _))| wanted(*width)) {
            let first = step * STEP;
            let count = STEP.min(self.count - first);
            unpack(&self.bits, *first_byte as usize * 8, *width, count, |index, offset| visit(first + index, offset));
        }
    }

    /// Hands over the numbers of the values that are, unsigned, within `wanted`, ascending. Steps too narrow for such values are
    /// not looked at.
    pub(super) fn visit_within(&self, wanted: RangeInclusive<u64>, mut hit: impl FnMut(usize)) {
        let base = self.base as u64;
        let largest = ones(self.width).checked_mul(self.divisor).and_then(|offset| base.checked_add(offset));
        if largest.is_none() || wanted.is_empty() {
            let values = self.iter().enumerate();
            values.filter(|(_, value)| wanted.contains(&(*value as u64))).for_each(|(index, _)| hit(index));
            return;
        }
        // Values do not wrap: offsets are compared as they are stored.
        let Some(most) = wanted.end().checked_sub(base) else { return };
        let (least, most) = (wanted.start().saturating_sub(base).div_ceil(self.divisor), most / self.divisor);
        self.visit_offsets(
            |width| ones(width) >= least,
            |index, offset| {
                if (least..=most).contains(&offset) {
                    hit(index);
                }
            },
        );
    }
}

/// The values of a list in order, unpacked some at a time.
pub(super) struct Iter<'a> {
    list: &'a Ints,
    /// The first that is not unpacked.
    next: usize,
    unpacked: [i64; STEP],
    at: usize,
    len: usize,
}

impl Iter<'_> {
    /// Unpacks the rest of a step, or as many of a list without steps.
    fn refill(&mut self) {
        let Self { list, next, unpacked, at, len } = self;
        (*at, *len) = (0, 0);
        if *next >= list.count {
            return;
        }
        let (width, first_bit, room) = match list.steps.get(*next / STEP) {
            Some((width, first_byte)) => {
                let in_step = *next % STEP;
                (*width, *first_byte as usize * 8 + in_step * usize::from(*width), STEP - in_step)
            }
            None => (list.width, *next * usize::from(list.width), STEP),
        };
        *len = room.min(list.count - *next);
        unpack(&list.bits, first_bit, width, *len, |index, offset| unpacked[index] = list.restore(offset));
        *next += *len;
    }
}

impl Iterator for Iter<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        if self.at == self.len {
            self.refill();
        }
        let value = *self.unpacked[..self.len].get(self.at)?;
        self.at += 1;
        Some(value)
    }
}

/// The largest number of `width` bits.
fn ones(width: u8) -> u64 {
    if width == 0 { 0 } else { u64::MAX >> (64 - u32::from(width.min(64))) }
}

/// Hands over `count` numbers of `width` bits from bit `first_bit` on.
fn unpack(bits: &[u8], first_bit: usize, width: u8, count: usize, mut visit: impl FnMut(usize, u64)) {
    if width > 56 || width == 0 {
        (0..count).for_each(|index| visit(index, load(bits, first_bit + index * usize::from(width), width)));
        return;
    }
    let mask = ones(width);
    let mut bit = first_bit;
    for index in 0..count {
        let rest = &bits[bit / 8..];
        let word = rest.first_chunk::<8>().map_or_else(|| last_word(rest), |word| u64::from_le_bytes(*word));
        visit(index, word >> (bit % 8) & mask);
        bit += usize::from(width);
    }
}

/// Fewer than eight bytes as a number.
#[cold]
fn last_word(rest: &[u8]) -> u64 {
    rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// `width` bits from `bit` on.
fn load(bits: &[u8], bit: usize, width: u8) -> u64 {
    if width == 0 {
        return 0;
    }
    let (at, shift) = (bit / 8, bit % 8);
    let rest = &bits[at..];
    if let (Some(word), true) = (rest.first_chunk::<8>(), width <= 56) {
        return u64::from_le_bytes(*word) >> shift & ((1 << width) - 1);
    }
    let mut word = [0; 16];
    let taken = rest.len().min(9);
    word[..taken].copy_from_slice(&rest[..taken]);
    (u128::from_le_bytes(word) >> shift) as u64 & (u64::MAX >> (64 - width))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[i64]) -> usize {
        let (mut head, mut body) = (Vec::new(), Vec::new());
        put_ints(&mut head, &mut body, values);
        let (mut heads, mut bodies) = (Reader::new(&head), Body::new(Bytes::from(body.clone())));
        let list = Ints::read(&mut heads, &mut bodies, values.len()).unwrap();
        assert!(heads.is_empty() && bodies.is_empty());
        assert_eq!(list.iter().collect::<Vec<_>>(), values);
        for first in 0..=values.len() {
            assert!(list.iter_from(first).eq(values[first..].iter().copied()), "from {first}");
            assert!(first == values.len() || list.get(first) == values[first]);
        }
        assert_eq!(list.iter_from(values.len() + 1).count(), 0);
        let mut visited = Vec::new();
        list.visit(|index, value| visited.push((index, value)));
        assert!(values.iter().copied().enumerate().eq(visited));
        check_within(&list, values);
        head.len() + body.len()
    }

    /// Every range that begins or ends at a value or beside it.
    fn check_within(list: &Ints, values: &[i64]) {
        let ends: Vec<u64> =
            values.iter().take(6).flat_map(|value| [-1, 0, 1].map(|by| value.wrapping_add(by) as u64)).collect();
        for (least, most) in
            ends.iter().flat_map(|least| ends.iter().map(|most| (*least, *most))).chain([(0, u64::MAX)])
        {
            let mut found = Vec::new();
            list.visit_within(least..=most, |index| found.push(index));
            let expected = (0..values.len()).filter(|index| (least..=most).contains(&(values[*index] as u64)));
            assert!(expected.eq(found), "{least}..={most}");
        }
    }

    #[test]
    fn extremes_round_trip() {
        for values in [&[][..], &[7], &[i64::MIN, i64::MAX], &[i64::MAX, i64::MIN, 0, -1], &[-5, -5, -5]] {
            round_trip(values);
        }
    }

    #[test]
    fn what_is_equal_takes_no_bits() {
        assert!(round_trip(&vec![1_700_000_000_000; 5000]) < 12);
    }

    #[test]
    fn coarse_clocks_and_single_outliers_are_cheap() {
        let micros: Vec<i64> = (0..1000).map(|i| 1_700_000_000_000_000_000 + i * 7 % 64 * 1000).collect();
        assert!(round_trip(&micros) < 1000 * 6 / 8 + 20);
        let outlier: Vec<i64> = (0..1000).map(|i| if i == 77 { 1 << 60 } else { i % 8 + 1 }).collect();
        assert!(round_trip(&outlier) < 1000 / 2 + 32 * 8);
    }

    proptest! {
        #[test]
        fn any_integers_round_trip(values in proptest::collection::vec(any::<i64>(), 0..200), shift in 0_u32..64, by in 1_i64..2000) {
            round_trip(&values.iter().map(|value| (value >> shift).wrapping_mul(by)).collect::<Vec<_>>());
        }

        #[test]
        fn hostile_heads_do_not_panic(head in proptest::collection::vec(any::<u8>(), 0..40), body in proptest::collection::vec(any::<u8>(), 0..80), count in 0_usize..200) {
            if let Ok(list) = Ints::read(&mut Reader::new(&head), &mut Body::new(Bytes::from(body)), count) {
                prop_assert_eq!(list.iter().count(), count);
            }
        }
    }
}
