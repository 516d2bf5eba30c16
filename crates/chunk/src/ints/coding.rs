//! Entropy-coded residuals: the magnitude's class as a symbol, the bits below it as they are.
//!
//! Classes are as fine as `fineness` says: offsets below `2^(fineness + 1)` have a class each, above
//! every power of two has `2^fineness`, and an offset's class number is
//! `(shift << fineness) + (offset >> shift)` where `shift` bits of it are left over.
//!
//! Bulk: classes as [`crate::tans`] writes them, then the left-over bits of each offset end to end.

use std::sync::LazyLock;

use super::packed::{self, median};
use super::predict::Predictor;
use super::{CENTRED, CODED, Scratch, offset};
use crate::bits::{BitSink, load, mask, width_of};
use crate::bytes::{Reader, push_zigzag};
use crate::tans::{self, Frequencies, LOG_MAX, LOG_MIN};
use crate::{CHUNK_SAMPLES_MAX, ChunkError};

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

/// What a finest class is by coarser ones.
#[derive(Clone, Copy)]
struct Coarser {
    class: u16,
    /// Bits left over.
    shift: u8,
}

/// By fineness, then by finest class.
static COARSER: [[Coarser; FINEST_CLASSES]; FINENESS_MAX as usize + 1] = coarser_classes();

const fn coarser_classes() -> [[Coarser; FINEST_CLASSES]; FINENESS_MAX as usize + 1] {
    let mut all = [[Coarser { class: 0, shift: 0 }; FINEST_CLASSES]; FINENESS_MAX as usize + 1];
    let mut fineness = 0;
    while fineness < all.len() {
        let mut finest = 0;
        while finest < FINEST_CLASSES {
            let (_, start) = class_start(finest as u64, FINENESS_MAX);
            let (class, shift) = (class_of(start, fineness as u32), shift_of(start, fineness as u32));
            all[fineness][finest] = Coarser { class: class as u16, shift: shift as u8 };
            finest += 1;
        }
        fineness += 1;
    }
    all
}

/// `count * log2(count)`.
static COUNT_BITS: LazyLock<Vec<f32>> =
    LazyLock::new(|| (0..=CHUNK_SAMPLES_MAX).map(|count| count as f32 * (count.max(1) as f32).log2()).collect());

/// How a column is coded.
struct Plan {
    predictor: Predictor,
    centred: bool,
    base: i64,
    fineness: u32,
    /// About: by entropy.
    cost_bits: usize,
}

