//! Patched frame of reference: residuals as offsets of one width, and the few that are wider apart.

use super::offset;
use super::predict::rough_median;
use crate::ChunkError;
use crate::bits::{self, width_of};
use crate::bytes::{Reader, push_varint, zigzag};

/// What a patch costs besides its high bits, for choosing the width.
const PATCH_BITS: usize = 14;

/// Residuals looked at for the centre of a column.
const MEDIAN_SAMPLE: usize = 64;
/// Residuals looked at before a longer column is planned for.
const SAMPLE: usize = 128;

/// How residuals are packed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) centred: bool,
    pub(super) base: i64,
    pub(super) width: u32,
    pub(super) patches: usize,
    pub(super) cost_bits: usize,
}

impl Plan {
    pub(super) const NOTHING: Self = Self { centred: false, base: 0, width: 0, patches: 0, cost_bits: 0 };

    pub(super) fn choose(residuals: &[i64], scratch: &mut Vec<i64>) -> Self {
        let Some(least) = residuals.iter().copied().min() else { return Self::NOTHING };
        if residuals.iter().all(|residual| *residual == least) {
            return Self::with_base(&[], false, least);
        }
        let plans = worth_planning(residuals, least, median(residuals, scratch));
        let plans = plans.map(|(centred, base)| Self::with_base(residuals, centred, base));
        plans.min_by_key(|plan| plan.cost_bits).expect("one at least is worth planning")
    }

    pub(super) fn with_base(residuals: &[i64], centred: bool, base: i64) -> Self {
        Self::with_widths(&widths(residuals, centred, base), residuals.len(), centred, base)
    }

    pub(super) fn with_widths(by_width: &Widths, count: usize, centred: bool, base: i64) -> Self {
        let widest = (0..=64).rev().find(|width| by_width[*width] > 0).unwrap_or(0);
        let base_bits = 8 * width_of(zigzag(base)).div_ceil(7).max(1) as usize;
        let (mut above, mut above_bits) = (0, 0);
        let mut best = Self { centred, base, width: widest as u32, patches: 0, cost_bits: base_bits + widest * count };
        for width in (0..widest).rev() {
            above += by_width[width + 1];
            above_bits += by_width[width + 1] * (width + 1);
            let patch_bits = 8 + above * PATCH_BITS + above_bits - above * width;
            let cost_bits = base_bits + width * count + patch_bits;
            if cost_bits < best.cost_bits {
                best = Self { width: width as u32, patches: above, cost_bits, ..best };
            }
        }
        best
    }

    /// Appends what stands behind the base.
    pub(super) fn write(&self, residuals: &[i64], out: &mut Vec<u8>) {
        let offsets = residuals.iter().map(|residual| offset(*residual, self.centred, self.base));
        bits::pack(offsets.clone(), self.width, out);
        if self.patches == 0 {
            return;
        }
        push_varint(out, self.patches as u64);
        let mut next = 0;
        for (position, offset) in offsets.enumerate() {
            // Patches exist only below the full width, so the shift is in range.
            let high = offset >> self.width;
            if high != 0 {
                push_varint(out, (position - next) as u64);
                push_varint(out, high);
                next = position + 1;
            }
        }
    }
}

/// Whether offsets are from the least residual or from the centre, and that: what is cheaper in a sample. Of short columns both.
pub(super) fn worth_planning(residuals: &[i64], least: i64, centre: i64) -> impl Iterator<Item = (bool, i64)> {
    let both = [(false, least), (true, centre)];
    let only = (residuals.len() > SAMPLE * 3 / 2).then(|| {
        let step = (residuals.len() / SAMPLE) | 1;
        let [from_least, from_centre] = both.map(|(centred, base)| {
            let sample = residuals.iter().step_by(step);
            let mut by_width = [0; 65];
            sample.for_each(|residual| by_width[width_of(offset(*residual, centred, base)) as usize] += 1);
            Plan::with_widths(&by_width, residuals.len().div_ceil(step), centred, base).cost_bits
        });
        from_centre < from_least
    });
    both.into_iter().filter(move |(centred, _)| only.is_none_or(|only| only == *centred))
}

/// Offsets by width.
pub(super) type Widths = [usize; 65];

fn widths(residuals: &[i64], centred: bool, base: i64) -> Widths {
    let mut by_width = [0; 65];
    for residual in residuals {
        by_width[width_of(offset(*residual, centred, base)) as usize] += 1;
    }
    by_width
}

/// About what the residuals cost, packed and coded, without looking for the best plan.
pub(super) struct Rough {
    pub(super) packed_bits: usize,
    pub(super) coded_bits: usize,
}

impl Rough {
    pub(super) fn of(residuals: &[i64]) -> Self {
        let (least, most) = residuals.iter().fold((i64::MAX, i64::MIN), |(a, b), one| (a.min(*one), b.max(*one)));
        if least >= most {
            return Self { packed_bits: 0, coded_bits: 0 };
        }
        let centre = rough_median(residuals);
        let by_width = widths(residuals, true, centre);
        let centred = Plan::with_widths(&by_width, residuals.len(), true, centre);
        let from_least = width_of(most.wrapping_sub(least) as u64) as usize * residuals.len();
        let coded_bits = by_width.iter().enumerate().map(|(width, count)| width * count).sum();
        Self { packed_bits: centred.cost_bits.min(from_least), coded_bits }
    }
}

/// About the middle residual: that of a sample; `scratch` is overwritten.
pub(super) fn median(residuals: &[i64], scratch: &mut Vec<i64>) -> i64 {
    scratch.clear();
    // Spread evenly and at odd distances, so as not to fall in step with a rhythm of the column.
    let step = (residuals.len() / MEDIAN_SAMPLE) | 1;
    scratch.extend(residuals.iter().step_by(step));
    let middle = scratch.len() / 2;
    *scratch.select_nth_unstable(middle).1
}

/// Fills `offsets` with what [`Plan::write`] wrote.
pub(super) fn read(reader: &mut Reader<'_>, width: u32, patched: bool, offsets: &mut [i64]) -> Result<(), ChunkError> {
    if width > 64 {
        return Err(ChunkError::OutOfBounds { what: "bit width" });
    }
    let packed = reader.take(bits::packed_len(offsets.len(), width))?;
    bits::unpack(packed, width, offsets);
    if patched {
        let count = reader.count("patch count", offsets.len())?;
        let mut next = 0;
        for _ in 0..count {
            let position = next + reader.count("patch position", offsets.len())?;
            let high = reader.varint()?;
            let slot = offsets.get_mut(position).ok_or(ChunkError::OutOfBounds { what: "patch position" })?;
            *slot |= high.checked_shl(width).unwrap_or(0) as i64;
            next = position + 1;
        }
    }
    Ok(())
}
