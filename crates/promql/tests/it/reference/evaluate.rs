//! Selectors, functions and aggregations at one step.

use std::collections::BTreeMap;

use super::data::{Stored, Stream};
use super::histogram::Naive;
use super::pairs::{element, matched, named, outcome, set};
use super::query::{Query, Selector, is_set};
use super::windows::{self, Window, quantile, sum, variance};
use super::{Fault, NAME, Reading, Tags, Vector, distinct, without_name};

/// How far back an instant selector looks.
pub(crate) const LOOKBACK_MS: i64 = 40_000;

pub(crate) fn evaluate(query: &Query, streams: &[Stream], step_ms: i64) -> Result<Vector, Fault> {
    match query {
        Query::Select(selector) => Ok(select(selector, streams, step_ms, |_, value| value)),
        Query::Window(function, argument, selector, range_ms) => {
            let end_ms = selector.shift.of(step_ms);
            let found = selected(selector, streams).map(|stream| {
                let inside =
                    stream.samples.iter().filter(|(time_ms, _)| end_ms - range_ms < *time_ms && *time_ms <= end_ms);
                (
                    stream.tags.clone(),
                    inside.filter_map(|(time_ms, stored)| Some((*time_ms, reading(stored)?))).collect(),
                )
            });
            over_windows(function, *argument, found.collect(), (end_ms, *range_ms, step_ms), Some(selector))
        }
        Query::Subquery { function, query, range_ms, step_ms: inner_step_ms, shift } => {
            let end_ms = shift.of(step_ms);
            let mut found: BTreeMap<Tags, Vec<(i64, Reading)>> = BTreeMap::new();
            let first = ((end_ms - range_ms).div_euclid(*inner_step_ms) + 1) * inner_step_ms;
            for at in (first..=end_ms).step_by(*inner_step_ms as usize) {
                for (tags, value) in evaluate(query, streams, at)? {
                    found.entry(tags).or_default().push((at, value));
                }
            }
            over_windows(function, None, found.into_iter().collect(), (end_ms, *range_ms, step_ms), None)
        }
        Query::Each(function, argument, query) => each(function, *argument, query, streams, step_ms),
        Query::Aggregate { op, argument, without, labels, query } => {
            let vector = evaluate(query, streams, step_ms)?;
            Ok(aggregate(op, argument.unwrap_or(0.0), *without, labels, vector))
        }
        Query::Number { op, bool, number, left, query } => {
            let vector = evaluate(query, streams, step_ms)?;
            let number = Reading::Float(*number);
            let pair = |(tags, value): (Tags, Reading)| {
                let result = if *left { element(op, &number, &value) } else { element(op, &value, &number) }?;
                outcome(result, op, *bool, &value).map(|value| (named(tags, op, *bool), value))
            };
            distinct(vector.into_iter().filter_map(pair).collect())
        }
        Query::Pair { op, bool, matching, lhs, rhs } => {
            let (lhs, rhs) = (evaluate(lhs, streams, step_ms)?, evaluate(rhs, streams, step_ms)?);
            if is_set(op) { Ok(set(op, matching, lhs, rhs)) } else { matched(op, *bool, matching, &lhs, &rhs) }
        }
    }
}

fn reading(stored: &Stored) -> Option<Reading> {
    match stored {
        Stored::Float(value) => Some(Reading::Float(*value)),
        Stored::Histogram(histogram) => Some(Reading::Histogram(Naive::of(histogram))),
        Stored::Stale => None,
    }
}

fn selected<'a>(selector: &'a Selector, streams: &'a [Stream]) -> impl Iterator<Item = &'a Stream> {
    streams.iter().filter(|stream| {
        stream.tags[NAME] == selector.name
            && selector.matcher.is_none_or(|(label, differs, value)| (stream.tags[label] == value) != differs)
    })
}

/// The newest sample of each stream within the lookback, unless it is a stale marker.
fn select(selector: &Selector, streams: &[Stream], step_ms: i64, map: impl Fn(i64, Reading) -> Reading) -> Vector {
    let at_ms = selector.shift.of(step_ms);
    let newest = |stream: &Stream| {
        let (time_ms, stored) = stream.samples.iter().rfind(|(time_ms, _)| *time_ms <= at_ms)?;
        let value = reading(stored).filter(|_| *time_ms > at_ms - LOOKBACK_MS)?;
        Some((stream.tags.clone(), map(*time_ms, value)))
    };
    selected(selector, streams).filter_map(newest).collect()
}

/// What a selector that finds nothing says of what is absent.
fn absent(selector: Option<&Selector>) -> Vector {
    let matcher = selector.and_then(|selector| selector.matcher).filter(|(_, differs, _)| !differs);
    vec![(
        matcher.map(|(label, _, value)| (label.to_owned(), value.to_owned())).into_iter().collect(),
        Reading::Float(1.0),
    )]
}

