//! Range queries, which slide windows over whole series, against one instant query per step and plain arithmetic.

use std::collections::BTreeMap;

use pharos_model::{StepRange, stale_nan};
use proptest::prelude::*;

use super::*;

/// Series with gaps, resets, special values and stale markers.
fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let value = prop_oneof![
        8 => (0..50_i32).prop_map(f64::from),
        3 => -1e3..1e3_f64,
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(stale_nan()),
        1 => Just(1e17),
    ];
    proptest::collection::vec((1..40_000_i64, value), 0..80).prop_map(|gaps| {
        let mut at = 0;
        gaps.into_iter()
            .map(|(gap, value)| {
                at += gap;
                (at, value)
            })
            .collect()
    })
}

/// Value bits by labels, for each step.
fn by_step(value: &Value) -> BTreeMap<i64, BTreeMap<String, u64>> {
    let mut steps: BTreeMap<i64, BTreeMap<String, u64>> = BTreeMap::new();
    let mut add = |at: i64, labels: &Labels, value: f64| {
        let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
        steps.entry(at).or_default().insert(labels.to_string(), bits);
    };
    match value {
        Value::Matrix(list) => {
            for series in list {
                series.floats.iter().for_each(|(at, value)| add(*at, &series.labels, *value));
            }
        }
        Value::Vector(list) => {
            for sample in list {
                if let SampleValue::Float(value) = sample.value {
                    add(sample.timestamp_ms, &sample.labels, value);
                }
            }
        }
        other => panic!("{other:?}"),
    }
    steps
}

const QUERIES: [&str; 26] = [
    "m",
    "m offset 13s",
    "rate(m[1m])",
    "increase(m[90s] offset -7s)",
    "delta(m[1m])",
    "irate(m[1m])",
    "changes(m[2m])",
    "resets(m[2m])",
    "sum_over_time(m[1m])",
    "avg_over_time(m[1m])",
    "min_over_time(m[1m])",
    "max_over_time(m[1m])",
    "count_over_time(m[1m])",
    "stddev_over_time(m[1m])",
    "quantile_over_time(0.3, m[1m])",
    "last_over_time(m[1m])",
    "deriv(m[2m])",
    "absent_over_time(m[20s])",
    "increase(m[1m] anchored)",
    "rate(m[1m] smoothed)",
    "max_over_time(rate(m[1m])[2m:20s])",
    "sum_over_time(m[1m] @ 100)",
    "sum by (i) (m) / on(i) count by (i) (m)",
    "m > bool on(i) group_left m offset 30s",
    "m unless (m > 20)",
    "quantile(0.7, m)",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What a range query answers at a step is what an instant query answers there, to the bit.
    #[test]
    fn a_range_query_is_its_instant_queries(
        first in samples(),
        second in samples(),
        step_ms in 500..30_000_i64,
        start_ms in -20_000..200_000_i64,
    ) {
        let engine = engine(&[("m", &[("i", "1")], first), ("m", &[("i", "2")], second)]);
        let steps = StepRange { start_ms, end_ms: start_ms + 24 * step_ms, step_ms };
        for query in QUERIES {
            let whole = by_step(&range(&engine, query, steps).unwrap().value);
            for at in steps.iter() {
                let single = by_step(&instant(&engine, query, at).unwrap().value);
                prop_assert_eq!(whole.get(&at), single.get(&at), "{} at {}", query, at);
            }
        }
    }

    /// The functions of windows against their definitions, sample by sample.
    #[test]
    fn windows_hold_what_their_definition_says(list in samples(), range_ms in 1_000..120_000_i64, at in 0..900_000_i64) {
        let inside: Vec<(i64, f64)> = list
            .iter()
            .copied()
            .filter(|(time, value)| at - range_ms < *time && *time <= at && !pharos_model::is_stale_nan(*value))
            .collect();
        let engine = engine(&[("m", &[], list)]);
        let ask = |function: &str| {
            let result = instant(&engine, &format!("{function}(m[{range_ms}ms])"), at).unwrap();
            by_step(&result.value).remove(&at).and_then(|values| values.into_values().next()).map(f64::from_bits)
        };
        let values: Vec<f64> = inside.iter().map(|(_, value)| *value).collect();
        let expect = |value: f64| (!values.is_empty()).then_some(value);
        close(ask("count_over_time"), expect(values.len() as f64))?;
        close(ask("sum_over_time"), expect(values.iter().sum()))?;
        close(ask("min_over_time"), expect(values.iter().copied().fold(f64::NAN, f64::min)))?;
        close(ask("max_over_time"), expect(values.iter().copied().fold(f64::NAN, f64::max)))?;
        close(ask("last_over_time"), values.last().copied())?;
        close(ask("increase"), plain_increase(&inside, at - range_ms, at))?;
    }
}

/// Compensated and plain sums differ by rounding only; large values in between make that visible.
fn close(found: Option<f64>, expected: Option<f64>) -> Result<(), TestCaseError> {
    match (found, expected) {
        (None, None) => Ok(()),
        (Some(found), Some(expected)) => {
            let same = (found.is_nan() && expected.is_nan()) || found == expected;
            let near =
                (found - expected).abs() <= 1e-9 * expected.abs() + 1e3 * f64::from(u8::from(expected.abs() > 1e16));
            prop_assert!(same || near, "found {found}, expected {expected}");
            Ok(())
        }
        (found, expected) => Err(TestCaseError::fail(format!("found {found:?}, expected {expected:?}"))),
    }
}

/// `increase` as the documentation tells it.
fn plain_increase(samples: &[(i64, f64)], after_ms: i64, end_ms: i64) -> Option<f64> {
    let (first, last) = (samples.first()?, samples.last()?);
    if samples.len() < 2 {
        return None;
    }
    let mut increase = last.1 - first.1;
    for pair in samples.windows(2) {
        if pair[1].1 < pair[0].1 {
            increase += pair[0].1;
        }
    }
    let sampled = (last.0 - first.0) as f64;
    let gap = sampled / (samples.len() - 1) as f64;
    let reach = |distance: f64| if distance >= gap * 1.1 { gap / 2.0 } else { distance };
    let mut before = reach((first.0 - after_ms) as f64);
    if increase > 0.0 && first.1 >= 0.0 {
        before = before.min(sampled * (first.1 / increase));
    }
    Some(increase * ((sampled + before + reach((end_ms - last.0) as f64)) / sampled))
}
