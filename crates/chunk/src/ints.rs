//! Columns of integers: a predictor, then patched frame-of-reference packing of what it missed.
//!
//! Layout, for a count that the caller knows (0 writes nothing):
//! `head: u8` (bits 0–1 predictor, bit 2 centred, bit 3 patched), `width: u8`, the predictor's
//! parameters and the base as zigzag varints, the residuals' low `width` bits packed, and if patched:
//! patch count, then for each patch the distance from the previous position and the high bits.
//!
//! Predictors: 0 none; 1 line (`first + i * slope`; scrape times with jitter); 2 previous value;
//! 3 previous value plus previous delta. Residuals are offsets from the smallest one, or, centred,
//! zigzag distances from the median, which a single outlier (a counter reset) cannot stretch.
//! Arithmetic wraps, so any `i64` column round-trips.

use crate::bits::{self, width_of};
use crate::bytes::{Reader, VARINT_BYTES_MAX, push_varint, push_zigzag, unzigzag, zigzag};
use crate::{CHUNK_SAMPLES_MAX, ChunkError};

const CENTRED: u8 = 1 << 2;
const PATCHED: u8 = 1 << 3;
/// What a patch costs besides its high bits, for choosing the width.
const PATCH_BITS: usize = 14;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Predictor {
    Raw,
    Line,
    Delta,
    DeltaOfDelta,
}

/// Columns up to this length are encoded when they are hot, in the head, and again when they are flushed:
/// one predictor is planned for, not all.
const SHORT_MAX: usize = 32;

const PREDICTORS: [Predictor; 4] = [Predictor::Raw, Predictor::Line, Predictor::Delta, Predictor::DeltaOfDelta];

/// No encoding of `count` values is longer.
#[must_use]
pub const fn worst_case_len(count: usize) -> usize {
    if count == 0 { 0 } else { 3 + 4 * VARINT_BYTES_MAX + count * 8 }
}

/// Appends an encoding of `values`, at most [`CHUNK_SAMPLES_MAX`] of them.
///
/// # Panics
/// If there are more.
pub fn encode(values: &[i64], out: &mut Vec<u8>) {
    assert!(values.len() <= CHUNK_SAMPLES_MAX, "a chunk holds at most {CHUNK_SAMPLES_MAX} samples");
    if values.is_empty() {
        return;
    }
    let mut residuals = Vec::with_capacity(values.len());
    let mut scratch = Vec::new();
    let mut best: Option<(usize, Predictor, Plan)> = None;
    let likeliest = (values.len() <= SHORT_MAX).then(|| likeliest(values, &mut residuals));
    for predictor in PREDICTORS {
        if likeliest.is_some_and(|likeliest| likeliest != predictor) {
            continue;
        }
        if !predict(predictor, values, &mut residuals) {
            continue;
        }
        let plan = Plan::choose(&residuals, &mut scratch);
        let cost_bits = plan.cost_bits + 8 * predictor as usize;
        if best.as_ref().is_none_or(|(least, ..)| cost_bits < *least) {
            let done = plan.width == 0 && plan.patches == 0;
            best = Some((cost_bits, predictor, plan));
            if done {
                break;
            }
        }
    }
    let (_, predictor, plan) = best.expect("one predictor fits: the raw one fits any column");
    predict(predictor, values, &mut residuals);
    write(predictor, &plan, values, &residuals, out);
}

/// Reads `count` values, at most [`CHUNK_SAMPLES_MAX`], and appends them to `out`.
///
/// # Errors
/// [`ChunkError`] for bytes that [`encode`] did not write; `out` is as before then.
pub fn decode(reader: &mut Reader<'_>, count: usize, out: &mut Vec<i64>) -> Result<(), ChunkError> {
    if count > CHUNK_SAMPLES_MAX {
        return Err(ChunkError::OutOfBounds { what: "sample count" });
    }
    if count == 0 {
        return Ok(());
    }
    let head = reader.byte()?;
    if head >= PATCHED << 1 {
        return Err(ChunkError::Unknown { what: "integer column head", found: head });
    }
    let predictor = PREDICTORS[(head & 3) as usize];
    let width = u32::from(reader.byte()?);
    if width > 64 {
        return Err(ChunkError::OutOfBounds { what: "bit width" });
    }
    let parameters = (0..predictor.parameters()).map(|_| reader.zigzag()).collect::<Result<Vec<_>, _>>()?;
    let base = reader.zigzag()?;
    let residual_count = count.saturating_sub(predictor.consumed());
    let packed = reader.take(bits::packed_len(residual_count, width))?;
    let mut offsets = Vec::new();
    bits::unpack(packed, residual_count, width, &mut offsets);
    if head & PATCHED != 0 {
        patch(reader, width, &mut offsets)?;
    }
    let centred = head & CENTRED != 0;
    let residual = |offset: u64| base.wrapping_add(if centred { unzigzag(offset) } else { offset as i64 });
    restore(predictor, &parameters, count, offsets.into_iter().map(residual), out);
    Ok(())
}