fn over_windows(
    function: &str,
    argument: Option<f64>,
    found: Vec<(Tags, Vec<(i64, Reading)>)>,
    (end_ms, range_ms, step_ms): (i64, i64, i64),
    selector: Option<&Selector>,
) -> Result<Vector, Fault> {
    if function == "absent_over_time" {
        let is_empty = found.iter().all(|(_, samples)| samples.is_empty());
        return Ok(if is_empty { absent(selector) } else { Vec::new() });
    }
    let mut vector = Vector::new();
    for (tags, samples) in found {
        let window = Window { samples, after_ms: end_ms - range_ms, end_ms, step_ms };
        if let Some(value) = windows::function(function, argument, &window)? {
            let keeps_name = matches!(function, "last_over_time" | "first_over_time");
            vector.push((if keeps_name { tags } else { without_name(tags) }, value));
        }
    }
    distinct(vector)
}

fn each(
    function: &str,
    argument: Option<f64>,
    query: &Query,
    streams: &[Stream],
    step_ms: i64,
) -> Result<Vector, Fault> {
    let vector = match (function, query) {
        ("timestamp", Query::Select(selector)) => {
            select(selector, streams, step_ms, |time_ms, _| Reading::Float(time_ms as f64 / 1000.0))
        }
        _ => evaluate(query, streams, step_ms)?,
    };
    if function == "absent" {
        let selector = if let Query::Select(selector) = query { Some(selector) } else { None };
        return Ok(if vector.is_empty() { absent(selector) } else { Vec::new() });
    }
    let number = argument.unwrap_or(f64::NAN);
    let plain_selector = matches!(query, Query::Select(_));
    let map = |value: Reading| {
        Some(Reading::Float(match (function, &value) {
            ("timestamp", _) if plain_selector => return Some(value),
            ("timestamp", _) => step_ms as f64 / 1000.0,
            ("-", Reading::Histogram(histogram)) => {
                return Some(Reading::Histogram(Naive { gauge: true, ..histogram.map(|value| -value) }));
            }
            ("histogram_count", Reading::Histogram(histogram)) => histogram.count,
            ("histogram_sum", Reading::Histogram(histogram)) => histogram.sum,
            ("histogram_avg", Reading::Histogram(histogram)) => histogram.sum / histogram.count,
            ("histogram_quantile", Reading::Histogram(histogram)) => histogram.quantile(number),
            ("abs", Reading::Float(value)) => value.abs(),
            ("ceil", Reading::Float(value)) => value.ceil(),
            ("floor", Reading::Float(value)) => value.floor(),
            ("sqrt", Reading::Float(value)) => value.sqrt(),
            ("-", Reading::Float(value)) => -value,
            ("sgn", Reading::Float(value)) if *value == 0.0 || value.is_nan() => *value,
            ("sgn", Reading::Float(value)) => value.signum(),
            ("clamp_min" | "clamp_max", Reading::Float(value)) if value.is_nan() => *value,
            ("clamp_min", Reading::Float(value)) => value.max(number),
            ("clamp_max", Reading::Float(value)) => value.min(number),
            _ => return None,
        }))
    };
    distinct(vector.into_iter().filter_map(|(tags, value)| Some((without_name(tags), map(value)?))).collect())
}

fn aggregate(op: &str, argument: f64, without: bool, labels: &[&str], vector: Vector) -> Vector {
    let mut groups: BTreeMap<Tags, Vec<Reading>> = BTreeMap::new();
    for (mut tags, value) in vector {
        tags.retain(|name, _| name != NAME && labels.contains(&name.as_str()) != without);
        groups.entry(tags).or_default().push(value);
    }
    if op == "sum(topk" {
        let best = groups.into_values().flat_map(|values| largest(&values, argument as usize)).collect::<Vec<_>>();
        return if best.is_empty() { Vec::new() } else { vec![(Tags::new(), Reading::Float(best.iter().sum()))] };
    }
    groups.into_iter().filter_map(|(tags, values)| Some((tags, folded(op, argument, &values)?))).collect()
}

fn floats(values: &[Reading]) -> Vec<f64> {
    let float = |value: &Reading| if let Reading::Float(value) = value { Some(*value) } else { None };
    values.iter().filter_map(float).collect()
}

/// Numbers first, NaN last.
fn largest(values: &[Reading], count: usize) -> Vec<f64> {
    let mut floats = floats(values);
    floats.sort_by(|a, b| a.is_nan().cmp(&b.is_nan()).then(b.total_cmp(a)));
    floats.truncate(count);
    floats
}

fn folded(op: &str, argument: f64, values: &[Reading]) -> Option<Reading> {
    let floats = floats(values);
    let histograms: Vec<(f64, &Naive)> = values
        .iter()
        .filter_map(|value| if let Reading::Histogram(value) = value { Some((0.0, value)) } else { None })
        .collect();
    let count = values.len() as f64;
    match op {
        "count" => return Some(Reading::Float(count)),
        "group" => return Some(Reading::Float(1.0)),
        "sum" | "avg" if floats.is_empty() => {
            let by = if op == "avg" { count } else { 1.0 };
            return sum(&histograms).map(|sum| Reading::Histogram(sum.map(|value| value / by)));
        }
        "sum" | "avg" if !histograms.is_empty() => return None,
        _ if floats.is_empty() => return None,
        _ => {}
    }
    Some(Reading::Float(match op {
        "sum" => floats.iter().sum(),
        "avg" => floats.iter().sum::<f64>() / count,
        "min" => floats.iter().copied().fold(f64::NAN, f64::min),
        "max" => floats.iter().copied().fold(f64::NAN, f64::max),
        "stddev" => variance(&floats).sqrt(),
        _ => quantile(argument, floats),
    }))
}
