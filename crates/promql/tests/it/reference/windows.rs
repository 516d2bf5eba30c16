//! Functions of windows, by their definitions.

use super::histogram::Naive;
use super::{Fault, Reading};

/// A window: samples with their times, ascending, inside `(after_ms, end_ms]`.
pub(crate) struct Window {
    pub(crate) samples: Vec<(i64, Reading)>,
    pub(crate) after_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) step_ms: i64,
}

/// The function's value; `None` where there is none.
pub(crate) fn function(name: &str, argument: Option<f64>, window: &Window) -> Result<Option<Reading>, Fault> {
    let samples = &window.samples;
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Ok(None) };
    let floats: Vec<(f64, f64)> = samples
        .iter()
        .filter_map(|(time_ms, value)| match value {
            Reading::Float(value) => Some((*time_ms as f64 / 1000.0, *value)),
            Reading::Histogram(_) => None,
        })
        .collect();
    let histograms: Vec<(f64, &Naive)> = samples
        .iter()
        .filter_map(|(time_ms, value)| match value {
            Reading::Float(_) => None,
            Reading::Histogram(value) => Some((*time_ms as f64 / 1000.0, value)),
        })
        .collect();
    let values: Vec<f64> = floats.iter().map(|(_, value)| *value).collect();
    let is_mixed = !floats.is_empty() && !histograms.is_empty();
    let float = |value: f64| Ok(Some(Reading::Float(value)));
    match name {
        "count_over_time" => return float(samples.len() as f64),
        "present_over_time" => return float(1.0),
        "last_over_time" => return Ok(Some(last.1.clone())),
        "first_over_time" => return Ok(Some(first.1.clone())),
        "ts_of_last_over_time" => return float(last.0 as f64 / 1000.0),
        "changes" | "resets" => return float(pairs(name, samples)),
        "sum_over_time" | "avg_over_time" | "rate" | "increase" | "delta" if is_mixed => return Ok(None),
        "sum_over_time" if values.is_empty() => return Ok(sum(&histograms).map(Reading::Histogram)),
        "avg_over_time" if values.is_empty() => {
            let count = histograms.len() as f64;
            return Ok(sum(&histograms).map(|sum| Reading::Histogram(sum.map(|value| value / count))));
        }
        "rate" | "increase" | "delta" => return Ok(change(name, &floats, &histograms, window)),
        "irate" | "idelta" => return Ok(last_change(name, samples)),
        // The others ignore histograms.
        _ if values.is_empty() => return Ok(None),
        _ => {}
    }
    match name {
        "sum_over_time" => float(values.iter().sum()),
        "avg_over_time" => float(values.iter().sum::<f64>() / values.len() as f64),
        "min_over_time" => float(values.iter().copied().fold(f64::NAN, f64::min)),
        "max_over_time" => float(values.iter().copied().fold(f64::NAN, f64::max)),
        "stdvar_over_time" => float(variance(&values)),
        "stddev_over_time" => float(variance(&values).sqrt()),
        "quantile_over_time" => float(quantile(argument.unwrap_or(f64::NAN), values.clone())),
        "mad_over_time" => float(median_deviation(&values)),
        "ts_of_max_over_time" => {
            let best = values.iter().copied().fold(f64::NAN, f64::max);
            let at = floats.iter().rev().find(|(_, value)| *value == best || best.is_nan());
            Ok(at.map(|(time, _)| Reading::Float(*time)))
        }
        "deriv" | "predict_linear" if floats.len() < 2 => Ok(None),
        "deriv" => float(line(&floats, floats[0].0).0),
        "predict_linear" => {
            let (slope, value) = line(&floats, window.step_ms as f64 / 1000.0);
            float(slope * argument.unwrap_or(f64::NAN) + value)
        }
        _ => Err(Fault),
    }
}

fn pairs(name: &str, samples: &[(i64, Reading)]) -> f64 {
    let counts = |pair: &[(i64, Reading)]| match (&pair[0].1, &pair[1].1) {
        (Reading::Float(a), Reading::Float(b)) if name == "resets" => b < a,
        (Reading::Float(a), Reading::Float(b)) => a != b && !(a.is_nan() && b.is_nan()),
        (Reading::Histogram(a), Reading::Histogram(b)) if name == "resets" => b.resets(a),
        (Reading::Histogram(a), Reading::Histogram(b)) => !a.equals(b),
        _ => true,
    };
    samples.windows(2).filter(|pair| counts(pair)).count() as f64
}

pub(crate) fn sum(histograms: &[(f64, &Naive)]) -> Option<Naive> {
    let (first, rest) = histograms.split_first()?;
    rest.iter().try_fold(first.1.clone(), |sum, (_, next)| sum.join(next, |a, b| a + b))
}

