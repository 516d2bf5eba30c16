//! Columns of integers: a predictor, then what it missed, packed or entropy-coded.
//!
//! Layout, for a count that the caller knows (0 writes nothing), first the *head*: `head: u8` (bits 0–1
//! predictor, bit 2 centred, bit 3 patched, bit 4 coded), `width: u8`, the predictor's parameters and the
//! base as zigzag varints. Every field of the head is a varint: heads of many columns can be stored field
//! by field. Then the *bulk*:
//! - packed: the residuals' low `width` bits end to end, and if patched: patch count, then for each patch
//!   the distance from the end of the previous one and the high bits, varints
//! - coded ([`crate::tans`]): `width` says how fine the classes are (low four bits) and how large the
//!   table is (high four); then table and bits.
//!
//! Predictors: 0 none; 1 line (`first + i * slope`; scrape times with jitter); 2 previous value;
//! 3 previous value plus previous delta. Residuals are offsets from the smallest one, or, centred,
//! zigzag distances from the median, which a single outlier (a counter reset) cannot stretch.
//! Arithmetic wraps, so any `i64` column round-trips.

mod coding;
mod packed;
mod predict;

use crate::bytes::{Reader, push_zigzag, zigzag};
use crate::{CHUNK_SAMPLES_MAX, ChunkError, Form};
use packed::{Plan, Rough};
use predict::{PREDICTORS, Parameters, Predictor};

const CENTRED: u8 = 1 << 2;
const PATCHED: u8 = 1 << 3;
const CODED: u8 = 1 << 4;

/// Columns up to this length are encoded when they are hot, in the head, and again when they are flushed:
/// one predictor is planned for, not all.
const SHORT_MAX: usize = 32;
/// Predictors whose rough cost exceeds the least by more than one part in this are not planned for.
const ROUGH_MARGIN: usize = 8;

/// Of columns half as long again as all stripes together only these are looked at to find candidates.
const STRIPES: usize = 4;
const STRIPE_LEN: usize = 32;
/// The head of a column without predictor, 64 bits wide, from a base of 0.
const WHOLE_HEAD: [u8; 3] = [0, 64, 0];

/// No encoding of `count` values is longer.
#[must_use]
pub const fn worst_case_len(count: usize) -> usize {
    if count == 0 { 0 } else { WHOLE_HEAD.len() + count * 8 }
}

/// Appends an encoding of `values`, at most [`CHUNK_SAMPLES_MAX`] of them, and answers the length of its head.
///
/// # Panics
/// If there are more.
pub fn encode(values: &[i64], form: Form, out: &mut Vec<u8>) -> usize {
    assert!(values.len() <= CHUNK_SAMPLES_MAX, "a chunk holds at most {CHUNK_SAMPLES_MAX} samples");
    if values.is_empty() {
        return 0;
    }
    let start = out.len();
    let head_len = encode_planned(values, form, out);
    let whole_len = WHOLE_HEAD.len() + size_of_val(values);
    if out.len() - start <= whole_len {
        return head_len;
    }
    // Plans estimate what they cost. Values that have nothing in common may take more: then they stand as they are.
    out.truncate(start);
    out.extend_from_slice(&WHOLE_HEAD);
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    WHOLE_HEAD.len()
}

fn encode_planned(values: &[i64], form: Form, out: &mut Vec<u8>) -> usize {
    let mut scratch = Scratch::default();
    let candidates = candidates(values, form, &mut scratch.residuals);
    if form == Form::Cold
        && let Some(head_len) = coding::encode(values, &candidates, &mut scratch, out)
    {
        return head_len;
    }
    let (predictor, plan) = best_packed(values, &candidates, &mut scratch);
    let start = out.len();
    if candidates.last() != Some(&predictor) {
        predictor.predict(values, &mut scratch.residuals);
    }
    let flags = if plan.centred { CENTRED } else { 0 } | if plan.patches > 0 { PATCHED } else { 0 };
    out.push(predictor as u8 | flags);
    out.push(plan.width as u8);
    predictor.push_parameters(values, out);
    push_zigzag(out, plan.base);
    let head_len = out.len() - start;
    plan.write(&scratch.residuals, out);
    head_len
}

