//! Predictors of integer columns: what is left of each value once the obvious is taken out.
//!
//! All arithmetic wraps, so residuals of any column restore it.

use std::ops::Range;

use crate::ChunkError;
use crate::bytes::{Reader, push_zigzag, unzigzag};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Predictor {
    Raw,
    /// `first + i * slope`.
    Line,
    /// The previous value.
    Delta,
    /// The previous value plus the previous delta.
    DeltaOfDelta,
}

pub(super) const PREDICTORS: [Predictor; 4] =
    [Predictor::Raw, Predictor::Line, Predictor::Delta, Predictor::DeltaOfDelta];

/// Residuals looked at for a rough centre; odd, so that one of them is the median.
const CENTRE_SAMPLE: usize = 9;

/// The zigzag numbers that stand before a column's base; only the first [`Predictor::parameters`] count.
pub(super) type Parameters = [i64; 2];

impl Predictor {
    /// Zigzag numbers that stand before the base.
    pub(super) const fn parameters(self) -> usize {
        match self {
            Self::Raw => 0,
            Self::Delta => 1,
            Self::Line | Self::DeltaOfDelta => 2,
        }
    }

    /// Values at the front that the parameters hold and no residual does.
    pub(super) const fn consumed(self) -> usize {
        match self {
            Self::Raw | Self::Line => 0,
            Self::Delta => 1,
            Self::DeltaOfDelta => 2,
        }
    }

    /// Fills `residuals`; false where it needs more values than there are.
    pub(super) fn predict(self, values: &[i64], residuals: &mut Vec<i64>) -> bool {
        residuals.clear();
        self.predict_some(values, 0..values.len(), residuals)
    }

    /// Appends the residuals of the values at `positions`; false where it needs more values than there are.
    pub(super) fn predict_some(self, values: &[i64], positions: Range<usize>, residuals: &mut Vec<i64>) -> bool {
        if values.len() < self.consumed().max(1) {
            return false;
        }
        // The values predicted, with those before them that the prediction needs.
        let from = positions.start.max(self.consumed());
        let Some(needed) = values.get(from - self.consumed()..positions.end.max(from)) else { return true };
        match self {
            Self::Raw => residuals.extend_from_slice(needed),
            Self::Line => {
                let slope = slope(values);
                let mut expected = values[0].wrapping_add(slope.wrapping_mul(from as i64));
                residuals.extend(needed.iter().map(|value| {
                    let residual = value.wrapping_sub(expected);
                    expected = expected.wrapping_add(slope);
                    residual
                }));
            }
            Self::Delta => residuals.extend(needed.iter().skip(1).zip(needed).map(|(b, a)| b.wrapping_sub(*a))),
            Self::DeltaOfDelta => residuals.extend(
                needed
                    .windows(3)
                    .map(|three| three[2].wrapping_sub(three[1]).wrapping_sub(three[1].wrapping_sub(three[0]))),
            ),
        }
        true
    }

    pub(super) fn push_parameters(self, values: &[i64], out: &mut Vec<u8>) {
        match self {
            Self::Raw => {}
            Self::Line => {
                push_zigzag(out, values[0]);
                push_zigzag(out, slope(values));
            }
            Self::Delta => push_zigzag(out, values[0]),
            Self::DeltaOfDelta => {
                push_zigzag(out, values[0]);
                push_zigzag(out, values[1].wrapping_sub(values[0]));
            }
        }
    }

    pub(super) fn take_parameters(self, reader: &mut Reader<'_>) -> Result<Parameters, ChunkError> {
        let mut parameters = [0; 2];
        for slot in &mut parameters[..self.parameters()] {
            *slot = reader.zigzag()?;
        }
        Ok(parameters)
    }

    /// Turns `slots`, which hold offsets behind the first [`Predictor::consumed`], into values.
    pub(super) fn restore(self, parameters: Parameters, centred: bool, base: i64, slots: &mut [i64]) {
        if centred {
            self.restore_with(parameters, |offset| base.wrapping_add(unzigzag(offset as u64)), slots);
        } else {
            self.restore_with(parameters, |offset| base.wrapping_add(offset), slots);
        }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "each of the two callers wants loops of its own")]
    fn restore_with(self, [first, second]: Parameters, residual: impl Fn(i64) -> i64, slots: &mut [i64]) {
        match self {
            Self::Raw => slots.iter_mut().for_each(|slot| *slot = residual(*slot)),
            Self::Line => {
                let mut expected = first;
                for slot in slots {
                    *slot = expected.wrapping_add(residual(*slot));
                    expected = expected.wrapping_add(second);
                }
            }
            Self::Delta => {
                let Some((head, rest)) = slots.split_first_mut() else { return };
                let mut value = first;
                *head = value;
                for slot in rest {
                    value = value.wrapping_add(residual(*slot));
                    *slot = value;
                }
            }
            Self::DeltaOfDelta => {
                let (mut value, mut delta) = (first, second);
                let consumed = slots.len().min(2);
                let (head, rest) = slots.split_at_mut(consumed);
                for (slot, value) in head.iter_mut().zip([first, first.wrapping_add(second)]) {
                    *slot = value;
                }
                value = value.wrapping_add(delta);
                for slot in rest {
                    delta = delta.wrapping_add(residual(*slot));
                    value = value.wrapping_add(delta);
                    *slot = value;
                }
            }
        }
    }
}

fn slope(values: &[i64]) -> i64 {
    let distance = i128::from(values[values.len() - 1]) - i128::from(values[0]);
    let steps = (values.len() - 1).max(1) as i128;
    // Rounded to the nearest: half a millisecond per step adds up over a chunk.
    (distance + distance.signum() * steps / 2).div_euclid(steps) as i64
}

/// The median of a few residuals, spread evenly.
pub(super) fn rough_median(residuals: &[i64]) -> i64 {
    let Some(last) = residuals.len().checked_sub(1) else { return 0 };
    let mut sample: [i64; CENTRE_SAMPLE] = std::array::from_fn(|index| residuals[last * index / (CENTRE_SAMPLE - 1)]);
    sample.sort_unstable();
    sample[CENTRE_SAMPLE / 2]
}
