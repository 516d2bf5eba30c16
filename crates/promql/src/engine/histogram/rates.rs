//! Histograms over a window: what `rate` and its kin, `sum_over_time` and `avg_over_time` need.

use pharos_model::{Histogram, ResetHint};

use super::accumulate::Accumulator;
use super::arithmetic::{Incompatible, Joined, add, compact, is_reset, subtract};
use super::buckets::to_schema;
use crate::engine::annotations::Note;
use crate::engine::over_time::{Context, is_histogram_reset, is_start_reset};
use crate::engine::window::Window;
use crate::functions::FunctionId;

/// The increase over a window of at least two samples, resets corrected for counters; `None` with a note if the
/// samples do not go together.
pub(in crate::engine) fn increase(context: &Context<'_>, window: &Window<'_>, is_counter: bool) -> Option<Histogram> {
    let metric = window.labels.metric_name();
    let samples = window.histograms;
    let (first, last) = (&*samples.first()?.histogram, &*samples.last()?.histogram);
    let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
    let mut not_counter = is_counter && (is_gauge(first) || is_gauge(last));
    // What came before a reset at the second sample does not matter, whatever its buckets are.
    let nothing = (is_counter && is_histogram_reset(window, 1)).then(|| {
        let second = &samples[1].histogram;
        Histogram { custom_bounds: second.custom_bounds.clone(), ..Histogram::empty(second.schema) }
    });
    let base = nothing.as_ref().unwrap_or(first);
    let is_custom = base.has_custom_buckets();
    let mut schema = last.schema.min(base.schema);
    let mut is_mixed = last.has_custom_buckets() != is_custom;
    if is_counter && !is_mixed {
        for sample in &samples[1..samples.len() - 1] {
            not_counter |= is_gauge(&sample.histogram);
            schema = schema.min(sample.histogram.schema);
            if sample.histogram.has_custom_buckets() != is_custom {
                // Of samples that do not go together nothing else is told.
                (is_mixed, not_counter) = (true, false);
                break;
            }
        }
    }
    if not_counter {
        context.note(&Note::NotCounterHistogram { metric });
    }
    if is_mixed {
        context.note(&Note::MixedSchemas { metric });
        return None;
    }
    if !is_counter && [first, last].into_iter().any(|histogram| !is_gauge(histogram)) {
        context.note(&Note::NotGaugeHistogram { metric });
    }
    let mut change = last.clone();
    change.is_integer = false;
    to_schema(&mut change, schema);
    let mut result = noted(context, subtract(&mut change, base), "subtraction");
    if is_counter {
        let mut previous = base;
        for (at, sample) in samples.iter().enumerate().skip(1) {
            if is_start_reset(window, at) || is_reset(previous, &sample.histogram) {
                result = result.and_then(|()| noted(context, add(&mut change, previous), "addition"));
            }
            previous = &sample.histogram;
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

/// Adds the first sample, with which a counter is known to have started inside the window.
pub(in crate::engine) fn add_first(context: &Context<'_>, window: &Window<'_>, change: &mut Histogram) -> Option<()> {
    let first = &window.histograms.first()?.histogram;
    if noted(context, add(change, first), "addition").is_err() {
        context.note(&Note::MixedSchemas { metric: window.labels.metric_name() });
        return None;
    }
    Some(())
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
