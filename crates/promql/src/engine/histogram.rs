//! Native histograms under operators: adding, scaling, comparing, and the functions built on that.
//!
//! Buckets are handled as ascending lists of `(index, count)`; spans are only the form in which they are kept.

mod accumulate;
mod arithmetic;
mod buckets;
mod rates;
mod shape;
mod trim;

pub(super) use accumulate::Accumulator;
pub(super) use arithmetic::{
    Incompatible, Joined, add, compact, divided, equals, is_reset, only_counts, scale, scaled, subtract,
    with_derived_resets, with_unknown_resets,
};
pub(super) use rates::{add_first, increase, last_change, sum_over_time};
pub(super) use shape::{Remark, fraction, mean, quantile, text, variance};
pub(super) use trim::trimmed;