impl Predictor {
    /// Zigzag numbers that stand before the base.
    const fn parameters(self) -> usize {
        match self {
            Self::Raw => 0,
            Self::Delta => 1,
            Self::Line | Self::DeltaOfDelta => 2,
        }
    }

    /// Values at the front that the parameters hold and no residual does.
    const fn consumed(self) -> usize {
        match self {
            Self::Raw | Self::Line => 0,
            Self::Delta => 1,
            Self::DeltaOfDelta => 2,
        }
    }
}

fn slope(values: &[i64]) -> i64 {
    let distance = i128::from(values[values.len() - 1]) - i128::from(values[0]);
    let steps = (values.len() - 1).max(1) as i128;
    // Rounded to the nearest: half a millisecond per step adds up over a chunk.
    (distance + distance.signum() * steps / 2).div_euclid(steps) as i64
}

/// Fills `residuals`; false where the predictor needs more values than there are.
fn predict(predictor: Predictor, values: &[i64], residuals: &mut Vec<i64>) -> bool {
    residuals.clear();
    if values.len() < predictor.consumed().max(1) {
        return false;
    }
    match predictor {
        Predictor::Raw => residuals.extend_from_slice(values),
        Predictor::Line => {
            let (first, slope) = (values[0], slope(values));
            let mut expected = first;
            residuals.extend(values.iter().map(|value| {
                let residual = value.wrapping_sub(expected);
                expected = expected.wrapping_add(slope);
                residual
            }));
        }
        Predictor::Delta => residuals.extend(values.windows(2).map(|two| two[1].wrapping_sub(two[0]))),
        Predictor::DeltaOfDelta => residuals.extend(
            values
                .windows(3)
                .map(|three| three[2].wrapping_sub(three[1]).wrapping_sub(three[1].wrapping_sub(three[0]))),
        ),
    }
    true
}

/// The predictor whose residuals span the least, a cheap stand-in for the full comparison.
fn likeliest(values: &[i64], residuals: &mut Vec<i64>) -> Predictor {
    let mut best = (usize::MAX, Predictor::Raw);
    for predictor in PREDICTORS {
        if !predict(predictor, values, residuals) {
            continue;
        }
        let (least, most) = residuals.iter().fold((i64::MAX, i64::MIN), |(a, b), one| (a.min(*one), b.max(*one)));
        let width = if residuals.is_empty() { 0 } else { width_of(most.wrapping_sub(least) as u64) };
        let cost_bits = width as usize * residuals.len() + 8 * predictor as usize;
        if cost_bits < best.0 {
            best = (cost_bits, predictor);
        }
    }
    best.1
}

fn restore(
    predictor: Predictor,
    parameters: &[i64],
    count: usize,
    residuals: impl Iterator<Item = i64>,
    out: &mut Vec<i64>,
) {
    out.reserve(count);
    match predictor {
        Predictor::Raw => out.extend(residuals),
        Predictor::Line => {
            let (mut expected, slope) = (parameters[0], parameters[1]);
            out.extend(residuals.map(|residual| {
                let value = expected.wrapping_add(residual);
                expected = expected.wrapping_add(slope);
                value
            }));
        }
        Predictor::Delta => {
            let mut value = parameters[0];
            out.push(value);
            out.extend(residuals.map(|residual| {
                value = value.wrapping_add(residual);
                value
            }));
        }
        Predictor::DeltaOfDelta => {
            let (mut value, mut delta) = (parameters[0], parameters[1]);
            out.push(value);
            if count > 1 {
                value = value.wrapping_add(delta);
                out.push(value);
            }
            out.extend(residuals.map(|residual| {
                delta = delta.wrapping_add(residual);
                value = value.wrapping_add(delta);
                value
            }));
        }
    }
}

/// How residuals are packed.
#[derive(Debug, Clone, Copy)]
struct Plan {
    centred: bool,
    base: i64,
    width: u32,
    patches: usize,
    cost_bits: usize,
}

impl Plan {
    fn choose(residuals: &[i64], scratch: &mut Vec<i64>) -> Self {
        if residuals.is_empty() {
            return Self { centred: false, base: 0, width: 0, patches: 0, cost_bits: 0 };
        }
        let least = residuals.iter().copied().min().unwrap_or(0);
        let from_least = Self::with_base(residuals, false, least);
        if from_least.width == 0 {
            return from_least;
        }
        scratch.clear();
        scratch.extend_from_slice(residuals);
        let middle = scratch.len() / 2;
        let median = *scratch.select_nth_unstable(middle).1;
        let centred = Self::with_base(residuals, true, median);
        if centred.cost_bits < from_least.cost_bits { centred } else { from_least }
    }

