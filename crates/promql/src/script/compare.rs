//! Whether a result is what was expected: floats within a relative 1e-6, histograms bucket by bucket.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use pharos_model::{BucketSide, Histogram, Labels, StepRange, is_stale_nan};

use super::expectation::{Expectation, Notes, TextPattern};
use super::histogram::HistogramText;
use super::series::{Point, SeriesText};
use crate::engine::{MatrixSeries, SampleValue, Value, VectorSample};

/// Relative difference up to which floats count as equal.
const EPSILON: f64 = 1e-6;

/// Compares a value; `steps` are the times of a matrix' points.
pub(super) fn value(expected: &Expectation, found: &Value, steps: StepRange) -> Result<(), String> {
    match found {
        Value::Scalar { value, .. } => match expected.scalar {
            Some(wanted) if floats_equal(wanted, *value) => Ok(()),
            Some(wanted) => Err(format!("expected {wanted} but got {value}")),
            None => Err(format!("expected no scalar but got {value}")),
        },
        Value::String { value, .. } => match &expected.string {
            Some(wanted) if wanted == value => Ok(()),
            Some(wanted) => Err(format!("expected {wanted:?} but got {value:?}")),
            None => Err(format!("expected no string but got {value:?}")),
        },
        _ if expected.scalar.is_some() => Err("expected a scalar but got a vector or matrix".to_owned()),
        _ if expected.string.is_some() => Err("expected a string but got a vector or matrix".to_owned()),
        Value::Vector(samples) => vector(expected, samples),
        Value::Matrix(series) => matrix(expected, series, steps),
    }
}

fn vector(expected: &Expectation, found: &[VectorSample]) -> Result<(), String> {
    let mut rows = rows_by_labels(&expected.rows);
    for (position, sample) in found.iter().enumerate() {
        let labels = &sample.labels;
        let Some((wanted_position, row)) = rows.remove(labels) else {
            return Err(format!("unexpected series {labels} with {}", shown(&sample.value)));
        };
        if expected.ordered && wanted_position != position {
            return Err(format!("expected {labels} at position {wanted_position} but it is at {position}"));
        }
        match (&row.points[..], &sample.value) {
            ([Point::Float(wanted)], SampleValue::Float(value)) if floats_equal(*wanted, *value) => {}
            ([Point::Histogram(wanted)], SampleValue::Histogram(value)) => {
                histogram(wanted, value).map_err(|difference| format!("{labels}: {difference}"))?;
            }
            ([wanted], value) => {
                return Err(format!("expected {} for {labels} but got {}", point(wanted), shown(value)));
            }
            _ => return Err(format!("the expected row of {labels} needs exactly one value")),
        }
    }
    missing(&rows)
}

fn matrix(expected: &Expectation, found: &[MatrixSeries], steps: StepRange) -> Result<(), String> {
    if expected.ordered {
        return Err("expected an ordered vector but got a matrix".to_owned());
    }
    let steps = expected.range_vector.unwrap_or(steps);
    sorted(found)?;
    let mut rows = rows_by_labels(&expected.rows);
    for series in found {
        let Some((_, row)) = rows.remove(&series.labels) else {
            return Err(format!("unexpected series {}", shown_series(series)));
        };
        points(row, series, steps).map_err(|difference| format!("{difference}\nin {}", shown_series(series)))?;
    }
    missing(&rows)
}

/// A matrix arrives in ascending order of labels.
pub(super) fn sorted(found: &[MatrixSeries]) -> Result<(), String> {
    match found.windows(2).find(|pair| pair[0].labels >= pair[1].labels) {
        Some(pair) => Err(format!("series are not sorted: {} before {}", pair[0].labels, pair[1].labels)),
        None => Ok(()),
    }
}

fn points(row: &SeriesText, found: &MatrixSeries, steps: StepRange) -> Result<(), String> {
    if row.points.len() > steps.len() {
        return Err(format!("expected {} points but the range has {} steps", row.points.len(), steps.len()));
    }
    let mut floats = found.floats.iter();
    let mut histograms = found.histograms.iter();
    for (wanted, at_ms) in row.points.iter().zip(steps.iter()) {
        match wanted {
            Point::Gap => {}
            Point::Float(wanted) => match floats.next() {
                Some((found_ms, value)) if *found_ms == at_ms && floats_equal(*wanted, *value) => {}
                other => return Err(format!("expected {wanted} at {at_ms} ms but got {other:?}")),
            },
            Point::Histogram(wanted) => match histograms.next() {
                Some((found_ms, value)) if *found_ms == at_ms => {
                    histogram(wanted, value).map_err(|difference| format!("at {at_ms} ms: {difference}"))?;
                }
                other => return Err(format!("expected a histogram at {at_ms} ms but got {other:?}")),
            },
        }
    }
    match (floats.next(), histograms.next()) {
        (None, None) => Ok(()),
        (Some(float), _) => Err(format!("unexpected float {float:?}")),
        (None, Some(histogram)) => Err(format!("unexpected histogram {histogram:?}")),
    }
}

type Rows<'a> = HashMap<&'a Labels, (usize, &'a SeriesText)>;

/// Of rows with the same labels the last one counts.
fn rows_by_labels(rows: &[SeriesText]) -> Rows<'_> {
    rows.iter().enumerate().map(|(position, row)| (&row.labels, (position, row))).collect()
}