/// Appends the column and answers the length of its head, unless that gains too little over packing it.
pub(super) fn encode(
    values: &[i64],
    candidates: &[Predictor],
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Option<usize> {
    let (plan, frequencies) = choose(values, candidates, scratch)?;
    // The candidate that was looked at last has left its residuals.
    if candidates.last() != Some(&plan.predictor) {
        plan.predictor.predict(values, &mut scratch.residuals);
    }
    let start = out.len();
    out.push(plan.predictor as u8 | CODED | if plan.centred { CENTRED } else { 0 });
    out.push(plan.fineness as u8 | (frequencies.log() as u8) << 4);
    plan.predictor.push_parameters(values, out);
    push_zigzag(out, plan.base);
    let head_len = out.len() - start;
    let offsets = scratch.residuals.iter().map(|residual| offset(*residual, plan.centred, plan.base));
    let classes: Vec<u8> = offsets.clone().map(|offset| class_of(offset, plan.fineness) as u8).collect();
    frequencies.encode(&classes, out);
    let mut sink = BitSink::new(out);
    for offset in offsets {
        sink.push(offset, shift_of(offset, plan.fineness));
    }
    sink.finish();
    Some(head_len)
}

/// The cheapest plan, if that is worth it.
fn choose(values: &[i64], candidates: &[Predictor], scratch: &mut Scratch) -> Option<(Plan, Frequencies)> {
    let mut best: Option<(Plan, Counts)> = None;
    let mut packed_bits = usize::MAX;
    for predictor in candidates {
        predictor.predict(values, &mut scratch.residuals);
        let residuals = scratch.residuals.as_slice();
        let Some(least) = residuals.iter().copied().min() else { continue };
        let predictor_bits = 8 * *predictor as usize;
        let centre = median(residuals, &mut scratch.sorted);
        for (centred, base) in packed::worth_planning(residuals, least, centre) {
            let counts = Counts::of(residuals, centred, base);
            let packed = match &counts {
                Some(counts) => packed::Plan::with_widths(&counts.widths(), residuals.len(), centred, base),
                None => packed::Plan::with_base(residuals, centred, base),
            };
            if packed.width == 0 && packed.patches == 0 {
                return None;
            }
            packed_bits = packed_bits.min(packed.cost_bits + predictor_bits);
            let Some((fineness, cost_bits, counts)) = counts.and_then(|counts| {
                let (fineness, bits) = counts.best_fineness(residuals.len())?;
                Some((fineness, bits + predictor_bits + width_of(base.unsigned_abs()) as usize, counts))
            }) else {
                continue;
            };
            if best.as_ref().is_none_or(|(best, _)| cost_bits < best.cost_bits) {
                best = Some((Plan { predictor: *predictor, centred, base, fineness, cost_bits }, counts));
            }
        }
    }
    let (plan, counts) = best?;
    let limit_bits = packed_bits - packed_bits / GAIN_MIN;
    // By entropy it is cheaper than any table makes it.
    if plan.cost_bits > limit_bits {
        return None;
    }
    let (counts, left_over) = counts.coarser(plan.fineness);
    let head_bits = 8 * plan.predictor as usize + width_of(plan.base.unsigned_abs()) as usize;
    let (frequencies, cost_bits) = fit(&counts)?;
    (cost_bits + left_over + head_bits <= limit_bits).then_some((plan, frequencies))
}

/// Frequencies in the table of the best size, and their cost. Smaller tables are quicker to build and take fewer bits
/// themselves; larger ones are more exact. Between the two the cost has one minimum.
fn fit(counts: &[u32]) -> Option<(Frequencies, usize)> {
    let of = |log: u32| {
        Frequencies::fit(counts, log).map(|fit| {
            let bits = fit.cost_bits(counts);
            (fit, bits)
        })
    };
    let Some(mut best) = of(USUAL_LOG) else { return of(LOG_MAX) };
    for log in (LOG_MIN..USUAL_LOG).rev() {
        match of(log) {
            Some(smaller) if smaller.1 <= best.1 => best = smaller,
            _ => break,
        }
    }
    if best.0.log() == USUAL_LOG
        && let Some(larger) = of(LOG_MAX)
        && larger.1 < best.1
    {
        best = larger;
    }
    Some(best)
}

/// Offsets by class of the finest kind.
struct Counts {
    by_class: [u32; FINEST_CLASSES],
    /// Behind the highest that occurs.
    end: usize,
}

impl Counts {
    /// `None` if an offset is too large.
    fn of(residuals: &[i64], centred: bool, base: i64) -> Option<Self> {
        let (mut by_class, mut end) = ([0; FINEST_CLASSES], 0);
        for residual in residuals {
            let class = class_of(offset(*residual, centred, base), FINENESS_MAX);
            *by_class.get_mut(class)? += 1;
            end = end.max(class + 1);
        }
        Some(Self { by_class, end })
    }

    /// Classes that occur, and how often.
    fn iter(&self) -> impl Iterator<Item = (usize, u32)> {
        self.by_class[..self.end].iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    /// The offsets by width.
    fn widths(&self) -> packed::Widths {
        let mut widths = [0; 65];
        for (class, count) in self.iter() {
            let (_, start) = class_start(class as u64, FINENESS_MAX);
            widths[width_of(start) as usize] += count as usize;
        }
        widths
    }

    /// How fine classes are best, and about how many bits the offsets take then.
    fn best_fineness(&self, total: usize) -> Option<(u32, usize)> {
        let mut best = None;
        for fineness in 0..=FINENESS_MAX {
            let Some(bits) = self.cost_bits(fineness, total) else { continue };
            match best {
                // Finer classes tell more and have larger tables: once that is too much, it stays so.
                Some((_, least)) if bits > least => break,
                _ => best = Some((fineness, bits)),
            }
        }
        best
    }

    /// About how many bits the offsets take by coarser classes, table included; `None` if those are too many.
    fn cost_bits(&self, fineness: u32, total: usize) -> Option<usize> {
        let map = &COARSER[fineness as usize];
        let highest = map[self.end.checked_sub(1)?];
        if highest.class as usize >= CLASSES_MAX || u32::from(highest.shift) > SHIFT_MAX {
            return None;
        }
        let count_bits = COUNT_BITS.as_slice();
        let mut bits = count_bits[total];
        let (mut left_over, mut table_bits) = (0, tans::fixed_bits(USUAL_LOG));
        let mut current: Option<(u16, u32)> = None;
        let mut end_class = |(_, count): (u16, u32)| {
            bits -= count_bits[count as usize];
            table_bits += tans::part_bits(((count << USUAL_LOG) / total as u32).max(1) as u16);
        };
        let mut skipped = 0;
        for (class, count) in self.iter() {
            let coarser = map[class];
            left_over += count as usize * usize::from(coarser.shift);
            current = Some(match current {
                Some((open, sum)) if open == coarser.class => (open, sum + count),
                Some(open) => {
                    end_class(open);
                    skipped += u32::from(coarser.class - open.0 - 1);
                    (coarser.class, count)
                }
                None => (coarser.class, count),
            });
        }
        end_class(current?);
        Some(bits as usize + (table_bits + skipped * tans::part_bits(0)) as usize + left_over)
    }

    /// The counts by coarser classes, and how many bits are left over then.
    fn coarser(&self, fineness: u32) -> ([u32; CLASSES_MAX], usize) {
        let (mut counts, mut left_over) = ([0; CLASSES_MAX], 0);
        for (class, count) in self.iter() {
            let coarser = COARSER[fineness as usize][class];
            counts[usize::from(coarser.class)] += count;
            left_over += count as usize * usize::from(coarser.shift);
        }
        (counts, left_over)
    }
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
        let class = u64::from(*class);
        // Before it shifts anything: class numbers go higher than the classes of any offset.
        if class >> fineness > u64::from(SHIFT_MAX) + 1 {
            return Err(ChunkError::OutOfBounds { what: "class" });
        }
        let (shift, start) = class_start(class, fineness);
        *slot = start.wrapping_add(load(low, bit) & mask(shift)) as i64;
        bit += shift as usize;
    }
    reader.take(bit.div_ceil(8))?;
    Ok(())
}