/// Reads `count` values, at most [`CHUNK_SAMPLES_MAX`], and appends them to `out`.
///
/// # Errors
/// [`ChunkError`] for bytes that [`encode`] did not write; `out` may have grown by up to `count`.
pub fn decode(reader: &mut Reader<'_>, count: usize, out: &mut Vec<i64>) -> Result<(), ChunkError> {
    if count == 0 {
        return Ok(());
    }
    Head::read(reader)?.decode_bulk(reader, count, out)
}

/// The head of a column, read.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    flags: u8,
    width: u8,
    predictor: Predictor,
    parameters: Parameters,
    base: i64,
}

/// Varints in the longest head.
pub const HEAD_FIELDS_MAX: usize = 5;

impl Head {
    /// Reads the head of a column that is not empty.
    ///
    /// # Errors
    /// [`ChunkError`] for bytes that [`encode`] did not write.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, ChunkError> {
        let flags = reader.byte()?;
        if flags >= CODED << 1 || flags & (CODED | PATCHED) == CODED | PATCHED {
            return Err(ChunkError::Unknown { what: "integer column head", found: flags });
        }
        let predictor = PREDICTORS[(flags & 3) as usize];
        let width = reader.byte()?;
        let parameters = predictor.take_parameters(reader)?;
        Ok(Self { flags, width, predictor, parameters, base: reader.zigzag()? })
    }

    /// Reads the bulk of the column: as [`decode`].
    ///
    /// # Errors
    /// As [`decode`].
    pub fn decode_bulk(self, reader: &mut Reader<'_>, count: usize, out: &mut Vec<i64>) -> Result<(), ChunkError> {
        if count > CHUNK_SAMPLES_MAX {
            return Err(ChunkError::OutOfBounds { what: "sample count" });
        }
        let start = out.len();
        out.resize(start + count, 0);
        let slots = &mut out[start..];
        let offsets = slots.get_mut(self.predictor.consumed()..).unwrap_or_default();
        if self.flags & CODED == 0 {
            packed::read(reader, u32::from(self.width), self.flags & PATCHED != 0, offsets)?;
        } else {
            coding::read(reader, self.width, offsets)?;
        }
        self.predictor.restore(self.parameters, self.flags & CENTRED != 0, self.base, slots);
        Ok(())
    }
}

/// Buffers of one encoding.
#[derive(Default)]
struct Scratch {
    residuals: Vec<i64>,
    sorted: Vec<i64>,
}

/// The predictors worth planning for, by rough counts of the bits that they leave. Of long columns a sample is looked at.
fn candidates(values: &[i64], form: Form, residuals: &mut Vec<i64>) -> Vec<Predictor> {
    let mut rough: Vec<(Rough, Predictor)> = Vec::with_capacity(PREDICTORS.len());
    for predictor in PREDICTORS {
        residuals.clear();
        if !predict_sample(predictor, values, residuals) {
            continue;
        }
        let mut costs = Rough::of(residuals);
        // Later predictors have longer heads: nothing beats what leaves nothing.
        let done = costs.packed_bits == 0 && {
            predictor.predict(values, residuals);
            Rough::of(residuals).packed_bits == 0
        };
        costs.packed_bits += 8 * predictor as usize;
        costs.coded_bits += 8 * predictor as usize;
        rough.push((costs, predictor));
        if done {
            break;
        }
    }
    let least_packed = rough.iter().map(|(costs, _)| costs.packed_bits).min().unwrap_or(0);
    let least_coded = rough.iter().map(|(costs, _)| costs.coded_bits).min().unwrap_or(0);
    let margin = |least: usize| if values.len() <= SHORT_MAX { least } else { least + least / ROUGH_MARGIN };
    rough.retain(|(costs, _)| {
        costs.packed_bits <= margin(least_packed) || (form == Form::Cold && costs.coded_bits <= margin(least_coded))
    });
    rough.into_iter().map(|(_, predictor)| predictor).collect()
}