    fn with_base(residuals: &[i64], centred: bool, base: i64) -> Self {
        let mut by_width = [0_usize; 65];
        for residual in residuals {
            by_width[width_of(offset(*residual, centred, base)) as usize] += 1;
        }
        let widest = (0..=64).rev().find(|width| by_width[*width] > 0).unwrap_or(0);
        let base_bits = 8 * width_of(zigzag(base)).div_ceil(7).max(1) as usize;
        let (mut above, mut above_bits) = (0, 0);
        let mut best =
            Self { centred, base, width: widest as u32, patches: 0, cost_bits: base_bits + widest * residuals.len() };
        for width in (0..widest).rev() {
            above += by_width[width + 1];
            above_bits += by_width[width + 1] * (width + 1);
            let patch_bits = 8 + above * PATCH_BITS + above_bits - above * width;
            let cost_bits = base_bits + width * residuals.len() + patch_bits;
            if cost_bits < best.cost_bits {
                best = Self { width: width as u32, patches: above, cost_bits, ..best };
            }
        }
        best
    }
}

const fn offset(residual: i64, centred: bool, base: i64) -> u64 {
    let distance = residual.wrapping_sub(base);
    if centred { zigzag(distance) } else { distance as u64 }
}

fn write(predictor: Predictor, plan: &Plan, values: &[i64], residuals: &[i64], out: &mut Vec<u8>) {
    let flags = if plan.centred { CENTRED } else { 0 } | if plan.patches > 0 { PATCHED } else { 0 };
    out.push(predictor as u8 | flags);
    out.push(plan.width as u8);
    match predictor {
        Predictor::Raw => {}
        Predictor::Line => {
            push_zigzag(out, values[0]);
            push_zigzag(out, slope(values));
        }
        Predictor::Delta => push_zigzag(out, values[0]),
        Predictor::DeltaOfDelta => {
            push_zigzag(out, values[0]);
            push_zigzag(out, values[1].wrapping_sub(values[0]));
        }
    }
    push_zigzag(out, plan.base);
    let offsets = residuals.iter().map(|residual| offset(*residual, plan.centred, plan.base));
    bits::pack(offsets.clone(), plan.width, out);
    if plan.patches == 0 {
        return;
    }
    push_varint(out, plan.patches as u64);
    let mut next = 0;
    for (position, offset) in offsets.enumerate() {
        // Patches exist only below the full width, so the shift is in range.
        let high = offset >> plan.width;
        if high != 0 {
            push_varint(out, (position - next) as u64);
            push_varint(out, high);
            next = position + 1;
        }
    }
}

fn patch(reader: &mut Reader<'_>, width: u32, offsets: &mut [u64]) -> Result<(), ChunkError> {
    let count = reader.count("patch count", offsets.len())?;
    let mut next = 0;
    for _ in 0..count {
        let position = next + reader.count("patch position", offsets.len())?;
        let high = reader.varint()?;
        let slot = offsets.get_mut(position).ok_or(ChunkError::OutOfBounds { what: "patch position" })?;
        *slot |= high.checked_shl(width).unwrap_or(0);
        next = position + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(values: &[i64]) -> usize {
        let mut bytes = Vec::new();
        encode(values, &mut bytes);
        let (mut found, mut reader) = (Vec::new(), Reader::new(&bytes));
        decode(&mut reader, values.len(), &mut found).unwrap();
        assert_eq!(found, values);
        assert!(reader.is_empty());
        assert!(bytes.len() <= worst_case_len(values.len()));
        bytes.len()
    }

    #[test]
    fn regular_columns_cost_a_few_bytes() {
        let start = 1_700_000_000_000;
        assert!(round_trip(&(0..480).map(|i| start + i * 15_000).collect::<Vec<_>>()) <= 14);
        let jitter: Vec<_> = (0..480).map(|i| start + i * 15_000 + i * 7 % 4).collect();
        assert!(round_trip(&jitter) <= 480 / 4 + 14);
    }

    #[test]
    fn one_outlier_does_not_stretch_the_column() {
        let mut values: Vec<i64> = (0..480).map(|i| i * 10 + i % 3).collect();
        values[300] = i64::MIN;
        assert!(round_trip(&values) < 480 / 2);
    }

    #[test]
    fn extremes_round_trip() {
        for values in [vec![], vec![i64::MIN], vec![i64::MIN, i64::MAX], vec![i64::MAX, i64::MIN, 0, -1, i64::MAX]] {
            round_trip(&values);
        }
    }

    proptest! {
        #[test]
        fn columns_round_trip(values in proptest::collection::vec(any::<i64>(), 0..300)) {
            round_trip(&values);
        }

        #[test]
        fn small_steps_round_trip(steps in proptest::collection::vec(-5_i64..50, 0..600), first in any::<i64>()) {
            let values: Vec<i64> = steps.iter().scan(first, |at, step| { *at = at.wrapping_add(*step); Some(*at) }).collect();
            round_trip(&values);
        }

        #[test]
        fn hostile_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), count in 0_usize..5000) {
            let mut out = Vec::new();
            let _ = decode(&mut Reader::new(&bytes), count, &mut out);
            prop_assert!(out.len() <= CHUNK_SAMPLES_MAX);
        }
    }
}