/// `rate`, `increase`, `delta`: from the first to the last sample, and on to the edges.
fn change(name: &str, floats: &[(f64, f64)], histograms: &[(f64, &Naive)], window: &Window) -> Option<Reading> {
    let counts = name != "delta";
    let times: Vec<f64> = floats.iter().map(|one| one.0).chain(histograms.iter().map(|one| one.0)).collect();
    if times.len() < 2 {
        return None;
    }
    let (start, end) = (window.after_ms as f64 / 1000.0, window.end_ms as f64 / 1000.0);
    let sampled = times[times.len() - 1] - times[0];
    let gap = sampled / (times.len() - 1) as f64;
    let reach = |distance: f64| if distance >= gap * 1.1 { gap / 2.0 } else { distance };
    let factor = |first: f64, change: f64| {
        let mut before = reach(times[0] - start);
        if counts && change > 0.0 && first >= 0.0 {
            before = before.min(sampled * (first / change));
        }
        let factor = (sampled + before + reach(end - times[times.len() - 1])) / sampled;
        if name == "rate" { factor / (end - start) } else { factor }
    };
    if histograms.is_empty() {
        let mut change = floats[floats.len() - 1].1 - floats[0].1;
        for pair in floats.windows(2).filter(|pair| counts && pair[1].1 < pair[0].1) {
            change += pair[0].1;
        }
        return Some(Reading::Float(change * factor(floats[0].1, change)));
    }
    let change = histogram_change(histograms, counts)?;
    let factor = factor(histograms[0].1.count, change.count);
    Some(Reading::Histogram(Naive { gauge: true, ..change.map(|value| value * factor) }))
}

fn histogram_change(histograms: &[(f64, &Naive)], counts: bool) -> Option<Naive> {
    let list: Vec<&Naive> = histograms.iter().map(|(_, histogram)| *histogram).collect();
    let last = list[list.len() - 1];
    let starts_anew = counts && list[1].resets(list[0]);
    let base = if starts_anew { list[1].nothing() } else { list[0].clone() };
    let relevant = if counts { &list[1..] } else { &list[list.len() - 1..] };
    if relevant.iter().any(|one| one.custom != base.custom) {
        return None;
    }
    // First of all the last one is made as coarse as the coarsest, then the others follow.
    let schema = relevant.iter().map(|one| one.schema).fold(base.schema, i32::min);
    let last = if last.custom { last.clone() } else { last.coarser(schema) };
    let mut change = last.join(&base, |a, b| a - b)?;
    if counts {
        for at in 1..list.len() {
            if list[at].resets(list[at - 1]) {
                let lost = if at == 1 { &base } else { list[at - 1] };
                change = change.join(lost, |a, b| a + b)?;
            }
        }
    }
    Some(change)
}

fn last_change(name: &str, samples: &[(i64, Reading)]) -> Option<Reading> {
    let [.., (from_ms, from), (to_ms, to)] = samples else { return None };
    let per_second = if name == "irate" { 1000.0 / (to_ms - from_ms) as f64 } else { 1.0 };
    match (from, to) {
        (Reading::Float(from), Reading::Float(to)) => {
            let change = if name == "irate" && to < from { *to } else { to - from };
            Some(Reading::Float(change * per_second))
        }
        (Reading::Histogram(from), Reading::Histogram(to)) => {
            let is_reset = name == "irate" && to.resets(from);
            let change = if is_reset { to.clone() } else { to.join(from, |a, b| a - b)? };
            Some(Reading::Histogram(Naive { gauge: true, ..change.map(|value| value * per_second) }))
        }
        _ => None,
    }
}

pub(crate) fn variance(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64
}

/// NaN is less than all.
pub(crate) fn quantile(phi: f64, mut values: Vec<f64>) -> f64 {
    values.sort_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b)));
    let rank = phi * (values.len() - 1) as f64;
    let (low, share) = (rank.floor() as usize, rank - rank.floor());
    values[low] * (1.0 - share) + values[(low + 1).min(values.len() - 1)] * share
}

fn median_deviation(values: &[f64]) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let median = quantile(0.5, values.to_vec());
    quantile(0.5, values.iter().map(|value| (value - median).abs()).collect())
}

/// Slope of the line of least squares, and its value at `origin`.
fn line(points: &[(f64, f64)], origin: f64) -> (f64, f64) {
    let total = |value: fn(f64, f64) -> f64| points.iter().map(|point| value(point.0 - origin, point.1)).sum::<f64>();
    let (count, x, y) = (points.len() as f64, total(|x, _| x), total(|_, y| y));
    let slope = (total(|x, y| x * y) - x * y / count) / (total(|x, _| x * x) - x * x / count);
    (slope, y / count - slope * x / count)
}
