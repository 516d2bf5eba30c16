//! Histograms over a window: what `rate` and its kin, `sum_over_time` and `avg_over_time` need.

use pharos_model::{Histogram, ResetHint};

use super::accumulate::Accumulator;
use super::arithmetic::{Incompatible, Joined, add, compact, subtract};
use crate::engine::annotations::Note;
use crate::engine::over_time::{Context, is_histogram_reset};
use crate::engine::window::Window;
use crate::functions::FunctionId;

/// The increase over the window, resets corrected for counters; `None` with a note if the samples do not go together.
///
/// With `from_zero` the counter is known to have started inside the window, so that the first sample counts in full.
pub(in crate::engine) fn increase(
    context: &Context<'_>,
    window: &Window<'_>,
    is_counter: bool,
    from_zero: bool,
) -> Option<Histogram> {
    let metric = window.labels.metric_name();
    let samples = window.histograms;
    let last = &*samples.last()?.histogram;
    if is_counter && samples.iter().any(|sample| sample.histogram.reset_hint == ResetHint::Gauge) {
        context.note(&Note::NotCounterHistogram { metric });
    }
    // What came before a reset at the second sample does not matter, whatever its buckets are.
    let starts_anew = is_counter && samples.len() > 1 && is_histogram_reset(window, 1);
    let relevant = if starts_anew { &samples[1..] } else { samples };
    let mixed = relevant.iter().any(|sample| sample.histogram.has_custom_buckets() != last.has_custom_buckets());
    let checked =
        if is_counter { mixed } else { samples[0].histogram.has_custom_buckets() != last.has_custom_buckets() };
    if checked {
        context.note(&Note::MixedSchemas { metric });
        return None;
    }
    if !is_counter
        && [samples.first(), samples.last()]
            .iter()
            .flatten()
            .any(|sample| sample.histogram.reset_hint != ResetHint::Gauge)
    {
        context.note(&Note::NotGaugeHistogram { metric });
    }
    let mut change = last.clone();
    change.is_integer = false;
    let mut result = Ok(());
    if !starts_anew && !from_zero {
        result = noted(context, subtract(&mut change, &samples[0].histogram), "subtraction");
    }
    if is_counter && result.is_ok() {
        for at in 1..samples.len() {
            // With a known start the first sample is part of the increase as well.
            let lost_first = starts_anew && at == 1 && !from_zero;
            if is_histogram_reset(window, at) && !lost_first {
                result = noted(context, add(&mut change, &samples[at - 1].histogram), "addition");
            } else if lost_first {
                result = Ok(());
            }
            if result.is_err() {
                break;
            }
        }
    }
    if result.is_err() {
        context.note(&Note::MixedSchemas { metric });
        return None;
    }
    change.reset_hint = ResetHint::Gauge;
    compact(&mut change);
    Some(change)
}

/// Says what was reconciled; contradicting hints are no news here, resets are handled one by one.
fn noted(
    context: &Context<'_>,
    joined: Result<Joined, Incompatible>,
    operation: &'static str,
) -> Result<(), Incompatible> {
    if joined?.bounds_reconciled {
        context.note(&Note::MismatchedCustomBuckets { operation });
    }
    Ok(())
}

/// The difference of the last two samples, or the last one after a reset.
pub(in crate::engine) fn last_change(
    context: &Context<'_>,
    window: &Window<'_>,
    previous: &Histogram,
    current: &Histogram,
    is_rate: bool,
    reset: bool,
) -> Option<Histogram> {
    let metric = window.labels.metric_name();
    let gauges = [previous, current].map(|histogram| histogram.reset_hint == ResetHint::Gauge);
    if is_rate && gauges.contains(&true) {
        context.note(&Note::NotCounterHistogram { metric });
    }
    if !is_rate && gauges.contains(&false) {
        context.note(&Note::NotGaugeHistogram { metric });
    }
    let mut change = current.clone();
    change.is_integer = false;
    if !reset {
        match subtract(&mut change, previous) {
            Ok(joined) if joined.bounds_reconciled => {
                context.note(&Note::MismatchedCustomBuckets { operation: "subtraction" });
            }
            Ok(_) => {}
            Err(Incompatible) => {
                context.note(&Note::MixedSchemas { metric });
                return None;
            }
        }
    }
    change.reset_hint = ResetHint::Gauge;
    compact(&mut change);
    Some(change)
}

/// Sum or mean of a window of nothing but histograms.
pub(in crate::engine) fn sum_over_time(context: &Context<'_>, window: &Window<'_>, is_mean: bool) -> Option<Histogram> {
    debug_assert!(matches!(context.function, FunctionId::SumOverTime | FunctionId::AvgOverTime));
    let (first, rest) = window.histograms.split_first()?;
    let mut sum = Accumulator::starting_at(&first.histogram, is_mean);
    for sample in rest {
        match sum.add(&sample.histogram) {
            Ok(false) => {}
            Ok(true) => context.note(&Note::MismatchedCustomBuckets { operation: "aggregation" }),
            Err(Incompatible) => {
                context.note(&Note::MixedSchemas { metric: window.labels.metric_name() });
                return None;
            }
        }
    }
    if sum.has_conflicting_resets() {
        context.note(&Note::ConflictingResets { operation: "aggregation" });
    }
    Some(sum.finish())
}