/// Residuals of a column, or of stripes spread over a long one; false where the predictor needs more values than there are.
fn predict_sample(predictor: Predictor, values: &[i64], residuals: &mut Vec<i64>) -> bool {
    if values.len() * 2 < 3 * STRIPES * STRIPE_LEN {
        return predictor.predict_some(values, 0..values.len(), residuals);
    }
    (0..STRIPES).all(|stripe| {
        let start = (values.len() - STRIPE_LEN) * stripe / (STRIPES - 1);
        predictor.predict_some(values, start..start + STRIPE_LEN, residuals)
    })
}

fn best_packed(values: &[i64], candidates: &[Predictor], scratch: &mut Scratch) -> (Predictor, Plan) {
    let plans = candidates.iter().map(|predictor| {
        predictor.predict(values, &mut scratch.residuals);
        (*predictor, Plan::choose(&scratch.residuals, &mut scratch.sorted))
    });
    plans
        .min_by_key(|(predictor, plan)| plan.cost_bits + 8 * *predictor as usize)
        .expect("one predictor fits: the raw one fits any column")
}

const fn offset(residual: i64, centred: bool, base: i64) -> u64 {
    let distance = residual.wrapping_sub(base);
    if centred { zigzag(distance) } else { distance as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(values: &[i64]) -> usize {
        round_trip_in(Form::Cold, values);
        round_trip_in(Form::Young, values)
    }

    fn round_trip_in(form: Form, values: &[i64]) -> usize {
        let mut bytes = Vec::new();
        let head_len = encode(values, form, &mut bytes);
        let (head, bulk) = bytes.split_at(head_len);
        if !values.is_empty() {
            let (mut apart, mut fields) = (Vec::new(), Reader::new(head));
            Head::read(&mut fields).unwrap().decode_bulk(&mut Reader::new(bulk), values.len(), &mut apart).unwrap();
            assert!(fields.is_empty());
            assert_eq!(apart, values);
        }
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
    fn skewed_residuals_are_smaller_when_cold() {
        let noise = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).leading_zeros();
        let values: Vec<i64> = (1..2000).map(|i| i64::from(noise(i))).collect();
        let (young, cold) = (round_trip_in(Form::Young, &values), round_trip_in(Form::Cold, &values));
        assert!(cold * 5 < young * 4, "{cold} instead of {young}");
    }

    #[test]
    fn extremes_round_trip() {
        for values in [vec![], vec![i64::MIN], vec![i64::MIN, i64::MAX], vec![i64::MAX, i64::MIN, 0, -1, i64::MAX]] {
            round_trip(&values);
        }
    }

    /// Found by fuzzing: many wide outliers, each of which takes more than the plan thought.
    #[test]
    fn outliers_of_every_width_take_no_more_than_they_are() {
        let noise = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).cast_signed() >> (i % 64);
        for wide in 1..60 {
            let values: Vec<i64> = (1..60).map(|i| if i % 60 < wide { noise(i) } else { 7 }).collect();
            round_trip(&values);
            round_trip_in(Form::Cold, &values);
        }
    }

    /// Found by fuzzing: classes go up to 255, the bits left over in one of them only to 56.
    #[test]
    fn a_class_that_no_offset_has_is_refused() {
        let bytes = [
            8, 8, 2, 0, 1, 0x16, 0x50, 0, 0x4a, 0, 0xb4, 0x24, 0x49, 0xe2, 0x85, 0x42, 0xb4, 0x2b, 0xa0, 0x75, 0xf9,
            0xc9, 0xa6, 0x6e, 0x64, 0x31, 0x4c, 0x26, 0x93, 0xc9, 0x64, 0xff, 0x0f, 0x4c, 0x26, 0x93, 0xc9, 0x64, 0x32,
            0x99, 4,
        ];
        let mut found = Vec::new();
        assert!(crate::values::decode(&bytes, &[], 60, &mut found).is_err());
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
