//! Entropy-coded residuals: the magnitude's class as a symbol, the bits below it as they are.
//!
//! Classes are as fine as `fineness` says: offsets below `2^(fineness + 1)` have a class each, above
//! every power of two has `2^fineness`, and an offset's class number is
//! `(shift << fineness) + (offset >> shift)` where `shift` bits of it are left over.
//!
//! Bulk: classes as [`crate::tans`] writes them, then the left-over bits of each offset end to end.

use super::packed::median;
use super::predict::Predictor;
use super::{CENTRED, CODED, Scratch, offset};
use crate::ChunkError;
use crate::bits::{BitSink, load, mask, width_of};
use crate::bytes::{Reader, push_zigzag};
use crate::tans::{self, Frequencies, LOG_MAX, LOG_MIN};

/// A coded column replaces a packed one if it is smaller by one part in this: it takes longer to read.
const GAIN_MIN: usize = 100;
const FINENESS_MAX: u32 = 3;
/// Class numbers are bytes.
const CLASSES_MAX: usize = 256;
/// Left-over bits of an offset: one load holds as many, whatever bit they start at.
const SHIFT_MAX: u32 = 56;
/// Classes of the finest kind, for all offsets that can be coded.
const FINEST_CLASSES: usize = ((SHIFT_MAX as usize) << FINENESS_MAX) + (2 << FINENESS_MAX);
/// The table that plans are compared with.
const USUAL_LOG: u32 = 8;

const fn shift_of(offset: u64, fineness: u32) -> u32 {
    width_of(offset).saturating_sub(fineness + 1)
}

const fn class_of(offset: u64, fineness: u32) -> usize {
    let shift = shift_of(offset, fineness);
    ((shift as usize) << fineness) + (offset >> shift) as usize
}

/// Bits left over in a class, and its least offset.
const fn class_start(class: u64, fineness: u32) -> (u32, u64) {
    let shift = (class >> fineness).saturating_sub(1);
    (shift as u32, (class - (shift << fineness)) << shift)
}

/// How a column is coded.
struct Plan {
    predictor: Predictor,
    centred: bool,
    base: i64,
    fineness: u32,
    frequencies: Frequencies,
    cost_bits: usize,
}

/// Appends the column and answers the length of its head, unless that gains too little over `limit_bits`.
pub(super) fn encode(
    values: &[i64],
    candidates: &[Predictor],
    limit_bits: usize,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Option<usize> {
    let plan = choose(values, candidates, scratch)?;
    if plan.cost_bits > limit_bits - limit_bits / GAIN_MIN {
        return None;
    }
    plan.predictor.predict(values, &mut scratch.residuals);
    let start = out.len();
    out.push(plan.predictor as u8 | CODED | if plan.centred { CENTRED } else { 0 });
    out.push(plan.fineness as u8 | (plan.frequencies.log() as u8) << 4);
    plan.predictor.push_parameters(values, out);
    push_zigzag(out, plan.base);
    let head_len = out.len() - start;
    let offsets = scratch.residuals.iter().map(|residual| offset(*residual, plan.centred, plan.base));
    let classes: Vec<u8> = offsets.clone().map(|offset| class_of(offset, plan.fineness) as u8).collect();
    plan.frequencies.encode(&classes, out);
    let mut sink = BitSink::new(out);
    for offset in offsets {
        sink.push(offset, shift_of(offset, plan.fineness));
    }
    sink.finish();
    Some(head_len)
}

/// The cheapest plan, if any column of candidates can be coded.
fn choose(values: &[i64], candidates: &[Predictor], scratch: &mut Scratch) -> Option<Plan> {
    let mut best: Option<Plan> = None;
    for predictor in candidates {
        predictor.predict(values, &mut scratch.residuals);
        let residuals = &scratch.residuals;
        let Some(least) = residuals.iter().copied().min() else { continue };
        for (centred, base) in [(false, least), (true, median(residuals, &mut scratch.sorted))] {
            let Some(finest) = count_classes(residuals, centred, base) else { continue };
            for fineness in 0..=FINENESS_MAX {
                let Some((counts, left_over)) = coarser(&finest, fineness) else { continue };
                let Some(frequencies) = Frequencies::fit(&counts, USUAL_LOG) else { continue };
                let head_bits = 8 * *predictor as usize + width_of(base.unsigned_abs()) as usize;
                let cost_bits = frequencies.cost_bits(&counts) + left_over + head_bits;
                if best.as_ref().is_none_or(|best| cost_bits < best.cost_bits) {
                    best = Some(Plan { predictor: *predictor, centred, base, fineness, frequencies, cost_bits });
                }
            }
        }
    }
    let mut plan = best?;
    plan.predictor.predict(values, &mut scratch.residuals);
    let finest = count_classes(&scratch.residuals, plan.centred, plan.base)?;
    let (counts, _) = coarser(&finest, plan.fineness)?;
    let usual_bits = plan.frequencies.cost_bits(&counts);
    // Smaller tables are quicker to build and take fewer bits themselves; larger ones are more exact.
    let fits = (LOG_MIN..=LOG_MAX).filter_map(|log| Frequencies::fit(&counts, log));
    let (cost_bits, frequencies) = fits.map(|fit| (fit.cost_bits(&counts), fit)).min_by_key(|(bits, _)| *bits)?;
    plan.cost_bits = plan.cost_bits - usual_bits + cost_bits;
    plan.frequencies = frequencies;
    Some(plan)
}

/// Offsets by class of the finest kind; `None` if one is too large.
fn count_classes(residuals: &[i64], centred: bool, base: i64) -> Option<[u32; FINEST_CLASSES]> {
    let mut counts = [0; FINEST_CLASSES];
    for residual in residuals {
        *counts.get_mut(class_of(offset(*residual, centred, base), FINENESS_MAX))? += 1;
    }
    Some(counts)
}

/// The same by coarser classes, and how many bits are left over then; `None` if class numbers are too large.
fn coarser(finest: &[u32; FINEST_CLASSES], fineness: u32) -> Option<([u32; CLASSES_MAX], usize)> {
    let mut counts = [0; CLASSES_MAX];
    let mut left_over = 0;
    for (class, count) in finest.iter().enumerate().filter(|(_, count)| **count > 0) {
        let (_, start) = class_start(class as u64, FINENESS_MAX);
        let shift = shift_of(start, fineness);
        if shift > SHIFT_MAX {
            return None;
        }
        *counts.get_mut(class_of(start, fineness))? += count;
        left_over += *count as usize * shift as usize;
    }
    Some((counts, left_over))
}

/// Fills `offsets` with what [`encode`] wrote behind the head.
pub(super) fn read(reader: &mut Reader<'_>, kind: u8, offsets: &mut [i64]) -> Result<(), ChunkError> {
    let fineness = u32::from(kind & 0x0f);
    if fineness > FINENESS_MAX {
        return Err(ChunkError::OutOfBounds { what: "fineness of classes" });
    }
    let mut classes = vec![0; offsets.len()];
    let used = tans::decode(reader.rest(), u32::from(kind >> 4), &mut classes)?;
    reader.take(used)?;
    let low = reader.rest();
    let mut bit = 0;
    for (slot, class) in offsets.iter_mut().zip(&classes) {
        let (shift, start) = class_start(u64::from(*class), fineness);
        if shift > SHIFT_MAX {
            return Err(ChunkError::OutOfBounds { what: "class" });
        }
        *slot = start.wrapping_add(load(low, bit) & mask(shift)) as i64;
        bit += shift as usize;
    }
    reader.take(bit.div_ceil(8))?;
    Ok(())
}
