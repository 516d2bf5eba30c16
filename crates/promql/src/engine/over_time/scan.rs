//! Functions that look at each window afresh: the `*_over_time` family.

use pharos_grid::{Sum, greater, lesser, mean, sum};

use super::Context;
use crate::engine::QueryError;
use crate::engine::annotations::Note;
use crate::engine::histogram;
use crate::engine::quantile::quantile;
use crate::engine::series::Cell;
use crate::engine::window::Window;
use crate::functions::FunctionId as F;

pub(super) fn cell(context: &Context<'_>, window: &Window<'_>, index: usize) -> Result<Cell, QueryError> {
    match context.function {
        F::CountOverTime => return Ok(Cell::Float((window.values.len() + window.histograms.len()) as f64)),
        F::PresentOverTime => return Ok(Cell::Float(1.0)),
        F::LastOverTime | F::TsOfLastOverTime => return Ok(edge_sample(context.function, window, true)),
        F::FirstOverTime | F::TsOfFirstOverTime => return Ok(edge_sample(context.function, window, false)),
        F::SumOverTime | F::AvgOverTime if !window.histograms.is_empty() => {
            if !window.values.is_empty() {
                context.note(&Note::MixedFloatsHistograms { metric: window.labels.metric_name() });
                return Ok(Cell::Empty);
            }
            let is_mean = context.function == F::AvgOverTime;
            return Ok(histogram::sum_over_time(context, window, is_mean).map_or(Cell::Empty, Cell::histogram));
        }
        _ => {}
    }
    if window.values.is_empty() {
        return Ok(Cell::Empty);
    }
    let mut span = context.range.span;
    if context.function == F::QuantileOverTime {
        let phi = context.params[0][index];
        span = context.param_spans[0];
        if !(0.0..=1.0).contains(&phi) {
            context.evaluator.note(span, &Note::InvalidQuantile(phi));
        }
    }
    if !window.histograms.is_empty() {
        context.evaluator.note(span, &Note::HistogramIgnoredInMixedRange { metric: window.labels.metric_name() });
    }
    let values = window.values;
    Ok(Cell::Float(match context.function {
        F::SumOverTime => sum(values),
        F::AvgOverTime => mean(values),
        F::MinOverTime => values.iter().copied().fold(f64::NAN, lesser),
        F::MaxOverTime => values.iter().copied().fold(f64::NAN, greater),
        F::TsOfMinOverTime => seconds_of(window, |value, best| value <= best),
        F::TsOfMaxOverTime => seconds_of(window, |value, best| value >= best),
        F::StdvarOverTime => variance(values),
        F::StddevOverTime => variance(values).sqrt(),
        F::QuantileOverTime => quantile(context.params[0][index], &mut values.to_vec()),
        F::MadOverTime => median_deviation(values),
        other => return Err(QueryError::unsupported(format!("function {other:?}"), "over a range vector")),
    }))
}

/// Population variance by Welford's method with compensated sums.
fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut squares) = (Sum::default(), Sum::default());
    let mut count = 0.0;
    for value in values {
        count += 1.0;
        let before = value - mean.value();
        mean.add(before / count);
        let after = value - mean.value();
        squares.add(before * after);
    }
    squares.value() / count
}

fn median_deviation(values: &[f64]) -> f64 {
    let median = quantile(0.5, &mut values.to_vec());
    let mut deviations: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    if values.iter().any(|value| value.is_nan()) { f64::NAN } else { quantile(0.5, &mut deviations) }
}

/// The time of the last sample that is at least as good as all before, in seconds.
fn seconds_of(window: &Window<'_>, wins: impl Fn(f64, f64) -> bool) -> f64 {
    let mut best = 0;
    for (at, value) in window.values.iter().enumerate() {
        if wins(*value, window.values[best]) || window.values[best].is_nan() {
            best = at;
        }
    }
    window.times_ms[best] as f64 / 1000.0
}

fn edge_sample(function: F, window: &Window<'_>, last: bool) -> Cell {
    let pick = |len: usize| if last { len.checked_sub(1) } else { (len > 0).then_some(0) };
    let float = pick(window.values.len()).map(|at| (window.times_ms[at], Cell::Float(window.values[at])));
    let histogram = pick(window.histograms.len()).map(|at| {
        let sample = &window.histograms[at];
        (sample.timestamp_ms, Cell::Histogram(sample.histogram.clone()))
    });
    let picked = match (float, histogram) {
        (Some(float), Some(histogram)) => {
            if (last && float.0 > histogram.0) || (!last && float.0 < histogram.0) {
                Some(float)
            } else {
                Some(histogram)
            }
        }
        (float, histogram) => float.or(histogram),
    };
    match picked {
        None => Cell::Empty,
        Some((time_ms, _)) if matches!(function, F::TsOfLastOverTime | F::TsOfFirstOverTime) => {
            Cell::Float(time_ms as f64 / 1000.0)
        }
        Some((_, cell)) => cell,
    }
}