fn missing(rows: &Rows<'_>) -> Result<(), String> {
    match rows.keys().min() {
        Some(labels) => Err(format!("expected series {labels} is missing ({} of the rows)", rows.len())),
        None => Ok(()),
    }
}

/// NaN equals NaN, the stale marker only itself; else within the epsilon of their magnitude.
pub(super) fn floats_equal(a: f64, b: f64) -> bool {
    if is_stale_nan(a) || is_stale_nan(b) {
        return is_stale_nan(a) && is_stale_nan(b);
    }
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let magnitude = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || magnitude < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / magnitude.min(f64::MAX) < EPSILON
}

fn histogram(wanted: &HistogramText, found: &Histogram) -> Result<(), String> {
    let (text, names_hint) = (wanted, wanted.names_hint);
    let wanted = &text.histogram;
    let numbers = [(wanted.count, found.count), (wanted.sum, found.sum), (wanted.zero_count, found.zero_count)];
    let bounds_equal = wanted.custom_bounds.len() == found.custom_bounds.len()
        && wanted.custom_bounds.iter().zip(&found.custom_bounds).all(|(a, b)| floats_equal(*a, *b));
    let equal = wanted.schema == found.schema
        && wanted.zero_threshold == found.zero_threshold
        && numbers.iter().all(|(a, b)| floats_equal(*a, *b))
        && bounds_equal
        && buckets_equal(&wanted.positive, &found.positive)
        && buckets_equal(&wanted.negative, &found.negative)
        && (!names_hint || wanted.reset_hint == found.reset_hint);
    if equal { Ok(()) } else { Err(format!("expected {wanted:?}\nbut got  {found:?}")) }
}

/// Empty buckets count for nothing.
fn buckets_equal(a: &BucketSide, b: &BucketSide) -> bool {
    let filled = |side: &BucketSide| side.iter().filter(|bucket| bucket.1 != 0.0).collect::<BTreeMap<_, _>>();
    let (a, b) = (filled(a), filled(b));
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && floats_equal(*a.1, *b.1))
}

/// Compares warnings or infos. With `places` the `(line:column)` at their ends count, too; a printed variant of a query has
/// other columns than its original.
pub(super) fn notes(expected: &Notes, found: &BTreeSet<String>, kind: &str, places: bool) -> Result<(), String> {
    let list = || found.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    if expected.forbidden && !found.is_empty() {
        return Err(format!("expected no {kind} but got\n{}", list()));
    }
    if expected.required && found.is_empty() {
        return Err(format!("expected a {kind} but got none"));
    }
    let meets = |pattern: &TextPattern, text: &str| match pattern {
        TextPattern::Exact(wanted) if !places => without_place(wanted) == without_place(text),
        pattern => pattern.is_met_by(text),
    };
    if let Some(unmet) = expected.texts.iter().find(|pattern| !found.iter().any(|text| meets(pattern, text))) {
        return Err(format!("no {kind} meets {unmet:?}, there are\n{}", list()));
    }
    let left_over = found.iter().find(|text| !expected.texts.iter().any(|pattern| meets(pattern, text)));
    match left_over {
        Some(text) if !expected.texts.is_empty() => Err(format!("unexpected {kind}: {text}")),
        _ => Ok(()),
    }
}

fn without_place(text: &str) -> &str {
    text.rfind(" (").map_or(text, |at| &text[..at])
}

fn shown(value: &SampleValue) -> String {
    match value {
        SampleValue::Float(value) => value.to_string(),
        SampleValue::Histogram(histogram) => format!("{histogram:?}"),
    }
}

fn point(point: &Point) -> String {
    match point {
        Point::Gap => "_".to_owned(),
        Point::Float(value) => value.to_string(),
        Point::Histogram(text) => format!("{:?}", text.histogram),
    }
}

fn shown_series(series: &MatrixSeries) -> String {
    let histograms = if series.histograms.is_empty() { String::new() } else { format!(" {:?}", series.histograms) };
    format!("{} {:?}{histograms}", series.labels, series.floats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_equal_within_a_millionth() {
        assert!(floats_equal(1.0, 1.000_000_5));
        assert!(!floats_equal(1.0, 1.000_01));
        assert!(!floats_equal(0.0, 1e-9));
        assert!(floats_equal(f64::NAN, -f64::NAN));
        assert!(!floats_equal(f64::NAN, pharos_model::stale_nan()));
        assert!(!floats_equal(f64::INFINITY, f64::NEG_INFINITY));
        assert!(floats_equal(f64::MAX, f64::MAX * 0.999_999_9));
    }

    #[test]
    fn notes_must_match_one_to_one() {
        let expected = Notes {
            required: true,
            forbidden: false,
            texts: vec![TextPattern::Exact("PromQL info: a (1:2)".to_owned())],
        };
        let check = |found: &[&str], places| {
            let found = found.iter().map(|text| (*text).to_owned()).collect();
            notes(&expected, &found, "info", places)
        };
        assert_eq!(check(&["PromQL info: a (1:2)"], true), Ok(()));
        assert!(check(&["PromQL info: a (1:9)"], true).is_err());
        assert_eq!(check(&["PromQL info: a (1:9)"], false), Ok(()));
        assert!(check(&[], true).is_err());
        assert!(check(&["PromQL info: a (1:2)", "PromQL info: b (1:2)"], true).is_err());
    }
}
