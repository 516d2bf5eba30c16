//! Lines and trends: `deriv`, `predict_linear`, `double_exponential_smoothing`.

use super::Context;
use crate::engine::QueryError;
use crate::engine::annotations::Note;
use crate::engine::gofmt::go_g;
use crate::engine::series::Cell;
use crate::engine::window::Window;
use pharos_grid::Sum;

fn note_histograms(context: &Context<'_>, window: &Window<'_>) {
    if !window.histograms.is_empty() && !window.values.is_empty() {
        context.note(&Note::HistogramIgnoredInMixedRange { metric: window.labels.metric_name() });
    }
}

/// Slope per second and the value at `origin_ms` of the line with the least squares.
fn least_squares(window: &Window<'_>, origin_ms: i64) -> (f64, f64) {
    let first = window.values[0];
    if window.values.iter().all(|value| *value == first) {
        let slope = if first.is_infinite() { f64::NAN } else { 0.0 };
        return (slope, if first.is_infinite() { f64::NAN } else { first });
    }
    let (mut x_sum, mut y_sum) = (Sum::default(), Sum::default());
    let (mut xy_sum, mut xx_sum) = (Sum::default(), Sum::default());
    for (time_ms, value) in window.times_ms.iter().zip(window.values) {
        let x = (time_ms - origin_ms) as f64 / 1000.0;
        x_sum.add(x);
        y_sum.add(*value);
        xy_sum.add(x * value);
        xx_sum.add(x * x);
    }
    let count = window.values.len() as f64;
    let (x, y) = (x_sum.value(), y_sum.value());
    let covariance = xy_sum.value() - x * y / count;
    let variance = xx_sum.value() - x * x / count;
    let slope = covariance / variance;
    (slope, y / count - slope * x / count)
}

pub(super) fn deriv(context: &Context<'_>, window: &Window<'_>) -> Cell {
    note_histograms(context, window);
    if window.values.len() < 2 {
        return Cell::Empty;
    }
    // The first sample as origin keeps the squares small.
    Cell::Float(least_squares(window, window.times_ms[0]).0)
}

pub(super) fn predict(context: &Context<'_>, window: &Window<'_>, ahead_s: f64) -> Cell {
    note_histograms(context, window);
    if window.values.len() < 2 {
        return Cell::Empty;
    }
    let (slope, intercept) = least_squares(window, window.step_ms);
    Cell::Float(slope * ahead_s + intercept)
}

/// Holt's double exponential smoothing. The factors are checked where there is something to smooth; NaN passes.
pub(super) fn smoothed(
    context: &Context<'_>,
    window: &Window<'_>,
    smoothing: f64,
    trend_factor: f64,
) -> Result<Cell, QueryError> {
    for (name, short, factor) in [("smoothing", "sf", smoothing), ("trend", "tf", trend_factor)] {
        if factor <= 0.0 || factor >= 1.0 {
            let got = if factor.is_infinite() { go_g(factor) } else { format!("{factor:.6}") };
            return Err(QueryError::execution(format!("invalid {name} factor. Expected: 0 < {short} < 1, got: {got}")));
        }
    }
    note_histograms(context, window);
    let values = window.values;
    if values.len() < 2 {
        return Ok(Cell::Empty);
    }
    let mut level = values[0];
    let mut trend = values[1] - values[0];
    let mut previous_level = level;
    for (at, value) in values.iter().enumerate().skip(1) {
        if at > 1 {
            trend = trend_factor * (level - previous_level) + (1.0 - trend_factor) * trend;
        }
        previous_level = level;
        level = smoothing * value + (1.0 - smoothing) * (previous_level + trend);
    }
    Ok(Cell::Float(level))
}
