//! Grids: functions of samples evaluated at every step of a query, and grids folded by group.
//!
//! Owns the arithmetic that the query engine and the stores share: the engine evaluates what a store hands out
//! raw, a store evaluates where the samples are, and both get the same bits because both run this code. It knows
//! columns of floats only: no native histograms, no annotations, no storage.
//!
//! Invariants
//! - G1 A grid has one value per step; [`ABSENT`] where there is none. No function or aggregation yields these bits
//!   from samples: arithmetic quiets a NaN, and samples that carry them are stale markers.
//! - G2 The result for a series depends on its samples alone, not on the series evaluated before it.
//! - G3 Bits follow Prometheus: corrections are added in the order of time, sums are compensated as there, and of
//!   equal values the earlier wins.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod extremes;
mod fold;
mod functions;
mod geometry;
mod group_fold;
mod grouping;
mod kernel;
mod over_time;
mod rate;
mod sums;
mod thinned;

pub use fold::{FoldColumn, FoldState};
pub use functions::{Aggregation, Grouping, RangeFunction};
pub use geometry::SharedWindows;
pub use group_fold::GroupFold;
pub use grouping::{Groups, KeyLabels};
pub use kernel::{Evaluated, Floats, Kernel};
pub use over_time::{greater, is_change, lesser, mean, sum};
pub use rate::{Extrapolation, known_start, restarted};
pub use sums::{Mean, Sum};
pub use thinned::{Thinned, ThinnedKernel};

/// What a grid holds at a step without a value: the bits of the stale marker.
pub const ABSENT: f64 = f64::from_bits(pharos_model::STALE_NAN_BITS);

/// Whether a step has no value.
#[must_use]
#[inline]
pub fn is_absent(value: f64) -> bool {
    pharos_model::is_stale_nan(value)
}

/// The value of a step, if it has one.
#[must_use]
#[inline]
pub fn present(value: f64) -> Option<f64> {
    (!is_absent(value)).then_some(value)
}
